"""Placeholders: what is fed in each run."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.compat.symbolic.graph import Tensor, check_shape, get_default_graph
from gpunn.errors import ArgumentError, ArgumentTypeError, ShapeError
from gpunn.specs import layers
from gpunn.specs.layers.base import SymbolicTensor

FLOATS = (np.float32, np.float64)


class Placeholder(Tensor):
    """What is fed in each run; see `placeholder`.

    Attributes
    ----------
    default : object
        Its value where none is fed; None without one.
    """

    def __init__(self, dtype: Any, shape: Any, name: str, default: Any = None) -> None:
        try:
            kind = np.dtype(dtype)
        except TypeError:
            raise ArgumentTypeError(f"placeholder: dtype {dtype!r} is not a type.") from None
        if kind.kind not in "fiub":
            raise ArgumentTypeError(
                f"placeholder {name!r}: dtype must be float, integer or bool, not {kind}."
            )
        sizes = None if shape is None else check_shape(f"placeholder {name!r}", shape)
        super().__init__(name, sizes, kind.type, get_default_graph())
        self.default = default
        self._symbolic: SymbolicTensor | None = None

    @property
    def is_float(self) -> bool:
        """Whether it is fed floats."""
        return self.dtype in FLOATS

    @property
    def features(self) -> tuple[int, ...]:
        """The shape per row."""
        return tuple(size for size in self.get_shape()[1:] if size is not None)

    @property
    def symbolic(self) -> SymbolicTensor:
        """The input that it stands for in a network."""
        if self._symbolic is None:
            shape = self.shape
            if shape is None or len(shape) < 2 or None in shape[1:]:
                known = "unknown" if shape is None else str(tuple(shape))
                raise ShapeError(
                    f"Placeholder {self.name!r} goes into the network, so its shape must be known "
                    f"but for the batch, such as (None, 784); it is {known}."
                )
            if not self.is_float and self.dtype != np.uint8:
                raise ArgumentTypeError(
                    f"Placeholder {self.name!r} goes into the network, so it must be tf.float32 "
                    f"(or tf.uint8, for images), not {np.dtype(self.dtype)}."
                )
            name = self.graph.layer_name(self.name)
            self._symbolic = layers.Input(self.features, name=name)
            self.graph.inputs[id(self._symbolic)] = self
        return self._symbolic


def placeholder(dtype: Any, shape: Any = None, name: str = "Placeholder") -> Placeholder:
    """Return a tensor whose values are fed in each run.

    Parameters
    ----------
    dtype : dtype
        ``tf.float32`` for data and one-hot targets, ``tf.int64`` or ``tf.int32`` for class
        numbers, ``tf.uint8`` for images, ``tf.bool`` for ``training``.
    shape : tuple of int or None
        ``(None, features)``: the rows of a batch are not known yet. ``()`` for a single number,
        such as a learning rate. Class numbers may leave it out.
    name : str
    """
    return Placeholder(dtype, shape, name)


def placeholder_with_default(
    default: Any, shape: Any = (), name: str = "PlaceholderWithDefault"
) -> Placeholder:
    """Return a placeholder for one number or bool that need not be fed."""
    if np.ndim(default) or tuple(shape):
        raise ArgumentError(
            f"placeholder_with_default {name!r}: is supported for single values, such as False "
            f"for training or a learning rate; shape must be ()."
        )
    return Placeholder(np.asarray(default).dtype, (), name, default)
