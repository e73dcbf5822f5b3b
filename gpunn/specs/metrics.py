"""Metrics as specs: accumulated on the device, read once per epoch.

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
from gpunn.specs.formulas import (
    binary_accuracy,
    categorical_accuracy,
    mean_absolute_error,
    mean_squared_error,
    sparse_categorical_accuracy,
)
from gpunn.specs.losses import ExpressionLoss
from gpunn.specs.registry import Registry, check_count, check_number, set_field

__all__ = [
    "Accuracy",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "ExpressionMetric",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "RootMeanSquaredError",
    "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "TopKCategoricalAccuracy",
    "binary_accuracy",
    "categorical_accuracy",
    "from_function",
    "get",
    "mean_absolute_error",
    "mean_squared_error",
    "sparse_categorical_accuracy",
]


@dataclass(frozen=True)
class Metric:
    """Base class of metrics."""

    @property
    def label(self) -> str:
        """Name in the history and in the progress output."""
        raise _own_class(self)

    @property
    def op(self) -> str:
        """Name of the plan's op that adds the sum over a batch to the accumulator."""
        raise _own_class(self)

    @property
    def attrs(self) -> dict[str, Any]:
        """Constants of the formula."""
        return {}

    def add_weight(self, *_: Any, **__: Any) -> NoReturn:
        """Raise `ArgumentError`: a metric cannot have state of its own.

        Parameters
        ----------
        *_, **__ : object
            Ignored.

        Raises
        ------
        ArgumentError
            Always.
        """
        raise _stateful(type(self))

    @property
    def higher_is_better(self) -> bool:
        """Whether larger values are better."""
        return True


def _stateful(kind: type) -> ArgumentError:
    return ArgumentError(
        f"metrics: {kind.__name__} keeps state (update_state), which is not supported; give a "
        f"function of (y_true, y_pred), of which the mean is taken."
    )


def _own_class(metric: Metric) -> ArgumentTypeError:
    return ArgumentTypeError(
        f"{type(metric).__name__}: a user-defined metric is a function of (y_true, y_pred), of "
        f"which the mean is taken, not a class."
    )


metrics: Registry[Metric] = Registry("metric", Metric)


@metrics.register("accuracy", "acc")
@dataclass(frozen=True)
class Accuracy(Metric):
    """Fraction of samples whose largest output is that of the target class.

    For a model with a single output it is `BinaryAccuracy`, as in Keras.

    Parameters
    ----------
    name : str, default "accuracy"
        Label in the history.
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
    """`Accuracy` for integer targets.

    Parameters
    ----------
    name : str, default "sparse_categorical_accuracy"
        Label in the history.
    """

    name: str = "sparse_categorical_accuracy"


@metrics.register("categorical_accuracy")
@dataclass(frozen=True)
class CategoricalAccuracy(Accuracy):
    """`Accuracy` for one-hot targets.

    Parameters
    ----------
    name : str, default "categorical_accuracy"
        Label in the history.
    """

    name: str = "categorical_accuracy"


@metrics.register("top_k_categorical_accuracy", "in_top_k")
@dataclass(frozen=True)
class TopKCategoricalAccuracy(Metric):
    """Fraction of samples whose target class is among the `k` largest outputs.

    A class tied with the k-th largest counts as among them.

    Parameters
    ----------
    k : int, default 5
        At least 1.
    name : str, default "top_k_categorical_accuracy"
        Label in the history.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        `k` is not a whole number of at least 1.
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
    """`TopKCategoricalAccuracy` for integer targets.

    Parameters
    ----------
    k : int, default 5
        At least 1.
    name : str, default "sparse_top_k_categorical_accuracy"
        Label in the history.
    """

    name: str = "sparse_top_k_categorical_accuracy"


@metrics.register("binary_accuracy")
@dataclass(frozen=True)
class BinaryAccuracy(Metric):
    """Fraction of outputs on the same side of `threshold` as their targets.

    Parameters
    ----------
    threshold : float, default 0.5
        Probability between 0 and 1.
    name : str, default "binary_accuracy"
        Label in the history.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        `threshold` is not a number between 0 and 1.
    """

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
    """Mean of ``|prediction - target|``.

    Parameters
    ----------
    name : str, default "mean_absolute_error"
        Label in the history.
    """

    name: str = "mean_absolute_error"

    @property
    def op(self) -> str:
        return "absolute_error_sum"


@metrics.register("mean_squared_error", "mse")
@dataclass(frozen=True)
class MeanSquaredError(_Error):
    """Mean of ``(prediction - target)**2``.

    Parameters
    ----------
    name : str, default "mean_squared_error"
        Label in the history.
    """

    name: str = "mean_squared_error"

    @property
    def op(self) -> str:
        return "squared_error_sum"


@metrics.register("root_mean_squared_error", "rmse")
@dataclass(frozen=True)
class RootMeanSquaredError(_Error):
    """Square root of the mean of ``(prediction - target)**2``.

    Parameters
    ----------
    name : str, default "root_mean_squared_error"
        Label in the history.
    """

    name: str = "root_mean_squared_error"

    @property
    def op(self) -> str:
        return "squared_error_sum"


@metrics.register()
@dataclass(frozen=True)
class ExpressionMetric(Metric):
    """A user-defined metric, stored as data: a mean over outputs and samples; see `from_function`.

    Parameters
    ----------
    name : str
        Name of the function; the label in the history.
    expression : Expression
        The value of one output, from target and prediction.
    higher_better : bool, default False
        Whether larger values are better.

    Raises
    ------
    ArgumentTypeError
        `name` is not a non-empty string.
    """

    name: str
    expression: Any
    higher_better: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ArgumentTypeError(
                f"The name of a metric must be a non-empty string, not {self.name!r}."
            )
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
        A metric for `Model.compile`.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        The function is not elementwise; the message shows where.
    """
    expression = trace(function, ("y_true", "y_pred"), "metric", mean=True)
    return ExpressionMetric(name or function_name(function), expression, higher_is_better)


def get(identifier: object) -> Metric:
    """Return a metric.

    Parameters
    ----------
    identifier : str, Metric, type, callable or dict
        A name, a spec, its class, a function of ``(y_true, y_pred)``, or a config.

    Returns
    -------
    Metric
        The spec.

    Raises
    ------
    UnknownNameError, ArgumentError, ArgumentTypeError
        There is no such metric, or it is one that keeps state.
    """
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
    """Return the metric of an alias, such as `mse`."""
    if name in metrics.names():
        return metrics.get(name)
    raise AttributeError(f"module 'gpunn.metrics' has no attribute {name!r}")
