"""The images that a model misclassifies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn.errors import ShapeError
from gpunn.plots.common import (
    Array,
    check_limit,
    check_rows,
    class_numbers,
    grid_columns,
    host,
    image_size,
    names_of,
    panels,
    plain,
    probabilities,
    single,
)


class MisclassifiedDisplay:
    """Misclassified images, the most confident mistakes first.

    Parameters
    ----------
    images : array_like, shape (rows, height, width), or (rows, height, width, 1 or 3)
        The images.
    true, predicted : array_like of int, shape (rows,)
        Class numbers.
    confidence : array_like of float, shape (rows,)
        Probability of the predicted class.
    display_labels : sequence of str, optional
        Names of the classes; default: their numbers.

    Attributes
    ----------
    indices : ndarray of int, shape (mistakes,)
        Rows that are misclassified, in the order in which they are drawn.
    images, true, predicted, confidence : ndarray
        Of all rows.
    figure_ : matplotlib Figure
    ax_ : ndarray of matplotlib Axes, shape (images drawn,)
        One empty Axes if there are no mistakes.
    """

    def __init__(
        self,
        images: Any,
        true: Any,
        predicted: Any,
        confidence: Any,
        *,
        display_labels: Sequence[Any] | None = None,
    ) -> None:
        self.images: Array = _image_rows(host(images, "images"), None)
        self.true, self.predicted = host(true, "true"), host(predicted, "predicted")
        self.confidence: Array = host(confidence, "confidence")
        for name in ("true", "predicted", "confidence"):
            check_rows(self.images, getattr(self, name), "images", name)
        classes = int(max(self.true.max(), self.predicted.max())) + 1
        if display_labels is not None:
            classes = max(classes, len(display_labels))
        self.display_labels = names_of(classes, display_labels)
        mistakes = np.flatnonzero(self.true != self.predicted)
        self.indices: Array = mistakes[np.argsort(-self.confidence[mistakes], kind="stable")]
        self.figure_: Any = None
        self.ax_: Any = None

    @classmethod
    def from_model(
        cls,
        model: Any,
        images: Any,
        labels: Any,
        *,
        image_shape: tuple[int, ...] | None = None,
        max_images: int = 24,
        display_labels: Sequence[Any] | None = None,
        ax: Any = None,
    ) -> MisclassifiedDisplay:
        """Predict, and draw the mistakes.

        Parameters
        ----------
        model : Model
            A classifier with one output: a probability for each class, or for the second of two.
        images : array_like, shape (rows, height, width) or (rows, pixels)
            The images; the former may have 1 or 3 channels at the end.
        labels : array_like, shape (rows,) or (rows, classes)
            True class numbers, or one-hot rows.
        image_shape : tuple of int, optional
            Height and width (and 3 for colours) of images that are rows of pixels.
        max_images : int, default 24
            Largest number of images to draw.
        display_labels : sequence of str, optional
            Names of the classes; default: their numbers.
        ax : matplotlib Axes, optional
            Where to draw; it is divided into the images. Default: a new figure.

        Returns
        -------
        MisclassifiedDisplay
            The display.

        Raises
        ------
        ShapeError, DataError, ArgumentError
            `images` are not images, or `labels` do not match them or the model.
        """
        limit = check_limit(max_images, "max_images")
        array = _image_rows(host(images, "images"), image_shape)
        outputs = probabilities(model, images)
        true = class_numbers(labels, outputs.shape[1], "labels")
        check_rows(array, true, "images", "labels")
        names = names_of(outputs.shape[1], display_labels)
        predicted = outputs.argmax(axis=1)
        return cls(array, true, predicted, outputs.max(axis=1), display_labels=names).plot(
            ax, max_images=limit
        )

    def plot(self, ax: Any = None, *, max_images: int = 24) -> MisclassifiedDisplay:
        """Draw the mistakes.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            As for `from_model`.
        max_images : int, default 24
            Largest number of images to draw.

        Returns
        -------
        MisclassifiedDisplay
            The display itself.
        """
        shown = self.indices[: check_limit(max_images, "max_images")]
        rows, mistakes = len(self.images), len(self.indices)
        if not mistakes:
            self.figure_, axes = single(ax, (4, 2))
            self.ax_ = np.array([axes])
            axes.set_axis_off()
            text = f"no mistakes in {_counted(rows, 'image')}"
            axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
            return self
        columns = grid_columns(len(shown))
        titles = [self._title(index) for index in shown]
        width = max(1.25, 0.077 * max(len(line) for title in titles for line in title.split("\n")))
        self.figure_, self.ax_ = panels(
            len(shown), ax, columns=columns, size=(width, 1.6), space=0.45
        )
        # One scale for all, so that brightness can be compared.
        low, high = float(self.images.min()), float(self.images.max())
        for axes, index, title in zip(self.ax_, shown, titles, strict=True):
            axes.imshow(_drawable(self.images[index]), cmap="gray", vmin=low, vmax=high)
            plain(axes)
            axes.set_title(title, fontsize=9, parse_math=False)
        if ax is None:
            title = f"{_counted(mistakes, 'mistake')} in {_counted(rows, 'image')}"
            if len(shown) < mistakes:
                title += f", the {len(shown)} most confident" if len(shown) > 1 else ", the surest"
            self.figure_.suptitle(title, fontsize=11)
        return self

    def _title(self, index: int) -> str:
        guess, true = (self.display_labels[a[index]] for a in (self.predicted, self.true))
        return f"pred. {guess} ({self.confidence[index]:.0%})\ntrue {true}"


def _image_rows(images: Array, image_shape: tuple[int, ...] | None) -> Array:
    """Return images (rows, height, width) or (rows, height, width, 3)."""
    if image_shape is not None and images.ndim == 2:
        shape = image_size(image_shape)
        if math.prod(shape) != images.shape[1]:
            raise ShapeError(
                f"image_shape {shape} has {math.prod(shape)} pixels, but the images have "
                f"{images.shape[1]}."
            )
        images = images.reshape(len(images), *shape)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3):
        return images
    hint = " For rows of pixels give image_shape=(height, width)." if images.ndim == 2 else ""
    raise ShapeError(
        f"images has shape {images.shape}; it must be (rows, height, width), or with 1 or 3 "
        f"channels at the end.{hint}"
    )


def _drawable(image: Array) -> Array:
    """Return an image as matplotlib takes it: colours as bytes, or from 0 to 1."""
    if image.ndim == 3 and image.dtype != np.uint8 and image.max() > 1:
        return np.clip(image / 255, 0, 1)
    return image


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
