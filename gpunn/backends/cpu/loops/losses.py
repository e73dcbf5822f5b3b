"""Compiled loops of losses and metrics of the CPU backend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpunn.backends.cpu.loops.compile import kernel

# Losses. scale = loss_weight / batch size.


@kernel
def _record(total: float, rows: int, step: Any, loss_batch: Any, loss_sum: Any, first: Any) -> None:
    loss_batch[0] = total / rows
    loss_sum[0] += total
    if not math.isfinite(total) and first[0] < 0:
        first[0] = step[0]


@kernel
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


@kernel
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


@kernel
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


@kernel
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


@kernel
def mean_sum(values: Any, total: Any) -> None:
    """Add the sum over rows of the means of `values`."""
    result = 0.0
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            result += values[i, j]
    total[0] += result / values.shape[1]


@kernel
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


@kernel
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


@kernel
def error_sum(p: Any, targets: Any, squared: bool, total: Any) -> None:
    result = 0.0
    for i in range(p.shape[0]):
        row = 0.0
        for j in range(p.shape[1]):
            e = p[i, j] - targets[i, j]
            row += e * e if squared else abs(e)
        result += row / p.shape[1]
    total[0] += result


@kernel
def binary_accuracy(p: Any, targets: Any, threshold: float, total: Any) -> None:
    result = 0.0
    for i in range(p.shape[0]):
        hits = 0
        for j in range(p.shape[1]):
            hits += (p[i, j] > threshold) == (targets[i, j] > 0.5)
        result += hits / p.shape[1]
    total[0] += result
