"""What a layer is, the tensors that it is called on, and its weights; without arrays."""

from __future__ import annotations

import inspect
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from gpunn.errors import ArgumentError, ArgumentTypeError, ShapeError
from gpunn.specs.constraints import Constraint
from gpunn.specs.initializers import Initializer
from gpunn.specs.registry import Registry, check_count, set_field
from gpunn.specs.regularizers import L1L2
from gpunn.specs.traced_values import SymbolicValue, check_training

Shape = tuple[int, ...]

_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.\- ]*")
_serials = itertools.count()


@dataclass(frozen=True)
class Variable:
    """A weight of a layer.

    Attributes
    ----------
    layer, name : str
        Scope and name, as in ``hidden1/kernel``.
    shape : tuple of int
        Kernels are (inputs, outputs).
    initializer : Initializer
        Its initial values.
    regularizer : L1L2 or None
        Its penalty.
    trainable : bool
        False for statistics that are not learned by gradient descent.
    constraint : Constraint or None
        Applied after each update.
    """

    layer: str
    name: str
    shape: Shape
    initializer: Initializer
    regularizer: L1L2 | None = None
    trainable: bool = True
    constraint: Constraint | None = None

    @property
    def path(self) -> str:
        """``layer/name``."""
        return f"{self.layer}/{self.name}"

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class SymbolicTensor(SymbolicValue):
    """The output of a layer call, of which only the shape is known.

    Attributes
    ----------
    shape : tuple of int
        Per sample: unlike in Keras, the batch axis is not included.
    layer : Layer
        The layer that was called.
    inputs : tuple of SymbolicTensor
        What it was called on; empty for an input.
    foreign : bool
        Whether the layer was handed out by a model: in another one it gives way where its name is
        taken.
    models : tuple of Model
        Those that were called and have returned it, the innermost first.
    """

    shape: Shape
    layer: Layer
    inputs: tuple[SymbolicTensor, ...] = ()
    foreign: bool = False
    models: tuple[object, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer:
    """Base class of layers.

    Parameters
    ----------
    name : str, optional
        Scope of the layer's weights, unique in a model. Unnamed layers are named after their
        class: ``dense``, ``dense_1``, ...
    input_shape : tuple of int, optional
        Shape of a sample, for the first layer of a `Sequential` without an `Input`.
    trainable : bool, default True
        Whether training changes the weights. It can be set later, and holds in all models that
        have the layer, from the next call that trains. A `BatchNormalization` that is not
        trainable uses its moving statistics in training, too.

    Raises
    ------
    ArgumentError
        `name` has characters other than letters, digits, ``_``, ``-``, ``.`` and spaces.
    ArgumentTypeError
        There is no such argument.
    """

    name: str | None = None
    input_shape: Shape | None = None
    trainable: bool = field(default=True, metadata={"omit_default": True})
    # Also shown in a summary.
    type_name: ClassVar[str] = "Layer"
    # Increases from layer to layer: unnamed layers are numbered in order of creation.
    serial: ClassVar[int] = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__module__.startswith("gpunn."):
            raise ArgumentTypeError(
                f"{cls.__name__}: user-defined layers are not supported, as the training step is "
                f"planned from layers that gpunn knows. To combine layers, define a gpunn.Model "
                f"with a call(self, inputs), which other models can use like a layer; for an "
                f"elementwise function use gpunn.layers.Lambda."
            )
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
                f"{type(self).__name__}: name must consist of letters, digits, '_', '-', '.' or "
                f"spaces, not {self.name!r}."
            )
        check_trainable(type(self).__name__, self.trainable)

    def __getstate__(self) -> dict[str, Any]:
        # Models pickle the weights of their layers.
        return {name: value for name, value in vars(self).items() if name != "_weights"}

    def __call__(
        self, inputs: SymbolicTensor | Sequence[SymbolicTensor], training: Any = None
    ) -> SymbolicTensor:
        """Call the layer on outputs of other layers, which adds it to a graph."""
        check_training(training)
        many = isinstance(inputs, list | tuple)
        return connect(self, tuple(inputs) if many else (inputs,))  # type: ignore[arg-type]

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the shape of the output.

        Parameters
        ----------
        *shapes : tuple of int
            Shape of a sample, for each input.

        Returns
        -------
        tuple of int
            Shape of a sample.

        Raises
        ------
        ShapeError
            The layer cannot take such inputs; the message says what it expects.
        """
        (shape,) = self._one(shapes)
        return shape

    def variables(self, scope: str, *shapes: Shape) -> tuple[Variable, ...]:
        """Return the weights of the layer, in Keras's order.

        Parameters
        ----------
        scope : str
            Name of the layer in the model.
        *shapes : tuple of int
            Shape of a sample, for each input.

        Returns
        -------
        tuple of Variable
            Names, shapes and initializers.
        """
        return ()

    @staticmethod
    def _one(shapes: tuple[Shape, ...]) -> tuple[Shape]:
        if len(shapes) != 1:
            raise ShapeError(f"takes one input, not {len(shapes)}")
        return (shapes[0],)


def connect(
    layer: Layer, inputs: Sequence[SymbolicTensor], foreign: bool = False
) -> SymbolicTensor:
    """Note a call of `layer` on `inputs`, checking their shapes."""
    for tensor in inputs:
        if not isinstance(tensor, SymbolicTensor):
            raise ArgumentTypeError(
                f"{describe(layer)} must be called on symbolic tensors (what gpunn.Input or "
                f"another layer returns), not on {type(tensor).__name__}. To run a model on "
                f"arrays use model.predict."
            )
    try:
        shape = layer.output_shape(*(tensor.shape for tensor in inputs))
    except ShapeError as error:
        sources = " and ".join(f"{describe(t.layer)} gives {t.shape}" for t in inputs)
        raise ShapeError(f"{describe(layer)} {error}; {sources}.") from None
    return SymbolicTensor(shape, layer, tuple(inputs), foreign)


def describe(layer: Layer) -> str:
    """Return how messages refer to a layer: by its class and, if it has one, its name."""
    kind = type(layer).__name__
    return f"Layer {layer.name!r} ({kind})" if layer.name else f"Layer {kind}"


def check_trainable(owner: str, value: object) -> bool:
    """Return `value`, or raise `ArgumentTypeError` unless it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ArgumentTypeError(f"{owner}: trainable must be True or False, not {value!r}.")
    return bool(value)


def _set_attribute(layer: Layer, attribute: str, value: object) -> None:
    if attribute == "trainable":
        set_field(layer, "trainable", check_trainable(layer.type_name, value))
        return
    raise ArgumentError(
        f"{layer.type_name}: {attribute} cannot be set; a layer's arguments are fixed when it is "
        f"created."
    )


layers: Registry[Layer] = Registry("layer", Layer, on_set=_set_attribute)

# Arguments of Keras's layers that gpunn's do not have, and names of Keras 2.
_KERAS_ONLY = {"activity_regularizer", "lora_rank", "lora_alpha", "quantization_config", "dtype"}
_KERAS_ONLY |= {"autocast", "gptq_unpacked_column_size", "batch_input_shape"}
_KERAS_ONLY |= {"noise_shape", "seed", "invert", "dynamic", "weights", "data_format"}
_RENAMED = {("LeakyReLU", "alpha"): "negative_slope"}


def _refuse_keyword(cls: type[Layer], name: str) -> None:
    """Raise an error if a keyword argument is not a field of the layer."""
    kind, known = cls.__name__, set(inspect.signature(cls.__init__).parameters) - {"self"}
    if name in known:
        return
    if (kind, name) in _RENAMED:
        raise ArgumentTypeError(f"{kind}: use {_RENAMED[kind, name]} instead of {name}.")
    if name in _KERAS_ONLY:
        raise ArgumentTypeError(f"{kind}: Keras's argument {name!r} is not supported; omit it.")
    raise ArgumentTypeError(
        f"{kind} has no argument {name!r}; it takes {', '.join(sorted(known))}."
    )


def check_shape(owner: str, shape: object) -> Shape:
    if isinstance(shape, int | np.integer) and not isinstance(shape, bool):
        shape = (int(shape),)
    if not isinstance(shape, tuple | list):
        raise ArgumentTypeError(f"{owner}: shape must be a tuple of sizes, not {shape!r}.")
    if any(size is None for size in shape):
        raise ArgumentError(
            f"{owner}: shape {tuple(shape)} must be known and must not include the batch axis."
        )
    return tuple(check_count(owner, "shape", size) for size in shape)


def check_last_axis(owner: str, axis: Any) -> int:
    """Return `axis` as an int; raise `ArgumentError` unless it is the last axis."""
    if axis not in (-1, 1) or isinstance(axis, bool):
        raise ArgumentError(f"{owner}: axis must be -1 (the last one), not {axis!r}.")
    return int(axis)
