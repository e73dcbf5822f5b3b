"""Launches of batch and layer normalization: sums over columns, and over rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunn.backends.cuda.driver import Launch
from gpunn.backends.cuda.geometry import WARP, ceil_div, row_groups
from gpunn.backends.cuda.ops.launches import (
    Context,
    LaunchBuilder,
    Work,
    int32,
    int64,
    kernel_source,
)
from gpunn.backends.cuda.ops.reductions import ColumnTile, column_tile
from gpunn.backends.interface import Arrays, Attrs

BATCH = "batch_normalization.cu"
LAYER = "layer_normalization.cu"


FINISH = "batch_normalization_gradient_finish"


@dataclass(frozen=True)
class _Columns:
    """How blocks cover a matrix whose columns are summed up: `share` rows to a block row."""

    tile: ColumnTile
    rows: int
    columns: int
    dtype: Any
    share: int
    block_rows: int

    def launch(
        self, file: str, name: str, arguments: tuple[Any, ...], *, block_rows: int, size: int
    ) -> Launch:
        """Return a launch with a shared value of `size` bytes for each column of a thread."""
        shared = self.tile.width * self.tile.height * self.tile.values * size
        return self.tile.launch((file, name), self.dtype, block_rows, arguments, shared)

    @property
    def sizes(self) -> tuple[Any, ...]:
        """Rows, columns and the tile's width, as kernels take them."""
        return int64(self.rows), int32(self.columns), int32(self.tile.width)

    def parts(self, context: Context) -> Any:
        """Return memory for two values of each column and block row."""
        nbytes = 2 * self.block_rows * self.columns * np.dtype(self.dtype).itemsize
        return context.workspace(nbytes).view(self.dtype)


def _summed(context: Context, matrix: Any) -> _Columns:
    """Return how to sum columns: by two blocks to a multiprocessor, or one block row.

    More would cost more than they gain: each block of the second launch reads all the parts.
    """
    rows, columns = matrix.shape
    tile = column_tile(columns, matrix.dtype)
    return _columns(matrix, min(tile.block_rows(rows), tile.resident_rows(context.limits, 2)))


def _columns(matrix: Any, block_rows: int) -> _Columns:
    rows, columns = matrix.shape
    tile = column_tile(columns, matrix.dtype)
    share = ceil_div(rows, block_rows)
    return _Columns(tile, rows, columns, matrix.dtype, share, ceil_div(rows, share))


def batch_normalization(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    values = a["values"]
    if not values.size:
        return []
    over = _summed(context, values)
    name, real = "batch_normalization", values.dtype.type
    arrays = (
        *(values, a.get("gamma"), a.get("beta"), a["result"], a["mean"], a["inverse_deviation"]),
        *(a["moving_mean"], a["moving_variance"]),
    )
    momentum = attrs["momentum"]
    constants = real(momentum), real(1 - momentum), real(attrs["epsilon"]), real(attrs["slope"])
    size = values.dtype.itemsize
    if over.block_rows == 1:
        arguments = (*arrays, *over.sizes, *constants)
        return [over.launch(BATCH, name, arguments, block_rows=1, size=size)]
    parts, share = over.parts(context), int64(over.share)
    first, last = (values, parts, *over.sizes, share), (parts, *arrays, *over.sizes, share)
    block_rows = over.block_rows
    return [
        over.launch(BATCH, name + "_parts", first, block_rows=block_rows, size=size),
        over.launch(BATCH, name + "_finish", (*last, *constants), block_rows=block_rows, size=size),
    ]


def batch_normalization_inference(
    context: Context, a: Arrays, attrs: Attrs, rows: int
) -> list[Work]:
    values = a["values"]
    if not values.size:
        return []
    tile = column_tile(values.shape[1], values.dtype)
    most = tile.resident_rows(context.limits)
    over = _columns(values, min(ceil_div(len(values), tile.height), most))
    arrays = (values, a["mean"], a["variance"], a.get("gamma"), a.get("beta"), a["result"])
    constants = (values.dtype.type(attrs[name]) for name in ("epsilon", "slope"))
    arguments = (*arrays, *over.sizes, int64(over.share), *constants)
    name = "batch_normalization_inference"
    return [over.launch(BATCH, name, arguments, block_rows=over.block_rows, size=0)]


def _read(a: Arrays, attrs: Attrs) -> tuple[Any, ...]:
    """Return what all gradients read, as kernels take it."""
    gradient = a["gradient"]
    activation = a.get("output"), gradient.dtype.type(attrs["slope"])
    return a["values"], gradient, *activation, a["mean"], a["inverse_deviation"]


def _parameter_gradients(a: Arrays) -> tuple[Any, Any]:
    return a.get("gamma_gradient"), a.get("beta_gradient")


def _finish(over: _Columns, parts: Any, a: Arrays, attrs: Attrs, *, inputs: bool) -> Launch:
    """Return the launch that adds up `parts`, and writes the input's gradient if `inputs`."""
    count = over.block_rows
    read = (*_read(a, attrs), a.get("gamma"), a.get("input_gradient"))
    if not inputs:
        read = (None, None, None, over.dtype.type(1), None, None, None, None)
    arguments = (
        *(parts, int32(count), *read, *_parameter_gradients(a), *over.sizes, int64(over.share)),
    )
    block_rows = count if inputs else 1
    return over.launch(BATCH, FINISH, arguments, block_rows=block_rows, size=over.dtype.itemsize)


def batch_normalization_gradient(
    context: Context, a: Arrays, attrs: Attrs, rows: int
) -> list[Work]:
    gradient = a["gradient"]
    if not gradient.size:
        return []
    over = _summed(context, gradient)
    name, size = "batch_normalization_gradient", gradient.dtype.itemsize
    if over.block_rows == 1:
        written = (a.get("gamma"), a.get("input_gradient"), *_parameter_gradients(a))
        arguments = (*_read(a, attrs), *written, *over.sizes)
        return [over.launch(BATCH, name, arguments, block_rows=1, size=size)]
    parts = over.parts(context)
    first = (*_read(a, attrs), parts, *over.sizes, int64(over.share))
    return [
        over.launch(BATCH, name + "_parts", first, block_rows=over.block_rows, size=size),
        _finish(over, parts, a, attrs, inputs="input_gradient" in a),
    ]


def _rows(context: Context, name: str, matrix: Any, arguments: tuple[Any, ...]) -> Launch:
    """Return a launch with a group of threads for each row; `arguments` follow the sizes' place."""
    rows, columns = matrix.shape
    by_4 = columns % 4 == 0
    threads, grid, block = row_groups(rows, columns // 4 if by_4 else columns, context.limits)
    wide = threads > WARP
    symbol = name + "_wide" * wide + "_by_4" * by_4
    shared = WARP * matrix.dtype.itemsize if wide else 0
    source = kernel_source(LAYER, matrix.dtype)
    sizes = int64(rows), int32(columns), int32(threads)
    arguments = tuple(x for item in arguments for x in (sizes if item is ... else (item,)))
    return Launch(source, symbol, (grid, 1, 1), (block, 1, 1), arguments, shared)


def layer_normalization(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    values = a["values"]
    if not values.size:
        return []
    arrays = (values, a.get("gamma"), a.get("beta"), a["result"], a.get("mean"))
    constants = (values.dtype.type(attrs[name]) for name in ("epsilon", "slope"))
    arguments = (*arrays, a.get("inverse_deviation"), ..., *constants)
    return [_rows(context, "layer_normalization", values, arguments)]


def layer_normalization_gradient(
    context: Context, a: Arrays, attrs: Attrs, rows: int
) -> list[Work]:
    gradient = a["gradient"]
    if not gradient.size:
        return []
    work: list[Work] = []
    if "input_gradient" in a:
        arguments = (*_read(a, attrs), a.get("gamma"), a["input_gradient"], ...)
        work.append(_rows(context, "layer_normalization_gradient", gradient, arguments))
    if not any(target is not None for target in _parameter_gradients(a)):
        return work
    over = _summed(context, gradient)
    parts = over.parts(context) if over.block_rows > 1 else None
    arguments = (
        *(*_read(a, attrs), parts, *_parameter_gradients(a), *over.sizes, int64(over.share)),
    )
    name, size = "layer_normalization_sums", gradient.dtype.itemsize
    work.append(over.launch(LAYER, name, arguments, block_rows=over.block_rows, size=size))
    if parts is not None:
        work.append(_finish(over, parts, a, attrs, inputs=False))
    return work


OPERATIONS: dict[str, LaunchBuilder] = {
    "batch_normalization": batch_normalization,
    "batch_normalization_inference": batch_normalization_inference,
    "batch_normalization_gradient": batch_normalization_gradient,
    "layer_normalization": layer_normalization,
    "layer_normalization_gradient": layer_normalization_gradient,
}
