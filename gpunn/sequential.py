"""`Sequential`: a stack of layers as a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from gpunn.compiling import output_specs
from gpunn.data import batches
from gpunn.errors import ArgumentError, ArgumentTypeError, NotBuiltError, ShapeError
from gpunn.graph import Graph, SymbolicTensor, build_graph, describe
from gpunn.layers import Input, InputLayer, Layer
from gpunn.model import BoundLayer, Model


class Sequential(Model):
    """A stack of layers.

    Parameters
    ----------
    layers : list, optional
        Layers in order. The first entry may be ``gpunn.Input(shape)``, or the first layer may
        have ``input_shape``; otherwise the model is built when it first sees data.
    name : str, optional
    """

    _lists_inputs = False

    def __init__(self, layers: Iterable[Any] | None = None, *, name: str | None = None) -> None:
        self.name = name or "sequential"
        self._stack: list[Layer] = []
        self._input: SymbolicTensor | None = None
        self._start(None)
        if isinstance(layers, Layer | SymbolicTensor | str):
            raise ArgumentTypeError("Sequential: layers must be a list, such as [Dense(10)].")
        for layer in layers or ():
            self._push(layer)
        self._rebuild()

    def add(self, layer: Any) -> None:
        """Append a layer."""
        if self._compiled is not None:
            raise ArgumentError("add: the model is compiled already; add layers before compile.")
        before = list(self._stack), self._input
        self._push(layer)
        try:
            self._rebuild()
        except ArgumentError:
            self._stack, self._input = before
            raise

    def pop(self) -> None:
        """Remove the last layer; the others keep their weights. Compile the model anew after it."""
        if not self._stack:
            raise ArgumentError("pop: the model has no layers.")
        self._stack.pop()
        self._compiled = None
        self._rebuild()

    def _push(self, layer: Any) -> None:
        if isinstance(layer, SymbolicTensor | InputLayer):
            if self._stack or self._input is not None:
                raise ArgumentError("Sequential: an Input can only come first.")
            if isinstance(layer, InputLayer):
                layer = Input(layer.shape, name=layer.name)
            if layer.inputs:
                raise ArgumentTypeError("Sequential: takes layers, not the output of a layer.")
            self._input = layer
            return
        if not isinstance(layer, Layer):
            raise ArgumentTypeError(f"Sequential: expected a layer, got {layer!r}.")
        if layer in self._stack:
            raise ArgumentError(f"Sequential: {describe(layer)} is in the list twice.")
        shape = getattr(layer, "input_shape", None)
        if shape is not None and not self._stack and self._input is None:
            self._input = Input(shape)
        self._stack.append(layer)

    def _rebuild(self) -> None:
        """Wire the layers anew; a layer that was there before keeps its weights."""
        graph: Graph | None = None
        if self._input is not None and self._stack:
            tensor = self._input
            for layer in self._stack:
                tensor = layer(tensor)
            graph = build_graph([self._input], [tensor])
        self._leave_session()
        before, values = self._graph, self._values
        self._graph, self._values = graph, {}
        self._drawn.clear()
        if before is None or graph is None:
            return
        # By the layer itself: the name of an unnamed one may change.
        old = {(id(before.layers[v.layer]), v.name): values.get(v.path) for v in before.variables}
        for variable in graph.variables:
            value = old.get((id(graph.layers[variable.layer]), variable.name))
            if value is not None:
                self._values[variable.path] = value

    @property
    def layers(self) -> list[BoundLayer]:
        if self._graph is None:
            return [BoundLayer(self, layer.name or "", layer) for layer in self._stack]
        return [layer for layer in super().layers if not isinstance(layer.spec, InputLayer)]

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Build for inputs of this shape, with the batch axis (None) in front as in Keras."""
        if self.built:
            return
        shape = tuple(input_shape)
        self._build(shape[1:] if shape and shape[0] is None else shape)  # type: ignore[arg-type]

    def _build_for(self, x: Any) -> None:
        if self.built:
            return
        if not self._stack:
            raise NotBuiltError("The model has no layers.")
        (x,) = batches.as_list(x, ["x"], "x")
        shape = batches.as_array(x, "x").shape
        if len(shape) < 2:
            raise ShapeError(f"x: expected shape (rows, features), got {shape}.")
        self._build(shape[1:])

    def _build(self, shape: Sequence[int]) -> None:
        """Build, and settle what `compile` had to put off until the outputs are known."""
        self._input = Input(shape)
        self._rebuild()
        if self._compiled is not None:
            outputs = output_specs(self.graph, *self._deferred)
            optimizer = self.optimizer
            self._compiled = replace(self._compiled, outputs=outputs)
            # The same one, with a learning rate that was set since.
            self._optimizer = (self._compiled, optimizer)
