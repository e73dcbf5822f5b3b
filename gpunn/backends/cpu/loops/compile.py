"""Compilation by numba, cached on disk where that can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import cfunc, njit


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return `function` compiled on its first use, with numba's `options`.

    The machine code is kept beside the source or in the user's cache. Where neither can be
    written (a read-only installation without a home folder, as in some containers) every process
    compiles anew. It is made anew when the function's own file has changed, not when that of an
    intrinsic or another function has that it calls: after such a change the cache has to go.
    """
    try:
        dispatcher: Callable[..., Any] = njit(cache=True, **options)(function)
    except RuntimeError:  # numba's "cannot cache function ...: no locator available"
        dispatcher = njit(**options)(function)
    return dispatcher


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop over arrays."""
    # error_model="numpy": without checks for division by zero a loop can become vector code.
    return compiled(function, error_model="numpy")


def reducing_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop that sums values up."""
    # Lets LLVM split a sum among vector lanes: a fixed order, only not the written one.
    return compiled(function, error_model="numpy", fastmath={"reassoc", "contract"})


def threaded(function: Callable[..., Any]) -> Any:
    """Compile a loop that runs beside other threads of the interpreter."""
    return compiled(function, error_model="numpy", nogil=True)


def c_function(function: Callable[..., Any], signature: Any) -> Any:
    """Compile a function that other compiled code calls by its address, in ``.address``."""
    try:
        return cfunc(signature, cache=True, error_model="numpy")(function)
    except RuntimeError:  # as in `compiled`
        return cfunc(signature, error_model="numpy")(function)
