"""What the tables of the CPU backend are written with."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.backends.interface import Call

Array = np.ndarray[Any, Any]


def none(dtype: Any) -> Array:
    """Stand-in for an optional array that is left out."""
    return np.empty(0, dtype=dtype)


def run(*calls: Call | None) -> Call:
    """Return one call that makes all the given ones."""
    first, *others = [call for call in calls if call is not None]
    if not others:
        return first
    if len(others) == 1:
        second = others[0]

        def pair() -> None:
            first()
            second()

        return pair

    def sequence() -> None:
        first()
        for call in others:
            call()

    return sequence
