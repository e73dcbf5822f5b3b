"""Optimizers as specs; formulas and default values are those of Keras 3.

With gradient ``g``, weight ``w``, learning rate ``lr`` and step ``t`` = 1, 2, ...; if
`weight_decay` is set, ``w -= lr * weight_decay * w`` comes first, in every optimizer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from gpunn.errors import ArgumentError, ArgumentTypeError
from gpunn.specs import schedules as schedules
from gpunn.specs.registry import Registry, check_number, set_field
from gpunn.specs.schedules import Constant, LearningRateSchedule


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
    name : str, optional
        Taken for compatibility.
    """

    weight_decay: float | None = None
    clipvalue: float | None = None
    clipnorm: float | None = None
    global_clipnorm: float | None = None
    name: str | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if "lr" in kwargs:
            raise ArgumentTypeError(f"{cls.__name__}: lr is called learning_rate.")
        if "decay" in kwargs:
            raise ArgumentTypeError(
                f"{cls.__name__}: there is no decay; give learning_rate a schedule, such as "
                f"gpunn.schedules.InverseTimeDecay, or use weight_decay."
            )
        return super().__new__(cls)

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
        raise ArgumentTypeError(
            f"{type(self).__name__}: an optimizer cannot be of your own making; take one of "
            f"gpunn.optimizers."
        )

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


def _refuse(optimizer: Any, name: str, value: object) -> None:
    way = (
        f"set model.optimizer.learning_rate = {value!r} after model.compile"
        if name in ("learning_rate", "lr")
        else f"make another {type(optimizer).__name__}"
    )
    raise ArgumentError(
        f"{type(optimizer).__name__}: {name} of an optimizer that was given to compile cannot be "
        f"set, as models share it; {way}."
    )


optimizers: Registry[Optimizer] = Registry("optimizer", Optimizer, on_set=_refuse)


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


class LearningRate(float):
    """The learning rate of the next step: a float that equals the schedule it comes from."""

    _owner: CompiledOptimizer

    def __new__(cls, value: float, owner: CompiledOptimizer) -> LearningRate:
        rate = super().__new__(cls, value)
        rate._owner = owner
        return rate

    def __eq__(self, other: object) -> bool:
        if isinstance(other, LearningRateSchedule):
            return self._owner.current.schedule == other
        return float(self) == other

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = float.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        return float, (float(self),)

    def numpy(self) -> np.float32:
        """Return it as Keras's variables do."""
        return np.float32(self)

    def assign(self, value: float) -> None:
        """Set the learning rate, from the next step on."""
        self._owner.learning_rate = value


class _State(Protocol):
    """What an optimizer asks of the state of training."""

    step: int
    learning_rate: float | None


class CompiledOptimizer:
    """The optimizer of a compiled model, ``model.optimizer``: a spec whose rate can be set.

    It has the spec's attributes, is equal to it and passes for an instance of its class. The
    spec itself, which plans and files go by, never changes.

    Parameters
    ----------
    spec : Optimizer
        As given to `Model.compile`.
    state : TrainingState
        Where the training stands: the steps taken, and a learning rate that was set.

    Attributes
    ----------
    spec : Optimizer
    """

    spec: Optimizer
    _state: _State

    def __init__(self, spec: Optimizer, state: _State) -> None:
        vars(self).update(spec=spec, _state=state)

    @property
    def override(self) -> float | None:
        """A learning rate that was set since `Model.compile`."""
        return self._state.learning_rate

    @property
    def iterations(self) -> int:
        """Steps taken since `Model.compile`."""
        return self._state.step

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.spec)

    @property
    def __dataclass_fields__(self) -> Any:
        return self.spec.__dataclass_fields__

    @property
    def current(self) -> Optimizer:
        """A spec with the learning rate that was set."""
        if self.override is None:
            return self.spec
        return replace(self.spec, learning_rate=self.override)  # type: ignore[call-arg]

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the next step; it can be set unless it follows a schedule."""
        return LearningRate(self.rate(self.iterations), self)

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.check_settable()
        self._state.learning_rate = check_number("optimizer", "learning_rate", value, minimum=0)

    @property
    def lr(self) -> Any:
        """Keras 2's name of `learning_rate`."""
        return self.learning_rate

    @lr.setter
    def lr(self, value: Any) -> None:
        self.learning_rate = value

    def rate(self, step: int) -> float:
        """Return the learning rate of a step (0 for the first)."""
        return self.spec.schedule(step) if self.override is None else self.override

    def check_settable(self) -> None:
        """Raise `ArgumentTypeError` if the learning rate follows a schedule."""
        if not isinstance(self.spec.schedule, Constant):
            raise ArgumentTypeError(
                f"The learning rate follows the schedule {self.spec.schedule!r} and cannot be "
                f"set; compile the model with a number as learning_rate to set it in training."
            )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copy and pickle ask before there is a spec
            raise AttributeError(name)
        return getattr(self.current, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name not in ("learning_rate", "lr"):
            raise ArgumentError(
                f"optimizer: only learning_rate can be set after compile, not {name!r}; compile "
                f"the model again with another {type(self.spec).__name__}."
            )
        super().__setattr__(name, value)

    def __eq__(self, other: object) -> bool:
        if type(other) is CompiledOptimizer:
            other = other.current
        return self.current == other

    def __hash__(self) -> int:
        return hash(self.current)

    def __repr__(self) -> str:
        return repr(self.current)

    def __reduce__(self) -> tuple[Any, ...]:
        return CompiledOptimizer, (self.spec, self._state)


def get(identifier: object) -> Optimizer:
    """Return the optimizer that `identifier` (a name, a spec, a class, a config) stands for."""
    if type(identifier) is CompiledOptimizer:
        return identifier.current
    return optimizers.get(identifier)


def __getattr__(name: str) -> Any:
    known = ", ".join(sorted(cls.__name__ for cls in optimizers.classes()))
    raise AttributeError(f"gpunn.optimizers has no {name!r}; its optimizers are {known}.")
