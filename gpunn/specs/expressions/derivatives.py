"""Derivatives of expressions, by the chain rule from the arguments on (forward mode).

Where the derivative is 0 because the branch of a ``where`` was not taken, it must not be
multiplied: ``0 * inf`` would be NaN. So a ``where`` with a 0 branch is moved outside of products.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from gpunn.specs.expressions.builder import Builder
from gpunn.specs.expressions.expression import Expression

# None for a derivative that is 0 everywhere, which is never computed.
Slope = int | None


class _Chain:
    def __init__(self, expression: Expression, argument: int) -> None:
        self.b = Builder()
        self.at = self.b.extend(expression)
        self.slopes: dict[int, Slope] = {}
        self.argument = argument

    def run(self) -> Expression:
        for at in self.at:
            if at not in self.slopes:
                self.slopes[at] = self.slope(at)
        result = self.slopes[self.at[-1]]
        return self.b.finish(self.b.constant(0) if result is None else result)

    def outside(self, use: Callable[[int], int], slope: int) -> int:
        """Return ``use(slope)``, with a ``where`` that has a 0 branch moved to the outside."""
        chosen: list[tuple[int, int, bool]] = []
        while self.b.code[slope][0] == "where":
            condition, first, second = self.b.code[slope][1:]
            if self.b.value(first) != 0 and self.b.value(second) != 0:
                break
            taken = self.b.value(second) == 0
            slope, zero = (first, second) if taken else (second, first)
            chosen.append((condition, zero, taken))
        result = use(slope)
        for condition, zero, taken in reversed(chosen):
            sides = (result, zero) if taken else (zero, result)
            result = self.b.emit("where", condition, *sides)
        return result

    def times(self, factor: int, slope: Slope) -> Slope:
        if slope is None or self.b.value(factor) == 0:
            return None
        return self.outside(lambda s: self.b.emit("multiply", factor, s), slope)

    def over(self, slope: Slope, divisor: int) -> Slope:
        if slope is None:
            return None
        return self.outside(lambda s: self.b.emit("divide", s, divisor), slope)

    def plus(self, first: Slope, second: Slope) -> Slope:
        if first is None or second is None:
            return second if first is None else first
        return self.b.emit("add", first, second)

    def minus(self, first: Slope, second: Slope) -> Slope:
        if second is None:
            return first
        if first is None:
            return self.outside(lambda s: self.b.emit("negative", s), second)
        return self.b.emit("subtract", first, second)

    def choose(self, condition: int, first: Slope, second: Slope) -> Slope:
        if first is None and second is None:
            return None
        zero = self.b.constant(0)
        sides = (zero if slope is None else slope for slope in (first, second))
        return self.b.emit("where", condition, *sides)

    def slope(self, at: int) -> Slope:
        b, (name, *operands) = self.b, self.b.code[at]
        if name == "argument":
            return b.constant(1) if operands[0] == self.argument else None
        if name == "constant":
            return None
        slopes = [self.slopes.get(operand) for operand in operands]
        if all(slope is None for slope in slopes):
            return None
        if name in _FACTORS:
            return self.times(_FACTORS[name](b, operands[0], at), slopes[0])
        rule = getattr(self, f"_{name}", None)
        return None if rule is None else rule(at, operands, slopes)

    def _negative(self, at: int, x: list[int], slopes: list[Slope]) -> Slope:
        return self.minus(None, slopes[0])

    def _add(self, at: int, x: list[int], slopes: list[Slope]) -> Slope:
        return self.plus(*slopes)

    def _subtract(self, at: int, x: list[int], slopes: list[Slope]) -> Slope:
        return self.minus(*slopes)

    def _multiply(self, at: int, x: list[int], slopes: list[Slope]) -> Slope:
        return self.plus(self.times(x[1], slopes[0]), self.times(x[0], slopes[1]))

    def _divide(self, at: int, x: list[int], slopes: list[Slope]) -> Slope:
        return self.minus(self.over(slopes[0], x[1]), self.over(self.times(at, slopes[1]), x[1]))

    def _power(self, at: int, x: list[int], slopes: list[Slope]) -> Slope:
        b, (base, exponent) = self.b, x
        less = b.emit("power", base, b.emit("subtract", exponent, b.constant(1)))
        by_base = self.times(b.emit("multiply", exponent, less), slopes[0])
        if slopes[1] is None:
            return by_base
        return self.plus(
            by_base, self.times(b.emit("multiply", b.emit("log", base), at), slopes[1])
        )

    def _maximum(self, at: int, x: list[int], slopes: list[Slope]) -> Slope:
        return self._extreme("greater", x, slopes)

    def _minimum(self, at: int, x: list[int], slopes: list[Slope]) -> Slope:
        return self._extreme("less", x, slopes)

    def _extreme(self, comparison: str, x: list[int], slopes: list[Slope]) -> Slope:
        # In a tie with a constant, that is taken: the derivative of maximum(z, 0) at 0 is 0.
        if slopes[0] is None:
            x, slopes = x[::-1], slopes[::-1]
        return self.choose(self.b.emit(comparison, *x), *slopes)

    def _where(self, at: int, x: list[int], slopes: list[Slope]) -> Slope:
        return self.choose(x[0], slopes[1], slopes[2])


def _gauss(b: Builder, x: int, y: int) -> int:
    bell = b.emit("exp", b.emit("negative", b.emit("square", x)))
    return b.emit("multiply", b.constant(2 / math.sqrt(math.pi)), bell)


def _one_minus(b: Builder, x: int) -> int:
    return b.emit("subtract", b.constant(1), x)


def _one_plus(b: Builder, x: int) -> int:
    return b.emit("add", b.constant(1), x)


# Derivatives of functions of one number, from operand x and result y.
_FACTORS: dict[str, Callable[[Builder, int, int], int]] = {
    "absolute": lambda b, x, y: b.emit("sign", x),
    "square": lambda b, x, y: b.emit("multiply", b.constant(2), x),
    "sqrt": lambda b, x, y: b.emit("divide", b.constant(0.5), y),
    "exp": lambda b, x, y: y,
    # Not y + 1, which cancels where y is near -1.
    "expm1": lambda b, x, y: b.emit("exp", x),
    "log": lambda b, x, y: b.emit("reciprocal", x),
    "log1p": lambda b, x, y: b.emit("reciprocal", _one_plus(b, x)),
    "sin": lambda b, x, y: b.emit("cos", x),
    "cos": lambda b, x, y: b.emit("negative", b.emit("sin", x)),
    "sinh": lambda b, x, y: b.emit("cosh", x),
    "cosh": lambda b, x, y: b.emit("sinh", x),
    "tanh": lambda b, x, y: _one_minus(b, b.emit("square", y)),
    "arctan": lambda b, x, y: b.emit("reciprocal", _one_plus(b, b.emit("square", x))),
    "reciprocal": lambda b, x, y: b.emit("negative", b.emit("square", y)),
    "erf": _gauss,
    "sigmoid": lambda b, x, y: b.emit("multiply", y, _one_minus(b, y)),
    "softplus": lambda b, x, y: b.emit("sigmoid", x),
}


@lru_cache(maxsize=256)
def differentiate(expression: Expression, argument: int = 0) -> Expression:
    """Return the derivative of an expression with respect to an argument.

    Comparisons, sign and floor count as constant; at a kink it is one of the one-sided derivatives.
    """
    return _Chain(expression, argument).run()
