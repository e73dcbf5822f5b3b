"""Tracing: a Python function is called once, with symbols instead of numbers."""

from __future__ import annotations

import functools
import inspect
import re
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from gpunn.errors import ArgumentError, ArgumentTypeError, GpunnError, with_article
from gpunn.specs.expressions.builder import Builder
from gpunn.specs.expressions.expression import OPERATIONS, Expression, result_kind

_PACKAGE = Path(__file__).parents[2]
MAX_LINE_LENGTH = 80  # of code in a message
# NumPy's names for operations with other names here.
_UFUNCS = {"abs": "absolute", "true_divide": "divide", "bitwise_and": "logical_and"}
_UFUNCS |= {"bitwise_or": "logical_or", "invert": "logical_not", "float_power": "power"}
_BINARY = frozenset(name for name, operation in OPERATIONS.items() if len(operation.operands) == 2)


class _Refused(ArgumentTypeError):
    """An operation that is not possible in an elementwise function."""


def _refuse(message: str) -> NoReturn:
    raise _Refused(message)


def is_number(value: object) -> bool:
    """Return whether `value` is a scalar of Python or NumPy."""
    if isinstance(value, bool | int | float | np.number | np.bool_):
        return not isinstance(value, np.complexfloating)
    return isinstance(value, np.ndarray) and value.shape == () and value.dtype.kind in "biuf"


class Symbol:
    """A number that is not known yet, with which a traced function computes.

    Attributes
    ----------
    reduced : bool
        Whether the mean over the outputs has been taken, after which only sums with other such
        means and products with constants are possible.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, builder: Builder, at: int, reduced: bool = False) -> None:
        self.builder, self.at, self.reduced = builder, at, reduced

    @property
    def dtype(self) -> str:
        """For ``ops.cast(y_true, y_pred.dtype)``."""
        return "bool" if result_kind(self.builder.code[self.at]) == "b" else "float32"

    # Arithmetic

    def __add__(self, other: Any) -> Any:
        return apply("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return apply("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return apply("subtract", self, other)

    def __rsub__(self, other: Any) -> Any:
        return apply("subtract", other, self)

    def __mul__(self, other: Any) -> Any:
        return apply("multiply", self, other)

    def __rmul__(self, other: Any) -> Any:
        return apply("multiply", other, self)

    def __truediv__(self, other: Any) -> Any:
        return apply("divide", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return apply("divide", other, self)

    def __pow__(self, other: Any) -> Any:
        return apply("power", self, other)

    def __rpow__(self, other: Any) -> Any:
        return apply("power", other, self)

    def __neg__(self) -> Any:
        return apply("negative", self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return apply("absolute", self)

    def __lt__(self, other: Any) -> Any:
        return apply("less", self, other)

    def __le__(self, other: Any) -> Any:
        return apply("less_equal", self, other)

    def __gt__(self, other: Any) -> Any:
        return apply("greater", self, other)

    def __ge__(self, other: Any) -> Any:
        return apply("greater_equal", self, other)

    def __eq__(self, other: object) -> Any:
        return apply("equal", self, other)

    def __ne__(self, other: object) -> Any:
        return apply("not_equal", self, other)

    def __and__(self, other: Any) -> Any:
        return self._logical("logical_and", "&", self, other)

    def __rand__(self, other: Any) -> Any:
        return self._logical("logical_and", "&", other, self)

    def __or__(self, other: Any) -> Any:
        return self._logical("logical_or", "|", self, other)

    def __ror__(self, other: Any) -> Any:
        return self._logical("logical_or", "|", other, self)

    def __invert__(self) -> Any:
        return self._logical("logical_not", "~", self)

    def _logical(self, name: str, sign: str, *operands: Any) -> Any:
        for operand in operands:
            if getattr(operand, "dtype", type(operand)) not in ("bool", bool, np.dtype(bool)):
                _refuse(f"{sign} works on truth values such as (x > 0), not on numbers")
        return apply(name, *operands)

    # What an elementwise function cannot do

    def __bool__(self) -> bool:
        _refuse(
            "the truth of a value is not known while the function is traced: use ops.where("
            "condition, a, b) for `if`, ops.logical_and, logical_or, logical_not for `and`, `or`, "
            "`not` (and for a < x < b), ops.maximum and ops.minimum for max and min"
        )

    def __float__(self) -> float:
        _refuse(
            "a value cannot become a Python number; use the functions of gpunn.ops, such as "
            "ops.exp in place of math.exp"
        )

    __int__ = __index__ = __complex__ = __round__ = __float__

    def __len__(self) -> int:
        _refuse(_ELEMENTWISE.format("len()"))

    def __iter__(self) -> Any:
        _refuse(_ELEMENTWISE.format("a loop over a value"))

    def __getitem__(self, key: Any) -> Any:
        _refuse(_ELEMENTWISE.format("indexing"))

    def __contains__(self, item: Any) -> bool:
        _refuse(_ELEMENTWISE.format("`in`"))

    def __matmul__(self, other: Any) -> Any:
        _refuse(_ELEMENTWISE.format("a matrix product"))

    __rmatmul__ = __matmul__

    def __mod__(self, other: Any) -> Any:
        _refuse("% and // are not supported; use ops.floor")

    __rmod__ = __floordiv__ = __rfloordiv__ = __mod__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in ("shape", "ndim", "size"):
            _refuse(_ELEMENTWISE.format(f".{name}"))
        raise _Unknown(
            f"the arguments of a traced function have no .{name}; use the functions of gpunn.ops"
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name = _UFUNCS.get(ufunc.__name__, ufunc.__name__)
        if method == "__call__" and name in _BINARY and len(inputs) == 2 and not kwargs:
            return apply(name, *inputs)  # np.float32(2) * x
        _refuse(f"np.{ufunc.__name__} does not support symbols; use gpunn.ops ({_hint(name)})")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        name = function.__name__
        _refuse(f"np.{name} does not support symbols; use gpunn.ops ({_hint(name)})")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        _refuse("a value cannot become a NumPy array; use the functions of gpunn.ops")


class _Unknown(_Refused, AttributeError):
    pass


_ELEMENTWISE = (
    "{} is not possible: activations, losses and metrics are functions of single numbers, applied "
    "to each output; gpunn takes the mean of a loss or metric over the outputs by itself"
)


_STALE_SYMBOL = "it uses a value of an earlier call"


def _hint(name: str) -> str:
    known = name in OPERATIONS or name in ("clip", "mean", "log2", "log10", "tan", "logaddexp")
    return f"ops.{name}" if known else "which has no such function"


def apply(name: str, *operands: Any) -> Symbol:
    """Return the symbol for an operation with at least one symbolic operand."""
    symbol = next(operand for operand in operands if isinstance(operand, Symbol))
    b = symbol.builder
    at: list[int] = []
    for operand in operands:
        if isinstance(operand, Symbol):
            if operand.builder is not b:
                _refuse(_STALE_SYMBOL)
            at.append(operand.at)
        elif is_number(operand):
            at.append(b.constant(float(operand)))
        else:
            kind = type(operand).__name__
            _refuse(f"it computes with {with_article(kind)}; a constant must be a single number")
    reduced = [isinstance(operand, Symbol) and operand.reduced for operand in operands]
    if any(reduced):
        constant = [not isinstance(operand, Symbol) for operand in operands]
        linear = (
            (name in ("add", "subtract") and all(map(max, reduced, constant)))
            or (name == "multiply" and any(constant))
            or (name == "divide" and constant[-1])
            or name == "negative"
        )
        if not linear:
            _refuse(
                f"ops.{name} of a mean is not possible: the mean over the outputs must come last, "
                f"followed only by sums with other means and products with constants"
            )
    return Symbol(b, b.emit(name, *at), any(reduced))


def function_name(function: Any) -> str:
    """Return a name for a function: its own, or that of its class."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", None) or type(function).__name__
    return re.sub(r"[^A-Za-z0-9_.\-]", "", name) or "function"


def trace(
    function: Callable[..., Any], arguments: Sequence[str], what: str, *, mean: bool = False
) -> Expression:
    """Call a function with symbols and return the expression that it computes.

    Parameters
    ----------
    function : callable
    arguments : sequence of str
        Names of its arguments: ``("y_true", "y_pred")``.
    what : str
        What the function is, for messages: ``"activation"``.
    mean : bool
        Whether it may end with a mean over the outputs, which is dropped.

    Returns
    -------
    Expression
        The result.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        It cannot be called with these arguments, or is not elementwise; the message names the
        function and the line.
    """
    owner = f"The {what} {function_name(function)!r}"
    builder = Builder()
    symbols = [Symbol(builder, builder.argument(i)) for i in range(len(arguments))]
    _check_signature(function, symbols, f"{owner} is called with ({', '.join(arguments)})")
    try:
        result = function(*symbols)
        if is_number(result):
            result = Symbol(builder, builder.constant(float(result)))
        elif isinstance(result, Symbol) and result.builder is not builder:
            _refuse(_STALE_SYMBOL)
    except GpunnError as error:
        kind = ArgumentTypeError if isinstance(error, TypeError) else ArgumentError
        raise kind(f"{owner}{_line(error)}: {str(error).rstrip('.')}.") from error
    except TypeError as error:
        # Usually from an object of another library, which does not support symbols.
        raise ArgumentTypeError(
            f"{owner}{_line(error)}: {error}. It is traced with symbols of gpunn and may use "
            f"Python's operators, the functions of gpunn.ops, and constants."
        ) from error
    if not isinstance(result, Symbol):
        raise ArgumentTypeError(
            f"{owner} must return a value computed from {' and '.join(arguments)}, not "
            f"{'None; is a return missing?' if result is None else type(result).__name__}"
        )
    if result.reduced and not mean:
        raise ArgumentError(
            f"{owner} takes a mean; it must be a function of single numbers, applied to each."
        )
    return builder.finish(result.at)


def _check_signature(function: Any, symbols: Sequence[Symbol], called: str) -> None:
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # functions written in C have none
        return
    try:
        signature.bind(*symbols)
    except TypeError as error:
        raise ArgumentTypeError(f"{called}, but takes {signature}: {error}.") from error


def _line(error: BaseException) -> str:
    """Return the position in the user's code that an error comes from."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _PACKAGE not in Path(frame.filename).parents:
            line = frame.line or ""
            text = f": `{line}`" if 0 < len(line) <= MAX_LINE_LENGTH else ""
            return f" ({Path(frame.filename).name}, line {frame.lineno}{text})"
    return ""
