"""Loops of batch and layer normalization.

Statistics are summed up in float64, as differences from the first value of the column or row, so
that little cancels where the mean is much larger than the deviation.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpunn.backends.cpu.loops.compile import kernel, reducing_kernel


@kernel
def _normalize_columns(
    values: Any, mean: Any, factor: Any, beta: Any, slope: Any, result: Any
) -> None:
    zero = slope - slope
    for i in range(values.shape[0]):
        if beta.size:
            for j in range(values.shape[1]):
                z = (values[i, j] - mean[j]) * factor[j] + beta[j]
                # + 0 turns the -0 of relu into 0.
                result[i, j] = (z if z > zero else z * slope) + zero
        else:
            for j in range(values.shape[1]):
                z = (values[i, j] - mean[j]) * factor[j]
                result[i, j] = (z if z > zero else z * slope) + zero


@kernel
def batch_forward(
    values: Any,
    gamma: Any,
    beta: Any,
    momentum: float,
    epsilon: float,
    tiny: float,
    slope: Any,
    result: Any,
    mean: Any,
    inverse_deviation: Any,
    moving_mean: Any,
    moving_variance: Any,
    sums: Any,
    squares: Any,
    factor: Any,
) -> None:
    """`sums`, `squares` (float64) and `factor` are scratch, a value for each column."""
    rows, columns = values.shape
    sums[:] = 0.0
    squares[:] = 0.0
    for i in range(rows):  # from the first one on: if it is not finite, that must show
        for j in range(columns):
            d = np.float64(values[i, j]) - np.float64(values[0, j])
            sums[j] += d
            squares[j] += d * d
    for j in range(columns):
        shift = sums[j] / rows
        average = np.float64(values[0, j]) + shift
        variance = max(squares[j] / rows - shift * shift, 0.0)
        inverse = 1.0 / math.sqrt(variance + epsilon)
        mean[j] = average
        inverse_deviation[j] = inverse
        factor[j] = inverse * gamma[j] if gamma.size else inverse
        moved = moving_mean[j] * momentum + average * (1.0 - momentum)
        moving_mean[j] = 0.0 if abs(moved) < tiny else moved
        moved = moving_variance[j] * momentum + variance * (1.0 - momentum)
        moving_variance[j] = 0.0 if moved < tiny else moved
    _normalize_columns(values, mean, factor, beta, slope, result)


@kernel
def batch_inference(
    values: Any,
    mean: Any,
    variance: Any,
    gamma: Any,
    beta: Any,
    epsilon: float,
    slope: Any,
    result: Any,
    factor: Any,
) -> None:
    for j in range(values.shape[1]):
        inverse = 1.0 / math.sqrt(np.float64(variance[j]) + epsilon)
        factor[j] = inverse * gamma[j] if gamma.size else inverse
    _normalize_columns(values, mean, factor, beta, slope, result)


@kernel
def batch_backward(
    values: Any,
    gradient: Any,
    mean: Any,
    inverse_deviation: Any,
    gamma: Any,
    input_gradient: Any,
    gamma_gradient: Any,
    beta_gradient: Any,
    share: Any,
) -> None:
    """Both sums are given, as both enter the input's gradient; `share` = 1 / rows."""
    rows, columns = values.shape
    gamma_gradient[:] = 0
    beta_gradient[:] = 0
    for i in range(rows):
        for j in range(columns):
            normalized = (values[i, j] - mean[j]) * inverse_deviation[j]
            gamma_gradient[j] += gradient[i, j] * normalized
            beta_gradient[j] += gradient[i, j]
    if not input_gradient.size:
        return
    for i in range(rows):
        for j in range(columns):
            inverse = inverse_deviation[j]
            factor = inverse * gamma[j] if gamma.size else inverse
            normalized = (values[i, j] - mean[j]) * inverse
            common = (beta_gradient[j] + normalized * gamma_gradient[j]) * share
            input_gradient[i, j] = factor * (gradient[i, j] - common)


@kernel
def multiply_by_derivative(gradient: Any, output: Any, slope: Any, result: Any) -> None:
    """All flat."""
    zero = slope - slope
    for i in range(gradient.size):
        result[i] = gradient[i] if output[i] > zero else gradient[i] * slope


@reducing_kernel
def _row_moments(values: Any, i: int) -> tuple[float, float]:
    columns = values.shape[1]
    first = np.float64(values[i, 0])
    total, squares = 0.0, 0.0
    for j in range(columns):
        d = np.float64(values[i, j]) - first
        total += d
        squares += d * d
    shift = total / columns
    return first + shift, max(squares / columns - shift * shift, 0.0)


@kernel
def layer_forward(
    values: Any,
    gamma: Any,
    beta: Any,
    epsilon: float,
    slope: Any,
    result: Any,
    mean: Any,
    inverse_deviation: Any,
    row: Any,
) -> None:
    """`row`: scratch for a row's statistics, in the type of the arrays."""
    for i in range(values.shape[0]):
        average, variance = _row_moments(values, i)
        row[0] = average
        row[1] = 1.0 / math.sqrt(variance + epsilon)
        center, inverse = row[0], row[1]
        if mean.size:
            mean[i] = center
        if inverse_deviation.size:
            inverse_deviation[i] = inverse
        for j in range(values.shape[1]):
            result[i, j] = (values[i, j] - center) * inverse
        if gamma.size:
            for j in range(values.shape[1]):
                result[i, j] *= gamma[j]
        if beta.size:
            for j in range(values.shape[1]):
                result[i, j] += beta[j]
        if slope != 1:
            zero = slope - slope
            for j in range(values.shape[1]):
                z = result[i, j]
                result[i, j] = (z if z > zero else z * slope) + zero


@reducing_kernel
def _row_products(
    values: Any, gradient: Any, gamma: Any, center: Any, inverse: Any, i: int
) -> tuple[Any, Any]:
    """Means over row i of g = gradient * gamma, and of g times the normalized value."""
    columns = values.shape[1]
    total = center - center
    along = center - center
    if gamma.size:
        for j in range(columns):
            g = gradient[i, j] * gamma[j]
            total += g
            along += g * ((values[i, j] - center) * inverse)
    else:
        for j in range(columns):
            g = gradient[i, j]
            total += g
            along += g * ((values[i, j] - center) * inverse)
    return total / columns, along / columns


@kernel
def layer_backward(
    values: Any,
    gradient: Any,
    mean: Any,
    inverse_deviation: Any,
    gamma: Any,
    input_gradient: Any,
    gamma_gradient: Any,
    beta_gradient: Any,
    row: Any,
) -> None:
    """`row`: scratch for a row's means, in the type of the arrays."""
    gamma_gradient[:] = 0
    beta_gradient[:] = 0
    for i in range(values.shape[0]):
        center, inverse = mean[i], inverse_deviation[i]
        if gamma_gradient.size:
            for j in range(values.shape[1]):
                normalized = (values[i, j] - center) * inverse
                gamma_gradient[j] += gradient[i, j] * normalized
        if beta_gradient.size:
            for j in range(values.shape[1]):
                beta_gradient[j] += gradient[i, j]
        if not input_gradient.size:
            continue
        total, along = _row_products(values, gradient, gamma, center, inverse, i)
        row[0] = total
        row[1] = along
        total_mean, along_mean = row[0], row[1]
        for j in range(values.shape[1]):
            g = gradient[i, j] * gamma[j] if gamma.size else gradient[i, j]
            normalized = (values[i, j] - center) * inverse
            input_gradient[i, j] = inverse * (g - total_mean - normalized * along_mean)
