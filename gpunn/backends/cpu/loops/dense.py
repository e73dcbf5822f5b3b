"""Loops of what goes with the products of dense layers."""

from __future__ import annotations

from typing import Any

from gpunn.backends.cpu.loops.compile import kernel


@kernel
def add_bias(y: Any, bias: Any, slope: Any) -> None:
    """y + bias, times `slope` where negative: 1 for linear, 0 for relu."""
    zero = slope - slope
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            z = y[i, j] + bias[j]
            # + 0 turns the -0 of relu into 0.
            y[i, j] = (z if z > zero else z * slope) + zero


@kernel
def column_sums(values: Any, sums: Any) -> None:
    sums[:] = 0
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            sums[j] += values[i, j]
