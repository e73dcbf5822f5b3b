"""Dense layers on the CPU: a part of its table, with a choice of who computes the products."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np

from gpunn.backends.cpu.loops import dense as loops
from gpunn.backends.cpu.ops.activations import (
    apply_activation,
    apply_dropout,
    bias_target,
    multiply_by_derivative,
    negative_slope,
)
from gpunn.backends.cpu.ops.calls import sequence
from gpunn.backends.cpu.products import blas
from gpunn.backends.interface import Arrays, Attrs, Binder, Call

Array = np.ndarray[Any, Any]


class DenseProducts(Protocol):
    """Who computes the matrix products of Dense layers, and what goes with them."""

    def forward(self, a: Arrays, slope: float) -> Call:
        """Return a call for result = values @ kernel + bias, times `slope` where negative."""

    def input_gradient(self, a: Arrays, attrs: Attrs) -> Call:
        """Return a call for dense_input_gradient."""

    def kernel_gradient(self, values: Array, gradient: Array, result: Array) -> Call:
        """Return a call for result = values.T @ gradient."""

    def kernel_update(self, values: Array, gradient: Array, rate: Array, kernel: Array) -> Call:
        """Return a call for kernel -= rate * values.T @ gradient."""


class BlasProducts:
    """Products in NumPy's BLAS, what goes with them in loops of their own."""

    def forward(self, a: Arrays, slope: float) -> Call:
        y = a["result"]
        product = partial(np.matmul, a["values"], a["kernel"], out=y)
        if "bias" not in a and slope == 1.0:
            return product
        # np.add(y, bias, out=y) would copy y first: NumPy sees y overlap with itself.
        bias = a.get("bias", np.zeros(y.shape[1], dtype=y.dtype))
        return sequence(product, partial(loops.add_bias, y, bias, y.dtype.type(slope)))

    def input_gradient(self, a: Arrays, attrs: Attrs) -> Call:
        result = a["input_gradient"]
        product = partial(np.matmul, a["gradient"], a["kernel"].T, out=result)
        if is_product_alone(a, attrs):
            return product
        return followed_by_activation_gradient(product, a, attrs)

    def kernel_gradient(self, values: Array, gradient: Array, result: Array) -> Call:
        return partial(np.matmul, values.T, gradient, out=result)

    def kernel_update(self, values: Array, gradient: Array, rate: Array, kernel: Array) -> Call:
        return blas.accumulate_product(values, gradient, rate, kernel)


def followed_by_activation_gradient(product: Call, a: Arrays, attrs: Attrs) -> Call:
    """Return a call for a product and then what an input gradient is besides, in passes."""
    result = a["input_gradient"]
    sums, update = bias_target(a, result.shape[1], result.dtype)
    return sequence(product, multiply_by_derivative(result, a, attrs, sums), update)


BLAS = BlasProducts()
# Who computes the product of so many rows with a kernel, and those of its gradients.
Choice = Callable[[int, Array], DenseProducts]


def is_product_alone(a: Arrays, attrs: Attrs) -> bool:
    """Return whether an input gradient is that of a linear layer without a bias before it."""
    plain = attrs["activation"] == "linear" and "rate" not in a
    return plain and "bias" not in a and "bias_gradient" not in a


def dense(choice: Choice, a: Arrays, attrs: Attrs, rows: int) -> Call:
    y, slope = a["result"], negative_slope(attrs)
    piecewise_linear = slope is not None and "pre" not in a
    fused = slope if slope is not None and piecewise_linear else 1.0
    calls: list[Call] = [choice(rows, a["kernel"]).forward(a, fused)]
    flat = y.reshape(-1)
    if not piecewise_linear:
        if "pre" in a:
            calls.append(partial(np.copyto, a["pre"], y))
        calls.append(apply_activation(attrs, flat, flat))
    if "rate" in a:
        calls.append(apply_dropout(a, attrs["stream"], flat, flat))
    return sequence(*calls)


def dense_input_gradient(choice: Choice, a: Arrays, attrs: Attrs, rows: int) -> Call:
    return choice(rows, a["kernel"]).input_gradient(a, attrs)


def dense_kernel_gradient(choice: Choice, a: Arrays, attrs: Attrs, rows: int) -> Call:
    kernel = a["kernel_gradient"]
    return choice(rows, kernel).kernel_gradient(a["values"], a["gradient"], kernel)


def dense_kernel_update(choice: Choice, a: Arrays, attrs: Attrs, rows: int) -> Call:
    kernel = a["kernel"]
    return choice(rows, kernel).kernel_update(
        a["values"], a["gradient"], a["learning_rate"], kernel
    )


def bias_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    gradient = a["gradient"]
    sums, update = bias_target(a, gradient.shape[1], gradient.dtype)
    return sequence(partial(loops.column_sums, gradient, sums), update)


PRODUCTS = {
    "dense": dense,
    "dense_input_gradient": dense_input_gradient,
    "dense_kernel_gradient": dense_kernel_gradient,
    "dense_kernel_update": dense_kernel_update,
}


def operations(choice: Choice) -> dict[str, Binder]:
    """Return the ops with products."""
    return {op: partial(bind, choice) for op, bind in PRODUCTS.items()}


OPERATIONS: dict[str, Binder] = operations(lambda rows, kernel: BLAS) | {
    "bias_gradient": bias_gradient
}
