"""Normalization: by known statistics, by those of the batch, or by those of each sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpunn.errors import ArgumentError, ArgumentTypeError, DataError, ShapeError
from gpunn.specs import constraints, initializers, regularizers
from gpunn.specs.layers.base import Layer, Shape, Variable, check_last_axis, layers
from gpunn.specs.registry import check_number, set_field


@layers.register()
@dataclass(frozen=True, eq=False)
class Normalization(Layer):
    """``(x - mean) / max(sqrt(variance), 1e-7)``, feature by feature.

    Parameters
    ----------
    mean, variance : sequence of float, optional
        One value per feature of the last axis; if omitted, computed by `adapt`.
    name, input_shape, trainable : see `Layer`

    Raises
    ------
    ArgumentError, ArgumentTypeError
        Only one of them is given, a value is not a number, or a variance is negative.
    """

    mean: tuple[float, ...] | None = None
    variance: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.mean is None) != (self.variance is None):
            raise ArgumentError("Normalization: give both mean and variance, or neither.")
        for name in ("mean", "variance"):
            values = getattr(self, name)
            if values is not None:
                least = 0 if name == "variance" else None
                flat = np.atleast_1d(np.asarray(values, dtype=np.float64)).ravel().tolist()
                checked = (check_number("Normalization", name, v, minimum=least) for v in flat)
                set_field(self, name, tuple(checked))

    def adapt(self, data: Any) -> None:
        """Compute mean and variance from data.

        Parameters
        ----------
        data : array_like, shape (n, ..., features)
            Statistics are computed over all axes but the last, in float64.

        Raises
        ------
        DataError
            `data` is empty, has fewer than two axes, or contains NaN or infinity.
        """
        values = np.asarray(data)
        if values.ndim < 2 or values.size == 0:
            raise DataError(
                f"Normalization.adapt: data must have shape (n, ..., features) and not be empty, "
                f"not {values.shape}."
            )
        axes = tuple(range(values.ndim - 1))
        mean = values.mean(axis=axes, dtype=np.float64)
        variance = values.var(axis=axes, dtype=np.float64)
        if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
            raise DataError("Normalization.adapt: data contains NaN or infinity.")
        set_field(self, "mean", tuple(mean.tolist()))
        set_field(self, "variance", tuple(variance.tolist()))

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = self._one(shapes)
        if not shape:
            raise ShapeError("expects at least one axis")
        if self.mean is not None and len(self.mean) not in (1, shape[-1]):
            raise ShapeError(f"has statistics for {len(self.mean)} features")
        return shape

    def variables(self, scope: str, *shapes: Shape) -> tuple[Variable, ...]:
        size = (shapes[0][-1],)
        return (
            Variable(scope, "mean", size, initializers.Zeros(), trainable=False),
            Variable(scope, "variance", size, initializers.Ones(), trainable=False),
        )


class _Scaled(Layer):
    """Base class: normalization by the statistics of the data, then a learned scale and shift.

    The fields are declared in the subclasses, each in Keras's order of arguments.
    """

    axis: int
    epsilon: float
    center: bool
    scale: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        owner = type(self).__name__
        set_field(self, "axis", check_last_axis(owner, self.axis))
        set_field(self, "epsilon", check_number(owner, "epsilon", self.epsilon, minimum=0))
        for name in ("center", "scale"):
            value = getattr(self, name)
            if not isinstance(value, bool | np.bool_):
                raise ArgumentTypeError(f"{owner}: {name} must be True or False, not {value!r}.")
            set_field(self, name, bool(value))
        for name in ("beta", "gamma"):
            initializer = initializers.get(getattr(self, f"{name}_initializer"))
            set_field(self, f"{name}_initializer", initializer)
            regularizer = regularizers.get(getattr(self, f"{name}_regularizer"))
            set_field(self, f"{name}_regularizer", regularizer)
            constraint = constraints.get(getattr(self, f"{name}_constraint"))
            set_field(self, f"{name}_constraint", constraint)

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = self._one(shapes)
        if len(shape) != 1:
            raise ShapeError("expects one axis per sample; add a Flatten layer before it")
        return shape

    def variables(self, scope: str, *shapes: Shape) -> tuple[Variable, ...]:
        gamma, beta = (
            Variable(
                scope,
                name,
                shapes[0],
                getattr(self, f"{name}_initializer"),
                getattr(self, f"{name}_regularizer"),
                constraint=getattr(self, f"{name}_constraint"),
            )
            for name in ("gamma", "beta")
        )
        return (gamma,) * self.scale + (beta,) * self.center


@layers.register()
@dataclass(frozen=True, eq=False)
class BatchNormalization(_Scaled):
    """``(x - mean) / sqrt(variance + epsilon) * gamma + beta``, feature by feature.

    In training, mean and (biased) variance are those of the batch, and update the moving averages
    kept in the layer: ``moving = moving * momentum + batch * (1 - momentum)``. `evaluate` and
    `predict` normalize by the moving averages.

    Parameters
    ----------
    axis : int, default -1
        Only the last axis is supported.
    momentum : float, default 0.99
        From 0 to 1.
    epsilon : float, default 1e-3
        At least 0.
    center, scale : bool, default True
        Whether there is a `beta`, and a `gamma`.
    beta_initializer, gamma_initializer : str or Initializer
        Default "zeros" and "ones".
    moving_mean_initializer, moving_variance_initializer : str or Initializer
        Default "zeros" and "ones".
    beta_regularizer, gamma_regularizer : str or L1L2, optional
        Penalties.
    beta_constraint, gamma_constraint : str or Constraint, optional
        Applied after each update.
    name, input_shape, trainable : see `Layer`

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is out of range or of the wrong type.

    Notes
    -----
    Input and output shape ``(features,)``. Weights gamma, beta, moving_mean and moving_variance,
    all ``(features,)``; the last two are not trainable. After Ioffe and Szegedy, 2015
    (arXiv:1502.03167). A dense layer before it needs no bias: ``Dense(100, use_bias=False)``.
    """

    axis: int = -1
    momentum: float = 0.99
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    beta_initializer: Any = "zeros"
    gamma_initializer: Any = "ones"
    moving_mean_initializer: Any = "zeros"
    moving_variance_initializer: Any = "ones"
    beta_regularizer: Any = None
    gamma_regularizer: Any = None
    beta_constraint: Any = None
    gamma_constraint: Any = None
    input_shape: Shape | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        momentum = check_number(
            "BatchNormalization", "momentum", self.momentum, minimum=0, maximum=1
        )
        set_field(self, "momentum", momentum)
        for name in ("moving_mean_initializer", "moving_variance_initializer"):
            set_field(self, name, initializers.get(getattr(self, name)))

    def variables(self, scope: str, *shapes: Shape) -> tuple[Variable, ...]:
        mean, variance = (
            Variable(scope, name, shapes[0], getattr(self, f"{name}_initializer"), trainable=False)
            for name in ("moving_mean", "moving_variance")
        )
        return (*super().variables(scope, *shapes), mean, variance)


@layers.register()
@dataclass(frozen=True, eq=False)
class LayerNormalization(_Scaled):
    """``(x - mean) / sqrt(variance + epsilon) * gamma + beta``, with the statistics of each row.

    Mean and (biased) variance are taken over the features of a sample, in training and after it.

    Parameters
    ----------
    axis : int, default -1
        Only the last axis is supported.
    epsilon : float, default 1e-3
        At least 0.
    center, scale : bool, default True
        Whether there is a `beta`, and a `gamma`.
    beta_initializer, gamma_initializer : str or Initializer
        Default "zeros" and "ones".
    beta_regularizer, gamma_regularizer : str or L1L2, optional
        Penalties.
    beta_constraint, gamma_constraint : str or Constraint, optional
        Applied after each update.
    name, input_shape, trainable : see `Layer`

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is out of range or of the wrong type.

    Notes
    -----
    Input and output shape ``(features,)``. Weights gamma and beta, both ``(features,)``. After Ba,
    Kiros and Hinton, 2016 (arXiv:1607.06450).
    """

    axis: int = -1
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    beta_initializer: Any = "zeros"
    gamma_initializer: Any = "ones"
    beta_regularizer: Any = None
    gamma_regularizer: Any = None
    beta_constraint: Any = None
    gamma_constraint: Any = None
    input_shape: Shape | None = field(default=None, kw_only=True)
