"""Optimizers as specs; formulas and default values are those of Keras 3.

With gradient ``g``, weight ``w``, learning rate ``lr`` and step ``t`` = 1, 2, ...; if
`weight_decay` is set, every optimizer first applies ``w -= lr * weight_decay * w``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from gpunn.errors import ArgumentError, ArgumentTypeError
from gpunn.specs import schedules
from gpunn.specs.registry import Registry, check_number, set_field
from gpunn.specs.schedules import Constant, LearningRateSchedule

__all__ = [
    "Adagrad",
    "Adam",
    "AdamW",
    "CompiledOptimizer",
    "LearningRate",
    "Optimizer",
    "RMSprop",
    "SGD",
    "get",
    "schedules",
]


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Base class of optimizers, with the parameters that all of them share.

    Parameters
    ----------
    weight_decay : float, optional
        Decoupled weight decay, relative to the learning rate.
    clipvalue : float, optional
        Clip each component of the gradient to ``[-clipvalue, clipvalue]``.
    clipnorm : float, optional
        Scale the gradient of each variable down to at most this norm.
    global_clipnorm : float, optional
        Scale the gradients of all variables together down to at most this norm.
    name : str, optional
        Accepted for compatibility.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        A value is out of range or not a number, more than one way of clipping is set, or an
        argument of Keras 2 is given (`lr`, `decay`).
    """

    weight_decay: float | None = None
    clipvalue: float | None = None
    clipnorm: float | None = None
    global_clipnorm: float | None = None
    name: str | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if "lr" in kwargs:
            raise ArgumentTypeError(f"{cls.__name__}: use learning_rate instead of lr.")
        if "decay" in kwargs:
            raise ArgumentTypeError(
                f"{cls.__name__}: decay is not supported; set learning_rate to a schedule, such as "
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
            f"{type(self).__name__}: user-defined optimizers are not supported; use one of "
            f"gpunn.optimizers."
        )

    @property
    def slots(self) -> dict[str, float]:
        """Initial values of the state kept for each weight, by name."""
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
        f"{type(optimizer).__name__}: {name} of an optimizer spec cannot be set, as models may "
        f"share it; {way}."
    )


optimizers: Registry[Optimizer] = Registry("optimizer", Optimizer, on_set=_refuse)


@optimizers.register("sgd")
@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent: ``w -= lr * g``.

    With momentum ``v = momentum * v - lr * g; w += v``; with `nesterov`
    ``w += momentum * v - lr * g`` after the update of ``v`` (Sutskever et al., ICML 2013).

    Parameters
    ----------
    learning_rate : float or LearningRateSchedule, default 0.01
        At least 0.
    momentum : float, default 0.0
        From 0 to 1.
    nesterov : bool, default False
        Whether to use Nesterov momentum.
    weight_decay, clipvalue, clipnorm, global_clipnorm, name : see `Optimizer`

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is out of range or of the wrong type.
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
    """Adagrad: ``a += g**2; w -= lr * g / sqrt(a + epsilon)``.

    Duchi, Hazan and Singer, JMLR 12 (2011).

    Parameters
    ----------
    learning_rate : float or LearningRateSchedule, default 0.001
        At least 0.
    initial_accumulator_value : float, default 0.1
        First value of ``a``, at least 0.
    epsilon : float, default 1e-7
        At least 0.
    weight_decay, clipvalue, clipnorm, global_clipnorm, name : see `Optimizer`

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is out of range or of the wrong type.
    """

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
    """RMSprop: ``v = rho * v + (1 - rho) * g**2; w -= lr * g / sqrt(v + epsilon)``.

    With `centered`, the square of the mean gradient is subtracted from ``v``; with momentum
    ``m = momentum * m + lr * g / sqrt(v + epsilon); w -= m``. Tieleman and Hinton, Coursera lecture
    6.5 (2012).

    Parameters
    ----------
    learning_rate : float or LearningRateSchedule, default 0.001
        At least 0.
    rho : float, default 0.9
        From 0 to 1.
    momentum : float, default 0.0
        From 0 to 1.
    epsilon : float, default 1e-7
        At least 0.
    centered : bool, default False
        Whether to divide by an estimate of the variance instead of the second moment.
    weight_decay, clipvalue, clipnorm, global_clipnorm, name : see `Optimizer`

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is out of range or of the wrong type.
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
    """Adam (Kingma and Ba, arXiv:1412.6980), in the more efficient order of its section 2.

    ``m += (1 - beta_1) * (g - m); v += (1 - beta_2) * (g**2 - v)``,
    ``w -= lr * sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (sqrt(v) + epsilon)``; with `amsgrad`
    (Reddi et al., arXiv:1904.09237) the largest ``v`` so far replaces ``v``.

    Parameters
    ----------
    learning_rate : float or LearningRateSchedule, default 0.001
        At least 0.
    beta_1, beta_2 : float, default 0.9 and 0.999
        At least 0 and below 1.
    epsilon : float, default 1e-7
        At least 0.
    amsgrad : bool, default False
        Whether to use the largest second moment so far.
    weight_decay, clipvalue, clipnorm, global_clipnorm, name : see `Optimizer`

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is out of range or of the wrong type.
    """


@optimizers.register("adamw")
@dataclass(frozen=True)
class AdamW(_AdamBase):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101).

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon, amsgrad : see `Adam`
    weight_decay : float, default 0.004
        Relative to the learning rate.
    clipvalue, clipnorm, global_clipnorm, name : see `Optimizer`

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is out of range or of the wrong type.
    """

    def __post_init__(self) -> None:
        if self.weight_decay is None:
            set_field(self, "weight_decay", 0.004)
        super().__post_init__()


class LearningRate(float):
    """The learning rate of the next step: a float that also compares equal to its schedule.

    Parameters
    ----------
    value : float
        The learning rate.
    owner : CompiledOptimizer
        The optimizer that `assign` sets it for.
    """

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
        """Return the learning rate as Keras's variables do.

        Returns
        -------
        numpy.float32
            The learning rate.
        """
        return np.float32(self)

    def assign(self, value: float) -> None:
        """Set the learning rate, from the next step on.

        Parameters
        ----------
        value : float
            At least 0.
        """
        self._owner.learning_rate = value


class _State(Protocol):
    """What an optimizer asks of the state of training."""

    step: int
    learning_rate: float | None


class CompiledOptimizer:
    """The optimizer of a compiled model: a spec whose learning rate can be set.

    It has the attributes of the spec, compares equal to it and is an instance of its class. The
    spec itself, which identifies plans and is saved to files, never changes.

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
        """The spec with the learning rate that was set."""
        if self.override is None:
            return self.spec
        return replace(self.spec, learning_rate=self.override)  # type: ignore[call-arg]

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the next step; can be set unless it follows a schedule."""
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
        """Return the learning rate of a step.

        Parameters
        ----------
        step : int
            Number of the step, from 0.

        Returns
        -------
        float
            The learning rate.
        """
        return self.spec.schedule(step) if self.override is None else self.override

    def check_settable(self) -> None:
        """Check that the learning rate can be set.

        Raises
        ------
        ArgumentTypeError
            It follows a schedule.
        """
        if not isinstance(self.spec.schedule, Constant):
            raise ArgumentTypeError(
                f"The learning rate follows the schedule {self.spec.schedule!r} and cannot be "
                f"set; compile the model with a number as learning_rate to set it in training."
            )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by copy and pickle before there is a spec
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
    """Return an optimizer.

    Parameters
    ----------
    identifier : str, Optimizer, type, CompiledOptimizer or dict
        A name, a spec, its class, ``model.optimizer``, or a config.

    Returns
    -------
    Optimizer
        The spec.

    Raises
    ------
    UnknownNameError, ArgumentTypeError
        There is no such optimizer.
    """
    if type(identifier) is CompiledOptimizer:
        return identifier.current
    return optimizers.get(identifier)


def __getattr__(name: str) -> Any:
    known = ", ".join(sorted(cls.__name__ for cls in optimizers.classes()))
    raise AttributeError(f"gpunn.optimizers has no {name!r}; its optimizers are {known}.")
