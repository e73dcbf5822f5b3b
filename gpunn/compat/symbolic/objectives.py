"""Losses and metrics of a batch, made of gpunn's loss and metric specs.

What one row contributes (`PerRow`) cannot be computed by itself; its mean over the batch, a
`Scalar`, can, and so can weighted sums of such means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunn.compat.symbolic.graph import Tensor, TensorGraph, TensorShape, describe, same_graph
from gpunn.compat.symbolic.placeholders import Placeholder
from gpunn.compat.symbolic.values import as_values
from gpunn.errors import ArgumentError, ArgumentTypeError, ShapeError
from gpunn.specs import layers
from gpunn.specs.losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Huber,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
)
from gpunn.specs.metrics import Metric

OBJECTIVES = (
    "Losses are the tf.reduce_mean of tf.nn.sparse_softmax_cross_entropy_with_logits, "
    "softmax_cross_entropy_with_logits, sigmoid_cross_entropy_with_logits, "
    "tf.square(predictions - y) or tf.abs(predictions - y); metrics that of tf.nn.in_top_k or "
    "tf.equal(tf.argmax(logits, 1), y)"
)


@dataclass(frozen=True)
class Term:
    """A loss or metric of predictions and labels.

    Attributes
    ----------
    spec : Loss or Metric
    predictions : Values
    labels : Placeholder
    sparse : bool
        Whether labels are class numbers.
    """

    spec: Loss | Metric
    predictions: Any
    labels: Placeholder
    sparse: bool


class PerRow(Tensor):
    """What each row of the batch contributes to a mean: `reduce_mean` takes it."""

    def __init__(
        self, name: str, term: Term, graph: TensorGraph, columns: tuple[Any, ...] = ()
    ) -> None:
        super().__init__(name, TensorShape((None, *columns)), np.float32, graph)
        self.term = term


class Difference(Tensor):
    """``predictions - y``, of which `square` and `abs` make losses."""

    def __init__(self, name: str, predictions: Any, labels: Placeholder) -> None:
        super().__init__(name, predictions.get_shape(), np.float32, predictions.graph)
        self.predictions, self.labels = predictions, labels


class ArgMax(Tensor):
    """The position of each row's largest value: the class."""

    def __init__(self, name: str, values: Any) -> None:
        super().__init__(name, TensorShape((None,)), np.int64, values.graph)
        self.values = values


class Scalar(Tensor):
    """One number for a batch: a weighted sum of mean losses or metrics.

    Attributes
    ----------
    terms : tuple of (float, Term)
    """

    def __init__(
        self, name: str, terms: tuple[tuple[float, Term], ...], graph: TensorGraph
    ) -> None:
        super().__init__(name, TensorShape(()), np.float32, graph)
        self.terms = terms


def ends_with(predictions: Any, function: str) -> bool:
    """Return whether the last thing done to `predictions` is this activation function."""
    layer = predictions.symbolic.layer
    return isinstance(layer, layers.Activation) and layer.activation.name == function


def _labels(owner: str, argument: str, labels: Any) -> Placeholder:
    if not isinstance(labels, Placeholder):
        raise ArgumentTypeError(
            f"{owner}: {argument} must be a placeholder, not {describe(labels)}."
        )
    return labels


def class_numbers(owner: str, argument: str, labels: Any) -> Placeholder:
    """Check that `labels` are a placeholder of class numbers."""
    labels = _labels(owner, argument, labels)
    if np.dtype(labels.dtype).kind not in "iu":
        raise ArgumentTypeError(
            f"{owner}: {argument} must be class numbers, but placeholder {labels.name!r} is "
            f"{np.dtype(labels.dtype)}; make it tf.int64."
        )
    if labels.shape is not None and len(labels.shape) != 1:
        raise ShapeError(
            f"{owner}: {argument} must be class numbers of shape (None,), but placeholder "
            f"{labels.name!r} has shape {tuple(labels.shape)}; for one-hot labels use "
            f"softmax_cross_entropy_with_logits."
        )
    return labels


def labels_like(owner: str, argument: str, labels: Any, predictions: Any) -> Placeholder:
    """Check that `labels` are numbers of the shape of `predictions`."""
    labels = _labels(owner, argument, labels)
    if not labels.is_float:
        raise ArgumentTypeError(
            f"{owner}: {argument} must be floats, but placeholder {labels.name!r} is "
            f"{np.dtype(labels.dtype)}; make it tf.float32."
        )
    wanted = tuple(predictions.get_shape())
    shape = None if labels.shape is None else tuple(labels.shape)
    if shape is None or shape[1:] != wanted[1:]:
        raise ShapeError(
            f"{owner}: placeholder {labels.name!r} must have the shape of {predictions.name!r}, "
            f"{wanted}; it has {'none' if shape is None else shape}."
        )
    return labels


def _logits(owner: str, logits: Any, function: str, classes: int = 1) -> Any:
    logits = as_values(owner, logits)
    shape = logits.symbolic.shape
    if len(shape) != 1 or shape[0] < classes:
        raise ShapeError(
            f"{owner}: logits must have shape (None, classes) with at least {classes} classes; "
            f"{logits.name!r} has {tuple(logits.get_shape())}."
        )
    if ends_with(logits, function):
        raise ArgumentError(
            f"{owner}: takes logits, but {logits.name!r} is the result of {function}; give it what "
            f"{function} was applied to."
        )
    return logits


def sparse_softmax_cross_entropy_with_logits(
    *, labels: Any, logits: Any, name: str = "SparseSoftmaxCrossEntropyWithLogits"
) -> PerRow:
    """``-log softmax(logits)[label]``; labels are class numbers, shape (None,)."""
    owner = "sparse_softmax_cross_entropy_with_logits"
    logits = _logits(owner, logits, "softmax", 2)
    labels = class_numbers(owner, "labels", labels)
    spec = SparseCategoricalCrossentropy(from_logits=True)
    return PerRow(name, Term(spec, logits, labels, True), same_graph(owner, logits, labels))


def softmax_cross_entropy_with_logits(
    *, labels: Any, logits: Any, name: str = "SoftmaxCrossEntropyWithLogits"
) -> PerRow:
    """``-sum(labels * log softmax(logits))``; labels are one-hot or probabilities."""
    owner = "softmax_cross_entropy_with_logits"
    logits = _logits(owner, logits, "softmax", 2)
    labels = labels_like(owner, "labels", labels, logits)
    term = Term(CategoricalCrossentropy(from_logits=True), logits, labels, False)
    return PerRow(name, term, same_graph(owner, logits, labels))


softmax_cross_entropy_with_logits_v2 = softmax_cross_entropy_with_logits


def sigmoid_cross_entropy_with_logits(
    *, labels: Any, logits: Any, name: str = "SigmoidCrossEntropyWithLogits"
) -> PerRow:
    """``-t log sigmoid(z) - (1 - t) log sigmoid(-z)`` for each logit ``z`` and label ``t``."""
    owner = "sigmoid_cross_entropy_with_logits"
    logits = _logits(owner, logits, "sigmoid")
    labels = labels_like(owner, "labels", labels, logits)
    term = Term(BinaryCrossentropy(from_logits=True), logits, labels, False)
    return PerRow(name, term, same_graph(owner, logits, labels), logits.features)


def difference(a: Any, b: Any, name: str) -> Difference:
    """Return ``predictions - y`` (or the other way round: losses are the same for both)."""
    targets = [t for t in (a, b) if isinstance(t, Placeholder)]
    if len(targets) == 2:
        # Of an input and something not used yet the latter is the target.
        targets = [t for t in targets if t._symbolic is None]
    if len(targets) != 1:
        raise ArgumentTypeError(
            f"subtract: one side must be a placeholder for the targets, the other what the network "
            f"computes; not {describe(a)} and {describe(b)}. {OBJECTIVES}."
        )
    predictions = as_values("subtract", b if targets[0] is a else a)
    same_graph("subtract", predictions, targets[0])
    return Difference(name, predictions, labels_like("subtract", "y", targets[0], predictions))


def error(owner: str, spec: Loss, tensor: Any, name: str) -> PerRow:
    """Return the loss of a difference."""
    if not isinstance(tensor, Difference):
        raise ArgumentTypeError(
            f"{owner}: is supported for predictions - y alone, not for {describe(tensor)}. "
            f"{OBJECTIVES}."
        )
    term = Term(spec, tensor.predictions, tensor.labels, False)
    return PerRow(name, term, tensor.graph, tensor.predictions.features)


def square(x: Any, name: str = "Square") -> PerRow:
    """``(predictions - y)**2``, whose mean is the mean squared error."""
    return error("square", MeanSquaredError(), x, name)


def absolute(x: Any, name: str = "Abs") -> PerRow:
    """``|predictions - y|``, whose mean is the mean absolute error."""
    return error("abs", MeanAbsoluteError(), x, name)


def huber(x: Any, delta: float, name: str) -> PerRow:
    """Huber's loss of ``predictions - y``."""
    return error("huber_loss", Huber(delta), x, name)


def reduce_mean(input_tensor: Any, name: str = "Mean") -> Scalar:
    """Return the mean over the batch of a loss or of correct predictions: a scalar to compute."""
    if not isinstance(input_tensor, PerRow):
        raise ArgumentTypeError(
            f"reduce_mean: cannot be taken of {describe(input_tensor)}. {OBJECTIVES}."
        )
    return Scalar(name, ((1.0, input_tensor.term),), input_tensor.graph)


def combine(name: str, *parts: tuple[float, Any]) -> Scalar:
    """Return a weighted sum of scalars."""
    weights: dict[Term, float] = {}
    for factor, scalar in parts:
        if not isinstance(scalar, Scalar):
            raise ArgumentTypeError(
                f"{name.lower()}: a loss can be added to other losses, not to {describe(scalar)}."
            )
        for weight, term in scalar.terms:
            weights[term] = weights.get(term, 0.0) + factor * weight
    if not all(map(math.isfinite, weights.values())):
        raise ArgumentError(f"{name.lower()}: a loss is multiplied by a number that is not finite.")
    graph = same_graph(name.lower(), *(scalar for _, scalar in parts))
    return Scalar(name, tuple((weight, term) for term, weight in weights.items()), graph)
