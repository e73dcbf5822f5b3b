"""The CPU backend: products in NumPy's BLAS or a team's own, everything else in compiled loops.

Each entry binds its arrays once; a training step is then a list of calls without arguments.
Scratch memory is taken when a call is bound, never when it runs. Exponentials and the like are
NumPy's own, which are vector code; they need a pass of their own but are faster than a loop that
calls the C library for each value.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import numba
import numpy as np

from gpunn.backends.cpu.ops import (
    activations,
    data,
    dense,
    expressions,
    joins,
    losses,
    normalization,
    optimizers,
    team,
)
from gpunn.backends.cpu.products import blas
from gpunn.backends.cpu.products.tiles import LANES
from gpunn.backends.host import HostBackend
from gpunn.backends.interface import Arrays, Attrs, Binder, BoundStep, Call
from gpunn.errors import DeviceError

OPERATIONS = (
    data.OPERATIONS
    | dense.OPERATIONS
    | activations.OPERATIONS
    | joins.OPERATIONS
    | losses.OPERATIONS
    | expressions.OPERATIONS
    | normalization.OPERATIONS
    | optimizers.OPERATIONS
)


class NumbaCPU(HostBackend):
    """The CPU.

    Parameters
    ----------
    threads : int, optional
        Of the BLAS while gpunn computes, and of a team for small batches, which takes no more
        than four; default: as many as the BLAS takes by itself.
    products : {"auto", "own", "library"}
        Who computes matrix products and updates: a team of threads with products of our own
        wherever it can, nobody but the BLAS, or whichever is faster. Own products are float32.

    Raises
    ------
    DeviceError
        The processor has no vectors for products of our own.
    """

    name = "cpu"
    precisions = ("float32", "float64")
    max_models = 1

    def __init__(
        self, threads: int | None = None, *, products: Literal["auto", "own", "library"] = "auto"
    ) -> None:
        if products == "own" and not LANES:
            raise DeviceError(
                "products='own' needs a processor with AVX2 or AVX-512; use 'auto' or 'library'."
            )
        self.thread_count = threads
        self.products = products

    @property
    def operations(self) -> dict[str, Binder]:
        return OPERATIONS

    def bind(self, op: str, arrays: Arrays, attrs: Attrs, rows: int) -> Call:
        return self.bind_program([(op, arrays, attrs)], rows, rows)[0]

    def bind_program(self, steps: Sequence[BoundStep], rows: int, batch_size: int) -> list[Call]:
        table = OPERATIONS
        if LANES and self.products != "library":
            always = self.products == "own"
            table = table | team.operations(steps, batch_size, self._threads, always=always)
        return [table[op](arrays, attrs, rows) for op, arrays, attrs in steps]

    def _threads(self) -> int:
        return self.thread_count or blas.thread_count() or 1

    def threads(self) -> AbstractContextManager[Any]:
        if self.thread_count is None:
            return nullcontext()
        limits: AbstractContextManager[Any] = blas.libraries().limit(limits=self.thread_count)
        return limits

    def describe(self) -> str:
        count = self.thread_count or blas.thread_count()
        count = count or numba.config.NUMBA_DEFAULT_NUM_THREADS  # type: ignore[attr-defined]
        plural = "" if count == 1 else "s"
        versions = f"NumPy {np.__version__}, numba {numba.__version__}"
        return f"cpu ({count} thread{plural}, {versions})"
