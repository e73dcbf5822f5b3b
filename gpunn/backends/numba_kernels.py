"""Compiled loops of the CPU backend, one pass over the data where NumPy would take several.

All are serial: at these sizes a thread pool beside the one of the BLAS costs more than it saves.
Each is compiled on its first use, which a user waits for, so the loops are plain and few. Arrays
are C-contiguous; an optional array that is left out has size 0. Nothing checks its arguments.
Formulas are those of the reference backend, which the tests compare with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from gpunn.backends.numba_compile import compiled
from gpunn.backends.numba_prefetch import prefetch

Kernel = Callable[..., None]


def _kernel(function: Kernel) -> Kernel:
    # error_model="numpy": without checks for division by zero a loop can become vector code.
    return cast(Kernel, compiled(function, error_model="numpy"))


def _reducing_kernel(function: Kernel) -> Kernel:
    # Lets LLVM split a sum among vector lanes: a fixed order, only not the written one.
    return cast(Kernel, compiled(function, error_model="numpy", fastmath={"reassoc", "contract"}))


# Data


LINE = 64  # bytes that memory hands over at a time
# Rows are read in no order that the processor could foresee, and each waits for memory anew. For
# so many bytes it pays to ask for one while those before it are read.
WIDE, AHEAD = 256, 2


@_kernel
def gather(data: Any, order: Any, start: int, scale: Any, shift: Any, values: Any) -> None:
    rows, columns = values.shape
    shuffled = order.size > 0 and columns * data.itemsize >= WIDE
    for i in range(rows):
        row = order[start + i] if order.size else start + i
        if shuffled and i + AHEAD < rows:
            for j in range(0, columns, LINE // data.itemsize):
                prefetch(data, order[start + i + AHEAD], j)
        for j in range(columns):
            values[i, j] = data[row, j] * scale + shift


@_kernel
def gather_normalized(
    data: Any, order: Any, start: int, center: Any, gain: Any, values: Any
) -> None:
    for i in range(values.shape[0]):
        row = order[start + i] if order.size else start + i
        for j in range(values.shape[1]):
            values[i, j] = (data[row, j] - center[j]) * gain[j]


@_kernel
def normalize(values: Any, center: Any, gain: Any, result: Any) -> None:
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            result[i, j] = (values[i, j] - center[j]) * gain[j]


# Bias, activations, dropout


@_kernel
def add_bias(y: Any, bias: Any, slope: Any) -> None:
    """y + bias, times `slope` where negative: 1 for linear, 0 for relu."""
    zero = slope - slope
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            z = y[i, j] + bias[j]
            # + 0 turns the -0 of relu into 0.
            y[i, j] = (z if z > zero else z * slope) + zero


@_kernel
def drop(source: Any, words: Any, rate: Any, one: Any, result: Any) -> None:
    """Keep and scale where the word reaches the threshold, else 0; all arrays flat."""
    threshold = np.uint32(np.float64(rate[0]) * 4294967296.0)
    scale = one / (one - rate[0])
    zero = one - one
    for i in range(source.size):
        result[i] = source[i] * scale if words[i] >= threshold else zero


@_kernel
def finish_exponential(y: Any, z: Any, e: Any, positive: Any, negative: Any) -> None:
    """``z * positive`` for z > 0, else ``e * negative``; e = expm1(min(z, 0)); flat."""
    zero = positive - positive
    for i in range(y.size):
        y[i] = z[i] * positive if z[i] > zero else e[i] * negative


@_kernel
def finish_sigmoid(y: Any, z: Any, e: Any, times_input: bool) -> None:
    """The sigmoid of z, times z on request; e = exp(-|z|); flat."""
    for i in range(y.size):
        s = 1 / (1 + e[i]) if z[i] >= 0 else e[i] / (1 + e[i])
        y[i] = z[i] * s if times_input else s


@_kernel
def gelu(z: Any, y: Any, half: Any, sqrt_half: Any) -> None:
    for i in range(z.size):
        y[i] = half * z[i] * (2 * half + math.erf(z[i] * sqrt_half))


@_kernel
def gelu_derivative(z: Any, e: Any, factor: Any, half: Any, sqrt_half: Any, density: Any) -> None:
    """e = exp(-z**2 / 2); `density` = 1 / sqrt(2 pi)."""
    for i in range(z.size):
        cumulative = half * (2 * half + math.erf(z[i] * sqrt_half))
        factor[i] = cumulative + z[i] * e[i] * density


@_kernel
def silu_derivative(z: Any, e: Any, factor: Any) -> None:
    """e = exp(-|z|)."""
    for i in range(z.size):
        s = 1 / (1 + e[i]) if z[i] >= 0 else e[i] / (1 + e[i])
        factor[i] = s * (1 + z[i] * (1 - s))


# Gradients: result = gradient * derivative, sums = column sums of result


@_kernel
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


@_kernel
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


@_kernel
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


@_kernel
def gradient_factor(gradient: Any, factor: Any, result: Any, sums: Any) -> None:
    sums[:] = 0
    for i in range(gradient.shape[0]):
        for j in range(gradient.shape[1]):
            value = gradient[i, j] * factor[i, j]
            result[i, j] = value
            sums[j] += value


@_kernel
def column_sums(values: Any, sums: Any) -> None:
    sums[:] = 0
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            sums[j] += values[i, j]


@_kernel
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


@_kernel
def softmax_gradient(gradient: Any, y: Any, result: Any) -> None:
    for i in range(y.shape[0]):
        dot = y[i, 0] - y[i, 0]
        for j in range(y.shape[1]):
            dot += gradient[i, j] * y[i, j]
        for j in range(y.shape[1]):
            result[i, j] = y[i, j] * (gradient[i, j] - dot)


@_kernel
def prelu(x: Any, alpha: Any, y: Any) -> None:
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            y[i, j] = x[i, j] if x[i, j] > 0 else alpha[j] * x[i, j]


@_kernel
def prelu_gradient(gradient: Any, x: Any, alpha: Any, result: Any, sums: Any) -> None:
    zero = x.dtype.type(0)
    sums[:] = zero
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            g = gradient[i, j]
            sums[j] += g * (zero if x[i, j] > zero else x[i, j])
            if result.size:
                result[i, j] = g if x[i, j] > zero else g * alpha[j]


# Losses. scale = loss_weight / batch size.


@_kernel
def _record(total: float, rows: int, step: Any, loss_batch: Any, loss_sum: Any, first: Any) -> None:
    loss_batch[0] = total / rows
    loss_sum[0] += total
    if not math.isfinite(total) and first[0] < 0:
        first[0] = step[0]


@_kernel
def sparse_cross_entropy(
    z: Any,
    targets: Any,
    weights: Any,
    scale: Any,
    gradient: Any,
    step: Any,
    loss_batch: Any,
    loss_sum: Any,
    nonfinite_step: Any,
    correct: Any,
    keep: Any,
    share: Any,
) -> None:
    """Targets are taken times `keep`, plus `share`."""
    total = 0.0
    hits = 0
    for i in range(z.shape[0]):
        label = targets[i]
        best = 0
        for j in range(1, z.shape[1]):
            if z[i, j] > z[i, best]:
                best = j
        hits += best == label
        top = z[i, best]
        e_sum = top - top
        for j in range(z.shape[1]):
            e_sum += np.exp(z[i, j] - top)
        weight = weights[i] if weights.size else type(scale)(1)
        # Not (log + top) - z: the difference to a large top would lose the log's digits.
        log_sum = np.log(e_sum)
        row = log_sum + (top - z[i, label])
        if share > 0:
            row *= keep
            for j in range(z.shape[1]):
                row += share * (log_sum + (top - z[i, j]))
        total += row * weight
        if gradient.size:
            factor = scale * weight
            for j in range(z.shape[1]):
                gradient[i, j] = (np.exp(z[i, j] - top) / e_sum - share) * factor
            gradient[i, label] -= keep * factor
    if correct.size:
        correct[0] += hits
    _record(total, z.shape[0], step, loss_batch, loss_sum, nonfinite_step)


@_kernel
def dense_cross_entropy(
    z: Any,
    targets: Any,
    weights: Any,
    scale: Any,
    gradient: Any,
    step: Any,
    loss_batch: Any,
    loss_sum: Any,
    nonfinite_step: Any,
    correct: Any,
    keep: Any,
    share: Any,
) -> None:
    """Targets are taken times `keep`, plus `share`."""
    total = 0.0
    hits = 0
    for i in range(z.shape[0]):
        best = 0
        label = 0
        for j in range(1, z.shape[1]):
            if z[i, j] > z[i, best]:
                best = j
            if targets[i, j] > targets[i, label]:
                label = j
        hits += best == label
        top = z[i, best]
        e_sum = top - top
        for j in range(z.shape[1]):
            e_sum += np.exp(z[i, j] - top)
        log_sum = np.log(e_sum)
        weight = weights[i] if weights.size else type(scale)(1)
        t_sum = top - top
        row = top - top
        for j in range(z.shape[1]):
            t = targets[i, j] * keep + share
            t_sum += t
            if t != 0:  # a zero target must not meet an infinite log
                row += t * (log_sum + (top - z[i, j]))
        total += row * weight
        if gradient.size:
            factor = scale * weight
            for j in range(z.shape[1]):
                p = np.exp(z[i, j] - top) / e_sum
                gradient[i, j] = (p * t_sum - (targets[i, j] * keep + share)) * factor
    if correct.size:
        correct[0] += hits
    _record(total, z.shape[0], step, loss_batch, loss_sum, nonfinite_step)


SIGMOID, SQUARED, ABSOLUTE, HUBER = 0, 1, 2, 3


@_kernel
def mean_loss(
    kind: int,
    delta: Any,
    p: Any,
    targets: Any,
    weights: Any,
    scale: Any,
    gradient: Any,
    step: Any,
    loss_batch: Any,
    loss_sum: Any,
    nonfinite_step: Any,
    keep: Any,
    share: Any,
) -> None:
    """The losses that are a mean over outputs, by `kind`; SIGMOID takes t * keep + share."""
    total = 0.0
    columns = p.shape[1]
    one = type(scale)(1)  # not scale / scale: a loss may have weight 0
    half = one / 2
    for i in range(p.shape[0]):
        weight = weights[i] if weights.size else one
        factor = scale * weight / np.float32(columns)
        row = 0.0
        for j in range(columns):
            t = targets[i, j]
            e = p[i, j] - t
            if kind == SIGMOID:
                z = p[i, j]
                t = t * keep + share
                x = np.exp(-abs(z))
                row += max(z, one - one) - z * t + np.log1p(x)
                slope = (one / (one + x) if z >= 0 else x / (one + x)) - t
            elif kind == SQUARED:
                row += e * e
                slope = 2 * e
            elif kind == ABSOLUTE:
                row += abs(e)
                slope = np.sign(e)
            else:
                size = abs(e)
                if size <= delta:
                    row += half * e * e
                else:
                    row += delta * (size - half * delta)
                slope = min(max(e, -delta), delta)
            if gradient.size:
                gradient[i, j] = slope * factor
        total += row / columns * weight
    _record(total, p.shape[0], step, loss_batch, loss_sum, nonfinite_step)


@_kernel
def finish_loss(
    losses: Any,
    weights: Any,
    scale: Any,
    gradient: Any,
    step: Any,
    loss_batch: Any,
    loss_sum: Any,
    nonfinite_step: Any,
) -> None:
    """Sum `losses`, one for each output; `gradient` holds their derivatives, to be scaled."""
    total = 0.0
    columns = losses.shape[1]
    one = type(scale)(1)
    for i in range(losses.shape[0]):
        weight = weights[i] if weights.size else one
        row = 0.0
        for j in range(columns):
            row += losses[i, j]
        if gradient.size:
            factor = scale * weight / np.float32(columns)
            for j in range(columns):
                gradient[i, j] *= factor
        total += row / columns * weight
    _record(total, losses.shape[0], step, loss_batch, loss_sum, nonfinite_step)


# Metrics


@_kernel
def mean_sum(values: Any, total: Any) -> None:
    """Add the sum over rows of the means of `values`."""
    result = 0.0
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            result += values[i, j]
    total[0] += result / values.shape[1]


@_kernel
def erf(x: Any, y: Any) -> None:
    for i in range(x.size):
        y[i] = math.erf(x[i])


@_kernel
def top_k_accuracy(z: Any, sparse: Any, one_hot: Any, k: int, total: Any) -> None:
    """Class numbers in `sparse`, or one-hot targets."""
    hits = 0
    for i in range(z.shape[0]):
        label = 0
        if sparse.size:
            label = sparse[i]
        else:
            for j in range(1, z.shape[1]):
                if one_hot[i, j] > one_hot[i, label]:
                    label = j
        larger = 0
        for j in range(z.shape[1]):
            larger += z[i, j] > z[i, label]
        hits += larger < k
    total[0] += hits


@_kernel
def categorical_accuracy(z: Any, sparse: Any, one_hot: Any, total: Any) -> None:
    """Class numbers in `sparse`, or one-hot targets; of equal values the first counts."""
    hits = 0
    for i in range(z.shape[0]):
        best = 0
        label = 0
        for j in range(1, z.shape[1]):
            if z[i, j] > z[i, best]:
                best = j
            if not sparse.size and one_hot[i, j] > one_hot[i, label]:
                label = j
        if sparse.size:
            label = sparse[i]
        hits += best == label
    total[0] += hits


@_kernel
def error_sum(p: Any, targets: Any, squared: bool, total: Any) -> None:
    result = 0.0
    for i in range(p.shape[0]):
        row = 0.0
        for j in range(p.shape[1]):
            e = p[i, j] - targets[i, j]
            row += e * e if squared else abs(e)
        result += row / p.shape[1]
    total[0] += result


@_kernel
def binary_accuracy(p: Any, targets: Any, threshold: float, total: Any) -> None:
    result = 0.0
    for i in range(p.shape[0]):
        hits = 0
        for j in range(p.shape[1]):
            hits += (p[i, j] > threshold) == (targets[i, j] > 0.5)
        result += hits / p.shape[1]
    total[0] += result


# Regularizers and clipping


@_reducing_kernel
def penalty(kernel: Any, l1: float, l2: float, rows: int, total: Any) -> None:
    absolute = 0.0
    squared = 0.0
    for i in range(kernel.size):
        w = np.float64(kernel[i])
        absolute += abs(w)
        squared += w * w
    total[0] += rows * (l1 * absolute + l2 * squared)


@_reducing_kernel
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


@_reducing_kernel
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


@_kernel
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


@_kernel
def sgd(w: Any, g: Any, rate: Any, decay: Any) -> None:
    lr = rate[0]
    for i in range(w.size):
        w[i] = w[i] - w[i] * (lr * decay) - lr * g[i]


@_kernel
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


@_kernel
def adagrad(w: Any, g: Any, rate: Any, decay: Any, accumulator: Any, epsilon: Any) -> None:
    lr = rate[0]
    for i in range(w.size):
        accumulator[i] += g[i] * g[i]
        w[i] = w[i] - w[i] * (lr * decay) - lr * g[i] / np.sqrt(accumulator[i] + epsilon)


@_kernel
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


@_kernel
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
