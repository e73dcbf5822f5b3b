"""Launches of sums and products of layers, concatenation and accumulation."""

from __future__ import annotations

from gpunn.backends.cuda.driver import Launch
from gpunn.backends.cuda.geometry import tiles
from gpunn.backends.cuda.ops.launches import (
    Context,
    LaunchBuilder,
    Work,
    elementwise,
    int32,
    int64,
    kernel_source,
)
from gpunn.backends.interface import Arrays, Attrs

ELEMENTWISE = "elementwise.cu"
COPY_COLUMNS = "copy_columns.cu"


def add(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    left, right, result = a["left"], a["right"], a["result"]
    arguments = (left, right, result, int64(result.size))
    return elementwise(context, ELEMENTWISE, "add", arguments, result)


def multiply(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    left, right, result = a["left"], a["right"], a["result"]
    arguments = (left, right, result, int64(result.size))
    return elementwise(context, ELEMENTWISE, "multiply", arguments, result)


def accumulate(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    total = a["total"]
    arguments = (total, a["values"], total, int64(total.size))
    return elementwise(context, ELEMENTWISE, "add", arguments, total)


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


OPERATIONS: dict[str, LaunchBuilder] = {
    "add": add,
    "multiply": multiply,
    "copy_columns": copy_columns,
    "accumulate": accumulate,
}
