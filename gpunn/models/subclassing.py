"""Models with a `call` of their own: traced once, with symbolic inputs, to the usual graph."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gpunn.data import batches
from gpunn.errors import (
    ArgumentError,
    ArgumentTypeError,
    GpunnError,
    NotBuiltError,
    ShapeError,
)
from gpunn.models.bound_layer import BoundLayer
from gpunn.models.structure import Structure, check_keys, leaves
from gpunn.specs.graph import Graph, trace_graph
from gpunn.specs.layers import Input, InputLayer, Layer
from gpunn.specs.layers.base import SymbolicTensor, describe
from gpunn.specs.traced_values import ADVICE, TrainingUnknown, ValueAskedError

# What a plan cannot do: the training step is known before it starts.
_STEPS = ("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics")


def check_class(cls: type) -> None:
    """Raise `ArgumentTypeError` for a model class that redefines the training step."""
    for name in _STEPS:
        if name in vars(cls):
            raise ArgumentTypeError(
                f"{cls.__name__}.{name}: gpunn's training step is planned ahead and cannot be "
                f"redefined; give compile a loss and an optimizer, and use callbacks or Trainer."
            )


def has_call(cls: type) -> bool:
    """Return whether a model class has a `call` of its own."""
    return callable(getattr(cls, "call", None))


# Layers as attributes


def adopt_layers(model: Any, value: Any) -> Any:
    """Return an attribute's value with handles in place of layers; lists are changed in place."""
    if type(value) is BoundLayer:
        if value._model is model:
            return value
        return model._bound_layer(value.spec, foreign=True)
    if isinstance(value, Layer):
        return model._bound_layer(value)
    if isinstance(value, list):
        for i, item in enumerate(value):
            value[i] = adopt_layers(model, item)
    elif isinstance(value, dict):
        for key, item in value.items():
            value[key] = adopt_layers(model, item)
    elif type(value) is tuple:
        return tuple(adopt_layers(model, item) for item in value)
    return value


def attribute_parts(model: Any) -> list[Any]:
    """Return the layers and models that a model has as attributes, in the order of setting."""

    def walk(value: Any) -> Iterator[Any]:
        if type(value) is BoundLayer:
            yield value.spec
        elif isinstance(value, Layer | Structure):
            yield value
        elif isinstance(value, dict):
            for item in value.values():
                yield from walk(item)
        elif isinstance(value, list | tuple):
            for item in value:
                yield from walk(item)

    attributes = [v for name, v in vars(model).items() if name not in ("_bound", "_symbolic")]
    return list({id(part): part for part in walk(attributes)}.values())


def attribute_layers(model: Any) -> list[Layer]:
    """Return the layers that a model has as attributes, those of models among them."""
    found: dict[int, Layer] = {}
    for part in attribute_parts(model):
        inside = isinstance(part, Structure)
        for layer in part._specs() if inside else [part]:
            if not (inside and isinstance(layer, InputLayer)):
                found.setdefault(id(layer), layer)
    return list(found.values())


# Tracing


def shapes_of(x: Any) -> Any:
    """Return the shapes of data in the structure that it has: a tuple, a list or a dict."""
    if isinstance(x, Mapping):
        return {key: shapes_of(value) for key, value in x.items()}
    if isinstance(x, tuple):
        return tuple(shapes_of(value) for value in x)
    # Other lists are rows of numbers.
    if isinstance(x, list) and x and all(len(getattr(v, "shape", ())) > 1 for v in x):
        return [shapes_of(value) for value in x]
    return batches.as_array(x, "x").shape


def symbolic_inputs(shapes: Any, name: str | None = None) -> Any:
    """Return inputs for shapes, which have the batch axis, in the same structure."""
    if isinstance(shapes, Mapping):
        return {key: symbolic_inputs(value, str(key)) for key, value in shapes.items()}
    if not isinstance(shapes, list | tuple):
        raise ArgumentTypeError(
            f"build: input_shape must be a tuple such as (None, 8), or a list or dict of such, "
            f"not {shapes!r}."
        )
    if any(isinstance(size, list | tuple | Mapping) for size in shapes):
        several = [symbolic_inputs(shape) for shape in shapes]
        return tuple(several) if isinstance(shapes, tuple) else several
    if len(shapes) < 2:
        raise ShapeError(
            f"Inputs have the shape (rows, features), not {tuple(shapes)}; for one feature use "
            f"x[:, np.newaxis]."
        )
    return Input(tuple(shapes[1:]), name=name)


def call_symbolically(model: Any, inputs: Any) -> Any:
    """Run the model's `call` on symbolic tensors; errors name its class."""
    owner = f"{type(model).__name__}.call"
    for name, value in list(vars(model).items()):
        if name not in ("_bound", "_symbolic"):
            vars(model)[name] = adopt_layers(model, value)
    call = model.call
    with_training = _takes_training(model)
    vars(model)["_tracing"] = True
    note = (
        f"{owner} is traced once, with symbolic inputs, to find out how the layers are wired; it "
        f"does not run on data."
    )
    try:
        outputs = call(inputs, training=TrainingUnknown()) if with_training else call(inputs)
    except ValueAskedError as error:
        raise ArgumentTypeError(f"{owner}: {error} {note}") from error
    except AttributeError as error:
        if isinstance(error.obj, SymbolicTensor):
            raise ArgumentTypeError(
                f"{owner}: a symbolic tensor has no {error.name!r}. {note} {ADVICE}"
            ) from error
        raise
    except (KeyError, IndexError, ValueError) as error:
        if not isinstance(error, GpunnError):  # a key or a number of inputs that is not there
            error.add_note(f"{owner} was called with {_in_words(inputs)}, as the data are.")
        raise
    finally:
        vars(model)["_tracing"] = False
    tensors = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
    if isinstance(outputs, Mapping):
        tensors = list(outputs.values())
        check_keys(outputs, owner)
    for tensor in tensors:
        if not isinstance(tensor, SymbolicTensor):
            raise ArgumentTypeError(
                f"{owner}: must return what a layer returned, or a tuple or dict of such, not "
                f"{type(tensor).__name__}. {note}"
            )
    return outputs


def _takes_training(model: Any) -> bool:
    """Return whether `call` has an argument `training`; refuse what it cannot be called with."""
    try:
        signature = inspect.signature(model.call)
        with_training = "training" in signature.parameters
        signature.bind(None, **({"training": None} if with_training else {}))
    except (ValueError, TypeError) as error:
        raise ArgumentTypeError(
            f"{type(model).__name__}.call must take (self, inputs) or (self, inputs, "
            f"training=None): {error}."
        ) from error
    return with_training


def _in_words(inputs: Any) -> str:
    if isinstance(inputs, Mapping):
        return f"a dict of inputs with the keys {list(inputs)}"
    if isinstance(inputs, list | tuple):
        return f"a {type(inputs).__name__} of {len(inputs)} inputs"
    return "one input"


def trace(model: Any, shapes: Any) -> Graph:
    """Return the graph of a model's `call` for inputs of these shapes, with the batch axis."""
    inputs = symbolic_inputs(shapes)
    tensors = leaves(inputs)
    made_before = max(tensor.layer.serial for tensor in tensors)
    outputs = call_symbolically(model, inputs)
    vars(model)["_outputs_by_name"] = isinstance(outputs, Mapping)
    graph, symbols = trace_graph(tensors, leaves(outputs))
    layers = graph.layers
    for variable in graph.variables:
        layer = layers[variable.layer]
        if layer.serial > made_before:
            raise ArgumentError(
                f"{type(model).__name__}.call makes {describe(layer)}, which has weights; make it "
                f"in __init__ (self.{variable.layer} = ...) and only call it in call."
            )
    # As in Keras weights come in the order of the attributes.
    known = {name: i for i, name in enumerate(_attribute_order(model, graph))}
    ordered = sorted(graph.variables, key=lambda v: known.get(v.layer, len(known)))
    graph = replace(graph, variables=tuple(ordered))
    vars(model)["_symbolic"] = (graph, symbols)
    return graph


def _attribute_order(model: Any, graph: Graph) -> Sequence[str]:
    names = {id(layer): name for name, layer in graph.layers.items()}
    return [names[id(layer)] for layer in attribute_layers(model) if id(layer) in names]


def set_attribute(model: Any, name: str, value: Any) -> Any:
    """Return what a model keeps as its attribute `name`."""
    if "_graph" not in vars(model):
        layers = (Layer, BoundLayer, Structure)
        if isinstance(value, layers) or (
            isinstance(value, list | tuple) and any(isinstance(v, layers) for v in value)
        ):
            raise NotBuiltError(
                f"{type(model).__name__}.__init__: call super().__init__(**kwargs) before setting "
                f"{name}."
            )
        return value
    return adopt_layers(model, value)
