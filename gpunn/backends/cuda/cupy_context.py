"""A GPU opened through CuPy: its device, the stream of all calls, errors that say what failed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from gpunn.backends.cuda.driver import Limits
from gpunn.errors import DeviceError

# Statuses of CUDA
OUT_OF_MEMORY = 2
BUSY = 46
NO_SUCH_DEVICE = (100, 101)
# After these nothing more runs in the process: memory errors of a kernel, traps, a kernel that
# ran too long, an assertion, a fault of the hardware.
LOST = (214, 220, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721)


def status(error: BaseException) -> int | None:
    """Return the status of an error that CUDA reported through CuPy, None if it is no such."""
    value = getattr(error, "status", None)
    return value if isinstance(error, RuntimeError) and isinstance(value, int) else None


def device_error(device: str, doing: str, error: Exception) -> DeviceError:
    """Return the error to raise in place of one of CUDA's."""
    if isinstance(error, DeviceError):
        return error
    # The statuses of cuBLAS and NVRTC are numbers of their own.
    code = status(error) if type(error).__name__.startswith("CUDA") else None
    said = f"{device}: {doing} failed: {error}"
    if code in LOST:
        return DeviceError(
            f"{said}. The kernel at fault may be any of those called before. Nothing more runs on "
            "the GPU in this process: restart it. `compute-sanitizer python ...` (CUDA toolkit) "
            "names the kernel and the address."
        )
    if code == OUT_OF_MEMORY:
        return DeviceError(f"{said}. Use a smaller batch_size or a smaller model.")
    if code == BUSY:
        return DeviceError(f"{said}. Another process may hold the GPU; see nvidia-smi.")
    if code in NO_SUCH_DEVICE:
        return DeviceError(f"{said}. `gpunn devices` lists those there are.")
    return DeviceError(f"{said}.")


def memory_error(device: str, nbytes: int, free: int, total: int) -> DeviceError:
    """Return the error of an allocation that does not fit."""
    return DeviceError(
        f"{device}: {nbytes:,} bytes of memory were asked for; {free:,} of {total:,} are free. Use "
        "a smaller batch_size or a smaller model."
    )


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
