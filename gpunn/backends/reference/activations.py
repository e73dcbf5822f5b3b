"""Activations, dropout, softmax and PReLU, in plain NumPy."""

from __future__ import annotations

import numpy as np

from gpunn.backends.interface import Arrays, Attrs
from gpunn.backends.reference.function import Array, Function, per_model
from gpunn.randomness import philox
from gpunn.specs import activations


def _dropout_mask(a: Arrays, stream: int, values: Array) -> tuple[Array, Array]:
    """Return (kept, scale): what is kept, and 1 / (1 - rate), for each model."""
    shape = values.shape
    kept = np.empty(shape, dtype=bool)
    stream = philox.stream_id(philox.Purpose.DROPOUT, stream)
    for model in np.ndindex(shape[:-2]):
        seed, step, rate = (a[role][model].flat[0] for role in ("seed", "step", "rate"))
        words = philox.words(int(seed), int(step), stream, shape[-2] * shape[-1])
        kept[model] = philox.keep(words, rate).reshape(shape[-2:])
    return kept, 1 / (1 - per_model(a["rate"]).astype(values.dtype))


def drop(values: Array, a: Arrays, stream: int) -> Array:
    kept, scale = _dropout_mask(a, stream, values)
    return np.where(kept, values * scale, values.dtype.type(0))


def multiply_by_derivative(gradient: Array, a: Arrays, attrs: Attrs) -> Array:
    """Return the gradient times the derivative of dropout and activation."""
    dtype = gradient.dtype.type
    value = a.get("pre", a.get("output"))
    if "rate" in a:
        kept, scale = _dropout_mask(a, attrs["stream"], gradient)
        gradient = np.where(kept, gradient * scale, dtype(0))
        if "output" in a:  # from the value after dropout back to the activation's output
            value = np.where(kept, a["output"] / scale, dtype(0))
    if attrs["activation"] == "linear":
        return gradient
    assert value is not None
    return gradient * activations.derivative(attrs["activation"], value, attrs["parameter"])


def add_bias_gradient(gradient: Array, a: Arrays) -> None:
    if "bias_gradient" in a:
        a["bias_gradient"][...] = gradient.sum(axis=-2)
    elif "bias" in a:
        a["bias"][...] -= a["learning_rate"] * gradient.sum(axis=-2)


def activation_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["input_gradient"][...] = multiply_by_derivative(a["gradient"], a, attrs)
    add_bias_gradient(a["input_gradient"], a)


def activation(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["result"][...] = activations.forward(attrs["activation"], a["values"], attrs["parameter"])


def softmax(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["result"][...] = activations.forward("softmax", a["values"])


def softmax_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    gradient, y = a["gradient"], a["output"]
    a["input_gradient"][...] = y * (gradient - (gradient * y).sum(axis=-1, keepdims=True))


def _flat_alpha(a: Arrays) -> Array:
    """Return alpha, which has a sample's shape, as (..., 1, features)."""
    shape = a["values"].shape
    return a["alpha"].reshape(*shape[:-2], 1, shape[-1])


def prelu(a: Arrays, attrs: Attrs, rows: int) -> None:
    x = a["values"]
    a["result"][...] = np.maximum(x, 0) + _flat_alpha(a) * np.minimum(x, 0)


def prelu_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    gradient, x = a["gradient"], a["values"]
    if "input_gradient" in a:
        a["input_gradient"][...] = gradient * np.where(x > 0, 1, _flat_alpha(a))
    sums = (gradient * np.minimum(x, 0)).sum(axis=-2)
    a["alpha_gradient"][...] = sums.reshape(a["alpha_gradient"].shape)


def dropout(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["result"][...] = drop(a["values"], a, attrs["stream"])


def dropout_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["input_gradient"][...] = drop(a["gradient"], a, attrs["stream"])


OPERATIONS: dict[str, Function] = {
    "activation": activation,
    "activation_gradient": activation_gradient,
    "softmax": softmax,
    "softmax_gradient": softmax_gradient,
    "prelu": prelu,
    "prelu_gradient": prelu_gradient,
    "dropout": dropout,
    "dropout_gradient": dropout_gradient,
}
