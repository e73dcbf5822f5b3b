"""Layers as specs: small frozen objects that know shapes and weights, and hold no arrays.

To add a layer: a class here that gives `output_shape` and `variables`, registered by its name,
and its part of the plan in ``gpunn/plan/units.py``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from gpunn import activations, initializers, regularizers
from gpunn.errors import ArgumentError, ArgumentTypeError, DataError, ShapeError
from gpunn.graph import Shape, SymbolicTensor, Variable, connect
from gpunn.registry import Registry, check_count, check_number, set_field

_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.\- ]*")


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer:
    """Base class of layers.

    Parameters
    ----------
    name : str, optional
        Scope of the layer's weights; unique in a model. Unnamed layers are named after their
        kind: ``dense``, ``dense_1``, ...
    """

    name: str | None = None
    # Also the kind in a summary.
    type_name: ClassVar[str] = "Layer"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.type_name = cls.__name__

    def __post_init__(self) -> None:
        if self.name is not None and not (
            isinstance(self.name, str) and _NAME.fullmatch(self.name) and self.name.strip(".")
        ):
            raise ArgumentError(
                f"{type(self).__name__}: name must be letters, digits, '_', '-', '.' or spaces, "
                f"not {self.name!r}."
            )

    def __call__(self, inputs: SymbolicTensor | Sequence[SymbolicTensor]) -> SymbolicTensor:
        """Call the layer on the output(s) of other layers, which wires it into a graph."""
        many = isinstance(inputs, list | tuple)
        return connect(self, tuple(inputs) if many else (inputs,))  # type: ignore[arg-type]

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the output's shape per sample, or raise `ShapeError` saying what is expected."""
        (shape,) = self._one(shapes)
        return shape

    def variables(self, scope: str, *shapes: Shape) -> tuple[Variable, ...]:
        """Return the weights for inputs of these shapes, in Keras's order."""
        return ()

    @staticmethod
    def _one(shapes: tuple[Shape, ...]) -> tuple[Shape]:
        if len(shapes) != 1:
            raise ShapeError(f"takes one input, not {len(shapes)}")
        return (shapes[0],)


layers: Registry[Layer] = Registry("layer", Layer)


def _check_shape(owner: str, shape: object) -> Shape:
    if isinstance(shape, int | np.integer) and not isinstance(shape, bool):
        shape = (int(shape),)
    if not isinstance(shape, tuple | list):
        raise ArgumentTypeError(f"{owner}: shape must be a tuple of sizes, not {shape!r}.")
    if any(size is None for size in shape):
        raise ArgumentError(
            f"{owner}: shape {tuple(shape)} must be known and leave out the batch axis."
        )
    return tuple(check_count(owner, "shape", size) for size in shape)


@layers.register()
@dataclass(frozen=True, eq=False)
class InputLayer(Layer):
    """Where data enters: ``shape`` per sample."""

    shape: Shape

    def __post_init__(self) -> None:
        super().__post_init__()
        set_field(self, "shape", _check_shape("Input", self.shape))

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.shape


def Input(shape: int | Sequence[int], *, name: str | None = None) -> SymbolicTensor:
    """Return a symbolic input.

    Parameters
    ----------
    shape : tuple of int
        Per sample, without the batch axis: ``(28, 28)``.
    name : str, optional
        Name of the input.
    """
    return connect(InputLayer(shape, name=name), ())  # type: ignore[arg-type]


@layers.register()
@dataclass(frozen=True, eq=False)
class Flatten(Layer):
    """All axes of a sample in one: ``(28, 28)`` becomes ``(784,)``.

    Parameters
    ----------
    input_shape : tuple of int, optional
        As the first layer of a `Sequential`, in place of an `Input`.
    """

    input_shape: Shape | None = field(default=None, kw_only=True)

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = self._one(shapes)
        return (math.prod(shape),)


@layers.register()
@dataclass(frozen=True, eq=False)
class Rescaling(Layer):
    """``x * scale + offset``, for example ``Rescaling(1 / 255)`` for images."""

    scale: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("Rescaling", "scale", self.scale)
        check_number("Rescaling", "offset", self.offset)


@layers.register()
@dataclass(frozen=True, eq=False)
class Normalization(Layer):
    """``(x - mean) / max(sqrt(variance), 1e-7)``, feature by feature.

    Parameters
    ----------
    mean, variance : sequence of float, optional
        One value per feature of the last axis; if left out, learned by `adapt`.
    """

    mean: tuple[float, ...] | None = None
    variance: tuple[float, ...] | None = None
    input_shape: Shape | None = field(default=None, kw_only=True)

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
        """Learn mean and variance from data.

        Parameters
        ----------
        data : array, shape (n, ..., features)
            Statistics are taken over all axes but the last, in float64.
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


@layers.register()
@dataclass(frozen=True, eq=False)
class Dense(Layer):
    """``activation(x @ kernel + bias)``.

    Parameters
    ----------
    units : int
        Number of outputs.
    activation : str, ActivationFunction or function, optional
        None for linear.
    use_bias : bool, default True
    kernel_initializer, bias_initializer : str or Initializer
        Default glorot_uniform and zeros.
    kernel_regularizer : str or L1L2, optional
    input_shape : tuple of int, optional
        As the first layer of a `Sequential`, in place of an `Input`.

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
    input_shape: Shape | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        set_field(self, "units", check_count("Dense", "units", self.units))
        set_field(self, "activation", activations.get(self.activation))
        set_field(self, "kernel_initializer", initializers.get(self.kernel_initializer))
        set_field(self, "bias_initializer", initializers.get(self.bias_initializer))
        set_field(self, "kernel_regularizer", regularizers.get(self.kernel_regularizer))

    def output_shape(self, *shapes: Shape) -> Shape:
        (shape,) = self._one(shapes)
        if len(shape) != 1:
            raise ShapeError("expects one axis per sample; put a Flatten layer before it")
        return (self.units,)

    def variables(self, scope: str, *shapes: Shape) -> tuple[Variable, ...]:
        kernel_shape = (shapes[0][0], self.units)
        kernel = Variable(
            scope, "kernel", kernel_shape, self.kernel_initializer, self.kernel_regularizer
        )
        if not self.use_bias:
            return (kernel,)
        return kernel, Variable(scope, "bias", (self.units,), self.bias_initializer)


@layers.register()
@dataclass(frozen=True, eq=False)
class Activation(Layer):
    """An activation function as a layer of its own."""

    activation: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        set_field(self, "activation", activations.get(self.activation))


@layers.register()
@dataclass(frozen=True, eq=False)
class Lambda(Layer):
    """A function of your own, applied to each value: ``Lambda(lambda x: x**2)``.

    Parameters
    ----------
    function : callable or ExpressionActivation
        As for `gpunn.activations.from_function`.
    """

    function: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.function, str) or self.function is None:
            raise ArgumentTypeError(
                f"Lambda: function must be a function of one value, not {self.function!r}; "
                f"activations with names go into an Activation layer."
            )
        set_field(self, "function", activations.get(self.function))


@layers.register()
@dataclass(frozen=True, eq=False)
class Dropout(Layer):
    """In training, each value is set to 0 with probability `rate`, the others are scaled up.

    Parameters
    ----------
    rate : float
        At least 0 and below 1; kept values are divided by ``1 - rate``.
    """

    rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        set_field(self, "rate", check_number("Dropout", "rate", self.rate, minimum=0, below=1))


@layers.register()
@dataclass(frozen=True, eq=False)
class Add(Layer):
    """The sum of inputs of one shape."""

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) < 2:
            raise ShapeError("takes a list of at least two inputs")
        if len(set(shapes)) != 1:
            raise ShapeError("expects inputs of one shape")
        return shapes[0]


@layers.register()
@dataclass(frozen=True, eq=False)
class Concatenate(Layer):
    """Inputs side by side, along the last axis.

    Parameters
    ----------
    axis : int, default -1
        The last axis is the only one supported.
    """

    axis: int = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.axis not in (-1, 1):
            raise ArgumentError(f"Concatenate: axis must be -1 (the last one), not {self.axis!r}.")

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) < 2:
            raise ShapeError("takes a list of at least two inputs")
        if any(len(shape) != 1 for shape in shapes):
            raise ShapeError("expects one axis per sample; put Flatten layers before it")
        return (sum(shape[0] for shape in shapes),)


def add(inputs: Sequence[SymbolicTensor]) -> SymbolicTensor:
    """Return ``Add()(inputs)``."""
    return Add()(inputs)


def concatenate(inputs: Sequence[SymbolicTensor]) -> SymbolicTensor:
    """Return ``Concatenate()(inputs)``."""
    return Concatenate()(inputs)


_ELSEWHERE = (
    ("convolutions", ("Conv", "SeparableConv", "DepthwiseConv", "UpSampling", "ZeroPadding")),
    ("pooling", ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")),
    ("recurrent layers", ("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "TimeDistributed")),
    ("attention", ("Attention", "MultiHeadAttention", "AdditiveAttention")),
    ("embeddings and text", ("Embedding", "TextVectorization", "StringLookup", "Hashing")),
)


def __getattr__(name: str) -> Any:
    for kind, beginnings in _ELSEWHERE:
        if name.startswith(beginnings):
            raise AttributeError(
                f"gpunn has no layer {name}: it trains multilayer perceptrons and does no {kind}."
            )
    known = ", ".join(sorted(c.__name__ for c in Layer.__subclasses__()))
    raise AttributeError(f"gpunn.layers has no {name!r}; its layers are {known}.")
