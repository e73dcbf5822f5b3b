"""What bounds any training step on a device: its products and its memory, each alone.

Products are those of the device's own library, into memory that is there already; copies are the
device's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunn.backends.interface import Backend, Call


@dataclass(frozen=True)
class GemmShape:
    """``(m, k) @ (k, n)``; a flag says that the factor lies in memory as its transpose."""

    m: int
    k: int
    n: int
    transpose_left: bool = False
    transpose_right: bool = False

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.m * self.k * self.n

    @property
    def stored(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Shapes of the two factors in memory."""
        left = (self.k, self.m) if self.transpose_left else (self.m, self.k)
        right = (self.n, self.k) if self.transpose_right else (self.k, self.n)
        return left, right


def product_call(backend: Backend, shape: GemmShape, precision: str) -> Call:
    """Return a call that computes a product of this shape on random values.

    Raises
    ------
    DeviceError
        The device has no library, or that has no product in this precision.
    """
    rng = np.random.default_rng(0)
    driver = getattr(backend, "driver", None)
    dtype = "float64" if precision == "float64" else "float32"
    left, right = (rng.random(size).astype(dtype) for size in shape.stored)
    if driver is None:
        return _numpy_product(left, right, shape, dtype)
    from gpunn.backends.cuda.driver import LibraryProduct

    if precision == "bfloat16":  # the upper half of a float32; the fastest that there is
        left, right = ((x.view(np.uint32) >> 16).astype(np.uint16) for x in (left, right))
    result = driver.upload(np.zeros((shape.m, shape.n), dtype))
    flags = shape.transpose_left, shape.transpose_right
    call: Call = driver.prepare_product(
        LibraryProduct(
            driver.upload(left), driver.upload(right), result, *flags, precision=precision
        )
    )
    return call


def _numpy_product(left: Any, right: Any, shape: GemmShape, dtype: str) -> Call:
    result = np.empty((shape.m, shape.n), dtype)
    first = left.T if shape.transpose_left else left
    second = right.T if shape.transpose_right else right

    def call() -> None:
        np.matmul(first, second, out=result)

    return call


def copy_calls(backend: Backend, nbytes: int) -> dict[str, Callable[[], object]]:
    """Return ways to copy `nbytes` on the device: by one thread and, on the host, by all."""
    values = np.resize(np.arange(256, dtype=np.uint8), nbytes)
    driver = getattr(backend, "driver", None)
    if driver is not None:
        source, target = driver.upload(values), driver.allocate(nbytes)
        return {"device": lambda: driver.write(target, source)}
    copy = np.zeros_like(values)
    ways: dict[str, Callable[[], object]] = {"1 thread": lambda: np.copyto(copy, values)}
    threads = getattr(backend, "thread_count", None) or core_count()
    if threads > 1 and backend.name == "cpu":
        from gpunn.backends.cpu.threads.tasks import parallel_copy
        from gpunn.backends.cpu.threads.team import team

        ways[f"{threads} threads"] = parallel_copy(team(threads), values, copy)
    return ways


def core_count() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
