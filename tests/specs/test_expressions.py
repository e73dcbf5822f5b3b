"""Functions of the user's as expressions: traced, differentiated, checked, kept as data."""

from __future__ import annotations

import functools
import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gpunn import activations, layers, losses, metrics, ops
from gpunn.errors import ArgumentError, ArgumentTypeError, GpunnError, PlanError
from gpunn.specs.expressions import Expression, evaluate, functions, join
from gpunn.specs.expressions.derivatives import differentiate
from gpunn.specs.expressions.expression import MAX_INSTRUCTIONS, OPERATIONS
from gpunn.specs.expressions.tracing import trace

Array = np.ndarray[Any, Any]
Z = np.concatenate([np.linspace(-3.07, 3.11, 40), [0.03, -0.02]])
POSITIVE = np.linspace(0.11, 4.3, 30)

# Functions of one number: one at least for each function in gpunn.ops, with the points to try.
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Array]] = {
    "abs": (ops.abs, Z),
    "absolute": (ops.absolute, Z),
    "add": (lambda z: ops.add(ops.sin(z), ops.add(z, 2)), Z),
    "arctan": (ops.arctan, Z),
    "cast": (lambda z: z * ops.cast(z > 0.5, "float32") + ops.cast(z, z.dtype), Z),
    "clip": (lambda z: ops.clip(z, -1, 2) ** 2, Z),
    "convert_to_tensor": (lambda z: ops.convert_to_tensor(z) * 3, Z),
    "cos": (ops.cos, Z),
    "cosh": (ops.cosh, Z),
    "divide": (lambda z: ops.divide(z - 1, 2 + z * z), Z),
    "elu": (lambda z: ops.elu(z, 0.7), Z),
    "equal": (lambda z: ops.where(ops.equal(z, 1.0), 0.0, z), Z),
    "erf": (ops.erf, Z),
    "exp": (ops.exp, Z),
    "expm1": (ops.expm1, Z),
    "floor": (lambda z: z + ops.floor(z), Z),
    "full_like": (lambda z: z * ops.full_like(z, 2.5), Z),
    "gelu": (lambda z: ops.gelu(z) + ops.gelu(z, approximate=False), Z),
    "greater": (lambda z: ops.where(ops.greater(z, 0.5), z, 3 * z), Z),
    "greater_equal": (lambda z: ops.where(ops.greater_equal(z, 0.5), z, 3 * z), Z),
    "hard_sigmoid": (ops.hard_sigmoid, Z),
    "hard_tanh": (ops.hard_tanh, Z),
    "leaky_relu": (lambda z: ops.leaky_relu(z, 0.1) + ops.leaky_relu(z), Z),
    "less": (lambda z: ops.where(ops.less(z, 0.5), z, 3 * z), Z),
    "less_equal": (lambda z: ops.where(ops.less_equal(z, 0.5), z, 3 * z), Z),
    "log": (ops.log, POSITIVE),
    "log10": (ops.log10, POSITIVE),
    "log1p": (ops.log1p, POSITIVE),
    "log2": (ops.log2, POSITIVE),
    "log_sigmoid": (ops.log_sigmoid, Z),
    "logaddexp": (lambda z: ops.logaddexp(z, 0.3 - z), Z),
    "logical_and": (lambda z: ops.where(ops.logical_and(z > -1, z < 1), z, 2 * z), Z),
    "logical_not": (lambda z: ops.where(ops.logical_not(z > -1), z, 2 * z), Z),
    "logical_or": (lambda z: ops.where(ops.logical_or(z < -1, z > 1), z, 2 * z), Z),
    "maximum": (lambda z: ops.maximum(z, -0.5) + ops.maximum(0.3, z * z), Z),
    "minimum": (lambda z: ops.minimum(z, z * z), Z),
    "multiply": (lambda z: ops.multiply(ops.sin(z), z), Z),
    "negative": (lambda z: ops.negative(z) + (-ops.exp(z)), Z),
    "not_equal": (lambda z: ops.where(ops.not_equal(z, 1.0), z, 0.0), Z),
    "ones_like": (lambda z: z / (ops.ones_like(z) + 1), Z),
    "power": (lambda z: ops.power(z, 1.7) + z**-2 + z**-0.5 + z**0.5 + 2**z + z**z, POSITIVE),
    "reciprocal": (ops.reciprocal, Z),
    "relu": (ops.relu, Z),
    "relu6": (lambda z: ops.relu6(4 * z), Z),
    "rsqrt": (ops.rsqrt, POSITIVE),
    "selu": (ops.selu, Z),
    "sigmoid": (ops.sigmoid, Z),
    "sign": (lambda z: z * ops.sign(z), Z),
    "silu": (ops.silu, Z),
    "sin": (ops.sin, Z),
    "sinh": (ops.sinh, Z),
    "softplus": (ops.softplus, Z),
    "softsign": (ops.softsign, Z),
    "sqrt": (ops.sqrt, POSITIVE),
    "square": (ops.square, Z),
    "subtract": (lambda z: ops.subtract(1, ops.subtract(z, ops.sin(z))), Z),
    "swish": (ops.swish, Z),
    "tan": (ops.tan, np.linspace(-1.4, 1.4, 20)),
    "tanh": (ops.tanh, Z),
    "true_divide": (lambda z: ops.true_divide(1, z), Z),
    "zeros_like": (lambda z: ops.maximum(z, ops.zeros_like(z)), Z),
    # Python's operators, and powers that become products.
    "operators": (lambda z: 2 - (3 * z - 1) / (4 + z**2) + +z - abs(z) + 1 / (2 + z * z), Z),
    "powers": (lambda z: z**0 + z**1 + z**2 + z**3 + z**7 + z**13 / 100, Z),
    "truth values": (lambda z: z * ((z > 0) & ~(z > 1) | (z < -2)), Z),
    "numpy numbers": (lambda z: np.float32(2) * z + z * np.float64(0.5) - np.int64(3), Z),
}


def test_every_function_is_tried() -> None:
    assert set(functions.__all__) - set(FUNCTIONS) == {"mean", "where"}  # where: in many of them


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_traced_function_computes_what_the_function_does(name: str) -> None:
    function, z = FUNCTIONS[name]
    expression = trace(function, ("z",), "activation")
    np.testing.assert_allclose(expression(z), function(z), rtol=1e-13, atol=1e-13)
    assert expression(z.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_equal_finite_differences(name: str) -> None:
    """Complex steps would be exact, but not all functions take complex numbers: h = 1e-6."""
    function, z = FUNCTIONS[name]
    h = 1e-6
    expected = (function(z + h) - function(z - h)) / (2 * h)
    slope = differentiate(trace(function, ("z",), "activation"))
    # Rounding: eps * |f| / h is some 1e-10 * |f|, and powers reach 1e4 here.
    np.testing.assert_allclose(slope(z), expected, rtol=1e-7, atol=1e-6)


def test_functions_compute_on_numbers_and_arrays() -> None:
    assert ops.sigmoid(0.0) == 0.5
    assert ops.where(2 > 1, 3.0, 4.0) == 3
    x = np.array([-2.0, 0.5, 3.0], np.float32)
    for function in (ops.elu, ops.gelu, ops.selu, ops.softplus, ops.relu6, ops.leaky_relu):
        assert function(x).dtype == np.float32
    np.testing.assert_array_equal(ops.mean(np.array([[1.0, 3.0]]), axis=-1), [2.0])
    np.testing.assert_array_equal(ops.square(np.array([3, 4])), [9, 16])
    for name in ("relu", "selu", "softplus", "silu", "tanh", "sigmoid", "elu", "leaky_relu"):
        built_in = activations.get(name)
        np.testing.assert_allclose(getattr(ops, name)(Z), built_in(Z), rtol=1e-14)
        np.testing.assert_allclose(
            activations.get(getattr(ops, name)).derivative(Z), built_in.derivative(Z), rtol=1e-13
        )


# What a function cannot do


def _if(z: Any) -> Any:
    if z > 0:
        return z
    return 0.1 * z


def _loop(z: Any) -> Any:
    return sum(part for part in z)


def _nothing(z: Any) -> None:
    ops.exp(z)


_LEFT: list[Any] = []


def _leaves(z: Any) -> Any:
    _LEFT.append(z)
    return z


def _takes_it_up(z: Any) -> Any:
    trace(_leaves, ("z",), "activation")
    return z + _LEFT.pop()


MISTAKES: dict[str, tuple[Callable[..., Any], str]] = {
    "if": (_if, "'_if' (test_expressions.py, line ... `if z > 0:`): ... use ops.where("),
    "chain": (lambda z: ops.where(-1 < z < 1, z, 0), "a < x < b"),
    "and": (lambda z: z > 0 and z, "ops.logical_and"),
    "max": (lambda z: max(z, 0), "ops.maximum"),
    "np.exp": (lambda z: np.exp(z), "np.exp does not support symbols; use gpunn.ops (ops.exp)"),
    "np.abs": (lambda z: np.abs(z), "use gpunn.ops (ops.absolute)"),
    "np.where": (lambda z: np.where(z > 0, z, 0), "np.where ... use gpunn.ops (ops.where)"),
    "np.fft": (lambda z: np.fft.fft(z), "which has no such function"),
    "np.asarray": (lambda z: np.asarray(z) + 1, "cannot become a NumPy array"),
    "math.exp": (lambda z: math.exp(z), "ops.exp in place of math.exp"),
    "int": (lambda z: int(z), "cannot become a Python number"),
    "round": (lambda z: round(z), "cannot become a Python number"),
    "indexing": (lambda z: z[0], "indexing is not possible: ... functions of single numbers"),
    "loop": (_loop, "a loop over a value is not possible"),
    "in": (lambda z: 1.0 in z, "`in` is not possible"),
    "len": (lambda z: len(z), "len() is not possible"),
    "matmul": (lambda z: z @ z, "a matrix product is not possible"),
    "modulo": (lambda z: z % 2, "ops.floor is"),
    "shape": (lambda z: z.shape[0], ".shape is not possible"),
    "method": (lambda z: z.numpy(), "have no .numpy; use the functions of gpunn.ops"),
    "sum": (lambda z: ops.sum(z), "gpunn.ops has no 'sum' ... ops.mean says so"),
    "softmax": (lambda z: ops.softmax(z), "gpunn.ops has no 'softmax'"),
    "unknown": (lambda z: ops.sigmiod(z), "'sigmiod'; did you mean 'sigmoid'?"),
    "array": (lambda z: z * np.ones(3), "a constant must be a single number"),
    "array first": (lambda z: np.ones(3) * z, "a constant must be a single number"),
    "text": (lambda z: z * "2", "it computes with a str"),
    "bits": (lambda z: z & 1, "& works on truth values"),
    "cast": (lambda z: ops.cast(z, "int32"), "cannot be cast to 'int32'; use ops.floor"),
    "nothing": (_nothing, "must return a value computed from z, not None; is a return missing?"),
    "a tuple": (lambda z: (z, z), "must return a value computed from z, not tuple"),
    "two arguments": (lambda y, z: z, "is called with (z), but takes (y, z)"),
    "mean": (lambda z: ops.mean(z), "must be a function of single numbers"),
    "centred": (lambda z: z - ops.mean(z), "ops.subtract of a mean is not possible"),
    "large constant": (lambda z: z * 1e300, "the constant 1e+300 is not in the range of float32"),
    "NaN constant": (lambda z: z * math.nan, "the constant nan"),
    "from elsewhere": (_takes_it_up, "a value of an earlier call"),
    "returned from elsewhere": (
        lambda z: (trace(_leaves, ("z",), "activation"), _LEFT.pop())[1],
        "a value of an earlier call",
    ),
    "returns NaN": (lambda z: math.nan, "the constant nan"),
    "other libraries": (lambda z: memoryview(z), "may use Python's operators"),
    "nowhere finite": (lambda z: ops.log(-1 - z * z), "NaN or infinite at all points"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_is_not_elementwise_is_named(name: str) -> None:
    function, message = MISTAKES[name]
    with pytest.raises(GpunnError) as caught:
        activations.from_function(function)
    said = str(caught.value)
    assert said.startswith("The activation '")
    for part in message.split("..."):
        assert part.strip() in said
        said = said.split(part.strip(), 1)[1]


def test_an_error_of_the_users_own_is_not_touched() -> None:
    def broken(z: Any) -> Any:
        return z / undefined  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(NameError, match="undefined"):
        activations.from_function(broken)


def test_means_of_losses_may_be_added_and_scaled() -> None:
    def both(y_true: Any, y_pred: Any) -> Any:
        squares = ops.mean(ops.square(y_true - y_pred), axis=-1)
        return 0.5 * squares + ops.mean(ops.abs(y_true - y_pred)) / 4 - 1

    t, p = np.array([0.3, -1.0]), np.array([1.5, 2.0])
    error = t - p
    expected = error**2 / 2 + np.abs(error) / 4 - 1
    np.testing.assert_allclose(losses.from_function(both).expression(t, p), expected, rtol=1e-15)
    for wrong, message in (
        (lambda t, p: ops.sqrt(ops.mean(ops.square(t - p))), "ops.sqrt of a mean"),
        (lambda t, p: ops.mean(t - p) * p, "ops.multiply of a mean"),
        (lambda t, p: ops.mean(t - p, axis=0), "not over axis 0"),
    ):
        with pytest.raises(ArgumentTypeError, match=message):
            losses.from_function(wrong)


# Derivatives that are wrong, missing, or not finite


def test_a_wrong_derivative_is_shown_with_its_points() -> None:
    def cubic(z: Any) -> Any:
        return z**3

    assert activations.from_function(cubic, derivative=lambda z: 3 * z * z).trainable_through
    with pytest.raises(ArgumentError) as caught:
        activations.from_function(cubic, derivative=lambda z: 3 * z)
    first, header, *rows, more = str(caught.value).splitlines()
    assert "'cubic': its derivative with respect to z disagrees with finite differences" in first
    assert header.split() == ["z", "value", "derivative", "given", "measured"]
    for row in rows:
        z, value, given, measured = map(float, row.split())
        np.testing.assert_allclose([value, given, measured], [z**3, 3 * z, 3 * z**2], rtol=1e-4)
    assert len(rows) == 6 and "other points" in more


@pytest.mark.parametrize(
    "derivative",
    [
        lambda t, p: p - t,
        lambda t, p: 2 * (t - p),
        lambda t, p: 2 * (p - t) + 0.001,
        lambda t, p: 2 * (p - t) * (1 + 0.001 * (p > 5)),
        lambda t, p: ops.where(p > 6, ops.log(-1 - p * p), 2 * (p - t)),
    ],
)
def test_wrong_derivatives_of_a_loss_are_found(derivative: Any) -> None:
    def squared(y_true: Any, y_pred: Any) -> Any:
        return ops.mean(ops.square(y_true - y_pred), axis=-1)

    losses.from_function(squared, derivative=lambda t, p: 2 * (p - t))
    with pytest.raises(ArgumentError, match=r"'squared'.*with respect to y_pred"):
        losses.from_function(squared, derivative=derivative)


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"tan"}))
def test_right_derivatives_pass(name: str) -> None:
    """The check has no false alarms: with corners, jumps, steep and badly scaled functions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # not all of them are defined everywhere
        activations.from_function(FUNCTIONS[name][0])


@pytest.mark.parametrize(
    "function",
    [
        lambda z: ops.sin(50 * z),
        lambda z: 1e6 * z,
        lambda z: 1e-8 * z,
        lambda z: z**16,
        lambda z: 1e10 + z,
        lambda z: abs(ops.sin(20 * z)),
        lambda z: ops.floor(20 * z) * z,
        lambda z: ops.tanh(1000 * z),
        lambda z: ops.log(z * z + 1e-12),
        lambda z: ops.sqrt(z * z + 1e-12),
        lambda z: ops.exp(-1e4 * z * z),
        lambda z: ops.exp(ops.minimum(z, 20)),
        lambda z: ops.where(z > 3.3333, 1e5, 0) + z,
        lambda z: (z + 1e8) - 1e8,
    ],
)
def test_right_derivatives_of_difficult_functions_pass(function: Any) -> None:
    assert activations.from_function(function).trainable_through


def test_what_cannot_be_checked_is_warned_of() -> None:
    with pytest.warns(RuntimeWarning, match="varies too rapidly for its derivative to be checked"):
        activations.from_function(lambda z: ops.sin(1e5 * z))


@pytest.mark.parametrize(
    "function",
    [
        lambda z: ops.where(z > 0, ops.log(z), 0),
        lambda z: ops.where(z > 0, ops.sqrt(z), -z),
        lambda z: ops.sqrt(ops.where(z > 0, z, 0.0)),
        lambda z: ops.where(z > 0, 1 / z, 1.0) * z,
        lambda z: ops.log(ops.maximum(z, 1e-3)),
        lambda z: ops.where(z > 2, z**0.5, 1) / (1 + z * z),
    ],
)
def test_a_branch_not_taken_does_not_spoil_the_gradient(function: Any) -> None:
    made = activations.from_function(function)
    z = np.array([-30.0, -1.0, -1e-3, 0.0])
    assert np.isfinite(made(z)).all() and np.isfinite(made.derivative(z)).all()


def _cross_entropy(y_true: Any, y_pred: Any) -> Any:
    return -(y_true * ops.log(y_pred) + (1 - y_true) * ops.log(1 - y_pred))


def test_a_loss_may_be_defined_on_probabilities_alone() -> None:
    loss = losses.from_function(_cross_entropy)
    t, p = np.array([0.0, 1.0, 1.0, 0.2]), np.array([0.1, 0.3, 0.8, 0.5])
    np.testing.assert_allclose(loss.slope(t, p), (p - t) / (p * (1 - p)), rtol=1e-13)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda z: 1 / z, "it is inf in float32 at z = 0"),
        (lambda z: ops.log(z), "it is -inf in float32 at z = 0"),
        (lambda z: ops.exp(z * z), "it is inf in float32 at z = -9.5"),
        (lambda z: ops.sqrt(ops.square(z)), "its derivative is nan in float32 at z = 0"),
        (lambda z: ops.expm1(5 * z), "it is inf in float32 at z = 20"),
    ],
)
def test_what_is_not_finite_is_warned_of(function: Any, message: str) -> None:
    with pytest.warns(RuntimeWarning, match=message):
        activations.from_function(function)


@pytest.mark.parametrize(
    ("function", "same"),
    [
        (lambda z: ops.log(1.0 + ops.exp(z)), ops.softplus),
        (lambda z: ops.log(ops.exp(z) + 1), ops.softplus),
        (lambda z: ops.log1p(ops.exp(z)), ops.softplus),
        (lambda z: 1 / (1 + ops.exp(-z)), ops.sigmoid),
        (lambda z: ops.exp(z) / (1 + ops.exp(z)), ops.sigmoid),
        (lambda z: z / (1 + ops.exp(-z)), ops.silu),
    ],
)
def test_forms_that_would_overflow_are_made_stable(function: Any, same: Any) -> None:
    z = np.array([-1000.0, -100.0, -1.0, 0.0, 1.0, 100.0, 1000.0], np.float32)
    made, expected = activations.from_function(function), activations.from_function(same)
    np.testing.assert_allclose(made(z), expected(z), rtol=1e-6)
    np.testing.assert_allclose(made.derivative(z), expected.derivative(z), rtol=1e-6)


def test_functions_without_a_gradient() -> None:
    for function in (ops.floor, ops.sign, lambda z: 0.7, lambda z: ops.cast(z > 0, "float32")):
        assert not activations.from_function(function).trainable_through
    assert activations.from_function(lambda z: z + ops.floor(z)).trainable_through
    for loss in (lambda t, p: ops.sign(t - p), lambda t, p: t, lambda t, p: ops.equal(t, p > 0.5)):
        with pytest.raises(PlanError, match="is 0 everywhere"):
            losses.from_function(loss)
        metrics.from_function(loss)


# Expressions as data


def test_whole_powers_are_products_and_constants_are_folded() -> None:
    def operations(function: Any) -> list[str]:
        code = trace(function, ("z",), "activation").code
        return [one[0] for one in code if one[0] not in ("argument", "constant")]

    assert operations(lambda z: z**2) == ["square"]
    assert operations(lambda z: z**4) == ["square", "square"]
    assert operations(lambda z: z**3) == ["square", "multiply"]
    assert operations(lambda z: z**-1) == ["reciprocal"]
    assert operations(lambda z: z**0.5) == ["sqrt"]
    assert operations(lambda z: z**1.5) == ["power"]
    assert operations(lambda z: z + 0 * 3 - 0) == []
    assert operations(lambda z: ops.exp(z) + ops.exp(z)) == ["exp", "add"]
    assert operations(lambda z: z * ops.sqrt(ops.ones_like(z) * 4)) == ["multiply"]


def test_expressions_share_what_they_have_in_common() -> None:
    value = trace(ops.tanh, ("z",), "activation")
    code, results = join(value, differentiate(value))
    assert [one[0] for one in code].count("tanh") == 1
    both = evaluate(code, results, (Z,))
    np.testing.assert_allclose(both, [np.tanh(Z), 1 - np.tanh(Z) ** 2], rtol=1e-15)


def test_an_expression_survives_json() -> None:
    made = activations.from_function(FUNCTIONS["truth values"][0])
    data = json.loads(json.dumps(made.expression.code))
    assert Expression(data) == made.expression
    assert hash(Expression(data)) == hash(made.expression)


Z0 = ["argument", 0]
BAD_CODE: dict[str, Any] = {
    "none": [],
    "not a list": "exp",
    "unknown operation": [Z0, ["system", 0]],
    "attribute of an operation": [Z0, ["__class__", 0]],
    "later operand": [Z0, ["exp", 1]],
    "negative operand": [Z0, ["exp", -1]],
    "operand not whole": [Z0, ["exp", 0.0]],
    "operand a truth value": [Z0, Z0, ["exp", True]],
    "missing operand": [Z0, ["add", 0]],
    "extra operand": [Z0, ["exp", 0, 0]],
    "truth value as a number": [Z0, ["less", 0, 0], ["exp", 1]],
    "number as a truth value": [Z0, ["where", 0, 0, 0]],
    "result a truth value": [Z0, ["less", 0, 0]],
    "third argument": [["argument", 2]],
    "argument not whole": [["argument", 0.0]],
    "constant text": [["constant", "1"]],
    "constant truth value": [["constant", True]],
    "constant not finite": [["constant", math.inf]],
    "constant too large": [["constant", 1e39]],
    "no constant": [["constant"]],
    "empty instruction": [[]],
    "too long": [Z0] * (MAX_INSTRUCTIONS + 1),
}


@pytest.mark.parametrize("name", BAD_CODE)
def test_bad_code_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError):
        Expression(BAD_CODE[name])


def test_an_activation_of_two_arguments_is_refused() -> None:
    with pytest.raises(ArgumentError, match="of one number, not of two"):
        activations.ExpressionActivation("f", Expression([["argument", 1]]))


def test_the_set_of_operations_is_closed_under_differentiation() -> None:
    """Each operation's derivative is made of the operations, or is 0 by definition."""
    flat = {"sign", "floor", "cast"} | {n for n, o in OPERATIONS.items() if o.result == "b"}
    argument = (("argument", 0), ("constant", 1.5), ("less", 0, 1))
    for name, operation in OPERATIONS.items():
        if operation.result == "b":
            continue
        operands = {"r": (0,), "b": (2,), "rr": (0, 1), "brr": (2, 0, 1)}[operation.operands]
        slope = differentiate(Expression((*argument, (name, *operands))))
        assert (slope.code == (("constant", 0.0),)) == (name in flat), name


# Names


def test_names() -> None:
    class Scaled:
        def __init__(self, factor: float) -> None:
            self.factor = factor

        def __call__(self, y_true: Any, y_pred: Any) -> Any:
            return self.factor * ops.abs(y_true - y_pred)

    def weighted(factor: float, y_true: Any, y_pred: Any) -> Any:
        return factor * ops.abs(y_true - y_pred)

    assert metrics.get(weighted_by(2)).label == "by_two"
    assert metrics.get(functools.partial(weighted, 2.0)).label == "weighted"
    assert metrics.get(Scaled(2.0)).label == "Scaled"
    assert metrics.get(lambda t, p: ops.abs(t - p)).label == "lambda"
    assert metrics.from_function(lambda t, p: t - p, name="bias").label == "bias"
    assert not metrics.get(Scaled(2.0)).higher_is_better
    assert metrics.from_function(Scaled(2.0), higher_is_better=True).higher_is_better
    t, p = np.array([1.0]), np.array([4.0])
    assert losses.get(functools.partial(weighted, 2.0))(t, p) == losses.get(Scaled(2.0))(t, p) == 6


def weighted_by(number: int) -> Any:
    def by_two(y_true: Any, y_pred: Any) -> Any:
        return number * (y_true - y_pred)

    return by_two


def test_loss_classes_of_the_users() -> None:
    class PinballLoss(losses.Loss):
        def __init__(self, share: float = 0.9, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.share = share

        def call(self, y_true: Any, y_pred: Any) -> Any:
            error = y_true - y_pred
            return ops.mean(ops.maximum(self.share * error, (self.share - 1) * error), axis=-1)

    t, p = np.array([3.0, 1.0]), np.array([1.0, 2.0])
    np.testing.assert_allclose(losses.get(PinballLoss(0.75))(t, p), 0.875)
    np.testing.assert_allclose(losses.get(PinballLoss)(t, p), 0.95)
    assert losses.get(PinballLoss()).name == "PinballLoss"
    assert losses.get(PinballLoss(name="upper")).name == "upper"
    with pytest.raises(ArgumentError, match="the mean over the batch, not 'sum'"):
        PinballLoss(reduction="sum")


def test_an_own_loss_is_a_metric_too() -> None:
    loss = losses.from_function(_cross_entropy, name="entropy")
    metric = metrics.get(loss)
    assert (metric.label, metric.higher_is_better) == ("entropy", False)
    assert metric.expression == loss.expression


def test_a_layer_is_no_activation() -> None:
    with pytest.raises(ArgumentTypeError, match="add Dropout after this layer"):
        activations.get(layers.Dropout(0.5))


def test_metrics_with_a_state_are_refused() -> None:
    class MeanOfSomething(metrics.Metric):
        def update_state(self, y_true: Any, y_pred: Any) -> None: ...

    for given in (MeanOfSomething, MeanOfSomething()):
        with pytest.raises(ArgumentError, match=r"MeanOfSomething keeps state.*give a function"):
            metrics.get(given)
