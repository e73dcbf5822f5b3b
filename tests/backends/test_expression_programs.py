"""Random expressions: the same value and derivative on NumPy, the reference, the CPU's programs
and the kernels; and every single operation, also those that the op cases leave out because GPUs
take a slow path for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from op_runs import needs_compiler

from gpunn import ops
from gpunn.backends.cpu.backend import NumbaCPU
from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.cuda.ops.expressions import body
from gpunn.backends.cuda.simulator.driver import SimulatorDriver
from gpunn.backends.interface import Backend
from gpunn.backends.reference.backend import NumpyReference
from gpunn.specs.expressions import Expression
from gpunn.specs.expressions.builder import Builder
from gpunn.specs.expressions.checks import compare
from gpunn.specs.expressions.derivatives import differentiate
from gpunn.specs.expressions.expression import OPERATIONS
from gpunn.specs.expressions.tracing import trace

Array = np.ndarray[Any, Any]
Function = Callable[[Any], Any]
REFERENCE, CPU = NumpyReference(), NumbaCPU()

# Bounded functions with bounded slopes, so that sums, products and compositions stay moderate.
SMOOTH: tuple[Callable[[Any], Any], ...] = (
    *(ops.tanh, ops.sin, ops.cos, ops.erf, ops.sigmoid, ops.arctan, ops.softsign, ops.square),
    *(lambda u: ops.exp(-u * u), lambda u: ops.log1p(u * u), lambda u: ops.sqrt(1 + u * u)),
    *(lambda u: 1 / (2 + ops.cos(u)), lambda u: ops.power(1.5 + ops.sin(u), 1.3), ops.negative),
    *(lambda u: ops.tanh(u) ** 3, lambda u: ops.sinh(ops.sin(u)), lambda u: ops.softplus(u) / 2),
    lambda u: ops.expm1(ops.tanh(u)),
)
BENT: tuple[Callable[[Any], Any], ...] = (
    *(ops.relu, ops.abs, ops.elu, ops.leaky_relu, ops.hard_tanh),
    *(lambda u: ops.floor(u) / 4 + u, lambda u: ops.sign(u) + u),
)
PAIRS: tuple[Callable[[Any, Any], Any], ...] = (
    *(ops.add, ops.subtract, lambda u, v: ops.tanh(u) * ops.tanh(v)),
    *(lambda u, v: u / (1 + v * v), lambda u, v: ops.logaddexp(u, v)),
)
BENT_PAIRS: tuple[Callable[[Any, Any], Any], ...] = (
    *(ops.maximum, ops.minimum, lambda u, v: ops.where(u > v, u + 1, 2 * v)),
    lambda u, v: ops.where(ops.logical_and(u > -0.3, ops.logical_or(v <= 0.4, u == v)), u * 0.7, v),
    lambda u, v: u + 0.5 * (v <= 0.2) + ops.cast(u != v, "float32"),
)


@st.composite
def functions(draw: st.DrawFn, smooth: bool = False) -> Function:
    """A random function of one number."""

    def tree(depth: int) -> Function:
        kind = draw(st.integers(0, 5)) if depth else 0
        if kind == 0:
            constant = draw(st.floats(-2, 2).map(lambda value: round(value, 3)))
            return lambda z: z if constant > -1 else constant
        if kind <= 3:
            outer = draw(st.sampled_from(SMOOTH if smooth else SMOOTH + BENT))
            inner = tree(depth - 1)
            return lambda z: outer(inner(z))
        pair = draw(st.sampled_from(PAIRS if smooth else PAIRS + BENT_PAIRS))
        left, right = tree(depth - 1), tree(depth - 1)
        return lambda z: pair(left(z), right(z))

    return tree(draw(st.integers(1, 5)))


def results(backend: Backend, expression: Expression, slope: Expression, z: Array) -> list[Array]:
    """Run the ops `expression` and `expression_gradient` on a backend."""
    gradient = np.full_like(z, 2)
    arrays = {"values": z, "gradient": gradient, "result": z + 9, "input_gradient": z + 9}
    on_device = {role: backend.upload(array) for role, array in arrays.items()}
    for role, array in arrays.items():
        backend.write(on_device[role], array)
    attrs = {"function": "f", "expression": expression.code, "derivative": slope.code}
    for op in ("expression", "expression_gradient"):
        backend.bind(op, on_device, attrs, z.shape[0])()
    backend.synchronize()
    return [backend.to_host(on_device[role]) for role in ("result", "input_gradient")]


def points(dtype: str, rows: int = 3) -> Array:
    return np.random.default_rng(5).normal(scale=1.5, size=(rows, 37)).astype(dtype)


@settings(max_examples=120)
@given(function=functions())
def test_random_functions_on_numpy_reference_and_cpu(function: Function) -> None:
    z = points("float64", rows=120)  # more than a block
    expression = trace(function, ("z",), "activation")
    slope = differentiate(expression)
    plain = np.broadcast_to(np.asarray(function(z), np.float64), z.shape)
    for backend in (REFERENCE, CPU):
        value, gradient = results(backend, expression, slope, z)
        np.testing.assert_allclose(value, plain, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(gradient, 2 * slope(z), rtol=1e-11, atol=1e-11)


@settings(max_examples=120)
@given(function=functions())
def test_the_check_passes_random_functions_and_finds_a_wrong_factor(function: Function) -> None:
    expression = trace(function, ("z",), "activation")
    slope = differentiate(expression)
    assert not compare(expression, slope, 1).wrong.any()
    wrong = trace(lambda z: 1.01 * function(z), ("z",), "activation")
    report = compare(expression, differentiate(wrong), 1)
    large = report.compared & (np.abs(report.measured) > 0.01)
    assert report.wrong[large].all()


@settings(max_examples=120)
@given(function=functions(smooth=True))
def test_random_derivatives_equal_finite_differences(function: Function) -> None:
    """Five-point differences with h = 1e-3: their error is h**4 / 30 of the fifth derivative."""
    z, h = points("float64").ravel(), 1e-3
    slope = differentiate(trace(function, ("z",), "activation"))(z)

    def f(at: Array) -> Array:
        return np.broadcast_to(np.asarray(function(at), np.float64), at.shape)

    near, far = f(z + h) - f(z - h), f(z + 2 * h) - f(z - 2 * h)
    expected = (8 * near - far) / (12 * h)
    # Squares of squares oscillate fast: where the next finer difference disagrees, so does this.
    finer = (8 * (f(z + h / 2) - f(z - h / 2)) - near) / (6 * h)
    tolerance = 1e-7 * (1 + np.abs(expected)) + np.abs(expected - finer) * 2
    tolerance += 1e-12 * np.abs(f(z)) / h
    assert (np.abs(slope - finer) <= tolerance).all()


@pytest.fixture(scope="module")
def simulator() -> CudaBackend:
    return CudaBackend(SimulatorDriver())


def alone(name: str) -> Expression:
    """An operation on a number between 0.5 and 1.5, on 0.9, and on whether it is below 0.9."""
    code = [["argument", 0], ["tanh", 0], ["constant", 0.5], ["multiply", 1, 2]]
    code += [["constant", 1.0], ["add", 3, 4], ["constant", 0.9], ["less", 5, 6]]
    operation = OPERATIONS[name]
    code.append(
        [
            name,
            *{"r": (5,), "b": (7,), "rr": (5, 6), "bb": (7, 7), "brr": (7, 6, 5)}[
                operation.operands
            ],
        ]
    )
    if operation.result == "b":
        code.append(["cast", 8])
    return Expression(code)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_on_the_cpu(name: str, dtype: str) -> None:
    expression, z = alone(name), points(dtype)
    expected = OPERATIONS_BY_HAND[name](1 + 0.5 * np.tanh(z.astype(np.float64)))
    value, _ = results(CPU, expression, differentiate(expression), z)
    eps = float(np.finfo(dtype).eps)
    near = np.abs(np.tanh(z) * 0.5 + 0.1) < 1e-6  # comparisons with 0.9
    assert not near.any()
    np.testing.assert_allclose(value, expected, rtol=16 * eps, atol=16 * eps)


# The operations at x, with 0.9 for a second number and x < 0.9 for a truth value.
OPERATIONS_BY_HAND: dict[str, Callable[[Array], Array]] = {
    "negative": lambda x: 0 - x,
    "absolute": lambda x: x,
    "sign": lambda x: x**0,
    "square": lambda x: x * x,
    "sqrt": lambda x: x**0.5,
    "exp": lambda x: math.e**x,
    "expm1": lambda x: math.e**x - 1,
    "log": np.vectorize(math.log),
    "log1p": np.vectorize(math.log1p),
    "sin": np.vectorize(math.sin),
    "cos": np.vectorize(math.cos),
    "sinh": lambda x: (math.e**x - math.e**-x) / 2,
    "cosh": lambda x: (math.e**x + math.e**-x) / 2,
    "tanh": lambda x: 1 - 2 / (math.e ** (2 * x) + 1),
    "arctan": np.vectorize(math.atan),
    "floor": lambda x: (x >= 1) * 1.0,
    "reciprocal": lambda x: 1 / x,
    "erf": np.vectorize(math.erf),
    "sigmoid": lambda x: 1 / (1 + math.e**-x),
    "softplus": lambda x: np.log(1 + math.e**x),
    "add": lambda x: x + 0.9,
    "subtract": lambda x: x - 0.9,
    "multiply": lambda x: x * 0.9,
    "divide": lambda x: x / 0.9,
    "power": lambda x: x**0.9,
    "maximum": lambda x: np.where(x > 0.9, x, 0.9),
    "minimum": lambda x: np.where(x > 0.9, 0.9, x),
    "less": lambda x: (x < 0.9) * 1.0,
    "less_equal": lambda x: (x <= 0.9) * 1.0,
    "greater": lambda x: (x > 0.9) * 1.0,
    "greater_equal": lambda x: (x >= 0.9) * 1.0,
    "equal": lambda x: 0 * x,
    "not_equal": lambda x: x**0,
    "logical_and": lambda x: (x < 0.9) * 1.0,
    "logical_or": lambda x: (x < 0.9) * 1.0,
    "logical_not": lambda x: (x >= 0.9) * 1.0,
    "cast": lambda x: (x < 0.9) * 1.0,
    "where": lambda x: np.where(x < 0.9, 0.9, x),
}


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_operations_in_kernels(dtype: str, simulator: CudaBackend) -> None:
    """In one sum, each with a factor of its own, so that none can stand in for another."""
    builder = Builder()
    total = builder.constant(0)
    for number, name in enumerate(OPERATIONS):
        at = builder.extend(alone(name))[-1]
        total = builder.emit(
            "add", total, builder.emit("multiply", builder.constant(1 + number / 7), at)
        )
    expression = builder.finish(total)
    assert {one[0] for one in expression.code} == set(OPERATIONS) | {"argument", "constant"}
    slope, z = differentiate(expression), points(dtype)
    eps = float(np.finfo(dtype).eps)
    # Each term, about as large as its factor, comes from another mathematical library: a rounding
    # or two in each of them.
    atol = 4 * eps * sum(1 + number / 7 for number in range(len(OPERATIONS)))
    expected = results(REFERENCE, expression, slope, z)
    for value, other in zip(results(simulator, expression, slope, z), expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=32 * eps, atol=atol)


@needs_compiler
@settings(max_examples=6)
@given(function=functions())
def test_random_functions_in_kernels(function: Function) -> None:
    backend = CudaBackend(SimulatorDriver())
    expression = trace(function, ("z",), "activation")
    slope, z = differentiate(expression), points("float64")
    expected = results(REFERENCE, expression, slope, z)
    for value, other in zip(results(backend, expression, slope, z), expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("z", [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-40, 3e38, -3e38])
@pytest.mark.parametrize(
    "function",
    [
        *(ops.relu, ops.hard_tanh, lambda z: ops.minimum(0.5, ops.maximum(-2.0, z)), ops.sigmoid),
        *(ops.softplus, ops.sign, lambda z: ops.where(z > 0, ops.log(z), -z), ops.reciprocal),
    ],
)
def test_special_values_on_the_cpu(function: Function, z: float) -> None:
    """NaN stays NaN, and what is not chosen does not matter."""
    expression = trace(function, ("z",), "activation")
    values = np.full((2, 3), z, np.float32)
    value, _ = results(CPU, expression, differentiate(expression), values)
    np.testing.assert_allclose(value, expression(values), rtol=1e-6)
    if math.isnan(z) and function is not ops.sign:
        assert np.isnan(value).all()


@needs_compiler
def test_special_values_in_kernels(simulator: CudaBackend) -> None:
    def all_at_once(z: Any) -> Any:
        bounded = ops.minimum(0.5, ops.maximum(-2.0, z)) + ops.maximum(z, -1) - ops.sign(z)
        return bounded + ops.sigmoid(z) + ops.where(z > 0, 1, ops.softplus(z))

    expression = trace(all_at_once, ("z",), "activation")
    z = np.array([[math.nan, -math.inf, 0.0, -0.0, 1e-40, 300, -300]], np.float32)
    value, _ = results(simulator, expression, differentiate(expression), z)
    np.testing.assert_allclose(value, expression(z), rtol=1e-6)
    assert np.isnan(value[0, 0])


def test_kernel_text_holds_constants_to_the_last_bit_and_nothing_else() -> None:
    expression = Expression([["argument", 0], ["constant", 0.1], ["multiply", 0, 1]])
    assert body(expression) == (
        "const real v0=x0;const real v1=real(0.1);const real v2=v0*v1;y0=v2;"
    )
