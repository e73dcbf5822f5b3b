"""Losses as specs; names, definitions and reduction are those of Keras 3.

The loss of a batch is ``sum_i w_i * loss_i / batch_size`` with sample weights ``w`` (1 if none
are given), ``loss_i`` being the mean over the sample's outputs where it has several. Cross
entropies are computed from logits, in a form that is safe for logits of any size: a softmax or
sigmoid that the output layer ends with becomes part of the loss when the plan is built.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gpunn.registry import Registry, check_number


@dataclass(frozen=True)
class Loss:
    """Base class of losses."""

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


def _check_smoothing(loss: Any) -> None:
    owner, value = type(loss).__name__, loss.label_smoothing
    check_number(owner, "label_smoothing", value, minimum=0, below=1)


@losses.register("sparse_categorical_crossentropy")
@dataclass(frozen=True)
class SparseCategoricalCrossentropy(Loss):
    """``-log softmax(logits)[target]``; targets are class numbers, shape (n,) or (n, 1).

    Parameters
    ----------
    from_logits : bool, default False
        Whether the model puts out logits; if not, it must end with a softmax.
    label_smoothing : float, default 0.0
        As in `CategoricalCrossentropy`, on the one-hot form of the target. Keras has it only
        there; PyTorch has it for class numbers, too.
    """

    from_logits: bool = False
    label_smoothing: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        _check_smoothing(self)

    @property
    def op(self) -> str:
        return "softmax_cross_entropy"

    @property
    def head(self) -> str | None:
        return "softmax"

    @property
    def attrs(self) -> dict[str, Any]:
        return {"label_smoothing": float(self.label_smoothing)}

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
    label_smoothing : float, default 0.0
        At least 0 and below 1: of K classes, ``target_k * (1 - label_smoothing) +
        label_smoothing / K`` takes the place of ``target_k``. Accuracy sees the targets as given.
    """

    from_logits: bool = False
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        _check_smoothing(self)

    @property
    def op(self) -> str:
        return "softmax_cross_entropy"

    @property
    def head(self) -> str | None:
        return "softmax"

    @property
    def attrs(self) -> dict[str, Any]:
        return {"label_smoothing": float(self.label_smoothing)}


@losses.register("binary_crossentropy")
@dataclass(frozen=True)
class BinaryCrossentropy(Loss):
    """``-t * log sigmoid(z) - (1 - t) * log sigmoid(-z)``, mean over outputs (multilabel).

    Parameters
    ----------
    from_logits : bool, default False
        Whether the model puts out logits; if not, it must end with a sigmoid.
    label_smoothing : float, default 0.0
        At least 0 and below 1: ``t * (1 - label_smoothing) + label_smoothing / 2`` takes the
        place of the target t.
    """

    from_logits: bool = False
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        _check_smoothing(self)

    @property
    def op(self) -> str:
        return "sigmoid_cross_entropy"

    @property
    def head(self) -> str | None:
        return "sigmoid"

    @property
    def attrs(self) -> dict[str, Any]:
        return {"label_smoothing": float(self.label_smoothing)}


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
    """Return the loss that `identifier` (a name, a spec, a class, a config) stands for."""
    return losses.get(identifier)


def __getattr__(name: str) -> Any:
    """Return the loss of a name in Keras's other way of writing: `mean_squared_error`."""
    if name in losses.names():
        return losses.get(name)
    raise AttributeError(f"module 'gpunn.losses' has no attribute {name!r}")
