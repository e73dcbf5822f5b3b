"""The CPU backend: products in NumPy's BLAS, everything else in compiled loops.

Each entry binds its arrays once; a training step is then a list of calls without arguments.
Scratch memory is taken when a call is bound, never when it runs. Exponentials and the like are
NumPy's own, which are vector code; they need a pass of their own but are faster than a loop that
calls the C library for each value.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numba
import numpy as np

from gpunn.backends import (
    blas,
    cpu_activations,
    cpu_expressions,
    cpu_losses,
    cpu_updates,
    numba_normalization,
    numba_random,
)
from gpunn.backends import numba_kernels as kernels
from gpunn.backends.cpu_activations import apply, drop, negative_slope, through_activation
from gpunn.backends.cpu_calls import none as _none
from gpunn.backends.cpu_calls import run as _run
from gpunn.backends.host_memory import HostBackend
from gpunn.backends.interface import Arrays, Attrs, Binder, Call
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
        Threads of the BLAS while gpunn computes; default: as many as it takes by itself.
    """

    name = "cpu"
    precisions = ("float32", "float64")
    max_models = 1

    def __init__(self, threads: int | None = None) -> None:
        self.thread_count = threads

    @property
    def operations(self) -> dict[str, Binder]:
        return _OPERATIONS

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


# Dense layers


@_operation
def dense(a: Arrays, attrs: Attrs, rows: int) -> Call:
    y, slope = a["result"], negative_slope(attrs)
    straight = slope is not None and "pre" not in a
    fused = slope if slope is not None and straight else 1.0
    calls: list[Call] = [partial(np.matmul, a["values"], a["kernel"], out=y)]
    if "bias" in a or fused != 1.0:
        # np.add(y, bias, out=y) would copy y first: NumPy sees y overlap with itself.
        bias = a.get("bias", np.zeros(y.shape[1], dtype=y.dtype))
        calls.append(partial(kernels.add_bias, y, bias, y.dtype.type(fused)))
    flat = y.reshape(-1)
    if not straight:
        if "pre" in a:
            calls.append(partial(np.copyto, a["pre"], y))
        calls.append(apply(attrs, flat, flat))
    if "rate" in a:
        calls.append(drop(a, attrs["stream"], flat, flat))
    return _run(*calls)


def _bias_target(a: Arrays, columns: int, dtype: Any) -> tuple[Array, Call | None]:
    """Return where column sums go, and the call that takes them into the bias, if any."""
    if "bias_gradient" in a:
        return a["bias_gradient"], None
    sums = np.empty(columns, dtype=dtype)
    if "bias" not in a:
        return sums, None
    return sums, _subtract_scaled(sums, a["learning_rate"], a["bias"])


def _subtract_scaled(values: Array, rate: Array, total: Array) -> Call:
    """Return a call for total -= rate * values; `values` is overwritten."""
    return _run(
        partial(np.multiply, values, rate, out=values),
        partial(np.subtract, total, values, out=total),
    )


@_operation
def dense_input_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    result = a["input_gradient"]
    product = partial(np.matmul, a["gradient"], a["kernel"].T, out=result)
    plain = attrs["activation"] == "linear" and "rate" not in a
    if plain and "bias" not in a and "bias_gradient" not in a:
        return product
    sums, update = _bias_target(a, result.shape[1], result.dtype)
    return _run(product, through_activation(result, a, attrs, sums), update)


@_operation
def activation_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    gradient = a["gradient"]
    sums, update = _bias_target(a, gradient.shape[1], gradient.dtype)
    return _run(through_activation(gradient, a, attrs, sums), update)


@_operation
def dense_kernel_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return partial(np.matmul, a["values"].T, a["gradient"], out=a["kernel_gradient"])


@_operation
def dense_kernel_update(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return blas.accumulate_product(a["values"], a["gradient"], a["learning_rate"], a["kernel"])


@_operation
def bias_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    gradient = a["gradient"]
    sums, update = _bias_target(a, gradient.shape[1], gradient.dtype)
    return _run(partial(kernels.column_sums, gradient, sums), update)


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


for _module in (cpu_activations, cpu_losses, cpu_updates, numba_normalization):
    _OPERATIONS.update(_module.OPERATIONS)
for _bind in cpu_expressions.BINDERS:
    _operation(_bind)
