"""Compiled loops of penalties, clipping, constraints and optimizers of the CPU backend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpunn.backends.cpu.loops.compile import kernel, reducing_kernel

# Regularizers and clipping


@reducing_kernel
def penalty(kernel: Any, l1: float, l2: float, rows: int, total: Any) -> None:
    absolute = 0.0
    squared = 0.0
    for i in range(kernel.size):
        w = np.float64(kernel[i])
        absolute += abs(w)
        squared += w * w
    total[0] += rows * (l1 * absolute + l2 * squared)


@reducing_kernel
def penalty_gradient(
    kernel: Any,
    l1: Any,
    twice_l2: Any,
    absolute_weight: float,
    squared_weight: float,
    gradient: Any,
    total: Any,
) -> None:
    """The gradient, and the penalty; its weights are l1 and l2 times the rows."""
    absolute = 0.0
    squared = 0.0
    if l1 == 0:  # most often: the loop takes half as long
        for i in range(kernel.size):
            w = kernel[i]
            gradient[i] += twice_l2 * w
            squared += np.float64(w) * np.float64(w)
    else:
        for i in range(kernel.size):
            w = kernel[i]
            gradient[i] += l1 * np.sign(w) + twice_l2 * w
            absolute += abs(np.float64(w))
            squared += np.float64(w) * np.float64(w)
    total[0] += absolute_weight * absolute + squared_weight * squared


@reducing_kernel
def clip_by_norm(gradients: Any, limit: float) -> None:
    squares = 0.0
    for i in range(gradients.size):
        g = np.float64(gradients[i])
        squares += g * g
    norm = math.sqrt(squares)
    if norm > limit or math.isnan(norm):
        factor = limit / norm
        for i in range(gradients.size):
            gradients[i] *= factor


# Constraints


@kernel
def norm_constraint(
    w: Any, factors: Any, minimum: Any, maximum: Any, rate: Any, epsilon: Any
) -> None:
    """Column by column; `factors` is scratch of a column each."""
    factors[:] = epsilon - epsilon
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            factors[j] += w[i, j] * w[i, j]
    rest = type(rate)(1) - rate
    for j in range(w.shape[1]):
        norm = np.sqrt(factors[j])
        clipped = minimum if norm < minimum else maximum if norm > maximum else norm
        # 0 * norm is NaN for a norm that overflows; as it is, such a column becomes 0.
        desired = rate * clipped + rest * norm if rest else rate * clipped
        factors[j] = desired / (epsilon + norm)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            w[i, j] *= factors[j]


# Optimizers, on flat arrays; rate = learning rate of this step, an array of one value.
# Constants come in the parameters' type: in float64 they would widen the loop. `tiny_square` is
# `tiny` for the moving averages of squares.


@kernel
def sgd(w: Any, g: Any, rate: Any, decay: Any) -> None:
    lr = rate[0]
    for i in range(w.size):
        w[i] = w[i] - w[i] * (lr * decay) - lr * g[i]


@kernel
def momentum(
    w: Any, g: Any, rate: Any, decay: Any, v: Any, beta: Any, nesterov: bool, tiny: Any
) -> None:
    lr = rate[0]
    zero = tiny - tiny
    for i in range(w.size):
        x = beta * v[i] - lr * g[i]
        x = zero if abs(x) < tiny else x
        v[i] = x
        update = beta * x - lr * g[i] if nesterov else x
        w[i] = w[i] - w[i] * (lr * decay) + update


@kernel
def adagrad(w: Any, g: Any, rate: Any, decay: Any, accumulator: Any, epsilon: Any) -> None:
    lr = rate[0]
    for i in range(w.size):
        accumulator[i] += g[i] * g[i]
        w[i] = w[i] - w[i] * (lr * decay) - lr * g[i] / np.sqrt(accumulator[i] + epsilon)


@kernel
def rmsprop(
    w: Any,
    g: Any,
    rate: Any,
    decay: Any,
    v: Any,
    average: Any,
    m: Any,
    rho: Any,
    beta: Any,
    epsilon: Any,
    tiny: Any,
    tiny_square: Any,
) -> None:
    lr = rate[0]
    zero = tiny - tiny
    rest = type(rho)(1) - rho
    for i in range(w.size):
        spread = rho * v[i] + rest * g[i] * g[i]
        spread = zero if spread < tiny_square else spread
        v[i] = spread
        if average.size:
            a = rho * average[i] + rest * g[i]
            a = zero if abs(a) < tiny else a
            average[i] = a
            spread -= a * a
        update = lr * g[i] / np.sqrt(spread + epsilon)
        if m.size:
            update = beta * m[i] + update
            update = zero if abs(update) < tiny else update
            m[i] = update
        w[i] = w[i] - w[i] * (lr * decay) - update


@kernel
def adam(
    w: Any,
    g: Any,
    rate: Any,
    decay: Any,
    step: Any,
    m: Any,
    v: Any,
    v_hat: Any,
    rest_1: Any,
    rest_2: Any,
    epsilon: Any,
    tiny: Any,
    tiny_square: Any,
    beta_1: float,
    beta_2: float,
) -> None:
    """rest_1 = 1 - beta_1 and rest_2 = 1 - beta_2, in the parameters' type."""
    lr = rate[0]
    t = step[0] + 1
    # In float64: 1 - 0.999**t keeps only three digits in float32. The product with a
    # parameters' 1 brings alpha back to their type.
    correction = math.sqrt(1 - beta_2**t) / (1 - beta_1**t)
    alpha = lr * type(lr)(correction)
    zero = tiny - tiny
    for i in range(w.size):
        mean = m[i] + (g[i] - m[i]) * rest_1
        mean = zero if abs(mean) < tiny else mean
        spread = v[i] + (g[i] * g[i] - v[i]) * rest_2
        spread = zero if spread < tiny_square else spread
        m[i] = mean
        v[i] = spread
        if v_hat.size:
            spread = max(v_hat[i], spread)
            v_hat[i] = spread
        w[i] = w[i] - w[i] * (lr * decay) - alpha * mean / (np.sqrt(spread) + epsilon)
