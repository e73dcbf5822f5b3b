"""Compilation by numba, cached on disk where that can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return `function` compiled on its first use, with numba's `options`.

    The machine code is kept beside the source or in the user's cache. Where neither can be
    written (a read-only installation without a home folder, as in some containers) every process
    compiles anew.
    """
    try:
        dispatcher: Callable[..., Any] = njit(cache=True, **options)(function)
    except RuntimeError:  # numba's "cannot cache function ...: no locator available"
        dispatcher = njit(**options)(function)
    return dispatcher
