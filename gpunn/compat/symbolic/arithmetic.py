"""What ``+``, ``-``, ``*``, ``/`` and ``@`` mean, by the kinds of tensors on both sides."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

from gpunn.compat.symbolic import objectives
from gpunn.compat.symbolic.graph import Tensor, describe
from gpunn.compat.symbolic.objectives import OBJECTIVES, Scalar, absolute
from gpunn.compat.symbolic.placeholders import Placeholder
from gpunn.compat.symbolic.values import SUPPORTED, Values, add_bias, add_values, matmul, rescale
from gpunn.compat.symbolic.variables import Variable
from gpunn.errors import ArgumentTypeError
from gpunn.specs.registry import check_number

# The names of NumPy's functions are those of `Tensor`'s operators.
__all__ = ["absolute", "add", "add_n", "divide", "matmul", "multiply", "negative"]
__all__ += ["squared_difference", "subtract"]


def _is_number(value: Any) -> bool:
    number = isinstance(value, numbers.Real) or getattr(value, "shape", None) == ()
    return number and not isinstance(value, Tensor)


def _no(owner: str, a: Any, b: Any) -> ArgumentTypeError:
    return ArgumentTypeError(
        f"{owner}: is not supported for {describe(a)} and {describe(b)}. {SUPPORTED}. {OBJECTIVES}."
    )


def add(x: Any, y: Any, name: str = "add") -> Any:
    """``x + y``: a product and its bias, two tensors, a tensor and a number, or two losses."""
    for one, other in ((x, y), (y, x)):
        if isinstance(other, Variable) and not isinstance(one, Variable):
            return add_bias(one, other, name)
        if _is_number(other):
            offset = check_number("add", "the number", other)
            if isinstance(one, Scalar) and offset == 0:  # sum([...]) begins with 0
                return one
            if isinstance(one, Values | Placeholder):
                return rescale(one, 1.0, offset, name)
    if isinstance(x, Scalar) and isinstance(y, Scalar):
        return objectives.combine(name, (1.0, x), (1.0, y))
    if isinstance(x, Values | Placeholder) and isinstance(y, Values | Placeholder):
        return add_values(x, y, name)
    raise _no("add", x, y)


def add_n(inputs: Sequence[Any], name: str = "AddN") -> Any:
    """Return the sum of tensors of one shape, or of losses."""
    if not isinstance(inputs, list | tuple) or not inputs:
        raise ArgumentTypeError("add_n: inputs must be a list of at least one tensor.")
    total, *others = inputs
    for other in others:
        total = add(total, other, name)
    return total


def subtract(x: Any, y: Any, name: str = "sub") -> Any:
    """``x - y``: predictions and targets, or a tensor and a number."""
    if _is_number(y) and isinstance(x, Values | Placeholder):
        return rescale(x, 1.0, -check_number("subtract", "the number", y), name)
    if _is_number(x) and isinstance(y, Values | Placeholder):
        return rescale(y, -1.0, check_number("subtract", "the number", x), name)
    if isinstance(x, Scalar) and isinstance(y, Scalar):
        return objectives.combine(name, (1.0, x), (-1.0, y))
    if isinstance(x, Values | Placeholder) and isinstance(y, Values | Placeholder):
        return objectives.difference(x, y, name)
    raise _no("subtract", x, y)


def multiply(x: Any, y: Any, name: str = "mul") -> Any:
    """``x * y`` of a tensor or a loss, and a number."""
    for one, other in ((x, y), (y, x)):
        if _is_number(other):
            factor = check_number("multiply", "the number", other)
            if isinstance(one, Scalar):
                return objectives.combine(name, (factor, one))
            if isinstance(one, Values | Placeholder):
                return rescale(one, factor, 0.0, name)
    raise _no("multiply", x, y)


def negative(x: Any) -> Any:
    """``-x`` of a tensor or a loss."""
    return multiply(x, -1.0)


def divide(x: Any, y: Any, name: str = "truediv") -> Any:
    """``x / y`` of a tensor or a loss, and a number."""
    if not _is_number(y):
        raise _no("divide", x, y)
    if not float(y):
        raise ArgumentTypeError("divide: the number must not be 0.")
    return multiply(x, 1 / float(y), name)


def squared_difference(x: Any, y: Any, name: str = "SquaredDifference") -> Any:
    """``(predictions - y)**2``, whose mean is the mean squared error."""
    return objectives.square(subtract(x, y), name)
