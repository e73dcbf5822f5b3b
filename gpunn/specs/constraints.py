"""Constraints: what an optimizer's update of a weight is followed by. Formulas are Keras's.

Norms are those of the vectors along axis 0: of a kernel ``(inputs, units)`` the weights that go
into each unit, of a bias the whole vector. A norm is kept in bounds by
``w * desired / (1e-7 + norm)``, which shrinks also what is within them by about one part in
``1e7 * norm``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpunn.errors import ArgumentError
from gpunn.specs.registry import Registry, check_number

EPSILON = 1e-7


@dataclass(frozen=True)
class Constraint:
    """Base class of constraints."""

    @property
    def op(self) -> str:
        """Name of the plan's op."""
        raise TypeError(f"{type(self).__name__} is abstract")

    @property
    def attrs(self) -> dict[str, Any]:
        """Constants of the formula."""
        return {}


constraints: Registry[Constraint] = Registry(
    "constraint", Constraint, instead="take one of gpunn.constraints"
)


def _check_axis(owner: str, axis: object) -> None:
    if isinstance(axis, bool) or axis != 0:
        raise ArgumentError(
            f"{owner}: axis must be 0, the inputs of each unit of a Dense kernel, not {axis!r}."
        )


def _norm(minimum: float, maximum: float, rate: float) -> dict[str, Any]:
    return {"minimum": minimum, "maximum": maximum, "rate": rate, "epsilon": EPSILON}


@constraints.register("max_norm")
@dataclass(frozen=True)
class MaxNorm(Constraint):
    """No norm above `max_value`: ``w * min(norm, max_value) / (1e-7 + norm)``.

    Parameters
    ----------
    max_value : float, default 2
        At least 0.
    axis : int, default 0
        The only one supported.
    """

    max_value: float = 2.0
    axis: int = 0

    def __post_init__(self) -> None:
        check_number("MaxNorm", "max_value", self.max_value, minimum=0)
        _check_axis("MaxNorm", self.axis)

    @property
    def op(self) -> str:
        return "norm_constraint"

    @property
    def attrs(self) -> dict[str, Any]:
        return _norm(0.0, float(self.max_value), 1.0)


@constraints.register("non_neg")
@dataclass(frozen=True)
class NonNeg(Constraint):
    """No value below 0: ``max(w, 0)``."""

    @property
    def op(self) -> str:
        return "non_negative"


@constraints.register("unit_norm")
@dataclass(frozen=True)
class UnitNorm(Constraint):
    """All norms 1: ``w / (1e-7 + norm)``.

    Parameters
    ----------
    axis : int, default 0
        The only one supported.
    """

    axis: int = 0

    def __post_init__(self) -> None:
        _check_axis("UnitNorm", self.axis)

    @property
    def op(self) -> str:
        return "norm_constraint"

    @property
    def attrs(self) -> dict[str, Any]:
        return _norm(1.0, 1.0, 1.0)


@constraints.register("min_max_norm")
@dataclass(frozen=True)
class MinMaxNorm(Constraint):
    """Norms between two bounds, or on the way there.

    ``w * (rate * clip(norm, min_value, max_value) + (1 - rate) * norm) / (1e-7 + norm)``

    Parameters
    ----------
    min_value, max_value : float, default 0 and 1
        At least 0, and the second no smaller than the first.
    rate : float, default 1
        From 0 to 1; below 1 a step goes this share of the way to the bounds.
    axis : int, default 0
        The only one supported.
    """

    min_value: float = 0.0
    max_value: float = 1.0
    rate: float = 1.0
    axis: int = 0

    def __post_init__(self) -> None:
        least = check_number("MinMaxNorm", "min_value", self.min_value, minimum=0)
        check_number("MinMaxNorm", "max_value", self.max_value, minimum=least)
        check_number("MinMaxNorm", "rate", self.rate, minimum=0, maximum=1)
        _check_axis("MinMaxNorm", self.axis)

    @property
    def op(self) -> str:
        return "norm_constraint"

    @property
    def attrs(self) -> dict[str, Any]:
        return _norm(float(self.min_value), float(self.max_value), float(self.rate))


max_norm = MaxNorm
non_neg = NonNeg
unit_norm = UnitNorm
min_max_norm = MinMaxNorm


def get(identifier: object) -> Constraint | None:
    """Return the constraint that `identifier` (a name, a spec, a config or None) stands for."""
    return None if identifier is None else constraints.get(identifier)
