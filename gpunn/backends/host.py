"""Memory of the backends that compute in NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.backends.interface import Backend

# Of a cache line and of the widest vector.
ALIGNMENT = 64


def aligned(nbytes: int) -> np.ndarray[Any, Any]:
    """Return so many zeros, uint8, from a multiple of `ALIGNMENT` on."""
    raw = np.zeros(nbytes + ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes]


class HostBackend(Backend):
    """A backend whose device memory is the host's."""

    def allocate(self, nbytes: int, models: int, *, zeroed: bool = True) -> Any:
        return aligned(models * nbytes).reshape(models, nbytes)

    def upload(self, array: Any) -> Any:
        return np.ascontiguousarray(array)

    def to_host(self, array: Any) -> np.ndarray[Any, Any]:
        return np.array(array)

    def write(self, array: Any, values: Any) -> None:
        array[...] = values
