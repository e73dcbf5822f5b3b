"""Launches of PReLU."""

from __future__ import annotations

from gpunn.backends.cuda.driver import Launch
from gpunn.backends.cuda.ops.geometry import ceil_div
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
from gpunn.backends.cuda.ops.reductions import BIAS_GRADIENT, BIAS_KERNELS, bias_parts, column_tile

PRELU = "prelu.cu"


@operation(PRELU, "prelu", "prelu_by_4")
def prelu(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    values = a["values"]
    if not values.size:
        return []
    batch, columns = values.shape
    tile = column_tile(columns, values.dtype)
    held = max(8 * context.limits.multiprocessors // tile.across, 1)
    arguments = (values, a["alpha"], a["result"], int64(batch), int32(columns), int32(tile.width))
    source, symbol = kernel_source(PRELU, values.dtype), "prelu" + tile.suffix
    grid = (tile.across, min(ceil_div(batch, tile.height), held), 1)
    return [Launch(source, symbol, grid, (tile.width * tile.height, 1, 1), arguments)]


@operation(PRELU, "prelu_gradient", "prelu_gradient_by_4", also={BIAS_GRADIENT: BIAS_KERNELS})
def prelu_gradient(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    values = a["values"]
    if not values.size:
        return []
    batch, columns = values.shape
    tile = column_tile(columns, values.dtype)
    block_rows = tile.block_rows(batch)
    target = {"bias_gradient": a["alpha_gradient"]}
    (sums, _, _), finish = bias_parts(context, block_rows, columns, values.dtype, target)
    arguments = (
        *(a["gradient"], values, a["alpha"], a.get("input_gradient"), sums),
        *(int64(batch), int32(columns), int32(tile.width)),
    )
    source, symbol = kernel_source(PRELU, values.dtype), "prelu_gradient" + tile.suffix
    grid, block = (tile.across, block_rows, 1), (tile.width * tile.height, 1, 1)
    return [Launch(source, symbol, grid, block, arguments, tile.shared), *finish]
