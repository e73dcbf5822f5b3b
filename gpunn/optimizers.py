"""Optimizers as specs; formulas and default values are those of Keras 3.

With gradient ``g``, weight ``w``, learning rate ``lr`` and step ``t`` = 1, 2, ...; if
`weight_decay` is set, ``w -= lr * weight_decay * w`` comes first, in every optimizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpunn import schedules as schedules
from gpunn.errors import ArgumentError
from gpunn.registry import Registry, check_number, set_field
from gpunn.schedules import LearningRateSchedule


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Base class: what all optimizers share.

    Parameters
    ----------
    weight_decay : float, optional
        Decoupled weight decay, relative to the learning rate.
    clipvalue : float, optional
        Clip each component of the gradient to ``[-clipvalue, clipvalue]``.
    clipnorm : float, optional
        Scale each variable's gradient down to at most this norm.
    global_clipnorm : float, optional
        Scale all gradients together down to at most this norm.
    """

    weight_decay: float | None = None
    clipvalue: float | None = None
    clipnorm: float | None = None
    global_clipnorm: float | None = None

    def _check(self, learning_rate: object) -> None:
        """Check the common arguments and turn a plain learning rate into a schedule."""
        owner = type(self).__name__
        set_field(self, "learning_rate", schedules.get(learning_rate))
        clips = ("clipvalue", "clipnorm", "global_clipnorm")
        given = [name for name in clips if getattr(self, name) is not None]
        if len(given) > 1:
            raise ArgumentError(f"{owner}: only one of {', '.join(given)} may be set.")
        for name in given:
            check_number(owner, name, getattr(self, name), above=0)
        if self.weight_decay is not None:
            check_number(owner, "weight_decay", self.weight_decay, minimum=0)

    @property
    def schedule(self) -> LearningRateSchedule:
        """The learning rate as a function of the step."""
        return self.learning_rate  # type: ignore[attr-defined]

    @property
    def op(self) -> str:
        """Name of the plan's op that updates the weights."""
        raise TypeError(f"{type(self).__name__} is abstract")

    @property
    def slots(self) -> dict[str, float]:
        """State kept for each weight, by name, with its initial value."""
        return {}

    @property
    def attrs(self) -> dict[str, Any]:
        """Constants of the update formula."""
        return {}

    @property
    def clips(self) -> bool:
        """Whether gradients are clipped in any way."""
        return not (
            self.clipvalue is None and self.clipnorm is None and self.global_clipnorm is None
        )


optimizers: Registry[Optimizer] = Registry("optimizer", Optimizer)


@optimizers.register("sgd")
@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent: ``w -= lr * g``.

    With momentum ``v = momentum * v - lr * g; w += v``; with `nesterov`
    ``w += momentum * v - lr * g`` after the update of ``v``.
    """

    learning_rate: Any = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        self._check(self.learning_rate)
        check_number("SGD", "momentum", self.momentum, minimum=0, maximum=1)

    @property
    def op(self) -> str:
        return "momentum" if self.momentum else "sgd"

    @property
    def slots(self) -> dict[str, float]:
        return {"momentum": 0.0} if self.momentum else {}

    @property
    def attrs(self) -> dict[str, Any]:
        return {"momentum": self.momentum, "nesterov": self.nesterov} if self.momentum else {}


@optimizers.register("adagrad")
@dataclass(frozen=True)
class Adagrad(Optimizer):
    """``a += g**2; w -= lr * g / sqrt(a + epsilon)``."""

    learning_rate: Any = 0.001
    initial_accumulator_value: float = 0.1
    epsilon: float = 1e-7

    def __post_init__(self) -> None:
        self._check(self.learning_rate)
        check_number(
            "Adagrad", "initial_accumulator_value", self.initial_accumulator_value, minimum=0
        )
        check_number("Adagrad", "epsilon", self.epsilon, minimum=0)

    @property
    def op(self) -> str:
        return "adagrad"

    @property
    def slots(self) -> dict[str, float]:
        return {"accumulator": self.initial_accumulator_value}

    @property
    def attrs(self) -> dict[str, Any]:
        return {"epsilon": self.epsilon}


@optimizers.register("rmsprop")
@dataclass(frozen=True)
class RMSprop(Optimizer):
    """``v = rho * v + (1 - rho) * g**2; w -= lr * g / sqrt(v + epsilon)``.

    With `centered`, ``v`` less the square of the mean gradient; with momentum
    ``m = momentum * m + lr * g / sqrt(v + epsilon); w -= m``.
    """

    learning_rate: Any = 0.001
    rho: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-7
    centered: bool = False

    def __post_init__(self) -> None:
        self._check(self.learning_rate)
        check_number("RMSprop", "rho", self.rho, minimum=0, maximum=1)
        check_number("RMSprop", "momentum", self.momentum, minimum=0, maximum=1)
        check_number("RMSprop", "epsilon", self.epsilon, minimum=0)

    @property
    def op(self) -> str:
        return "rmsprop"

    @property
    def slots(self) -> dict[str, float]:
        names = ["velocity"]
        names += ["average_gradient"] if self.centered else []
        names += ["momentum"] if self.momentum else []
        return dict.fromkeys(names, 0.0)

    @property
    def attrs(self) -> dict[str, Any]:
        return {"rho": self.rho, "momentum": self.momentum, "epsilon": self.epsilon}


@dataclass(frozen=True)
class _AdamBase(Optimizer):
    learning_rate: Any = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    amsgrad: bool = False

    def __post_init__(self) -> None:
        self._check(self.learning_rate)
        owner = type(self).__name__
        check_number(owner, "beta_1", self.beta_1, minimum=0, below=1)
        check_number(owner, "beta_2", self.beta_2, minimum=0, below=1)
        check_number(owner, "epsilon", self.epsilon, minimum=0)

    @property
    def op(self) -> str:
        return "adam"

    @property
    def slots(self) -> dict[str, float]:
        names = ["momentum", "velocity"] + (["velocity_hat"] if self.amsgrad else [])
        return dict.fromkeys(names, 0.0)

    @property
    def attrs(self) -> dict[str, Any]:
        return {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}


@optimizers.register("adam")
@dataclass(frozen=True)
class Adam(_AdamBase):
    """Adam (Kingma and Ba, arXiv 1412.6980), in the form of its section 2.1's last remark.

    ``m += (1 - beta_1) * (g - m); v += (1 - beta_2) * (g**2 - v)``,
    ``w -= lr * sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (sqrt(v) + epsilon)``; with `amsgrad`
    the largest ``v`` so far takes the place of ``v``.
    """


@optimizers.register("adamw")
@dataclass(frozen=True)
class AdamW(_AdamBase):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101)."""

    def __post_init__(self) -> None:
        if self.weight_decay is None:
            set_field(self, "weight_decay", 0.004)
        super().__post_init__()


def get(identifier: object) -> Optimizer:
    """Return the optimizer that `identifier` (a name, a spec, a class, a config) stands for."""
    return optimizers.get(identifier)
