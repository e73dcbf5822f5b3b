"""Which rows of an epoch are in which block, and how large a block is: for data in streams.

An epoch visits positions 0, 1, ... rows - 1; block b holds the rows at positions b * size to
(b + 1) * size - 1, the last one what is left. A size is a multiple of the batch size, so no batch
lies in two blocks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunn.randomness.permutation import KeyedPermutation

# Large enough for copies at full speed and for threads to be worth their start.
BLOCK_NBYTES = 32 << 20
LEAST_BATCHES = 4
# Data that are put on the device without a look at what is free there: it may take as long as the
# calculations.
SMALL_NBYTES = 1 << 20
# What is left free for calls to come: their work space, graphs, other plans.
MARGIN_NBYTES, MARGIN_SHARE = 256 << 20, 8
# Rows that are looked up at once: their numbers stay in a processor's cache.
CHUNK = 1 << 14
THREADS = max(1, min(8, (os.cpu_count() or 1) // 2))

Array = np.ndarray[Any, Any]


def usable_bytes(free: int) -> int:
    """Return how many of `free` bytes data may take."""
    return free - min(free // MARGIN_SHARE, MARGIN_NBYTES)


def block_rows(rows: int, row_nbytes: int, batch_size: int, free: int) -> int | None:
    """Return the rows of a block, of which two are on the device.

    A block takes some 32 MiB and holds 4 batches or more; less where that would be more than half
    of what data may take, and never more than the data.

    Parameters
    ----------
    rows : int
        Of the data.
    row_nbytes : int
        Bytes of a row of all arrays together.
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
    wanted = max(BLOCK_NBYTES // row_nbytes, LEAST_BATCHES * batch_size)
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
        """Return the block that a position is in, and its place there."""
        return divmod(position, self.size)

    def span(self, block: int) -> tuple[int, int]:
        """Return the first position of a block, and the one behind its last."""
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
    """Copy the rows at the positions of `span` to the front of `targets`.

    NumPy lets go of the interpreter meanwhile, so a few threads share the work.

    Parameters
    ----------
    arrays, targets : mapping of str to array
        By name, of the same type and the same shape but for the number of rows.
    span : tuple of two int
        First position, and the one behind the last.
    order : KeyedPermutation, optional
        Which row is at which position; without it, row i is at position i.
    stopped : callable
        Asked now and then; once it says so, what is left is left out.
    rows_between : callable, optional
        ``rows_between(order, first, last)`` as ``order.rows(np.arange(first, last))``, only faster.
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
                # "raise" would gather into a buffer of its own first.
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
