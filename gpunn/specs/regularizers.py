"""Penalties on weights, added to the loss: ``l1 * sum|w| + l2 * sum w**2`` (as in Keras)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gpunn.specs.registry import Registry, check_number


@dataclass(frozen=True)
class L1L2:
    """``l1 * sum|w| + l2 * sum w**2``.

    Parameters
    ----------
    l1, l2 : float, default 0.0
        Factors, at least 0.
    """

    l1: float = 0.0
    l2: float = 0.0

    # Which of the factors are divided by the rows of the batch.
    per_row: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_number(type(self).__name__, "l1", self.l1, minimum=0)
        check_number(type(self).__name__, "l2", self.l2, minimum=0)


regularizers: Registry[L1L2] = Registry(
    "regularizer", L1L2, instead="take L1, L2 or L1L2 of gpunn.regularizers"
)
regularizers.register("l1_l2", "l1l2")(L1L2)
regularizers.alias("l1", lambda: L1L2(l1=0.01))
regularizers.alias("l2", lambda: L1L2(l2=0.01))


@regularizers.register()
@dataclass(frozen=True)
class L1L2PerRow(L1L2):
    """``(l1 * sum|w| + l2 * sum w**2) / rows``, the rows being those of the batch.

    This is how scikit-learn's MLPs weigh their ``alpha``, which is ``2 * l2``: once for the whole
    batch, whereas the loss is a mean over its rows. In `evaluate` batches are larger than in `fit`,
    and its part of the loss is smaller.
    """

    per_row: ClassVar[tuple[str, ...]] = ("l1", "l2")


def L1(l1: float = 0.01) -> L1L2:
    """Return the penalty ``l1 * sum|w|``."""
    return L1L2(l1=l1)


def L2(l2: float = 0.01) -> L1L2:
    """Return the penalty ``l2 * sum w**2``."""
    return L1L2(l2=l2)


def l1_l2(l1: float = 0.01, l2: float = 0.01) -> L1L2:
    """Return the penalty ``l1 * sum|w| + l2 * sum w**2``."""
    return L1L2(l1=l1, l2=l2)


l1 = L1
l2 = L2
# Keras's name for the base class.
Regularizer = L1L2


def get(identifier: object) -> L1L2 | None:
    """Return the regularizer that `identifier` (a name, a spec, a config or None) stands for."""
    for make in (L1, L2, l1_l2):  # functions here, classes in Keras
        if identifier is make:
            return make()
    return None if identifier is None else regularizers.get(identifier)
