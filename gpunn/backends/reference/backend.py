"""The reference backend: every op once, in plain NumPy, for any float type.

It is the truth that other backends are compared with, so it is written for reading, not for
speed. All ops work along the last two axes (batch, features): one leading axis, if there is
one, counts models trained at once, each with its own weights, seed and learning rate.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from gpunn.backends.host import HostBackend
from gpunn.backends.interface import Binder
from gpunn.backends.reference import (
    activations,
    data,
    dense,
    expressions,
    joins,
    losses,
    normalization,
    optimizers,
)

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
# To bind an op is to keep its arguments: partial(function, arrays, attrs, rows).
_BINDERS: dict[str, Binder] = {op: partial(partial, call) for op, call in OPERATIONS.items()}


class NumpyReference(HostBackend):
    """Plain NumPy."""

    name = "reference"
    precisions = ("float32", "float64")

    @property
    def operations(self) -> dict[str, Binder]:
        return _BINDERS

    def describe(self) -> str:
        return f"reference (NumPy {np.__version__})"
