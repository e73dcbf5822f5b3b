"""Penalties on weights, added to the loss: ``l1 * sum|w| + l2 * sum w**2`` (as in Keras)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gpunn.specs.registry import Registry, check_number

__all__ = [
    "L1",
    "L1L2",
    "L1L2PerRow",
    "L2",
    "Regularizer",
    "get",
    "l1",
    "l1_l2",
    "l2",
]


@dataclass(frozen=True)
class L1L2:
    """The penalty ``l1 * sum|w| + l2 * sum w**2``.

    Parameters
    ----------
    l1, l2 : float, default 0.0
        Factors, at least 0.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        A factor is negative or not a number.
    """

    l1: float = 0.0
    l2: float = 0.0

    # The factors that are divided by the number of rows of the batch.
    per_row: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_number(type(self).__name__, "l1", self.l1, minimum=0)
        check_number(type(self).__name__, "l2", self.l2, minimum=0)


regularizers: Registry[L1L2] = Registry(
    "regularizer", L1L2, instead="use L1, L2 or L1L2 of gpunn.regularizers"
)
regularizers.register("l1_l2", "l1l2")(L1L2)
regularizers.alias("l1", lambda: L1L2(l1=0.01))
regularizers.alias("l2", lambda: L1L2(l2=0.01))


@regularizers.register()
@dataclass(frozen=True)
class L1L2PerRow(L1L2):
    """The penalty ``(l1 * sum|w| + l2 * sum w**2) / rows``, with the number of rows of the batch.

    This is how scikit-learn's MLPs weight their ``alpha``, which is ``2 * l2``: once per batch,
    whereas the loss is a mean over the rows. `evaluate` uses larger batches than `fit`, so its
    penalty is smaller.

    Parameters
    ----------
    l1, l2 : float, default 0.0
        Factors, at least 0.
    """

    per_row: ClassVar[tuple[str, ...]] = ("l1", "l2")


def L1(l1: float = 0.01) -> L1L2:
    """Make the penalty ``l1 * sum|w|``.

    Parameters
    ----------
    l1 : float, default 0.01
        Factor, at least 0.

    Returns
    -------
    L1L2
        The penalty.
    """
    return L1L2(l1=l1)


def L2(l2: float = 0.01) -> L1L2:
    """Make the penalty ``l2 * sum w**2``.

    Parameters
    ----------
    l2 : float, default 0.01
        Factor, at least 0.

    Returns
    -------
    L1L2
        The penalty.
    """
    return L1L2(l2=l2)


def l1_l2(l1: float = 0.01, l2: float = 0.01) -> L1L2:
    """Make the penalty ``l1 * sum|w| + l2 * sum w**2``.

    Parameters
    ----------
    l1, l2 : float, default 0.01
        Factors, at least 0.

    Returns
    -------
    L1L2
        The penalty.
    """
    return L1L2(l1=l1, l2=l2)


l1 = L1
l2 = L2
# Keras's name for the base class.
Regularizer = L1L2


def get(identifier: object) -> L1L2 | None:
    """Return a regularizer.

    Parameters
    ----------
    identifier : str, L1L2, type, callable, dict or None
        A name, a spec, its class or `L1`, `L2`, `l1_l2`, a config, or None for no penalty.

    Returns
    -------
    L1L2 or None
        The spec.

    Raises
    ------
    UnknownNameError, ArgumentTypeError
        There is no such regularizer, or it is user-defined, which is not supported.
    """
    for make in (L1, L2, l1_l2):  # functions here, classes in Keras
        if identifier is make:
            return make()
    return None if identifier is None else regularizers.get(identifier)
