"""Batch and layer normalization on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from gpunn.backends.cpu.loops import normalization as loops
from gpunn.backends.cpu.ops.calls import optional
from gpunn.backends.interface import Arrays, Attrs, Binder, Call


def _vector(a: Arrays, role: str) -> Any:
    return optional(a, role, a["values"].dtype)


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
        loops.batch_forward,
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
        loops.batch_inference,
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
    product = np.empty_like(gradient)
    slope, flat = gradient.dtype.type(attrs["slope"]), product.reshape(-1)
    arguments = _gradient_arguments(a, product, size)
    source, output = gradient.reshape(-1), a["output"].reshape(-1)

    def call() -> None:
        loops.multiply_by_derivative(source, output, slope, flat)
        backward(*arguments, *more)

    return call


def _gradient_arguments(a: Arrays, gradient: Any, size: int) -> tuple[Any, ...]:
    dtype = a["values"].dtype
    return (
        *(a["values"], gradient, a["mean"], a["inverse_deviation"]),
        _vector(a, "gamma"),
        optional(a, "input_gradient", dtype, 2),
        a.get("gamma_gradient", np.empty(size, dtype)),
        a.get("beta_gradient", np.empty(size, dtype)),
    )


def batch_normalization_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    values = a["values"]
    if not values.size:
        return _nothing
    share = values.dtype.type(1 / rows)
    return _with_activation(loops.batch_backward, a, attrs, values.shape[1], share)


def layer_normalization(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return partial(
        loops.layer_forward,
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
    scratch = np.empty(2, a["values"].dtype)
    return _with_activation(loops.layer_backward, a, attrs, 0, scratch)


OPERATIONS: dict[str, Binder] = {
    "batch_normalization": batch_normalization,
    "batch_normalization_inference": batch_normalization_inference,
    "batch_normalization_gradient": batch_normalization_gradient,
    "layer_normalization": layer_normalization,
    "layer_normalization_gradient": layer_normalization_gradient,
}
