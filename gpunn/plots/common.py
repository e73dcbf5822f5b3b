"""What the displays share: panels, colours, checks of classes and images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn.data.batches import adopt, as_array
from gpunn.errors import (
    ArgumentError,
    ArgumentTypeError,
    DataError,
    MissingPackageError,
    ShapeError,
)
from gpunn.specs.activations import sigmoid, softmax

Array = np.ndarray[Any, Any]

# Safe for colour-blind readers: matplotlib's first two, and the palette of Okabe and Ito (2008).
TRAINING, VALIDATION = "#1f77b4", "#ff7f0e"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
QUIET = "#8c8c8c"


def pyplot() -> Any:
    """Return matplotlib's pyplot."""
    try:
        import matplotlib.pyplot
    except ImportError as error:
        raise MissingPackageError(
            "gpunn.plots needs matplotlib, which is not installed: pip install matplotlib"
        ) from error
    return matplotlib.pyplot


def panels(
    count: int, ax: Any, *, columns: int, size: tuple[float, float], space: float = 0.3
) -> tuple[Any, Array]:
    """Return a figure and `count` axes, in rows of `columns`.

    Parameters
    ----------
    count, columns : int
    ax : None, Axes, or array of `count` Axes
        None creates a figure. A single Axes is divided into the panels.
    size : tuple of float
        Width and height of a panel in a new figure, in inches.
    space : float
        Distance between panels of a divided Axes, as a fraction of a panel.
    """
    plt = pyplot()
    from matplotlib.axes import Axes

    columns = min(columns, count)
    rows = -(-count // columns)
    if ax is None:
        # A single narrow column would cut off the title.
        width = max(size[0] * columns, 3.2)
        figure = plt.figure(figsize=(width, size[1] * rows), layout="constrained")
        grid = figure.add_gridspec(rows, columns)
    elif isinstance(ax, Axes):
        figure = ax.figure
        if count == 1:
            return figure, np.array([ax])
        ax.set_axis_off()
        spec = ax.get_subplotspec()
        if spec is not None:
            # A layout engine leaves space for titles itself; these gaps would add to it.
            gaps = {} if figure.get_layout_engine() else {"wspace": space, "hspace": space}
            grid = spec.subgridspec(rows, columns, **gaps)
        else:
            place = ax.get_position()
            sides = {"left": place.x0, "right": place.x1, "bottom": place.y0, "top": place.y1}
            grid = figure.add_gridspec(rows, columns, wspace=space, hspace=space, **sides)
    else:
        given = np.asarray(ax, dtype=object).ravel()
        if not all(isinstance(axes, Axes) for axes in given):
            raise ArgumentTypeError(
                f"ax must be a matplotlib Axes or an array of them, not {type(ax).__name__}."
            )
        if len(given) != count:
            raise ShapeError(
                f"ax has {len(given)} Axes, but there are {count} panels: give {count}, or one "
                f"Axes that they share."
            )
        return given[0].figure, given
    return figure, np.array([figure.add_subplot(grid[i]) for i in range(count)])


def single(ax: Any, size: tuple[float, float]) -> tuple[Any, Any]:
    """Return a figure and its one Axes."""
    figure, axes = panels(1, ax, columns=1, size=size)
    return figure, axes[0]


def plain(axes: Any) -> None:
    """Remove the frame and the ticks of an image."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def host(value: Any, argument: str) -> Array:
    """Return `value` as a NumPy array: numbers, or class labels of any kind."""
    if isinstance(value, str) or value is None:
        raise ArgumentTypeError(f"{argument} must be an array, not {value!r}.")
    value = adopt(value, argument)
    array = np.asarray(value)
    return array if array.dtype.kind in "USO" else as_array(value, argument)


def check_rows(first: Array, second: Array, first_name: str, second_name: str) -> None:
    """Raise an error unless both arrays have the same number of rows, at least one."""
    if len(first) != len(second):
        raise ShapeError(
            f"{second_name} has {len(second)} rows, but {first_name} has {len(first)}: give one "
            f"for each."
        )
    if not len(first):
        raise DataError(f"{first_name} has no rows; give at least one.")


def whole(array: Array) -> bool:
    """Return whether all values are whole numbers."""
    if array.dtype.kind == "f":
        return bool(np.isfinite(array).all()) and np.array_equal(array, np.floor(array))
    return array.dtype.kind in "biu"


def class_numbers(value: Any, classes: int, argument: str) -> Array:
    """Return class numbers (rows,) from 0 to `classes` - 1, from numbers or one-hot rows."""
    array = host(value, argument)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.shape[1] == classes:
        return array.argmax(axis=1)
    if array.ndim != 1:
        raise ShapeError(
            f"{argument} has shape {array.shape}; give class numbers (rows,), or one-hot rows "
            f"(rows, {classes})."
        )
    if not whole(array):
        raise DataError(f"{argument} must be class numbers, whole and from 0 to {classes - 1}.")
    outside = array[(array < 0) | (array >= classes)]
    if len(outside):
        raise DataError(
            f"{argument} has class {int(outside[0])}; there are {classes} classes, from 0 to "
            f"{classes - 1}."
        )
    return array.astype(np.int64)


def probabilities(model: Any, x: Any) -> Array:
    """Return a model's predictions, (rows, classes); a single output column becomes two classes."""
    outputs = model.predict(x)
    if isinstance(outputs, list):
        raise ArgumentError(
            f"model has {len(outputs)} outputs; a plot of classes needs a model with one."
        )
    if outputs.ndim != 2:
        raise ShapeError(
            f"model returns outputs of shape {outputs.shape[1:]} per row; it must return one "
            f"probability per class."
        )
    loss = None if model._compiled is None else model.compiled.outputs[0].loss
    one = outputs.shape[1] == 1
    if getattr(loss, "from_logits", False):
        outputs = (sigmoid if one else softmax)(outputs)
    regression = one and loss is not None and loss.head is None
    if regression or outputs.min(initial=0) < 0 or outputs.max(initial=0) > 1:
        raise ArgumentError(
            "model must be a classifier, but its outputs are not probabilities. End it with "
            "softmax, or with sigmoid for two classes, or compile a loss with from_logits=True."
        )
    return np.hstack([1 - outputs, outputs]) if one else outputs


def names_of(classes: int, display_labels: Sequence[Any] | None) -> list[str]:
    """Return the labels of the classes: those given, or their numbers."""
    if display_labels is None:
        return [str(i) for i in range(classes)]
    if isinstance(display_labels, str) or len(display_labels) != classes:
        raise ShapeError(
            f"display_labels must be {classes} strings, one for each class, not {display_labels!r}."
        )
    return [str(label) for label in display_labels]


def grid_columns(count: int) -> int:
    """Return the number of columns for `count` images: about square, rather wide."""
    return max(1, min(8, round(math.sqrt(count * 1.3))))


def check_limit(value: Any, argument: str) -> int:
    """Return a number of images; raise an error unless it is at least 1."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ArgumentError(f"{argument} must be a whole number of at least 1, not {value!r}.")
    return int(value)


def image_size(image_shape: Any) -> tuple[int, ...]:
    """Return (height, width), or (height, width, 3)."""
    shape = tuple(image_shape) if isinstance(image_shape, tuple | list) else (image_shape,)
    if not all(isinstance(n, int | np.integer) and n > 0 for n in shape):
        shape = ()
    if len(shape) == 3 and shape[2] == 1:
        shape = shape[:2]
    if len(shape) == 2 or (len(shape) == 3 and shape[2] == 3):
        return shape
    raise ShapeError(f"image_shape must be (height, width), not {image_shape!r}.")
