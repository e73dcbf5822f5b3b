"""Losses and metrics on the CPU: a part of its table."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from gpunn.backends.cpu.loops import losses as loops
from gpunn.backends.cpu.ops.calls import optional
from gpunn.backends.interface import Arrays, Attrs, Binder, Call

Array = np.ndarray[Any, Any]


def _loss_arguments(a: Arrays, attrs: Attrs, rows: int) -> tuple[Any, ...]:
    """Return the arguments that all loss kernels share, from the predictions on."""
    p = a["predictions"]
    return (
        p,
        a["targets"],
        optional(a, "weights", p.dtype),
        p.dtype.type(attrs["loss_weight"] / rows),
        optional(a, "gradient", p.dtype, 2),
        a["step"],
        a["loss_batch"],
        a["loss_sum"],
        a["nonfinite_step"],
    )


def _smoothing(a: Arrays, attrs: Attrs, classes: int) -> tuple[Any, Any]:
    """Return the factor of a target, and what is added to it."""
    dtype, smoothing = a["predictions"].dtype.type, attrs.get("label_smoothing", 0.0)
    return dtype(1 - smoothing), dtype(smoothing / classes)


def softmax_cross_entropy(a: Arrays, attrs: Attrs, rows: int) -> Call:
    kernel = loops.sparse_cross_entropy if attrs["sparse"] else loops.dense_cross_entropy
    correct = optional(a, "correct", np.float64)
    smoothing = _smoothing(a, attrs, a["predictions"].shape[1])
    return partial(kernel, *_loss_arguments(a, attrs, rows), correct, *smoothing)


def _mean_loss(kind: int) -> Binder:
    def bind(a: Arrays, attrs: Attrs, rows: int) -> Call:
        delta = a["predictions"].dtype.type(attrs.get("delta", 1.0))
        smoothing = _smoothing(a, attrs, 2)
        arguments = _loss_arguments(a, attrs, rows)
        return partial(loops.mean_loss, kind, delta, *arguments, *smoothing)

    return bind


# Metrics


def _class_targets(a: Arrays, attrs: Attrs) -> tuple[Array, Array]:
    """Return the targets as (class numbers, one-hot), one of them empty."""
    targets = a["targets"]
    if attrs["sparse"]:
        return targets, np.empty((0, 0), dtype=a["predictions"].dtype)
    return np.empty(0, np.int32), targets


def categorical_accuracy(a: Arrays, attrs: Attrs, rows: int) -> Call:
    targets = _class_targets(a, attrs)
    return partial(loops.categorical_accuracy, a["predictions"], *targets, a["sum"])


def top_k_accuracy(a: Arrays, attrs: Attrs, rows: int) -> Call:
    targets = _class_targets(a, attrs)
    return partial(loops.top_k_accuracy, a["predictions"], *targets, attrs["k"], a["sum"])


def binary_accuracy(a: Arrays, attrs: Attrs, rows: int) -> Call:
    threshold = float(attrs["threshold"])
    return partial(loops.binary_accuracy, a["predictions"], a["targets"], threshold, a["sum"])


def absolute_error_sum(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return partial(loops.error_sum, a["predictions"], a["targets"], False, a["sum"])


def squared_error_sum(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return partial(loops.error_sum, a["predictions"], a["targets"], True, a["sum"])


OPERATIONS: dict[str, Binder] = {
    "softmax_cross_entropy": softmax_cross_entropy,
    "categorical_accuracy": categorical_accuracy,
    "top_k_accuracy": top_k_accuracy,
    "binary_accuracy": binary_accuracy,
    "absolute_error_sum": absolute_error_sum,
    "squared_error_sum": squared_error_sum,
    "sigmoid_cross_entropy": _mean_loss(loops.SIGMOID),
    "squared_error": _mean_loss(loops.SQUARED),
    "absolute_error": _mean_loss(loops.ABSOLUTE),
    "huber": _mean_loss(loops.HUBER),
}
