"""Layers as specs: small frozen objects that know shapes and weights, and hold no arrays.

To add a layer: a class here that gives `output_shape` and `variables`, registered by its name,
and its part of the plan in ``gpunn/plan/units.py``.
"""

from __future__ import annotations

import inspect
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any, ClassVar

import numpy as np

from gpunn import activations, constraints, initializers, regularizers
from gpunn.activations import ActivationFunction
from gpunn.errors import ArgumentError, ArgumentTypeError, DataError, ShapeError
from gpunn.graph import Shape, SymbolicTensor, Variable, connect
from gpunn.registry import Registry, check_count, check_number, set_field

_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.\- ]*")
_serials = itertools.count()


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer:
    """Base class of layers.

    Parameters
    ----------
    name : str, optional
        Scope of the layer's weights; unique in a model. Unnamed layers are named after their
        kind: ``dense``, ``dense_1``, ...
    input_shape : tuple of int, optional
        As the first layer of a `Sequential`, in place of an `Input`.
    """

    name: str | None = None
    input_shape: Shape | None = None
    # Also the kind in a summary.
    type_name: ClassVar[str] = "Layer"
    # Rises from layer to layer: unnamed ones are numbered as they were made.
    serial: ClassVar[int] = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.type_name = cls.__name__

    def __new__(cls, *args: Any, **kwargs: Any) -> Layer:
        for name in kwargs:
            if name not in cls.__dataclass_fields__:
                _refuse_keyword(cls, name)
        layer = super().__new__(cls)
        set_field(layer, "serial", next(_serials))
        return layer

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

# What Keras's layers take and gpunn's do not, and what Keras 2 called otherwise.
_KERAS_ONLY = {"activity_regularizer", "lora_rank", "lora_alpha", "quantization_config", "dtype"}
_KERAS_ONLY |= {"trainable", "autocast", "gptq_unpacked_column_size", "batch_input_shape"}
_KERAS_ONLY |= {"noise_shape", "seed", "invert", "dynamic", "weights", "data_format"}
_RENAMED = {("LeakyReLU", "alpha"): "negative_slope"}


def _refuse_keyword(cls: type[Layer], name: str) -> None:
    """Raise the error for a keyword argument that is no field of the layer."""
    kind, known = cls.__name__, set(inspect.signature(cls.__init__).parameters) - {"self"}
    if name in known:
        return
    if (kind, name) in _RENAMED:
        raise ArgumentTypeError(f"{kind}: {name} is called {_RENAMED[kind, name]}.")
    if name in _KERAS_ONLY:
        raise ArgumentTypeError(f"{kind}: gpunn has no {name!r}, as Keras has; leave it out.")
    raise ArgumentTypeError(
        f"{kind} has no argument {name!r}; it takes {', '.join(sorted(known))}."
    )


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
    """Where data enters: ``shape`` per sample; Keras 2 called it ``input_shape``."""

    shape: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.shape is None) == (self.input_shape is None):
            raise ArgumentTypeError("InputLayer: give its shape, such as InputLayer(shape=(8,)).")
        shape = self.input_shape if self.shape is None else self.shape
        set_field(self, "shape", _check_shape("Input", shape))
        set_field(self, "input_shape", None)

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
    return connect(InputLayer(shape, name=name), ())


@layers.register()
@dataclass(frozen=True, eq=False)
class Flatten(Layer):
    """All axes of a sample in one: ``(28, 28)`` becomes ``(784,)``."""

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
    kernel_regularizer, bias_regularizer : str or L1L2, optional
    kernel_constraint, bias_constraint : str or Constraint, optional
        Applied after each update.
    input_shape : tuple of int, optional
        As the first layer of a `Sequential`, in place of an `Input`.
    input_dim : int, optional
        The same as ``input_shape=(input_dim,)``.

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
            raise ShapeError("expects one axis per sample; put a Flatten layer before it")
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
class Activation(Layer):
    """An activation function as a layer of its own."""

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
    max_value, threshold : optional
        As in Keras; anything but None and 0 is refused.
    negative_slope : float, default 0.0
        At least 0.
    """

    max_value: float | None = None
    negative_slope: float = 0.0
    threshold: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("ReLU", "negative_slope", self.negative_slope, minimum=0)
        if self.max_value is not None:
            raise ArgumentError(f"ReLU: gpunn has no max_value; leave out {self.max_value!r}.")
        if self.threshold:
            raise ArgumentError(f"ReLU: gpunn has no threshold but 0, not {self.threshold!r}.")

    @property
    def activation(self) -> ActivationFunction:
        """The function."""
        slope = self.negative_slope
        return ActivationFunction("leaky_relu", slope) if slope else activations.relu


@layers.register()
@dataclass(frozen=True, eq=False)
class LeakyReLU(Layer):
    """``x`` above 0, ``negative_slope * x`` below.

    Parameters
    ----------
    negative_slope : float, default 0.3
        At least 0. (The function ``"leaky_relu"`` has 0.2 by default, also in Keras.)
    """

    negative_slope: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("LeakyReLU", "negative_slope", self.negative_slope, minimum=0)

    @property
    def activation(self) -> ActivationFunction:
        """The function."""
        return ActivationFunction("leaky_relu", self.negative_slope)


@layers.register()
@dataclass(frozen=True, eq=False)
class ELU(Layer):
    """``x`` above 0, ``alpha * (exp(x) - 1)`` below.

    Parameters
    ----------
    alpha : float, default 1.0
        At least 0.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("ELU", "alpha", self.alpha, minimum=0)

    @property
    def activation(self) -> ActivationFunction:
        """The function."""
        return ActivationFunction("elu", self.alpha)


@layers.register()
@dataclass(frozen=True, eq=False)
class Softmax(Layer):
    """``exp(x) / sum(exp(x))``, along the last axis.

    Parameters
    ----------
    axis : int, default -1
        The last axis is the only one supported.
    """

    axis: int = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.axis not in (-1, 1):
            raise ArgumentError(f"Softmax: axis must be -1 (the last one), not {self.axis!r}.")

    @property
    def activation(self) -> ActivationFunction:
        """The function."""
        return activations.softmax


@layers.register()
@dataclass(frozen=True, eq=False)
class PReLU(Layer):
    """``max(0, x) + alpha * min(0, x)``, with one learned alpha for each feature.

    Parameters
    ----------
    alpha_initializer : str or Initializer, default "zeros"
    alpha_regularizer : str or L1L2, optional
    alpha_constraint : str or Constraint, optional
        Applied after each update.
    shared_axes : None
        Keras's alphas that are shared along an axis; gpunn has none.

    Notes
    -----
    Alpha has the shape of a sample. At 0 the derivative is alpha.
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
                f"PReLU: gpunn has no shared_axes, each feature has its own alpha; leave out "
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


# The layers that are nothing but their `activation`.
ACTIVATION_LAYERS = (Activation, ReLU, LeakyReLU, ELU, Softmax)


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


def _check_normalization(layer: BatchNormalization | LayerNormalization) -> None:
    """Check what the two have in common, and make specs of names."""
    owner = type(layer).__name__
    if layer.axis not in (-1, 1) or isinstance(layer.axis, bool):
        raise ArgumentError(f"{owner}: axis must be -1 (the last one), not {layer.axis!r}.")
    set_field(layer, "axis", int(layer.axis))
    set_field(layer, "epsilon", check_number(owner, "epsilon", layer.epsilon, minimum=0))
    for name in ("center", "scale"):
        if not isinstance(getattr(layer, name), bool | np.bool_):
            value = getattr(layer, name)
            raise ArgumentTypeError(f"{owner}: {name} must be True or False, not {value!r}.")
        set_field(layer, name, bool(getattr(layer, name)))
    for name in ("beta", "gamma"):
        initializer = initializers.get(getattr(layer, f"{name}_initializer"))
        set_field(layer, f"{name}_initializer", initializer)
        regularizer = regularizers.get(getattr(layer, f"{name}_regularizer"))
        set_field(layer, f"{name}_regularizer", regularizer)


def _normalized_shape(shape: Shape) -> Shape:
    if len(shape) != 1:
        raise ShapeError("expects one axis per sample; put a Flatten layer before it")
    return shape


def _gamma_and_beta(
    layer: BatchNormalization | LayerNormalization, scope: str, size: Shape
) -> tuple[Variable, ...]:
    gamma = Variable(scope, "gamma", size, layer.gamma_initializer, layer.gamma_regularizer)
    beta = Variable(scope, "beta", size, layer.beta_initializer, layer.beta_regularizer)
    return (gamma,) * layer.scale + (beta,) * layer.center


@layers.register()
@dataclass(frozen=True, eq=False)
class BatchNormalization(Layer):
    """``(x - mean) / sqrt(variance + epsilon) * gamma + beta``, feature by feature.

    In training, mean and (biased) variance are those of the batch, and move the statistics kept
    in the layer: ``moving = moving * momentum + batch * (1 - momentum)``. `evaluate` and
    `predict` normalize by the moving statistics.

    Parameters
    ----------
    axis : int, default -1
        The last axis is the only one supported.
    momentum : float, default 0.99
        Between 0 and 1.
    epsilon : float, default 1e-3
        At least 0.
    center, scale : bool, default True
        Whether there is a `beta`, and a `gamma`.
    beta_initializer, gamma_initializer : str or Initializer
        Default zeros and ones.
    moving_mean_initializer, moving_variance_initializer : str or Initializer
        Default zeros and ones.
    beta_regularizer, gamma_regularizer : str or L1L2, optional
    input_shape : tuple of int, optional
        As the first layer of a `Sequential`, in place of an `Input`.

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
    input_shape: Shape | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_normalization(self)
        momentum = check_number(
            "BatchNormalization", "momentum", self.momentum, minimum=0, maximum=1
        )
        set_field(self, "momentum", momentum)
        for name in ("moving_mean_initializer", "moving_variance_initializer"):
            set_field(self, name, initializers.get(getattr(self, name)))

    def output_shape(self, *shapes: Shape) -> Shape:
        return _normalized_shape(*self._one(shapes))

    def variables(self, scope: str, *shapes: Shape) -> tuple[Variable, ...]:
        mean, variance = (
            Variable(scope, name, shapes[0], getattr(self, f"{name}_initializer"), trainable=False)
            for name in ("moving_mean", "moving_variance")
        )
        return (*_gamma_and_beta(self, scope, shapes[0]), mean, variance)


@layers.register()
@dataclass(frozen=True, eq=False)
class LayerNormalization(Layer):
    """``(x - mean) / sqrt(variance + epsilon) * gamma + beta``, with the statistics of each row.

    Mean and (biased) variance are taken over the features of a sample, in training and after it.

    Parameters
    ----------
    axis : int, default -1
        The last axis is the only one supported.
    epsilon : float, default 1e-3
        At least 0.
    center, scale : bool, default True
        Whether there is a `beta`, and a `gamma`.
    beta_initializer, gamma_initializer : str or Initializer
        Default zeros and ones.
    beta_regularizer, gamma_regularizer : str or L1L2, optional
    input_shape : tuple of int, optional
        As the first layer of a `Sequential`, in place of an `Input`.

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
    input_shape: Shape | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_normalization(self)

    def output_shape(self, *shapes: Shape) -> Shape:
        return _normalized_shape(*self._one(shapes))

    def variables(self, scope: str, *shapes: Shape) -> tuple[Variable, ...]:
        return _gamma_and_beta(self, scope, shapes[0])


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
