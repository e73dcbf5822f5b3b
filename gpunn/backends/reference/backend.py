"""The reference backend: every op once, in plain NumPy, for any float type.

It is the truth that other backends are compared with, so it is written for reading, not for
speed. All ops work along the last two axes (batch, features): one leading axis, if there is
one, counts models trained at once, each with its own weights, seed and learning rate.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from gpunn.backends.host import HostBackend
from gpunn.backends.interface import Arrays, Attrs, Binder, Call
from gpunn.backends.reference import losses as numpy_losses
from gpunn.backends.reference import normalization as numpy_normalization
from gpunn.backends.reference import optimizers as numpy_updates
from gpunn.randomness import philox
from gpunn.randomness.permutation import KeyedPermutation
from gpunn.specs import activations
from gpunn.specs.expressions import Expression

Array = np.ndarray[Any, Any]
_OPERATIONS: dict[str, Binder] = {}


def _operation(function: Callable[[Arrays, Attrs, int], None]) -> Callable[..., None]:
    """Add ``function(arrays, attrs, rows)`` to the table, under its name."""

    def bind(arrays: Arrays, attrs: Attrs, rows: int) -> Call:
        return partial(function, arrays, attrs, rows)

    _OPERATIONS[function.__name__] = bind
    return function


class NumpyReference(HostBackend):
    """Plain NumPy."""

    name = "reference"
    precisions = ("float32", "float64")

    @property
    def operations(self) -> dict[str, Binder]:
        return _OPERATIONS

    def describe(self) -> str:
        return f"reference (NumPy {np.__version__})"


def _columns(a: Array) -> Array:
    """One value per model, shaped to broadcast against (models, batch, features)."""
    return a[..., np.newaxis] if a.ndim > 1 else a


# Data


@_operation
def keyed_permutation(a: Arrays, attrs: Attrs, rows: int) -> None:
    order = a["order"]
    for model in np.ndindex(order.shape[:-1]):
        seed, epoch = int(a["seed"][model][0]), int(a["epoch"][model][0])
        order[model] = KeyedPermutation(order.shape[-1], seed, epoch).order()


def _rows(a: Arrays, rows: int) -> Any:
    """Row numbers of the batch: (rows,), or (models, rows)."""
    start = int(a["offset"].flat[0])
    return a["order"][..., start : start + rows] if "order" in a else slice(start, start + rows)


@_operation
def gather(a: Arrays, attrs: Attrs, rows: int) -> None:
    dtype = a["values"].dtype
    values = a["data"][_rows(a, rows)].astype(dtype)
    a["values"][...] = _affine(values, a, attrs)


def _affine(values: Array, a: Arrays, attrs: Attrs) -> Array:
    dtype = values.dtype.type
    if "gain" in a:
        return (values - a["center"][..., np.newaxis, :]) * a["gain"][..., np.newaxis, :]
    return values * dtype(attrs["scale"]) + dtype(attrs["shift"])


@_operation
def gather_rows(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["values"][...] = a["data"][_rows(a, rows)]


@_operation
def normalization_statistics(a: Arrays, attrs: Attrs, rows: int) -> None:
    dtype, repeats = a["center"].dtype, a["center"].shape[-1] // a["mean"].shape[-1]
    mean, variance = a["mean"].astype(np.float64), a["variance"].astype(np.float64)
    deviation = np.maximum(np.sqrt(variance), attrs["epsilon"])
    center = (mean - attrs["shift"]) / attrs["scale"]
    tiling = (1,) * (center.ndim - 1) + (repeats,)
    a["center"][...] = np.tile(center, tiling).astype(dtype)
    a["gain"][...] = np.tile(attrs["scale"] / deviation, tiling).astype(dtype)


@_operation
def affine(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["result"][...] = _affine(a["values"], a, attrs)


@_operation
def affine_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    gradient = a["gradient"]
    gain = a["gain"][..., np.newaxis, :] if "gain" in a else gradient.dtype.type(attrs["scale"])
    a["input_gradient"][...] = gradient * gain


# Dense layers


def _dropout_mask(a: Arrays, stream: int, values: Array) -> tuple[Array, Array]:
    """Return (kept, scale): what is kept, and 1 / (1 - rate), for each model."""
    shape = values.shape
    kept = np.empty(shape, dtype=bool)
    stream = philox.stream_id(philox.Purpose.DROPOUT, stream)
    for model in np.ndindex(shape[:-2]):
        seed, step, rate = (a[role][model].flat[0] for role in ("seed", "step", "rate"))
        words = philox.words(int(seed), int(step), stream, shape[-2] * shape[-1])
        kept[model] = philox.keep(words, rate).reshape(shape[-2:])
    return kept, 1 / (1 - _columns(a["rate"]).astype(values.dtype))


def _drop(values: Array, a: Arrays, stream: int) -> Array:
    kept, scale = _dropout_mask(a, stream, values)
    return np.where(kept, values * scale, values.dtype.type(0))


@_operation
def dense(a: Arrays, attrs: Attrs, rows: int) -> None:
    z = a["values"] @ a["kernel"]
    if "bias" in a:
        z = z + a["bias"][..., np.newaxis, :]
    if "pre" in a:
        a["pre"][...] = z
    y = activations.forward(attrs["activation"], z, attrs["parameter"])
    a["result"][...] = _drop(y, a, attrs["stream"]) if "rate" in a else y


def _through_activation(gradient: Array, a: Arrays, attrs: Attrs) -> Array:
    """Return the gradient times the derivative of dropout and activation."""
    dtype = gradient.dtype.type
    value = a.get("pre", a.get("output"))
    if "rate" in a:
        kept, scale = _dropout_mask(a, attrs["stream"], gradient)
        gradient = np.where(kept, gradient * scale, dtype(0))
        if "output" in a:  # from the value after dropout back to the activation's output
            value = np.where(kept, a["output"] / scale, dtype(0))
    if attrs["activation"] == "linear":
        return gradient
    assert value is not None
    return gradient * activations.derivative(attrs["activation"], value, attrs["parameter"])


def _bias(gradient: Array, a: Arrays) -> None:
    if "bias_gradient" in a:
        a["bias_gradient"][...] = gradient.sum(axis=-2)
    elif "bias" in a:
        a["bias"][...] -= a["learning_rate"] * gradient.sum(axis=-2)


@_operation
def dense_input_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    product = a["gradient"] @ np.swapaxes(a["kernel"], -1, -2)
    a["input_gradient"][...] = _through_activation(product, a, attrs)
    _bias(a["input_gradient"], a)


@_operation
def activation_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["input_gradient"][...] = _through_activation(a["gradient"], a, attrs)
    _bias(a["input_gradient"], a)


@_operation
def dense_kernel_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    np.matmul(np.swapaxes(a["values"], -1, -2), a["gradient"], out=a["kernel_gradient"])


@_operation
def dense_kernel_update(a: Arrays, attrs: Attrs, rows: int) -> None:
    gradient = np.swapaxes(a["values"], -1, -2) @ a["gradient"]
    a["kernel"][...] -= _columns(a["learning_rate"]) * gradient


@_operation
def bias_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    _bias(a["gradient"], a)


# Activations, dropout, joins


@_operation
def activation(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["result"][...] = activations.forward(attrs["activation"], a["values"], attrs["parameter"])


@_operation
def softmax(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["result"][...] = activations.forward("softmax", a["values"])


@_operation
def softmax_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    gradient, y = a["gradient"], a["output"]
    a["input_gradient"][...] = y * (gradient - (gradient * y).sum(axis=-1, keepdims=True))


def _flat_alpha(a: Arrays) -> Array:
    """Return alpha, which has a sample's shape, as (..., 1, features)."""
    shape = a["values"].shape
    return a["alpha"].reshape(*shape[:-2], 1, shape[-1])


@_operation
def prelu(a: Arrays, attrs: Attrs, rows: int) -> None:
    x = a["values"]
    a["result"][...] = np.maximum(x, 0) + _flat_alpha(a) * np.minimum(x, 0)


@_operation
def prelu_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    gradient, x = a["gradient"], a["values"]
    if "input_gradient" in a:
        a["input_gradient"][...] = gradient * np.where(x > 0, 1, _flat_alpha(a))
    sums = (gradient * np.minimum(x, 0)).sum(axis=-2)
    a["alpha_gradient"][...] = sums.reshape(a["alpha_gradient"].shape)


@_operation
def dropout(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["result"][...] = _drop(a["values"], a, attrs["stream"])


@_operation
def dropout_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["input_gradient"][...] = _drop(a["gradient"], a, attrs["stream"])


@_operation
def add(a: Arrays, attrs: Attrs, rows: int) -> None:
    np.add(a["left"], a["right"], out=a["result"])


@_operation
def copy_columns(a: Arrays, attrs: Attrs, rows: int) -> None:
    start, end, columns = attrs["source_start"], attrs["result_start"], attrs["columns"]
    a["result"][..., end : end + columns] = a["source"][..., start : start + columns]


@_operation
def accumulate(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["total"][...] += a["values"]


# Expressions


@_operation
def expression(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["result"][...] = Expression(attrs["expression"])(a["values"])


@_operation
def expression_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["input_gradient"][...] = a["gradient"] * Expression(attrs["derivative"])(a["values"])


# Counters


@_operation
def advance(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["step"][...] += 1
    a["offset"][...] += rows
    if "rates" in a:
        at = int(a["step"].flat[0] - a["first_step"].flat[0])
        if 0 <= at < a["rates"].shape[-1]:
            a["learning_rate"][...] = a["rates"][..., at : at + 1]


for _module in (numpy_losses, numpy_normalization, numpy_updates):
    for _function in _module.FUNCTIONS:
        _operation(_function)
