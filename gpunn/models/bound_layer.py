"""A layer of a model: the spec's attributes, and its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn.errors import ArgumentError, NotBuiltError
from gpunn.models.weight_view import WeightLists, WeightView
from gpunn.specs.layers import Layer
from gpunn.specs.layers.base import SymbolicTensor, connect, describe
from gpunn.specs.traced_values import check_training

Array = np.ndarray[Any, Any]
# Weights that are attributes of their layer.
_WEIGHTS = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance", "alpha")


class BoundLayer(WeightLists):
    """A layer of a model: the spec's attributes, and its weights.

    It passes for an instance of the spec's class, and can be given to another model wherever a
    layer can: the two models then share its weights, and train them for each other.

    Parameters
    ----------
    model : Model
    spec : Layer
    foreign : bool
        Whether it was taken from another model: where its name is taken it gets another one.

    Attributes
    ----------
    spec : Layer
        What the user wrote.
    kernel, bias, gamma, beta, moving_mean, moving_variance, alpha : array
        Copies of the weights, for layers that have them.
    """

    spec: Layer

    def __init__(self, model: Any, spec: Layer, foreign: bool = False) -> None:
        vars(self).update(_model=model, spec=spec, _foreign=foreign)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.spec)

    def __reduce__(self) -> tuple[Any, ...]:
        return BoundLayer, (self._model, self.spec, self._foreign)

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # copy and pickle ask before there is a spec
            raise AttributeError(attribute)
        if attribute in _WEIGHTS and self._model.built:
            found = [v for v in self._variables() if v.name == attribute]
            if found:
                return self._model._read(found[0])
        return getattr(self.spec, attribute)

    def __setattr__(self, attribute: str, value: object) -> None:
        if attribute == "trainable":
            self.spec.trainable = value  # type: ignore[misc,assignment]
            return
        ways = "set_weights" if attribute in _WEIGHTS else "a layer made with other ones"
        raise ArgumentError(
            f"{describe(self.spec)}: {attribute} cannot be set; a layer's arguments are fixed, and "
            f"what there is for it is {ways}."
        )

    def __repr__(self) -> str:
        return f"<{type(self.spec).__name__} name={self.name}>"

    def __call__(self, inputs: Any, training: Any = None) -> SymbolicTensor:
        """Call the layer on the output(s) of other layers, for another model or in `call`."""
        check_training(training)
        many = tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)
        return connect(self.spec, many, foreign=self._foreign or not self._model._tracing)

    @property
    def name(self) -> str:
        """The layer's name in its model."""
        return self._model._layer_name(self.spec)

    def _variables(self) -> list[Any]:
        graph, name = self._model.graph, self.name
        if graph.layers.get(name) is not self.spec:
            raise NotBuiltError(f"{describe(self.spec)} is not used in model {self._model.name!r}.")
        return [v for v in graph.variables if v.layer == name]

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights; it can be set, see `gpunn.layers.Layer`."""
        return self.spec.trainable

    @property
    def weights(self) -> list[WeightView]:
        """The weights in the order of `get_weights`, with names."""
        return [WeightView(self._model, variable) for variable in self._variables()]

    def get_weights(self) -> list[Array]:
        """Return copies of the weights: kernel (inputs, outputs), bias (outputs,)."""
        return [self._model._read(v) for v in self._variables()]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the weights, in the order of `get_weights`."""
        self._model._set(self._variables(), weights, f"set_weights of layer {self.name!r}")

    def count_params(self) -> int:
        """Return the number of weights."""
        return sum(v.size for v in self._variables())

    # Its first call

    @property
    def output(self) -> SymbolicTensor:
        """The output of its first call, to make another model with."""
        self._variables()
        symbols = self._model._symbols()
        nodes = self._model.graph.nodes
        return next(t for t, node in zip(symbols, nodes, strict=True) if node.layer is self.spec)

    @property
    def input(self) -> Any:
        """What its first call reads: a tensor, or a list of them."""
        tensors = self.output.inputs or (self.output,)
        return tensors[0] if len(tensors) == 1 else list(tensors)

    @property
    def input_shape(self) -> Any:
        """Shape of the input with None for the batch axis, or a list of them."""
        if not self._model.built:
            return getattr(self.spec, "input_shape", None)
        shapes = [(None, *tensor.shape) for tensor in self.output.inputs or (self.output,)]
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """Shape of the output with None for the batch axis."""
        return (None, *self.output.shape)
