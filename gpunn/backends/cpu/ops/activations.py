"""Activations and dropout on the CPU, forward and backward: a part of its table."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from gpunn.backends.cpu.loops import activations as loops
from gpunn.backends.cpu.loops import dense, random
from gpunn.backends.cpu.ops.calls import optional, sequence
from gpunn.backends.interface import Arrays, Attrs, Binder, Call
from gpunn.randomness import philox
from gpunn.specs import activations

Array = np.ndarray[Any, Any]

# Activations, in place on y, which holds z

_NEGATIVE_SLOPES = {"linear": 1.0, "relu": 0.0}


def negative_slope(attrs: Attrs) -> float | None:
    """Return the slope below 0 of a piecewise linear activation, else None."""
    if attrs["activation"] == "leaky_relu":
        return float(attrs["parameter"])
    return _NEGATIVE_SLOPES.get(attrs["activation"])


def apply_activation(attrs: Attrs, z: Array, y: Array) -> Call:
    """Return a call for y = activation(z), both flat; y may be z."""
    name, dtype = attrs["activation"], z.dtype.type
    if name == "linear":
        return partial(np.copyto, y, z)
    if name == "tanh":
        return partial(np.tanh, z, out=y)
    if name in ("relu", "leaky_relu"):
        if y is not z:
            return sequence(partial(np.copyto, y, z), apply_activation(attrs, y, y))
        bias = np.zeros(1, dtype=y.dtype)
        slope = dtype(negative_slope(attrs))
        return partial(dense.add_bias, y.reshape(-1, 1), bias, slope)
    if name == "step":
        return partial(np.greater_equal, z, dtype(0), out=y)
    if name == "sign":
        return partial(np.sign, z, out=y)
    if name == "gelu":
        half, root = dtype(0.5), dtype(activations.SQRT_HALF)
        return partial(loops.gelu, z, y, half, root)
    e = np.empty_like(z)
    if name in ("elu", "selu"):
        positive = activations.SELU_SCALE if name == "selu" else 1.0
        negative = positive * (
            activations.SELU_ALPHA if name == "selu" else float(attrs["parameter"])
        )
        return sequence(
            partial(np.minimum, z, dtype(0), out=e),
            partial(np.expm1, e, out=e),
            partial(loops.finish_exponential, y, z, e, dtype(positive), dtype(negative)),
        )
    exponential = _exp_of_minus_abs(z, e)
    if name in ("sigmoid", "silu"):
        return sequence(exponential, partial(loops.finish_sigmoid, y, z, e, name == "silu"))
    assert name == "softplus", name
    return sequence(
        exponential,
        partial(np.log1p, e, out=e),
        partial(np.maximum, z, dtype(0), out=y),
        partial(np.add, y, e, out=y),
    )


def _exp_of_minus_abs(z: Array, e: Array) -> Call:
    return sequence(
        partial(np.abs, z, out=e), partial(np.negative, e, out=e), partial(np.exp, e, out=e)
    )


def apply_dropout(a: Arrays, stream: int, source: Array, result: Array) -> Call:
    """Return a call for result = source under dropout, both flat."""
    seed, step, rate = a["seed"], a["step"], a["rate"]
    words = np.empty(source.size, dtype=np.uint32)
    stream_id = np.uint64(philox.stream_id(philox.Purpose.DROPOUT, stream))
    one = source.dtype.type(1)

    def call() -> None:
        random.philox_words(words, seed[0], np.uint64(step[0]), stream_id)
        loops.dropout(source, words, rate, one, result)

    return call


def multiply_by_derivative(gradient: Array, a: Arrays, attrs: Attrs, sums: Array) -> Call:
    """Return a call for input_gradient = gradient * derivative, and its column sums."""
    result, name, dtype = a["input_gradient"], attrs["activation"], gradient.dtype.type
    calls: list[Call] = []
    output = a.get("output")
    rate = np.zeros(1, dtype=np.float32)
    if "rate" in a and name == "relu":
        # What was dropped is 0 and so is its derivative: no need to draw the mask again.
        rate = a["rate"]
    elif "rate" in a:
        calls.append(apply_dropout(a, attrs["stream"], gradient.reshape(-1), result.reshape(-1)))
        gradient = result
        if output is not None:
            # From the value after dropout back to the activation's output; where it was
            # dropped the gradient is 0 whatever the derivative.
            restored, kept = np.empty_like(output), np.empty(1, dtype=dtype)
            calls.append(partial(np.subtract, dtype(1), a["rate"], out=kept))
            calls.append(partial(np.multiply, output, kept, out=restored))
            output = restored
    slope = negative_slope(attrs)
    if name == "linear":
        if gradient is not result:
            calls.append(partial(np.copyto, result, gradient))
        calls.append(partial(dense.column_sums, result, sums))
        return sequence(*calls)
    if slope is not None:
        constants = rate, dtype(1), dtype(slope)
        calls.append(partial(loops.gradient_piecewise, gradient, output, *constants, result, sums))
        return sequence(*calls)
    if name in ("tanh", "sigmoid"):
        typed = map(dtype, (1.0, 0.0, -1.0) if name == "tanh" else (0.0, 1.0, -1.0))
        calls.append(partial(loops.gradient_polynomial, gradient, output, *typed, result, sums))
        return sequence(*calls)
    if name in ("elu", "selu"):
        positive, offset = 1.0, float(attrs["parameter"])
        if name == "selu":
            positive = activations.SELU_SCALE
            offset = activations.SELU_SCALE * activations.SELU_ALPHA
        pair = dtype(positive), dtype(offset)
        calls.append(partial(loops.gradient_exponential, gradient, output, *pair, result, sums))
        return sequence(*calls)
    factor = np.empty_like(gradient)
    flat_factor = factor.reshape(-1)
    if name == "softplus":
        assert output is not None
        calls.append(partial(np.negative, output, out=factor))
        calls.append(partial(np.expm1, factor, out=factor))
        calls.append(partial(np.negative, factor, out=factor))
    else:
        z = a["pre"].reshape(-1)
        e = np.empty_like(z)
        if name == "silu":
            calls.append(_exp_of_minus_abs(z, e))
            calls.append(partial(loops.silu_derivative, z, e, flat_factor))
        else:
            assert name == "gelu", name
            half, density = dtype(0.5), dtype(activations.INVERSE_SQRT_2PI)
            root = dtype(activations.SQRT_HALF)
            calls += [
                partial(np.multiply, z, z, out=e),
                partial(np.multiply, e, dtype(-0.5), out=e),
                partial(np.exp, e, out=e),
                partial(loops.gelu_derivative, z, e, flat_factor, half, root, density),
            ]
    calls.append(partial(loops.gradient_factor, gradient, factor, result, sums))
    return sequence(*calls)


def bias_target(a: Arrays, columns: int, dtype: Any) -> tuple[Array, Call | None]:
    """Return where column sums go, and the call that takes them into the bias, if any."""
    if "bias_gradient" in a:
        return a["bias_gradient"], None
    sums = np.empty(columns, dtype=dtype)
    if "bias" not in a:
        return sums, None
    rate, bias = a["learning_rate"], a["bias"]
    scaled = partial(np.multiply, sums, rate, out=sums)
    return sums, sequence(scaled, partial(np.subtract, bias, sums, out=bias))


# Ops


def activation(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return apply_activation(attrs, a["values"].reshape(-1), a["result"].reshape(-1))


def activation_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    gradient = a["gradient"]
    sums, update = bias_target(a, gradient.shape[1], gradient.dtype)
    return sequence(multiply_by_derivative(gradient, a, attrs, sums), update)


def softmax(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return partial(loops.softmax, a["values"], a["result"])


def softmax_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return partial(loops.softmax_gradient, a["gradient"], a["output"], a["input_gradient"])


def prelu(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return partial(loops.prelu, a["values"], a["alpha"].reshape(-1), a["result"])


def prelu_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    x, alpha = a["values"], a["alpha"].reshape(-1)
    result = optional(a, "input_gradient", x.dtype, 2)
    sums = a["alpha_gradient"].reshape(-1)
    return partial(loops.prelu_gradient, a["gradient"], x, alpha, result, sums)


def dropout(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return apply_dropout(a, attrs["stream"], a["values"].reshape(-1), a["result"].reshape(-1))


def dropout_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    gradient, result = a["gradient"].reshape(-1), a["input_gradient"].reshape(-1)
    return apply_dropout(a, attrs["stream"], gradient, result)


OPERATIONS: dict[str, Binder] = {
    "activation": activation,
    "activation_gradient": activation_gradient,
    "softmax": softmax,
    "softmax_gradient": softmax_gradient,
    "prelu": prelu,
    "prelu_gradient": prelu_gradient,
    "dropout": dropout,
    "dropout_gradient": dropout_gradient,
}
