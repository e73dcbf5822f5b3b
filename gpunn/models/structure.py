"""A model as a graph of layers: what it is made of, and how another model takes it in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpunn.errors import (
    ArgumentError,
    ArgumentTypeError,
    NotBuiltError,
    ShapeError,
    UnknownNameError,
)
from gpunn.models.bound_layer import BoundLayer
from gpunn.specs.graph import Graph, name_layers
from gpunn.specs.layers import Layer
from gpunn.specs.layers.base import SymbolicTensor, check_trainable, connect
from gpunn.specs.registry import set_field


class Structure:
    """Base class of models: graph, layers, names and shapes."""

    name: str
    _graph: Graph | None
    # Layers made in __init__ and wired by `call`: see gpunn/models/subclassing.py.
    _traced = False
    _tracing = False
    _symbolic: tuple[Graph, list[SymbolicTensor]] | None = None

    @property
    def graph(self) -> Graph:
        """The layers' calls in order; `NotBuiltError` if the input shape is not known yet."""
        if self._graph is None:
            ways = "Start it with gpunn.Input(shape), or give the first layer input_shape=..."
            if self._traced:
                ways = "Call fit, predict or build(input_shape) first."
            raise NotBuiltError(f"The model is not built: its input shape is not known. {ways}")
        return self._graph

    @property
    def built(self) -> bool:
        """Whether the input shape is known."""
        return self._graph is not None

    def _specs(self) -> list[Layer]:
        """Return the layers in the order of `layers`."""
        return list(self.graph.layers.values())

    @property
    def layers(self) -> list[BoundLayer]:
        """The layers in order, those of models inside it among them.

        As in Keras a `Sequential` leaves out its input; a model with a `call` of its own has the
        layers that are its attributes.
        """
        return [self._bound_layer(spec) for spec in self._specs()]

    def _bound_layer(self, spec: Layer, foreign: bool = False) -> BoundLayer:
        """Return the one handle of `spec` in this model."""
        known: dict[int, BoundLayer] = vars(self).setdefault("_bound", {})
        bound = known.get(id(spec))
        if bound is None or bound.spec is not spec:  # a copy of a model has specs of its own
            bound = known[id(spec)] = BoundLayer(self, spec, foreign)
        return bound

    def _layer_name(self, spec: Layer) -> str:
        if self._graph is not None:
            for name, layer in self._graph.layers.items():
                if layer is spec:
                    return name
        return name_layers([*self._specs(), spec])[id(spec)]

    def get_layer(self, name: str | None = None, index: int | None = None) -> BoundLayer:
        """Return a layer by name or by position.

        Parameters
        ----------
        name : str, optional
            Name of the layer.
        index : int, optional
            Position in `layers`.

        Returns
        -------
        Layer
            With its weights.

        Raises
        ------
        ArgumentError, ArgumentTypeError
            There is no such position.
        UnknownNameError
            There is no layer of that name.
        """
        layers = self.layers
        if index is not None:
            if isinstance(index, bool) or not isinstance(index, int | np.integer):
                raise ArgumentTypeError(f"get_layer: index must be a whole number, not {index!r}.")
            if not -len(layers) <= index < len(layers):
                raise ArgumentError(
                    f"get_layer: there is no layer {index}; there are {len(layers)}."
                )
            return layers[index]
        for layer in layers:
            if layer.name == name:
                return layer
        raise UnknownNameError("layer", name, [layer.name for layer in layers])

    def count_params(self) -> int:
        """Return the number of weights.

        Returns
        -------
        int
            Trained or not.
        """
        return self.graph.parameter_count()

    # Which layers are trained

    _trainable = True

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights of the layers.

        To set it sets it for each of the layers, in all models that have them; then single layers
        can be set otherwise. It holds from the next call that trains.
        """
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        value = check_trainable(type(self).__name__, value)
        vars(self)["_trainable"] = value
        for entry in self._parts():
            entry.trainable = value

    def _freeze_itself(self, trainable: bool) -> None:
        """Set `trainable` of the model alone, and not of its layers."""
        vars(self)["_trainable"] = check_trainable(type(self).__name__, trainable)

    def _parts(self) -> list[Any]:
        """Return the layers and models that the model is made of."""
        tensors = self._symbolic[1] if self._symbolic else []
        return [*dict.fromkeys(m for tensor in tensors for m in tensor.models), *self._specs()]

    @property
    def frozen_layers(self) -> frozenset[str]:
        """Names of the layers whose weights training leaves as they are."""
        names = self.graph.layers.items()
        return frozenset(n for n, layer in names if not (self._trainable and layer.trainable))

    # Inputs and outputs

    def _symbols(self) -> list[SymbolicTensor]:
        """Return the outputs of the graph's nodes, to make other models with.

        They are those that the model was made of, so that what is built on them and what the user
        has in hand are parts of one graph.
        """
        graph = self.graph
        if self._symbolic is None or self._symbolic[0] is not graph:
            tensors: list[SymbolicTensor] = []
            for node in graph.nodes:
                sources = tuple(tensors[i] for i in node.inputs)
                tensors.append(SymbolicTensor(node.shape, node.layer, sources))
            self._symbolic = (graph, tensors)
        for tensor in self._symbolic[1]:
            set_field(tensor, "foreign", True)
        return self._symbolic[1]

    @property
    def inputs(self) -> list[SymbolicTensor]:
        """The symbolic inputs; with them and a layer's `output` another model can be made."""
        return [self._symbols()[i] for i in self.graph.inputs]

    @property
    def outputs(self) -> list[SymbolicTensor]:
        """The symbolic outputs."""
        return [self._symbols()[i] for i in self.graph.outputs]

    @property
    def input(self) -> Any:
        """The symbolic input, or a list of them."""
        return _one_or_all(self.inputs)

    @property
    def output(self) -> Any:
        """The symbolic output, or a list of them."""
        return _one_or_all(self.outputs)

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs: the keys of a dict given to `fit` as x."""
        return list(self.graph.input_names())

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs: the keys of a dict given to `fit` as y."""
        return list(self.graph.output_names())

    @property
    def input_shape(self) -> Any:
        """Shape of the input with None for the batch axis, or a list of them."""
        return _one_or_all([(None, *tensor.shape) for tensor in self.inputs])

    @property
    def output_shape(self) -> Any:
        """Shape of the output with None for the batch axis, or a list of them."""
        return _one_or_all([(None, *tensor.shape) for tensor in self.outputs])

    # As a part of another model

    def _nest(self, inputs: Any) -> Any:
        """Wire the layers anew to `inputs`, for another model."""
        graph = self.graph
        given = self._given(inputs)
        tensors: dict[int, SymbolicTensor] = dict(zip(graph.inputs, given, strict=True))
        for position, node in enumerate(graph.nodes):
            if position in tensors:
                if tensors[position].shape != node.shape:
                    raise ShapeError(
                        f"Model {self.name!r}: its input {node.name!r} has shape {node.shape}, it "
                        f"is called on {tensors[position].shape}."
                    )
                continue
            sources = [tensors[i] for i in node.inputs]
            tensors[position] = connect(node.layer, sources, foreign=True)
        return _one_or_all([tensors[i] for i in graph.outputs])

    def _given(self, inputs: Any) -> Sequence[SymbolicTensor]:
        names = self.graph.input_names()
        if isinstance(inputs, Mapping) and set(inputs) == set(names):
            inputs = [inputs[name] for name in names]
        many = leaves(inputs)
        if len(many) != len(names) or not all(isinstance(t, SymbolicTensor) for t in many):
            raise ArgumentTypeError(
                f"Model {self.name!r} is called on {len(names)} symbolic tensor(s), one for each "
                f"of {list(names)}."
            )
        return many


def _one_or_all(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def check_keys(tensors: Mapping[str, Any], owner: str) -> None:
    """Raise `ArgumentError` where a key is not the name of the layer whose output it stands for."""
    for key, tensor in tensors.items():
        name = tensor.layer.name if isinstance(tensor, SymbolicTensor) else key
        if name != key:
            given = "has none" if name is None else f"is {name!r}"
            raise ArgumentError(
                f"{owner}: {key!r} must be the name of its layer, which {given}; make the layer "
                f"with name={key!r}."
            )


def leaves(structure: Any) -> list[Any]:
    """Return the tensors of a (nested) list, tuple or dict in order."""
    if isinstance(structure, Mapping):
        structure = list(structure.values())
    if isinstance(structure, list | tuple):
        return [leaf for value in structure for leaf in leaves(value)]
    return [structure]
