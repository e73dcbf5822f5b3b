"""What all layers are: a name, shapes and weights, no arrays; and how Keras's are refused."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from gpunn.errors import ArgumentError, ArgumentTypeError, ShapeError
from gpunn.specs.graph import Shape, SymbolicTensor, Variable, connect
from gpunn.specs.registry import Registry, check_count, set_field
from gpunn.specs.traced_values import check_training

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
    trainable : bool, default True
        Whether training changes the weights. It can be set later, and holds in all models that
        have the layer, from the next call that trains. A `BatchNormalization` that is not
        trainable uses its moving statistics in training, too.
    """

    name: str | None = None
    input_shape: Shape | None = None
    trainable: bool = field(default=True, metadata={"omit_default": True})
    # Also the kind in a summary.
    type_name: ClassVar[str] = "Layer"
    # Rises from layer to layer: unnamed ones are numbered as they were made.
    serial: ClassVar[int] = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__module__.startswith("gpunn."):
            raise ArgumentTypeError(
                f"{cls.__name__}: gpunn plans the training step from layers that it knows, so that "
                f"there are none of your own. What joins layers is a gpunn.Model with a "
                f"call(self, inputs), which other models can use like a layer; a function of "
                f"single numbers goes into a gpunn.layers.Lambda."
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
                f"{type(self).__name__}: name must be letters, digits, '_', '-', '.' or spaces, "
                f"not {self.name!r}."
            )
        check_trainable(type(self).__name__, self.trainable)

    def __getstate__(self) -> dict[str, Any]:
        # Models pickle the weights of their layers.
        return {name: value for name, value in vars(self).items() if name != "_weights"}

    def __call__(
        self, inputs: SymbolicTensor | Sequence[SymbolicTensor], training: Any = None
    ) -> SymbolicTensor:
        """Call the layer on the output(s) of other layers, which wires it into a graph."""
        check_training(training)
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
        f"made."
    )


layers: Registry[Layer] = Registry("layer", Layer, on_set=_set_attribute)

# What Keras's layers take and gpunn's do not, and what Keras 2 called otherwise.
_KERAS_ONLY = {"activity_regularizer", "lora_rank", "lora_alpha", "quantization_config", "dtype"}
_KERAS_ONLY |= {"autocast", "gptq_unpacked_column_size", "batch_input_shape"}
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


def check_shape(owner: str, shape: object) -> Shape:
    if isinstance(shape, int | np.integer) and not isinstance(shape, bool):
        shape = (int(shape),)
    if not isinstance(shape, tuple | list):
        raise ArgumentTypeError(f"{owner}: shape must be a tuple of sizes, not {shape!r}.")
    if any(size is None for size in shape):
        raise ArgumentError(
            f"{owner}: shape {tuple(shape)} must be known and leave out the batch axis."
        )
    return tuple(check_count(owner, "shape", size) for size in shape)


def check_last_axis(owner: str, axis: Any) -> int:
    """Return `axis` as an int, or raise `ArgumentError` unless it is that of the features."""
    if axis not in (-1, 1) or isinstance(axis, bool):
        raise ArgumentError(f"{owner}: axis must be -1 (the last one), not {axis!r}.")
    return int(axis)
