"""User data, validated once and laid out for the plan.

Each input becomes one C-contiguous array of shape (rows, features): uint8 is kept and converted
batch by batch, floats are converted to the model's dtype. Nothing is copied unnecessarily.

Arrays of other libraries are converted by `adopt`. Arrays on a device are checked there: NumPy's
functions dispatch to the device's own, and only scalars are copied to the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from gpunn.backends.interface import host_array
from gpunn.errors import (
    ArgumentError,
    ArgumentTypeError,
    DataError,
    DeviceError,
    ShapeError,
)
from gpunn.plan.spec import OutputSpec
from gpunn.specs.graph import Graph, Node
from gpunn.specs.losses import Loss
from gpunn.specs.registry import check_number

# Of NumPy, or of a device.
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Data:
    """Rows to train on, to evaluate or to predict.

    Attributes
    ----------
    inputs : tuple of array, shape (rows, features)
    targets : tuple of array or None
        One per output: (rows,) int32 class numbers, or (rows, outputs) floats.
    weights : tuple of array or None
        Sample weights per output, (rows,).
    rows : int
    """

    inputs: tuple[Array, ...]
    targets: tuple[Array | None, ...]
    weights: tuple[Array | None, ...]
    rows: int

    @property
    def input_dtypes(self) -> tuple[str, ...]:
        """Dtypes of the inputs, for the plan."""
        return tuple(_type_name(array.dtype) for array in self.inputs)

    def external(self, graph: Graph) -> dict[str, Array]:
        """Return the arrays by the names that the plan gives them."""
        arrays: dict[str, Array] = {}
        for name, array in zip(graph.input_names(), self.inputs, strict=True):
            arrays[f"data/{name}"] = array
        names = graph.output_names()
        for kind, values in (("targets", self.targets), ("weights", self.weights)):
            for name, value in zip(names, values, strict=True):
                if value is not None:
                    arrays[f"{kind}/{name}"] = value
        return arrays

    def weighted_outputs(self, outputs: Sequence[OutputSpec]) -> tuple[OutputSpec, ...]:
        """Return the output specs, with those marked that have sample weights."""
        return tuple(
            replace(spec, metrics=tuple(spec.metrics), weighted=weights is not None)
            for spec, weights in zip(outputs, self.weights, strict=True)
        )


@cache
def _type_name(dtype: np.dtype[Any]) -> str:
    # Cached, as NumPy builds the name each time, which is slow for predictions of one row.
    return dtype.name


def adopt(
    value: Any, argument: str, names: Sequence[str] = ("",), by: Callable[[Any], Any] = host_array
) -> Any:
    """Convert arrays of other libraries to NumPy's, or to the device's.

    Parameters
    ----------
    value : array, or list, tuple or dict of arrays, or None
    argument : str
        Name of the argument, for messages.
    names : sequence of str
        Names of the arrays that are expected.
    by : callable
        `Backend.adopt` of the model's device; by default everything is copied to the host.

    Returns
    -------
    array, or list, tuple or dict of arrays, or None
        Of the same structure.

    Raises
    ------
    ArgumentTypeError
        An array cannot be converted.
    """
    if value is None or isinstance(value, np.ndarray):
        return value
    try:
        if isinstance(value, Mapping):
            return {key: by(array) for key, array in value.items()}
        if isinstance(value, list | tuple):
            # A longer list contains rows of numbers.
            return [by(array) for array in value] if len(value) <= len(names) else value
        return by(value)
    except DeviceError:
        raise
    except (BufferError, TypeError, ValueError, RuntimeError) as error:
        # Raised by the other library or by gpunn.
        raise ArgumentTypeError(f"{argument}: {error}") from error


def as_list(value: Any, names: Sequence[str], argument: str) -> list[Any]:
    """Return one entry per name, from a single value, a list, a tuple or a dict by name."""
    if isinstance(value, Mapping):
        unknown = [key for key in value if key not in names]
        if unknown or len(value) != len(names):
            raise ArgumentError(
                f"{argument}: expected a dict with the keys {list(names)}, not {list(value)}."
            )
        return [value[name] for name in names]
    if len(names) == 1:
        one = isinstance(value, list | tuple) and len(value) == 1
        return [value[0]] if one and getattr(value[0], "shape", None) else [value]
    if not isinstance(value, list | tuple) or len(value) != len(names):
        raise ArgumentError(
            f"{argument}: expected a list of {len(names)} arrays, one for each of {list(names)}."
        )
    return list(value)


def as_array(value: Any, argument: str) -> Array:
    """Return `value` as a numeric array: NumPy's, or a device's if it is one."""
    try:
        # `adopt` has converted arrays of other libraries, so this is one of the device.
        array = value if hasattr(value, "__cuda_array_interface__") else np.asarray(value)
    except ValueError as error:
        raise DataError(f"{argument}: rows have different lengths ({error}).") from None
    except TypeError as error:  # CuPy arrays in a list
        raise ArgumentTypeError(
            f"{argument}: cannot be converted to one array ({error})."
        ) from None
    if array.dtype == np.bool_:
        return array.view(np.uint8)
    if value is None:
        raise ArgumentTypeError(f"{argument}: expected numbers, got None.")
    if array.dtype.kind not in "iuf":
        raise ArgumentTypeError(
            f"{argument}: expected numbers, got an array of type {array.dtype}."
        )
    return array


def check_finite(array: Array, argument: str, original: Array | None = None) -> None:
    """Raise `DataError` if a float array contains NaN or infinity, and say where.

    `original` holds the values before conversion to the model's dtype: a value that became infinite
    by the conversion was too large for it.
    """
    if array.dtype.kind != "f" or array.size == 0:
        return
    with np.errstate(all="ignore"):
        if math.isfinite(array.sum()):
            return
    flat = array.reshape(len(array), -1)
    for start in range(0, len(flat), 65536):  # in blocks, to keep the mask small
        bad = ~np.isfinite(flat[start : start + 65536])
        if bad.any():
            row, column = divmod(int(bad.argmax()), bad.shape[1])
            value = flat[start + row, column].item()
            if original is not None:
                given = original.reshape(flat.shape)[start + row, column].item()
                if math.isfinite(given):
                    raise DataError(
                        f"{argument}: {given:g} in row {start + row}, column {column} is too "
                        f"large for {array.dtype}; rescale the data, or compile the model with "
                        f"precision='float64'."
                    )
            raise DataError(
                f"{argument}: contains NaN or infinity (first: {value} in row {start + row}, "
                f"column {column}); remove or fill in such rows."
            )


def prepare_input(value: Any, node: Node, dtype: str, argument: str) -> Array:
    """Validate one input and lay it out as (rows, features)."""
    array = as_array(value, argument)
    shape = node.shape
    if array.ndim == 0 or array.shape[1:] != shape:
        hint = ""
        if array.shape == shape:
            hint = "; for a single sample use x[np.newaxis]"
        elif array.ndim == 1 and shape == (1,):
            hint = "; use x[:, np.newaxis]"
        raise ShapeError(
            f"{argument}: expected shape (rows, {', '.join(map(str, shape))}) for input "
            f"{node.name!r}, got {array.shape}{hint}."
        )
    if len(array) == 0:
        raise DataError(f"{argument}: is empty (0 rows).")
    original = array = array.reshape(len(array), math.prod(shape))
    if array.dtype not in (np.uint8, np.dtype(dtype)):
        with np.errstate(over="ignore"):
            array = array.astype(dtype)
    check_finite(array, argument, original)
    return array if array.flags.c_contiguous else array.copy(order="C")


def prepare_targets(
    value: Any, rows: int, columns: int, loss: Loss | None, sparse: bool, dtype: str, argument: str
) -> Array:
    """Validate the targets of one output and lay them out for its loss."""
    array = as_array(value, argument)
    if array.ndim == 0 or len(array) != rows:
        got = array.shape[0] if array.ndim else "a single value"
        raise ShapeError(f"{argument}: expected {rows} rows, as many as x has, got {got}.")
    if sparse:
        return _class_numbers(array, columns, argument)
    if array.ndim == 1 and columns == 1:
        array = array[:, np.newaxis]
    if array.shape != (rows, columns):
        hint = ""
        if array.ndim == 1 or array.shape[1:] == (1,):
            hint = (
                "; for class numbers use the loss sparse_categorical_crossentropy"
                if loss is not None and loss.op == "softmax_cross_entropy"
                else ""
            )
        raise ShapeError(
            f"{argument}: expected shape ({rows}, {columns}), got {array.shape}{hint}."
        )
    original = array
    with np.errstate(over="ignore"):
        array = array.astype(dtype, order="C", copy=False)
    check_finite(array, argument, original)
    if loss is not None and loss.head is not None:
        low, high = array.min().item(), array.max().item()
        if low < 0 or high > 1:
            raise DataError(
                f"{argument}: {type(loss).__name__} expects targets between 0 and 1, got values "
                f"from {low:g} to {high:g}."
            )
    return array


def _class_numbers(array: Array, classes: int, argument: str) -> Array:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ShapeError(
            f"{argument}: expected class numbers of shape ({len(array)},), got {array.shape}; for "
            f"one-hot targets use the loss categorical_crossentropy."
        )
    if array.dtype.kind == "f":
        check_finite(array, argument)
        if (array != np.floor(array)).any():
            raise DataError(f"{argument}: expected whole class numbers, got fractions.")
    low, high = array.min().item(), array.max().item()
    if low < 0 or high >= classes:
        raise DataError(
            f"{argument}: labels must be from 0 to {classes - 1}, as the model has {classes} "
            f"outputs; got labels from {low:g} to {high:g}."
        )
    return array.astype(np.int32, order="C", copy=False)


def prepare_weights(value: Any, rows: int, dtype: str, argument: str) -> Array:
    """Validate sample weights."""
    array = as_array(value, argument)
    if array.shape != (rows,):
        raise ShapeError(f"{argument}: expected shape ({rows},), got {array.shape}.")
    original = array
    with np.errstate(over="ignore"):
        array = array.astype(dtype, order="C", copy=False)
    check_finite(array, argument, original)
    lowest = array.min().item()
    if lowest < 0:
        raise DataError(f"{argument}: weights must not be negative, got {lowest:g}.")
    return array


def class_weights(class_weight: Mapping[Any, float], y: Any, classes: int) -> Array:
    """Return sample weights from class weights; classes not listed have weight 1, as in Keras."""
    labels = as_array(y, "y")
    shape = labels.shape
    if labels.ndim > 1:
        labels = labels.argmax(axis=-1) if labels.shape[-1] > 1 else labels[..., 0]
    if not isinstance(class_weight, Mapping):
        raise ArgumentTypeError("class_weight must be a dict from class number to weight.")
    last = max(classes, 2) - 1
    for label, weight in class_weight.items():
        if label not in range(last + 1):
            raise ArgumentError(
                f"class_weight: there is no class {label!r}; classes are the whole numbers from "
                f"0 to {last}."
            )
        check_number("class_weight", f"the weight of class {label}", weight, minimum=0)
    if labels.ndim != 1:
        raise ShapeError(
            f"class_weight: y must be class numbers or one-hot rows, not of shape {shape}."
        )
    weights = np.ones_like(labels, dtype=np.float64)
    for label, weight in class_weight.items():
        weights[labels == label] = weight
    return weights


def prepare(
    graph: Graph,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    dtype: str,
    outputs: Sequence[OutputSpec] = (),
    prefix: str = "",
) -> Data:
    """Validate and lay out a data set.

    Parameters
    ----------
    graph : Graph
    x : array, or list or dict of arrays
        One per input, shape (rows, *input shape).
    y, sample_weight : likewise, one per output, optional
    dtype : str
        The model's dtype.
    outputs : sequence of OutputSpec
        Losses and metrics of the outputs.
    prefix : str
        Prepended to argument names in messages: ``"validation "``.

    Returns
    -------
    Data
        Arrays in the layout of the plan.

    Raises
    ------
    ArgumentError, ArgumentTypeError, DataError, ShapeError
        The data do not match the model.
    """
    names = graph.input_names()
    x = as_list(x, names, f"{prefix}x")
    labels = [f"{prefix}x"] if len(names) == 1 else [f"{prefix}x[{name!r}]" for name in names]
    inputs = tuple(
        prepare_input(value, graph.nodes[node], dtype, label)
        for value, node, label in zip(x, graph.inputs, labels, strict=True)
    )
    rows = len(inputs[0])
    for array, label in zip(inputs, labels, strict=True):
        if len(array) != rows:
            raise ShapeError(
                f"{label}: expected {rows} rows like the other inputs, got {len(array)}."
            )
    none: tuple[Array | None, ...] = (None,) * len(graph.outputs)
    if y is None:
        return Data(inputs, none, none, rows)
    names = graph.output_names()
    targets: list[Array | None] = []
    weights: list[Array | None] = []
    all_y = as_list(y, names, f"{prefix}y")
    all_weights = (
        [None] * len(names)
        if sample_weight is None
        else (
            as_list(sample_weight, names, f"{prefix}sample_weight")
            if isinstance(sample_weight, Mapping | list | tuple) and len(names) > 1
            else [sample_weight] * len(names)
        )
    )
    for name, node, spec, values, weight in zip(
        names, graph.outputs, outputs, all_y, all_weights, strict=True
    ):
        where = "" if len(names) == 1 else f"[{name!r}]"
        columns = math.prod(graph.nodes[node].shape)
        if spec.loss is None and not spec.metrics:
            targets.append(None)
            weights.append(None)
            continue
        sparse = spec.sparse
        targets.append(
            prepare_targets(values, rows, columns, spec.loss, sparse, dtype, f"{prefix}y{where}")
        )
        weights.append(
            None
            if weight is None
            else prepare_weights(weight, rows, dtype, f"{prefix}sample_weight{where}")
        )
    return Data(inputs, tuple(targets), tuple(weights), rows)


def split(
    graph: Graph, x: Any, y: Any, sample_weight: Any, share: float
) -> tuple[Any, Any, Any, Any]:
    """Hold out the last rows for validation.

    Parameters
    ----------
    graph : Graph
    x, y, sample_weight : as for `prepare`
    share : float
        Fraction to hold out, above 0 and below 1.

    Returns
    -------
    x, y, sample_weight : array or list of arrays
        The training rows.
    validation_data : tuple
        The rows held out, with sample weights if there are any.

    Raises
    ------
    ArgumentError, ShapeError
        `share` is out of range, or leaves no rows, or an argument is not an array.
    """
    if isinstance(share, bool) or not isinstance(share, float | int) or not 0 < share < 1:
        raise ArgumentError(f"validation_split must be above 0 and below 1, not {share!r}.")

    def rows_of(value: Any, argument: str) -> Array:
        array = as_array(value, argument)
        if array.ndim == 0:
            raise ShapeError(f"{argument}: expected an array with rows, got a single value.")
        return array

    def arrays(values: list[Any], argument: str) -> list[Array | None]:
        return [None if value is None else rows_of(value, argument) for value in values]

    names = graph.output_names()
    several = len(names) > 1 and isinstance(sample_weight, Mapping | list | tuple)
    weights = as_list(sample_weight, names, "sample_weight") if several else [sample_weight]
    inputs = [rows_of(value, "x") for value in as_list(x, graph.input_names(), "x")]
    everything = (
        inputs,
        arrays(as_list(y, names, "y"), "y"),
        arrays(weights, "sample_weight"),
    )
    rows = len(inputs[0])
    keep = int(rows * (1 - share))
    if keep == 0 or keep == rows:
        raise ArgumentError(
            f"validation_split {share} of {rows} rows leaves nothing to "
            f"{'train on' if keep == 0 else 'validate on'}."
        )

    def cut(values: Sequence[Array | None], at: slice) -> Any:
        parts = [None if array is None else array[at] for array in values]
        return parts[0] if len(parts) == 1 else parts

    kept = [cut(values, slice(0, keep)) for values in everything]
    held = [cut(values, slice(keep, rows)) for values in everything]
    return *kept, tuple(held if sample_weight is not None else held[:2])
