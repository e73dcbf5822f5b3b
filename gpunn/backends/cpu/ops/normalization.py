"""Batch and layer normalization in compiled loops: a part of the CPU backend's table.

Statistics are summed up in float64, as differences from the first value of the column or row, so
that little cancels where the mean is much larger than the deviation. Optional arrays that are
left out have size 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from gpunn.backends.cpu.loops.compile import compiled, kernel
from gpunn.backends.interface import Arrays, Attrs, Binder, Call


def _sums(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile so that sums may be split among vector lanes, in a fixed order."""
    return compiled(function, error_model="numpy", fastmath={"reassoc", "contract"})


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
def _batch_forward(
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
    """`sums`, `squares` (float64) and `factor` are room for a value of each column."""
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
def _batch_inference(
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
def _batch_backward(
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
def _through_activation(gradient: Any, output: Any, slope: Any, result: Any) -> None:
    """All flat."""
    zero = slope - slope
    for i in range(gradient.size):
        result[i] = gradient[i] if output[i] > zero else gradient[i] * slope


@_sums
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
def _layer_forward(
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
    """`row`: room for a row's statistics, in the type of the arrays."""
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


@_sums
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
def _layer_backward(
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
    """`row`: room for a row's means, in the type of the arrays."""
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


# The table


def _vector(a: Arrays, role: str, size: int = 0) -> Any:
    """Return an array of one axis, or room of `size` in its place."""
    return a[role] if role in a else np.empty(size, a["values"].dtype)


def _matrix(a: Arrays, role: str) -> Any:
    return a[role] if role in a else np.empty((0, 0), a["values"].dtype)


def _nothing() -> None:
    """Do what there is to do for a batch without rows."""


def _tiny(dtype: Any, attrs: Attrs) -> float:
    """Return what moving statistics must reach to be more than 0.

    The variance of a feature that never changes shrinks with each step, to subnormal numbers in
    the end, which are very slow, and remains one for good. Far above those, and far below anything
    that epsilon does not hide; without epsilon, nothing.
    """
    return 1e8 * float(np.finfo(dtype).tiny) if attrs["epsilon"] else 0.0


def batch_normalization(a: Arrays, attrs: Attrs, rows: int) -> Call:
    values = a["values"]
    if not values.size:
        return _nothing
    columns = values.shape[1]
    return partial(
        _batch_forward,
        values,
        _vector(a, "gamma"),
        _vector(a, "beta"),
        float(attrs["momentum"]),
        float(attrs["epsilon"]),
        _tiny(values.dtype, attrs),
        values.dtype.type(attrs["slope"]),
        *(a[role] for role in ("result", "mean", "inverse_deviation")),
        *(a[role] for role in ("moving_mean", "moving_variance")),
        np.empty(columns),
        np.empty(columns),
        np.empty(columns, values.dtype),
    )


def batch_normalization_inference(a: Arrays, attrs: Attrs, rows: int) -> Call:
    values = a["values"]
    return partial(
        _batch_inference,
        values,
        a["mean"],
        a["variance"],
        _vector(a, "gamma"),
        _vector(a, "beta"),
        float(attrs["epsilon"]),
        values.dtype.type(attrs["slope"]),
        a["result"],
        np.empty(values.shape[1], values.dtype),
    )


def _with_activation(
    backward: Callable[..., None], a: Arrays, attrs: Attrs, size: int, *more: Any
) -> Call:
    """Return the call of a backward kernel, after the derivative of the activation if any.

    `size`: of the sums that nobody wants, if the kernel needs them.
    """
    gradient = a["gradient"]
    if "output" not in a:
        return partial(backward, *_gradient_arguments(a, gradient, size), *more)
    through = np.empty_like(gradient)
    slope, flat = gradient.dtype.type(attrs["slope"]), through.reshape(-1)
    arguments = _gradient_arguments(a, through, size)
    source, output = gradient.reshape(-1), a["output"].reshape(-1)

    def call() -> None:
        _through_activation(source, output, slope, flat)
        backward(*arguments, *more)

    return call


def _gradient_arguments(a: Arrays, gradient: Any, size: int) -> tuple[Any, ...]:
    return (
        *(a["values"], gradient, a["mean"], a["inverse_deviation"]),
        _vector(a, "gamma"),
        _matrix(a, "input_gradient"),
        _vector(a, "gamma_gradient", size),
        _vector(a, "beta_gradient", size),
    )


def batch_normalization_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    values = a["values"]
    if not values.size:
        return _nothing
    share = values.dtype.type(1 / rows)
    return _with_activation(_batch_backward, a, attrs, values.shape[1], share)


def layer_normalization(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return partial(
        _layer_forward,
        a["values"],
        _vector(a, "gamma"),
        _vector(a, "beta"),
        float(attrs["epsilon"]),
        a["values"].dtype.type(attrs["slope"]),
        a["result"],
        _vector(a, "mean"),
        _vector(a, "inverse_deviation"),
        np.empty(2, a["values"].dtype),
    )


def layer_normalization_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    room = np.empty(2, a["values"].dtype)
    return _with_activation(_layer_backward, a, attrs, 0, room)


OPERATIONS: dict[str, Binder] = {
    bind.__name__: bind
    for bind in (
        batch_normalization,
        batch_normalization_inference,
        batch_normalization_gradient,
        layer_normalization,
        layer_normalization_gradient,
    )
}
