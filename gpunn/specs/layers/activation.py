"""Activation layers, with and without weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpunn.errors import ArgumentError, ArgumentTypeError, ShapeError
from gpunn.specs import activations, constraints, initializers, regularizers
from gpunn.specs.activations import ActivationFunction
from gpunn.specs.layers.base import Layer, Shape, Variable, check_last_axis, layers
from gpunn.specs.registry import check_number, set_field


@layers.register()
@dataclass(frozen=True, eq=False)
class Activation(Layer):
    """An activation function as a layer of its own.

    Parameters
    ----------
    activation : str, ActivationFunction or function
        As for `gpunn.activations.get`.
    name, input_shape, trainable : see `Layer`
    """

    activation: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        set_field(self, "activation", activations.get(self.activation))


@layers.register()
@dataclass(frozen=True, eq=False)
class ReLU(Layer):
    """``max(x, 0)``, or ``negative_slope * x`` below 0.

    Parameters
    ----------
    max_value : None
        Keras's upper bound; not supported.
    negative_slope : float, default 0.0
        At least 0.
    threshold : float, default 0.0
        Only 0 is supported.
    name, input_shape, trainable : see `Layer`

    Raises
    ------
    ArgumentError, ArgumentTypeError
        `negative_slope` is negative or not a number, or another argument is not supported.
    """

    max_value: float | None = None
    negative_slope: float = 0.0
    threshold: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("ReLU", "negative_slope", self.negative_slope, minimum=0)
        if self.max_value is not None:
            raise ArgumentError(f"ReLU: max_value must be None, not {self.max_value!r}.")
        if self.threshold:
            raise ArgumentError(f"ReLU: threshold must be 0, not {self.threshold!r}.")

    @property
    def activation(self) -> ActivationFunction:
        """The activation function."""
        slope = self.negative_slope
        return ActivationFunction("leaky_relu", slope) if slope else activations.relu


@layers.register()
@dataclass(frozen=True, eq=False)
class LeakyReLU(Layer):
    """``x`` above 0, ``negative_slope * x`` below.

    Parameters
    ----------
    negative_slope : float, default 0.3
        At least 0. As in Keras, the function ``"leaky_relu"`` has a default of 0.2 instead.
    name, input_shape, trainable : see `Layer`

    Raises
    ------
    ArgumentError, ArgumentTypeError
        `negative_slope` is negative or not a number.
    """

    negative_slope: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("LeakyReLU", "negative_slope", self.negative_slope, minimum=0)

    @property
    def activation(self) -> ActivationFunction:
        """The activation function."""
        return ActivationFunction("leaky_relu", self.negative_slope)


@layers.register()
@dataclass(frozen=True, eq=False)
class ELU(Layer):
    """``x`` above 0, ``alpha * (exp(x) - 1)`` below (Clevert et al., arXiv:1511.07289).

    Parameters
    ----------
    alpha : float, default 1.0
        At least 0.
    name, input_shape, trainable : see `Layer`

    Raises
    ------
    ArgumentError, ArgumentTypeError
        `alpha` is negative or not a number.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("ELU", "alpha", self.alpha, minimum=0)

    @property
    def activation(self) -> ActivationFunction:
        """The activation function."""
        return ActivationFunction("elu", self.alpha)


@layers.register()
@dataclass(frozen=True, eq=False)
class Softmax(Layer):
    """``exp(x) / sum(exp(x))``, along the last axis.

    Parameters
    ----------
    axis : int, default -1
        Only the last axis is supported.
    name, input_shape, trainable : see `Layer`

    Raises
    ------
    ArgumentError
        `axis` is another one.
    """

    axis: int = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        set_field(self, "axis", check_last_axis("Softmax", self.axis))

    @property
    def activation(self) -> ActivationFunction:
        """The activation function."""
        return activations.softmax


@layers.register()
@dataclass(frozen=True, eq=False)
class PReLU(Layer):
    """``max(0, x) + alpha * min(0, x)``, with a learned alpha for each feature.

    Parameters
    ----------
    alpha_initializer : str or Initializer, default "zeros"
        Initial values of alpha.
    alpha_regularizer : str or L1L2, optional
        Penalty on alpha.
    alpha_constraint : str or Constraint, optional
        Applied after each update.
    shared_axes : None
        Keras's axes along which alpha is shared; not supported.
    name, input_shape, trainable : see `Layer`

    Raises
    ------
    ArgumentError
        `shared_axes` is given.

    Notes
    -----
    Alpha has the shape of a sample. At 0 the derivative is alpha. After He et al., 2015
    (arXiv:1502.01852).
    """

    alpha_initializer: Any = "zeros"
    alpha_regularizer: Any = None
    alpha_constraint: Any = None
    shared_axes: None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        set_field(self, "alpha_initializer", initializers.get(self.alpha_initializer))
        set_field(self, "alpha_regularizer", regularizers.get(self.alpha_regularizer))
        set_field(self, "alpha_constraint", constraints.get(self.alpha_constraint))
        if self.shared_axes is not None:
            raise ArgumentError(
                f"PReLU: shared_axes must be None, as each feature has its own alpha, not "
                f"{self.shared_axes!r}."
            )

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = self._one(shapes)
        if not shape:
            raise ShapeError("expects at least one axis")
        return shape

    def variables(self, scope: str, *shapes: Shape) -> tuple[Variable, ...]:
        return (
            Variable(
                scope,
                "alpha",
                shapes[0],
                self.alpha_initializer,
                self.alpha_regularizer,
                constraint=self.alpha_constraint,
            ),
        )


# The layers that only apply their `activation`.
ACTIVATION_LAYERS = (Activation, ReLU, LeakyReLU, ELU, Softmax)


@layers.register()
@dataclass(frozen=True, eq=False)
class Lambda(Layer):
    """A user-defined function, applied elementwise: ``Lambda(lambda x: x**2)``.

    Parameters
    ----------
    function : callable or ExpressionActivation
        As for `gpunn.activations.from_function`.
    name, input_shape, trainable : see `Layer`

    Raises
    ------
    ArgumentTypeError
        `function` is not a function.
    """

    function: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.function, str) or self.function is None:
            raise ArgumentTypeError(
                f"Lambda: function must be a function of one value, not {self.function!r}; "
                f"for activations by name use an Activation layer."
            )
        set_field(self, "function", activations.get(self.function))
