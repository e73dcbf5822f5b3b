"""Losses and metrics as functions of arrays, with Keras's names and definitions.

Each takes ``(y_true, y_pred)`` and returns one value per sample: for regression, the mean over the
last axis. Given to `Model.compile`, they stand for the loss or metric of their name; training
itself never calls them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpunn.errors import ShapeError
from gpunn.specs.registry import check_number

Array = NDArray[Any]

# Distance from 0 and 1 that probabilities are clipped to, as in Keras.
EPSILON = 1e-7


def _floats(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[Array, Array]:
    predictions = np.asarray(y_pred)
    if predictions.dtype.kind != "f":
        predictions = predictions.astype(np.float32)
    targets = np.asarray(y_true).astype(predictions.dtype)
    if targets.ndim == predictions.ndim - 1 and predictions.shape[-1:] == (1,):
        targets = targets[..., np.newaxis]
    elif predictions.ndim == targets.ndim - 1 and targets.shape[-1:] == (1,):
        predictions = predictions[..., np.newaxis]
    if targets.shape != predictions.shape:
        raise ShapeError(
            f"y_true and y_pred must have one shape, not {targets.shape} and {predictions.shape}."
        )
    return targets, predictions


def mean_squared_error(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """Mean of ``(y_true - y_pred)**2`` over the last axis.

    Parameters
    ----------
    y_true, y_pred : array_like, shape (..., outputs)
        Targets and predictions.

    Returns
    -------
    ndarray, shape (...)
        One value per sample, in the floating-point type of `y_pred`.

    Raises
    ------
    ShapeError
        The shapes differ.
    """
    targets, predictions = _floats(y_true, y_pred)
    return np.mean(np.square(targets - predictions), axis=-1)


def mean_absolute_error(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """Mean of ``|y_true - y_pred|`` over the last axis.

    Parameters
    ----------
    y_true, y_pred : array_like, shape (..., outputs)
        Targets and predictions.

    Returns
    -------
    ndarray, shape (...)
        One value per sample, in the floating-point type of `y_pred`.

    Raises
    ------
    ShapeError
        The shapes differ.
    """
    targets, predictions = _floats(y_true, y_pred)
    return np.mean(np.abs(targets - predictions), axis=-1)


def huber(y_true: ArrayLike, y_pred: ArrayLike, delta: float = 1.0) -> Array:
    """Mean of ``e**2 / 2`` for ``|e| <= delta``, else ``delta * |e| - delta**2 / 2``.

    Parameters
    ----------
    y_true, y_pred : array_like, shape (..., outputs)
        Targets and predictions; ``e`` is their difference.
    delta : float, default 1.0
        Error at which the loss becomes linear; above 0.

    Returns
    -------
    ndarray, shape (...)
        One value per sample, in the floating-point type of `y_pred`.

    Raises
    ------
    ArgumentError, ArgumentTypeError, ShapeError
        `delta` is not a number above 0, or the shapes differ.
    """
    check_number("huber", "delta", delta, above=0)
    targets, predictions = _floats(y_true, y_pred)
    error = np.abs(targets - predictions)
    values = np.where(error <= delta, 0.5 * error * error, delta * error - 0.5 * delta**2)
    return np.mean(values, axis=-1).astype(predictions.dtype)


def binary_crossentropy(
    y_true: ArrayLike, y_pred: ArrayLike, from_logits: bool = False, label_smoothing: float = 0.0
) -> Array:
    """Mean of ``-t * log(p) - (1 - t) * log(1 - p)`` over the last axis.

    Parameters
    ----------
    y_true, y_pred : array_like, shape (..., outputs)
        Targets t from 0 to 1, and probabilities p or logits.
    from_logits : bool, default False
        Whether `y_pred` are logits, of which p is the sigmoid.
    label_smoothing : float, default 0.0
        ``t * (1 - label_smoothing) + label_smoothing / 2`` replaces t.

    Returns
    -------
    ndarray, shape (...)
        One value per sample, in the floating-point type of `y_pred`.

    Raises
    ------
    ShapeError
        The shapes differ.
    """
    targets, predictions = _floats(y_true, y_pred)
    if label_smoothing:
        targets = targets * (1 - label_smoothing) + 0.5 * label_smoothing
    if from_logits:
        softplus = np.maximum(predictions, 0) + np.log1p(np.exp(-np.abs(predictions)))
        return np.mean(softplus - targets * predictions, axis=-1)
    p = np.clip(predictions, EPSILON, 1 - EPSILON)
    return np.mean(-targets * np.log(p) - (1 - targets) * np.log(1 - p), axis=-1)


def _log_probabilities(predictions: Array, from_logits: bool) -> Array:
    if from_logits:
        shifted = predictions - predictions.max(axis=-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    p = predictions / predictions.sum(axis=-1, keepdims=True)
    return np.log(np.clip(p, EPSILON, 1 - EPSILON))


def categorical_crossentropy(
    y_true: ArrayLike, y_pred: ArrayLike, from_logits: bool = False, label_smoothing: float = 0.0
) -> Array:
    """``-sum_k t_k * log(p_k)``, for one-hot targets or probabilities.

    Parameters
    ----------
    y_true, y_pred : array_like, shape (..., classes)
        Targets t, and probabilities p or logits.
    from_logits : bool, default False
        Whether `y_pred` are logits, of which p is the softmax.
    label_smoothing : float, default 0.0
        ``t * (1 - label_smoothing) + label_smoothing / classes`` replaces t.

    Returns
    -------
    ndarray, shape (...)
        One value per sample, in the floating-point type of `y_pred`.

    Raises
    ------
    ShapeError
        The shapes differ.
    """
    targets, predictions = _floats(y_true, y_pred)
    if label_smoothing:
        targets = targets * (1 - label_smoothing) + label_smoothing / targets.shape[-1]
    return -(targets * _log_probabilities(predictions, from_logits)).sum(axis=-1)


def _classes(y_true: ArrayLike, predictions: Array) -> Array:
    labels = np.asarray(y_true)
    if labels.ndim == predictions.ndim and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if labels.shape != predictions.shape[:-1]:
        raise ShapeError(
            f"y_true: expected class numbers of shape {predictions.shape[:-1]}, got {labels.shape}."
        )
    return labels.astype(np.int64)


def sparse_categorical_crossentropy(
    y_true: ArrayLike, y_pred: ArrayLike, from_logits: bool = False, label_smoothing: float = 0.0
) -> Array:
    """``-log(p_class)``, for targets that are class numbers.

    Parameters
    ----------
    y_true : array_like of int, shape (...) or (..., 1)
        Class numbers.
    y_pred : array_like, shape (..., classes)
        Probabilities p or logits.
    from_logits : bool, default False
        Whether `y_pred` are logits, of which p is the softmax.
    label_smoothing : float, default 0.0
        As in `categorical_crossentropy`, on one-hot targets.

    Returns
    -------
    ndarray, shape (...)
        One value per sample, in the floating-point type of `y_pred`.

    Raises
    ------
    ShapeError
        The shapes do not match.
    """
    predictions = np.asarray(y_pred)
    if predictions.dtype.kind != "f":
        predictions = predictions.astype(np.float32)
    labels = _classes(y_true, predictions)[..., np.newaxis]
    logs = _log_probabilities(predictions, from_logits)
    values = -np.take_along_axis(logs, labels, axis=-1)[..., 0]
    if label_smoothing:
        values = values * (1 - label_smoothing) - label_smoothing * logs.mean(axis=-1)
    return values


def binary_accuracy(y_true: ArrayLike, y_pred: ArrayLike, threshold: float = 0.5) -> Array:
    """Fraction of outputs on the same side of `threshold` as their targets.

    Parameters
    ----------
    y_true, y_pred : array_like, shape (..., outputs)
        Targets 0 or 1, and probabilities.
    threshold : float, default 0.5
        Probabilities above it are predictions of 1.

    Returns
    -------
    ndarray, shape (...)
        One value per sample, in the floating-point type of `y_pred`.

    Raises
    ------
    ShapeError
        The shapes differ.
    """
    targets, predictions = _floats(y_true, y_pred)
    return np.mean(targets == (predictions > threshold), axis=-1, dtype=predictions.dtype)


def categorical_accuracy(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """1 where the largest output is that of the one-hot target, else 0.

    Parameters
    ----------
    y_true, y_pred : array_like, shape (..., classes)
        One-hot targets, and outputs.

    Returns
    -------
    ndarray, shape (...)
        One value per sample, in the floating-point type of `y_pred`.

    Raises
    ------
    ShapeError
        The shapes differ.
    """
    targets, predictions = _floats(y_true, y_pred)
    return (targets.argmax(axis=-1) == predictions.argmax(axis=-1)).astype(predictions.dtype)


def sparse_categorical_accuracy(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """1 where the largest output is that of the target class, else 0.

    Parameters
    ----------
    y_true : array_like of int, shape (...) or (..., 1)
        Class numbers.
    y_pred : array_like, shape (..., classes)
        Outputs.

    Returns
    -------
    ndarray, shape (...)
        One value per sample, in the floating-point type of `y_pred`.

    Raises
    ------
    ShapeError
        The shapes do not match.
    """
    predictions = np.asarray(y_pred)
    correct = _classes(y_true, predictions) == predictions.argmax(axis=-1)
    return correct.astype(predictions.dtype if predictions.dtype.kind == "f" else np.float32)


# By the class of the loss, whose value for a batch is the mean of these.
OF_LOSSES = {
    "MeanSquaredError": mean_squared_error,
    "MeanAbsoluteError": mean_absolute_error,
    "Huber": huber,
    "BinaryCrossentropy": binary_crossentropy,
    "CategoricalCrossentropy": categorical_crossentropy,
    "SparseCategoricalCrossentropy": sparse_categorical_crossentropy,
}
OF_METRICS = {
    "MeanSquaredError": mean_squared_error,
    "MeanAbsoluteError": mean_absolute_error,
    "BinaryAccuracy": binary_accuracy,
    "CategoricalAccuracy": categorical_accuracy,
    "SparseCategoricalAccuracy": sparse_categorical_accuracy,
}


def elementwise(function: Callable[..., Any], y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """Mean over the last axis of a function of one target and one prediction."""
    targets, predictions = _floats(y_true, y_pred)
    return np.mean(function(targets, predictions), axis=-1)


def batch_loss(loss: Any, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: Any = None) -> Any:
    """Return the loss of a batch: the mean over samples, each multiplied by its weight."""
    options = {k: v for k, v in vars(loss).items() if k not in ("name", "reduction")}
    return weighted_mean(OF_LOSSES[type(loss).__name__](y_true, y_pred, **options), sample_weight)


def weighted_mean(values: Array, sample_weight: Any = None) -> Any:
    """Return the sum over samples, each multiplied by its weight, divided by their number."""
    if sample_weight is not None:
        values = values * np.asarray(sample_weight, values.dtype).reshape(values.shape)
    return values.mean()
