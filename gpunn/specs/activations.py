"""Activation functions: their specs, and their formulas in NumPy.

A spec such as ``activations.relu`` is what a layer holds; called on an array, it evaluates the
formula. The formulas below are the NumPy reference that the backends are compared with. Names,
default values and definitions are those of Keras 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from gpunn.specs.expressions import Expression
from gpunn.specs.expressions.checks import check, compare
from gpunn.specs.expressions.derivatives import differentiate
from gpunn.specs.expressions.tracing import function_name, trace
from gpunn.specs.registry import check_number, set_field

__all__ = [
    "ActivationFunction",
    "ExpressionActivation",
    "elu",
    "from_function",
    "gelu",
    "get",
    "leaky_relu",
    "linear",
    "relu",
    "selu",
    "sigmoid",
    "sign",
    "silu",
    "softmax",
    "softplus",
    "step",
    "tanh",
]

Array = NDArray[Any]

SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772
SQRT_HALF = math.sqrt(0.5)
INVERSE_SQRT_2PI = 1.0 / math.sqrt(2.0 * math.pi)


@dataclass(frozen=True)
class _Definition:
    forward: Callable[[Array, float], Array]
    # Computed from the output where possible, so that the input need not be kept.
    derivative: Callable[[Array, float], Array] | None
    derivative_reads: str = "output"
    parameter: float = 0.0
    parameter_name: str = ""


def _sigmoid(z: Array, _: float) -> Array:
    # exp of a non-positive number only: never overflows.
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + e), e / (1 + e))


def _erf(z: Array) -> Array:
    return np.vectorize(math.erf, otypes=[z.dtype])(z) if z.size else z.copy()


def _softmax(z: Array, _: float) -> Array:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _silu_derivative(z: Array, parameter: float) -> Array:
    s = _sigmoid(z, parameter)
    return s * (1 + z * (1 - s))


def _gelu_derivative(z: Array, _: float) -> Array:
    return 0.5 * (1 + _erf(z * SQRT_HALF)) + z * np.exp(-0.5 * z * z) * INVERSE_SQRT_2PI


def _expm1_negative(z: Array) -> Array:
    return np.expm1(np.minimum(z, 0))


_DEFINITIONS: dict[str, _Definition] = {
    "linear": _Definition(lambda z, _: z.copy(), lambda y, _: np.ones_like(y)),
    "relu": _Definition(lambda z, _: np.maximum(z, 0), lambda y, _: (y > 0).astype(y.dtype)),
    "leaky_relu": _Definition(
        lambda z, a: np.where(z > 0, z, z * z.dtype.type(a)),
        lambda y, a: np.where(y > 0, y.dtype.type(1), y.dtype.type(a)),
        parameter=0.2,
        parameter_name="negative_slope",
    ),
    "elu": _Definition(
        lambda z, a: np.where(z > 0, z, z.dtype.type(a) * _expm1_negative(z)),
        lambda y, a: np.where(y > 0, y.dtype.type(1), y + y.dtype.type(a)),
        parameter=1.0,
        parameter_name="alpha",
    ),
    "selu": _Definition(
        lambda z, _: (
            z.dtype.type(SELU_SCALE)
            * np.where(z > 0, z, z.dtype.type(SELU_ALPHA) * _expm1_negative(z))
        ),
        lambda y, _: np.where(
            y > 0, y.dtype.type(SELU_SCALE), y + y.dtype.type(SELU_SCALE * SELU_ALPHA)
        ),
    ),
    "sigmoid": _Definition(_sigmoid, lambda y, _: y * (1 - y)),
    "tanh": _Definition(lambda z, _: np.tanh(z), lambda y, _: 1 - y * y),
    "softplus": _Definition(
        lambda z, _: np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))), lambda y, _: -np.expm1(-y)
    ),
    "gelu": _Definition(
        lambda z, _: 0.5 * z * (1 + _erf(z * SQRT_HALF)), _gelu_derivative, derivative_reads="input"
    ),
    "silu": _Definition(
        lambda z, p: z * _sigmoid(z, p), _silu_derivative, derivative_reads="input"
    ),
    "softmax": _Definition(_softmax, None),
    "step": _Definition(lambda z, _: (z >= 0).astype(z.dtype), None),
    "sign": _Definition(lambda z, _: np.sign(z), None),
}

NOT_TRAINABLE_THROUGH = ("step", "sign")


@dataclass(frozen=True)
class ActivationFunction:
    """An activation function, by name.

    Parameters
    ----------
    name : str
        One of the names in this module.
    parameter : float, optional
        ``negative_slope`` of leaky_relu (default 0.2) or ``alpha`` of elu (default 1.0), at least
        0; the other functions have none.

    Raises
    ------
    UnknownNameError
        There is no function of this name.
    ArgumentError, ArgumentTypeError
        `parameter` is negative or not a number, or the function has none.

    Notes
    -----
    Calling it evaluates the formula: ``activations.relu(x)`` takes an array of any shape
    (softmax works along the last axis) and returns one of the same shape and floating-point type.
    """

    name: str
    parameter: float | None = None

    def __post_init__(self) -> None:
        definition = _DEFINITIONS.get(self.name)
        if definition is None:
            raise UnknownNameError("activation", self.name, _ALIASES)
        if self.parameter is None:
            set_field(self, "parameter", definition.parameter)
        elif not definition.parameter_name:
            if self.parameter != 0.0:
                raise ArgumentTypeError(f"Activation {self.name!r} takes no parameter.")
        else:
            # A negative slope or alpha would make the derivative ambiguous given the output.
            owner, name = f"Activation {self.name!r}", definition.parameter_name
            set_field(self, "parameter", check_number(owner, name, self.parameter, minimum=0))

    @property
    def trainable_through(self) -> bool:
        """Whether gradients pass: False for step and sign, whose derivative is 0 or undefined."""
        return self.name not in NOT_TRAINABLE_THROUGH

    @property
    def derivative_reads(self) -> str:
        """What the derivative is computed from: the function's ``"output"`` or its ``"input"``."""
        return _DEFINITIONS[self.name].derivative_reads

    @property
    def negative_slope(self) -> float | None:
        """Slope below 0 of a piecewise linear function with slope 1 above 0; None for others."""
        known = {"linear": 1.0, "relu": 0.0, "leaky_relu": self.parameter}
        return known.get(self.name)

    def __call__(self, x: Any) -> Array:
        """Evaluate the function on an array."""
        x = np.asarray(x)
        x = x if np.issubdtype(x.dtype, np.floating) else x.astype(np.float32)
        return forward(self.name, x, self.parameter or 0.0)

    def derivative(self, x: Any) -> Array:
        """Evaluate the derivative.

        Parameters
        ----------
        x : array_like
            Inputs of the function, of any shape.

        Returns
        -------
        ndarray
            Of the shape of `x`, float32 unless `x` has another floating-point type.

        Raises
        ------
        ArgumentTypeError
            The function is softmax, which is not elementwise.
        """
        x = np.asarray(x)
        x = x if np.issubdtype(x.dtype, np.floating) else x.astype(np.float32)
        if not self.trainable_through:
            return np.zeros_like(x)
        value = x if self.derivative_reads == "input" else self(x)
        return derivative(self.name, value, self.parameter or 0.0)


@dataclass(frozen=True)
class ExpressionActivation:
    """A user-defined activation function, stored as data; made by `from_function`.

    Parameters
    ----------
    name : str
        Name of the function.
    expression : Expression
        What it computes from one number.
    given_derivative : Expression, optional
        Its derivative as given by the user; by default derived from `expression`.

    Raises
    ------
    ArgumentError
        The derivative disagrees with finite differences of the function.
    ArgumentTypeError
        `name` is not a non-empty string.

    Notes
    -----
    Calling it evaluates the function on an array, as for `ActivationFunction`.
    """

    name: str
    expression: Any
    given_derivative: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ArgumentTypeError(
                f"The name of an activation must be a non-empty string, not {self.name!r}."
            )
        set_field(self, "expression", Expression.get(self.expression))
        if self.given_derivative is not None:
            set_field(self, "given_derivative", Expression.get(self.given_derivative))
        owner = f"The activation {self.name!r}"
        for one in (self.expression, self.slope):
            if one.arguments > 1:
                raise ArgumentError(f"{owner} must be a function of one number, not of two.")
        check(owner, self.expression, self.slope, ("z",), everywhere=True)

    @property
    def slope(self) -> Expression:
        """The derivative, as given or derived."""
        given: Expression | None = self.given_derivative
        return differentiate(self.expression) if given is None else given

    @property
    def parameter(self) -> float:
        """Always 0: constants are part of the expression."""
        return 0.0

    @property
    def trainable_through(self) -> bool:
        """Whether gradients pass: False if the derivative is 0 wherever it is defined."""
        return not compare(self.expression, self.slope, 1).flat

    @property
    def negative_slope(self) -> float | None:
        """None: a user-defined function is never treated as piecewise linear."""
        return None

    @property
    def derivative_reads(self) -> str:
        """What the derivative is computed from: always the ``"input"``."""
        return "input"

    def __call__(self, x: Any) -> Array:
        """Evaluate the function on an array."""
        return self.expression(_floats(x))

    def derivative(self, x: Any) -> Array:
        """Evaluate the derivative.

        Parameters
        ----------
        x : array_like
            Inputs of the function, of any shape.

        Returns
        -------
        ndarray
            Of the shape of `x`, float32 unless `x` has another floating-point type.
        """
        return self.slope(_floats(x))


def _floats(x: Any) -> Array:
    x = np.asarray(x)
    return x if np.issubdtype(x.dtype, np.floating) else x.astype(np.float32)


def from_function(
    function: Callable[..., Any],
    *,
    derivative: Callable[..., Any] | None = None,
    name: str | None = None,
) -> ExpressionActivation:
    """Make an activation of a Python function of one number.

    Parameters
    ----------
    function : callable
        Built from Python's operators, the functions of `gpunn.ops` and constants. It is called
        once, and what it computes is stored as data, which is saved with a model.
    derivative : callable, optional
        Its derivative, written the same way; derived from `function` by default.
    name : str, optional
        Default: the function's name.

    Returns
    -------
    ExpressionActivation
        An activation that a layer takes.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        The function is not elementwise, or the derivative disagrees with finite differences of the
        function; the message shows where.

    Warns
    -----
    RuntimeWarning
        The function or its derivative is NaN or infinite in float32 at an input between -30 and 30.
    """
    return ExpressionActivation(
        name or function_name(function),
        trace(function, ("z",), "activation"),
        None if derivative is None else trace(derivative, ("z",), "derivative"),
    )


AnyActivation = ActivationFunction | ExpressionActivation


def forward(name: str, z: Array, parameter: float = 0.0) -> Array:
    """Evaluate activation `name` on the float array `z`; same shape and dtype."""
    return _DEFINITIONS[name].forward(z, parameter).astype(z.dtype, copy=False)


def derivative(name: str, value: Array, parameter: float = 0.0) -> Array:
    """Derivative of activation `name`, from its output (or input, see `derivative_reads`)."""
    function = _DEFINITIONS[name].derivative
    if function is None:
        raise ArgumentTypeError(f"Activation {name!r} has no elementwise derivative.")
    return function(value, parameter).astype(value.dtype, copy=False)


step = ActivationFunction("step")
sign = ActivationFunction("sign")
linear = ActivationFunction("linear")
sigmoid = ActivationFunction("sigmoid")
tanh = ActivationFunction("tanh")
relu = ActivationFunction("relu")
leaky_relu = ActivationFunction("leaky_relu")
elu = ActivationFunction("elu")
selu = ActivationFunction("selu")
softplus = ActivationFunction("softplus")
gelu = ActivationFunction("gelu")
silu = ActivationFunction("silu")
softmax = ActivationFunction("softmax")

_ALIASES = {name: name for name in _DEFINITIONS} | {
    "heaviside": "step",
    "logistic": "sigmoid",
    "identity": "linear",
    "swish": "silu",
}


def _of_layer(layer: Any) -> AnyActivation:
    """Return the function of a layer that only applies one, such as LeakyReLU, as Keras does."""
    kind = layer if isinstance(layer, type) else type(layer)
    if isinstance(layer, type) or not hasattr(layer, "activation") or hasattr(layer, "units"):
        raise ArgumentTypeError(
            f"An activation must be a name or a function, not a layer; add {kind.__name__} after "
            f"this layer."
        )
    function: AnyActivation = layer.activation
    return function


def get(identifier: object) -> AnyActivation:
    """Return an activation function.

    Parameters
    ----------
    identifier : str, ActivationFunction, ExpressionActivation, callable, dict or None
        A name, a spec, a function for `from_function`, a config or, for linear, None.

    Returns
    -------
    ActivationFunction or ExpressionActivation
        The spec.

    Raises
    ------
    UnknownNameError
        There is no activation of this name.
    ArgumentError, ArgumentTypeError
        `identifier` is something else, or a function that is not elementwise.
    """
    if identifier is None:
        return linear
    if isinstance(identifier, ActivationFunction | ExpressionActivation):
        return identifier
    if isinstance(identifier, str):
        name = _ALIASES.get(identifier.lower())
        if name is None:
            raise UnknownNameError("activation", identifier, _ALIASES)
        return ActivationFunction(name)
    if isinstance(identifier, dict) and isinstance(identifier.get("config"), dict):
        user_made = identifier.get("class_name") == ExpressionActivation.__name__
        return (ExpressionActivation if user_made else ActivationFunction)(**identifier["config"])
    if hasattr(identifier, "output_shape"):
        return _of_layer(identifier)
    if callable(identifier) and not isinstance(identifier, type):
        return from_function(identifier)
    raise ArgumentTypeError(
        f"An activation must be a name, such as 'relu', or a function, not "
        f"{type(identifier).__name__}: {identifier!r}."
    )
