"""The confusion matrix: which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn.errors import DataError, ShapeError, UnknownNameError
from gpunn.plots.common import (
    QUIET,
    Array,
    check_rows,
    class_numbers,
    host,
    names_of,
    probabilities,
    single,
    whole,
)

NORMALIZE = ("true", "pred", "all")
# With more classes the numbers would be too small to read; a colour bar takes their place.
NUMBERED = 24


class ConfusionMatrixDisplay:
    """A confusion matrix: a row for each true class, a column for each predicted one.

    Parameters
    ----------
    confusion_matrix : array, shape (classes, classes)
        Counts, or shares from 0 to 1.
    display_labels : sequence of str, optional
        Names of the classes; default their numbers.

    Attributes
    ----------
    confusion_matrix : ndarray, shape (classes, classes)
    display_labels : list of str
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    im_ : matplotlib AxesImage
    text_ : ndarray of matplotlib Text, shape (classes, classes), or None
        The numbers in the cells; None for more than 24 classes.

    Notes
    -----
    The colour goes with the square root of the number: beside a diagonal of a good model the
    mistakes would have none.
    """

    def __init__(
        self, confusion_matrix: Any, *, display_labels: Sequence[Any] | None = None
    ) -> None:
        matrix = host(confusion_matrix, "confusion_matrix")
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
            raise ShapeError(
                f"confusion_matrix has shape {matrix.shape}; it must be square, (classes, classes)."
            )
        self.confusion_matrix: Array = matrix
        self.display_labels = names_of(len(matrix), display_labels)
        self.figure_: Any = None
        self.ax_: Any = None
        self.im_: Any = None
        self.text_: Any = None

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        labels: Sequence[Any] | None = None,
        display_labels: Sequence[Any] | None = None,
        normalize: str | None = None,
        ax: Any = None,
    ) -> ConfusionMatrixDisplay:
        """Count and draw predictions.

        Parameters
        ----------
        y_true : array, shape (rows,)
            True classes: numbers or texts.
        y_pred : array, shape (rows,) or (rows, classes)
            Predicted classes, or what `predict` returned: probabilities of more than one class.
        labels : sequence, optional
            The classes in their order. Default: 0, 1, ... as far as `y_pred` has columns or
            `display_labels` names, else the classes that occur.
        display_labels : sequence of str, optional
            Names of the classes.
        normalize : {"true", "pred", "all"}, optional
            Shares of the true class (rows add up to 1), of the predicted class (columns do), or
            of all, in place of counts.
        ax : matplotlib Axes, optional
            Where to draw. Default: a new figure.

        Returns
        -------
        ConfusionMatrixDisplay

        Raises
        ------
        ShapeError, DataError, UnknownNameError
            If rows do not match, a class is not among the labels, or `normalize` is none of these.
        """
        true, predicted = host(y_true, "y_true"), host(y_pred, "y_pred")
        classes = len(display_labels) if display_labels is not None else 0
        if predicted.ndim == 2 and predicted.shape[1] > 1 and predicted.dtype.kind == "f":
            classes = predicted.shape[1]
            predicted = predicted.argmax(axis=1)
        for name, array in (("y_true", true), ("y_pred", predicted)):
            if array.ndim != 1 and array.shape[1:] != (1,):
                raise ShapeError(
                    f"{name} has shape {array.shape}; give one class for each row, (rows,)."
                )
            if array.dtype.kind == "f" and not whole(array):
                raise DataError(
                    f"{name} must be classes, not numbers such as "
                    f"{array[array != np.floor(array)].flat[0]:g}. Turn probabilities of two "
                    f"classes into classes: (p >= 0.5).astype(int)."
                )
        true, predicted = true.reshape(-1), predicted.reshape(-1)
        check_rows(true, predicted, "y_true", "y_pred")
        numbers = true.dtype.kind in "biuf" and predicted.dtype.kind in "biuf"
        if labels is None and classes and numbers:
            true = class_numbers(true, classes, "y_true")
            predicted = class_numbers(predicted, classes, "y_pred")
            labels = range(classes)
        elif labels is None:
            labels = sorted({*true.tolist(), *predicted.tolist()}, key=_order)
            if numbers:
                labels = [int(label) for label in labels]
        place = {label: i for i, label in enumerate(labels)}
        matrix = np.zeros((len(place), len(place)), np.int64)
        for name, array in (("y_true", true), ("y_pred", predicted)):
            for value in array.tolist():
                if value not in place:
                    raise DataError(
                        f"{name} has class {value!r}, which is not among labels: {list(place)}."
                    )
        for row, column in zip(true.tolist(), predicted.tolist(), strict=True):
            matrix[place[row], place[column]] += 1
        names = list(place) if display_labels is None else display_labels
        return cls(_normalized(matrix, normalize), display_labels=names).plot(ax)

    @classmethod
    def from_model(
        cls,
        model: Any,
        x: Any,
        y: Any,
        *,
        display_labels: Sequence[Any] | None = None,
        normalize: str | None = None,
        ax: Any = None,
    ) -> ConfusionMatrixDisplay:
        """Predict, count and draw.

        Parameters
        ----------
        model : Model
            A classifier of one output: one probability for each class, or for the second of two.
        x : array, shape (rows, *input shape)
        y : array, shape (rows,) or (rows, classes)
            Class numbers, or one-hot rows.
        display_labels, normalize, ax
            As in `from_predictions`.

        Returns
        -------
        ConfusionMatrixDisplay
        """
        outputs = probabilities(model, x)
        classes = outputs.shape[1]
        true = class_numbers(y, classes, "y")
        check_rows(outputs, true, "x", "y")
        return cls.from_predictions(
            true,
            outputs.argmax(axis=1),
            labels=range(classes),
            display_labels=names_of(classes, display_labels),
            normalize=normalize,
            ax=ax,
        )

    def plot(self, ax: Any = None, *, colorbar: bool | None = None) -> ConfusionMatrixDisplay:
        """Draw the matrix.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        colorbar : bool, optional
            Default: only where there are too many classes for numbers in the cells.
        """
        matrix, count = self.confusion_matrix, len(self.confusion_matrix)
        numbered = count <= NUMBERED
        side = min(10.0, max(3.6, 1.4 + 0.42 * count)) if numbered else 6.4
        self.figure_, self.ax_ = single(ax, (side, side))
        from matplotlib.colors import PowerNorm

        norm = PowerNorm(0.5, vmin=0, vmax=max(matrix.max(), 1e-9))
        self.im_ = self.ax_.imshow(matrix, cmap="Blues", norm=norm)
        ticks = range(0, count, 1 if numbered else -(-count // 12))
        names = [self.display_labels[i] for i in ticks]
        slanted = 0.09 * max(map(len, names)) > 0.75 * side / len(names)
        self.ax_.set_xticks(ticks, names, rotation=45 if slanted else 0)
        if slanted:
            for text in self.ax_.get_xticklabels():
                text.set(ha="right", rotation_mode="anchor")
        self.ax_.set_yticks(ticks, names)
        self.ax_.set_xlabel("predicted class")
        self.ax_.set_ylabel("true class")
        self.ax_.tick_params(length=0)
        self.ax_.spines[:].set_visible(False)
        self.text_ = self._write(norm) if numbered else None
        if not numbered if colorbar is None else colorbar:
            self.figure_.colorbar(self.im_, ax=self.ax_, shrink=0.8)
        return self

    def _write(self, norm: Any) -> Array:
        """Write the numbers into the cells: what is 0, or rounds to it, in grey."""
        matrix = self.confusion_matrix
        texts = np.empty(matrix.shape, dtype=object)
        for (row, column), value in np.ndenumerate(matrix):
            whole = matrix.dtype.kind in "iu" or value == 0
            shown = f"{value:.0f}" if whole else f"{value:.2f}"
            dark = norm(value) > 0.55
            colour = QUIET if float(shown) == 0 else "white" if dark else "black"
            texts[row, column] = self.ax_.text(
                column, row, shown, ha="center", va="center", color=colour, fontsize=9
            )
        return texts


def _order(label: Any) -> tuple[str, Any]:
    """Sort numbers among themselves, and texts."""
    return ("text" if isinstance(label, str) else "number", label)


def _normalized(matrix: Array, normalize: str | None) -> Array:
    if normalize is None:
        return matrix
    if normalize not in NORMALIZE:
        raise UnknownNameError("normalize", normalize, NORMALIZE)
    axis = {"true": 1, "pred": 0, "all": None}[normalize]
    total = matrix.sum(axis=axis, keepdims=True)
    # A class without rows has no shares: 0, as in scikit-learn.
    return matrix / np.maximum(total, 1)
