"""What a backend offers to the layers above: memory, and calls bound to arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from gpunn.errors import PlanError

if TYPE_CHECKING:
    from gpunn.plan.spec import Step

Arrays = Mapping[str, Any]
Attrs = Mapping[str, Any]
Call = Callable[[], None]
# Makes the call of one op from its arrays (by role), its constants and the rows of the batch.
Binder = Callable[[Arrays, Attrs, int], Call]


class Backend(ABC):
    """A device and its table of ops.

    Attributes
    ----------
    name : str
        As in ``device=name``.
    dtypes : tuple of str
        Types it computes in.
    """

    name: str
    dtypes: tuple[str, ...] = ("float32",)
    max_models: int | None = None

    @property
    @abstractmethod
    def operations(self) -> Mapping[str, Binder]:
        """The op table: op name to binder."""

    @abstractmethod
    def allocate(self, nbytes: int, models: int) -> Any:
        """Return zeroed memory: `models` times `nbytes`, aligned."""

    @abstractmethod
    def region_nbytes(self, region: Any) -> int:
        """Return the bytes per model of what `allocate` returned."""

    @abstractmethod
    def view(self, region: Any, offset: int, shape: tuple[int, ...], dtype: str) -> Any:
        """Return part of a region as an array of shape ``(models, *shape)``."""

    @abstractmethod
    def upload(self, array: Any) -> Any:
        """Return `array` as a C-contiguous array on the device, without a copy where possible."""

    @abstractmethod
    def to_host(self, array: Any) -> np.ndarray[Any, Any]:
        """Return a NumPy copy of a device array."""

    @abstractmethod
    def write(self, array: Any, values: Any) -> None:
        """Copy host values into a device array of the same shape (or broadcast)."""

    def threads(self) -> AbstractContextManager[Any]:
        """Return a context within which the backend keeps to its number of threads."""
        return nullcontext()

    def describe(self) -> str:
        """Return the device in words: for the log and for benchmark rows."""
        return self.name

    def check(self, steps: Iterable[Step], dtype: str, models: int) -> None:
        """Raise `PlanError` if an op, the precision or the number of models is not supported."""
        if dtype not in self.dtypes:
            raise PlanError(
                f"Device {self.name!r} does not compute in {dtype}; use {' or '.join(self.dtypes)}."
            )
        if self.max_models is not None and models > self.max_models:
            raise PlanError(f"Device {self.name!r} trains {self.max_models} model(s) at once.")
        missing = sorted({step.op for step in steps} - set(self.operations))
        if missing:
            raise PlanError(f"Device {self.name!r} lacks the op(s) {', '.join(missing)}.")

    def bind(self, op: str, arrays: Arrays, attrs: Attrs, rows: int) -> Call:
        """Return the call of `op` on these arrays."""
        return self.operations[op](arrays, attrs, rows)
