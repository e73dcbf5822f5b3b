"""Dense layers on the CPU: a part of its table, with a choice of who computes the products."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np

from gpunn.backends.cpu.loops import activations as kernels
from gpunn.backends.cpu.ops.activations import apply, drop, negative_slope, through_activation
from gpunn.backends.cpu.ops.calls import run
from gpunn.backends.cpu.products import blas
from gpunn.backends.interface import Arrays, Attrs, Binder, Call

Array = np.ndarray[Any, Any]


class Products(Protocol):
    """Who computes the matrix products of Dense layers, and what goes with them."""

    def forward(self, a: Arrays, slope: float) -> Call:
        """Return a call for result = values @ kernel + bias, times `slope` where negative."""

    def input_gradient(self, a: Arrays, attrs: Attrs) -> Call:
        """Return a call for dense_input_gradient."""

    def kernel_gradient(self, values: Array, gradient: Array, result: Array) -> Call:
        """Return a call for result = values.T @ gradient."""

    def kernel_update(self, values: Array, gradient: Array, rate: Array, kernel: Array) -> Call:
        """Return a call for kernel -= rate * values.T @ gradient."""


class LibraryProducts:
    """Products in NumPy's BLAS, what goes with them in loops of their own."""

    def forward(self, a: Arrays, slope: float) -> Call:
        y = a["result"]
        product = partial(np.matmul, a["values"], a["kernel"], out=y)
        if "bias" not in a and slope == 1.0:
            return product
        # np.add(y, bias, out=y) would copy y first: NumPy sees y overlap with itself.
        bias = a.get("bias", np.zeros(y.shape[1], dtype=y.dtype))
        return run(product, partial(kernels.add_bias, y, bias, y.dtype.type(slope)))

    def input_gradient(self, a: Arrays, attrs: Attrs) -> Call:
        result = a["input_gradient"]
        product = partial(np.matmul, a["gradient"], a["kernel"].T, out=result)
        return product if is_product_alone(a, attrs) else then_through(product, a, attrs)

    def kernel_gradient(self, values: Array, gradient: Array, result: Array) -> Call:
        return partial(np.matmul, values.T, gradient, out=result)

    def kernel_update(self, values: Array, gradient: Array, rate: Array, kernel: Array) -> Call:
        return blas.accumulate_product(values, gradient, rate, kernel)


def then_through(product: Call, a: Arrays, attrs: Attrs) -> Call:
    """Return a call for a product and then what an input gradient is besides, in passes."""
    result = a["input_gradient"]
    sums, update = bias_target(a, result.shape[1], result.dtype)
    return run(product, through_activation(result, a, attrs, sums), update)


LIBRARY = LibraryProducts()
# Who computes the product of so many rows with a kernel, and those of its gradients.
Choice = Callable[[int, Array], Products]


def is_product_alone(a: Arrays, attrs: Attrs) -> bool:
    """Return whether an input gradient is that of a linear layer without a bias before it."""
    plain = attrs["activation"] == "linear" and "rate" not in a
    return plain and "bias" not in a and "bias_gradient" not in a


def bias_target(a: Arrays, columns: int, dtype: Any) -> tuple[Array, Call | None]:
    """Return where column sums go, and the call that takes them into the bias, if any."""
    if "bias_gradient" in a:
        return a["bias_gradient"], None
    sums = np.empty(columns, dtype=dtype)
    if "bias" not in a:
        return sums, None
    rate, bias = a["learning_rate"], a["bias"]
    scaled = partial(np.multiply, sums, rate, out=sums)
    return sums, run(scaled, partial(np.subtract, bias, sums, out=bias))


def dense(choice: Choice, a: Arrays, attrs: Attrs, rows: int) -> Call:
    y, slope = a["result"], negative_slope(attrs)
    straight = slope is not None and "pre" not in a
    fused = slope if slope is not None and straight else 1.0
    calls: list[Call] = [choice(rows, a["kernel"]).forward(a, fused)]
    flat = y.reshape(-1)
    if not straight:
        if "pre" in a:
            calls.append(partial(np.copyto, a["pre"], y))
        calls.append(apply(attrs, flat, flat))
    if "rate" in a:
        calls.append(drop(a, attrs["stream"], flat, flat))
    return run(*calls)


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


def activation_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    gradient = a["gradient"]
    sums, update = bias_target(a, gradient.shape[1], gradient.dtype)
    return run(through_activation(gradient, a, attrs, sums), update)


def bias_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    gradient = a["gradient"]
    sums, update = bias_target(a, gradient.shape[1], gradient.dtype)
    return run(partial(kernels.column_sums, gradient, sums), update)


PRODUCTS = {
    bind.__name__: bind
    for bind in (dense, dense_input_gradient, dense_kernel_gradient, dense_kernel_update)
}


def operations(choice: Choice) -> dict[str, Binder]:
    """Return the ops with products."""
    return {op: partial(bind, choice) for op, bind in PRODUCTS.items()}


OPERATIONS: dict[str, Binder] = operations(lambda rows, kernel: LIBRARY) | {
    bind.__name__: bind for bind in (activation_gradient, bias_gradient)
}
