"""What binders are written with."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.backends.interface import Arrays, Call


def optional(a: Arrays, role: str, dtype: Any, axes: int = 1) -> Any:
    """Return the array of a role, or an empty one, which loops take for one that is left out."""
    return a[role] if role in a else np.empty((0,) * axes, dtype)


def sequence(*calls: Call | None) -> Call:
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

    def several() -> None:
        first()
        for call in others:
            call()

    return several
