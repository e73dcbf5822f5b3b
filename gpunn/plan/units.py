"""Fusion of the graph's nodes into units, each of which becomes one call per direction.

Flatten costs nothing; Rescaling and Normalization of an input join its gather; an activation
and a dropout join the dense layer they follow, relu and leaky_relu a BatchNormalization or
LayerNormalization too. What is fused has no other reader. A softmax, a function of the user's, and
a sigmoid that the loss takes in, stay units of their own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from gpunn.errors import PlanError
from gpunn.specs import layers
from gpunn.specs.activations import AnyActivation, ExpressionActivation, linear
from gpunn.specs.graph import Graph, Node


@dataclass(frozen=True)
class DropoutCall:
    """A dropout: its name, its rate and the number of its random stream."""

    name: str
    rate: float
    index: int


@dataclass
class Unit:
    """A group of nodes that is computed at once.

    Attributes
    ----------
    kind : str
        input, dense, activation, expression, softmax, prelu, dropout, affine, add, average,
        multiply, concatenate, batch_normalization or layer_normalization.
    name : str
        Of the value it computes.
    inputs : list of int
        Positions of the units it reads.
    features : int
        Values per sample.
    scope : str
        Name of the layer that has the weights or statistics.
    activation, dropout
        Applied to the result, for kind dense and, of activations that are two straight lines, for
        the kinds of normalization; the function or the dropout itself for these kinds.
    scale, shift : float
        For kinds input and affine: ``values * scale + shift``.
    normalization : str or None
        For kinds input and affine: scope of the statistics, applied after scale and shift.
    layer : BatchNormalization or LayerNormalization, optional
        For these kinds: the layer, which has the constants.
    """

    kind: str
    name: str
    inputs: list[int]
    features: int
    scope: str = ""
    use_bias: bool = False
    activation: AnyActivation = linear
    dropout: DropoutCall | None = None
    scale: float = 1.0
    shift: float = 0.0
    normalization: str | None = None
    columns: list[int] = field(default_factory=list)
    layer: layers.BatchNormalization | layers.LayerNormalization | None = None


class _Fusion:
    def __init__(self, graph: Graph, sigmoid_heads: frozenset[int]) -> None:
        self.graph = graph
        self.sigmoid_heads = sigmoid_heads
        self.units: list[Unit] = []
        self.unit_of: list[int] = []
        self.readers = Counter(source for node in graph.nodes for source in node.inputs)
        self.dropouts = 0

    def run(self) -> tuple[list[Unit], list[int]]:
        for position, node in enumerate(self.graph.nodes):
            self.unit_of.append(self.place(position, node))
        return self.units, self.unit_of

    def place(self, position: int, node: Node) -> int:
        place = PLACES.get(type(node.layer))
        if place is None:
            kind = type(node.layer).__name__
            raise PlanError(f"Layer {node.name!r}: {kind} has no part in the plan.")
        return place(self, position, node)

    def new(self, kind: str, node: Node) -> int:
        sources = [self.unit_of[source] for source in node.inputs]
        unit = Unit(kind, node.name, sources, math.prod(node.shape), scope=node.layer_name)
        if kind == "concatenate":
            unit.columns = [math.prod(self.graph.nodes[source].shape) for source in node.inputs]
        self.units.append(unit)
        return len(self.units) - 1

    def fusible(self, node: Node) -> Unit | None:
        """Return the unit that `node` reads if nothing else reads it, also not the user."""
        source = node.inputs[0]
        seen = self.unit_of[source]
        members = [i for i, unit in enumerate(self.unit_of) if unit == seen]
        alone = all(
            self.readers[member] == 1 and member not in self.graph.outputs for member in members
        )
        return self.units[seen] if alone else None

    def flatten(self, position: int, node: Node) -> int:
        return self.unit_of[node.inputs[0]]

    def normalization(self, position: int, node: Node) -> int:
        layer = node.layer
        assert isinstance(layer, layers.BatchNormalization | layers.LayerNormalization)
        batch = isinstance(layer, layers.BatchNormalization)
        index = self.new("batch_normalization" if batch else "layer_normalization", node)
        self.units[index].layer = layer
        return index

    def affine(self, index: int, node: Node) -> int:
        layer = node.layer
        assert isinstance(layer, layers.Rescaling | layers.Normalization)
        unit = self.fusible(node)
        if unit is None or unit.kind not in ("input", "affine") or unit.normalization:
            position = self.new("affine", node)
            unit = self.units[position]
        else:
            position = self.unit_of[node.inputs[0]]
            unit.name = node.name
        if isinstance(layer, layers.Normalization):
            unit.normalization = node.layer_name
        else:
            unit.scale, unit.shift = (
                unit.scale * layer.scale,
                unit.shift * layer.scale + layer.offset,
            )
        return position

    def dense(self, position: int, node: Node) -> int:
        layer = node.layer
        assert isinstance(layer, layers.Dense)
        index = self.new("dense", node)
        unit = self.units[index]
        unit.use_bias = layer.use_bias
        function = layer.activation
        if isinstance(function, ExpressionActivation):
            unit.name += "/product"
            return self.function(index, node, function)
        if function.name == "softmax" or (
            function.name == "sigmoid" and position in self.sigmoid_heads
        ):
            unit.name += "/logits"
            return self.function(index, node, function)
        unit.activation = function
        return index

    def function(self, source: int, node: Node, function: AnyActivation) -> int:
        kind = "softmax" if function.name == "softmax" else "activation"
        if isinstance(function, ExpressionActivation):
            kind = "expression"
        features = math.prod(node.shape)
        self.units.append(Unit(kind, node.name, [source], features, activation=function))
        return len(self.units) - 1

    def activation(self, position: int, node: Node) -> int:
        layer = node.layer
        function: AnyActivation = (
            layer.function if isinstance(layer, layers.Lambda) else layer.activation  # type: ignore[attr-defined]
        )
        source = self.unit_of[node.inputs[0]]
        if isinstance(function, ExpressionActivation):
            return self.function(source, node, function)
        if function.name == "softmax" and len(node.shape) != 1:
            raise PlanError(f"Layer {node.name!r}: softmax expects one axis; flatten before it.")
        unit = self.fusible(node)
        plain = unit is not None and unit.activation.name == "linear" and unit.dropout is None
        if unit is not None and unit.kind != "dense":
            plain = plain and unit.layer is not None and function.negative_slope is not None
        if not plain or function.name == "softmax" or position in self.sigmoid_heads:
            return self.function(source, node, function)
        unit.activation = function  # type: ignore[union-attr]
        unit.name = node.name  # type: ignore[union-attr]
        return source

    def dropout(self, position: int, node: Node) -> int:
        layer = node.layer
        assert isinstance(layer, layers.Dropout)
        source = self.unit_of[node.inputs[0]]
        call = DropoutCall(node.name, layer.rate, self.dropouts)
        self.dropouts += 1
        if layer.rate == 0:
            return source
        unit = self.fusible(node)
        if unit is not None and unit.kind == "dense" and unit.dropout is None:
            unit.dropout = call
            unit.name = node.name
            return source
        index = self.new("dropout", node)
        self.units[index].dropout = call
        return index


def _alone(kind: str) -> Place:
    """Return what gives a layer a unit of its own."""
    return lambda fusion, position, node: fusion.new(kind, node)


# What makes units of the calls of a layer, by the layer's class.
Place = Callable[[_Fusion, int, Node], int]
PLACES: dict[type[layers.Layer], Place] = {
    layers.InputLayer: _alone("input"),
    layers.Flatten: _Fusion.flatten,
    layers.Rescaling: _Fusion.affine,
    layers.Normalization: _Fusion.affine,
    layers.Dense: _Fusion.dense,
    **dict.fromkeys(layers.ACTIVATION_LAYERS, _Fusion.activation),
    layers.Lambda: _Fusion.activation,
    layers.PReLU: _alone("prelu"),
    layers.Dropout: _Fusion.dropout,
    layers.Add: _alone("add"),
    layers.Average: _alone("average"),
    layers.Multiply: _alone("multiply"),
    layers.Concatenate: _alone("concatenate"),
    layers.BatchNormalization: _Fusion.normalization,
    layers.LayerNormalization: _Fusion.normalization,
}


def fuse(graph: Graph, sigmoid_heads: frozenset[int] = frozenset()) -> tuple[list[Unit], list[int]]:
    """Group the nodes of `graph` into units.

    Parameters
    ----------
    graph : Graph
    sigmoid_heads : set of int
        Nodes whose sigmoid the loss takes in, so that their logits must be visible.

    Returns
    -------
    units : list of Unit
        In an order in which they can run.
    unit_of : list of int
        For each node the position of the unit that computes its output.
    """
    return _Fusion(graph, sigmoid_heads).run()
