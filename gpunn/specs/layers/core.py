"""Inputs, dense layers, dropout, and layers that merge or reshape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any

from gpunn.errors import ArgumentError, ArgumentTypeError, ShapeError
from gpunn.specs import activations, constraints, initializers, regularizers
from gpunn.specs.layers.base import (
    Layer,
    Shape,
    SymbolicTensor,
    Variable,
    check_last_axis,
    check_shape,
    connect,
    layers,
)
from gpunn.specs.registry import check_count, check_number, set_field


@layers.register()
@dataclass(frozen=True, eq=False)
class InputLayer(Layer):
    """An input of the model.

    Parameters
    ----------
    shape : int or tuple of int
        Shape of a sample.
    name, trainable : see `Layer`
    input_shape : tuple of int, optional
        Keras 2's name of `shape`.

    Raises
    ------
    ArgumentTypeError
        Neither or both shapes are given.
    """

    shape: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.shape is None) == (self.input_shape is None):
            raise ArgumentTypeError("InputLayer: give its shape, such as InputLayer(shape=(8,)).")
        shape = self.input_shape if self.shape is None else self.shape
        set_field(self, "shape", check_shape("Input", shape))
        set_field(self, "input_shape", None)

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.shape


def Input(shape: int | Sequence[int], *, name: str | None = None) -> SymbolicTensor:
    """Return a symbolic input.

    Parameters
    ----------
    shape : int or tuple of int
        Shape of a sample, without the batch axis: ``(28, 28)``.
    name : str, optional
        Name of the input.

    Returns
    -------
    SymbolicTensor
        To call layers on.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        `shape` is not made of whole numbers of at least 1.
    """
    return connect(InputLayer(shape, name=name), ())


@layers.register()
@dataclass(frozen=True, eq=False)
class Flatten(Layer):
    """Flatten a sample to one axis: ``(28, 28)`` becomes ``(784,)``.

    Parameters
    ----------
    name, input_shape, trainable : see `Layer`
    """

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = self._one(shapes)
        return (math.prod(shape),)


@layers.register()
@dataclass(frozen=True, eq=False)
class Rescaling(Layer):
    """``x * scale + offset``, for example ``Rescaling(1 / 255)`` for images.

    Parameters
    ----------
    scale : float
        Factor.
    offset : float, default 0.0
        Summand.
    name, input_shape, trainable : see `Layer`

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is not a finite number.
    """

    scale: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("Rescaling", "scale", self.scale)
        check_number("Rescaling", "offset", self.offset)


@layers.register()
@dataclass(frozen=True, eq=False)
class Dense(Layer):
    """``activation(x @ kernel + bias)``.

    Parameters
    ----------
    units : int
        Number of outputs, at least 1.
    activation : str, ActivationFunction or function, optional
        None for linear.
    use_bias : bool, default True
        Whether there is a bias.
    kernel_initializer, bias_initializer : str or Initializer
        Default "glorot_uniform" and "zeros".
    kernel_regularizer, bias_regularizer : str or L1L2, optional
        Penalties.
    kernel_constraint, bias_constraint : str or Constraint, optional
        Applied after each update.
    input_dim : int, optional
        The same as ``input_shape=(input_dim,)``.
    name, input_shape, trainable : see `Layer`

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is out of range or of the wrong type, or both `input_shape` and `input_dim` are
        given.

    Notes
    -----
    Input shape ``(inputs,)``, output shape ``(units,)``; kernel ``(inputs, units)``, bias
    ``(units,)``.
    """

    units: int
    activation: Any = None
    use_bias: bool = True
    kernel_initializer: Any = "glorot_uniform"
    bias_initializer: Any = "zeros"
    kernel_regularizer: Any = None
    bias_regularizer: Any = None
    kernel_constraint: Any = field(default=None, kw_only=True)
    bias_constraint: Any = field(default=None, kw_only=True)
    input_dim: InitVar[int | None] = field(default=None, kw_only=True)

    def __post_init__(self, input_dim: int | None) -> None:
        super().__post_init__()
        if input_dim is not None:
            if self.input_shape is not None:
                raise ArgumentError("Dense: give input_shape or input_dim, not both.")
            set_field(self, "input_shape", (check_count("Dense", "input_dim", input_dim),))
        set_field(self, "units", check_count("Dense", "units", self.units))
        set_field(self, "activation", activations.get(self.activation))
        set_field(self, "kernel_initializer", initializers.get(self.kernel_initializer))
        set_field(self, "bias_initializer", initializers.get(self.bias_initializer))
        set_field(self, "kernel_regularizer", regularizers.get(self.kernel_regularizer))
        set_field(self, "bias_regularizer", regularizers.get(self.bias_regularizer))
        set_field(self, "kernel_constraint", constraints.get(self.kernel_constraint))
        set_field(self, "bias_constraint", constraints.get(self.bias_constraint))

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = self._one(shapes)
        if len(shape) != 1:
            raise ShapeError("expects one axis per sample; add a Flatten layer before it")
        return (self.units,)

    def variables(self, scope: str, *shapes: Shape) -> tuple[Variable, ...]:
        kernel_shape = (shapes[0][0], self.units)
        kernel = Variable(
            scope,
            "kernel",
            kernel_shape,
            self.kernel_initializer,
            self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        if not self.use_bias:
            return (kernel,)
        bias = Variable(
            scope,
            "bias",
            (self.units,),
            self.bias_initializer,
            self.bias_regularizer,
            constraint=self.bias_constraint,
        )
        return kernel, bias


@layers.register()
@dataclass(frozen=True, eq=False)
class Dropout(Layer):
    """In training, set each value to 0 with probability `rate` and scale up the others.

    Srivastava et al., JMLR 15 (2014).

    Parameters
    ----------
    rate : float
        At least 0 and below 1; values that are kept are divided by ``1 - rate``.
    name, input_shape, trainable : see `Layer`

    Raises
    ------
    ArgumentError, ArgumentTypeError
        `rate` is out of range or not a number.
    """

    rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        set_field(self, "rate", check_number("Dropout", "rate", self.rate, minimum=0, below=1))


class _Elementwise(Layer):
    """What combines two or more inputs of one shape, value by value."""

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) < 2:
            raise ShapeError("takes a list of at least two inputs")
        if len(set(shapes)) != 1:
            raise ShapeError("expects inputs of one shape")
        return shapes[0]


@layers.register()
@dataclass(frozen=True, eq=False)
class Add(_Elementwise):
    """The sum of two or more inputs of one shape.

    Parameters
    ----------
    name, input_shape, trainable : see `Layer`
    """


@layers.register()
@dataclass(frozen=True, eq=False)
class Average(_Elementwise):
    """The mean of two or more inputs of one shape.

    Parameters
    ----------
    name, input_shape, trainable : see `Layer`
    """


@layers.register()
@dataclass(frozen=True, eq=False)
class Multiply(_Elementwise):
    """The elementwise product of two or more inputs of one shape.

    Parameters
    ----------
    name, input_shape, trainable : see `Layer`
    """


@layers.register()
@dataclass(frozen=True, eq=False)
class Concatenate(Layer):
    """Inputs concatenated along the last axis.

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
        set_field(self, "axis", check_last_axis("Concatenate", self.axis))

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) < 2:
            raise ShapeError("takes a list of at least two inputs")
        if any(len(shape) != 1 for shape in shapes):
            raise ShapeError("expects one axis per sample; add Flatten layers before it")
        return (sum(shape[0] for shape in shapes),)


def add(inputs: Sequence[SymbolicTensor]) -> SymbolicTensor:
    """Return ``Add()(inputs)``.

    Parameters
    ----------
    inputs : sequence of SymbolicTensor
        At least two, of one shape.

    Returns
    -------
    SymbolicTensor
        The sum.
    """
    return Add()(inputs)


def average(inputs: Sequence[SymbolicTensor]) -> SymbolicTensor:
    """Return ``Average()(inputs)``.

    Parameters
    ----------
    inputs : sequence of SymbolicTensor
        At least two, of one shape.

    Returns
    -------
    SymbolicTensor
        The mean.
    """
    return Average()(inputs)


def multiply(inputs: Sequence[SymbolicTensor]) -> SymbolicTensor:
    """Return ``Multiply()(inputs)``.

    Parameters
    ----------
    inputs : sequence of SymbolicTensor
        At least two, of one shape.

    Returns
    -------
    SymbolicTensor
        The elementwise product.
    """
    return Multiply()(inputs)


def concatenate(inputs: Sequence[SymbolicTensor]) -> SymbolicTensor:
    """Return ``Concatenate()(inputs)``.

    Parameters
    ----------
    inputs : sequence of SymbolicTensor
        At least two, of shape ``(features,)`` each.

    Returns
    -------
    SymbolicTensor
        The concatenation.
    """
    return Concatenate()(inputs)
