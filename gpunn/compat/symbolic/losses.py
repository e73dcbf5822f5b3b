"""``tf.losses``: mean losses in one call."""

from __future__ import annotations

from typing import Any

from gpunn.compat.symbolic import objectives
from gpunn.compat.symbolic.arithmetic import subtract
from gpunn.compat.symbolic.objectives import Scalar, reduce_mean

__all__ = [
    "absolute_difference",
    "huber_loss",
    "mean_squared_error",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "sparse_softmax_cross_entropy",
]


def sparse_softmax_cross_entropy(labels: Any, logits: Any) -> Scalar:
    """Mean of ``tf.nn.sparse_softmax_cross_entropy_with_logits``."""
    return reduce_mean(
        objectives.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    )


def softmax_cross_entropy(onehot_labels: Any, logits: Any) -> Scalar:
    """Mean of ``tf.nn.softmax_cross_entropy_with_logits``."""
    return reduce_mean(
        objectives.softmax_cross_entropy_with_logits(labels=onehot_labels, logits=logits)
    )


def sigmoid_cross_entropy(multi_class_labels: Any, logits: Any) -> Scalar:
    """Mean of ``tf.nn.sigmoid_cross_entropy_with_logits`` over rows and logits."""
    return reduce_mean(
        objectives.sigmoid_cross_entropy_with_logits(labels=multi_class_labels, logits=logits)
    )


def mean_squared_error(labels: Any, predictions: Any) -> Scalar:
    """Mean of ``(predictions - labels)**2``."""
    return reduce_mean(objectives.square(subtract(predictions, labels)))


def absolute_difference(labels: Any, predictions: Any) -> Scalar:
    """Mean of ``|predictions - labels|``."""
    return reduce_mean(objectives.absolute(subtract(predictions, labels)))


def huber_loss(labels: Any, predictions: Any, delta: float = 1.0) -> Scalar:
    """Mean of Huber's loss: squared for errors up to `delta`, linear beyond."""
    return reduce_mean(objectives.huber(subtract(predictions, labels), delta, "HuberLoss"))
