"""Data of the MLP estimators: scikit-learn's validation, and arrays that stay on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, validate_data

from gpunn.backends.interface import host_array
from gpunn.errors import ArgumentError, DataError, ShapeError
from gpunn.specs.registry import check_number

Array = np.ndarray[Any, Any]

# Dtypes that X may have; others are converted to the first, as in scikit-learn.
INPUT_TYPES = (np.float64, np.float32, np.uint8)


def on_device(value: Any) -> bool:
    """Return whether an array is in GPU memory."""
    return hasattr(value, "__cuda_array_interface__")


def check_x(estimator: Any, X: Any, *, reset: bool) -> Any:
    """Return X as (rows, features): float32, float64 or uint8; a GPU array as it is."""
    if on_device(X):
        return _check_device_x(estimator, X, reset)
    X = validate_data(
        estimator,
        X,
        accept_sparse=["csr", "csc"],
        dtype=INPUT_TYPES,
        reset=reset,
    )
    return dense(X)


def check_x_y(estimator: Any, X: Any, y: Any, *, reset: bool, y_numeric: bool) -> tuple[Any, Array]:
    """Return X as `check_x` does, and y as (rows,) or (rows, outputs) on the host."""
    if on_device(y):
        y = host_array(y)
    if on_device(X):
        X, y = _check_device_x(estimator, X, reset), np.asarray(y)
        if len(y) != len(X):
            raise ShapeError(f"y: expected {len(X)} rows, as many as X has, got {len(y)}.")
    else:
        X, y = validate_data(
            estimator,
            X,
            y,
            accept_sparse=["csr", "csc"],
            dtype=INPUT_TYPES,
            multi_output=True,
            y_numeric=y_numeric,
            reset=reset,
        )
        X = dense(X)
    if sparse.issparse(y):
        y = y.toarray()
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    return X, y


def _check_device_x(estimator: Any, X: Any, reset: bool) -> Any:
    if len(X.shape) != 2:
        raise ShapeError(f"X: expected 2 axes, (rows, features), got shape {tuple(X.shape)}.")
    if reset:
        estimator.n_features_in_ = int(X.shape[1])
        vars(estimator).pop("feature_names_in_", None)
    elif X.shape[1] != estimator.n_features_in_:
        raise ShapeError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input."
        )
    return X


def dense(X: Any) -> Any:
    """Return X as a dense array, if it fits into memory."""
    if not sparse.issparse(X):
        return X
    needed, free = X.shape[0] * X.shape[1] * X.dtype.itemsize, available_memory()
    try:
        if free is not None and needed > free:
            raise MemoryError
        return X.toarray()
    except MemoryError:
        raise DataError(
            f"X: is sparse, but the matrix products need it dense; with shape {X.shape} that is "
            f"{needed / 2**30:,.1f} GiB, which do not fit into memory. Use fewer features "
            f"(sklearn.decomposition.TruncatedSVD), float32, or partial_fit with some rows at a "
            f"time."
        ) from None


def available_memory() -> int | None:
    """Return the bytes that can be allocated without swapping; None if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else None


def _check_class_weight(class_weight: Any) -> None:
    several = class_weight if isinstance(class_weight, list) else [class_weight]
    for one in several:
        if not isinstance(one, Mapping) and not (isinstance(one, str) and one == "balanced"):
            raise ArgumentError(f"class_weight must be a dict or 'balanced', not {one!r}.")
        for label, weight in one.items() if isinstance(one, Mapping) else ():
            check_number("class_weight", f"the weight of class {label!r}", weight, minimum=0)


def check_weights(sample_weight: Any, class_weight: Any, y: Array) -> Array | None:
    """Return the weights of the rows, (rows,) float64; None if all are equal."""
    if sample_weight is None and class_weight is None:
        return None
    rows = len(y)
    if sample_weight is not None:
        if on_device(sample_weight):
            sample_weight = host_array(sample_weight)
        like = np.empty((rows, 0))
        sample_weight = _check_sample_weight(sample_weight, like, dtype=np.float64)
        if sample_weight.min() < 0:
            raise DataError(
                f"sample_weight: weights must not be negative, got {sample_weight.min():g}."
            )
    weights = np.ones(rows) if sample_weight is None else sample_weight
    if class_weight is not None:
        _check_class_weight(class_weight)
        weights = weights * compute_sample_weight(class_weight, y)
    if not weights.any():
        raise DataError("sample_weight: must contain at least one non-zero number.")
    return weights


@dataclass(frozen=True)
class Classes:
    """The classes of a classifier, and the model outputs they correspond to.

    Attributes
    ----------
    labels : ndarray
        In sorted order; for multilabel targets, column numbers.
    multilabel : bool
    """

    labels: Array
    multilabel: bool

    @classmethod
    def of(cls, y: Array) -> Classes:
        """Return the classes of targets."""
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind == "multilabel-indicator":
            return cls(np.arange(y.shape[1]), True)
        if y.ndim != 1:
            raise ArgumentError(
                f"y: expected one column of classes, or columns of 0 and 1 for multilabel "
                f"classification, not {kind} targets of shape {y.shape}."
            )
        return cls(np.unique(y), False)

    @property
    def outputs(self) -> int:
        """Number of the model's outputs."""
        several = self.multilabel or len(self.labels) > 2
        return len(self.labels) if several else 1

    @property
    def out_activation(self) -> str:
        """Activation of the outputs, by scikit-learn's name."""
        return "softmax" if self.outputs > 1 and not self.multilabel else "logistic"

    def encode(self, y: Array) -> Array:
        """Return targets for the model: class numbers (rows,), or 0 and 1, (rows, outputs)."""
        if self.multilabel:
            return np.asarray(y, dtype=np.float32)
        index = np.searchsorted(self.labels, y)
        if self.outputs > 1:
            return index.astype(np.int32)
        return index.astype(np.float32)[:, np.newaxis]

    def check_shape(self, y: Array) -> None:
        """Raise `ShapeError` unless `y` has the form of the targets of the first fit."""
        rows = len(y)
        expected = (rows, len(self.labels)) if self.multilabel else (rows,)
        if y.shape != expected:
            what = "columns of 0 and 1" if self.multilabel else "one label for each row"
            raise ShapeError(
                f"y: the model was trained on {what}; expected shape {expected}, got {y.shape}."
            )

    def unknown(self, y: Array) -> Array:
        """Return the labels of `y` that are not among the classes."""
        return np.empty(0) if self.multilabel else np.setdiff1d(y, self.labels)

    def chosen(self, outputs: Any) -> Any:
        """Return the class number for each row of outputs, or which labels apply."""
        if self.multilabel:
            return (outputs > 0.5).astype(np.int64)
        if self.outputs > 1:
            return outputs.argmax(axis=1)
        return ((outputs > 0.5) & (len(self.labels) > 1)).astype(np.int64).ravel()
