"""From an op to its launches: what the tables ``ops_*.py`` are written with. Pure: no device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunn.backends.cuda.driver import Launch, Limits, Product, Source

Arrays = Mapping[str, Any]
Attrs = Mapping[str, Any]
Work = Launch | Product

THREADS = 256
WARP = 32
# Blocks of a reduction: each leaves one partial result, and one block adds them up in order.
MAX_PARTIALS = 256


@dataclass(frozen=True)
class Context:
    """What launches depend on besides their arrays.

    Attributes
    ----------
    limits : Limits
    workspace : callable
        ``workspace(nbytes)`` returns scratch memory (uint8) that is valid until the op's last
        launch; one op's scratch is the next one's.
    products : str
        "own" for the project's kernels, "library" for the device's library.
    """

    limits: Limits
    workspace: Callable[[int], Any]
    products: str = "own"


# arrays by role, constants, rows of the batch -> launches, in order
Binder = Callable[[Context, Arrays, Attrs, int], list[Work]]

# The kernel table: op -> (file in kernels/, symbols it may launch), and op -> its launches.
KERNELS: dict[str, tuple[str, tuple[str, ...]]] = {}
BINDERS: dict[str, Binder] = {}


def operation(file: str, *symbols: str, op: str = "") -> Callable[[Binder], Binder]:
    """Add a binder to the tables, under its own name or `op`; symbols default to that name."""

    def add(binder: Binder) -> Binder:
        name = op or binder.__name__
        KERNELS[name] = (file, symbols or (name,))
        BINDERS[name] = binder
        return binder

    return add


C_TYPES = {"float32": "float", "float64": "double"}


def kernel_source(file: str, dtype: Any, *defines: str) -> Source:
    """Return the source of `file` with ``real`` of type `dtype`."""
    return Source(file, (f"GPUNN_REAL={C_TYPES[np.dtype(dtype).name]}", *defines))


def ceil_div(a: int, b: int) -> int:
    """Return a / b, rounded up."""
    return -(-a // b)


def int32(value: int) -> np.int32:
    """A kernel argument of type int."""
    return np.int32(value)


def int64(value: int) -> np.int64:
    """A kernel argument of type int64."""
    return np.int64(value)


def elementwise_grid(size: int, limits: Limits, per_thread: int = 1) -> int:
    """Return the number of blocks of `THREADS` for a grid-stride loop over `size` values."""
    wanted = ceil_div(size, THREADS * per_thread)
    return min(wanted, 8 * limits.multiprocessors)
