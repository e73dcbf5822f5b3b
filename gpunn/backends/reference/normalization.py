"""Batch and layer normalization in plain NumPy: a part of the reference backend's table.

Statistics are taken in float64 and rounded to the type of the arrays.
"""

from __future__ import annotations

import numpy as np

from gpunn.backends.interface import Arrays, Attrs
from gpunn.backends.reference.function import Array, Function


def _each_column(vector: Array) -> Array:
    """One value per column, shaped to broadcast against (..., batch, columns)."""
    return vector[..., np.newaxis, :]


def _each_row(vector: Array) -> Array:
    """One value per row, shaped to broadcast against (..., batch, columns)."""
    return vector[..., np.newaxis]


def _moments(values: Array, axis: int) -> tuple[Array, Array]:
    """Mean and biased variance along an axis, in float64."""
    exact = values.astype(np.float64)
    mean = exact.mean(axis=axis, keepdims=True)
    variance = ((exact - mean) ** 2).mean(axis=axis)
    return mean.squeeze(axis), variance


def _inverse_deviation(variance: Array, attrs: Attrs) -> Array:
    return 1 / np.sqrt(variance.astype(np.float64) + attrs["epsilon"])


def _activated(normalized: Array, a: Arrays, attrs: Attrs) -> Array:
    """Scale, shift, and multiply by the slope what is below 0."""
    z = normalized * _each_column(a["gamma"]) if "gamma" in a else normalized
    z = z + _each_column(a["beta"]) if "beta" in a else z
    return np.where(z > 0, z, z * z.dtype.type(attrs["slope"]))


def _through_activation(a: Arrays, attrs: Attrs) -> Array:
    """Return the gradient with respect to what the activation was applied to."""
    gradient = a["gradient"]
    if "output" not in a:
        return gradient
    one, slope = gradient.dtype.type(1), gradient.dtype.type(attrs["slope"])
    return gradient * np.where(a["output"] > 0, one, slope)


def batch_normalization(a: Arrays, attrs: Attrs, rows: int) -> None:
    if not rows:  # a batch of nothing has no mean
        return
    values, momentum = a["values"], attrs["momentum"]
    mean, variance = _moments(values, -2)
    a["mean"][...] = mean
    a["inverse_deviation"][...] = _inverse_deviation(variance, attrs)
    centered = values - _each_column(a["mean"])
    a["result"][...] = _activated(centered * _each_column(a["inverse_deviation"]), a, attrs)
    for moving, batch in (("moving_mean", mean), ("moving_variance", variance)):
        a[moving][...] = a[moving] * momentum + batch * (1 - momentum)


def batch_normalization_inference(a: Arrays, attrs: Attrs, rows: int) -> None:
    dtype = a["values"].dtype
    inverse = _inverse_deviation(a["variance"], attrs).astype(dtype)
    centered = a["values"] - _each_column(a["mean"])
    a["result"][...] = _activated(centered * _each_column(inverse), a, attrs)


def _write_parameter_gradients(a: Arrays, gradient: Array, normalized: Array) -> None:
    if "gamma_gradient" in a:
        a["gamma_gradient"][...] = (gradient * normalized).sum(axis=-2)
    if "beta_gradient" in a:
        a["beta_gradient"][...] = gradient.sum(axis=-2)


def batch_normalization_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    gradient, inverse = _through_activation(a, attrs), _each_column(a["inverse_deviation"])
    normalized = (a["values"] - _each_column(a["mean"])) * inverse
    _write_parameter_gradients(a, gradient, normalized)
    if "input_gradient" in a and rows:
        g = gradient * _each_column(a["gamma"]) if "gamma" in a else gradient
        mean = g.mean(axis=-2, keepdims=True)
        along = (g * normalized).mean(axis=-2, keepdims=True)
        a["input_gradient"][...] = inverse * (g - mean - normalized * along)


def layer_normalization(a: Arrays, attrs: Attrs, rows: int) -> None:
    dtype = a["values"].dtype
    mean, variance = _moments(a["values"], -1)
    mean, inverse = mean.astype(dtype), _inverse_deviation(variance, attrs).astype(dtype)
    normalized = (a["values"] - _each_row(mean)) * _each_row(inverse)
    a["result"][...] = _activated(normalized, a, attrs)
    for role, statistic in (("mean", mean), ("inverse_deviation", inverse)):
        if role in a:
            a[role][...] = statistic


def layer_normalization_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    gradient, inverse = _through_activation(a, attrs), _each_row(a["inverse_deviation"])
    normalized = (a["values"] - _each_row(a["mean"])) * inverse
    _write_parameter_gradients(a, gradient, normalized)
    if "input_gradient" in a:
        g = gradient * _each_column(a["gamma"]) if "gamma" in a else gradient
        mean = g.mean(axis=-1, keepdims=True)
        along = (g * normalized).mean(axis=-1, keepdims=True)
        a["input_gradient"][...] = inverse * (g - mean - normalized * along)


OPERATIONS: dict[str, Function] = {
    "batch_normalization": batch_normalization,
    "batch_normalization_inference": batch_normalization_inference,
    "batch_normalization_gradient": batch_normalization_gradient,
    "layer_normalization": layer_normalization,
    "layer_normalization_gradient": layer_normalization_gradient,
}
