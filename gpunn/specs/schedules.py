"""Learning-rate schedules: the learning rate as a function of the training step.

Formulas and default values are those of ``keras.optimizers.schedules`` (`OneCycle`: Smith and
Topin, arXiv:1708.07120, in the form of PyTorch's ``OneCycleLR``). A schedule is called with the
number of steps already taken and returns a float; it has no state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gpunn.errors import ArgumentError, ArgumentTypeError
from gpunn.specs.registry import Registry, check_count, check_number

__all__ = [
    "Constant",
    "CosineDecay",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "OneCycle",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "get",
]


@dataclass(frozen=True)
class LearningRateSchedule:
    """Base class of schedules."""

    def __call__(self, step: int) -> float:
        """Return the learning rate for training step `step` (0 for the first)."""
        raise TypeError(f"{type(self).__name__} is abstract")


schedules: Registry[LearningRateSchedule] = Registry("learning-rate schedule", LearningRateSchedule)


@schedules.register()
@dataclass(frozen=True)
class Constant(LearningRateSchedule):
    """The same learning rate at every step.

    Parameters
    ----------
    learning_rate : float
        The learning rate.
    """

    learning_rate: float

    def __call__(self, step: int) -> float:
        return float(self.learning_rate)


@schedules.register()
@dataclass(frozen=True)
class PiecewiseConstantDecay(LearningRateSchedule):
    """``values[0]`` up to and including step ``boundaries[0]``, then ``values[1]``, and so on.

    Parameters
    ----------
    boundaries : sequence of int
        Strictly increasing steps.
    values : sequence of float
        Learning rates, one more than there are boundaries.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        The lengths do not match, `boundaries` do not increase, or a value is not a number.
    """

    boundaries: tuple[int, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "boundaries", tuple(self.boundaries))
        object.__setattr__(self, "values", tuple(self.values))
        if len(self.values) != len(self.boundaries) + 1:
            raise ArgumentError(
                f"PiecewiseConstantDecay: values must have one entry more than boundaries, "
                f"not {len(self.values)} for {len(self.boundaries)}."
            )
        if any(a >= b for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise ArgumentError("PiecewiseConstantDecay: boundaries must increase.")
        for value in self.values:
            check_number("PiecewiseConstantDecay", "values", value)

    def __call__(self, step: int) -> float:
        for boundary, value in zip(self.boundaries, self.values, strict=False):
            if step <= boundary:
                return float(value)
        return float(self.values[-1])


@schedules.register()
@dataclass(frozen=True)
class ExponentialDecay(LearningRateSchedule):
    """``initial_learning_rate * decay_rate ** (step / decay_steps)``.

    Parameters
    ----------
    initial_learning_rate : float
        Learning rate of the first step.
    decay_steps : int
        Steps in which the learning rate is multiplied by `decay_rate`; at least 1.
    decay_rate : float
        Factor, above 0.
    staircase : bool, default False
        Round the exponent down: the learning rate drops once every `decay_steps` steps.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is out of range or not a number.
    """

    initial_learning_rate: float
    decay_steps: int
    decay_rate: float
    staircase: bool = False

    def __post_init__(self) -> None:
        check_number("ExponentialDecay", "initial_learning_rate", self.initial_learning_rate)
        check_number("ExponentialDecay", "decay_rate", self.decay_rate, above=0)
        check_count("ExponentialDecay", "decay_steps", self.decay_steps)

    def __call__(self, step: int) -> float:
        power = step // self.decay_steps if self.staircase else step / self.decay_steps
        return self.initial_learning_rate * self.decay_rate**power


@schedules.register()
@dataclass(frozen=True)
class CosineDecay(LearningRateSchedule):
    """Linear warm-up, if any, then half a cosine down to ``alpha`` times the peak.

    Loshchilov and Hutter, arXiv:1608.03983, without restarts.

    Parameters
    ----------
    initial_learning_rate : float
        Where the warm-up starts, or the cosine if there is no warm-up.
    decay_steps : int
        Steps of the cosine, after the warm-up; at least 1.
    alpha : float, default 0.0
        Final learning rate as a fraction of that at which the cosine starts.
    warmup_target : float, optional
        Where the warm-up ends and the cosine starts; None for no warm-up.
    warmup_steps : int, default 0
        Steps of the warm-up.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is out of range or not a number.
    """

    initial_learning_rate: float
    decay_steps: int
    alpha: float = 0.0
    warmup_target: float | None = None
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        check_number("CosineDecay", "initial_learning_rate", self.initial_learning_rate)
        check_count("CosineDecay", "decay_steps", self.decay_steps)
        check_count("CosineDecay", "warmup_steps", self.warmup_steps, minimum=0)
        check_number("CosineDecay", "alpha", self.alpha)
        if self.warmup_target is not None:
            check_number("CosineDecay", "warmup_target", self.warmup_target)

    def __call__(self, step: int) -> float:
        peak = self.initial_learning_rate
        if self.warmup_target is not None:
            peak = self.warmup_target
            if step < self.warmup_steps:
                start = self.initial_learning_rate
                return start + (peak - start) * step / self.warmup_steps
            step -= self.warmup_steps
        fraction = min(step, self.decay_steps) / self.decay_steps
        cosine = 0.5 * (1.0 + math.cos(math.pi * fraction))
        return peak * ((1.0 - self.alpha) * cosine + self.alpha)


@schedules.register()
@dataclass(frozen=True)
class PolynomialDecay(LearningRateSchedule):
    """Decay to `end_learning_rate` within `decay_steps`, by ``(1 - step / decay_steps) ** power``.

    Parameters
    ----------
    initial_learning_rate : float
        Learning rate of the first step.
    decay_steps : int
        Steps until the end; at least 1.
    end_learning_rate : float, default 0.0001
        Learning rate from then on.
    power : float, default 1.0
        Exponent; 1 decays linearly.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is out of range or not a number.
    """

    initial_learning_rate: float
    decay_steps: int
    end_learning_rate: float = 0.0001
    power: float = 1.0

    def __post_init__(self) -> None:
        check_number("PolynomialDecay", "initial_learning_rate", self.initial_learning_rate)
        check_count("PolynomialDecay", "decay_steps", self.decay_steps)
        check_number("PolynomialDecay", "end_learning_rate", self.end_learning_rate)
        check_number("PolynomialDecay", "power", self.power)

    def __call__(self, step: int) -> float:
        fraction = min(step, self.decay_steps) / self.decay_steps
        span = self.initial_learning_rate - self.end_learning_rate
        return span * (1.0 - fraction) ** self.power + self.end_learning_rate


@schedules.register()
@dataclass(frozen=True)
class InverseTimeDecay(LearningRateSchedule):
    """``initial_learning_rate / (1 + decay_rate * step / decay_steps)``.

    Parameters
    ----------
    initial_learning_rate : float
        Learning rate of the first step.
    decay_steps : int
        Steps in which the denominator grows by `decay_rate`; at least 1.
    decay_rate : float
        Growth of the denominator.
    staircase : bool, default False
        Round ``step / decay_steps`` down.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is out of range or not a number.
    """

    initial_learning_rate: float
    decay_steps: int
    decay_rate: float
    staircase: bool = False

    def __post_init__(self) -> None:
        check_number("InverseTimeDecay", "initial_learning_rate", self.initial_learning_rate)
        check_count("InverseTimeDecay", "decay_steps", self.decay_steps)
        check_number("InverseTimeDecay", "decay_rate", self.decay_rate)

    def __call__(self, step: int) -> float:
        time = step // self.decay_steps if self.staircase else step / self.decay_steps
        return self.initial_learning_rate / (1.0 + self.decay_rate * time)


@schedules.register()
@dataclass(frozen=True)
class OneCycle(LearningRateSchedule):
    """Increase to `max_learning_rate`, then decrease, each along half a cosine.

    Parameters
    ----------
    max_learning_rate : float
        The peak.
    total_steps : int
        Length of the cycle, at least 1; the final learning rate is kept afterwards.
    warmup_fraction : float, default 0.3
        Fraction of the cycle in which the learning rate increases; at least 0 and below 1.
    div_factor : float, default 25.0
        The cycle starts at ``max_learning_rate / div_factor``.
    final_div_factor : float, default 1e4
        It ends at the start divided by this.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is out of range or not a number.
    """

    max_learning_rate: float
    total_steps: int
    warmup_fraction: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        check_number("OneCycle", "max_learning_rate", self.max_learning_rate)
        check_count("OneCycle", "total_steps", self.total_steps)
        check_number("OneCycle", "warmup_fraction", self.warmup_fraction, minimum=0, below=1)
        check_number("OneCycle", "div_factor", self.div_factor, above=0)
        check_number("OneCycle", "final_div_factor", self.final_div_factor, above=0)

    def __call__(self, step: int) -> float:
        peak = self.max_learning_rate
        start = peak / self.div_factor
        end = start / self.final_div_factor
        summit = self.warmup_fraction * self.total_steps - 1
        last = self.total_steps - 1
        if step <= summit:
            low, high, fraction = start, peak, step / summit if summit > 0 else 1.0
        else:
            low, high = peak, end
            fraction = min((step - max(summit, 0)) / max(last - max(summit, 0), 1), 1.0)
        return high + (low - high) * 0.5 * (1.0 + math.cos(math.pi * fraction))


def get(identifier: object) -> LearningRateSchedule:
    """Return a learning-rate schedule.

    Parameters
    ----------
    identifier : float, LearningRateSchedule, type or dict
        A number for `Constant`, a schedule, its class, or a config.

    Returns
    -------
    LearningRateSchedule
        The schedule.

    Raises
    ------
    ArgumentError, ArgumentTypeError, UnknownNameError
        It is neither a number of at least 0 nor a schedule.
    """
    if isinstance(identifier, LearningRateSchedule | type | Mapping):
        return schedules.get(identifier)
    if isinstance(identifier, bool) or not hasattr(identifier, "__float__"):
        raise ArgumentTypeError(
            f"learning_rate must be a number or a schedule from gpunn.schedules, not "
            f"{identifier!r}."
        )
    return Constant(check_number("optimizer", "learning_rate", identifier, minimum=0))
