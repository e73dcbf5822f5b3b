"""Metrics as specs: accumulated by the plan where the data is, read once per epoch.

Names and definitions are those of Keras 3; metrics do not use sample weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from gpunn.errors import ArgumentError, ArgumentTypeError
from gpunn.specs import formulas
from gpunn.specs.expressions import Expression
from gpunn.specs.expressions.tracing import function_name, trace
from gpunn.specs.formulas import binary_accuracy as binary_accuracy
from gpunn.specs.formulas import categorical_accuracy as categorical_accuracy
from gpunn.specs.formulas import mean_absolute_error as mean_absolute_error
from gpunn.specs.formulas import mean_squared_error as mean_squared_error
from gpunn.specs.formulas import sparse_categorical_accuracy as sparse_categorical_accuracy
from gpunn.specs.losses import ExpressionLoss
from gpunn.specs.registry import Registry, check_count, check_number, set_field


@dataclass(frozen=True)
class Metric:
    """Base class of metrics."""

    @property
    def label(self) -> str:
        """Name in the history and on the screen."""
        raise _own_class(self)

    @property
    def op(self) -> str:
        """Name of the plan's op that adds a batch's sum to the accumulator."""
        raise _own_class(self)

    @property
    def attrs(self) -> dict[str, Any]:
        """Constants of the formula."""
        return {}

    def add_weight(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse a metric with a state, as Keras's own classes have."""
        raise _stateful(type(self))

    @property
    def higher_is_better(self) -> bool:
        """Whether larger values are better."""
        return True


def _stateful(kind: type) -> ArgumentError:
    return ArgumentError(
        f"metrics: {kind.__name__} keeps a state of its own (update_state), which gpunn does not "
        f"run; give a function of (y_true, y_pred) of which the mean is taken."
    )


def _own_class(metric: Metric) -> ArgumentTypeError:
    return ArgumentTypeError(
        f"{type(metric).__name__}: a metric of your own is a function of (y_true, y_pred) of which "
        f"the mean is taken, not a class."
    )


metrics: Registry[Metric] = Registry("metric", Metric)


@metrics.register("accuracy", "acc")
@dataclass(frozen=True)
class Accuracy(Metric):
    """Share of samples whose largest output is the target's class.

    Where the model has a single output it is `BinaryAccuracy`, as in Keras.
    """

    name: str = "accuracy"

    @property
    def label(self) -> str:
        return self.name

    @property
    def op(self) -> str:
        return "categorical_accuracy"


@metrics.register("sparse_categorical_accuracy")
@dataclass(frozen=True)
class SparseCategoricalAccuracy(Accuracy):
    """`Accuracy` for integer targets."""

    name: str = "sparse_categorical_accuracy"


@metrics.register("categorical_accuracy")
@dataclass(frozen=True)
class CategoricalAccuracy(Accuracy):
    """`Accuracy` for one-hot targets."""

    name: str = "categorical_accuracy"


@metrics.register("top_k_categorical_accuracy", "in_top_k")
@dataclass(frozen=True)
class TopKCategoricalAccuracy(Metric):
    """Share of samples whose target class is among the `k` largest outputs.

    A tie with the k-th largest counts as being among them.
    """

    k: int = 5
    name: str = "top_k_categorical_accuracy"

    def __post_init__(self) -> None:
        check_count(type(self).__name__, "k", self.k)

    @property
    def label(self) -> str:
        return self.name

    @property
    def op(self) -> str:
        return "top_k_accuracy"

    @property
    def attrs(self) -> dict[str, Any]:
        return {"k": self.k}


@metrics.register("sparse_top_k_categorical_accuracy")
@dataclass(frozen=True)
class SparseTopKCategoricalAccuracy(TopKCategoricalAccuracy):
    """`TopKCategoricalAccuracy` for integer targets."""

    name: str = "sparse_top_k_categorical_accuracy"


@metrics.register("binary_accuracy")
@dataclass(frozen=True)
class BinaryAccuracy(Metric):
    """Share of outputs on the target's side of `threshold` (a probability)."""

    threshold: float = 0.5
    name: str = "binary_accuracy"

    def __post_init__(self) -> None:
        check_number("BinaryAccuracy", "threshold", self.threshold, above=0, below=1)

    @property
    def label(self) -> str:
        return self.name

    @property
    def op(self) -> str:
        return "binary_accuracy"

    @property
    def attrs(self) -> dict[str, Any]:
        return {"threshold": self.threshold}


@dataclass(frozen=True)
class _Error(Metric):
    @property
    def label(self) -> str:
        return self.name  # type: ignore[attr-defined]

    @property
    def higher_is_better(self) -> bool:
        return False


@metrics.register("mean_absolute_error", "mae")
@dataclass(frozen=True)
class MeanAbsoluteError(_Error):
    """Mean of ``|prediction - target|``."""

    name: str = "mean_absolute_error"

    @property
    def op(self) -> str:
        return "absolute_error_sum"


@metrics.register("mean_squared_error", "mse")
@dataclass(frozen=True)
class MeanSquaredError(_Error):
    """Mean of ``(prediction - target)**2``."""

    name: str = "mean_squared_error"

    @property
    def op(self) -> str:
        return "squared_error_sum"


@metrics.register("root_mean_squared_error", "rmse")
@dataclass(frozen=True)
class RootMeanSquaredError(_Error):
    """Square root of the mean of ``(prediction - target)**2``."""

    name: str = "root_mean_squared_error"

    @property
    def op(self) -> str:
        return "squared_error_sum"


@metrics.register()
@dataclass(frozen=True)
class ExpressionMetric(Metric):
    """A metric of the user's, as data: a mean over outputs and samples; made by `from_function`.

    Parameters
    ----------
    name : str
        The function's; the label in the history.
    expression : Expression
        The figure of one output, from target and prediction.
    higher_better : bool, default False
        Whether larger values are better.
    """

    name: str
    expression: Any
    higher_better: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ArgumentTypeError(f"A metric's name is a text, not {self.name!r}.")
        set_field(self, "expression", Expression.get(self.expression))

    @property
    def label(self) -> str:
        return self.name

    @property
    def op(self) -> str:
        return "expression_sum"

    @property
    def attrs(self) -> dict[str, Any]:
        return {"function": self.name, "expression": self.expression.code}

    @property
    def higher_is_better(self) -> bool:
        return self.higher_better


def from_function(
    function: Callable[..., Any], *, name: str | None = None, higher_is_better: bool = False
) -> ExpressionMetric:
    """Make a metric of a Python function of ``(y_true, y_pred)``.

    Parameters
    ----------
    function : callable
        As for `gpunn.losses.from_function`; it needs no derivative.
    name : str, optional
        Label in the history; default: the function's name.
    higher_is_better : bool, default False
        For callbacks that keep the best model.

    Returns
    -------
    ExpressionMetric

    Raises
    ------
    ArgumentError, ArgumentTypeError
        The function is not elementwise; the message shows where.
    """
    expression = trace(function, ("y_true", "y_pred"), "metric", mean=True)
    return ExpressionMetric(name or function_name(function), expression, higher_is_better)


def get(identifier: object) -> Metric:
    """Return the metric for `identifier`: a name, a spec, a class, a function or a config."""
    for name, function in formulas.OF_METRICS.items():
        if identifier is function:
            return metrics.get(name)
    if hasattr(identifier, "update_state"):
        raise _stateful(identifier if isinstance(identifier, type) else type(identifier))
    if isinstance(identifier, ExpressionLoss):
        return ExpressionMetric(identifier.name, identifier.expression)
    if callable(identifier) and not isinstance(identifier, Metric | type):
        return from_function(identifier)
    return metrics.get(identifier)


def __getattr__(name: str) -> Any:
    """Return the metric of a name in Keras's other way of writing: `mean_squared_error`."""
    if name in metrics.names():
        return metrics.get(name)
    raise AttributeError(f"module 'gpunn.metrics' has no attribute {name!r}")
