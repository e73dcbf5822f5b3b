"""Weights under Keras's names: each of those that ``layer.weights`` lists, and the lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from gpunn.specs.layers.base import Variable

Array = np.ndarray[Any, Any]


class Owner(Protocol):
    """A model, as far as its weights and layers ask for it."""

    frozen_layers: frozenset[str]

    def _read(self, variable: Variable) -> Array: ...

    def _set(self, variables: Sequence[Variable], weights: Sequence[Any], owner: str) -> None: ...


class WeightView:
    """One weight of a model.

    Parameters
    ----------
    model : Model
    variable : Variable

    Attributes
    ----------
    name : str
        ``"kernel"``.
    path : str
        With the layer's name: ``"dense/kernel"``.
    shape : tuple of int
    trainable : bool
        Whether training changes it by its gradient; moving statistics are not trainable, nor is a
        weight of a layer that is frozen.
    """

    def __init__(self, model: Any, variable: Variable) -> None:
        self._model: Owner = model
        self._variable = variable
        self.name, self.path, self.shape = variable.name, variable.path, variable.shape
        self.trainable = variable.trainable and variable.layer not in model.frozen_layers

    def numpy(self) -> Array:
        """Return a copy of the values."""
        return self._model._read(self._variable)

    def assign(self, value: Any) -> None:
        """Set the values, an array of the same shape."""
        self._model._set([self._variable], [value], "assign")

    @property
    def dtype(self) -> str:
        """Name of the type of the values."""
        return self.numpy().dtype.name

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self.numpy(), dtype)

    def __repr__(self) -> str:
        return f"<weight {self.path} shape={self.shape} trainable={self.trainable}>"


class _HasWeights(Protocol):
    @property
    def weights(self) -> list[WeightView]: ...


class WeightLists:
    """What models and their layers list beside `weights`, which is their own."""

    @property
    def trainable_weights(self: _HasWeights) -> list[WeightView]:
        """Those that have a gradient."""
        return [weight for weight in self.weights if weight.trainable]

    @property
    def non_trainable_weights(self: _HasWeights) -> list[WeightView]:
        """Those that have none: statistics of the data, and weights of frozen layers."""
        return [weight for weight in self.weights if not weight.trainable]

    # Keras has both names.

    @property
    def variables(self: _HasWeights) -> list[WeightView]:
        """The `weights`."""
        return self.weights

    trainable_variables, non_trainable_variables = trainable_weights, non_trainable_weights
