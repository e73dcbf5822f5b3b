"""Launches of losses and metrics: reductions over the batch, in one launch where it is small."""

from __future__ import annotations

from typing import Any

from gpunn.backends.cuda.driver import KernelSource
from gpunn.backends.cuda.geometry import WARP, ceil_div
from gpunn.backends.cuda.ops.launches import (
    Context,
    LaunchBuilder,
    Work,
    int32,
    int64,
    kernel_source,
)
from gpunn.backends.cuda.ops.reductions import (
    MAX_PARTIALS,
    SUMS,
    reduction,
    reduction_blocks,
)
from gpunn.backends.interface import Arrays, Attrs

CROSS_ENTROPY = "softmax_cross_entropy.cu"
MEAN_LOSSES = "mean_losses.cu"
METRICS = "metrics.cu"
# As the enumerations in these files.
LOSS_KINDS = {"sigmoid_cross_entropy": 0, "squared_error": 1, "absolute_error": 2, "huber": 3}
METRIC_KINDS = {"binary_accuracy": 0, "absolute_error_sum": 1, "squared_error_sum": 2}
# Shared memory that a block may use without asking for more.
KEPT_ROW = 48 * 1024 - SUMS


def lanes_of_row(columns: int) -> int:
    """Return the lanes of a warp that take one row: a power of two, 4 values each if possible."""
    return min(WARP, 1 << (ceil_div(columns, 4) - 1).bit_length())


def _class_targets(a: Arrays, attrs: Attrs) -> tuple[Any, Any]:
    """Return the targets as (class numbers, one value per class), one of them None."""
    return (a["targets"], None) if attrs["sparse"] else (None, a["targets"])


# Losses


def _smoothing(p: Any, attrs: Attrs, classes: int) -> tuple[Any, Any]:
    """Return the factor of a target, and what is added to it."""
    real, smoothing = p.dtype.type, attrs.get("label_smoothing", 0.0)
    return real(1 - smoothing), real(smoothing / classes)


def softmax_cross_entropy(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    p = a["predictions"]
    if not p.size:
        return []
    batch, columns = p.shape
    lanes = lanes_of_row(columns)
    per_lane, shared = ceil_div(columns, lanes), SUMS
    if per_lane <= 16:
        size = 4 if per_lane <= 4 else 16
        symbol = f"softmax_cross_entropy_{size}"
        last = lanes
        geometry = reduction_blocks(batch * lanes, batch * lanes * size, 384)
    else:
        symbol = "softmax_cross_entropy_row"
        row = columns * p.dtype.itemsize
        last = int(row <= KEPT_ROW)
        shared += row * last
        geometry = min(batch, MAX_PARTIALS), min(768, ceil_div(columns, WARP) * WARP)
    totals = (a["loss_batch"], a["loss_sum"], a["nonfinite_step"], a.get("correct"))
    arguments = (
        *(p, *_class_targets(a, attrs), a.get("weights"), a["step"], a.get("gradient")),
        *(*totals, ..., int64(batch), int32(columns)),
        *(p.dtype.type(attrs["loss_weight"] / batch), *_smoothing(p, attrs, columns), int32(last)),
    )
    kernel = kernel_source(CROSS_ENTROPY, p.dtype), symbol
    finish = "softmax_cross_entropy_finish", (a["step"], *totals, int64(batch))
    return reduction(context, kernel, geometry, 2, arguments, finish, shared)


def loss_of_values(
    context: Context,
    a: Arrays,
    attrs: Attrs,
    kernel: tuple[KernelSource, str],
    constants: tuple[Any, ...] = (),
    largest: int = 1024,
) -> list[Work]:
    """Return the launches of a loss that is a mean over a row's values."""
    p = a["predictions"]
    if not p.size:
        return []
    batch, columns = p.shape
    totals = (a["loss_batch"], a["loss_sum"], a["nonfinite_step"])
    arguments = (
        *(p, a["targets"], a.get("weights"), a["step"], a.get("gradient")),
        *(*totals, ..., int64(batch), int32(columns)),
        *(p.dtype.type(attrs["loss_weight"] / p.size), *constants),
    )
    finish = f"{kernel[1]}_finish", (a["step"], *totals, int64(batch))
    geometry = reduction_blocks(p.size, p.size, largest)
    return reduction(context, kernel, geometry, 2, arguments, finish)


def _mean_loss(op: str) -> LaunchBuilder:
    def bind(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
        p = a["predictions"]
        delta = p.dtype.type(attrs.get("delta", 0.0))
        constants = (int32(LOSS_KINDS[op]), delta, *_smoothing(p, attrs, 2))
        kernel = kernel_source(MEAN_LOSSES, p.dtype), "mean_loss"
        return loss_of_values(context, a, attrs, kernel, constants)

    return bind


# Metrics


def metric(
    context: Context,
    a: Arrays,
    targets: tuple[Any, ...],
    kernel: tuple[KernelSource, str],
    finish: str,
    constants: tuple[Any, ...] = (),
    *,
    lanes: int = 0,
    largest: int = 512,
) -> list[Work]:
    """Return the launches of a metric; without lanes to a row, values are taken one by one."""
    p = a["predictions"]
    if not p.size:
        return []
    batch, columns = p.shape
    arguments = (p, *targets, a["sum"], ..., int64(batch), int32(columns), *constants)
    geometry = reduction_blocks(batch * lanes or p.size, p.size, largest)
    return reduction(context, kernel, geometry, 1, arguments, (finish, (a["sum"],)))


def _class_metric(
    context: Context, a: Arrays, attrs: Attrs, op: str, *constants: Any
) -> list[Work]:
    p = a["predictions"]
    lanes = lanes_of_row(p.shape[-1])
    kernel, targets = (kernel_source(METRICS, p.dtype), op), _class_targets(a, attrs)
    constants = (int32(lanes), *constants)
    return metric(context, a, targets, kernel, "metric_finish", constants, lanes=lanes)


def categorical_accuracy(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    return _class_metric(context, a, attrs, "categorical_accuracy")


def top_k_accuracy(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    return _class_metric(context, a, attrs, "top_k_accuracy", int32(attrs["k"]))


def _mean_metric(op: str) -> LaunchBuilder:
    def bind(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
        dtype = a["predictions"].dtype
        constants = (int32(METRIC_KINDS[op]), dtype.type(attrs.get("threshold", 0.0)))
        kernel = kernel_source(METRICS, dtype), "mean_metric"
        return metric(context, a, (a["targets"],), kernel, "metric_finish", constants)

    return bind


OPERATIONS: dict[str, LaunchBuilder] = {
    "softmax_cross_entropy": softmax_cross_entropy,
    "categorical_accuracy": categorical_accuracy,
    "top_k_accuracy": top_k_accuracy,
    "sigmoid_cross_entropy": _mean_loss("sigmoid_cross_entropy"),
    "squared_error": _mean_loss("squared_error"),
    "absolute_error": _mean_loss("absolute_error"),
    "huber": _mean_loss("huber"),
    "binary_accuracy": _mean_metric("binary_accuracy"),
    "absolute_error_sum": _mean_metric("absolute_error_sum"),
    "squared_error_sum": _mean_metric("squared_error_sum"),
}
