"""The lower level: a graph is built first and run later, as in plain TensorFlow 1.

``from gpunn import symbolic as tf`` and go on typing: placeholders, variables, ``tf.matmul(X, W) +
b``, a loss, an optimizer's ``minimize``, and a `Session` that runs them. Underneath are gpunn's own
layers, losses and plans: a product with its bias and activation is a dense layer, a training
operation is a training step of the plan, and feeding a batch copies it to where the plan reads it.

What can be built are the networks that gpunn has layers for; everything else is an error that says
what is supported.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.compat.symbolic import contrib, layers, losses, nn, train
from gpunn.compat.symbolic.accuracy import argmax, cast, equal
from gpunn.compat.symbolic.arithmetic import (
    add,
    add_n,
    divide,
    matmul,
    multiply,
    squared_difference,
    subtract,
)
from gpunn.compat.symbolic.graph import (
    Operation,
    Tensor,
    TensorShape,
    get_default_graph,
    name_scope,
    reset_default_graph,
    set_random_seed,
)
from gpunn.compat.symbolic.graph import (
    TensorGraph as Graph,
)
from gpunn.compat.symbolic.objectives import absolute as abs
from gpunn.compat.symbolic.objectives import reduce_mean, square
from gpunn.compat.symbolic.placeholders import placeholder, placeholder_with_default
from gpunn.compat.symbolic.saver import as_model
from gpunn.compat.symbolic.session import GraphSession as Session
from gpunn.compat.symbolic.session import get_default_session
from gpunn.compat.symbolic.values import concat, reshape
from gpunn.compat.symbolic.variables import (
    Variable,
    constant,
    constant_initializer,
    get_variable,
    global_variables,
    global_variables_initializer,
    ones,
    ones_initializer,
    random_normal,
    random_normal_initializer,
    random_uniform,
    random_uniform_initializer,
    trainable_variables,
    truncated_normal,
    truncated_normal_initializer,
    zeros,
    zeros_initializer,
)

__all__ = [
    "Graph",
    "Operation",
    "Session",
    "Tensor",
    "TensorShape",
    "Variable",
    "abs",
    "add",
    "add_n",
    "argmax",
    "as_model",
    "bool",
    "cast",
    "concat",
    "constant",
    "constant_initializer",
    "contrib",
    "divide",
    "equal",
    "float32",
    "float64",
    "get_default_graph",
    "get_default_session",
    "get_variable",
    "global_variables",
    "global_variables_initializer",
    "int32",
    "int64",
    "layers",
    "losses",
    "matmul",
    "multiply",
    "name_scope",
    "nn",
    "ones",
    "ones_initializer",
    "placeholder",
    "placeholder_with_default",
    "random_normal",
    "random_normal_initializer",
    "random_uniform",
    "random_uniform_initializer",
    "reduce_mean",
    "reset_default_graph",
    "reshape",
    "set_random_seed",
    "square",
    "squared_difference",
    "subtract",
    "train",
    "trainable_variables",
    "truncated_normal",
    "truncated_normal_initializer",
    "uint8",
    "variable_scope",
    "zeros",
    "zeros_initializer",
]

float32, float64 = np.float32, np.float64
int32, int64, uint8 = np.int32, np.int64, np.uint8
bool = np.bool_
variable_scope = name_scope


def __getattr__(name: str) -> Any:
    raise AttributeError(
        f"gpunn.symbolic has no {name!r}. It builds multilayer perceptrons from placeholders, "
        f"variables, tf.matmul(X, W) + b, tf.layers, tf.nn, tf.losses and tf.train; what there is: "
        f"{', '.join(__all__)}."
    )
