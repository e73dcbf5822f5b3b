"""Dense layers, in plain NumPy."""

from __future__ import annotations

import numpy as np

from gpunn.backends.interface import Arrays, Attrs
from gpunn.backends.reference.activations import add_bias_gradient, drop, multiply_by_derivative
from gpunn.backends.reference.function import Function, per_model
from gpunn.specs import activations


def dense(a: Arrays, attrs: Attrs, rows: int) -> None:
    z = a["values"] @ a["kernel"]
    if "bias" in a:
        z = z + a["bias"][..., np.newaxis, :]
    if "pre" in a:
        a["pre"][...] = z
    y = activations.forward(attrs["activation"], z, attrs["parameter"])
    a["result"][...] = drop(y, a, attrs["stream"]) if "rate" in a else y


def dense_input_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    product = a["gradient"] @ np.swapaxes(a["kernel"], -1, -2)
    a["input_gradient"][...] = multiply_by_derivative(product, a, attrs)
    add_bias_gradient(a["input_gradient"], a)


def dense_kernel_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    np.matmul(np.swapaxes(a["values"], -1, -2), a["gradient"], out=a["kernel_gradient"])


def dense_kernel_update(a: Arrays, attrs: Attrs, rows: int) -> None:
    gradient = np.swapaxes(a["values"], -1, -2) @ a["gradient"]
    a["kernel"][...] -= per_model(a["learning_rate"]) * gradient


def bias_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    add_bias_gradient(a["gradient"], a)


OPERATIONS: dict[str, Function] = {
    "dense": dense,
    "dense_input_gradient": dense_input_gradient,
    "dense_kernel_gradient": dense_kernel_gradient,
    "dense_kernel_update": dense_kernel_update,
    "bias_gradient": bias_gradient,
}
