"""Memory of an NVIDIA GPU, through CuPy: the half of the driver below kernels.

None of CuPy's own kernels are used where an array is contiguous: those have to be compiled.
"""

from __future__ import annotations

import threading
from abc import ABC
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from gpunn.backends.cuda.cupy_context import CupyContext, memory_error
from gpunn.backends.cuda.cupy_copy_stream import CupyCopyStream
from gpunn.backends.cuda.driver import Driver
from gpunn.backends.interface import Call, host_array, is_on_cuda
from gpunn.errors import ArgumentTypeError

STAGING = 1 << 16  # bytes of pinned memory that small values are written through
STAGED = 1 << 12  # larger values are copied while the host waits


class CupyMemory(Driver, ABC):
    """A GPU without kernels.

    Parameters
    ----------
    index : int
        CUDA's number of the device.

    Raises
    ------
    DeviceError
        The device cannot be used.
    """

    arrays = "cupy"

    def __init__(self, index: int = 0) -> None:
        self._context = context = CupyContext(index)
        self._cupy, self._cuda, self._runtime = context.cupy, context.cuda, context.runtime
        self.index, self.name, self.model = index, context.name, context.model
        self._device, self._stream, self.limits = context.device, context.stream, context.limits
        self._activate = context.activate
        with self._activate("opening the device"):
            pinned = self._cuda.alloc_pinned_memory(STAGING)
            self._staging = np.frombuffer(pinned, np.uint8, STAGING)
        self._staged = 0
        self._staging_lock = threading.Lock()
        # Whether this thread has brought in another library's memory, for calls to read.
        self._borrowed = threading.local()
        self._copy_stream: CupyCopyStream | None = None

    def describe(self) -> str:
        cuda = self._runtime.driverGetVersion()
        versions = f"CuPy {self._cupy.__version__}, CUDA {cuda // 1000}.{cuda % 1000 // 10}"
        return f"{self.name} ({self.model}, sm_{self.limits.architecture}, {versions})"

    def current(self) -> AbstractContextManager[Any]:
        return self._device

    # Allocation

    def allocate(self, nbytes: int, *, zeroed: bool = True) -> Any:
        # CuPy keeps what is freed for the stream that it was allocated on. Arrays that were handed
        # out come back that way, perhaps before what the user has queued on them is done.
        self._wait_for_user()
        with self._activate(f"allocating {nbytes:,} bytes"):
            try:
                # Aligned to 512 bytes.
                array = self._cupy.empty(nbytes, dtype=np.uint8)
            except self._cuda.memory.OutOfMemoryError as error:
                free, total = self._runtime.memGetInfo()
                raise memory_error(self.name, nbytes, free, total) from error
            if zeroed and nbytes:
                self._runtime.memsetAsync(array.data.ptr, 0, nbytes, self._stream.ptr)
            return array

    def free_bytes(self) -> int:
        with self._activate("asking for the free memory"):
            pool = self._cupy.get_default_memory_pool()
            free = int(self._runtime.memGetInfo()[0]) + int(pool.free_bytes())
            limit = int(pool.get_limit())  # 0 for none
            return max(min(free, limit - int(pool.used_bytes())), 0) if limit else free

    def copy_stream(self) -> CupyCopyStream:
        if self._copy_stream is None:
            with self._activate("opening a stream for copies"):
                self._copy_stream = CupyCopyStream(self._context)
        return self._copy_stream

    def _empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        return self.allocate(nbytes, zeroed=False).view(dtype).reshape(shape)

    # Order between streams

    def _wait_for_user(self) -> None:
        user = self._cuda.get_current_stream(self.index)
        with self._activate("waiting for CuPy's current stream"):
            self._context.order(user, self.index, self._stream, self.index)

    def _let_user_wait(self) -> None:
        user = self._cuda.get_current_stream(self.index)
        with self._activate("handing out an array"):
            self._context.order(self._stream, self.index, user, self.index)

    def release(self, array: Any) -> Any:
        """Return a device array for use on the current stream, after all that was called.

        Where an array of another library is among what was called, the host waits for its last
        reader: that library has streams of its own, and may overwrite the array at once.
        """
        self._let_user_wait()
        if getattr(self._borrowed, "some", False):
            self.synchronize()
            self._borrowed.some = False
        return array

    def synchronize(self) -> None:
        with self._activate("waiting for the device"):
            self._stream.synchronize()

    def mark(self) -> Call:
        with self._activate("recording an event"):
            event = self._context.record_event(self._stream)

        def wait() -> None:
            with self._activate("waiting for the device"):
                event.synchronize()

        return wait

    # Copies

    def adopt(self, value: Any) -> Any:
        """Return an array of another library as NumPy's or CuPy's, without a copy if possible.

        On the GPU it is valid on CuPy's current stream.
        """
        if isinstance(value, self._cupy.ndarray):
            array = value
        elif is_on_cuda(value):
            array = self._as_cupy(value)
        else:
            return host_array(value)
        origin = int(array.device.id)
        return array if origin == self.index else self._from_other_device(array, origin)

    def _as_cupy(self, value: Any) -> Any:
        self._borrowed.some = True
        try:
            with self._device:
                if hasattr(value, "__dlpack__"):
                    # The other library makes CuPy's current stream wait for its own.
                    return self._cupy.from_dlpack(value)
                return self._cupy.asarray(value)
        except Exception as error:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise ArgumentTypeError(
                f"cannot take over an array of type {kind} on the GPU ({error})."
            ) from error

    def _from_other_device(self, array: Any, origin: int) -> Any:
        cuda = self._cuda
        there, here = cuda.get_current_stream(origin), cuda.get_current_stream(self.index)
        result = self._empty(array.shape, array.dtype)
        with self._activate(f"copying from cuda:{origin}"):
            if not array.flags.c_contiguous:
                with cuda.Device(origin):
                    array = self._cupy.ascontiguousarray(array)
            self._context.order(there, origin, self._stream, self.index)
            self._runtime.memcpyPeerAsync(
                *(result.data.ptr, self.index, array.data.ptr, origin),
                *(array.nbytes, self._stream.ptr),
            )
            # The user may change the original, and use the copy.
            self._context.order(self._stream, self.index, there, origin)
            self._context.order(self._stream, self.index, here, self.index)
        return result

    def upload(self, array: Any) -> Any:
        array = self.adopt(array)
        if not isinstance(array, self._cupy.ndarray):
            host = np.asarray(array, order="C")
            result = self._empty(host.shape, host.dtype)
            self._copy_from_host(result, host)
            return result
        self._wait_for_user()
        if array.flags.c_contiguous:
            return array
        with self._activate("copying an array"):
            result = self._cupy.ascontiguousarray(array)
        self._let_user_wait()  # the user may change the original now
        return result

    def download(self, array: Any) -> np.ndarray[Any, Any]:
        result = np.empty(array.shape, array.dtype)
        with self._activate("copying to the host"):
            if not array.flags.c_contiguous:
                array = self._cupy.ascontiguousarray(array)
            if array.nbytes:
                kind = self._runtime.memcpyDeviceToHost
                target, origin = result.ctypes.data, array.data.ptr
                self._runtime.memcpyAsync(target, origin, array.nbytes, kind, self._stream.ptr)
            self._stream.synchronize()
        return result

    def write(self, array: Any, values: Any) -> None:
        if not array.nbytes:
            return
        given, values = values, self.adopt(values)
        if isinstance(values, self._cupy.ndarray):
            self._write_from_device(array, values)
            if values is not given:  # another library's, which may change them now
                self.synchronize()
        elif not array.flags.c_contiguous:
            self._write_from_device(array, self.upload(values))
        else:
            with self._activate("writing values"):
                self._write_from_host(array, values)

    def _write_from_device(self, array: Any, values: Any) -> None:
        self._wait_for_user()
        with self._activate("writing values"):
            same = (values.shape, values.dtype) == (array.shape, array.dtype)
            if same and array.flags.c_contiguous:
                kind = self._runtime.memcpyDeviceToDevice
                target, origin = array.data.ptr, values.data.ptr
                self._runtime.memcpyAsync(target, origin, array.nbytes, kind, self._stream.ptr)
            else:
                array[...] = values
        self._let_user_wait()  # the user may change the values now

    def _write_from_host(self, array: Any, values: Any) -> None:
        if array.nbytes <= STAGED:
            with self._staging_lock:
                staged = self._stage(array.nbytes).view(array.dtype).reshape(array.shape)
                staged[...] = values
                self._enqueue_from_host(array, staged)
            return
        host = np.asarray(values)
        if host.size == 1:
            one = host.reshape(()).astype(array.dtype).tobytes()
            if len(set(one)) == 1:  # zero, say
                self._runtime.memsetAsync(array.data.ptr, one[0], array.nbytes, self._stream.ptr)
                return
        if host.dtype != array.dtype or host.shape != array.shape or not host.flags.c_contiguous:
            host = np.empty(array.shape, array.dtype)
            host[...] = values
        self._copy_from_host(array, host)

    def _stage(self, nbytes: int) -> Any:
        """Return pinned memory that no copy still reads."""
        if self._staged + nbytes > STAGING:
            self._stream.synchronize()
            self._staged = 0
        start = self._staged
        self._staged = start + -(-nbytes // 16) * 16
        return self._staging[start : start + nbytes]

    def _copy_from_host(self, array: Any, host: np.ndarray[Any, Any]) -> None:
        """Copy, and wait: a GPU that reads the host's pages itself may do so later."""
        if host.nbytes:
            with self._activate("copying to the device"):
                self._enqueue_from_host(array, host)
                self._stream.synchronize()

    def _enqueue_from_host(self, array: Any, host: np.ndarray[Any, Any]) -> None:
        kind = self._runtime.memcpyHostToDevice
        target, origin = array.data.ptr, host.ctypes.data
        self._runtime.memcpyAsync(target, origin, host.nbytes, kind, self._stream.ptr)
