"""Launches of dropout, softmax, and of the ops that join or copy values."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.backends.cuda.driver import Launch
from gpunn.backends.cuda.ops.geometry import WARP, row_groups, tiles
from gpunn.backends.cuda.ops.launches import (
    Arrays,
    Attrs,
    Context,
    Work,
    dropout_arguments,
    elementwise,
    int32,
    int64,
    kernel_source,
    operation,
)

DROPOUT = "dropout.cu"
ADD = "add.cu"
COPY_COLUMNS = "copy_columns.cu"
SOFTMAX = "softmax.cu"


def _drop(context: Context, values: Any, result: Any, a: Arrays, attrs: Attrs) -> list[Work]:
    arguments = (values, result, int64(values.size), *dropout_arguments(a, attrs))
    return elementwise(context, DROPOUT, "dropout", arguments, values)


@operation(DROPOUT)
def dropout(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    return _drop(context, a["values"], a["result"], a, attrs)


@operation(DROPOUT, "dropout")
def dropout_gradient(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    return _drop(context, a["gradient"], a["input_gradient"], a, attrs)


@operation(ADD)
def add(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    left, right, result = a["left"], a["right"], a["result"]
    arguments = (left, right, result, int64(result.size))
    return elementwise(context, ADD, "add", arguments, result)


@operation(ADD, "add")
def accumulate(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    total = a["total"]
    arguments = (total, a["values"], total, int64(total.size))
    return elementwise(context, ADD, "add", arguments, total)


@operation(COPY_COLUMNS, "copy_columns", "copy_columns_by_4")
def copy_columns(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    source, result = a["source"], a["result"]
    if not source.shape[0] or not attrs["columns"]:
        return []
    batch, source_stride = source.shape
    result_stride = result.shape[1]
    sizes = (
        *(attrs["columns"], attrs["source_start"], source_stride),
        *(attrs["result_start"], result_stride),
    )
    if attrs["columns"] == source_stride == result_stride:  # all of it: one long row
        sizes = (batch * source_stride, 0, batch * source_stride, 0, batch * source_stride)
        batch = 1
    by_4 = not any(size % 4 for size in sizes)
    units = [int64(size // 4 if by_4 else size) for size in sizes]
    width, grid, block = tiles(batch, int(units[0]), context.limits)
    arguments = (source, result, int64(batch), *units, int32(width))
    name = "copy_columns" + "_by_4" * by_4
    return [Launch(kernel_source(COPY_COLUMNS, source.dtype), name, grid, block, arguments)]


def _rows(
    context: Context, name: str, arrays: tuple[Any, ...], shape: tuple[int, ...]
) -> list[Work]:
    """Return the launch of a softmax kernel: a group of threads for each row."""
    batch, columns = int(np.prod(shape[:-1], dtype=np.int64)), shape[-1]
    if not batch or not columns:
        return []
    source = kernel_source(SOFTMAX, arrays[0].dtype)
    threads, grid, block = row_groups(batch, columns, context.limits)
    wide = threads > WARP
    shared = WARP * arrays[0].dtype.itemsize if wide else 0
    arguments = (*arrays, int64(batch), int32(columns), int32(threads))
    symbol = name + "_wide" * wide
    return [Launch(source, symbol, (grid, 1, 1), (block, 1, 1), arguments, shared)]


@operation(SOFTMAX, "softmax", "softmax_wide")
def softmax(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    values = a["values"]
    return _rows(context, "softmax", (values, a["result"]), values.shape)


@operation(SOFTMAX, "softmax_gradient", "softmax_gradient_wide")
def softmax_gradient(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    gradient = a["gradient"]
    arrays = (gradient, a["output"], a["input_gradient"])
    return _rows(context, "softmax_gradient", arrays, gradient.shape)
