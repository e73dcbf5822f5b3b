"""Launches of activations and bias gradients, and what other tables need of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.backends.cuda.driver import Launch
from gpunn.backends.cuda.launches import (
    THREADS,
    WARP,
    Arrays,
    Attrs,
    Context,
    Work,
    ceil_div,
    int32,
    int64,
    kernel_source,
    operation,
)
from gpunn.backends.cuda.ops_data import even_width
from gpunn.randomness import philox

# Numbers of the enum Activation in kernels/activations.cuh.
ACTIVATIONS = {
    name: number
    for number, name in enumerate(
        (
            *("linear", "relu", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "softplus"),
            *("gelu", "silu", "step", "sign"),
        )
    )
}

# Column sums over the batch: passes of a tile over its rows in one launch, and in each of the
# block rows of a longer batch, of which there are at most so many.
_PASSES_ALONE, _PASSES, _BLOCK_ROWS = 8, 4, 128


def dropout_arguments(a: Arrays, attrs: Attrs) -> tuple[Any, Any, Any, np.uint32]:
    """Return seed, step, rate (null pointers, where there is no dropout) and stream number."""
    if "rate" not in a:
        return None, None, None, np.uint32(0)
    stream = philox.stream_id(philox.Purpose.DROPOUT, attrs["stream"])
    return a["seed"], a["step"], a["rate"], np.uint32(stream)


def elementwise(
    context: Context, file: str, symbol: str, arguments: tuple[Any, ...], values: Any
) -> list[Work]:
    """Return the launch of a grid-stride loop over `values`, four for each thread."""
    if not values.size:
        return []
    # What is small is spread over more of the device by smaller blocks.
    small = values.size < 4 * THREADS * context.limits.multiprocessors
    threads = 2 * WARP if small else THREADS
    grid = min(ceil_div(values.size, 4 * threads), 8 * context.limits.multiprocessors)
    source = kernel_source(file, values.dtype)
    return [Launch(source, symbol, (grid, 1, 1), (threads, 1, 1), arguments)]


# Bias gradients


def _sum_tile(columns: int, dtype: Any) -> tuple[str, int, int, int, int]:
    """Return suffix of the kernel, tile width and height, blocks side by side, shared bytes."""
    values = 4 if columns % 4 == 0 else 1
    # Eight threads with 4 values each read 128 bytes of a row (in float32), as 32 do with one.
    width = even_width(columns // values, 8 if values == 4 else 32)
    height = THREADS // width
    shared = width * height * values * np.dtype(dtype).itemsize
    suffix = "_by_4" if values == 4 else ""
    return suffix, width, height, ceil_div(columns // values, width), shared


def _block_rows(rows: int, height: int) -> int:
    if rows <= _PASSES_ALONE * height:
        return 1
    return min(ceil_div(rows, _PASSES * height), _BLOCK_ROWS)


def _sum_launch(gradient: Any, rows: int, columns: int, sums: tuple[Any, ...], y: int) -> Launch:
    suffix, width, height, x, shared = _sum_tile(columns, gradient.dtype)
    arguments = (gradient, *sums, int64(rows), int32(columns), int32(width))
    source = kernel_source("bias_gradient.cu", gradient.dtype)
    name = "bias_gradient" + suffix
    return Launch(source, name, (x, y, 1), (width * height, 1, 1), arguments, shared)


def finish_bias_launch(context: Context, partials: Any, count: int, a: Arrays) -> list[Work]:
    """Return the launch that adds up partial column sums: a bias gradient's last step.

    Parameters
    ----------
    context : Context
    partials : array of parameters' type, shape (count, columns)
        Aligned to 16 bytes, as the workspace is.
    count : int
        Number of partial sums, added in their order within each thread's share.
    a : mapping
        Roles of the op. With `bias_gradient`, that gets the sums; else with `bias`,
        ``learning_rate`` times the sums are subtracted from it; with neither there is no launch.
    """
    sums = _sum_roles(a)
    if not _given(sums):
        return []
    columns = partials.shape[-1]
    return [_sum_launch(partials, count, columns, sums, 1)]


def _sum_roles(a: Arrays) -> tuple[Any, Any, Any]:
    """Return (sums, bias, learning_rate), as kernels take them."""
    if "bias_gradient" in a:
        return a["bias_gradient"], None, None
    if "bias" in a:
        return None, a["bias"], a["learning_rate"]
    return None, None, None


def _given(pointers: tuple[Any, ...]) -> bool:
    return any(pointer is not None for pointer in pointers)


def _partial_sums(
    context: Context, block_rows: int, columns: int, dtype: Any, a: Arrays
) -> tuple[tuple[Any, Any, Any], list[Work]]:
    """Return where a launch with so many block rows leaves its sums, and what finishes them."""
    sums = _sum_roles(a)
    if block_rows == 1 or not _given(sums):
        return sums, []
    nbytes = block_rows * columns * np.dtype(dtype).itemsize
    partials = context.workspace(nbytes).view(dtype).reshape(block_rows, columns)
    return (partials, None, None), finish_bias_launch(context, partials, block_rows, a)


@operation("bias_gradient.cu", "bias_gradient", "bias_gradient_by_4")
def bias_gradient(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    gradient = a["gradient"]
    if not gradient.size:
        return []
    batch, columns = gradient.shape
    block_rows = _block_rows(batch, _sum_tile(columns, gradient.dtype)[2])
    sums, finish = _partial_sums(context, block_rows, columns, gradient.dtype, a)
    return [_sum_launch(gradient, batch, columns, sums, block_rows), *finish]


# Activations


@operation("activation.cu")
def activation(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    values = a["values"]
    real = values.dtype.type
    function = int32(ACTIVATIONS[attrs["activation"]]), real(attrs["parameter"])
    arguments = (values, a["result"], int64(values.size), *function)
    return elementwise(context, "activation.cu", "activation", arguments, values)


@operation("activation.cu", "activation_gradient", "activation_gradient_by_4")
def activation_gradient(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    gradient = a["gradient"]
    if not gradient.size:
        return []
    batch, columns = gradient.shape
    real = gradient.dtype.type
    suffix, width, height, x, shared = _sum_tile(columns, real)
    if not _given(_sum_roles(a)):
        shared, block_rows = 0, ceil_div(batch, height)
        block_rows = min(block_rows, max(8 * context.limits.multiprocessors // x, 1))
    else:
        block_rows = _block_rows(batch, height)
    sums, finish = _partial_sums(context, block_rows, columns, real, a)
    arguments = (
        *(gradient, a.get("pre", a.get("output")), a["input_gradient"], *sums),
        *(int64(batch), int32(columns), int32(width)),
        *(int32(ACTIVATIONS[attrs["activation"]]), real(attrs["parameter"])),
        *dropout_arguments(a, attrs),
    )
    source, name = kernel_source("activation.cu", real), "activation_gradient" + suffix
    grid, block = (x, block_rows, 1), (width * height, 1, 1)
    return [Launch(source, name, grid, block, arguments, shared), *finish]
