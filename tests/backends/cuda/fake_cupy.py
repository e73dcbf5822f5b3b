"""A stand-in for CuPy whose GPUs are host memory, to run the driver's code without a GPU.

It is as lazy as a GPU may be: copies and kernels run only when someone waits for their stream, in
the order that streams and events prescribe. So a value that was changed too early, or an order
that was not asked for, shows. A stream that is made `early` is the opposite: what is queued there
runs at once, unless an event that it waits for keeps it. Memory is never zero by itself.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

GARBAGE = 0xCD
MEMORY = 1 << 26  # bytes that can be allocated in one piece


class CUDARuntimeError(RuntimeError):
    def __init__(self, status: int, text: str = "an error") -> None:
        super().__init__(text)
        self.status = status


class CUDADriverError(CUDARuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


# Threads may queue work, and have it run, at the same time.
LOCK = threading.RLock()


class Array(np.ndarray):
    """cupy.ndarray."""

    def __array_finalize__(self, base: Any) -> None:
        self.where = getattr(base, "where", None)

    @property
    def device(self) -> Any:
        return self.where

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data)

    def __setitem__(self, key: Any, values: Any) -> None:
        target, values = self.view(np.ndarray), np.asarray(values)
        STATE.stream().push(lambda: target.__setitem__(key, values))

    def host(self) -> np.ndarray:
        return self.view(np.ndarray).copy()


class Stream:
    """cupy.cuda.Stream; `todo` is what is queued, `done` how much of all that has run."""

    pointers = itertools.count(1000)

    def __init__(self, non_blocking: bool = False) -> None:
        self.non_blocking, self.device = non_blocking, STATE.device
        self.ptr = next(self.pointers) if non_blocking else 0
        self.todo: list[Callable[[], None]] = []
        self.done = 0
        self.early = self.busy = False
        self.captured: list[Callable[[], None]] | None = None
        self.capturer = 0
        self.failure: Exception | None = None
        STREAMS[self.ptr] = self

    def push(self, work: Callable[[], None]) -> None:
        if self.captured is not None:
            assert self.capturer == threading.get_ident(), "caught up in another thread's capture"
        with LOCK:
            (self.todo if self.captured is None else self.captured).append(work)
            self.advance()

    def run(self, until: int) -> None:
        with LOCK:
            while self.done < until and self.todo:
                self.run_one()
            for stream in list(STREAMS.values()):
                stream.advance()

    def advance(self) -> None:
        """Run what can run, if early, and nothing of other streams."""
        while self.early and not self.busy and self.todo:
            if getattr(self.todo[0], "kept", bool)():
                break
            self.run_one()

    def run_one(self) -> None:
        assert not self.busy, "streams that wait for one another"
        self.busy, self.done = True, self.done + 1
        try:
            self.todo.pop(0)()
        finally:
            self.busy = False

    def synchronize(self) -> None:
        if self.failure:
            raise self.failure
        if self.captured is not None:
            raise CUDARuntimeError(900, "cudaErrorStreamCaptureUnsupported: stream is capturing")
        self.run(self.done + len(self.todo))

    def wait_event(self, event: Event) -> None:
        assert STATE.device == self.device
        self.push(Wait(*event.recorded))

    def begin_capture(self, mode: int) -> None:
        assert self.ptr and self.captured is None and STATE.device == self.device
        assert mode == Runtime.streamCaptureModeRelaxed
        if REFUSALS:
            raise REFUSALS.pop()
        self.captured, self.capturer = [], threading.get_ident()

    def end_capture(self) -> Any:
        captured, self.captured = self.captured, None
        assert captured is not None and self.capturer == threading.get_ident()
        return Graph(captured)

    def use(self) -> Stream:
        assert STATE.device == self.device
        STATE.stream()
        STATE.current[self.device] = self
        return self

    def __enter__(self) -> Stream:
        self.use()
        STATE.entered[self.device].append(self)
        return self

    def __exit__(self, *error: object) -> None:
        # As CuPy 14: back to what was entered before, not to what was in use.
        entered = STATE.entered[self.device]
        entered.pop()
        STATE.current[self.device] = entered[-1]


class Wait:
    """What a stream does that waits for another one."""

    def __init__(self, stream: Stream, until: int) -> None:
        self.stream, self.until = stream, until

    def kept(self) -> bool:
        return self.stream.done < self.until

    def __call__(self) -> None:
        self.stream.run(self.until)


class Graph:
    """cupy.cuda.Graph; it keeps no array alive."""

    def __init__(self, captured: list[Callable[[], None]]) -> None:
        self.captured = captured
        self.uploaded: list[Stream] = []
        self.launched: list[Stream] = []
        GRAPHS.append(self)

    def upload(self, stream: Stream) -> None:
        assert STATE.device == stream.device
        self.uploaded.append(stream)

    def launch(self, stream: Stream) -> None:
        assert STATE.device == stream.device
        self.launched.append(stream)
        for work in self.captured:
            stream.push(work)


class Event:
    recorded: tuple[Stream, int]

    def __init__(self, disable_timing: bool = False) -> None:
        self.device, self.timed = STATE.device, not disable_timing

    def record(self, stream: Stream) -> None:
        assert STATE.device == self.device == stream.device
        with LOCK:
            self.recorded = (stream, stream.done + len(stream.todo))

    def synchronize(self) -> None:
        stream, until = self.recorded
        stream.run(until)


def get_elapsed_time(first: Event, last: Event) -> float:
    """Return milliseconds: one for all that was queued between the two."""
    assert first.timed and last.timed and first.recorded[0] is last.recorded[0]
    assert last.recorded[0].done >= last.recorded[1], "the event has not happened"
    return float(last.recorded[1] - first.recorded[1])


class Device:
    def __init__(self, index: int) -> None:
        self.id = index
        self.compute_capability = "90"

    def __enter__(self) -> Device:
        STATE.before.append(STATE.device)
        if STATE.device != self.id:
            STATE.set_device(self.id)
        return self

    def __exit__(self, *error: object) -> None:
        STATE.set_device(STATE.before.pop())


class State(threading.local):
    """What each thread has of its own: current device, its current stream, a context."""

    def __init__(self) -> None:
        self.device = 0
        self.before: list[int] = []
        self.current: dict[int, Stream] = {}
        self.entered: dict[int, list[Stream]] = {}
        self.has_context = False

    def set_device(self, device: int) -> None:
        self.device, self.has_context = device, True

    def stream(self, device: int | None = None) -> Stream:
        """Return the current stream of a device; at first it is a new one, of the user's."""
        device = self.device if device is None else device
        if device not in self.current:
            kept, self.device = self.device, device
            self.current[device] = Stream(non_blocking=True)
            self.entered[device] = [self.current[device]]
            self.device = kept
        return self.current[device]


STATE = State()
STREAMS: dict[int, Stream] = {}
GRAPHS: list[Graph] = []
REFUSALS: list[Exception] = []  # what the next captures fail with


def reset() -> None:
    """Forget everything."""
    STREAMS.clear()
    GRAPHS.clear()
    REFUSALS.clear()
    POOL.set_limit(0)
    STATE.__init__()


class Pool:
    """cupy.cuda.MemoryPool."""

    limit = used = 0

    def set_limit(self, size: int) -> None:
        self.limit = size

    def get_limit(self) -> int:
        return self.limit

    def used_bytes(self) -> int:
        return self.used

    def free_bytes(self) -> int:
        return 234

    def keep(self, memory: np.ndarray) -> None:
        with LOCK:
            self.used += memory.nbytes
        weakref.finalize(memory, self._forget, memory.nbytes).atexit = False

    def _forget(self, nbytes: int) -> None:
        with LOCK:
            self.used -= nbytes


POOL = Pool()


def _move(target: int, origin: int, nbytes: int) -> Callable[[], None]:
    return lambda: ctypes.memmove(target, origin, nbytes) and None


def _array(memory: np.ndarray, device: int) -> Array:
    array = memory.view(Array)
    array.where = Device(device)
    return array


def empty(shape: Any, dtype: Any) -> Array:
    memory = np.empty(shape, dtype)
    if memory.nbytes > MEMORY or (POOL.limit and POOL.used + memory.nbytes > POOL.limit):
        raise OutOfMemoryError("no room")
    POOL.keep(memory)
    ctypes.memset(memory.ctypes.data, GARBAGE, memory.nbytes)
    return _array(memory, STATE.device)


def ascontiguousarray(array: Array) -> Array:
    assert array.device.id == STATE.device
    result = empty(array.shape, array.dtype)
    result[...] = array
    return result


def from_dlpack(value: Any) -> Array:
    return value.taken_over(STATE.stream())


def asarray(value: Any) -> Array:
    return value.taken_over(None)


def array_on(device: int, values: Any) -> Array:
    """Return a user's array that holds `values`."""
    return _array(np.array(values), device)


# Kernels: name -> number of arguments, and what it does with the 8 bytes of each.
KERNELS: dict[str, tuple[int, Callable[..., None]]] = {}


def need_context() -> None:
    """Fail as the driver's calls do in a thread that has made none of the runtime's."""
    if not STATE.has_context:
        raise CUDADriverError(201, "CUDA_ERROR_INVALID_CONTEXT: invalid device context")


class Module:
    def load(self, contents: bytes) -> None:
        need_context()
        self.contents = contents

    def get_function(self, name: str) -> Any:
        need_context()
        if name not in KERNELS:
            raise CUDADriverError(500, "CUDA_ERROR_NOT_FOUND: named symbol not found")
        return SimpleNamespace(ptr=1 + list(KERNELS).index(name), module=self)


class Driver:
    """cupy.cuda.driver; `launched` holds the geometry of all launches."""

    CUDADriverError = CUDADriverError
    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8

    def __init__(self) -> None:
        self.launched: list[tuple[Any, ...]] = []
        self.attributes: list[tuple[int, int, int]] = []
        self.failures: list[Exception] = []

    def ctxGetCurrent(self) -> int:
        return 12345 if STATE.has_context else 0

    def launchKernel(self, function: int, *arguments: Any) -> None:
        *geometry, stream, parameters, extra = arguments
        assert extra == 0
        self._launch(function, geometry, stream, parameters)

    def launchCooperativeKernel(self, function: int, *arguments: Any) -> None:
        *geometry, stream, parameters = arguments
        self._launch(function, ["cooperative", *geometry], stream, parameters)

    def _launch(self, function: int, geometry: list[Any], stream: int, parameters: int) -> None:
        if self.failures:
            raise self.failures.pop()
        need_context()
        assert STREAMS[stream].device == STATE.device
        self.launched.append(tuple(geometry))
        count, kernel = list(KERNELS.values())[function - 1]
        addresses = (ctypes.c_uint64 * count).from_address(parameters)
        values = [ctypes.c_uint64.from_address(address).value for address in addresses]
        STREAMS[stream].push(lambda: kernel(*values))

    def funcSetAttribute(self, function: int, attribute: int, value: int) -> None:
        need_context()
        self.attributes.append((function, attribute, value))

    def occupancyMaxActiveBlocksPerMultiprocessor(self, *arguments: int) -> int:
        need_context()
        return 2


class Bindings:
    """cuda.bindings.driver; `launched` holds the configurations of what it has launched."""

    CUlaunchAttributeID = SimpleNamespace(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION=6)

    def __init__(self, cupy: Any) -> None:
        self.driver = cupy.cuda.driver
        self.launched: list[Any] = []

    def CUlaunchAttribute(self) -> Any:
        return SimpleNamespace(id=None, value=SimpleNamespace())

    def CUlaunchConfig(self) -> Any:
        return SimpleNamespace()

    def cuLaunchKernelEx(self, config: Any, function: int, parameters: int, extra: int) -> Any:
        assert config.numAttrs == len(config.attrs)
        grid = (config.gridDimX, config.gridDimY, config.gridDimZ)
        block = (config.blockDimX, config.blockDimY, config.blockDimZ)
        geometry = (*grid, *block, config.sharedMemBytes, config.hStream)
        try:
            self.driver.launchKernel(function, *geometry, parameters, extra)
        except CUDADriverError as error:
            return (error.status,)
        self.launched.append(config)
        return (0,)


class Runtime:
    """cupy.cuda.runtime."""

    CUDARuntimeError = CUDARuntimeError
    streamCaptureModeRelaxed = 2
    memcpyHostToDevice, memcpyDeviceToHost, memcpyDeviceToDevice = 1, 2, 3
    cudaDevAttrMultiProcessorCount, cudaDevAttrMaxSharedMemoryPerBlockOptin = 16, 97

    def getDevice(self) -> int:
        return STATE.device

    def deviceGetAttribute(self, attribute: int, device: int) -> int:
        return {16: 132, 97: 232448}[attribute]

    def getDeviceProperties(self, device: int) -> dict[str, Any]:
        return {"name": b"NVIDIA Pretended"}

    def memGetInfo(self) -> tuple[int, int]:
        STATE.has_context = True
        return 1000, 5000

    def driverGetVersion(self) -> int:
        return 13000

    def runtimeGetVersion(self) -> int:
        return 13020

    def memcpyAsync(self, target: int, origin: int, nbytes: int, kind: int, stream: int) -> None:
        STREAMS[stream].push(_move(target, origin, nbytes))

    def memcpyPeerAsync(
        self, target: int, to: int, origin: int, of: int, nbytes: int, stream: int
    ) -> None:
        assert to != of
        STREAMS[stream].push(_move(target, origin, nbytes))

    def memsetAsync(self, target: int, value: int, nbytes: int, stream: int) -> None:
        assert STREAMS[stream].device == STATE.device
        STREAMS[stream].push(lambda: ctypes.memset(target, value, nbytes) and None)


def module() -> Any:
    """Return what `import cupy` is to give."""
    cuda = SimpleNamespace(
        Device=Device,
        Stream=Stream,
        Event=Event,
        get_elapsed_time=get_elapsed_time,
        alloc_pinned_memory=bytearray,
        get_current_stream=STATE.stream,
        runtime=Runtime(),
        driver=Driver(),
        function=SimpleNamespace(Module=Module),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        nvrtc=SimpleNamespace(getVersion=lambda: (13, 0)),
    )
    return SimpleNamespace(
        __version__="14.2.0",
        ndarray=Array,
        empty=empty,
        asarray=asarray,
        from_dlpack=from_dlpack,
        ascontiguousarray=ascontiguousarray,
        get_default_memory_pool=lambda: POOL,
        cuda=cuda,
    )
