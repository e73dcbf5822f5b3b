"""``tf.train``: optimizers and `Saver`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gpunn.compat.symbolic.graph import Operation, Tensor, same_graph
from gpunn.compat.symbolic.objectives import OBJECTIVES, Scalar
from gpunn.compat.symbolic.placeholders import Placeholder
from gpunn.compat.symbolic.saver import Saver
from gpunn.compat.symbolic.variables import Variable
from gpunn.errors import ArgumentError, ArgumentTypeError
from gpunn.specs import optimizers as specs
from gpunn.specs import schedules
from gpunn.specs.losses import Loss
from gpunn.specs.schedules import LearningRateSchedule

__all__ = [
    "AdagradOptimizer",
    "AdamOptimizer",
    "GradientDescentOptimizer",
    "MomentumOptimizer",
    "Optimizer",
    "RMSPropOptimizer",
    "Saver",
    "exponential_decay",
]


class TrainOperation(Operation):
    """A training step; see `Optimizer.minimize`.

    Attributes
    ----------
    loss : Scalar
    spec : gpunn.optimizers.Optimizer
        With a learning rate of 0: the session sets it.
    rate : LearningRateSchedule or Placeholder
    global_step : Variable or None
        Counts the steps.
    """

    def __init__(
        self,
        name: str,
        loss: Scalar,
        spec: specs.Optimizer,
        rate: LearningRateSchedule | Placeholder,
        global_step: Variable | None,
    ) -> None:
        super().__init__(name, loss.graph)
        self.loss, self.spec, self.rate, self.global_step = loss, spec, rate, global_step
        self.graph.training.append(self)


class ScheduledRate:
    """A schedule, and the count of steps that it goes by; see `exponential_decay`."""

    def __init__(self, schedule: LearningRateSchedule, global_step: Variable) -> None:
        self.schedule, self.global_step = schedule, global_step


def exponential_decay(
    learning_rate: float,
    global_step: Variable,
    decay_steps: int,
    decay_rate: float,
    staircase: bool = False,
) -> ScheduledRate:
    """``learning_rate * decay_rate ** (global_step / decay_steps)``, for an optimizer.

    Hand the same `global_step` to `Optimizer.minimize`, which counts it up.
    """
    if not isinstance(global_step, Variable):
        raise ArgumentTypeError(
            "exponential_decay: global_step must be tf.Variable(0, trainable=False, "
            f"name='global_step'), not {global_step!r}."
        )
    schedule = schedules.ExponentialDecay(learning_rate, decay_steps, decay_rate, staircase)
    return ScheduledRate(schedule, global_step)


class Optimizer:
    """Any of gpunn's optimizers: ``tf.train.Optimizer(gpunn.optimizers.AdamW(1e-3))``.

    Parameters
    ----------
    optimizer : str or gpunn.optimizers.Optimizer
    name : str, optional
        Of the training operation.
    """

    def __init__(self, optimizer: Any, name: str | None = None) -> None:
        spec = specs.get(optimizer)
        self._set(spec, spec.schedule, name or type(spec).__name__)

    def _set(self, spec: specs.Optimizer, rate: Any, name: str) -> None:
        if isinstance(rate, Tensor) and not (
            isinstance(rate, Placeholder) and rate.is_float and rate.shape == ()
        ):
            raise ArgumentTypeError(
                f"{type(self).__name__}: learning_rate must be a number, a schedule, "
                f"tf.train.exponential_decay(...) or a placeholder of one float, "
                f"tf.placeholder(tf.float32, shape=()); not {rate.name!r}."
            )
        self.rate: Any = rate
        if not isinstance(rate, Placeholder | ScheduledRate):
            self.rate = schedules.get(rate)
        # One spec for all rates: the plan is the same, and the session sets the rate.
        self.spec = replace(spec, learning_rate=0.0)  # type: ignore[call-arg]
        self.name = name

    def minimize(
        self,
        loss: Any,
        global_step: Variable | None = None,
        var_list: Any = None,
        name: str | None = None,
    ) -> TrainOperation:
        """Return the operation that takes one training step.

        Parameters
        ----------
        loss : Scalar
            The mean of a loss, or a weighted sum of such means over different outputs.
        global_step : Variable, optional
            ``tf.Variable(0, trainable=False)``, to count the steps.
        name : str, optional
        """
        if var_list is not None:
            raise ArgumentError(
                "minimize: var_list is not supported: a step trains all weights that the loss "
                "depends on. Leave it out."
            )
        if not isinstance(loss, Scalar):
            what = repr(loss.name) if isinstance(loss, Tensor) else type(loss).__name__
            raise ArgumentTypeError(
                f"minimize: loss must be one number for the batch, such as tf.reduce_mean("
                f"xentropy), not {what}. {OBJECTIVES}."
            )
        outputs = [term.predictions for _, term in loss.terms]
        for _, term in loss.terms:
            if not isinstance(term.spec, Loss):
                raise ArgumentError(
                    f"minimize: {loss.name!r} is a metric, which has no useful gradient; minimize "
                    f"a loss. {OBJECTIVES}."
                )
            if outputs.count(term.predictions) > 1:
                raise ArgumentError(
                    f"minimize: {loss.name!r} has two losses of {term.predictions.name!r}; an "
                    f"output has one loss."
                )
        if global_step is not None and not (
            isinstance(global_step, Variable) and not global_step.trainable
        ):
            raise ArgumentTypeError(
                "minimize: global_step must be tf.Variable(0, trainable=False), not "
                f"{global_step!r}."
            )
        rate = self.rate
        if isinstance(rate, ScheduledRate):
            if rate.global_step is not global_step:
                raise ArgumentError(
                    "minimize: the learning rate decays with a global_step; give the same one: "
                    f"minimize(loss, global_step={rate.global_step.name!r} as a variable)."
                )
            rate = rate.schedule
        same_graph("minimize", *(t for t in (loss, global_step, rate) if isinstance(t, Tensor)))
        if global_step is not None and any(
            t.global_step is global_step for t in loss.graph.training
        ):
            raise ArgumentError(
                f"minimize: {global_step.name!r} counts the steps of another operation already."
            )
        return TrainOperation(name or self.name, loss, self.spec, rate, global_step)


class GradientDescentOptimizer(Optimizer):
    """``w -= lr * g``: gpunn's `SGD`."""

    def __init__(self, learning_rate: Any, name: str = "GradientDescent") -> None:
        self._set(specs.SGD(0.0), learning_rate, name)


class MomentumOptimizer(Optimizer):
    """`SGD` with momentum: ``v = momentum * v - lr * g; w += v``.

    For a learning rate that does not change this is TensorFlow's; where it changes, TensorFlow
    scales the whole of ``v`` with it, gpunn (and Keras) the new gradient alone.
    """

    def __init__(
        self,
        learning_rate: Any,
        momentum: float,
        name: str = "Momentum",
        use_nesterov: bool = False,
    ) -> None:
        self._set(specs.SGD(0.0, momentum, bool(use_nesterov)), learning_rate, name)


class AdamOptimizer(Optimizer):
    """gpunn's `Adam`, with TensorFlow's default values."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        name: str = "Adam",
    ) -> None:
        self._set(specs.Adam(0.0, beta1, beta2, epsilon), learning_rate, name)


class AdagradOptimizer(Optimizer):
    """``a += g**2; w -= lr * g / sqrt(a)``: gpunn's `Adagrad` without its epsilon."""

    def __init__(
        self, learning_rate: Any, initial_accumulator_value: float = 0.1, name: str = "Adagrad"
    ) -> None:
        self._set(specs.Adagrad(0.0, initial_accumulator_value, 0.0), learning_rate, name)


class RMSPropOptimizer(Optimizer):
    """gpunn's `RMSprop`, with TensorFlow's default values.

    The mean square starts at 0, as in Keras; TensorFlow 1 started it at 1.
    """

    def __init__(
        self,
        learning_rate: Any,
        decay: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-10,
        centered: bool = False,
        name: str = "RMSProp",
    ) -> None:
        self._set(specs.RMSprop(0.0, decay, momentum, epsilon, centered), learning_rate, name)
