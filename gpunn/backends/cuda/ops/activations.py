"""Launches of activations, softmax, PReLU and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.backends.cuda.driver import Launch
from gpunn.backends.cuda.geometry import WARP, ceil_div, row_groups
from gpunn.backends.cuda.ops.launches import (
    Context,
    LaunchBuilder,
    Work,
    activation_arguments,
    dropout_arguments,
    elementwise,
    int32,
    int64,
    kernel_source,
)
from gpunn.backends.cuda.ops.reductions import bias_parts, column_tile, has_bias
from gpunn.backends.interface import Arrays, Attrs

ACTIVATION = "activation.cu"
SOFTMAX = "softmax.cu"
PRELU = "prelu.cu"
DROPOUT = "dropout.cu"


def activation(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    values = a["values"]
    function = activation_arguments(attrs, values.dtype)
    arguments = (values, a["result"], int64(values.size), *function)
    return elementwise(context, ACTIVATION, "activation", arguments, values)


def activation_gradient(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    gradient = a["gradient"]
    if not gradient.size:
        return []
    batch, columns = gradient.shape
    tile = column_tile(columns, gradient.dtype)
    if has_bias(a):
        shared, block_rows = tile.shared, tile.block_rows(batch)
    else:
        most = tile.resident_rows(context.limits)
        shared, block_rows = 0, min(ceil_div(batch, tile.height), most)
    roles, finish = bias_parts(context, block_rows, columns, gradient.dtype, a)
    arguments = (
        *(gradient, a.get("pre", a.get("output")), a["input_gradient"], *roles),
        *(int64(batch), int32(columns), int32(tile.width)),
        *activation_arguments(attrs, gradient.dtype),
        *dropout_arguments(a, attrs),
    )
    kernel = ACTIVATION, "activation_gradient"
    return [tile.launch(kernel, gradient.dtype, block_rows, arguments, shared), *finish]


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


def softmax(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    values = a["values"]
    return _rows(context, "softmax", (values, a["result"]), values.shape)


def softmax_gradient(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    gradient = a["gradient"]
    arrays = (gradient, a["output"], a["input_gradient"])
    return _rows(context, "softmax_gradient", arrays, gradient.shape)


def prelu(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    values = a["values"]
    if not values.size:
        return []
    batch, columns = values.shape
    tile = column_tile(columns, values.dtype)
    arguments = (values, a["alpha"], a["result"], int64(batch), int32(columns), int32(tile.width))
    block_rows = min(ceil_div(batch, tile.height), tile.resident_rows(context.limits))
    return [tile.launch((PRELU, "prelu"), values.dtype, block_rows, arguments, 0)]


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
    kernel = PRELU, "prelu_gradient"
    return [tile.launch(kernel, values.dtype, block_rows, arguments, tile.shared), *finish]


def _drop(context: Context, values: Any, result: Any, a: Arrays, attrs: Attrs) -> list[Work]:
    arguments = (values, result, int64(values.size), *dropout_arguments(a, attrs))
    return elementwise(context, DROPOUT, "dropout", arguments, values)


def dropout(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    return _drop(context, a["values"], a["result"], a, attrs)


def dropout_gradient(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    return _drop(context, a["gradient"], a["input_gradient"], a, attrs)


OPERATIONS: dict[str, LaunchBuilder] = {
    "activation": activation,
    "activation_gradient": activation_gradient,
    "softmax": softmax,
    "softmax_gradient": softmax_gradient,
    "prelu": prelu,
    "prelu_gradient": prelu_gradient,
    "dropout": dropout,
    "dropout_gradient": dropout_gradient,
}
