"""Activations and dropout on the CPU, forward and backward: a part of its table."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from gpunn.backends.cpu.loops import activations as kernels
from gpunn.backends.cpu.loops import random as numba_random
from gpunn.backends.cpu.ops.calls import run
from gpunn.backends.interface import Arrays, Attrs, Binder, Call
from gpunn.randomness import philox
from gpunn.specs import activations

Array = np.ndarray[Any, Any]

# Activations, in place on y, which holds z

_NEGATIVE_SLOPES = {"linear": 1.0, "relu": 0.0}


def negative_slope(attrs: Attrs) -> float | None:
    """Return the slope below 0 of an activation that is two straight lines, else None."""
    if attrs["activation"] == "leaky_relu":
        return float(attrs["parameter"])
    return _NEGATIVE_SLOPES.get(attrs["activation"])


def apply(attrs: Attrs, z: Array, y: Array) -> Call:
    """Return a call for y = activation(z), both flat; y may be z."""
    name, dtype = attrs["activation"], z.dtype.type
    if name == "linear":
        return partial(np.copyto, y, z)
    if name == "tanh":
        return partial(np.tanh, z, out=y)
    if name in ("relu", "leaky_relu"):
        if y is not z:
            return run(partial(np.copyto, y, z), apply(attrs, y, y))
        bias = np.zeros(1, dtype=y.dtype)
        slope = dtype(negative_slope(attrs))
        return partial(kernels.add_bias, y.reshape(-1, 1), bias, slope)
    if name == "step":
        return partial(np.greater_equal, z, dtype(0), out=y)
    if name == "sign":
        return partial(np.sign, z, out=y)
    if name == "gelu":
        half, root = dtype(0.5), dtype(activations.SQRT_HALF)
        return partial(kernels.gelu, z, y, half, root)
    e = np.empty_like(z)
    if name in ("elu", "selu"):
        positive = activations.SELU_SCALE if name == "selu" else 1.0
        negative = positive * (
            activations.SELU_ALPHA if name == "selu" else float(attrs["parameter"])
        )
        return run(
            partial(np.minimum, z, dtype(0), out=e),
            partial(np.expm1, e, out=e),
            partial(kernels.finish_exponential, y, z, e, dtype(positive), dtype(negative)),
        )
    exponential = _exp_of_minus_abs(z, e)
    if name in ("sigmoid", "silu"):
        return run(exponential, partial(kernels.finish_sigmoid, y, z, e, name == "silu"))
    assert name == "softplus", name
    return run(
        exponential,
        partial(np.log1p, e, out=e),
        partial(np.maximum, z, dtype(0), out=y),
        partial(np.add, y, e, out=y),
    )


def _exp_of_minus_abs(z: Array, e: Array) -> Call:
    return run(partial(np.abs, z, out=e), partial(np.negative, e, out=e), partial(np.exp, e, out=e))


def drop(a: Arrays, stream: int, source: Array, result: Array) -> Call:
    """Return a call for result = source under dropout, both flat."""
    seed, step, rate = a["seed"], a["step"], a["rate"]
    words = np.empty(source.size, dtype=np.uint32)
    stream_id = np.uint64(philox.stream_id(philox.Purpose.DROPOUT, stream))
    one = source.dtype.type(1)

    def call() -> None:
        numba_random.philox_words(words, seed[0], np.uint64(step[0]), stream_id)
        kernels.drop(source, words, rate, one, result)

    return call


def through_activation(gradient: Array, a: Arrays, attrs: Attrs, sums: Array) -> Call:
    """Return a call for input_gradient = gradient * derivative, and its column sums."""
    result, name, dtype = a["input_gradient"], attrs["activation"], gradient.dtype.type
    calls: list[Call] = []
    output = a.get("output")
    rate = np.zeros(1, dtype=np.float32)
    if "rate" in a and name == "relu":
        # What was dropped is 0 and so is its derivative: no need to draw the mask again.
        rate = a["rate"]
    elif "rate" in a:
        calls.append(drop(a, attrs["stream"], gradient.reshape(-1), result.reshape(-1)))
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
        calls.append(partial(kernels.column_sums, result, sums))
        return run(*calls)
    if slope is not None:
        constants = rate, dtype(1), dtype(slope)
        calls.append(
            partial(kernels.gradient_piecewise, gradient, output, *constants, result, sums)
        )
        return run(*calls)
    if name in ("tanh", "sigmoid"):
        typed = map(dtype, (1.0, 0.0, -1.0) if name == "tanh" else (0.0, 1.0, -1.0))
        calls.append(partial(kernels.gradient_polynomial, gradient, output, *typed, result, sums))
        return run(*calls)
    if name in ("elu", "selu"):
        positive, offset = 1.0, float(attrs["parameter"])
        if name == "selu":
            positive = activations.SELU_SCALE
            offset = activations.SELU_SCALE * activations.SELU_ALPHA
        pair = dtype(positive), dtype(offset)
        calls.append(partial(kernels.gradient_exponential, gradient, output, *pair, result, sums))
        return run(*calls)
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
            calls.append(partial(kernels.silu_derivative, z, e, flat_factor))
        else:
            assert name == "gelu", name
            half, density = dtype(0.5), dtype(activations.INVERSE_SQRT_2PI)
            root = dtype(activations.SQRT_HALF)
            calls += [
                partial(np.multiply, z, z, out=e),
                partial(np.multiply, e, dtype(-0.5), out=e),
                partial(np.exp, e, out=e),
                partial(kernels.gelu_derivative, z, e, flat_factor, half, root, density),
            ]
    calls.append(partial(kernels.gradient_factor, gradient, factor, result, sums))
    return run(*calls)


# The table


def activation(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return apply(attrs, a["values"].reshape(-1), a["result"].reshape(-1))


def softmax(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return partial(kernels.softmax, a["values"], a["result"])


def softmax_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return partial(kernels.softmax_gradient, a["gradient"], a["output"], a["input_gradient"])


def prelu(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return partial(kernels.prelu, a["values"], a["alpha"].reshape(-1), a["result"])


def prelu_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    x, alpha = a["values"], a["alpha"].reshape(-1)
    result = a.get("input_gradient", np.empty((0, 0), dtype=x.dtype))
    sums = a["alpha_gradient"].reshape(-1)
    return partial(kernels.prelu_gradient, a["gradient"], x, alpha, result, sums)


def dropout(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return drop(a, attrs["stream"], a["values"].reshape(-1), a["result"].reshape(-1))


def dropout_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    gradient, result = a["gradient"].reshape(-1), a["input_gradient"].reshape(-1)
    return drop(a, attrs["stream"], gradient, result)


OPERATIONS: dict[str, Binder] = {
    bind.__name__: bind
    for bind in (
        activation,
        softmax,
        softmax_gradient,
        prelu,
        prelu_gradient,
        dropout,
        dropout_gradient,
    )
}
