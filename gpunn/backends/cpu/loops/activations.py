"""Loops of activations and dropout, forward and backward."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpunn.backends.cpu.loops.compile import kernel

# Activations and dropout


@kernel
def dropout(source: Any, words: Any, rate: Any, one: Any, result: Any) -> None:
    """Keep and scale where the word reaches the threshold, else 0; all arrays flat."""
    threshold = np.uint32(np.float64(rate[0]) * 4294967296.0)
    scale = one / (one - rate[0])
    zero = one - one
    for i in range(source.size):
        result[i] = source[i] * scale if words[i] >= threshold else zero


@kernel
def finish_exponential(y: Any, z: Any, e: Any, positive: Any, negative: Any) -> None:
    """``z * positive`` for z > 0, else ``e * negative``; e = expm1(min(z, 0)); flat."""
    zero = positive - positive
    for i in range(y.size):
        y[i] = z[i] * positive if z[i] > zero else e[i] * negative


@kernel
def finish_sigmoid(y: Any, z: Any, e: Any, times_input: bool) -> None:
    """The sigmoid of z, times z on request; e = exp(-|z|); flat."""
    for i in range(y.size):
        s = 1 / (1 + e[i]) if z[i] >= 0 else e[i] / (1 + e[i])
        y[i] = z[i] * s if times_input else s


@kernel
def erf(x: Any, y: Any) -> None:
    for i in range(x.size):
        y[i] = math.erf(x[i])


@kernel
def gelu(z: Any, y: Any, half: Any, sqrt_half: Any) -> None:
    for i in range(z.size):
        y[i] = half * z[i] * (2 * half + math.erf(z[i] * sqrt_half))


@kernel
def gelu_derivative(z: Any, e: Any, factor: Any, half: Any, sqrt_half: Any, density: Any) -> None:
    """e = exp(-z**2 / 2); `density` = 1 / sqrt(2 pi)."""
    for i in range(z.size):
        cumulative = half * (2 * half + math.erf(z[i] * sqrt_half))
        factor[i] = cumulative + z[i] * e[i] * density


@kernel
def silu_derivative(z: Any, e: Any, factor: Any) -> None:
    """e = exp(-|z|)."""
    for i in range(z.size):
        s = 1 / (1 + e[i]) if z[i] >= 0 else e[i] / (1 + e[i])
        factor[i] = s * (1 + z[i] * (1 - s))


# Gradients: result = gradient * derivative, sums = column sums of result


@kernel
def gradient_piecewise(
    gradient: Any, output: Any, rate: Any, one: Any, negative: Any, result: Any, sums: Any
) -> None:
    """Derivative ``1 / (1 - rate)`` where the output is above 0, else `negative`."""
    positive = one / (one - rate[0])
    zero = one - one
    sums[:] = zero
    for i in range(gradient.shape[0]):
        for j in range(gradient.shape[1]):
            value = gradient[i, j] * (positive if output[i, j] > zero else negative)
            result[i, j] = value
            sums[j] += value


@kernel
def gradient_polynomial(
    gradient: Any, output: Any, c0: Any, c1: Any, c2: Any, result: Any, sums: Any
) -> None:
    """Derivative ``c0 + c1 * y + c2 * y**2`` of the output y."""
    sums[:] = c0 - c0
    for i in range(gradient.shape[0]):
        for j in range(gradient.shape[1]):
            y = output[i, j]
            value = gradient[i, j] * (c0 + y * (c1 + y * c2))
            result[i, j] = value
            sums[j] += value


@kernel
def gradient_exponential(
    gradient: Any, output: Any, positive: Any, offset: Any, result: Any, sums: Any
) -> None:
    """Derivative `positive` where the output y is above 0, else ``y + offset``."""
    zero = positive - positive
    sums[:] = zero
    for i in range(gradient.shape[0]):
        for j in range(gradient.shape[1]):
            y = output[i, j]
            value = gradient[i, j] * (positive if y > zero else y + offset)
            result[i, j] = value
            sums[j] += value


@kernel
def gradient_factor(gradient: Any, factor: Any, result: Any, sums: Any) -> None:
    sums[:] = 0
    for i in range(gradient.shape[0]):
        for j in range(gradient.shape[1]):
            value = gradient[i, j] * factor[i, j]
            result[i, j] = value
            sums[j] += value


@kernel
def softmax(z: Any, y: Any) -> None:
    for i in range(z.shape[0]):
        top = z[i, 0]
        for j in range(1, z.shape[1]):
            top = max(top, z[i, j])
        total = top - top
        for j in range(z.shape[1]):
            e = np.exp(z[i, j] - top)
            y[i, j] = e
            total += e
        for j in range(z.shape[1]):
            y[i, j] /= total


@kernel
def softmax_gradient(gradient: Any, y: Any, result: Any) -> None:
    for i in range(y.shape[0]):
        dot = y[i, 0] - y[i, 0]
        for j in range(y.shape[1]):
            dot += gradient[i, j] * y[i, j]
        for j in range(y.shape[1]):
            result[i, j] = y[i, j] * (gradient[i, j] - dot)


@kernel
def prelu(x: Any, alpha: Any, y: Any) -> None:
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            y[i, j] = x[i, j] if x[i, j] > 0 else alpha[j] * x[i, j]


@kernel
def prelu_gradient(gradient: Any, x: Any, alpha: Any, result: Any, sums: Any) -> None:
    zero = x.dtype.type(0)
    sums[:] = zero
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            g = gradient[i, j]
            sums[j] += g * (zero if x[i, j] > zero else x[i, j])
            if result.size:
                result[i, j] = g if x[i, j] > zero else g * alpha[j]
