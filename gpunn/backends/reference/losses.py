"""Losses and metrics of the reference backend, in plain NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gpunn.backends.interface import Arrays, Attrs
from gpunn.backends.reference.function import Array, Function
from gpunn.specs import activations


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


def mean_loss(formula: Callable[[Array, Array, Attrs], tuple[Array, Array]]) -> Function:
    def loss(a: Arrays, attrs: Attrs, rows: int) -> None:
        values, gradient = formula(a["predictions"], a["targets"], attrs)
        columns = values.shape[-1]
        _finish_loss(a, attrs, values.mean(axis=-1), gradient / gradient.dtype.type(columns))

    loss.__name__ = formula.__name__
    return loss


@mean_loss
def sigmoid_cross_entropy(z: Array, t: Array, attrs: Attrs) -> tuple[Array, Array]:
    t = t * (1 - attrs["label_smoothing"]) + attrs["label_smoothing"] / 2
    loss = np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z)))
    return loss, activations.forward("sigmoid", z) - t


@mean_loss
def squared_error(p: Array, t: Array, attrs: Attrs) -> tuple[Array, Array]:
    return (p - t) ** 2, 2 * (p - t)


@mean_loss
def absolute_error(p: Array, t: Array, attrs: Attrs) -> tuple[Array, Array]:
    return np.abs(p - t), np.sign(p - t)


@mean_loss
def huber(p: Array, t: Array, attrs: Attrs) -> tuple[Array, Array]:
    e, delta = p - t, p.dtype.type(attrs["delta"])
    inside = np.abs(e) <= delta
    half = p.dtype.type(0.5)
    loss = np.where(inside, half * e * e, delta * (np.abs(e) - half * delta))
    return loss, np.clip(e, -delta, delta)


# Metrics


def categorical_accuracy(a: Arrays, attrs: Attrs, rows: int) -> None:
    hits = a["predictions"].argmax(axis=-1) == _labels(a, attrs)
    a["sum"][...] += hits.sum(axis=-1, keepdims=True)


def top_k_accuracy(a: Arrays, attrs: Attrs, rows: int) -> None:
    p = a["predictions"]
    at = np.take_along_axis(p, _labels(a, attrs)[..., np.newaxis], axis=-1)
    hits = (p > at).sum(axis=-1) < attrs["k"]
    a["sum"][...] += hits.sum(axis=-1, keepdims=True)


def binary_accuracy(a: Arrays, attrs: Attrs, rows: int) -> None:
    hits = (a["predictions"] > attrs["threshold"]) == (a["targets"] > 0.5)
    a["sum"][...] += hits.mean(axis=-1).sum(axis=-1, keepdims=True)


def absolute_error_sum(a: Arrays, attrs: Attrs, rows: int) -> None:
    e = np.abs(a["predictions"] - a["targets"])
    a["sum"][...] += e.mean(axis=-1, dtype=np.float64).sum(axis=-1, keepdims=True)


def squared_error_sum(a: Arrays, attrs: Attrs, rows: int) -> None:
    e = (a["predictions"] - a["targets"]) ** 2
    a["sum"][...] += e.mean(axis=-1, dtype=np.float64).sum(axis=-1, keepdims=True)


OPERATIONS: dict[str, Function] = {
    "softmax_cross_entropy": softmax_cross_entropy,
    "sigmoid_cross_entropy": sigmoid_cross_entropy,
    "squared_error": squared_error,
    "absolute_error": absolute_error,
    "huber": huber,
    "categorical_accuracy": categorical_accuracy,
    "top_k_accuracy": top_k_accuracy,
    "binary_accuracy": binary_accuracy,
    "absolute_error_sum": absolute_error_sum,
    "squared_error_sum": squared_error_sum,
}
