"""Where a bound plan finds its rows: all of them on the device, or streamed to it."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from gpunn.data import blocks
from gpunn.data.blocks import Blocks, block_rows, usable_bytes
from gpunn.errors import DeviceError
from gpunn.plan.bind import BoundPlan
from gpunn.plan.spec import CONTROL

logger = logging.getLogger("gpunn")

Array = np.ndarray[Any, Any]


class Source(ABC):
    """The rows that a bound plan works on.

    Attributes
    ----------
    bound : BoundPlan
    rows : int
    arrays : dict of str to device array
        For `BoundPlan.attach`; empty once the source is closed.
    """

    def __init__(self, bound: BoundPlan, rows: int) -> None:
        self.bound, self.rows = bound, rows
        self.arrays: dict[str, Any] = {}

    @abstractmethod
    def begin(self, epoch: int = 0, offset: int = 0) -> None:
        """Begin with row `offset` of an epoch; its number is what rows are shuffled by."""

    @abstractmethod
    def ready(self, offset: int) -> int:
        """Have the next step begin with row `offset`; return how many rows can be worked on."""

    def close(self) -> None:
        """Let go of the arrays."""
        self.arrays = {}

    def run(self, program: str, offset: int, steps: int | None = None) -> tuple[int, int]:
        """Run a program on rows from `offset` on, batch by batch; return steps and rows.

        They are at most `steps`, and no more than are ready; a batch that is not full is a run of
        its own.
        """
        ready, batch_size = self.ready(offset), self.bound.plan.batch_size
        full = ready // batch_size
        if full:
            full = full if steps is None else min(full, steps)
            self.bound.repeat(program, full)
            return full, full * batch_size
        self.bound.repeat(program, 1, ready)
        return 1, ready


class Resident(Source):
    """Rows that are all on the device.

    Parameters
    ----------
    bound : BoundPlan
    arrays : mapping of str to device array
    rows : int
    shuffle : bool
        Whether the plan draws a new order for each epoch.
    """

    def __init__(
        self, bound: BoundPlan, arrays: Mapping[str, Any], rows: int, *, shuffle: bool = False
    ) -> None:
        super().__init__(bound, rows)
        self.shuffle, self.arrays = shuffle, dict(arrays)

    def begin(self, epoch: int = 0, offset: int = 0) -> None:
        self.bound.write(f"{CONTROL}/offset", offset)
        if self.shuffle:
            self.bound.run("epoch")

    def ready(self, offset: int) -> int:
        return self.rows - offset


def open_source(
    bound: BoundPlan,
    arrays: Mapping[str, Any],
    rows: int,
    *,
    what: str = "data",
    seed: int | None = None,
    repeats: bool = False,
    reserve: int = 0,
) -> Source:
    """Put data on the device, or stream them where they do not fit what is free there.

    Parameters
    ----------
    bound : BoundPlan
        Bound before: what it takes is not free any more.
    arrays : mapping of str to array
        Data, targets and weights by their names in the plan. Where one of them is on the device
        already, none is streamed.
    rows : int
    what : str
        What the data are, for the log and for errors.
    seed : int, optional
        Of the orders that rows are shuffled into; without it they stay as they are.
    repeats : bool
        Whether the end is followed by the next epoch, whose first rows are then made ready.
    reserve : int
        Bytes to leave free, up to half of what there is.

    Raises
    ------
    DeviceError
        Not even two blocks of one batch fit.
    """
    backend, ordered = bound.backend, "order" in bound.plan.buffers
    row_nbytes = sum(array.nbytes for array in arrays.values()) // rows + 8 * ordered
    nbytes = row_nbytes * rows
    on_host = all(isinstance(array, np.ndarray) for array in arrays.values())
    may_stream = on_host and nbytes > blocks.SMALL_NBYTES
    stream, free = (backend.copy_stream(), backend.free_bytes()) if may_stream else (None, None)
    fits = free is None or nbytes + min(reserve, usable_bytes(free) // 2) <= usable_bytes(free)
    if stream is None or free is None or fits:
        resident = {name: backend.upload(array) for name, array in arrays.items()}
        if ordered:
            resident["order"] = backend.upload(np.arange(rows, dtype=np.int64))
        return Resident(bound, resident, rows, shuffle=seed is not None)
    size = block_rows(rows, row_nbytes, bound.plan.batch_size, free)
    if size is None:
        least = 2 * bound.plan.batch_size * row_nbytes
        raise DeviceError(
            f"the {what} ({nbytes:,} bytes) do not fit {backend.name}, which has {free:,} bytes "
            f"free, and neither do two batches of {bound.plan.batch_size} rows to stream them "
            f"through ({least:,} bytes); use a smaller batch_size or model, or free memory there."
        )
    from gpunn.data.streaming import DoubleBuffer

    logger.info(
        "the %s (%s) do not fit %s (%s free): streamed in blocks of %s rows (%s)",
        *(what, _size(nbytes), backend.name, _size(free)),
        *(f"{size:,}", _size(size * row_nbytes)),
    )
    return DoubleBuffer(bound, stream, arrays, Blocks(rows, size), seed=seed, repeats=repeats)


def _size(nbytes: int) -> str:
    """Return a number of bytes in words."""
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if nbytes >> shift:
            return f"{nbytes / (1 << shift):.1f} {unit}"
    return f"{nbytes} bytes"
