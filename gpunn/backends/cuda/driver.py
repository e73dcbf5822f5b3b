"""What the CUDA backend needs of a device: the interface that CuPy and the simulator share."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunn.backends.interface import ArrayInterop, Call, CopyStream
from gpunn.errors import DeviceError

Dimensions = tuple[int, int, int]


class LibraryError(DeviceError):
    """The device's library of matrix products is not there, or has no such product."""


@dataclass(frozen=True)
class Limits:
    """What the geometry of launches depends on.

    Attributes
    ----------
    architecture : int
        Compute capability, 90 for sm_90.
    multiprocessors : int
    shared_memory : int
        Bytes of shared memory that a block may ask for.
    """

    architecture: int
    multiprocessors: int
    shared_memory: int


@dataclass(frozen=True)
class KernelSource:
    """A kernel file and how it is compiled.

    Attributes
    ----------
    file : str
        Name in ``kernels/``.
    defines : tuple of str
        Macros, such as ``"GPUNN_REAL=float"``.
    """

    file: str
    defines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Launch:
    """One kernel launch, all but the device.

    Attributes
    ----------
    source : KernelSource
    symbol : str
        Name of the ``extern "C"`` kernel.
    grid, block : tuple of three int
        Blocks, and threads of a block.
    arguments : tuple
        Device arrays (passed as pointers), None (a null pointer), and NumPy scalars of the
        parameter's own type.
    shared : int
        Bytes of dynamic shared memory; kernels use no other.
    cooperative : bool
        Whether blocks wait for one another, so that all must run at once.
    """

    source: KernelSource
    symbol: str
    grid: Dimensions
    block: Dimensions
    arguments: tuple[Any, ...]
    shared: int = 0
    cooperative: bool = False


@dataclass(frozen=True)
class LibraryProduct:
    """``result = left @ right`` by the device's own library, in place of a kernel of ours.

    Attributes
    ----------
    left, right, result : arrays, two-dimensional
        C-contiguous in memory; a flag says that the transpose is meant. Where the precision is
        "bfloat16" the factors may be such numbers already, as uint16.
    transpose_left, transpose_right : bool
    precision : {"float32", "float64", "tf32", "bfloat16"}, optional
        What the factors are rounded to; default: the type of the result, as IEEE defines it.
    """

    left: Any
    right: Any
    result: Any
    transpose_left: bool = False
    transpose_right: bool = False
    precision: str | None = None

    @property
    def kind(self) -> str:
        """The precision, also where none was given."""
        return self.precision or str(self.result.dtype.name)


class Driver(ArrayInterop, ABC):
    """A device that runs kernels in the order in which they are called.

    Arrays are ``ndarray``-like (``shape``, ``dtype``, ``nbytes``, slices, ``reshape``, ``view``):
    CuPy's on a GPU, NumPy's in the simulator.

    Attributes
    ----------
    name : str
        As in ``device=name``.
    model : str
        What the device is called by its maker.
    timed : bool
        Whether times taken on it say anything of a GPU.
    limits : Limits
    launches : int
        Kernels and library products run so far, those of graphs among them.
    replays : int
        Graphs launched so far.
    dependent_launches : bool
        Whether kernels prepared from now on are put in place while those before them still run.
        GPUs before sm_90 cannot do it: there it stays False. Of no effect in the simulator.
    """

    name: str
    model: str = ""
    timed: bool = True
    limits: Limits
    launches: int = 0
    replays: int = 0
    dependent_launches: bool = False

    @abstractmethod
    def describe(self) -> str:
        """Return the device in words."""

    @abstractmethod
    def allocate(self, nbytes: int, *, zeroed: bool = True) -> Any:
        """Return `nbytes` as a uint8 array, aligned to 256 bytes.

        Raises
        ------
        DeviceError
            There is not so much memory; the message gives the bytes asked for and free.
        """

    @abstractmethod
    def free_bytes(self) -> int:
        """Return how much memory can still be allocated, limits that the user has set included."""

    def copy_stream(self) -> CopyStream | None:
        """Return the stream for copies beside the calls, always the same; None if there is none."""
        return None

    @abstractmethod
    def upload(self, array: Any) -> Any:
        """Return `array` as a C-contiguous device array; itself, if it is one."""

    @abstractmethod
    def download(self, array: Any) -> np.ndarray[Any, Any]:
        """Return a NumPy copy, when all that was called has run."""

    @abstractmethod
    def write(self, array: Any, values: Any) -> None:
        """Copy `values` (host or device, broadcast) into a device array, in order with the calls.

        `values` may be changed as soon as this returns.
        """

    @abstractmethod
    def prepare(self, launch: Launch) -> Call:
        """Compile and load the kernel, pack the arguments; return a call that launches it.

        The call keeps the arrays alive, allocates nothing, and does not wait for the device.
        """

    @abstractmethod
    def prepare_product(self, product: LibraryProduct) -> Call:
        """Return a call that computes `product`; like that of `prepare`, it can be captured.

        Raises
        ------
        DeviceError
            The library cannot be used, or has no such product.
        """

    def check_library(self) -> None:
        """Raise `LibraryError` where products by the device's library cannot be had."""
        return

    @abstractmethod
    def capture(self, calls: Sequence[Call]) -> Call:
        """Return one call that makes all the given ones.

        These have been made by `prepare` and `prepare_product`. None is made now, and what other
        threads call meanwhile is no part of it.

        Raises
        ------
        DeviceError
            The device cannot take them as one.
        """

    @abstractmethod
    def mark(self) -> Call:
        """Record an event; return a call that waits until all that was called before it has run."""

    def seconds(self, call: Call) -> float:
        """Return how long `call` takes, when all that was called before it has run."""
        self.synchronize()
        began = time.perf_counter()
        call()
        self.synchronize()
        return time.perf_counter() - began

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until all that was called has run.

        Raises
        ------
        DeviceError
            A kernel failed.
        """
