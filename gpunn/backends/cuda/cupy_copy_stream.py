"""The lane of a GPU: a CUDA stream for copies beside the driver's own, and events between them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn.backends.cuda.host_order import rows_between
from gpunn.backends.interface import Lane


class CupyLane(Lane):
    """Copies on a stream of their own; its fences are CUDA events.

    Parameters
    ----------
    memory : CupyMemory
        The driver, within `_here`.
    """

    def __init__(self, memory: Any) -> None:
        # The driver has the lane: held both ways, neither would go before the collector comes.
        self._memory, self._calls = weakref.proxy(memory), memory._stream
        self._cuda, self._runtime = memory._cuda, memory._runtime
        self.stream = memory._cuda.Stream(non_blocking=True)

    rows = staticmethod(rows_between)

    def pinned(self, nbytes: int) -> np.ndarray[Any, Any]:
        with self._memory._here(f"page-locking {nbytes:,} bytes of the host's memory"):
            return np.frombuffer(self._cuda.alloc_pinned_memory(nbytes), np.uint8, nbytes)

    def fence(self) -> Any:
        with self._memory._here("recording an event"):
            return self._recorded(self._calls)

    def _recorded(self, stream: Any) -> Any:
        event = self._cuda.Event(disable_timing=True)
        event.record(stream)
        return event

    def copy(self, pairs: Sequence[tuple[Any, np.ndarray[Any, Any]]], after: Any) -> Any:
        with self._memory._here("copying to the device"):
            self.stream.wait_event(after)
            kind = self._runtime.memcpyHostToDevice
            for array, values in pairs:
                target, origin = array.data.ptr, values.ctypes.data
                self._runtime.memcpyAsync(target, origin, values.nbytes, kind, self.stream.ptr)
            return self._recorded(self.stream)

    def follow(self, fence: Any) -> None:
        # Not `_here`, which a thread that is capturing may not enter: the collector may let go of
        # a ring there, and the stream of the calls is not the one that is captured.
        try:
            with self._memory._device:
                self._calls.wait_event(fence)
        except Exception as error:
            self._memory._raise(error, "waiting for a copy")

    def wait(self, fence: Any) -> None:
        with self._memory._here("waiting for the device"):
            fence.synchronize()
