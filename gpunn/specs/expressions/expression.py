"""Expressions: lists of operations on results of earlier ones, and their evaluation in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunn.errors import ArgumentError, UnknownNameError

Array = np.ndarray[Any, Any]
# ("argument", number), ("constant", value) or (operation, *positions of its operands).
Instruction = tuple[Any, ...]
Code = tuple[Instruction, ...]

# Limits, as an expression may be read from a file.
MAX_INSTRUCTIONS = 4096
MAX_CONSTANT = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Operation:
    """An operation on numbers ("r") and truth values ("b").

    Attributes
    ----------
    operands : str
        Kinds of its operands, one letter each.
    result : str
        Kind of its result.
    numpy : callable
        Its formula in NumPy.
    """

    operands: str
    result: str
    numpy: Callable[..., Any]


def _erf(x: Any) -> Any:
    x = np.asarray(x)
    x = x if x.dtype.kind == "f" else x.astype(np.float64)
    return np.vectorize(math.erf, otypes=[x.dtype])(x) if x.size else x.copy()


def _sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))  # the argument is not positive: no overflow
    return np.where(np.asarray(x) >= 0, 1 / (1 + e), e / (1 + e))


def _softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _reciprocal(x: Any) -> Any:
    return 1 / np.asarray(x)  # np.reciprocal divides integers as integers


def _cast(x: Any) -> Any:
    return np.asarray(x).astype(np.float32)


_ONE: dict[str, Callable[..., Any]] = {
    "negative": np.negative,
    "absolute": np.absolute,
    "sign": np.sign,
    "square": np.square,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sin": np.sin,
    "cos": np.cos,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "arctan": np.arctan,
    "floor": np.floor,
    "reciprocal": _reciprocal,
    "erf": _erf,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
}
_TWO: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "power": np.power,
    "maximum": np.maximum,
    "minimum": np.minimum,
}
_COMPARISONS: dict[str, Callable[..., Any]] = {
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "equal": np.equal,
    "not_equal": np.not_equal,
}
OPERATIONS: dict[str, Operation] = {
    **{name: Operation("r", "r", function) for name, function in _ONE.items()},
    **{name: Operation("rr", "r", function) for name, function in _TWO.items()},
    **{name: Operation("rr", "b", function) for name, function in _COMPARISONS.items()},
    "logical_and": Operation("bb", "b", np.logical_and),
    "logical_or": Operation("bb", "b", np.logical_or),
    "logical_not": Operation("b", "b", np.logical_not),
    "cast": Operation("b", "r", _cast),
    "where": Operation("brr", "r", np.where),
}
LEAVES = ("argument", "constant")


def result_kind(instruction: Instruction) -> str:
    """Return "r" for an instruction whose result is a number, "b" for a truth value."""
    return "r" if instruction[0] in LEAVES else OPERATIONS[instruction[0]].result


@dataclass(frozen=True)
class Expression:
    """An elementwise function of numbers.

    Parameters
    ----------
    code : sequence of instructions
        ``("argument", number)``, ``("constant", value)`` or an operation's name with the positions
        of its operands, all of them earlier in the list. The last instruction gives the result,
        which must be a number.

    Raises
    ------
    ArgumentError
        `code` is not such a list, or is longer than `MAX_INSTRUCTIONS`.
    """

    code: Code

    def __post_init__(self) -> None:
        code = self.code
        if not isinstance(code, list | tuple) or not 0 < len(code) <= MAX_INSTRUCTIONS:
            raise ArgumentError(
                f"An expression must be a list of 1 to {MAX_INSTRUCTIONS} instructions."
            )
        checked: list[Instruction] = []
        for instruction in code:
            checked.append(_checked(instruction, checked))
        if result_kind(checked[-1]) != "r":
            raise ArgumentError("The result of an expression must be a number, not a truth value.")
        object.__setattr__(self, "code", tuple(checked))

    @classmethod
    def get(cls, value: object) -> Expression:
        """Return the expression for `value`: an expression or its JSON form."""
        if isinstance(value, Expression):
            return value
        if isinstance(value, Mapping) and value.get("class_name") == "Expression":
            config = value.get("config")
            if isinstance(config, Mapping) and set(config) == {"code"}:
                return cls(config["code"])
        raise ArgumentError(f"Not an expression: {value!r}.")

    @property
    def arguments(self) -> int:
        """Number of arguments."""
        return 1 + max((one[1] for one in self.code if one[0] == "argument"), default=-1)

    @property
    def operations(self) -> int:
        """Number of operations."""
        return sum(instruction[0] not in LEAVES for instruction in self.code)

    def __call__(self, *arguments: Any) -> Array:
        """Evaluate on float arrays of one shape."""
        return evaluate(self.code, (len(self.code) - 1,), arguments)[0]


def _checked(instruction: object, before: Sequence[Instruction]) -> Instruction:
    """Return an instruction as a tuple, after checking its operands."""
    if not isinstance(instruction, list | tuple) or not instruction:
        raise ArgumentError(f"{instruction!r} is not an instruction of an expression.")
    name, *operands = instruction
    if name == "constant":
        (value,) = operands if len(operands) == 1 else (None,)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ArgumentError(f"A constant must be one number, not {operands!r}.")
        if not abs(value) <= MAX_CONSTANT:
            raise ArgumentError(f"A constant must be in the range of float32, not {value!r}.")
        return ("constant", float(value))
    if name == "argument":
        if len(operands) != 1 or type(operands[0]) is not int or operands[0] not in (0, 1):
            raise ArgumentError(f"An argument must be 0 or 1, not {operands!r}.")
        return ("argument", operands[0])
    operation = OPERATIONS.get(name) if isinstance(name, str) else None
    if operation is None:
        raise UnknownNameError("operation of an expression", name, OPERATIONS)
    if len(operands) != len(operation.operands):
        raise ArgumentError(f"{name} has {len(operation.operands)} operand(s), not {operands!r}.")
    for operand, kind in zip(operands, operation.operands, strict=True):
        if type(operand) is not int or not 0 <= operand < len(before):
            raise ArgumentError(f"{name} has an operand {operand!r} that does not precede it.")
        if result_kind(before[operand]) != kind:
            raise ArgumentError(f"{name} confuses numbers and truth values.")
    return (name, *operands)


def evaluate(code: Code, results: Sequence[int], arguments: Sequence[Any]) -> list[Array]:
    """Evaluate instructions on float arrays of one shape and dtype.

    Parameters
    ----------
    code : tuple of instructions
    results : sequence of int
        Positions of the instructions to return.
    arguments : sequence of arrays

    Returns
    -------
    list of ndarray
        Of the shape and dtype of the arguments. Overflow and NaN are not reported.
    """
    arrays = [np.asarray(argument) for argument in arguments]
    shape, dtype = arrays[0].shape, arrays[0].dtype
    values: list[Any] = []
    with np.errstate(all="ignore"):
        for name, *operands in code:
            if name == "argument":
                values.append(arrays[operands[0]])
            elif name == "constant":
                values.append(dtype.type(operands[0]))
            elif name == "cast":
                values.append(np.asarray(values[operands[0]]).astype(dtype))
            else:
                values.append(OPERATIONS[name].numpy(*(values[i] for i in operands)))
    return [np.broadcast_to(values[i], shape).astype(dtype) for i in results]


def join(*expressions: Expression) -> tuple[Code, tuple[int, ...]]:
    """Return one list of instructions that computes several expressions, and their positions.

    Common subexpressions are computed once.
    """
    code: list[Instruction] = []
    known: dict[str, int] = {}
    results = []
    for expression in expressions:
        at: list[int] = []
        for name, *operands in expression.code:
            moved = operands if name in LEAVES else [at[i] for i in operands]
            key = repr((name, *moved))  # tells -0.0 from 0.0
            if key not in known:
                known[key] = len(code)
                code.append((name, *moved))
            at.append(known[key])
        results.append(at[-1])
    return tuple(code), tuple(results)
