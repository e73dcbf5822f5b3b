"""Launches of activations and bias gradients."""

from __future__ import annotations

from gpunn.backends.cuda.driver import Launch
from gpunn.backends.cuda.ops.geometry import ceil_div
from gpunn.backends.cuda.ops.launches import (
    Arrays,
    Attrs,
    Context,
    Work,
    activation_arguments,
    dropout_arguments,
    elementwise,
    int32,
    int64,
    kernel_source,
    operation,
)
from gpunn.backends.cuda.ops.reductions import (
    BIAS_GRADIENT,
    BIAS_KERNELS,
    bias_parts,
    column_sums,
    column_tile,
    has_bias,
)

ACTIVATION = "activation.cu"


@operation(BIAS_GRADIENT, *BIAS_KERNELS)
def bias_gradient(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    gradient = a["gradient"]
    if not gradient.size:
        return []
    batch, columns = gradient.shape
    block_rows = column_tile(columns, gradient.dtype).block_rows(batch)
    roles, finish = bias_parts(context, block_rows, columns, gradient.dtype, a)
    return [column_sums(gradient, roles, block_rows), *finish]


@operation(ACTIVATION)
def activation(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    values = a["values"]
    function = activation_arguments(attrs, values.dtype)
    arguments = (values, a["result"], int64(values.size), *function)
    return elementwise(context, ACTIVATION, "activation", arguments, values)


@operation(
    ACTIVATION,
    "activation_gradient",
    "activation_gradient_by_4",
    also={BIAS_GRADIENT: BIAS_KERNELS},
)
def activation_gradient(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    gradient = a["gradient"]
    if not gradient.size:
        return []
    batch, columns = gradient.shape
    tile = column_tile(columns, gradient.dtype)
    if has_bias(a):
        shared, block_rows = tile.shared, tile.block_rows(batch)
    else:
        held = max(8 * context.limits.multiprocessors // tile.across, 1)
        shared, block_rows = 0, min(ceil_div(batch, tile.height), held)
    roles, finish = bias_parts(context, block_rows, columns, gradient.dtype, a)
    arguments = (
        *(gradient, a.get("pre", a.get("output")), a["input_gradient"], *roles),
        *(int64(batch), int32(columns), int32(tile.width)),
        *activation_arguments(attrs, gradient.dtype),
        *dropout_arguments(a, attrs),
    )
    source, symbol = kernel_source(ACTIVATION, gradient.dtype), "activation_gradient" + tile.suffix
    grid, block = (tile.across, block_rows, 1), (tile.width * tile.height, 1, 1)
    return [Launch(source, symbol, grid, block, arguments, shared), *finish]
