"""Initial values of weights, drawn on the host from the model's seed: the same for every device.

Names, default values and formulas are those of ``keras.initializers``; an initializer's own
`seed` overrides that of the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpunn.errors import ArgumentError, UnknownNameError
from gpunn.specs.registry import Registry, check_count, check_number

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "constant",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "ones",
    "random_normal",
    "random_uniform",
    "truncated_normal",
    "variance_scaling",
    "zeros",
]

# Standard deviation of a standard normal distribution truncated at two standard deviations.
TRUNCATED_STDDEV = 0.87962566103423978


@dataclass(frozen=True)
class Initializer:
    """Base class of initializers."""

    def __call__(
        self, shape: tuple[int, ...], dtype: DTypeLike = "float32", *, seed: int = 0, index: int = 0
    ) -> NDArray[Any]:
        """Draw an array.

        Parameters
        ----------
        shape : tuple of int
            Kernels are ``(inputs, outputs)``.
        dtype : dtype, default float32
            Values are drawn in float64 and rounded to it.
        seed : int, default 0
            The model's seed.
        index : int, default 0
            Index of the variable in the model; each has its own random stream.

        Returns
        -------
        ndarray
            The values, of the given shape and dtype.
        """
        own = getattr(self, "seed", None)
        # As in Keras, an initializer with its own seed draws the same values at every call.
        if own is not None:
            seed, index = own, 0
        draw = _Draw(seed, index, math.prod(shape))
        return self._values(shape, draw).reshape(shape).astype(dtype)

    def _values(self, shape: tuple[int, ...], draw: _Draw) -> NDArray[Any]:
        raise TypeError(f"{type(self).__name__} is abstract")


def _check_seed(initializer: Any) -> None:
    if initializer.seed is not None:
        owner = type(initializer).__name__
        if check_count(owner, "seed", initializer.seed, minimum=0) >= 2**64:
            raise ArgumentError(f"{owner}: seed must be below 2**64, not {initializer.seed!r}.")


@dataclass(frozen=True)
class _Draw:
    seed: int
    index: int
    count: int

    def uniform(self) -> NDArray[Any]:
        from gpunn.randomness import philox

        stream = philox.stream_id(philox.Purpose.INITIALIZER, self.index)
        return philox.uniform(philox.words(self.seed, 0, stream, self.count)).astype(np.float64)

    def normal(self, truncated: bool) -> NDArray[Any]:
        from gpunn.randomness import philox

        stream = philox.stream_id(philox.Purpose.INITIALIZER, self.index)
        sample = philox.truncated_normal if truncated else philox.normal
        return sample(self.seed, 0, stream, self.count)


initializers: Registry[Initializer] = Registry(
    "initializer",
    Initializer,
    instead="pass weights to set_weights, or use one of gpunn.initializers",
)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (fan_in, fan_out): the inputs and outputs of a kernel of this shape."""
    if not shape:
        return 1, 1
    return (shape[0], shape[-1]) if len(shape) > 1 else (shape[0], shape[0])


@initializers.register("zeros", "zero")
@dataclass(frozen=True)
class Zeros(Initializer):
    """Fill with zeros."""

    def _values(self, shape: tuple[int, ...], draw: _Draw) -> NDArray[Any]:
        return np.zeros(shape)


@initializers.register("ones", "one")
@dataclass(frozen=True)
class Ones(Initializer):
    """Fill with ones."""

    def _values(self, shape: tuple[int, ...], draw: _Draw) -> NDArray[Any]:
        return np.ones(shape)


@initializers.register("constant")
@dataclass(frozen=True)
class Constant(Initializer):
    """Fill with one value.

    Parameters
    ----------
    value : float, default 0.0
        The value.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        `value` is not a finite number.
    """

    value: float = 0.0

    def __post_init__(self) -> None:
        check_number("Constant", "value", self.value)

    def _values(self, shape: tuple[int, ...], draw: _Draw) -> NDArray[Any]:
        return np.full(shape, float(self.value))


@initializers.register("random_uniform", "uniform")
@dataclass(frozen=True)
class RandomUniform(Initializer):
    """Draw from a uniform distribution.

    Parameters
    ----------
    minval, maxval : float, default -0.05 and 0.05
        Bounds, in increasing order.
    seed : int, optional
        Overrides the model's seed; at least 0 and below 2**64.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is out of range or not a number.
    """

    minval: float = -0.05
    maxval: float = 0.05
    seed: int | None = None

    def __post_init__(self) -> None:
        _check_seed(self)
        check_number("RandomUniform", "minval", self.minval)
        check_number("RandomUniform", "maxval", self.maxval, minimum=self.minval)

    def _values(self, shape: tuple[int, ...], draw: _Draw) -> NDArray[Any]:
        return self.minval + (self.maxval - self.minval) * draw.uniform()


@initializers.register("random_normal", "normal")
@dataclass(frozen=True)
class RandomNormal(Initializer):
    """Draw from a normal distribution.

    Parameters
    ----------
    mean, stddev : float, default 0.0 and 0.05
        Mean and standard deviation.
    seed : int, optional
        Overrides the model's seed; at least 0 and below 2**64.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is out of range or not a number.
    """

    mean: float = 0.0
    stddev: float = 0.05
    seed: int | None = None

    def __post_init__(self) -> None:
        _check_seed(self)
        check_number("RandomNormal", "mean", self.mean)
        check_number("RandomNormal", "stddev", self.stddev, minimum=0)

    def _values(self, shape: tuple[int, ...], draw: _Draw) -> NDArray[Any]:
        return self.mean + self.stddev * draw.normal(truncated=False)


@initializers.register("truncated_normal")
@dataclass(frozen=True)
class TruncatedNormal(Initializer):
    """Draw from a normal distribution truncated at two standard deviations from the mean.

    Parameters
    ----------
    mean, stddev : float, default 0.0 and 0.05
        Of the distribution before it is truncated.
    seed : int, optional
        Overrides the model's seed; at least 0 and below 2**64.
    scale_by_fan_in : bool, default False
        Divide `stddev` by ``sqrt(fan_in)``: ``TruncatedNormal(stddev=2, scale_by_fan_in=True)``
        is the ``2 / sqrt(n_inputs)`` of "Hands-On Machine Learning", chapter 10.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is out of range or not a number.
    """

    mean: float = 0.0
    stddev: float = 0.05
    seed: int | None = None
    scale_by_fan_in: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        _check_seed(self)
        check_number("TruncatedNormal", "mean", self.mean)
        check_number("TruncatedNormal", "stddev", self.stddev, minimum=0)

    def _values(self, shape: tuple[int, ...], draw: _Draw) -> NDArray[Any]:
        scale = math.sqrt(max(1, fans(shape)[0])) if self.scale_by_fan_in else 1.0
        return self.mean + self.stddev / scale * draw.normal(truncated=True)


@initializers.register("variance_scaling")
@dataclass(frozen=True)
class VarianceScaling(Initializer):
    """Draw with zero mean and variance ``scale / fan``.

    Parameters
    ----------
    scale : float, default 1.0
        Above 0.
    mode : {"fan_in", "fan_out", "fan_avg"}
        Which fan: inputs, outputs or their mean.
    distribution : {"truncated_normal", "untruncated_normal", "uniform"}
        The variance of the truncated distribution is that after truncation.
    seed : int, optional
        Overrides the model's seed; at least 0 and below 2**64.

    Raises
    ------
    ArgumentError, ArgumentTypeError, UnknownNameError
        An argument is out of range, not a number or not one of the names.
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "truncated_normal"
    seed: int | None = None

    def __post_init__(self) -> None:
        _check_seed(self)
        check_number("VarianceScaling", "scale", self.scale, above=0)
        for kind, name, known in (
            ("mode", self.mode, ("fan_in", "fan_out", "fan_avg")),
            (
                "distribution",
                self.distribution,
                ("truncated_normal", "untruncated_normal", "uniform"),
            ),
        ):
            if name not in known:
                raise UnknownNameError(f"{kind} of VarianceScaling", name, known)

    def _values(self, shape: tuple[int, ...], draw: _Draw) -> NDArray[Any]:
        fan_in, fan_out = fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        if self.distribution == "uniform":
            return math.sqrt(3.0 * variance) * (2.0 * draw.uniform() - 1.0)
        if self.distribution == "untruncated_normal":
            return math.sqrt(variance) * draw.normal(truncated=False)
        return math.sqrt(variance) / TRUNCATED_STDDEV * draw.normal(truncated=True)


def GlorotUniform(seed: int | None = None) -> VarianceScaling:
    """Make an initializer that is uniform within ``sqrt(6 / (fan_in + fan_out))``.

    Glorot and Bengio, AISTATS 2010.

    Parameters
    ----------
    seed : int, optional
        Overrides the model's seed.

    Returns
    -------
    VarianceScaling
        The initializer.
    """
    return VarianceScaling(1.0, "fan_avg", "uniform", seed)


def GlorotNormal(seed: int | None = None) -> VarianceScaling:
    """Make a truncated normal initializer of variance ``2 / (fan_in + fan_out)``.

    Glorot and Bengio, AISTATS 2010.

    Parameters
    ----------
    seed : int, optional
        Overrides the model's seed.

    Returns
    -------
    VarianceScaling
        The initializer.
    """
    return VarianceScaling(1.0, "fan_avg", "truncated_normal", seed)


def HeUniform(seed: int | None = None) -> VarianceScaling:
    """Make an initializer that is uniform within ``sqrt(6 / fan_in)``.

    He et al., arXiv:1502.01852.

    Parameters
    ----------
    seed : int, optional
        Overrides the model's seed.

    Returns
    -------
    VarianceScaling
        The initializer.
    """
    return VarianceScaling(2.0, "fan_in", "uniform", seed)


def HeNormal(seed: int | None = None) -> VarianceScaling:
    """Make a truncated normal initializer of variance ``2 / fan_in``.

    He et al., arXiv:1502.01852.

    Parameters
    ----------
    seed : int, optional
        Overrides the model's seed.

    Returns
    -------
    VarianceScaling
        The initializer.
    """
    return VarianceScaling(2.0, "fan_in", "truncated_normal", seed)


def LecunUniform(seed: int | None = None) -> VarianceScaling:
    """Make an initializer that is uniform within ``sqrt(3 / fan_in)``.

    LeCun et al., "Efficient BackProp" (1998).

    Parameters
    ----------
    seed : int, optional
        Overrides the model's seed.

    Returns
    -------
    VarianceScaling
        The initializer.
    """
    return VarianceScaling(1.0, "fan_in", "uniform", seed)


def LecunNormal(seed: int | None = None) -> VarianceScaling:
    """Make a truncated normal initializer of variance ``1 / fan_in``.

    LeCun et al., "Efficient BackProp" (1998).

    Parameters
    ----------
    seed : int, optional
        Overrides the model's seed.

    Returns
    -------
    VarianceScaling
        The initializer.
    """
    return VarianceScaling(1.0, "fan_in", "truncated_normal", seed)


_SCALED = (GlorotUniform, GlorotNormal, HeUniform, HeNormal, LecunUniform, LecunNormal)
for _name, _make in (
    ("glorot_uniform", GlorotUniform),
    ("glorot_normal", GlorotNormal),
    ("he_uniform", HeUniform),
    ("he_normal", HeNormal),
    ("lecun_uniform", LecunUniform),
    ("lecun_normal", LecunNormal),
):
    initializers.alias(_name, _make)

# Keras's aliases of the classes.
zeros, ones, constant = Zeros, Ones, Constant
random_uniform, random_normal, truncated_normal = RandomUniform, RandomNormal, TruncatedNormal
variance_scaling = VarianceScaling
glorot_uniform, glorot_normal = GlorotUniform, GlorotNormal
he_uniform, he_normal = HeUniform, HeNormal
lecun_uniform, lecun_normal = LecunUniform, LecunNormal


def get(identifier: object) -> Initializer:
    """Return an initializer.

    Parameters
    ----------
    identifier : str, Initializer, type, callable or dict
        A name, a spec, its class or a function such as `HeNormal`, or a config.

    Returns
    -------
    Initializer
        The spec.

    Raises
    ------
    ArgumentError, ArgumentTypeError, UnknownNameError
        There is no such initializer, or it is user-defined, which is not supported.
    """
    if identifier is None:
        raise ArgumentError("An initializer is required; use 'zeros' for zeros.")
    # HeNormal and the like are functions here, but classes in Keras, which also accepts these.
    for make in _SCALED:
        if identifier is make or (isinstance(identifier, str) and identifier == make.__name__):
            return make()
    return initializers.get(identifier)
