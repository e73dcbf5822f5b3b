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

from gpunn import activations
from gpunn.backends import numpy_normalization
from gpunn.backends.host_memory import HostBackend
from gpunn.backends.interface import Arrays, Attrs, Binder, Call
from gpunn.expressions import Expression
from gpunn.randomness import philox
from gpunn.randomness.permutation import KeyedPermutation

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


for _function in numpy_normalization.FUNCTIONS:
    _operation(_function)


# Losses


def _finish_loss(a: Arrays, attrs: Attrs, losses: Array, gradient: Array | None) -> None:
    """Weigh and reduce: `losses` (..., batch), `gradient` of each row's loss."""
    rows = losses.shape[-1]
    if "weights" in a:
        losses = losses * a["weights"]
    total = losses.sum(axis=-1, dtype=np.float64, keepdims=True)
    a["loss_batch"][...] = total / rows
    a["loss_sum"][...] += total
    first = ~np.isfinite(total) & (a["nonfinite_step"] < 0)
    a["nonfinite_step"][...] = np.where(first, a["step"], a["nonfinite_step"])
    if "gradient" in a and gradient is not None:
        dtype = gradient.dtype.type
        scale = dtype(attrs["loss_weight"] / rows)
        weights = a["weights"][..., np.newaxis] if "weights" in a else dtype(1)
        a["gradient"][...] = gradient * (scale * weights)


def _labels(a: Arrays, attrs: Attrs) -> Array:
    """Class numbers of the targets, (..., batch)."""
    targets = a["targets"]
    return targets if attrs["sparse"] else targets.argmax(axis=-1)


@_operation
def softmax_cross_entropy(a: Arrays, attrs: Attrs, rows: int) -> None:
    z = a["predictions"]
    shifted = z - z.max(axis=-1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=-1, keepdims=True)
    log_p = shifted - np.log(total)
    p = e / total
    smoothing = attrs["label_smoothing"]
    share = smoothing / z.shape[-1]
    if attrs["sparse"]:
        index = a["targets"][..., np.newaxis]
        losses = -np.take_along_axis(log_p, index, axis=-1)[..., 0]
        if smoothing:
            losses = losses * (1 - smoothing) - share * log_p.sum(axis=-1)
        gradient = p - share
        at = np.take_along_axis(gradient, index, axis=-1) - p.dtype.type(1 - smoothing)
        np.put_along_axis(gradient, index, at, axis=-1)
    else:
        t = a["targets"] * (1 - smoothing) + share
        # A zero target must not meet an infinite log.
        losses = -np.where(t == 0, 0, t * log_p).sum(axis=-1)
        gradient = p * t.sum(axis=-1, keepdims=True) - t
    if "correct" in a:
        hits = z.argmax(axis=-1) == _labels(a, attrs)
        a["correct"][...] += hits.sum(axis=-1, keepdims=True)
    _finish_loss(a, attrs, losses, gradient)


def _mean_loss(
    formula: Callable[[Array, Array, Attrs], tuple[Array, Array]],
) -> Callable[[Arrays, Attrs, int], None]:
    def loss(a: Arrays, attrs: Attrs, rows: int) -> None:
        values, gradient = formula(a["predictions"], a["targets"], attrs)
        columns = values.shape[-1]
        _finish_loss(a, attrs, values.mean(axis=-1), gradient / gradient.dtype.type(columns))

    loss.__name__ = formula.__name__
    return _operation(loss)


@_mean_loss
def sigmoid_cross_entropy(z: Array, t: Array, attrs: Attrs) -> tuple[Array, Array]:
    t = t * (1 - attrs["label_smoothing"]) + attrs["label_smoothing"] / 2
    loss = np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z)))
    return loss, activations.forward("sigmoid", z) - t


@_mean_loss
def squared_error(p: Array, t: Array, attrs: Attrs) -> tuple[Array, Array]:
    return (p - t) ** 2, 2 * (p - t)


@_mean_loss
def absolute_error(p: Array, t: Array, attrs: Attrs) -> tuple[Array, Array]:
    return np.abs(p - t), np.sign(p - t)


@_mean_loss
def huber(p: Array, t: Array, attrs: Attrs) -> tuple[Array, Array]:
    e, delta = p - t, p.dtype.type(attrs["delta"])
    inside = np.abs(e) <= delta
    half = p.dtype.type(0.5)
    loss = np.where(inside, half * e * e, delta * (np.abs(e) - half * delta))
    return loss, np.clip(e, -delta, delta)


# Expressions


@_operation
def expression(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["result"][...] = Expression(attrs["expression"])(a["values"])


@_operation
def expression_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["input_gradient"][...] = a["gradient"] * Expression(attrs["derivative"])(a["values"])


@_mean_loss
def expression_loss(p: Array, t: Array, attrs: Attrs) -> tuple[Array, Array]:
    return Expression(attrs["expression"])(t, p), Expression(attrs["derivative"])(t, p)


@_operation
def expression_sum(a: Arrays, attrs: Attrs, rows: int) -> None:
    values = Expression(attrs["expression"])(a["targets"], a["predictions"])
    a["sum"][...] += values.mean(axis=-1, dtype=np.float64).sum(axis=-1, keepdims=True)


# Metrics


@_operation
def categorical_accuracy(a: Arrays, attrs: Attrs, rows: int) -> None:
    hits = a["predictions"].argmax(axis=-1) == _labels(a, attrs)
    a["sum"][...] += hits.sum(axis=-1, keepdims=True)


@_operation
def top_k_accuracy(a: Arrays, attrs: Attrs, rows: int) -> None:
    p = a["predictions"]
    at = np.take_along_axis(p, _labels(a, attrs)[..., np.newaxis], axis=-1)
    hits = (p > at).sum(axis=-1) < attrs["k"]
    a["sum"][...] += hits.sum(axis=-1, keepdims=True)


@_operation
def binary_accuracy(a: Arrays, attrs: Attrs, rows: int) -> None:
    hits = (a["predictions"] > attrs["threshold"]) == (a["targets"] > 0.5)
    a["sum"][...] += hits.mean(axis=-1).sum(axis=-1, keepdims=True)


@_operation
def absolute_error_sum(a: Arrays, attrs: Attrs, rows: int) -> None:
    e = np.abs(a["predictions"] - a["targets"])
    a["sum"][...] += e.mean(axis=-1, dtype=np.float64).sum(axis=-1, keepdims=True)


@_operation
def squared_error_sum(a: Arrays, attrs: Attrs, rows: int) -> None:
    e = (a["predictions"] - a["targets"]) ** 2
    a["sum"][...] += e.mean(axis=-1, dtype=np.float64).sum(axis=-1, keepdims=True)


# Regularizers and clipping


@_operation
def regularizer(a: Arrays, attrs: Attrs, rows: int) -> None:
    w = a["kernel"].astype(np.float64)
    axes = tuple(range(a["sum"].ndim - 1, w.ndim))  # all but that of the models
    penalty = attrs["l1"] * np.abs(w).sum(axis=axes) + attrs["l2"] * (w * w).sum(axis=axes)
    a["sum"][...] += rows * penalty[..., np.newaxis]


@_operation
def regularizer_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    w = a["kernel"]
    l1, l2 = w.dtype.type(attrs["l1"]), w.dtype.type(2 * attrs["l2"])
    a["kernel_gradient"][...] += l1 * np.sign(w) + l2 * w
    regularizer(a, attrs, rows)


@_operation
def clip_by_value(a: Arrays, attrs: Attrs, rows: int) -> None:
    np.clip(a["gradients"], -attrs["limit"], attrs["limit"], out=a["gradients"])


@_operation
def clip_by_norm(a: Arrays, attrs: Attrs, rows: int) -> None:
    g = a["gradients"]
    axes = tuple(range(-attrs["axes"], 0))
    norm = np.sqrt((g.astype(np.float64) ** 2).sum(axis=axes, keepdims=True))
    g *= (attrs["limit"] / np.maximum(norm, attrs["limit"])).astype(g.dtype)


# Constraints


@_operation
def norm_constraint(a: Arrays, attrs: Attrs, rows: int) -> None:
    w = a["kernel"]
    norm = np.sqrt((w.astype(np.float64) ** 2).sum(axis=-attrs["axes"], keepdims=True))
    desired = attrs["rate"] * np.clip(norm, attrs["minimum"], attrs["maximum"])
    desired += (1 - attrs["rate"]) * norm
    w *= (desired / (attrs["epsilon"] + norm)).astype(w.dtype)


@_operation
def non_negative(a: Arrays, attrs: Attrs, rows: int) -> None:
    np.maximum(a["kernel"], 0, out=a["kernel"])


# Optimizers


def _optimizer(
    formula: Callable[[Array, Array, Array, Arrays, Attrs], None],
) -> Callable[[Arrays, Attrs, int], None]:
    """Apply weight decay, then the formula: parameters, gradients, learning rate, slots."""

    def update(a: Arrays, attrs: Attrs, rows: int) -> None:
        w, rate = a["parameters"], a["learning_rate"]
        if attrs["weight_decay"]:
            w -= w * (rate * w.dtype.type(attrs["weight_decay"]))
        formula(w, a["gradients"], rate, a, attrs)

    update.__name__ = formula.__name__
    return _operation(update)


def _without_tiny(values: Array, attrs: Attrs, squares: bool = False) -> None:
    # Squares divide: without an epsilon beside them they must not become 0.
    if not squares or attrs["epsilon"]:
        values[np.abs(values) < attrs["tiny"]] = 0


@_optimizer
def sgd(w: Array, g: Array, rate: Array, a: Arrays, attrs: Attrs) -> None:
    w -= rate * g


@_optimizer
def momentum(w: Array, g: Array, rate: Array, a: Arrays, attrs: Attrs) -> None:
    v = a["momentum"]
    v[...] = attrs["momentum"] * v - rate * g
    _without_tiny(v, attrs)
    w += attrs["momentum"] * v - rate * g if attrs["nesterov"] else v


@_optimizer
def adagrad(w: Array, g: Array, rate: Array, a: Arrays, attrs: Attrs) -> None:
    accumulator = a["accumulator"]
    accumulator += g * g
    w -= rate * g / np.sqrt(accumulator + attrs["epsilon"])


@_optimizer
def rmsprop(w: Array, g: Array, rate: Array, a: Arrays, attrs: Attrs) -> None:
    v, rho = a["velocity"], attrs["rho"]
    v[...] = rho * v + (1 - rho) * g * g
    _without_tiny(v, attrs, squares=True)
    denominator = v
    if "average_gradient" in a:
        average = a["average_gradient"]
        average[...] = rho * average + (1 - rho) * g
        _without_tiny(average, attrs)
        denominator = v - average * average
    increment = rate * g / np.sqrt(denominator + attrs["epsilon"])
    if "momentum" in a:
        m = a["momentum"]
        m[...] = attrs["momentum"] * m + increment
        _without_tiny(m, attrs)
        increment = m
    w -= increment


@_optimizer
def adam(w: Array, g: Array, rate: Array, a: Arrays, attrs: Attrs) -> None:
    m, v = a["momentum"], a["velocity"]
    t = int(a["step"].flat[0]) + 1
    alpha = rate * w.dtype.type(np.sqrt(1 - attrs["beta_2"] ** t) / (1 - attrs["beta_1"] ** t))
    m += (g - m) * (1 - attrs["beta_1"])
    v += (g * g - v) * (1 - attrs["beta_2"])
    _without_tiny(m, attrs)
    _without_tiny(v, attrs, squares=True)
    if "velocity_hat" in a:
        np.maximum(a["velocity_hat"], v, out=a["velocity_hat"])
        v = a["velocity_hat"]
    w -= alpha * m / (np.sqrt(v) + attrs["epsilon"])


@_operation
def advance(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["step"][...] += 1
    a["offset"][...] += rows
    if "rates" in a:
        at = int(a["step"].flat[0] - a["first_step"].flat[0])
        if 0 <= at < a["rates"].shape[-1]:
            a["learning_rate"][...] = a["rates"][..., at : at + 1]
