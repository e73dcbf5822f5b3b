"""Tensors computed for each row of a batch, each of them a call of one of gpunn's layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn.compat.symbolic.graph import (
    Tensor,
    TensorGraph,
    TensorShape,
    describe,
    get_default_graph,
    same_graph,
)
from gpunn.compat.symbolic.placeholders import Placeholder
from gpunn.compat.symbolic.variables import Variable
from gpunn.errors import ArgumentError, ArgumentTypeError, ShapeError
from gpunn.specs import initializers, layers
from gpunn.specs.activations import AnyActivation
from gpunn.specs.graph import Variable as LayerVariable
from gpunn.specs.layers.base import SymbolicTensor

SUPPORTED = (
    "A network is made of placeholders, tf.matmul(X, W) + b (or tf.layers.dense), the activation "
    "functions in tf.nn, dropout, tf.concat, tf.layers.flatten, the sum of two tensors of one "
    "shape, and numbers to add or to multiply with"
)


class Values(Tensor):
    """Values of shape (None, ...): a row for each row of the batch.

    Attributes
    ----------
    symbolic : SymbolicTensor
        The layer call that computes them.
    """

    def __init__(self, name: str, symbolic: SymbolicTensor | None, graph: Any, shape: Any) -> None:
        super().__init__(name, TensorShape((None, *shape)), np.float32, graph)
        self._symbolic = symbolic
        graph.values.append(self)

    @property
    def symbolic(self) -> SymbolicTensor:
        assert self._symbolic is not None
        return self._symbolic

    @property
    def features(self) -> tuple[int, ...]:
        """The shape per row."""
        return tuple(size for size in self.get_shape()[1:] if size is not None)


def as_values(owner: str, tensor: Any) -> Any:
    """Return `tensor` if it can be read by a layer, or raise saying what can."""
    if isinstance(tensor, Values | Placeholder):
        return tensor
    raise ArgumentTypeError(f"{owner}: cannot be used on {describe(tensor)}. {SUPPORTED}.")


def apply(layer: layers.Layer, owner: str, name: str, *inputs: Any) -> Values:
    """Return what `layer` makes of `inputs`; tensors of one graph."""
    tensors = [as_values(owner, tensor) for tensor in inputs]
    graph = same_graph(owner, *tensors)
    symbolic = layer([tensor.symbolic for tensor in tensors])
    return Values(name, symbolic, graph, symbolic.shape)


class Product(Values):
    """``tf.matmul(X, W)``, which becomes a dense layer, with the bias that is added to it."""

    def __init__(self, name: str, inputs: Any, kernel: Variable) -> None:
        super().__init__(name, None, kernel.graph, kernel.get_shape()[1:])
        self.source, self.kernel = inputs, kernel

    @property
    def symbolic(self) -> SymbolicTensor:
        if self._symbolic is None:
            self._symbolic = _dense(self.kernel, None)(self.source.symbolic)
        return self._symbolic

    def with_bias(self, bias: Variable, name: str) -> Values:
        """Return ``self + bias``."""
        symbolic = _dense(self.kernel, bias)(self.source.symbolic)
        if self in self.graph.values and self._symbolic is None:
            self.graph.values.remove(self)
        return Values(name, symbolic, self.graph, symbolic.shape)


def layer_variables(graph: TensorGraph) -> tuple[LayerVariable, ...]:
    """Return the variables of all dense layers, in the order in which those were put together.

    Products that nothing was added to become layers without a bias now.
    """
    for tensor in list(graph.values):
        if isinstance(tensor, Product) and tensor.kernel.product is None:
            _ = tensor.symbolic
    return tuple(
        variable
        for layer, kernel, _ in graph.denses
        for variable in layer.variables(layer.name, kernel.initial_value.shape[:1])
    )


def _dense(kernel: Variable, bias: Variable | None) -> layers.Dense:
    """Return the dense layer of these variables: one and the same for each pair."""
    if kernel.product is not None:
        layer, known = kernel.product
        if known is bias:
            return layer
        names = [
            f"with bias {b.name!r}" if b is not None else "without bias" for b in (known, bias)
        ]
        raise ArgumentError(
            f"Variable {kernel.name!r} is used {names[0]}, and now {names[1]}: a kernel belongs to "
            f"one layer. Add the bias before anything else reads the product."
        )
    if bias is not None and bias.path is not None:
        raise ArgumentError(
            f"Variable {bias.name!r} is the bias of another layer already; make one for each."
        )
    scope = kernel.name.rpartition("/")[0]
    units = kernel.initial_value.shape[1]
    layer = layers.Dense(
        units,
        use_bias=bias is not None,
        kernel_initializer=_initializer(kernel),
        bias_initializer=_initializer(bias),
        name=kernel.graph.layer_name(scope, kernel.name),
    )
    kernel.product, kernel.path = (layer, bias), f"{layer.name}/kernel"
    if bias is not None:
        bias.path = f"{layer.name}/bias"
    kernel.graph.denses.append((layer, kernel, bias))
    return layer


def _initializer(variable: Variable | None) -> initializers.Initializer:
    """Return a spec that a file can hold; the values themselves are written by the session."""
    spec = None if variable is None else variable.initial_value.initializer
    return spec or initializers.Zeros()


def matmul(a: Any, b: Any, name: str = "MatMul") -> Values:
    """Return the product of a batch (None, inputs) and a `Variable` (inputs, outputs)."""
    rule = (
        "matmul: the second factor must be a tf.Variable of shape (inputs, outputs), the first "
        "the rows that it is used on"
    )
    if not isinstance(b, Variable) or isinstance(a, Variable):
        raise ArgumentTypeError(f"{rule}; products of two tensors are not supported. {SUPPORTED}.")
    kernel_shape = tuple(b.get_shape())
    if len(kernel_shape) != 2:
        raise ShapeError(f"{rule}; {b.name!r} has shape {kernel_shape}.")
    a = as_values("matmul", a)
    same_graph("matmul", a, b)
    shape = tuple(a.symbolic.shape)
    if len(shape) != 1:
        raise ShapeError(
            f"matmul: {a.name!r} has shape {tuple(a.get_shape())}; use tf.layers.flatten first."
        )
    if shape[0] != kernel_shape[0]:
        raise ShapeError(
            f"matmul: {a.name!r} of shape {tuple(a.get_shape())} has {shape[0]} columns, but "
            f"{b.name!r} of shape {kernel_shape} has {kernel_shape[0]} rows."
        )
    return Product(name, a, b)


def add_bias(product: Any, bias: Variable, name: str) -> Values:
    """Return ``product + bias``."""
    if not isinstance(product, Product):
        what = getattr(product, "name", product)
        raise ArgumentTypeError(
            f"add: variable {bias.name!r} can be added to the product tf.matmul(X, W) as its bias, "
            f"not to {what!r}; other operations on variables are not supported."
        )
    same_graph("add", product, bias)
    width, shape = product.get_shape()[1], tuple(bias.get_shape())
    if shape != (width,):
        raise ShapeError(
            f"add: {bias.name!r} must have shape ({width},) to be the bias of {product.name!r}, "
            f"it has {shape}."
        )
    return product.with_bias(bias, name)


def activation(function: AnyActivation, name: str, features: Any) -> Values:
    """Return an activation function of a tensor."""
    layer = layers.Activation(function, name=_new_name(features, name))
    return apply(layer, name.lower(), name, features)


def _new_name(tensor: Any, name: str) -> str:
    graph = tensor.graph if isinstance(tensor, Tensor) else get_default_graph()
    return graph.layer_name(f"{graph._scope}{name}")


def add_values(a: Any, b: Any, name: str) -> Values:
    """Return the sum of two tensors of one shape."""
    for tensor in (a, b):
        as_values("add", tensor)
    if a.features != b.features:
        raise ShapeError(
            f"add: {a.name!r} has shape {tuple(a.get_shape())}, {b.name!r} {tuple(b.get_shape())}; "
            f"they must be equal."
        )
    return apply(layers.Add(name=_new_name(a, name)), "add", name, a, b)


def rescale(tensor: Any, scale: float, offset: float, name: str) -> Values:
    """Return ``tensor * scale + offset``."""
    as_values(name.lower(), tensor)
    layer = layers.Rescaling(scale, offset, name=_new_name(tensor, name))
    return apply(layer, name.lower(), name, tensor)


def concat(values: Sequence[Any], axis: int = 1, name: str = "concat") -> Values:
    """Return tensors of shape (None, n) side by side; `axis` is 1 or -1."""
    if not isinstance(values, list | tuple) or len(values) < 2:
        raise ArgumentTypeError("concat: values must be a list of at least two tensors.")
    layer = layers.Concatenate(axis, name=_new_name(values[0], name))
    return apply(layer, "concat", name, *values)


def flatten(inputs: Any, name: str = "flatten") -> Values:
    """Return each row's values in one axis: (None, 28, 28) becomes (None, 784)."""
    return apply(layers.Flatten(name=_new_name(inputs, name)), "flatten", name, inputs)


def reshape(tensor: Any, shape: Any, name: str = "Reshape") -> Values:
    """Return `flatten` of a tensor: `shape` must be ``(-1, values per row)``."""
    as_values("reshape", tensor)
    size = int(np.prod(tensor.features))
    if tuple(shape) not in ((-1, size), (None, size)):
        raise ShapeError(
            f"reshape: the shape of {tensor.name!r} can become (-1, {size}) alone, not "
            f"{tuple(shape)}; it keeps the rows."
        )
    return flatten(tensor, name)
