"""Copies in the simulator, which run as late as they may."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpunn.backends.interface import CopyStream
from gpunn.errors import DeviceError


class SimulatorCopyStream(CopyStream):
    """Copies that run when somebody waits for them, so that a wait that is missing shows.

    Calls run as they are made, so an event behind them is done as soon as it is recorded. An
    event is a number of copies.

    Parameters
    ----------
    allocated : callable
        Whether an array is part of the device's memory.
    """

    def __init__(self, allocated: Callable[[Any], bool]) -> None:
        self._allocated = allocated
        self._pinned: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self._lock = threading.RLock()
        self._waiting: list[tuple[Any, Any]] = []
        self._done = 0

    def allocate_pinned(self, nbytes: int) -> np.ndarray[Any, Any]:
        memory = np.zeros(nbytes, np.uint8)
        self._pinned[id(memory)] = memory
        return memory

    def _is_pinned(self, array: Any) -> bool:
        while isinstance(array, np.ndarray) and array.base is not None:
            array = array.base
        return self._pinned.get(id(array)) is array

    def record_event(self) -> int:
        return 0

    def copy(self, pairs: Sequence[tuple[Any, np.ndarray[Any, Any]]], after: Any) -> int:
        for array, values in pairs:
            reason = ""
            if not self._allocated(array):
                reason = "to an array that this device did not allocate"
            elif not self._is_pinned(values):
                reason = "from memory that is not page-locked"
            elif not (array.flags.c_contiguous and values.flags.c_contiguous):
                reason = "of an array that is not C-contiguous"
            elif array.nbytes != values.nbytes:
                reason = f"of {values.nbytes} bytes to {array.nbytes}"
            if reason:
                raise DeviceError(f"simulator: a copy {reason}")
        with self._lock:
            self._waiting += pairs
            return self._done + len(self._waiting)

    def wait_event(self, event: int) -> None:
        self.synchronize(event)

    def synchronize(self, event: int) -> None:
        with self._lock:
            while self._done < event:
                array, values = self._waiting.pop(0)
                array.reshape(-1).view(np.uint8)[:] = values.reshape(-1).view(np.uint8)
                self._done += 1
