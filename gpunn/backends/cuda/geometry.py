"""Blocks and threads of simple launches: pure numbers, told nothing of arrays."""

from __future__ import annotations

from gpunn.backends.cuda.driver import Dimensions, Limits

THREADS = 256
WARP = 32


def ceil_div(a: int, b: int) -> int:
    """Return a / b, rounded up."""
    return -(-a // b)


def even_width(across: int, widest: int) -> int:
    """Return the width of the fewest equal tiles, at most `widest` wide, that cover `across`."""
    return ceil_div(across, ceil_div(across, widest))


def tiles(rows: int, across: int, limits: Limits) -> tuple[int, Dimensions, Dimensions]:
    """Return (width of a tile, grid, block) for a matrix of `rows` x `across` items.

    Tiles as in ``kernels/tiles.cuh``: blocks lie side by side and share the rows, no more of
    them than the device holds at once.
    """
    width = even_width(across, THREADS)
    height = min(THREADS // width, rows)
    x = ceil_div(across, width)
    held = max(8 * limits.multiprocessors // x, 1)
    return width, (x, min(ceil_div(rows, height), held), 1), (width * height, 1, 1)


def row_threads(units: int) -> int:
    """Return the threads of a group (``kernels/row_groups.cuh``) for a row of so many units.

    A power of two, at most 256; where rows are long each thread takes four units and more.
    """
    threads = 1 << ((units if units <= WARP else ceil_div(units, 4)) - 1).bit_length()
    return min(threads if units <= WARP else max(threads, WARP), THREADS)


def row_groups(rows: int, units: int, limits: Limits) -> tuple[int, int, int]:
    """Return (threads of a group, blocks, threads of a block) for so many rows.

    A group of more than a warp is a whole block.
    """
    threads = row_threads(units)
    block = threads if threads > WARP else 4 * WARP
    return threads, min(ceil_div(rows, block // threads), 16 * limits.multiprocessors), block


def elementwise_grid(size: int, limits: Limits, per_thread: int = 1, threads: int = THREADS) -> int:
    """Return the number of blocks of `threads` for a grid-stride loop over `size` values."""
    return min(ceil_div(size, threads * per_thread), 8 * limits.multiprocessors)
