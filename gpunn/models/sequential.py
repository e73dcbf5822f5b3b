"""`Sequential`: a stack of layers as a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gpunn.data import batches
from gpunn.errors import ArgumentError, ArgumentTypeError, NotBuiltError, ShapeError
from gpunn.models.bound_layer import BoundLayer
from gpunn.models.model import Model
from gpunn.specs.graph import Graph, trace_graph
from gpunn.specs.layers import Input, InputLayer, Layer
from gpunn.specs.layers.base import SymbolicTensor, describe
from gpunn.training.weight_store import graph_weights


class Sequential(Model):
    """A stack of layers.

    Parameters
    ----------
    layers : list, optional
        Layers in order. The first entry may be ``gpunn.Input(shape)``, or the first layer may
        have ``input_shape``; otherwise the model is built when it first sees data. An entry may
        be a layer of another model, or a model: they share their weights, see `Model`.
    name : str, optional
    trainable : bool, default True
        As for `Model`.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An entry is no layer or model, or is in the list twice.
    """

    _lists_inputs = False

    def __init__(
        self,
        layers: Iterable[Any] | None = None,
        *,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        self._traced = False
        self.name = name or "sequential"
        self._stack: list[Any] = []
        self._input: SymbolicTensor | None = None
        self._start(None)
        if isinstance(layers, Layer | SymbolicTensor | Model | str):
            raise ArgumentTypeError("Sequential: layers must be a list, such as [Dense(10)].")
        self._freeze_itself(trainable)
        for layer in layers or ():
            self._push(layer)
        self._rebuild()

    def add(self, layer: Any) -> None:
        """Append a layer.

        Parameters
        ----------
        layer : Layer or Model
            What computes from the output so far.

        Raises
        ------
        ArgumentError
            The model is compiled already, or the layer does not fit.
        """
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
        """Remove the last layer; the others keep their weights. Compile the model anew after it.

        Raises
        ------
        ArgumentError
            There is no layer.
        """
        if not self._stack:
            raise ArgumentError("pop: the model has no layers.")
        self._stack.pop()
        self._compiled = None
        self._rebuild()

    def _push(self, layer: Any) -> None:
        if isinstance(layer, InputLayer):  # a spec, or that of another model
            layer = Input(layer.shape, name=layer.name)
        if isinstance(layer, SymbolicTensor):
            if self._stack or self._input is not None:
                raise ArgumentError("Sequential: an Input can only come first.")
            if layer.inputs:
                raise ArgumentTypeError("Sequential: takes layers, not the output of a layer.")
            self._input = layer
            return
        if not isinstance(layer, Layer | Model):
            raise ArgumentTypeError(f"Sequential: expected a layer, got {layer!r}.")
        if layer is self:
            raise ArgumentError("Sequential: a model cannot be a layer of itself.")
        if any(_spec(layer) is _spec(other) for other in self._stack):
            what = f"model {layer.name!r}" if isinstance(layer, Model) else describe(_spec(layer))
            raise ArgumentError(f"Sequential: {what} is in the list twice.")
        if not self._stack and self._input is None:
            shape = _input_shape(layer)
            self._input = None if shape is None else Input(shape)
        self._stack.append(layer)

    def _wire(self, tensor: SymbolicTensor) -> Graph:
        first = tensor
        for layer in self._stack:
            tensor = layer(tensor)
            if not isinstance(tensor, SymbolicTensor):
                raise ArgumentError(
                    f"Sequential: model {layer.name!r} has several outputs; use gpunn.Model."
                )
        graph, tensors = trace_graph([first], [tensor])
        self._symbolic = (graph, tensors)
        return graph

    def _rebuild(self) -> None:
        """Wire the layers anew; a layer that was there before keeps its weights."""
        graph = self._wire(self._input) if self._input is not None and self._stack else None
        weights = None if graph is None else graph_weights(graph)
        self._leave_session()
        self._graph, self._known_weights = graph, weights

    def _specs(self) -> list[Layer]:
        if self._graph is None:
            entries = [e._specs() if isinstance(e, Model) else [_spec(e)] for e in self._stack]
            specs = [spec for entry in entries for spec in entry]
        else:
            specs = super()._specs()
        return [spec for spec in specs if not isinstance(spec, InputLayer)]

    def _parts(self) -> list[Any]:
        return [entry if isinstance(entry, Model) else _spec(entry) for entry in self._stack]

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Build for inputs of this shape, with the batch axis (None) in front as in Keras.

        Parameters
        ----------
        input_shape : tuple of int or None
            ``(None, 8)``.
        """
        if self.built:
            return
        shape = tuple(input_shape)
        self._build(shape[1:] if shape and shape[0] is None else shape)  # type: ignore[arg-type]

    def _build_for(self, x: Any) -> None:
        if self.built:
            return
        (x,) = batches.as_list(x, ["x"], "x")
        shape = batches.as_array(x, "x").shape
        if len(shape) < 2:
            raise ShapeError(f"x: expected shape (rows, features), got {shape}.")
        self._build(shape[1:])

    def _build(self, shape: Sequence[int]) -> None:
        if not self._stack:
            raise NotBuiltError("The model has no layers.")
        tensor = Input(shape)
        self._settle(self._wire(tensor))
        self._input = tensor

    def _nest(self, inputs: Any) -> Any:
        if self.built:
            return super()._nest(inputs)
        if not self._stack:
            raise NotBuiltError(f"Model {self.name!r} has no layers.")
        for layer in self._stack:
            inputs = layer(inputs)
        return inputs


def _spec(entry: Any) -> Any:
    return entry.spec if type(entry) is BoundLayer else entry


def _input_shape(entry: Any) -> Any:
    """Return the shape per sample that a first entry says the input has, or None."""
    if type(entry) is not BoundLayer and not isinstance(entry, Model):
        return getattr(entry, "input_shape", None)
    if isinstance(entry, Model) and not entry.built:
        first = entry._stack[0] if isinstance(entry, Sequential) and entry._stack else None
        return None if first is None else _input_shape(first)
    shape = entry.input_shape
    if shape is None or isinstance(shape, list):
        return None
    return shape[1:] if shape[:1] == (None,) else shape
