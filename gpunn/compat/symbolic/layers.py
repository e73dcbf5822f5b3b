"""``tf.layers``: whole layers with their variables."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.compat.symbolic.graph import Tensor, name_scope
from gpunn.compat.symbolic.placeholders import Placeholder
from gpunn.compat.symbolic.values import (
    Values,
    _new_name,
    add_bias,
    apply,
    as_values,
    flatten,
    matmul,
)
from gpunn.compat.symbolic.values import activation as activate
from gpunn.compat.symbolic.variables import InitialValue, Variable
from gpunn.errors import ArgumentError, ArgumentTypeError, ShapeError
from gpunn.specs import activations, initializers
from gpunn.specs import layers as specs
from gpunn.specs.registry import check_count

__all__ = ["dense", "dropout", "flatten", "fully_connected"]


def dense(
    inputs: Any,
    units: int,
    activation: Any = None,
    use_bias: bool = True,
    kernel_initializer: Any = None,
    bias_initializer: Any = "zeros",
    name: str = "dense",
    names: tuple[str, str] = ("kernel", "bias"),
) -> Values:
    """``activation(inputs @ kernel + bias)``, with variables of its own in the scope `name`.

    Parameters
    ----------
    inputs : Values or Placeholder, shape (None, n)
    units : int
    activation : function such as ``tf.nn.relu``, or str, optional
    use_bias : bool, default True
    kernel_initializer, bias_initializer : Initializer, str or InitialValue
        Default glorot_uniform and zeros.
    name : str
    names : tuple of str
        Of the variables within the scope.
    """
    units = check_count("dense", "units", units)
    as_values("dense", inputs)
    shape = inputs.symbolic.shape
    if len(shape) != 1:
        raise ShapeError(
            f"dense: {inputs.name!r} has shape {tuple(inputs.get_shape())}; use tf.layers.flatten "
            f"first."
        )
    with inputs.graph.as_default(), name_scope(name):
        kernel = _variable(kernel_initializer, (shape[0], units), names[0])
        result = matmul(inputs, kernel)
        values: Values = result
        if use_bias:
            values = add_bias(result, _variable(bias_initializer, (units,), names[1]), "BiasAdd")
        if activation is None:
            return values
        if callable(activation) and not isinstance(activation, activations.AnyActivation):
            known = set(inputs.graph._layers)
            try:
                # A function of the user's, with gpunn.ops ...
                spec = activations.get(activation)
            except ArgumentTypeError:
                # ... or with tf.nn, or one of tf.nn itself.
                inputs.graph._layers = known  # what it named on the way there is not
                activated = activation(values)
                if not isinstance(activated, Values):
                    raise
                return activated
        else:
            spec = activations.get(activation)
        return activate(spec, spec.name, values)


def fully_connected(
    inputs: Any,
    num_outputs: int,
    activation_fn: Any = "relu",
    weights_initializer: Any = None,
    biases_initializer: Any = "zeros",
    scope: str = "fully_connected",
) -> Values:
    """`dense` with the names of ``tf.contrib.layers`` and ReLU unless told otherwise.

    With ``biases_initializer=None`` there is no bias.
    """
    bias = biases_initializer is not None
    options = (weights_initializer, biases_initializer, scope, ("weights", "biases"))
    return dense(inputs, num_outputs, activation_fn, bias, *options)


def _variable(initializer: Any, shape: tuple[int, ...], name: str) -> Variable:
    if isinstance(initializer, InitialValue):
        if initializer.shape != shape:
            raise ShapeError(
                f"dense: the initial value of {name!r} has shape {initializer.shape}, not {shape}."
            )
        return Variable(initializer, name=name)
    spec = initializers.get("glorot_uniform" if initializer is None else initializer)
    return Variable(InitialValue("dense", shape, spec), name=name)


def dropout(inputs: Any, rate: float = 0.5, training: Any = None, name: str = "dropout") -> Values:
    """Dropout: in training steps each value is set to 0 with probability `rate`.

    Parameters
    ----------
    inputs : Values or Placeholder
    rate : float
        At least 0 and below 1; kept values are divided by ``1 - rate``.
    training : placeholder of bool, optional
        Dropout acts where a training operation is run, and nowhere else. A placeholder is checked
        against that: True must be fed with training operations, False (or nothing, where that
        is its default) without.
    """
    as_values("dropout", inputs)
    if isinstance(training, bool | np.bool_):
        raise ArgumentError(
            f"dropout: training={training} is fixed; leave it out, as dropout acts in training "
            f"steps alone, or give a placeholder: "
            f"tf.placeholder_with_default(False, shape=(), name='training')."
        )
    if training is not None and not (
        isinstance(training, Placeholder) and training.dtype == np.bool_ and training.shape == ()
    ):
        raise ArgumentTypeError(
            "dropout: training must be a placeholder of one bool: "
            "tf.placeholder_with_default(False, shape=(), name='training')."
        )
    if isinstance(rate, Tensor):
        raise ArgumentTypeError("dropout: rate must be a number, not a tensor.")
    layer = specs.Dropout(rate, name=_new_name(inputs, name))
    values = apply(layer, "dropout", name, inputs)
    if training is not None:
        values.graph.flags[id(values.symbolic)] = training
    return values
