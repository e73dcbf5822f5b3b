"""Derivatives compared with finite differences in float64, and tests for overflow in float32.

Central differences of three step widths are computed at fixed points. A point is skipped where
the function or a neighbouring value is not finite (outside its domain), or has a kink or a jump:
there the left and right differences do not converge to each other.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from gpunn.errors import ArgumentError
from gpunn.specs.expressions.expression import Expression

Array = np.ndarray[Any, Any]
# A function should be finite in float32 up to here; exp overflows at 88.8.
MAX_INPUT = 30.0
ROWS = 6  # of the table in an error message


# Points of either sign, dense around 0, some of them probabilities; no round numbers, at which
# both sides of a comparison may be equal and the derivative ambiguous.
_ODD = np.concatenate(
    [
        np.linspace(-5.8713, 5.9137, 103),
        np.array([0.0103, 0.0931, 0.3107, 0.7079, 0.9031, 0.9907]),
        np.outer([-1, 1], [7.913, 9.717, 12.07, 20.11, 29.93]).ravel(),
    ]
)
_TARGETS = np.array([0.0, 1.0, -1.0, 0.25, 0.6, -0.4, 1.7, 2.0, 3.0, -2.5, 7.3, -8.0])
# Round numbers, at which function and derivative should at least be finite.
_ROUND = np.concatenate([np.arange(-10.0, 10.5, 0.5), [-MAX_INPUT, -20.0, 20.0, MAX_INPUT]])


def sample_points(arguments: int) -> tuple[tuple[Array, ...], Array]:
    """Return points for functions of one number or two (target, prediction).

    Returns
    -------
    points : tuple of ndarray, shape (points,)
        One for each argument.
    odd : ndarray of bool, shape (points,)
        Those at which the derivative is compared.
    """
    numbers = np.concatenate([_ODD, _ROUND])
    odd = np.arange(numbers.size) < _ODD.size
    if arguments == 1:
        return (numbers,), odd
    t, p = np.meshgrid(_TARGETS, numbers, indexing="ij")
    on_target = np.concatenate([_TARGETS, _ROUND])  # where the error is 0
    points = np.concatenate([t.ravel(), on_target]), np.concatenate([p.ravel(), on_target])
    return points, np.concatenate([np.tile(odd, _TARGETS.size), np.zeros(on_target.size, bool)])


@dataclass(frozen=True)
class Report:
    """Comparison of an expression and its derivative with finite differences.

    Attributes
    ----------
    points : tuple of ndarray
        One for each argument.
    value, given, measured : ndarray
        The function, the derivative and the difference quotient at the points.
    compared : ndarray of bool
        Where derivative and quotient can be compared.
    wrong : ndarray of bool
        Where they differ.
    """

    points: tuple[Array, ...]
    value: Array
    given: Array
    measured: Array
    compared: Array
    wrong: Array

    @property
    def finite(self) -> bool:
        """Whether the function is finite anywhere."""
        return bool(np.isfinite(self.value).any())

    @property
    def flat(self) -> bool:
        """Whether the derivative is 0 wherever it is defined."""
        return not self.given[np.isfinite(self.value) & np.isfinite(self.given)].any()


@lru_cache(maxsize=256)
def compare(expression: Expression, derivative: Expression, arguments: int) -> Report:
    """Compare a derivative with respect to the last argument with finite differences."""
    points, odd = sample_points(arguments)
    *others, x = points
    h = 1e-4 * np.maximum(1, np.abs(x))

    def at(moved: Array) -> Array:
        return expression(*others, moved)

    with np.errstate(all="ignore"):
        value, given = at(x), derivative(*points)
        sides = [(at(x + step) - value, value - at(x - step)) for step in (h, h / 2)]
        (right, left), (right_half, left_half) = sides
        wide, narrow = (right + left) / (2 * h), (right_half + left_half) / h
        # The error of the wide quotient is four times that of the narrow one.
        measured = (4 * narrow - wide) / 3
        rounding = 1e-10 * (1 + np.abs(value)) / h * 1e-4
        bend, bend_half = np.abs(right - left) / h, 2 * np.abs(right_half - left_half) / h
        doubt = np.abs(wide - narrow)
        # A third width, not a simple fraction of the others: for a rapidly oscillating function
        # these may agree by chance.
        small = h / 7.3
        finest = (at(x + small) - at(x - small)) / (2 * small)
        doubt = np.maximum(doubt, np.abs(finest - measured))
        smooth = (bend_half <= 0.75 * bend + 1e-6 + 1e4 * rounding) & (
            doubt <= 1e-3 * np.abs(measured) + 1e-6 + 10 * rounding
        )
        compared = odd & smooth & np.isfinite(measured) & np.isfinite(value)
        allowed = 1e-4 * np.abs(measured) + 1e-6 + 10 * doubt + rounding
        wrong = compared & ~(np.abs(given - measured) <= allowed)
    return Report(points, value, given, measured, compared, wrong)


def check(
    owner: str,
    expression: Expression,
    derivative: Expression,
    names: Sequence[str],
    *,
    everywhere: bool,
) -> Report:
    """Check a function and its derivative with respect to its last argument.

    Parameters
    ----------
    owner : str
        For messages: ``"The loss 'huber_fn'"``.
    expression, derivative : Expression
    names : sequence of str
        Names of the arguments.
    everywhere : bool
        Whether it should be finite at all points, like an activation, whose input can be any
        number.

    Returns
    -------
    Report
        The comparison.

    Raises
    ------
    ArgumentError
        The derivative is not that of the function, or the function is finite nowhere.

    Warns
    -----
    RuntimeWarning
        The function or the derivative is NaN or infinite at a point of moderate size, or there is
        no point at which they can be compared.
    """
    report = compare(expression, derivative, len(names))
    if not report.finite:
        raise ArgumentError(f"{owner} is NaN or infinite at all points that were tried.")
    if report.wrong.any():
        raise ArgumentError(
            f"{owner}: its derivative with respect to {names[-1]} disagrees with finite "
            f"differences.\n{_table(report, names)}"
        )
    if not report.compared.any():
        warnings.warn(
            f"{owner}: it varies too rapidly for its derivative to be checked.",
            RuntimeWarning,
            stacklevel=2,
        )
    _warn(owner, report, expression, derivative, names, everywhere)
    return report


def _table(report: Report, names: Sequence[str]) -> str:
    found = np.flatnonzero(report.wrong)
    # In order of decreasing relative error; NaN first.
    error = np.abs(report.given - report.measured)[found]
    relative = np.nan_to_num(error / (1 + np.abs(report.measured[found])), nan=np.inf)
    shown = found[np.argsort(-relative, kind="stable")[:ROWS]]
    columns = [*names, "value", "derivative given", "measured"]
    arrays = [*report.points, report.value, report.given, report.measured]
    rows = [columns] + [[f"{array[i]:.6g}" for array in arrays] for i in shown]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    lines = ["  ".join(f"{cell:>{w}}" for cell, w in zip(row, widths, strict=True)) for row in rows]
    more = found.size - shown.size
    return "\n".join(lines) + (f"\n(and at {more} other points)" if more else "")


def _warn(
    owner: str,
    report: Report,
    expression: Expression,
    derivative: Expression,
    names: Sequence[str],
    everywhere: bool,
) -> None:
    points = [point.astype(np.float32) for point in report.points]
    for what, function, exact in (
        ("it", expression, report.value),
        ("its derivative", derivative, report.given),
    ):
        result = function(*points)
        # A loss need not be defined everywhere; there, only overflow of float32 counts.
        inside = np.ones(exact.shape, bool) if everywhere else np.isfinite(report.value)
        broken = np.flatnonzero(inside & ~np.isfinite(result))
        if broken.size:
            nearest = broken[np.argmin(sum(np.abs(point[broken]) for point in report.points))]
            place = ", ".join(
                f"{name} = {point[nearest]:g}" for name, point in zip(names, points, strict=True)
            )
            warnings.warn(
                f"{owner}: {what} is {result[nearest]} in float32 at {place}, where training "
                f"would fail; ops.where, ops.maximum and ops.clip can restrict a function to its "
                f"domain.",
                RuntimeWarning,
                stacklevel=2,
            )
            return
