"""The matrix products of the CPU backend: which of two ways serves which size.

Small batches take the kernels of ``numba_gemm.py``, which pack nothing; large ones the BLAS of
NumPy, for which packing pays. One batch size uses one of them throughout: a step that changed
between two pools of threads would wait for the workers of one to stop spinning, for
milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from gpunn.backends import numba_gemm
from gpunn.backends import numba_kernels as kernels
from gpunn.backends.blas import accumulate_product

Array = np.ndarray[Any, Any]
Call = Callable[[], None]

# Rows of a batch up to which the own kernels are faster; measured, see benchmarks/NOTES.md.
LARGEST_OWN_BATCH = 256


def own_kernels(rows: int) -> bool:
    """Return whether batches of this many rows take gpunn's own kernels."""
    return rows <= LARGEST_OWN_BATCH and numba_gemm.fast_here()


def forward(
    values: Array, kernel: Array, bias: Array | None, slope: float, result: Array
) -> list[Call]:
    """Return calls for ``values @ kernel + bias``, times `slope` where negative."""
    if bias is None and slope != 1.0:
        bias = np.zeros(result.shape[1], dtype=result.dtype)
    if own_kernels(len(values)):
        return [numba_gemm.product(values, kernel, result, bias=bias, slope=slope)]
    calls: list[Call] = [partial(np.matmul, values, kernel, out=result)]
    if bias is not None:
        # np.add(y, bias, out=y) would copy y first: NumPy sees y overlap with itself.
        calls.append(partial(kernels.add_bias, result, bias, result.dtype.type(slope)))
    return calls


def input_gradient(gradient: Array, kernel: Array, result: Array) -> Call:
    """Return a call for ``gradient @ kernel.T``."""
    if own_kernels(len(gradient)):
        return numba_gemm.product(gradient, kernel, result, transpose_b=True)
    return partial(np.matmul, gradient, kernel.T, out=result)


def kernel_gradient(values: Array, gradient: Array, result: Array) -> Call:
    """Return a call for ``values.T @ gradient``."""
    if own_kernels(len(values)):
        return numba_gemm.product(values, gradient, result, transpose_a=True)
    return partial(np.matmul, values.T, gradient, out=result)


def kernel_update(values: Array, gradient: Array, rate: Array, kernel: Array) -> Call:
    """Return a call for ``kernel -= rate[0] * values.T @ gradient``."""
    if own_kernels(len(values)):
        return numba_gemm.product(
            values, gradient, kernel, transpose_a=True, rate=rate, sign=-1.0, accumulate=True
        )
    return accumulate_product(values, gradient, rate, kernel)
