"""Losses as specs; names, definitions and reduction are those of Keras 3.

The loss of a batch is ``sum_i w_i * loss_i / batch_size`` with sample weights ``w`` (1 by
default), where ``loss_i`` is the mean over the outputs of sample i. Cross-entropies are computed
from logits, in a form that is numerically stable for logits of any size: a softmax or sigmoid at
the end of the model is fused into the loss when the plan is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gpunn.errors import ArgumentError, ArgumentTypeError, PlanError
from gpunn.specs import formulas
from gpunn.specs.expressions import Expression
from gpunn.specs.expressions.checks import check
from gpunn.specs.expressions.derivatives import differentiate
from gpunn.specs.expressions.tracing import function_name, trace
from gpunn.specs.formulas import (
    binary_crossentropy,
    categorical_crossentropy,
    huber,
    mean_absolute_error,
    mean_squared_error,
    sparse_categorical_crossentropy,
)
from gpunn.specs.registry import Registry, check_number, set_field

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "ExpressionLoss",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "SparseCategoricalCrossentropy",
    "binary_crossentropy",
    "categorical_crossentropy",
    "from_function",
    "get",
    "huber",
    "mean_absolute_error",
    "mean_squared_error",
    "sparse_categorical_crossentropy",
]

# Arguments of user-defined functions, in Keras's order.
ARGUMENTS = ("y_true", "y_pred")


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Base class of losses.

    A user-defined subclass has a method ``call(self, y_true, y_pred)``, which is used like a
    function given to `from_function`.

    Parameters
    ----------
    reduction : {"sum_over_batch_size", "mean"}
        Both take the mean over the batch.
    name : str, optional
        Name of a user-defined loss; default: its class name.

    Raises
    ------
    ArgumentError
        `reduction` is another one.
    """

    reduction: str = "sum_over_batch_size"
    name: str | None = None

    def __post_init__(self) -> None:
        if self.reduction not in ("sum_over_batch_size", "mean"):
            raise ArgumentError(
                f"{type(self).__name__}: reduction must be 'sum_over_batch_size', the mean over "
                f"the batch, not {self.reduction!r}."
            )

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the loss of a batch of arrays, as a NumPy scalar."""
        if callable(getattr(self, "call", None)):
            return get(self)(y_true, y_pred, sample_weight)
        return formulas.batch_loss(self, y_true, y_pred, sample_weight)

    @property
    def op(self) -> str:
        """Name of the plan's op."""
        raise ArgumentTypeError(
            f"{type(self).__name__}: a user-defined loss needs a method call(self, y_true, y_pred)."
        )

    @property
    def head(self) -> str | None:
        """Name of the output activation that is fused into the loss: that of cross-entropies."""
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
        Whether the model returns logits; if not, it must end with a softmax.
    label_smoothing : float, default 0.0
        As in `CategoricalCrossentropy`, applied to the one-hot target. Keras has it only there;
        PyTorch has it for class numbers, too.
    reduction, name : see `Loss`
    """

    from_logits: bool = False
    label_smoothing: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
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
        Whether the model returns logits; if not, it must end with a softmax.
    label_smoothing : float, default 0.0
        At least 0 and below 1: with K classes, ``target_k * (1 - label_smoothing) +
        label_smoothing / K`` replaces ``target_k``. Accuracy uses the targets as given.
    reduction, name : see `Loss`
    """

    from_logits: bool = False
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
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
        Whether the model returns logits; if not, it must end with a sigmoid.
    label_smoothing : float, default 0.0
        At least 0 and below 1: ``t * (1 - label_smoothing) + label_smoothing / 2`` replaces the
        target t.
    reduction, name : see `Loss`
    """

    from_logits: bool = False
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
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
    """Mean over outputs of ``(prediction - target)**2``.

    Parameters
    ----------
    reduction, name : see `Loss`
    """

    @property
    def op(self) -> str:
        return "squared_error"


@losses.register("mean_absolute_error", "mae")
@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """Mean over outputs of ``|prediction - target|``.

    Parameters
    ----------
    reduction, name : see `Loss`
    """

    @property
    def op(self) -> str:
        return "absolute_error"


@losses.register("huber", "huber_loss")
@dataclass(frozen=True)
class Huber(Loss):
    """``e**2 / 2`` for ``|e| <= delta``, else ``delta * |e| - delta**2 / 2``; mean over outputs.

    Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35 (1964).

    Parameters
    ----------
    delta : float, default 1.0
        Error at which the loss becomes linear; above 0.
    reduction, name : see `Loss`

    Raises
    ------
    ArgumentError, ArgumentTypeError
        `delta` is not a number above 0.
    """

    delta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("Huber", "delta", self.delta, above=0)

    @property
    def op(self) -> str:
        return "huber"

    @property
    def attrs(self) -> dict[str, Any]:
        return {"delta": self.delta}


@losses.register()
@dataclass(frozen=True)
class ExpressionLoss(Loss):
    """A user-defined loss, stored as data; made by `from_function`.

    Parameters
    ----------
    name : str
        Name of the function.
    expression : Expression
        The loss of one output, from target and prediction.
    given_derivative : Expression, optional
        Its derivative with respect to the prediction, as given by the user; by default derived
        from `expression`.
    reduction : see `Loss`

    Raises
    ------
    ArgumentError
        The derivative disagrees with finite differences of the function.
    ArgumentTypeError
        `name` is not a non-empty string.
    PlanError
        The derivative is 0 everywhere, so that nothing could be learned.
    """

    name: str = field()
    expression: Any = field()
    given_derivative: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.name, str) or not self.name:
            raise ArgumentTypeError(
                f"The name of a loss must be a non-empty string, not {self.name!r}."
            )
        set_field(self, "expression", Expression.get(self.expression))
        if self.given_derivative is not None:
            set_field(self, "given_derivative", Expression.get(self.given_derivative))
        owner = f"The loss {self.name!r}"
        report = check(owner, self.expression, self.slope, ARGUMENTS, everywhere=False)
        if report.flat:
            raise PlanError(
                f"{owner} has no useful gradient: its derivative with respect to y_pred is 0 "
                f"everywhere. It can be a metric."
            )

    @property
    def slope(self) -> Expression:
        """The derivative with respect to the prediction, as given or derived."""
        given: Expression | None = self.given_derivative
        return differentiate(self.expression, 1) if given is None else given

    @property
    def op(self) -> str:
        return "expression_loss"

    @property
    def attrs(self) -> dict[str, Any]:
        return {
            "function": self.name,
            "expression": self.expression.code,
            "derivative": self.slope.code,
        }

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        values = formulas.elementwise(self.expression, y_true, y_pred)
        return formulas.weighted_mean(values, sample_weight)


def from_function(
    function: Callable[..., Any],
    *,
    derivative: Callable[..., Any] | None = None,
    name: str | None = None,
) -> ExpressionLoss:
    """Make a loss of a Python function of ``(y_true, y_pred)``.

    Parameters
    ----------
    function : callable
        Built from Python's operators, the functions of `gpunn.ops` and constants; may end with
        ``ops.mean``. It is called once, with scalars, and what it computes is stored as data, which
        is saved with a model. The loss of a sample is the mean over its outputs.
    derivative : callable, optional
        The derivative of one output's loss with respect to `y_pred`, written the same way; derived
        from `function` by default.
    name : str, optional
        Default: the function's name.

    Returns
    -------
    ExpressionLoss
        A loss for `Model.compile`.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        The function is not elementwise, or the derivative disagrees with finite differences of the
        function; the message shows where.
    PlanError
        The derivative is 0 everywhere.

    Warns
    -----
    RuntimeWarning
        Somewhere between -30 and 30 the loss overflows float32, or the derivative is NaN.
    """
    return ExpressionLoss(
        name or function_name(function),
        trace(function, ARGUMENTS, "loss", mean=True),
        None if derivative is None else trace(derivative, ARGUMENTS, "derivative", mean=True),
    )


def get(identifier: object) -> Loss:
    """Return a loss.

    Parameters
    ----------
    identifier : str, Loss, type, callable or dict
        A name, a spec, its class, a function of ``(y_true, y_pred)``, or a config.

    Returns
    -------
    Loss
        The spec.

    Raises
    ------
    UnknownNameError, ArgumentTypeError
        There is no such loss.
    """
    for name, function in formulas.OF_LOSSES.items():
        if identifier is function:
            return losses.get(name)
    if isinstance(identifier, type) and issubclass(identifier, Loss):
        identifier = identifier()
    if isinstance(identifier, Loss):
        call = getattr(identifier, "call", None)
        if callable(call):
            return from_function(call, name=identifier.name or type(identifier).__name__)
    elif callable(identifier) and not isinstance(identifier, type):
        return from_function(identifier)
    return losses.get(identifier)


def __getattr__(name: str) -> Any:
    """Return the loss of an alias, such as `mse`."""
    if name in losses.names():
        return losses.get(name)
    raise AttributeError(f"module 'gpunn.losses' has no attribute {name!r}")
