"""``tf.nn``: activation functions, dropout, cross entropies and `in_top_k`."""

from __future__ import annotations

from typing import Any

from gpunn.compat.symbolic.accuracy import in_top_k
from gpunn.compat.symbolic.layers import dropout as _dropout
from gpunn.compat.symbolic.objectives import (
    sigmoid_cross_entropy_with_logits,
    softmax_cross_entropy_with_logits,
    softmax_cross_entropy_with_logits_v2,
    sparse_softmax_cross_entropy_with_logits,
)
from gpunn.compat.symbolic.values import Values
from gpunn.compat.symbolic.values import activation as _activation
from gpunn.specs import activations

__all__ = [
    "bias_add",
    "dropout",
    "elu",
    "gelu",
    "in_top_k",
    "leaky_relu",
    "relu",
    "selu",
    "sigmoid",
    "sigmoid_cross_entropy_with_logits",
    "silu",
    "softmax",
    "softmax_cross_entropy_with_logits",
    "softmax_cross_entropy_with_logits_v2",
    "softplus",
    "sparse_softmax_cross_entropy_with_logits",
    "swish",
    "tanh",
]


def relu(features: Any, name: str = "Relu") -> Values:
    """``max(0, z)``."""
    return _activation(activations.relu, name, features)


def leaky_relu(features: Any, alpha: float = 0.2, name: str = "LeakyRelu") -> Values:
    """``z`` where it is positive, else ``alpha * z``."""
    return _activation(activations.ActivationFunction("leaky_relu", alpha), name, features)


def elu(features: Any, name: str = "Elu") -> Values:
    """``z`` where it is positive, else ``exp(z) - 1``."""
    return _activation(activations.elu, name, features)


def selu(features: Any, name: str = "Selu") -> Values:
    """The scaled `elu` of self-normalizing networks."""
    return _activation(activations.selu, name, features)


def sigmoid(x: Any, name: str = "Sigmoid") -> Values:
    """``1 / (1 + exp(-z))``."""
    return _activation(activations.sigmoid, name, x)


def tanh(x: Any, name: str = "Tanh") -> Values:
    """Hyperbolic tangent."""
    return _activation(activations.tanh, name, x)


def softmax(logits: Any, name: str = "Softmax") -> Values:
    """Probabilities of the classes."""
    return _activation(activations.softmax, name, logits)


def softplus(features: Any, name: str = "Softplus") -> Values:
    """``log(1 + exp(z))``."""
    return _activation(activations.softplus, name, features)


def silu(features: Any, name: str = "Silu") -> Values:
    """``z * sigmoid(z)``."""
    return _activation(activations.silu, name, features)


def gelu(features: Any, name: str = "Gelu") -> Values:
    """``z`` times the normal distribution function of ``z``."""
    return _activation(activations.gelu, name, features)


swish = silu


def bias_add(value: Any, bias: Any, name: str = "BiasAdd") -> Values:
    """``tf.matmul(X, W) + b``."""
    from gpunn.compat.symbolic.values import add_bias

    return add_bias(value, bias, name)


def dropout(x: Any, keep_prob: Any = None, *, rate: Any = None, name: str = "dropout") -> Values:
    """Dropout in training steps; see `gpunn.symbolic.layers.dropout`.

    Parameters
    ----------
    x : Values
    keep_prob, rate : float
        One of the two: the probability that a value is kept, or that it is set to 0.
    """
    from gpunn.compat.symbolic.graph import Tensor
    from gpunn.errors import ArgumentError, ArgumentTypeError
    from gpunn.specs.registry import check_number

    if (keep_prob is None) == (rate is None):
        raise ArgumentError("dropout: give keep_prob or rate, one of the two.")
    if isinstance(keep_prob, Tensor):
        raise ArgumentTypeError(
            "dropout: keep_prob must be a number. Dropout acts in training steps alone, so it need "
            "not be fed; or use tf.layers.dropout(X, rate, training=...)."
        )
    if rate is None:
        rate = 1 - check_number("dropout", "keep_prob", keep_prob, above=0, maximum=1)
    return _dropout(x, rate, None, name)
