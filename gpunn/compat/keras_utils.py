"""What Keras keeps under ``keras.utils``."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from gpunn.compat.keras_backend import clear_session
from gpunn.errors import DataError
from gpunn.plots.model import plot_model
from gpunn.randomness.seeds import set_seed
from gpunn.specs.registry import check_count

__all__ = [
    "clear_session",
    "normalize",
    "plot_model",
    "register_keras_serializable",
    "set_random_seed",
    "to_categorical",
]

Array = np.ndarray[Any, Any]
T = TypeVar("T")


def set_random_seed(seed: int) -> None:
    """Seed Python's and NumPy's generators, and models that are compiled without a seed.

    Parameters
    ----------
    seed : int
        At least 0 and below 2**64. The same program gives the same models from here on.

    Raises
    ------
    ArgumentError
        The seed is out of range.
    """
    set_seed(seed)
    seed = int(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002


def register_keras_serializable(
    package: str = "Custom", name: str | None = None
) -> Callable[[T], T]:
    """Return a decorator that does nothing: functions of your own are saved with a model."""
    return lambda function: function


def to_categorical(x: Any, num_classes: int | None = None) -> Array:
    """Return class numbers as one-hot rows.

    Parameters
    ----------
    x : array of whole numbers, shape (n,) or (n, 1), or with more axes
    num_classes : int, optional
        Default: the largest class number plus one.

    Returns
    -------
    array, float64, shape (n, num_classes)

    Raises
    ------
    DataError
        A value is no whole number, or not a class.

    Notes
    -----
    The loss sparse_categorical_crossentropy takes class numbers as they are, and is faster.
    """
    labels = np.asarray(x)
    whole = labels.astype(np.int64) if labels.dtype.kind in "biuf" else None
    if whole is None or labels.size == 0 or not np.array_equal(whole, labels):
        raise DataError("to_categorical: x must be whole class numbers, and not empty.")
    if whole.ndim > 1 and whole.shape[-1] == 1:
        whole = whole[..., 0]
    low, high = int(whole.min()), int(whole.max())
    classes = high + 1
    if num_classes is not None:
        classes = check_count("to_categorical", "num_classes", num_classes)
    if low < 0 or high >= classes:
        raise DataError(
            f"to_categorical: classes are from 0 to {classes - 1}; x has values from {low} to "
            f"{high}."
        )
    rows: Array = (whole[..., np.newaxis] == np.arange(classes)).astype(np.float64)
    return rows


def normalize(x: Any, axis: int = -1, order: int = 2) -> Array:
    """Return `x` divided by its norm of this order along `axis`; zeros stay zero."""
    values = np.asarray(x, dtype=np.float64)
    norms = np.atleast_1d(np.linalg.norm(values, order, axis))
    norms[norms == 0] = 1
    result: Array = values / np.expand_dims(norms, axis)
    return result
