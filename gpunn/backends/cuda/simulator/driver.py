"""The simulator: a driver that runs the CUDA kernels on the host, and checks what they do.

The kernels are compiled by the host's C++ compiler and run on NumPy memory
(``kernels/simulator`` holds what CUDA supplies). It stops at what a GPU may pass over in
silence: writes beside an allocation, reads of memory that was never written (they give NaN),
barriers that not all threads reach, arguments of the wrong type. What it cannot show is memory
ordering between running threads, and speed.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gpunn.backends.cuda.driver import Dimensions, Driver, Launch, LibraryProduct, Limits
from gpunn.backends.cuda.simulator import checks, compiler
from gpunn.backends.cuda.simulator.copy_stream import SimulatorCopyStream
from gpunn.backends.interface import Call
from gpunn.errors import DeviceError

# Before and behind every allocation; as GUARD_BYTES in kernels/simulator/runtime.hpp.
GUARD = 1024
ALIGNMENT = 256
# What memory that was never written holds, repeated: NaN as float32 and as float64.
UNWRITTEN = 0xFFFA

# The compiled kernels keep their state in global variables.
_LOCK = threading.Lock()


class _MemoryStruct(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("nbytes", ctypes.c_int64)]


class _LaunchStruct(ctypes.Structure):
    """As ``struct Launch`` in kernels/simulator/runtime.hpp."""

    _fields_ = [
        ("kernel", ctypes.c_int32),
        ("cooperative", ctypes.c_int32),
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("shared", ctypes.c_int64),
        ("shuffled", ctypes.c_int32),
        ("memories", ctypes.c_int32),
        ("seed", ctypes.c_uint64),
        ("arguments", ctypes.c_void_p),
        ("memory", ctypes.c_void_p),
        ("message", ctypes.c_char_p),
        ("message_size", ctypes.c_int64),
        ("damaged", ctypes.c_int32),
        ("damaged_offset", ctypes.c_int64),
    ]


class LaunchRecord(NamedTuple):
    """What `SimulatorDriver.log` keeps of a launch."""

    symbol: str
    grid: Dimensions
    block: Dimensions
    shared: int


@dataclass(frozen=True)
class _Allocation:
    start: int
    nbytes: int


class SimulatorDriver(Driver):
    """Kernels on the host.

    Parameters
    ----------
    seed : int, optional
        Draw the order in which threads and blocks run from this seed, anew after every barrier.
        A kernel that lacks a barrier then gives other results. By default they run in order.
    architecture, multiprocessors, shared_memory : int
        The GPU to play (see `Limits`); an H100 by default.
    memory : int, optional
        Bytes that can be allocated; by default what the machine has free.
    log : bool
        Keep a `LaunchRecord` of every launch in `log`.

    Attributes
    ----------
    log : list of LaunchRecord, or None

    Raises
    ------
    DeviceError
        There is no C++ compiler, or ``$CXX`` is none.
    """

    name = model = "simulator"
    timed = False

    def __init__(
        self,
        seed: int | None = None,
        *,
        architecture: int = 90,
        multiprocessors: int = 132,
        shared_memory: int = 232448,
        memory: int | None = None,
        log: bool = False,
    ) -> None:
        self.limits = Limits(architecture, multiprocessors, shared_memory)
        self.seed = seed
        self.log: list[LaunchRecord] | None = [] if log else None
        self.launches = self.replays = 0
        self._compiler = compiler.find_compiler()
        self._memory = memory
        self._used = 0
        self._allocations: dict[int, _Allocation] = {}  # by id of the array that owns the memory
        self._message = ctypes.create_string_buffer(2048)
        self._copy_stream = SimulatorCopyStream(self._is_allocated)

    def describe(self) -> str:
        major, minor = divmod(self.limits.architecture, 10)
        return (
            f"simulator of a GPU of compute capability {major}.{minor} with "
            f"{self.limits.multiprocessors} multiprocessors; kernels compiled by "
            f"{compiler.compiler_version(self._compiler)}"
        )

    # Memory

    def allocate(self, nbytes: int, *, zeroed: bool = True) -> Any:
        free = self.free_bytes()
        if nbytes > free:
            raise DeviceError(
                f"the simulator cannot allocate {nbytes:,} bytes: {free:,} are free; use a smaller "
                "batch_size, model or data set"
            )
        raw = np.zeros(nbytes + 2 * GUARD + ALIGNMENT, dtype=np.uint8)
        first = raw.ctypes.data
        start = -(-(first + GUARD) // ALIGNMENT) * ALIGNMENT
        before, behind = start - first, start - first + nbytes
        array = raw[before:behind]
        raw[before - GUARD : before] = _guard(start - GUARD)
        raw[behind : behind + GUARD] = _guard(start + nbytes)
        if not zeroed:
            array[: nbytes // 2 * 2].view(np.uint16)[:] = UNWRITTEN
            array[nbytes // 2 * 2 :] = UNWRITTEN % 256
        self._allocations[id(raw)] = _Allocation(start, nbytes)
        self._used += nbytes
        weakref.finalize(raw, self._forget, id(raw)).atexit = False
        return array

    def _forget(self, owner: int) -> None:
        self._used -= self._allocations.pop(owner).nbytes

    def free_bytes(self) -> int:
        return _host_free_bytes() if self._memory is None else max(self._memory - self._used, 0)

    def _allocation(self, array: Any) -> _Allocation | None:
        """Return the allocation that an array is part of."""
        while isinstance(array, np.ndarray) and array.base is not None:
            array = array.base
        return self._allocations.get(id(array))

    def _is_allocated(self, array: Any) -> bool:
        return self._allocation(array) is not None

    def copy_stream(self) -> SimulatorCopyStream:
        return self._copy_stream

    def upload(self, array: Any) -> Any:
        if isinstance(array, np.ndarray) and array.flags.c_contiguous and self._allocation(array):
            return array
        values = np.ascontiguousarray(array)
        result = self.allocate(values.nbytes).view(values.dtype).reshape(np.shape(array))
        result[...] = values.reshape(np.shape(array))
        return result

    def download(self, array: Any) -> np.ndarray[Any, Any]:
        return np.array(array)

    def write(self, array: Any, values: Any) -> None:
        array[...] = values

    # Launches

    def prepare(self, launch: Launch) -> Call:
        name = f"kernel {launch.symbol} ({Path(launch.source.file).name})"
        library = compiler.load(launch.source, self.limits.architecture)
        kernel = library.kernels.get(launch.symbol)
        if kernel is None:
            known = ", ".join(library.kernels)
            raise DeviceError(f"{name} does not exist; the file has: {known}")
        reason = checks.geometry_error(launch, kernel, self.limits)
        reason = reason or checks.argument_error(launch, kernel, self._is_allocated)
        if reason:
            raise DeviceError(f"{name} cannot be launched: {reason}")

        values = [
            ctypes.c_void_p(None if one is None else one.ctypes.data)
            if one is None or isinstance(one, np.ndarray)
            else ctypes.create_string_buffer(one.tobytes(), one.nbytes)
            for one in launch.arguments
        ]
        pointers = (ctypes.c_void_p * (len(values) or 1))(*map(ctypes.addressof, values))
        owners: dict[_Allocation, int] = {}
        for index, array in enumerate(launch.arguments):
            if isinstance(array, np.ndarray) and (owner := self._allocation(array)):
                owners.setdefault(owner, index)
        memory = (_MemoryStruct * (len(owners) or 1))(
            *(_MemoryStruct(one.start, one.nbytes) for one in owners)
        )
        packed = _LaunchStruct(
            kernel=kernel.number,
            cooperative=launch.cooperative,
            grid=launch.grid,
            block=launch.block,
            shared=launch.shared,
            shuffled=self.seed is not None,
            memories=len(owners),
            arguments=ctypes.addressof(pointers),
            memory=ctypes.addressof(memory),
            message=ctypes.addressof(self._message),
            message_size=len(self._message),
        )
        kept = (values, pointers, memory, launch.arguments)
        reference, run = ctypes.byref(packed), library.handle.gpunn_launch
        record = LaunchRecord(launch.symbol, launch.grid, launch.block, launch.shared)
        places = [(index, owner.nbytes) for owner, index in owners.items()]

        def call(_kept: Any = kept) -> None:
            with _LOCK:
                if self.seed is not None:
                    packed.seed = (self.seed * 0x9E3779B97F4A7C15 + self.launches) % 2**64
                self.launches += 1
                if self.log is not None:
                    self.log.append(record)
                failed = run(reference)
                if failed:
                    raise DeviceError(f"{name}: {self._failure(failed, packed, places)}")

        return call

    def _failure(self, code: int, packed: _LaunchStruct, places: list[tuple[int, int]]) -> str:
        if code == 1:
            return self._message.value.decode(errors="replace")
        if packed.damaged < 0:
            what, nbytes = "its shared memory", packed.shared
        else:
            index, nbytes = places[packed.damaged]
            what = f"the memory of arguments[{index}]"
        offset = packed.damaged_offset
        beside = f"{-offset} bytes before" if offset < 0 else f"{offset - nbytes} bytes behind"
        return f"wrote {beside} {what} ({nbytes} bytes)"

    def prepare_product(self, product: LibraryProduct) -> Call:
        left, right, result = product.left, product.right, product.result
        for name, array in (("left", left), ("right", right), ("result", result)):
            half = array.dtype == np.uint16 and array is not result
            reason = checks.array_error(
                array, "u2" if half else f"f{array.dtype.itemsize}", self._is_allocated
            )
            if reason:
                raise DeviceError(f"product: {name} is {reason}")
        left = left.T if product.transpose_left else left
        right = right.T if product.transpose_right else right

        def call() -> None:
            self.launches += 1
            first, second = (rounded(factor, product.kind) for factor in (left, right))
            np.matmul(first, second, out=result)

        return call

    def capture(self, calls: Sequence[Call]) -> Call:
        recorded = tuple(calls)

        def replay() -> None:
            self.replays += 1
            for call in recorded:
                call()

        return replay

    def mark(self) -> Call:
        return self.synchronize

    def synchronize(self) -> None:
        """Nothing to wait for: a call returns when its kernel has run, or raises."""


def rounded(values: np.ndarray[Any, Any], precision: str) -> np.ndarray[Any, Any]:
    """Return the factor of a product as tensor cores take it, in float32.

    TF32 has 10 bits of fraction and rounds ties away from zero, as our kernels do it; bfloat16 has
    7 and rounds ties to even.
    """
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    if precision not in ("tf32", "bfloat16"):
        return values
    bits = np.ascontiguousarray(values).view(np.uint32)
    if precision == "tf32":
        near = bits + np.uint32(1 << 12) & np.uint32(0xFFFFE000)
    else:
        near = bits + np.uint32(0x7FFF) + (bits >> 16 & 1) & np.uint32(0xFFFF0000)
    special = bits & 0x7F800000 == 0x7F800000  # infinities and NaN stay what they are
    return np.where(special, bits, near).view(np.float32)


def _guard(address: int) -> np.ndarray[Any, Any]:
    """Return the guard that starts at `address`; as guard_at in kernels/simulator/memory.hpp."""
    words = np.arange(address // 4, address // 4 + GUARD // 4 + 1, dtype=np.uint64) * 4
    guard = (0xFFFA0000 | (words * 2654435761 & 0xFFFFFFFF) >> 16).astype("<u4")
    return guard.view(np.uint8)[address % 4 :][:GUARD]


def _host_free_bytes() -> int:
    """Return the free memory of this machine, or all of it where it does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
