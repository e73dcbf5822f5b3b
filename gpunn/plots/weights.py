"""The weights of a layer as images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpunn.errors import ArgumentError, ArgumentTypeError, ShapeError
from gpunn.plots.common import Array, check_limit, grid_columns, host, image_size, panels, plain


class WeightsDisplay:
    """The weights of each unit of a layer as an image: red is positive, blue negative, white 0.

    Parameters
    ----------
    kernel : array_like, shape (height * width, units)
        The weights.
    image_shape : tuple of int
        Height and width.

    Attributes
    ----------
    images : ndarray, shape (units, height, width)
    figure_ : matplotlib Figure
    ax_ : ndarray of matplotlib Axes, shape (units drawn,)

    Raises
    ------
    ShapeError
        `kernel` is not a matrix, or its inputs do not match `image_shape`.
    """

    def __init__(self, kernel: Any, image_shape: tuple[int, ...]) -> None:
        kernel = host(kernel, "kernel")
        if kernel.ndim != 2 or not kernel.size:
            raise ShapeError(f"kernel has shape {kernel.shape}; it must be (inputs, units).")
        height, width = _height_width(image_shape, len(kernel))
        self.images: Array = np.ascontiguousarray(kernel.T).reshape(-1, height, width)
        self.figure_: Any = None
        self.ax_: Any = None

    @classmethod
    def from_model(
        cls,
        model: Any,
        layer: str | int | None = None,
        image_shape: tuple[int, ...] | None = None,
        *,
        max_units: int = 24,
        ax: Any = None,
    ) -> WeightsDisplay:
        """Draw the weights of a layer's units.

        Parameters
        ----------
        model : Model
            The model.
        layer : str or int, optional
            Name or index of the layer; default: the first that has a kernel.
        image_shape : tuple of int, optional
            Height and width; default: those of the model's input.
        max_units : int, default 24
            Largest number of units to draw.
        ax : matplotlib Axes, optional
            Where to draw; it is divided into the images. Default: a new figure.

        Returns
        -------
        WeightsDisplay
            The display.

        Raises
        ------
        ArgumentError, ArgumentTypeError, ShapeError, UnknownNameError
            There is no such layer, it has no kernel, or its inputs are not an image.
        """
        limit = check_limit(max_units, "max_units")
        kernel = _kernel(model, layer)
        if image_shape is None:
            shapes = [node.shape for node in _input_nodes(model)]
            images = [s[:2] for s in shapes if len(s) == 2 or (len(s) == 3 and s[2] == 1)]
            fitting = [shape for shape in images if math.prod(shape) == len(kernel)]
            if not fitting:
                raise ArgumentError(
                    f"image_shape must be given: the layer has {len(kernel)} inputs, and the "
                    f"model's input, of shape {shapes[0]}, does not say how they form an image."
                )
            image_shape = fitting[0]
        return cls(kernel, image_shape).plot(ax, max_units=limit)

    def plot(self, ax: Any = None, *, max_units: int = 24) -> WeightsDisplay:
        """Draw the images.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            As for `from_model`.
        max_units : int, default 24
            Largest number of units to draw.

        Returns
        -------
        WeightsDisplay
            The display itself.
        """
        units = len(self.images)
        shown = self.images[: check_limit(max_units, "max_units")]
        # One scale for all units, symmetric about 0. A few outliers may exceed it, so that the
        # others do not fade.
        sizes = np.abs(shown)
        largest = float(np.quantile(sizes, 0.995)) or float(sizes.max()) or 1.0
        size = (1.3, 1.3)
        self.figure_, self.ax_ = panels(len(shown), ax, columns=grid_columns(len(shown)), size=size)
        for i, (axes, image) in enumerate(zip(self.ax_, shown, strict=True)):
            drawn = axes.imshow(image, cmap="RdBu_r", vmin=-largest, vmax=largest)
            plain(axes)
            axes.set_title(f"unit {i}", fontsize=8, pad=3)
        bar = self.figure_.colorbar(drawn, ax=list(self.ax_), aspect=30, extend="both")
        bar.set_label("weight")
        bar.outline.set_visible(False)
        if ax is None and len(shown) < units:
            self.figure_.suptitle(f"the first {len(shown)} of {units:,} units", fontsize=11)
        return self


def _kernel(model: Any, layer: str | int | None) -> Array:
    if layer is None:
        for candidate in model.layers:
            if hasattr(candidate, "kernel"):
                return np.asarray(candidate.kernel)
        raise ArgumentError("model has no layer with a kernel, such as Dense.")
    if isinstance(layer, str):
        found = model.get_layer(layer)
    elif isinstance(layer, int | np.integer) and not isinstance(layer, bool):
        found = model.get_layer(index=int(layer))
    else:
        raise ArgumentTypeError(f"layer must be a name or an index, not {layer!r}.")
    if not hasattr(found, "kernel"):
        raise ArgumentError(
            f"layer: {found.name!r} ({type(found.spec).__name__}) has no kernel; choose a Dense "
            f"layer."
        )
    return np.asarray(found.kernel)


def _input_nodes(model: Any) -> list[Any]:
    return [model.graph.nodes[node] for node in model.graph.inputs]


def _height_width(image_shape: Any, inputs: int) -> tuple[int, int]:
    shape = image_size(image_shape)
    if len(shape) != 2:
        raise ShapeError(
            f"image_shape must be (height, width), not {image_shape!r}: the weights of three "
            f"colours are not one image."
        )
    if math.prod(shape) != inputs:
        raise ShapeError(
            f"image_shape {shape} has {math.prod(shape)} pixels, but the layer has {inputs} inputs."
        )
    return int(shape[0]), int(shape[1])
