"""Expressions of the user's, as activations, losses and metrics, in plain NumPy."""

from __future__ import annotations

import numpy as np

from gpunn.backends.interface import Arrays, Attrs
from gpunn.backends.reference.function import Array, Function
from gpunn.backends.reference.losses import mean_loss
from gpunn.specs.expressions import Expression


def expression(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["result"][...] = Expression(attrs["expression"])(a["values"])


def expression_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["input_gradient"][...] = a["gradient"] * Expression(attrs["derivative"])(a["values"])


@mean_loss
def expression_loss(p: Array, t: Array, attrs: Attrs) -> tuple[Array, Array]:
    return Expression(attrs["expression"])(t, p), Expression(attrs["derivative"])(t, p)


def expression_sum(a: Arrays, attrs: Attrs, rows: int) -> None:
    values = Expression(attrs["expression"])(a["targets"], a["predictions"])
    a["sum"][...] += values.mean(axis=-1, dtype=np.float64).sum(axis=-1, keepdims=True)


OPERATIONS: dict[str, Function] = {
    "expression": expression,
    "expression_gradient": expression_gradient,
    "expression_loss": expression_loss,
    "expression_sum": expression_sum,
}
