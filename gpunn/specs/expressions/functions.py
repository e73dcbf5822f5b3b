"""Elementwise functions for user-defined activations, losses and metrics, as in ``keras.ops``.

In a function given as an activation, a loss or a metric they describe the computation, for every
device; called on numbers and NumPy arrays they evaluate it, so that a function can be tried out
and plotted::

    def huber_fn(y_true, y_pred):
        error = ops.abs(y_true - y_pred)
        return ops.where(error < 1, ops.square(error) / 2, error - 0.5)

Python's operators work as well. All functions are elementwise, except `mean`, with which a loss
or a metric may end.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np

from gpunn.errors import ArgumentTypeError, UnknownNameError
from gpunn.specs.activations import SELU_ALPHA, SELU_SCALE, SQRT_HALF
from gpunn.specs.expressions.expression import OPERATIONS
from gpunn.specs.expressions.tracing import Symbol, apply


def _call(name: str, *operands: Any) -> Any:
    if any(isinstance(operand, Symbol) for operand in operands):
        return apply(name, *operands)
    return OPERATIONS[name].numpy(*operands)


def abs(x: Any) -> Any:
    """``|x|``."""
    return _call("absolute", x)


absolute = abs


def negative(x: Any) -> Any:
    """``-x``."""
    return _call("negative", x)


def sign(x: Any) -> Any:
    """-1, 0 or 1; its derivative is taken as 0."""
    return _call("sign", x)


def floor(x: Any) -> Any:
    """The largest whole number not above `x`; its derivative is taken as 0."""
    return _call("floor", x)


def square(x: Any) -> Any:
    """``x * x``."""
    return _call("square", x)


def sqrt(x: Any) -> Any:
    """The square root."""
    return _call("sqrt", x)


def rsqrt(x: Any) -> Any:
    """``1 / sqrt(x)``."""
    return reciprocal(sqrt(x))


def reciprocal(x: Any) -> Any:
    """``1 / x``."""
    return _call("reciprocal", x)


def exp(x: Any) -> Any:
    """``e**x``."""
    return _call("exp", x)


def expm1(x: Any) -> Any:
    """``exp(x) - 1``, accurate near 0."""
    return _call("expm1", x)


def log(x: Any) -> Any:
    """The natural logarithm; ``log(1 + exp(x))`` is computed as `softplus`."""
    return _call("log", x)


def log1p(x: Any) -> Any:
    """``log(1 + x)``, accurate near 0."""
    return _call("log1p", x)


def log2(x: Any) -> Any:
    """The logarithm to base 2."""
    return log(x) / math.log(2)


def log10(x: Any) -> Any:
    """The logarithm to base 10."""
    return log(x) / math.log(10)


def sin(x: Any) -> Any:
    """The sine."""
    return _call("sin", x)


def cos(x: Any) -> Any:
    """The cosine."""
    return _call("cos", x)


def tan(x: Any) -> Any:
    """The tangent."""
    return sin(x) / cos(x)


def arctan(x: Any) -> Any:
    """The inverse tangent."""
    return _call("arctan", x)


def sinh(x: Any) -> Any:
    """The hyperbolic sine."""
    return _call("sinh", x)


def cosh(x: Any) -> Any:
    """The hyperbolic cosine."""
    return _call("cosh", x)


def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return _call("tanh", x)


def erf(x: Any) -> Any:
    """The error function."""
    return _call("erf", x)


def add(x1: Any, x2: Any) -> Any:
    """``x1 + x2``."""
    return _call("add", x1, x2)


def subtract(x1: Any, x2: Any) -> Any:
    """``x1 - x2``."""
    return _call("subtract", x1, x2)


def multiply(x1: Any, x2: Any) -> Any:
    """``x1 * x2``."""
    return _call("multiply", x1, x2)


def divide(x1: Any, x2: Any) -> Any:
    """``x1 / x2``."""
    return _call("divide", x1, x2)


true_divide = divide


def power(x1: Any, x2: Any) -> Any:
    """``x1 ** x2``; by multiplications if `x2` is an integer constant up to 16."""
    return _call("power", x1, x2)


def maximum(x1: Any, x2: Any) -> Any:
    """The larger of two values; the derivative of ``maximum(x, 0)`` at 0 is 0."""
    return _call("maximum", x1, x2)


def minimum(x1: Any, x2: Any) -> Any:
    """The smaller of two values."""
    return _call("minimum", x1, x2)


def clip(x: Any, x_min: Any, x_max: Any) -> Any:
    """`x` limited to the range from `x_min` to `x_max`."""
    return minimum(maximum(x, x_min), x_max)


def where(condition: Any, x1: Any, x2: Any) -> Any:
    """`x1` where the condition is true, else `x2`; NaN in the other one has no effect."""
    return _call("where", condition, x1, x2)


def less(x1: Any, x2: Any) -> Any:
    """``x1 < x2``."""
    return _call("less", x1, x2)


def less_equal(x1: Any, x2: Any) -> Any:
    """``x1 <= x2``."""
    return _call("less_equal", x1, x2)


def greater(x1: Any, x2: Any) -> Any:
    """``x1 > x2``."""
    return _call("greater", x1, x2)


def greater_equal(x1: Any, x2: Any) -> Any:
    """``x1 >= x2``."""
    return _call("greater_equal", x1, x2)


def equal(x1: Any, x2: Any) -> Any:
    """``x1 == x2``."""
    return _call("equal", x1, x2)


def not_equal(x1: Any, x2: Any) -> Any:
    """``x1 != x2``."""
    return _call("not_equal", x1, x2)


def logical_and(x1: Any, x2: Any) -> Any:
    """Whether both are true."""
    return _call("logical_and", x1, x2)


def logical_or(x1: Any, x2: Any) -> Any:
    """Whether at least one is true."""
    return _call("logical_or", x1, x2)


def logical_not(x: Any) -> Any:
    """Whether it is false."""
    return _call("logical_not", x)


def cast(x: Any, dtype: Any) -> Any:
    """`x` unchanged, in the precision of the model; for "bool", ``x != 0``.

    Parameters
    ----------
    x : array_like or symbolic value
        Of any shape.
    dtype : dtype
        A floating-point type or bool; for arrays, any type.

    Returns
    -------
    ndarray or symbolic value
        Of the shape of `x`.

    Raises
    ------
    ArgumentTypeError
        `x` is symbolic, and `dtype` is an integer type.
    """
    if not isinstance(x, Symbol):
        return np.asarray(x).astype(dtype)
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    if name == "bool":
        return x if x.dtype == "bool" else x != 0
    if not name.startswith(("float", "bfloat")):
        raise ArgumentTypeError(f"a value cannot be cast to {name!r}; use ops.floor")
    return x * 1.0 if x.dtype == "bool" else x


def convert_to_tensor(x: Any, dtype: Any = None) -> Any:
    """`x` itself, or an array of a list.

    Parameters
    ----------
    x : array_like or symbolic value
        Of any shape.
    dtype : dtype, optional
        As for `cast`.

    Returns
    -------
    ndarray or symbolic value
        Of the shape of `x`.
    """
    if isinstance(x, Symbol):
        return x if dtype is None else cast(x, dtype)
    return np.asarray(x, dtype)


def full_like(x: Any, fill_value: Any, dtype: Any = None) -> Any:
    """A constant in the shape of `x`.

    Parameters
    ----------
    x : array_like or symbolic value
        Of any shape.
    fill_value : float
        The constant.
    dtype : dtype, optional
        Default: that of `x`.

    Returns
    -------
    ndarray or float
        Of the shape of `x`; if that is symbolic, the constant.
    """
    return fill_value if isinstance(x, Symbol) else np.full_like(x, fill_value, dtype=dtype)


def zeros_like(x: Any, dtype: Any = None) -> Any:
    """Zeros in the shape of `x`.

    Parameters
    ----------
    x : array_like or symbolic value
        Of any shape.
    dtype : dtype, optional
        Default: that of `x`.

    Returns
    -------
    ndarray or float
        Of the shape of `x`; if that is symbolic, 0.
    """
    return full_like(x, 0.0, dtype)


def ones_like(x: Any, dtype: Any = None) -> Any:
    """Ones in the shape of `x`.

    Parameters
    ----------
    x : array_like or symbolic value
        Of any shape.
    dtype : dtype, optional
        Default: that of `x`.

    Returns
    -------
    ndarray or float
        Of the shape of `x`; if that is symbolic, 1.
    """
    return full_like(x, 1.0, dtype)


# Activation functions, with the defaults of keras.ops


def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))``."""
    return _call("sigmoid", x)


def softplus(x: Any) -> Any:
    """``log(1 + exp(x))``, without overflow."""
    return _call("softplus", x)


def log_sigmoid(x: Any) -> Any:
    """``log(sigmoid(x))``, without overflow."""
    return -softplus(negative(x))


def logaddexp(x1: Any, x2: Any) -> Any:
    """``log(exp(x1) + exp(x2))``, without overflow."""
    return x1 + softplus(subtract(x2, x1))


def relu(x: Any) -> Any:
    """``maximum(x, 0)``."""
    return maximum(x, 0)


def relu6(x: Any) -> Any:
    """``minimum(maximum(x, 0), 6)``."""
    return clip(x, 0, 6)


def leaky_relu(x: Any, negative_slope: float = 0.2) -> Any:
    """`x` above 0, else ``negative_slope * x``."""
    return where(greater(x, 0), x, multiply(x, negative_slope))


def elu(x: Any, alpha: float = 1.0) -> Any:
    """`x` above 0, else ``alpha * (exp(x) - 1)``."""
    # Only for NumPy, which would warn of an overflow in the branch not taken.
    negative_part = x if isinstance(x, Symbol) else minimum(x, 0)
    return where(greater(x, 0), x, alpha * expm1(negative_part))


def selu(x: Any) -> Any:
    """`elu`, scaled to be self-normalizing (Klambauer et al., arXiv:1706.02515)."""
    return SELU_SCALE * elu(x, SELU_ALPHA)


def silu(x: Any) -> Any:
    """``x * sigmoid(x)``."""
    return multiply(x, sigmoid(x))


swish = silu


def gelu(x: Any, approximate: bool = True) -> Any:
    """``x * Phi(x)``, with the normal distribution function Phi or its approximation by tanh."""
    if approximate:
        cubic = add(x, 0.044715 * power(x, 3))
        return 0.5 * multiply(x, 1 + tanh(math.sqrt(2 / math.pi) * cubic))
    return 0.5 * multiply(x, 1 + erf(multiply(x, SQRT_HALF)))


def softsign(x: Any) -> Any:
    """``x / (1 + |x|)``."""
    return divide(x, 1 + abs(x))


def hard_sigmoid(x: Any) -> Any:
    """``relu6(x + 3) / 6``."""
    return relu6(add(x, 3)) / 6


def hard_tanh(x: Any) -> Any:
    """`x`, clipped to -1 and 1."""
    return clip(x, -1, 1)


# The only reduction


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The mean over the outputs, with which a loss or a metric may end.

    gpunn always takes it, first over the outputs of a sample and then over the samples, so it can
    be omitted.

    Parameters
    ----------
    x : array_like or symbolic value
        Of any shape.
    axis : int or tuple of int, optional
        -1 or None if `x` is symbolic.
    keepdims : bool, default False
        Whether an array keeps the axis.

    Returns
    -------
    ndarray or symbolic value
        The mean.

    Raises
    ------
    ArgumentTypeError
        `x` is symbolic, and `axis` is another one.
    """
    if not isinstance(x, Symbol):
        return np.mean(x, axis=axis, keepdims=keepdims)
    last = axis[-1] if isinstance(axis, tuple | list) and axis else axis
    if last not in (None, -1):
        raise ArgumentTypeError(
            f"ops.mean is over the outputs (axis=-1) or over all, not over axis {axis!r}"
        )
    if x.reduced:
        return x
    return Symbol(x.builder, x.at, reduced=True)


__all__ = sorted(
    name
    for name, value in globals().items()
    if getattr(value, "__module__", "") == __name__ and not name.startswith("_")
)

_RETURNS = """
Returns
-------
ndarray or symbolic value
    Of the shape that the arguments broadcast to.
"""
_DESCRIBED = {
    "condition": "array_like of bool, or symbolic value\n    What to choose by.",
    "negative_slope": "float, default 0.2\n    Slope below 0.",
    "alpha": "float, default 1.0\n    Factor below 0.",
    "approximate": "bool, default True\n    Whether to use the approximation.",
}


def _complete_docstrings() -> None:
    """Add the sections that are the same for all elementwise functions."""
    for function in (globals()[name] for name in __all__):
        summary = inspect.getdoc(function)
        if summary is None or "Parameters\n" in summary:  # None under python -OO
            continue
        lines = ["", "", "Parameters", "----------"]
        for name in inspect.signature(function).parameters:
            text = _DESCRIBED.get(name, "array_like or symbolic value\n    Of any shape.")
            lines.append(f"{name} : {text}")
        function.__doc__ = summary + "\n".join(lines) + "\n" + _RETURNS


_complete_docstrings()

_REDUCTIONS = {
    *("sum", "prod", "max", "min", "amax", "amin", "std", "var", "any", "all", "norm", "argmax"),
    *("argmin", "matmul", "dot", "tensordot", "einsum", "cumsum", "softmax", "log_softmax"),
    *("logsumexp", "count_nonzero", "median", "reshape", "concatenate"),
}


class _NoSuchFunction(UnknownNameError, AttributeError):
    pass


class _NotElementwise(ArgumentTypeError, AttributeError):
    pass


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    if name in _REDUCTIONS:
        raise _NotElementwise(
            f"gpunn.ops has no {name!r}: activations, losses and metrics are elementwise "
            f"functions; gpunn takes the mean of a loss or metric over the outputs by itself "
            f"(ops.mean is optional)"
        )
    raise _NoSuchFunction("function of gpunn.ops", name, __all__)
