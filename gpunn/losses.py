"""Losses as specs; names, definitions and reduction are those of Keras 3.

The loss of a batch is ``sum_i w_i * loss_i / batch_size`` with sample weights ``w`` (1 if none
are given), ``loss_i`` being the mean over the sample's outputs where it has several. Cross
entropies are computed from logits, in a form that is safe for logits of any size: a softmax or
sigmoid that the output layer ends with becomes part of the loss when the plan is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpunn import formulas
from gpunn.errors import UnknownNameError
from gpunn.formulas import binary_crossentropy as binary_crossentropy
from gpunn.formulas import categorical_crossentropy as categorical_crossentropy
from gpunn.formulas import huber as huber
from gpunn.formulas import mean_absolute_error as mean_absolute_error
from gpunn.formulas import mean_squared_error as mean_squared_error
from gpunn.formulas import sparse_categorical_crossentropy as sparse_categorical_crossentropy
from gpunn.registry import Registry, check_number


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Base class of losses.

    Parameters
    ----------
    reduction : str, default "sum_over_batch_size"
        The mean over samples is the only one.
    name : str, optional
        Taken for compatibility.
    """

    reduction: str = "sum_over_batch_size"
    name: str | None = None

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the loss of a batch of arrays, as a NumPy number."""
        return formulas.batch_loss(self, y_true, y_pred, sample_weight)

    @property
    def op(self) -> str:
        """Name of the plan's op."""
        raise TypeError(f"{type(self).__name__} is abstract")

    @property
    def head(self) -> str | None:
        """Name of the output activation that the loss takes in, for cross entropies."""
        return None

    @property
    def sparse(self) -> bool:
        """Whether targets are integer class numbers."""
        return False

    @property
    def attrs(self) -> dict[str, Any]:
        """Constants of the formula."""
        return {}


losses: Registry[Loss] = Registry("loss", Loss)


@losses.register("sparse_categorical_crossentropy")
@dataclass(frozen=True)
class SparseCategoricalCrossentropy(Loss):
    """``-log softmax(logits)[target]``; targets are class numbers, shape (n,) or (n, 1).

    Parameters
    ----------
    from_logits : bool, default False
        Whether the model puts out logits; if not, it must end with a softmax.
    """

    from_logits: bool = False

    @property
    def op(self) -> str:
        return "softmax_cross_entropy"

    @property
    def head(self) -> str | None:
        return "softmax"

    @property
    def sparse(self) -> bool:
        return True


@losses.register("categorical_crossentropy")
@dataclass(frozen=True)
class CategoricalCrossentropy(Loss):
    """``-sum_k target_k * log softmax(logits)_k``; targets are one-hot or probabilities.

    Parameters
    ----------
    from_logits : bool, default False
        Whether the model puts out logits; if not, it must end with a softmax.
    """

    from_logits: bool = False

    @property
    def op(self) -> str:
        return "softmax_cross_entropy"

    @property
    def head(self) -> str | None:
        return "softmax"


@losses.register("binary_crossentropy")
@dataclass(frozen=True)
class BinaryCrossentropy(Loss):
    """``-t * log sigmoid(z) - (1 - t) * log sigmoid(-z)``, mean over outputs (multilabel).

    Parameters
    ----------
    from_logits : bool, default False
        Whether the model puts out logits; if not, it must end with a sigmoid.
    """

    from_logits: bool = False

    @property
    def op(self) -> str:
        return "sigmoid_cross_entropy"

    @property
    def head(self) -> str | None:
        return "sigmoid"


@losses.register("mean_squared_error", "mse")
@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """Mean over outputs of ``(prediction - target)**2``."""

    @property
    def op(self) -> str:
        return "squared_error"


@losses.register("mean_absolute_error", "mae")
@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """Mean over outputs of ``|prediction - target|``."""

    @property
    def op(self) -> str:
        return "absolute_error"


@losses.register("huber", "huber_loss")
@dataclass(frozen=True)
class Huber(Loss):
    """``e**2 / 2`` for ``|e| <= delta``, else ``delta * |e| - delta**2 / 2``; mean over outputs."""

    delta: float = 1.0

    def __post_init__(self) -> None:
        check_number("Huber", "delta", self.delta, above=0)

    @property
    def op(self) -> str:
        return "huber"

    @property
    def attrs(self) -> dict[str, Any]:
        return {"delta": self.delta}


def get(identifier: object) -> Loss:
    """Return the loss that `identifier` (name, spec, class, function, config) stands for."""
    for name, function in formulas.OF_LOSSES.items():
        if identifier is function:
            return losses.get(name)
    loss = losses.get(identifier)
    if loss.reduction not in ("sum_over_batch_size", "mean"):
        raise UnknownNameError(
            f"reduction of {type(loss).__name__}", loss.reduction, ["sum_over_batch_size"]
        )
    return loss
