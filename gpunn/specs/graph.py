"""The graph: layers wired to a DAG, with names and shapes checked.

Calling a layer on a `SymbolicTensor` notes the call; `build_graph` walks back from the outputs
and returns the calls in an order in which they can run. Shapes are per sample: the batch axis
is not part of them.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from gpunn.errors import ArgumentError, ArgumentTypeError, ShapeError
from gpunn.specs.traced_values import Valueless

if TYPE_CHECKING:
    from gpunn.specs.constraints import Constraint
    from gpunn.specs.initializers import Initializer
    from gpunn.specs.layers import Layer
    from gpunn.specs.regularizers import L1L2

Shape = tuple[int, ...]

# Of one variable: as many as a stream of random numbers has (see gpunn/randomness).
MAX_VALUES = 2**34


@dataclass(frozen=True, eq=False)
class SymbolicTensor(Valueless):
    """The output of a layer call, known by its shape only.

    Attributes
    ----------
    shape : tuple of int
        Per sample: unlike in Keras the batch axis, which would be None, is left out.
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
        Its first values.
    regularizer : L1L2 or None
        Its penalty.
    trainable : bool
        False for statistics that are not learned by gradient descent.
    constraint : Constraint or None
        What follows each of its updates.
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


@dataclass(frozen=True)
class Node:
    """One call of a layer.

    Attributes
    ----------
    name : str
        The layer's name; later calls of a shared layer have ``_call2`` and so on appended.
    layer : Layer
        The spec.
    layer_name : str
        Scope of the variables, the same for all calls of a layer.
    inputs : tuple of int
        Positions of the nodes whose outputs it reads.
    shape : tuple of int
        Of its output, per sample.
    """

    name: str
    layer: Layer
    layer_name: str
    inputs: tuple[int, ...]
    shape: Shape


@dataclass(frozen=True)
class Graph:
    """Layer calls in an order in which they can run."""

    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    variables: tuple[Variable, ...] = ()

    @cached_property
    def layers(self) -> Mapping[str, Layer]:
        """The layers by name, in order of their first call."""
        return {node.layer_name: node.layer for node in self.nodes}

    def input_names(self) -> tuple[str, ...]:
        """Names of the input nodes."""
        return tuple(self.nodes[i].name for i in self.inputs)

    def output_names(self) -> tuple[str, ...]:
        """Names of the output nodes."""
        return tuple(self.nodes[i].name for i in self.outputs)

    def parameter_count(self, trainable: bool | None = None) -> int:
        """Number of values in all variables, or in the (un)trainable ones."""
        return sum(v.size for v in self.variables if trainable is None or v.trainable == trainable)


def connect(
    layer: Layer, inputs: Sequence[SymbolicTensor], foreign: bool = False
) -> SymbolicTensor:
    """Note a call of `layer` on `inputs`, checking their shapes."""
    for tensor in inputs:
        if not isinstance(tensor, SymbolicTensor):
            raise ArgumentTypeError(
                f"{describe(layer)} is called on symbolic inputs (what gpunn.Input or another "
                f"layer returns), not on {type(tensor).__name__}. To run a model on arrays use "
                f"model.predict."
            )
    try:
        shape = layer.output_shape(*(tensor.shape for tensor in inputs))
    except ShapeError as error:
        sources = " and ".join(f"{describe(t.layer)} gives {t.shape}" for t in inputs)
        raise ShapeError(f"{describe(layer)} {error}; {sources}.") from None
    return SymbolicTensor(shape, layer, tuple(inputs), foreign)


def describe(layer: Layer) -> str:
    """Name a layer in a message: its name if it has one, and its kind."""
    kind = type(layer).__name__
    return f"Layer {layer.name!r} ({kind})" if layer.name else f"Layer {kind}"


def build_graph(inputs: Sequence[SymbolicTensor], outputs: Sequence[SymbolicTensor]) -> Graph:
    """Return the graph of `trace_graph`."""
    return trace_graph(inputs, outputs)[0]


def trace_graph(
    inputs: Sequence[SymbolicTensor], outputs: Sequence[SymbolicTensor]
) -> tuple[Graph, list[SymbolicTensor]]:
    """Order the calls between `inputs` and `outputs`, and name them.

    The order is Keras's: by the number of calls that follow on the longest way to an output,
    most first; where that is equal, as they are met on the way back from the outputs.

    Parameters
    ----------
    inputs, outputs : sequence of SymbolicTensor
        At least one each.

    Returns
    -------
    graph : Graph
    tensors : list of SymbolicTensor
        What each node of the graph stands for.

    Raises
    ------
    ArgumentError
        An output depends on an input that is not listed, an input is not used, something is
        listed twice, or two layers have the same name.
    """
    if not inputs or not outputs:
        raise ArgumentError("A model needs at least one input and one output.")
    for tensor in inputs:
        if not isinstance(tensor, SymbolicTensor) or tensor.inputs:
            raise ArgumentError("inputs of a model must come from gpunn.Input(shape).")
    for kind, tensors in (("input", inputs), ("output", outputs)):
        if len(set(map(id, tensors))) < len(tensors):
            raise ArgumentError(f"A model cannot have the same {kind} twice.")
    order: list[SymbolicTensor] = []
    for tensor in outputs:
        _visit(tensor, order)
    listed = set(map(id, inputs))
    for tensor in order:
        if not tensor.inputs and id(tensor) not in listed:
            raise ArgumentError(
                f"An output depends on {describe(tensor.layer)} with shape {tensor.shape}, "
                f"which is not among the model's inputs."
            )
    reached = set(map(id, order))
    for tensor in inputs:
        if id(tensor) not in reached:
            raise ArgumentError(f"{describe(tensor.layer)} is listed as an input but not used.")
    order = _by_depth(order, outputs)
    foreign = {id(tensor.layer) for tensor in order if tensor.foreign}
    names = name_layers([tensor.layer for tensor in order], foreign)
    position = {id(tensor): i for i, tensor in enumerate(order)}
    nodes: list[Node] = []
    calls: dict[str, int] = {}
    variables: dict[str, Variable] = {}
    for tensor in order:
        scope = names[id(tensor.layer)]
        calls[scope] = calls.get(scope, 0) + 1
        name = scope if calls[scope] == 1 else f"{scope}_call{calls[scope]}"
        if calls[scope] > 1 and name in names.values():
            raise ArgumentError(
                f"The name {name!r} is that of another call of layer {scope!r}; rename one of them."
            )
        shapes = [source.shape for source in tensor.inputs]
        _add_variables(tensor.layer, scope, shapes, variables)
        sources = tuple(position[id(source)] for source in tensor.inputs)
        nodes.append(Node(name, tensor.layer, scope, sources, tensor.shape))
    graph = Graph(
        tuple(nodes),
        tuple(position[id(t)] for t in inputs),
        tuple(position[id(t)] for t in outputs),
        tuple(variables.values()),
    )
    return graph, order


def _by_depth(
    order: Sequence[SymbolicTensor], outputs: Sequence[SymbolicTensor]
) -> list[SymbolicTensor]:
    """Sort calls as Keras does (``map_graph`` of its ``ops/function.py``)."""
    depths: dict[int, int] = {}
    layer_depths: dict[int, int] = {}
    for tensor in reversed(order):
        # A shared layer is as deep as the deepest of its calls that were seen so far.
        depth = max(depths.get(id(tensor), 0), layer_depths.get(id(tensor.layer), 0))
        depths[id(tensor)] = layer_depths[id(tensor.layer)] = depth
        for source in tensor.inputs:
            depths[id(source)] = max(depths.get(id(source), 0), depth + 1)
    met: dict[int, int] = {}
    seen: set[int] = set()
    stack = list(reversed(outputs))
    while stack:
        tensor = stack.pop()
        if id(tensor) not in seen:
            seen.add(id(tensor))
            met.setdefault(id(tensor.layer), len(met))
            stack.extend(reversed(tensor.inputs))
    return sorted(order, key=lambda t: (-depths[id(t)], met[id(t.layer)]))


def _visit(tensor: SymbolicTensor, order: list[SymbolicTensor]) -> None:
    """Append `tensor` after all it depends on; without recursion, nets may be deep."""
    done = set(map(id, order))
    stack = [(tensor, False)]
    while stack:
        current, ready = stack.pop()
        if id(current) in done:
            continue
        if ready:
            done.add(id(current))
            order.append(current)
        else:
            stack.append((current, True))
            stack.extend((source, False) for source in reversed(current.inputs))


def _add_variables(
    layer: Layer, scope: str, shapes: list[Shape], variables: dict[str, Variable]
) -> None:
    for variable in layer.variables(scope, *shapes):
        if variable.size > MAX_VALUES:
            raise ShapeError(
                f"{describe(layer)}: its {variable.name} of shape {variable.shape} would have "
                f"{variable.size:,} values; at most {MAX_VALUES:,} are possible."
            )
        known = variables.setdefault(variable.path, variable)
        if known.shape != variable.shape:
            raise ShapeError(
                f"{describe(layer)} is shared between inputs of different shapes: its "
                f"{variable.name} would be {known.shape} and {variable.shape}."
            )


def name_layers(layers: Sequence[Layer], foreign: Set[int] = frozenset()) -> dict[int, str]:
    """Name layers by their kind, in the order in which they were made, as Keras does.

    Parameters
    ----------
    layers : sequence of Layer
    foreign : set of int
        The ids of layers of other models: if their name is taken they get another one.

    Returns
    -------
    dict
        The names by the layers' ids.
    """
    unique = list({id(layer): layer for layer in layers}.values())
    unique.sort(key=lambda layer: layer.serial)
    names: dict[int, str] = {}
    taken: set[str] = set()
    own = [layer for layer in unique if layer.name is not None and id(layer) not in foreign]
    for layer in own:
        if layer.name in taken:
            raise ArgumentError(f"Two layers are named {layer.name!r}; names must be unique.")
        names[id(layer)] = str(layer.name)
        taken.add(names[id(layer)])
    named = [layer for layer in unique if layer.name is not None and id(layer) in foreign]
    for layer in [*named, *(layer for layer in unique if layer.name is None)]:
        base = layer.name or snake_case(layer.type_name)
        candidates = (base if i == 0 else f"{base}_{i}" for i in itertools.count())
        name = next(candidate for candidate in candidates if candidate not in taken)
        taken.add(name)
        names[id(layer)] = name
    return names


def snake_case(name: str) -> str:
    """``LeakyReLU`` -> ``leaky_re_lu``, the way Keras names layers."""
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
