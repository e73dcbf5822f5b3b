"""``C += alpha * A.T @ B`` in NumPy's own BLAS, which ``numpy.matmul`` cannot ask for.

Plain SGD adds a layer's kernel gradient straight into the kernel. For that the BLAS that NumPy
has loaded is called directly (one BLAS in the process: two would fight for the cores). Where its
symbols are not found (Accelerate on macOS, say), `accumulate_product` falls back on a product
into scratch memory and a subtraction.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

_ROW_MAJOR, _NO_TRANSPOSE, _TRANSPOSE = 101, 111, 112


@lru_cache(maxsize=1)
def libraries() -> Any:
    """Return threadpoolctl's controller of the BLAS libraries; looking for them takes 1 ms."""
    import threadpoolctl

    return threadpoolctl.ThreadpoolController().select(user_api="blas")


def thread_count() -> int | None:
    """Return the number of threads that the BLAS uses now, None if it does not say."""
    return max((library["num_threads"] for library in libraries().info()), default=None)


@lru_cache(maxsize=1)
def _library() -> tuple[Any, str, str, type] | None:
    """Return (library, symbol prefix, symbol suffix, integer type) of NumPy's BLAS."""
    for controller in libraries().lib_controllers:
        if controller.internal_api != "openblas" or "numpy" not in str(controller.filepath):
            continue
        for prefix, suffix, integer in (
            ("scipy_", "64_", ctypes.c_int64),
            ("", "64_", ctypes.c_int64),
            ("scipy_", "", ctypes.c_int),
            ("", "", ctypes.c_int),
        ):
            if hasattr(controller.dynlib, f"{prefix}cblas_sgemm{suffix}"):
                return controller.dynlib, prefix, suffix, integer
    return None


def _gemm(dtype: np.dtype[Any]) -> tuple[Any, type, type] | None:
    """Return (cblas function, its integer type, its scalar type) for float32 or float64."""
    found = _library()
    if found is None:
        return None
    library, prefix, suffix, integer = found
    letter, scalar = {"f": ("s", ctypes.c_float), "d": ("d", ctypes.c_double)}[dtype.char]
    function = getattr(library, f"{prefix}cblas_{letter}gemm{suffix}")
    function.restype = None
    pointer = ctypes.c_void_p
    function.argtypes = [ctypes.c_int] * 3 + [integer] * 3 + [scalar, pointer, integer]
    function.argtypes += [pointer, integer, scalar, pointer, integer]
    return function, integer, scalar


def accumulate_product(
    left: np.ndarray[Any, Any],
    right: np.ndarray[Any, Any],
    rate: np.ndarray[Any, Any],
    total: np.ndarray[Any, Any],
) -> Callable[[], None]:
    """Return a call that computes ``total -= rate[0] * left.T @ right``.

    Parameters
    ----------
    left : array, shape (batch, m), C-contiguous
    right : array, shape (batch, n), C-contiguous
    rate : array, shape (1,)
    total : array, shape (m, n), C-contiguous
    """
    found = _gemm(total.dtype)
    if found is None:
        product = np.empty_like(total)
        transposed = left.T

        def fallback() -> None:
            np.matmul(transposed, right, out=product)
            np.multiply(product, rate[0], out=product)
            np.subtract(total, product, out=total)

        return fallback
    function, integer, scalar = found
    batch, m = left.shape
    n = right.shape[1]
    alpha = scalar(0.0)
    arguments = (
        *(_ROW_MAJOR, _TRANSPOSE, _NO_TRANSPOSE),
        *(integer(m), integer(n), integer(batch)),
        alpha,
        *(ctypes.c_void_p(left.ctypes.data), integer(m)),
        *(ctypes.c_void_p(right.ctypes.data), integer(n)),
        scalar(1.0),
        *(ctypes.c_void_p(total.ctypes.data), integer(n)),
    )

    # The arrays are arguments so that the call keeps alive what its pointers lead to.
    def call(_alive: Any = (left, right, total)) -> None:
        alpha.value = -rate[0]
        function(*arguments)

    return call
