"""Constraints applied to a weight after each optimizer update. Formulas are those of Keras 3.

Norms are taken along axis 0: for a kernel ``(inputs, units)``, of the incoming weights of each
unit; for a bias, of the whole vector. A norm is constrained by ``w * desired / (1e-7 + norm)``,
which also shrinks weights within bounds, by about one part in ``1e7 * norm``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpunn.errors import ArgumentError
from gpunn.specs.registry import Registry, check_number

__all__ = [
    "Constraint",
    "MaxNorm",
    "MinMaxNorm",
    "NonNeg",
    "UnitNorm",
    "get",
    "max_norm",
    "min_max_norm",
    "non_neg",
    "unit_norm",
]

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
    "constraint", Constraint, instead="use one of gpunn.constraints"
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
    """Limit norms to `max_value`: ``w * min(norm, max_value) / (1e-7 + norm)``.

    Parameters
    ----------
    max_value : float, default 2
        Largest norm, at least 0.
    axis : int, default 0
        Only 0 is supported.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        `max_value` is negative or not a number, or `axis` is not 0.
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
    """Set negative weights to 0: ``max(w, 0)``."""

    @property
    def op(self) -> str:
        return "non_negative"


@constraints.register("unit_norm")
@dataclass(frozen=True)
class UnitNorm(Constraint):
    """Scale to norm 1: ``w / (1e-7 + norm)``.

    Parameters
    ----------
    axis : int, default 0
        Only 0 is supported.

    Raises
    ------
    ArgumentError
        `axis` is not 0.
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
    """Bring norms between two bounds, at once or gradually.

    ``w * (rate * clip(norm, min_value, max_value) + (1 - rate) * norm) / (1e-7 + norm)``

    Parameters
    ----------
    min_value, max_value : float, default 0 and 1
        Bounds, with ``0 <= min_value <= max_value``.
    rate : float, default 1
        From 0 to 1: the fraction of the way to the bounds that one step goes.
    axis : int, default 0
        Only 0 is supported.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is out of range or not a number, or `axis` is not 0.
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
    """Return a constraint.

    Parameters
    ----------
    identifier : str, Constraint, type, dict or None
        A name, a spec, its class, a config, or None for no constraint.

    Returns
    -------
    Constraint or None
        The spec.

    Raises
    ------
    UnknownNameError, ArgumentTypeError
        There is no such constraint, or it is user-defined, which is not supported.
    """
    return None if identifier is None else constraints.get(identifier)
