"""What a backend offers to the layers above: memory, and calls bound to arrays."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np

from gpunn.errors import ArgumentTypeError, PlanError
from gpunn.randomness.permutation import KeyedPermutation

Arrays = Mapping[str, Any]
Attrs = Mapping[str, Any]
Call = Callable[[], None]
# Makes the call of one op from its arrays (by role), its constants and the rows of the batch.
Binder = Callable[[Arrays, Attrs, int], Call]
# A step of a program: its op, that op's arrays by role, its attributes.
BoundStep = tuple[str, Arrays, Attrs]


class PlannedStep(Protocol):
    """A call of a plan, as far as a backend looks at it before it is bound."""

    @property
    def op(self) -> str: ...

    @property
    def attrs(self) -> Attrs: ...


# Device types of DLPack (dlpack.h) whose memory the host, or CUDA, can read.
_DLPACK_HOST = (1, 3, 11)
_DLPACK_CUDA = (2, 13)


def is_foreign(value: Any) -> bool:
    """Return whether `value` is an array of another library than NumPy: CuPy, PyTorch, JAX ..."""
    if isinstance(value, np.ndarray | list | tuple):
        return False
    # In this order: a PyTorch tensor may raise when asked for the second.
    return hasattr(value, "__dlpack__") or hasattr(value, "__cuda_array_interface__")


def _dlpack_device(value: Any) -> int | None:
    """Return the type of the device that `value` is on; None for one over several, or deleted."""
    try:
        return int(value.__dlpack_device__()[0])
    except Exception:  # each library has its own
        return None


def is_on_cuda(value: Any) -> bool:
    """Return whether `value` is an array in the memory of a CUDA device."""
    if not is_foreign(value):
        return False
    if hasattr(value, "__dlpack_device__"):
        return _dlpack_device(value) in _DLPACK_CUDA
    return hasattr(value, "__cuda_array_interface__")


def host_array(value: Any) -> Any:
    """Return an array of another library as a NumPy array, anything else as it is.

    What lies on the host becomes a view; what lies on a device is copied once.

    Raises
    ------
    ArgumentTypeError
        The other library does not export it.
    """
    if not is_foreign(value):
        return value
    ways: list[Callable[[], Any]] = []
    if _dlpack_device(value) in _DLPACK_HOST:
        ways.append(lambda: np.from_dlpack(value))
    else:
        if hasattr(value, "get"):  # CuPy's
            ways.append(lambda: value.get())
        if hasattr(value, "__dlpack__"):
            ways.append(lambda: np.from_dlpack(value, device="cpu", copy=True))
    if hasattr(value, "__array__"):
        ways.append(lambda: np.asarray(value))
    if is_on_cuda(value):
        ways.append(lambda: _through_cupy(value))
    failure: Exception | None = None
    for way in ways:
        try:
            array = way()
        except Exception as error:
            failure = failure or error
            continue
        if isinstance(array, np.ndarray):
            return array
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    reason = f" ({failure})" if failure is not None else ""
    raise ArgumentTypeError(f"cannot bring an array of type {kind} to the host{reason}.")


def _through_cupy(value: Any) -> Any:
    import cupy

    return cupy.asarray(value).get()


class CopyStream(ABC):
    """A stream of copies from the host that run beside the calls, and events between the two.

    An event is done when all that its stream was given before is done. All methods may be called
    from any thread.
    """

    def rows_between(self, order: KeyedPermutation, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Return the rows at the positions from `start` to `stop` - 1 of an epoch's order, int64.

        As `KeyedPermutation.rows`, compiled. It is called by several threads at once.
        """
        from gpunn.backends.cpu.loops import random

        found = np.empty(stop - start, np.int64)
        scratch = np.empty(random.SCRATCH_SHAPE, np.uint64)
        random.fill_order(found, order.n, order.round_keys, start, scratch)
        return found

    @abstractmethod
    def allocate_pinned(self, nbytes: int) -> np.ndarray[Any, Any]:
        """Return page-locked memory of the host, uint8: the device reads no other by itself."""

    @abstractmethod
    def record_event(self) -> Any:
        """Return an event behind all calls so far."""

    @abstractmethod
    def copy(self, pairs: Sequence[tuple[Any, np.ndarray[Any, Any]]], after: Any) -> Any:
        """Have arrays on the device filled from pinned ones, once the event `after` is done.

        Parameters
        ----------
        pairs : sequence of (device array, array in pinned memory)
            C-contiguous, of the same size.
        after : event

        Returns
        -------
        event
            Behind the copies. The pinned memory must not change before that is done.
        """

    @abstractmethod
    def wait_event(self, event: Any) -> None:
        """Have all calls to come wait for an event; the host does not."""

    @abstractmethod
    def synchronize(self, event: Any) -> None:
        """Wait for an event on the host."""


class ArrayInterop:
    """How arrays come in from users and go out to them: without a device, all are NumPy's.

    Attributes
    ----------
    arrays : {"numpy", "cupy"}
        Whose arrays the memory is made of.
    """

    arrays: str = "numpy"

    def adopt(self, value: Any) -> Any:
        """Take in what a user gave as an array, which may be another library's.

        Returns a NumPy array or a device array where `value` is an array of another library,
        without a copy where possible, and anything else as it is.

        Raises
        ------
        ArgumentTypeError
            The other library does not export it.
        """
        return host_array(value)

    def current(self) -> AbstractContextManager[Any]:
        """Return a context within which NumPy's functions can be used on device arrays."""
        return nullcontext()

    def release(self, array: Any) -> Any:
        """Return a device array as the user's own: what they do with it waits for its values."""
        return array


class Backend(ArrayInterop, ABC):
    """A device and its table of ops.

    Attributes
    ----------
    name : str
        As in ``device=name``.
    precisions : tuple of str
        Of the matrix products, as in ``precision=``.
    graphs : bool
        Whether calls that are repeated may be handed to the device many at a time, where it can
        take them so. What they compute is the same.
    """

    name: str
    precisions: tuple[str, ...] = ("float32",)
    max_models: int | None = None
    graphs: bool = True

    @property
    @abstractmethod
    def operations(self) -> Mapping[str, Binder]:
        """The op table: op name to binder."""

    @abstractmethod
    def allocate(self, nbytes: int, models: int, *, zeroed: bool = True) -> Any:
        """Return memory, uint8, shape (models, nbytes), aligned.

        It may hold anything if `zeroed` is false.
        """

    def region_nbytes(self, region: Any) -> int:
        """Return the bytes per model of what `allocate` returned."""
        return int(region.shape[1])

    def view(self, region: Any, offset: int, shape: tuple[int, ...], dtype: str) -> Any:
        """Return part of a region as an array of shape ``(models, *shape)``."""
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        part = region[:, offset : offset + nbytes]
        return part.view(dtype).reshape(region.shape[0], *shape)

    @abstractmethod
    def upload(self, array: Any) -> Any:
        """Return `array` as a C-contiguous array on the device, without a copy where possible."""

    @abstractmethod
    def to_host(self, array: Any) -> np.ndarray[Any, Any]:
        """Return a NumPy copy of a device array."""

    @abstractmethod
    def write(self, array: Any, values: Any) -> None:
        """Copy host values into a device array of the same shape (or broadcast)."""

    def check_memory(self, nbytes: int, purpose: str) -> None:
        """Raise `DeviceError` if `nbytes`, which are for `purpose`, do not fit."""
        return

    def free_bytes(self) -> int | None:
        """Return how much memory data can still take; None where they stay where they are."""
        return None

    def copy_stream(self) -> CopyStream | None:
        """Return the stream that data are copied on; None where they stay where they are."""
        return None

    def synchronize(self) -> None:
        """Wait until all calls have run; a synchronous backend need not."""
        return

    def mark(self) -> Call | None:
        """Record an event; return a call that waits until all that was called before it has run.

        None for a synchronous backend.
        """
        return None

    def repeated(self, calls: Sequence[Call]) -> Callable[[int], None]:
        """Return what makes all of `calls`, in order, as many times as it is told.

        It is for calls that are made many times over: a device may take many of them as one.
        """
        calls = tuple(calls)

        def repeat(count: int) -> None:
            for _ in range(count):
                for call in calls:
                    call()

        return repeat

    def threads(self) -> AbstractContextManager[Any]:
        """Return a context within which the backend keeps to its number of threads."""
        return nullcontext()

    def describe(self) -> str:
        """Return the device in words: for the log and for benchmark rows."""
        return self.name

    def check(self, steps: Iterable[PlannedStep], precision: str, models: int) -> None:
        """Raise `PlanError` if an op, the precision or the number of models is not supported."""
        if precision not in self.precisions:
            raise PlanError(
                f"Device {self.name!r} does not compute in {precision}; use "
                f"{' or '.join(self.precisions)}."
            )
        if self.max_models is not None and models > self.max_models:
            raise PlanError(f"Device {self.name!r} trains {self.max_models} model(s) at once.")
        missing = sorted({step.op for step in steps} - set(self.operations))
        if missing:
            raise PlanError(f"Device {self.name!r} lacks the op(s) {', '.join(missing)}.")

    def bind(self, op: str, arrays: Arrays, attrs: Attrs, rows: int) -> Call:
        """Return the call of `op` on these arrays."""
        return self.operations[op](arrays, attrs, rows)

    def bind_program(self, steps: Sequence[BoundStep], rows: int, batch_size: int) -> list[Call]:
        """Return the calls of a program's steps: what serves one may depend on the others.

        `rows` are those of a batch, `batch_size` those of a full one.
        """
        return [self.bind(op, arrays, attrs, rows) for op, arrays, attrs in steps]
