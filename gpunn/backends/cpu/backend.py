"""The CPU backend: products in NumPy's BLAS or a team's own, everything else in compiled loops.

Each entry binds its arrays once; a training step is then a list of calls without arguments.
Scratch memory is taken when a call is bound, never when it runs. Exponentials and the like are
NumPy's own, which are vector code; they need a pass of their own but are faster than a loop that
calls the C library for each value.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal

import numba
import numpy as np

from gpunn.backends.cpu.loops import activations as kernels
from gpunn.backends.cpu.loops import random as numba_random
from gpunn.backends.cpu.ops import activations as cpu_activations
from gpunn.backends.cpu.ops import dense as cpu_dense
from gpunn.backends.cpu.ops import expressions as cpu_expressions
from gpunn.backends.cpu.ops import losses as cpu_losses
from gpunn.backends.cpu.ops import normalization as numba_normalization
from gpunn.backends.cpu.ops import optimizers as cpu_updates
from gpunn.backends.cpu.ops.calls import none as _none
from gpunn.backends.cpu.ops.calls import run as _run
from gpunn.backends.cpu.products import blas
from gpunn.backends.cpu.products.tiles import LANES
from gpunn.backends.cpu.threads import choice as cpu_team
from gpunn.backends.host import HostBackend
from gpunn.backends.interface import Arrays, Attrs, Binder, BoundStep, Call
from gpunn.errors import DeviceError
from gpunn.randomness import philox
from gpunn.randomness.permutation import ROUNDS

Array = np.ndarray[Any, Any]
_OPERATIONS: dict[str, Binder] = {}


def _operation(bind: Binder) -> Binder:
    """Add a binder to the table, under its name."""
    _OPERATIONS[bind.__name__] = bind
    return bind


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
        return _OPERATIONS

    def bind(self, op: str, arrays: Arrays, attrs: Attrs, rows: int) -> Call:
        return self.bind_program([(op, arrays, attrs)], rows, rows)[0]

    def bind_program(self, steps: Sequence[BoundStep], rows: int, batch_size: int) -> list[Call]:
        table = _OPERATIONS
        if LANES and self.products != "library":
            always = self.products == "own"
            table = table | cpu_team.operations(steps, batch_size, self._threads, always=always)
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


# Data


@_operation
def keyed_permutation(a: Arrays, attrs: Attrs, rows: int) -> Call:
    order, seed, epoch = a["order"], a["seed"], a["epoch"]
    scratch = np.empty(numba_random.SCRATCH_SHAPE, dtype=np.uint64)
    # Words as `permutation.round_keys` gives them, which takes as long as a small epoch.
    stream = np.uint64(philox.stream_id(philox.Purpose.SHUFFLE))
    words, half = np.empty(2 * ROUNDS, dtype=np.uint32), np.uint64(32)

    def call() -> None:
        numba_random.philox_words(words, seed[0], np.uint64(epoch[0]), stream)
        halves = words.astype(np.uint64)
        keys = halves[0::2] | halves[1::2] << half
        numba_random.fill_order(order, order.size, keys, 0, scratch)

    return call


@_operation
def gather(a: Arrays, attrs: Attrs, rows: int) -> Call:
    data, values, offset = a["data"], a["values"], a["offset"]
    order = a.get("order", _none(np.int64))
    if "gain" in a:
        center, gain = a["center"], a["gain"]

        def normalized() -> None:
            kernels.gather_normalized(data, order, offset[0], center, gain, values)

        return normalized
    dtype = values.dtype.type
    scale, shift = dtype(attrs["scale"]), dtype(attrs["shift"])

    def call() -> None:
        kernels.gather(data, order, offset[0], scale, shift, values)

    return call


@_operation
def gather_rows(a: Arrays, attrs: Attrs, rows: int) -> Call:
    data, values, offset = a["data"], a["values"], a["offset"]
    if "order" not in a:

        def copy() -> None:
            start = offset[0]
            np.copyto(values, data[start : start + rows])

        return copy
    order = a["order"]

    def call() -> None:
        start = offset[0]
        # Without mode="clip" NumPy would check and buffer.
        data.take(order[start : start + rows], axis=0, out=values, mode="clip")

    return call


@_operation
def normalization_statistics(a: Arrays, attrs: Attrs, rows: int) -> Call:
    mean, variance, center, gain = a["mean"], a["variance"], a["center"], a["gain"]
    repeats = center.size // mean.size

    def call() -> None:
        deviation = np.maximum(np.sqrt(variance.astype(np.float64)), attrs["epsilon"])
        shifted = (mean.astype(np.float64) - attrs["shift"]) / attrs["scale"]
        center[:] = np.tile(shifted, repeats)
        gain[:] = np.tile(attrs["scale"] / deviation, repeats)

    return call


@_operation
def affine(a: Arrays, attrs: Attrs, rows: int) -> Call:
    values, result = a["values"], a["result"]
    if "gain" in a:
        return partial(kernels.normalize, values, a["center"], a["gain"], result)
    dtype = values.dtype.type
    return _run(
        partial(np.multiply, values, dtype(attrs["scale"]), out=result),
        partial(np.add, result, dtype(attrs["shift"]), out=result),
    )


@_operation
def affine_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    gradient = a["gradient"]
    factor = a["gain"] if "gain" in a else gradient.dtype.type(attrs["scale"])
    return partial(np.multiply, gradient, factor, out=a["input_gradient"])


# Joins


@_operation
def add(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return partial(np.add, a["left"], a["right"], out=a["result"])


@_operation
def copy_columns(a: Arrays, attrs: Attrs, rows: int) -> Call:
    start, end, columns = attrs["source_start"], attrs["result_start"], attrs["columns"]
    target = a["result"][:, end : end + columns]
    return partial(np.copyto, target, a["source"][:, start : start + columns])


@_operation
def accumulate(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return partial(np.add, a["total"], a["values"], out=a["total"])


for _module in (cpu_activations, cpu_dense, cpu_losses, cpu_updates, numba_normalization):
    _OPERATIONS.update(_module.OPERATIONS)
for _bind in cpu_expressions.BINDERS:
    _operation(_bind)
