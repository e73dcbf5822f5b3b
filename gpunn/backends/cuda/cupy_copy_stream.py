"""Copies to a GPU on a CUDA stream beside that of the calls, with events between the two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn.backends.cuda.cupy_context import CupyContext
from gpunn.backends.interface import CopyStream


class CupyCopyStream(CopyStream):
    """Copies on a CUDA stream.

    Parameters
    ----------
    context : CupyContext
        Active.
    """

    def __init__(self, context: CupyContext) -> None:
        self._context = context
        self.stream = context.cuda.Stream(non_blocking=True)

    def allocate_pinned(self, nbytes: int) -> np.ndarray[Any, Any]:
        with self._context.activate(f"page-locking {nbytes:,} bytes of the host's memory"):
            pinned = self._context.cuda.alloc_pinned_memory(nbytes)
            return np.frombuffer(pinned, np.uint8, nbytes)

    def record_event(self) -> Any:
        with self._context.activate("recording an event"):
            return self._context.record_event(self._context.stream)

    def copy(self, pairs: Sequence[tuple[Any, np.ndarray[Any, Any]]], after: Any) -> Any:
        runtime, stream = self._context.runtime, self.stream
        with self._context.activate("copying to the device"):
            stream.wait_event(after)
            kind = runtime.memcpyHostToDevice
            for array, values in pairs:
                target, origin = array.data.ptr, values.ctypes.data
                runtime.memcpyAsync(target, origin, values.nbytes, kind, stream.ptr)
            return self._context.record_event(stream)

    def wait_event(self, event: Any) -> None:
        # Not `activate`, which a thread that is capturing may not enter: the collector may let go
        # of a source there, and the stream of the calls is not the one that is captured.
        context = self._context
        try:
            with context.device:
                context.stream.wait_event(event)
        except Exception as error:
            context.raise_error(error, "waiting for a copy")

    def synchronize(self, event: Any) -> None:
        with self._context.activate("waiting for the device"):
            event.synchronize()
