"""The rows of a bound plan: all of them on the device, or streamed to it."""

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
    """The rows that a bound plan processes.

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
        """Start at row `offset` of an epoch; the number of the epoch determines the shuffling."""

    @abstractmethod
    def ready(self, offset: int) -> int:
        """Prepare row `offset` for the next step; return how many rows are ready from there on."""

    def close(self) -> None:
        """Release the arrays."""
        self.arrays = {}

    def run(self, program: str, offset: int, steps: int | None = None) -> tuple[int, int]:
        """Run a program on rows from `offset` on, batch by batch; return the steps and rows done.

        At most `steps` steps are run, on rows that are ready; a partial batch is run separately.
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
        Whether the plan computes a new order for each epoch.
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
    """Put data on the device, or stream them if they do not fit into its free memory.

    Parameters
    ----------
    bound : BoundPlan
        Already bound, so that its memory is no longer free.
    arrays : mapping of str to array
        Data, targets and weights by their names in the plan. If one of them is already on the
        device, none is streamed.
    rows : int
    what : str
        Description of the data, for the log and for errors.
    seed : int, optional
        Seed of the shuffling; None does not shuffle.
    repeats : bool
        Whether another epoch follows, whose first rows are then prepared.
    reserve : int
        Bytes to leave free, at most half of what is usable.

    Returns
    -------
    Source
        The rows.

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
            f"the {what} ({nbytes:,} bytes) do not fit on {backend.name}, which has {free:,} bytes "
            f"free, and neither do two batches of {bound.plan.batch_size} rows to stream them "
            f"through ({least:,} bytes); use a smaller batch_size or model, or free memory there."
        )
    from gpunn.data.streaming import DoubleBuffer

    logger.info(
        "the %s (%s) do not fit on %s (%s free): streamed in blocks of %s rows (%s)",
        *(what, _size(nbytes), backend.name, _size(free)),
        *(f"{size:,}", _size(size * row_nbytes)),
    )
    return DoubleBuffer(bound, stream, arrays, Blocks(rows, size), seed=seed, repeats=repeats)


def _size(nbytes: int) -> str:
    """Return a number of bytes with its unit."""
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if nbytes >> shift:
            return f"{nbytes / (1 << shift):.1f} {unit}"
    return f"{nbytes} bytes"
