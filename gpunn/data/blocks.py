"""Division of an epoch into blocks, for data that are streamed to the device.

An epoch visits positions 0, 1, ... rows - 1; block b holds the rows at positions b * size to
(b + 1) * size - 1, the last block the remainder. The size is a multiple of the batch size, so no
batch spans two blocks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunn.randomness.permutation import KeyedPermutation

# Large enough for copies at full bandwidth, and to pay for starting threads.
BLOCK_NBYTES = 32 << 20
MIN_BATCHES = 4
# Up to this size, data are put on the device without a query of its free memory, which may take
# as long as the computation.
SMALL_NBYTES = 1 << 20
# Left free for later calls: workspaces, graphs, other plans.
MARGIN_NBYTES, MARGIN_SHARE = 256 << 20, 8
# Rows that are gathered at a time: their numbers stay in the CPU cache.
CHUNK = 1 << 14
THREADS = max(1, min(8, (os.cpu_count() or 1) // 2))

Array = np.ndarray[Any, Any]


def usable_bytes(free: int) -> int:
    """Return how many of `free` bytes data may take."""
    return free - min(free // MARGIN_SHARE, MARGIN_NBYTES)


def block_rows(rows: int, row_nbytes: int, batch_size: int, free: int) -> int | None:
    """Return the number of rows of a block, of which two are on the device.

    A block has about 32 MiB and at least 4 batches, but at most half of the usable memory and no
    more than the data.

    Parameters
    ----------
    rows : int
        Rows of the data.
    row_nbytes : int
        Bytes of a row, of all arrays together.
    batch_size : int
    free : int
        Free bytes of the device.

    Returns
    -------
    int or None
        A multiple of `batch_size`; None where two blocks of one batch do not fit.
    """
    most = usable_bytes(free) // (2 * row_nbytes)
    if most < batch_size:
        return None
    wanted = max(BLOCK_NBYTES // row_nbytes, MIN_BATCHES * batch_size)
    batches = max(1, min(wanted, most // 2) // batch_size)
    return min(batches, -(-rows // batch_size)) * batch_size


@dataclass(frozen=True)
class Blocks:
    """The positions of an epoch, in blocks.

    Attributes
    ----------
    rows : int
    size : int
        Rows of every block but the last.
    """

    rows: int
    size: int

    @property
    def count(self) -> int:
        """Number of blocks."""
        return -(-self.rows // self.size)

    def find(self, position: int) -> tuple[int, int]:
        """Return the block that contains a position, and the offset in it."""
        return divmod(position, self.size)

    def span(self, block: int) -> tuple[int, int]:
        """Return the first position of a block, and the end (exclusive)."""
        start = block * self.size
        return start, min(start + self.size, self.rows)


def gather(
    arrays: Mapping[str, Array],
    targets: Mapping[str, Array],
    span: tuple[int, int],
    order: KeyedPermutation | None = None,
    stopped: Callable[[], bool] = lambda: False,
    rows_between: Callable[[KeyedPermutation, int, int], Array] | None = None,
) -> None:
    """Copy the rows at the positions of `span` to the beginning of `targets`.

    NumPy releases the GIL while copying, so a few threads share the work.

    Parameters
    ----------
    arrays, targets : mapping of str to array
        By name, of the same dtype and shape except for the number of rows.
    span : tuple of two int
        First position, and the end (exclusive).
    order : KeyedPermutation, optional
        Which row is at which position; by default, row i is at position i.
    stopped : callable
        Called between chunks; when it returns True, the remaining rows are not copied.
    rows_between : callable, optional
        A faster version of ``order.rows(np.arange(first, last))``, called with
        ``(order, first, last)``.
    """
    start, stop = span

    def part(first: int) -> None:
        if stopped():
            return
        last = min(first + CHUNK, stop)
        rows = None
        if order is not None and rows_between is not None:
            rows = rows_between(order, first, last)
        elif order is not None:
            rows = order.rows(np.arange(first, last))
        for name, array in arrays.items():
            target = targets[name][first - start : last - start]
            if rows is None:
                target[...] = array[first:last]
            else:
                # mode="raise" would gather into a temporary buffer.
                np.take(array, rows, axis=0, out=target, mode="clip")

    firsts = range(start, stop, CHUNK)
    if len(firsts) == 1 or THREADS == 1:
        for first in firsts:
            part(first)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(THREADS, thread_name_prefix="gpunn-gather") as pool:
        for _ in pool.map(part, firsts):
            pass
