"""Launches of sums: of all values of an array, and of each column over the batch.

Their order is fixed by shapes and limits. Where one block takes all, one launch does; else each
block leaves a partial result, and a second launch adds these up, in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunn.backends.cuda.driver import KernelSource, Launch, Limits
from gpunn.backends.cuda.geometry import THREADS, WARP, ceil_div, even_width
from gpunn.backends.cuda.ops.launches import Context, Work, int32, int64, kernel_source
from gpunn.backends.interface import Arrays

# Sums of all values, in double

MAX_PARTIALS = 256  # a thread each, for the block that adds them up
# Up to so many values one block is faster than many blocks and a second launch.
ONE_BLOCK_VALUES = 8192
# Shared memory for the sums of a block: two doubles for each of its warps.
SUMS = 2 * WARP * 8


def reduction_blocks(threads: int, values: int, largest: int) -> tuple[int, int]:
    """Return blocks, and threads of a block, of a reduction.

    Parameters
    ----------
    threads : int
        As many as there is something to do for at once.
    values : int
        What decides whether one block takes it all.
    largest : int
        Threads that a block may have.
    """
    if values <= ONE_BLOCK_VALUES:
        return 1, min(largest, ceil_div(threads, WARP) * WARP)
    return min(MAX_PARTIALS, ceil_div(threads, THREADS)), THREADS


def partials(context: Context, blocks: int, sums: int) -> Any:
    """Return memory for `sums` doubles of each block; None if there is only one."""
    return None if blocks == 1 else context.workspace(8 * sums * blocks).view(np.float64)


def reduction(
    context: Context,
    kernel: tuple[KernelSource, str],
    geometry: tuple[int, int],
    sums: int,
    arguments: tuple[Any, ...],
    finish: tuple[str, Any],
    shared: int = SUMS,
) -> list[Work]:
    """Return the launch of a reduction, and that which adds up the parts of its blocks, if several.

    Parameters
    ----------
    context : Context
    kernel : tuple of KernelSource and str
    geometry : tuple of two int
        Blocks, and threads of a block.
    sums : int
        Doubles of each block.
    arguments : tuple
        ``...`` stands for the partial sums.
    finish : tuple
        The kernel that adds the parts up, and its arguments between these and their number.
    shared : int
        Bytes of shared memory of a block.
    """
    (source, name), (blocks, threads) = kernel, geometry
    parts = partials(context, blocks, sums)
    arguments = tuple(parts if one is ... else one for one in arguments)
    work: list[Work] = [Launch(source, name, (blocks, 1, 1), (threads, 1, 1), arguments, shared)]
    if parts is not None:
        last = (parts, *finish[1], int32(blocks))
        work.append(Launch(source, finish[0], (1, 1, 1), (THREADS, 1, 1), last, SUMS))
    return work


# Sums of columns over the batch: bias gradients

BIAS_GRADIENT = ("bias_gradient.cu", "bias_gradient")
# Passes of a tile over its rows in one launch, and in each of the block rows of a longer batch,
# of which there are at most so many.
_PASSES_ALONE, _PASSES, _BLOCK_ROWS = 8, 4, 128


@dataclass(frozen=True)
class ColumnTile:
    """The threads of a block that sums columns, as in ``kernels/tiles.cuh``.

    Attributes
    ----------
    values : int
        Neighbouring columns of a thread: 4 or 1.
    width, height : int
        Threads across the columns, and down the rows.
    across : int
        Blocks side by side.
    shared : int
        Bytes of shared memory of a block.
    """

    values: int
    width: int
    height: int
    across: int
    shared: int

    def launch(
        self, kernel: tuple[str, str], dtype: Any, block_rows: int, arguments: Any, shared: int
    ) -> Launch:
        """Return a launch of `kernel`, a file and the name without what tells `values`."""
        file, name = kernel
        return Launch(
            kernel_source(file, dtype),
            name + ("_by_4" if self.values == 4 else ""),
            (self.across, block_rows, 1),
            (self.width * self.height, 1, 1),
            arguments,
            shared,
        )

    def resident_rows(self, limits: Limits, each: int = 8) -> int:
        """Return the block rows with which a multiprocessor gets `each` blocks."""
        return max(each * limits.multiprocessors // self.across, 1)

    def block_rows(self, rows: int) -> int:
        """Return how many blocks below one another share so many rows."""
        if rows <= _PASSES_ALONE * self.height:
            return 1
        return min(ceil_div(rows, _PASSES * self.height), _BLOCK_ROWS)


def column_tile(columns: int, dtype: Any) -> ColumnTile:
    """Return the tile for a matrix of so many columns."""
    values = 4 if columns % 4 == 0 else 1
    # Eight threads with 4 values each read 128 bytes of a row (in float32), as 32 do with one.
    width = even_width(columns // values, 8 if values == 4 else 32)
    height = THREADS // width
    shared = width * height * values * np.dtype(dtype).itemsize
    return ColumnTile(values, width, height, ceil_div(columns // values, width), shared)


def bias_roles(a: Arrays) -> tuple[Any, Any, Any]:
    """Return (sums, bias, learning_rate) of an op, as kernels take them.

    With `bias_gradient`, that gets the sums; else with `bias`, ``learning_rate`` times the sums
    are subtracted from it; with neither, nobody wants the sums.
    """
    if "bias_gradient" in a:
        return a["bias_gradient"], None, None
    if "bias" in a:
        return None, a["bias"], a["learning_rate"]
    return None, None, None


def has_bias(a: Arrays) -> bool:
    """Return whether an op wants sums over the batch."""
    return "bias_gradient" in a or "bias" in a


def column_sums(matrix: Any, roles: tuple[Any, Any, Any], block_rows: int) -> Launch:
    """Return the launch that sums the columns of `matrix` for `roles`, as of `bias_roles`.

    With several block rows, the sums are as many rows, which `finish_bias` adds up.
    """
    rows, columns = matrix.shape
    tile = column_tile(columns, matrix.dtype)
    arguments = (matrix, *roles, int64(rows), int32(columns), int32(tile.width))
    return tile.launch(BIAS_GRADIENT, matrix.dtype, block_rows, arguments, tile.shared)


def finish_bias(parts: Any, a: Arrays) -> Launch:
    """Return the launch that adds up partial column sums: a bias gradient's last step.

    Parameters
    ----------
    parts : array of parameters' type, shape (block rows, columns)
        Aligned to 16 bytes, as the workspace is.
    a : mapping
        Roles of the op; see `bias_roles`.
    """
    return column_sums(parts, bias_roles(a), 1)


def bias_parts(
    context: Context, block_rows: int, columns: int, dtype: Any, a: Arrays
) -> tuple[tuple[Any, Any, Any], list[Work]]:
    """Return where a launch with so many block rows leaves its sums, and what finishes them."""
    if block_rows == 1 or not has_bias(a):
        return bias_roles(a), []
    nbytes = block_rows * columns * np.dtype(dtype).itemsize
    parts = context.workspace(nbytes).view(dtype).reshape(block_rows, columns)
    return (parts, None, None), [finish_bias(parts, a)]
