"""Builds expressions: common subexpressions once, constants folded, forms made stable."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gpunn.errors import ArgumentError
from gpunn.specs.expressions.expression import (
    LEAVES,
    MAX_CONSTANT,
    MAX_INSTRUCTIONS,
    OPERATIONS,
    Expression,
    Instruction,
    result_kind,
)

# Integer powers up to this one become products.
MAX_PRODUCT_POWER = 16


class Builder:
    """Instructions under construction; positions in the list represent values.

    Forms that would overflow although the function does not are rewritten: ``log(1 + exp(x))`` to
    softplus(x), ``y / (1 + exp(x))`` to y * sigmoid(-x), ``exp(x) / (1 + exp(x))`` to sigmoid(x).
    """

    def __init__(self) -> None:
        self.code: list[Instruction] = []
        self._known: dict[str, int] = {}

    def _add(self, instruction: Instruction) -> int:
        key = repr(instruction)  # tells -0.0 from 0.0
        if key not in self._known:
            if len(self.code) >= MAX_INSTRUCTIONS:
                raise ArgumentError(
                    f"a function, or its derivative, has more than {MAX_INSTRUCTIONS} operations"
                )
            self._known[key] = len(self.code)
            self.code.append(instruction)
        return self._known[key]

    def argument(self, number: int) -> int:
        """Return the position of an argument."""
        return self._add(("argument", number))

    def constant(self, value: float) -> int:
        """Return the position of a constant."""
        value = float(value)
        if not abs(value) <= MAX_CONSTANT:
            raise ArgumentError(f"the constant {value!r} is not in the range of float32")
        return self._add(("constant", value))

    def value(self, at: int) -> float | None:
        """Return the value of a constant, or None for anything else."""
        name, operand = self.code[at][:2]
        return operand if name == "constant" else None

    def finish(self, result: int) -> Expression:
        """Return the expression of one value, without unused instructions."""
        if result_kind(self.code[result]) == "b":
            result = self.emit("cast", result)
        needed = {result}
        for i in range(result, -1, -1):
            if i in needed and self.code[i][0] not in LEAVES:
                needed.update(self.code[i][1:])
        at: dict[int, int] = {}
        code: list[Instruction] = []
        for i in sorted(needed):
            name, *operands = self.code[i]
            at[i] = len(code)
            code.append((name, *(operands if name in LEAVES else (at[j] for j in operands))))
        return Expression(tuple(code))

    def extend(self, expression: Expression) -> list[int]:
        """Add the instructions of an expression unchanged; return their positions."""
        at: list[int] = []
        for name, *operands in expression.code:
            at.append(
                self._add((name, *(operands if name in LEAVES else (at[i] for i in operands))))
            )
        return at

    def emit(self, name: str, *operands: int) -> int:
        """Return the position of an operation's result."""
        kinds = OPERATIONS[name].operands
        given = [self._as(kind, at) for kind, at in zip(kinds, operands, strict=True)]
        folded = self._fold(name, given)
        if folded is not None:
            return folded
        rule = _RULES.get(name)
        simpler = rule(self, *given) if rule is not None else None
        return self._add((name, *given)) if simpler is None else simpler

    def _as(self, kind: str, at: int) -> int:
        if result_kind(self.code[at]) == kind:
            return at
        return (
            self.emit("cast", at) if kind == "r" else self.emit("not_equal", at, self.constant(0))
        )

    def _fold(self, name: str, operands: list[int]) -> int | None:
        values = [self.value(at) for at in operands]
        if OPERATIONS[name].result != "r" or any(value is None for value in values):
            return None
        with np.errstate(all="ignore"):
            result = float(OPERATIONS[name].numpy(*map(np.float64, values)))
        return self.constant(result) if abs(result) <= MAX_CONSTANT else None

    def is_one_plus_exp(self, at: int) -> int | None:
        """Return x if the value is ``1 + exp(x)``."""
        if self.code[at][0] != "add":
            return None
        for one, other in (self.code[at][1:], self.code[at][:0:-1]):
            if self.value(one) == 1 and self.code[other][0] == "exp":
                return int(self.code[other][1])
        return None

    def power(self, base: int, exponent: int) -> int | None:
        """Express integer powers and roots as products; return None for other powers."""
        number = self.value(exponent)
        if number is None:
            return None
        if number < 0 and (number.is_integer() or number == -0.5) and -number <= MAX_PRODUCT_POWER:
            return self.emit("reciprocal", self.emit("power", base, self.constant(-number)))
        if number == 0.5:
            return self.emit("sqrt", base)
        if not number.is_integer() or not 0 <= number <= MAX_PRODUCT_POWER:
            return None
        result, left, square = None, int(number), base
        while left:
            if left & 1:
                result = square if result is None else self.emit("multiply", result, square)
            left >>= 1
            if left:
                square = self.emit("square", square)
        return self.constant(1) if result is None else result


def _add(b: Builder, x: int, y: int) -> int | None:
    return y if b.value(x) == 0 else x if b.value(y) == 0 else None


def _subtract(b: Builder, x: int, y: int) -> int | None:
    return x if b.value(y) == 0 else b.emit("negative", y) if b.value(x) == 0 else None


def _multiply(b: Builder, x: int, y: int) -> int | None:
    for one, other in ((x, y), (y, x)):
        if b.value(one) == 1:
            return other
        if b.value(one) == -1:
            return b.emit("negative", other)
    return b.emit("square", x) if x == y else None


def _divide(b: Builder, x: int, y: int) -> int | None:
    if b.value(x) == 1:
        return b.emit("reciprocal", y)
    inner = b.is_one_plus_exp(y)
    if inner is not None and b.code[x] == ("exp", inner):
        return b.emit("sigmoid", inner)
    if inner is not None:
        return b.emit("multiply", x, b.emit("sigmoid", b.emit("negative", inner)))
    return x if b.value(y) == 1 else None


def _negative(b: Builder, x: int) -> int | None:
    return int(b.code[x][1]) if b.code[x][0] == "negative" else None


def _log(b: Builder, x: int) -> int | None:
    inner = b.is_one_plus_exp(x)
    return None if inner is None else b.emit("softplus", inner)


def _log1p(b: Builder, x: int) -> int | None:
    return b.emit("softplus", int(b.code[x][1])) if b.code[x][0] == "exp" else None


def _reciprocal(b: Builder, x: int) -> int | None:
    inner = b.is_one_plus_exp(x)
    return None if inner is None else b.emit("sigmoid", b.emit("negative", inner))


def _where(b: Builder, condition: int, x: int, y: int) -> int | None:
    return x if x == y else None


_RULES: dict[str, Callable[..., int | None]] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "divide": _divide,
    "negative": _negative,
    "power": Builder.power,
    "log": _log,
    "log1p": _log1p,
    "reciprocal": _reciprocal,
    "where": _where,
}
