"""Data that do not fit on the device: streamed to it block by block, during computation.

Two blocks of rows are on the device. While steps run on one of them, a thread gathers the rows
of the next into page-locked memory, from where the device copies them into the other on a
separate stream. Plans are bound to both blocks together, as to a data set of that size: switching
blocks only sets the offset, which is read from device memory, so captured graphs remain valid.

Rows are gathered in the epoch's order, by the same keyed permutation that shuffles data on the
device. So a run is bit for bit the same as with all data on the device: shuffled over all rows,
not block by block, and resumable at any step; a checkpoint does not depend on blocks. The price
is random access to rows on the host; data in a memory-mapped file (`np.memmap`) are read from the
disk in that order. No order is stored: rows are computed from positions, block by block.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from gpunn.backends.interface import CopyStream
from gpunn.data.blocks import Blocks, gather
from gpunn.data.sources import Source
from gpunn.errors import DeviceError
from gpunn.plan.bind import BoundPlan
from gpunn.plan.spec import CONTROL
from gpunn.randomness.permutation import KeyedPermutation

Array = np.ndarray[Any, Any]
Key = tuple[int, int]  # epoch and block


class _Slot:
    """One of the two blocks on the device, and the page-locked memory it is filled from.

    Attributes
    ----------
    first : int
        Row of the arrays that it begins with.
    copied : event or None
        Done when the copy that was asked for last is.
    fill : _Fill or None
        The thread that fills it, or has filled it.
    """

    def __init__(
        self, stream: CopyStream, arrays: Mapping[str, Any], first: int, rows: int
    ) -> None:
        self.first = first
        self.device = {name: array[first : first + rows] for name, array in arrays.items()}
        self.staging = {
            name: stream.allocate_pinned(array.nbytes).view(array.dtype).reshape(array.shape)
            for name, array in self.device.items()
        }
        self.copied: Any = None
        self.fill: _Fill | None = None

    def abandon(self) -> None:
        """Stop the thread that fills it."""
        if self.fill is not None:
            self.fill.abandoned = True
            self.fill.join()

    def finish(self) -> None:
        """Wait until the copy has been requested; raise any error of the thread."""
        assert self.fill is not None
        self.fill.join()
        error = self.fill.error
        if error is not None:
            self.fill = None
            raise error

    def leave(self, stream: CopyStream) -> None:
        """Give up on what is being copied: the memory may be given back while it still is."""
        if self.fill is not None:
            self.fill.abandoned = True
        if self.copied is not None:
            with suppress(DeviceError):
                stream.wait_event(self.copied)


class _Fill(threading.Thread):
    """Gathers one block and requests its copy, then ends: there is no thread between blocks.

    It holds no `DoubleBuffer`, so that one that nobody uses any more can go; nor anything, once
    it has ended.
    """

    def __init__(
        self,
        stream: CopyStream,
        slot: _Slot,
        arrays: Mapping[str, Array],
        blocks: Blocks,
        key: Key,
        seed: int | None,
        after: Any,
    ) -> None:
        super().__init__(name="gpunn-fill")
        self.key, self.abandoned = key, False
        self._copy_stream, self._slot, self._arrays, self._blocks = stream, slot, arrays, blocks
        self._seed, self._after = seed, after
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._fill()
        except BaseException as error:  # raised again by _Slot.finish
            self.error = error
        finally:
            del self._arrays, self._after, self._slot

    def _fill(self) -> None:
        stream, slot, (epoch, block) = self._copy_stream, self._slot, self.key
        if slot.copied is not None:
            stream.synchronize(slot.copied)  # it reads the staging memory
        seed, blocks = self._seed, self._blocks
        order = None if seed is None else KeyedPermutation(blocks.rows, seed, epoch)
        start, stop = blocks.span(block)
        span, stopped = (start, stop), lambda: self.abandoned
        gather(self._arrays, slot.staging, span, order, stopped, stream.rows_between)
        if self.abandoned:
            return
        pairs = [
            (array[: stop - start], slot.staging[name][: stop - start])
            for name, array in slot.device.items()
        ]
        slot.copied = stream.copy(pairs, self._after)
        if self.abandoned:  # since then
            slot.leave(stream)


class DoubleBuffer(Source):
    """Rows that are streamed to the device through two blocks.

    Parameters
    ----------
    bound : BoundPlan
    stream : CopyStream
    arrays : mapping of str to NumPy array
        The data, on the host; never copied as a whole.
    blocks : Blocks
    seed : int, optional
        Seed of the shuffling; None does not shuffle.
    repeats : bool
        Whether the last block is followed by the first one of the next epoch.
    """

    def __init__(
        self,
        bound: BoundPlan,
        stream: CopyStream,
        arrays: Mapping[str, Array],
        blocks: Blocks,
        *,
        seed: int | None = None,
        repeats: bool = False,
    ) -> None:
        super().__init__(bound, blocks.rows)
        self.blocks, self.seed, self.repeats = blocks, seed, repeats
        self._copy_stream, self._host = stream, dict(arrays)
        self._epoch = 0
        self._inside: Key | None = None
        rows = 2 * blocks.size
        buffers = {name: self._empty(rows, array) for name, array in arrays.items()}
        self._slots = [_Slot(stream, buffers, first, blocks.size) for first in (0, blocks.size)]
        self.arrays = buffers
        if "order" in bound.plan.buffers:
            buffers["order"] = bound.backend.upload(np.arange(rows, dtype=np.int64))

    def _empty(self, rows: int, array: Array) -> Any:
        backend, shape = self.bound.backend, (rows, *array.shape[1:])
        nbytes = rows * array.nbytes // len(array)
        region = backend.allocate(nbytes, 1, zeroed=False)
        return backend.view(region, 0, shape, str(array.dtype))[0]

    def begin(self, epoch: int = 0, offset: int = 0) -> None:
        # Without shuffling, all epochs are the same.
        self._epoch = 0 if self.seed is None else epoch
        self._inside = None

    def ready(self, offset: int) -> int:
        block, within = self.blocks.find(offset)
        key = self._epoch, block
        if key != self._inside:
            slot = self._enter(key)
            self.bound.write(f"{CONTROL}/offset", slot.first + within)
            self._inside = key
        start, stop = self.blocks.span(block)
        return stop - start - within

    def _enter(self, key: Key) -> _Slot:
        """Have the steps to come find a block on the device, and the next one under way."""
        # Behind the last step on the block that is overwritten.
        event = self._copy_stream.record_event()
        slots = self._slots
        here = next((s for s in slots if s.fill is not None and s.fill.key == key), None)
        if here is None:
            here = slots[0]
            self._fill(here, key, event)
        elif here is slots[1]:
            slots.reverse()
        here.finish()
        self._copy_stream.wait_event(here.copied)
        following = self._following(key)
        there = slots[1]
        if following is not None and (there.fill is None or there.fill.key != following):
            self._fill(there, following, event)
        return here

    def _following(self, key: Key) -> Key | None:
        epoch, block = key
        if block + 1 < self.blocks.count:
            return epoch, block + 1
        if not self.repeats:
            return None
        return (0 if self.seed is None else epoch + 1), 0

    def _fill(self, slot: _Slot, key: Key, after: Any) -> None:
        slot.abandon()
        fill = _Fill(self._copy_stream, slot, self._host, self.blocks, key, self.seed, after)
        fill.start()  # where there are no more threads, this fails
        slot.fill = fill

    def close(self) -> None:
        for slot in self._slots:
            slot.abandon()
            if slot.copied is not None:
                with suppress(DeviceError):  # the device may be what has failed
                    self._copy_stream.synchronize(slot.copied)
        self._slots, self._host = [], {}
        super().close()

    def __del__(self) -> None:
        # Must not wait: the garbage collector may run in any thread, even in the filling one. At
        # interpreter shutdown, attributes may be gone.
        with suppress(Exception):
            for slot in self._slots:
                slot.leave(self._copy_stream)
