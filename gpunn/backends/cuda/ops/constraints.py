"""Launches of constraints on weights."""

from __future__ import annotations

from gpunn.backends.cuda.driver import Launch
from gpunn.backends.cuda.ops.geometry import THREADS, elementwise_grid
from gpunn.backends.cuda.ops.launches import (
    Arrays,
    Attrs,
    Context,
    Work,
    int32,
    int64,
    kernel_source,
    operation,
)
from gpunn.backends.cuda.ops.reductions import column_tile

CONSTRAINTS = "constraints.cu"


@operation(
    CONSTRAINTS,
    "norm_constraint",
    "norm_constraint_by_4",
    "column_squares",
    "column_squares_by_4",
)
def norm_constraint(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    kernel = a["kernel"]
    if not kernel.size:
        return []
    real, height = kernel.dtype.type, kernel.shape[0]  # `axes` are all that it has
    columns = kernel.size // height
    tile = column_tile(columns, kernel.dtype)
    block_rows = tile.block_rows(height)
    source = kernel_source(CONSTRAINTS, kernel.dtype)
    grid, block = (tile.across, block_rows, 1), (tile.width * tile.height, 1, 1)
    sizes = (int64(height), int32(columns), int32(tile.width))
    constants = tuple(real(attrs[name]) for name in ("minimum", "maximum", "rate", "epsilon"))
    launches: list[Work] = []
    parts = None
    if block_rows > 1:
        parts = context.workspace(block_rows * columns * kernel.dtype.itemsize).view(kernel.dtype)
        symbol = "column_squares" + tile.suffix
        launches.append(Launch(source, symbol, grid, block, (kernel, parts, *sizes), tile.shared))
    symbol = "norm_constraint" + tile.suffix
    arguments = (kernel, parts, int32(block_rows), *sizes, *constants)
    return [*launches, Launch(source, symbol, grid, block, arguments, tile.shared)]


@operation(CONSTRAINTS)
def non_negative(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    kernel = a["kernel"]
    if not kernel.size:
        return []
    grid = elementwise_grid(kernel.size, context.limits, 16 // kernel.dtype.itemsize)
    source = kernel_source(CONSTRAINTS, kernel.dtype)
    arguments = (kernel, int64(kernel.size))
    return [Launch(source, "non_negative", (grid, 1, 1), (THREADS, 1, 1), arguments)]
