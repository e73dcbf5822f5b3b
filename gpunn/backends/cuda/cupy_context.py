"""A GPU opened through CuPy: its device, the stream of all calls, errors that say what failed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from gpunn.backends.cuda.driver import Limits
from gpunn.backends.cuda.driver_errors import device_error, status
from gpunn.errors import DeviceError


class CupyContext:
    """A device and a stream of our own on it.

    Parameters
    ----------
    index : int
        CUDA's number of the device.

    Attributes
    ----------
    cupy, cuda, runtime : module
        CuPy, and parts of it.
    capturing : int
        The thread whose launches go into a graph, 0 for none.

    Raises
    ------
    DeviceError
        The device cannot be used.
    """

    def __init__(self, index: int) -> None:
        import cupy

        self.cupy, self.cuda, self.runtime = cupy, cupy.cuda, cupy.cuda.runtime
        self.index, self.name = index, f"cuda:{index}"
        self.device = cupy.cuda.Device(index)
        self.capturing = 0
        try:
            with self.device:
                self.stream = cupy.cuda.Stream(non_blocking=True)
                self.limits = self._read_limits()
                self.model = self.runtime.getDeviceProperties(index)["name"].decode()
        except Exception as error:
            raise device_error(self.name, "opening the device", error) from error

    def _read_limits(self) -> Limits:
        runtime, index = self.runtime, self.index
        return Limits(
            architecture=int(self.device.compute_capability),
            multiprocessors=runtime.deviceGetAttribute(
                runtime.cudaDevAttrMultiProcessorCount, index
            ),
            shared_memory=runtime.deviceGetAttribute(
                runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin, index
            ),
        )

    @contextmanager
    def activate(self, doing: str) -> Iterator[None]:
        """Make device and stream the current ones; errors of CUDA say what was being done."""
        if self.capturing == threading.get_ident():
            raise DeviceError(f"{self.name}: {doing} cannot be part of a CUDA graph.")
        try:
            with self.device:
                if not self.cuda.driver.ctxGetCurrent():
                    # A thread that is new to CUDA: the runtime's calls give it its context, the
                    # driver's fail without.
                    self.runtime.memGetInfo()
                user = self.cuda.get_current_stream(self.index)
                try:
                    with self.stream:
                        yield
                finally:
                    # CuPy 14 goes back to the stream of the `with` around, whatever the user
                    # chose by `use()` since.
                    if self.cuda.get_current_stream(self.index) is not user:
                        user.use()
        except Exception as error:
            self.raise_error(error, doing)

    def raise_error(self, error: Exception, doing: str) -> NoReturn:
        """Raise an error; one of CUDA's with what was being done."""
        if isinstance(error, DeviceError) or status(error) is None:
            raise error
        raise device_error(self.name, doing, error) from error

    def record_event(self, stream: Any) -> Any:
        """Return an event behind what has been queued on a stream of the current device."""
        event = self.cuda.Event(disable_timing=True)
        event.record(stream)
        return event

    def order(self, first: Any, first_device: int, then: Any, then_device: int) -> None:
        """Let stream `then` wait for what has been queued on `first`; the host does not."""
        if first.ptr == then.ptr and first_device == then_device:
            return
        with self.cuda.Device(first_device):
            event = self.record_event(first)
        with self.cuda.Device(then_device):
            then.wait_event(event)
