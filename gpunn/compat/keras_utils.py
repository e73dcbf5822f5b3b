"""The utilities of ``keras.utils``."""

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
        At least 0 and below 2**64. Afterwards the same program creates the same models.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        `seed` is out of range or not an int.
    """
    set_seed(seed)
    seed = int(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002


def register_keras_serializable(
    package: str = "Custom", name: str | None = None
) -> Callable[[T], T]:
    """Return a decorator that does nothing: user-defined functions are saved with a model.

    Parameters
    ----------
    package : str, default "Custom"
        Ignored.
    name : str, optional
        Ignored.

    Returns
    -------
    callable
        The decorator.
    """
    return lambda function: function


def to_categorical(x: Any, num_classes: int | None = None) -> Array:
    """Convert class numbers to one-hot rows.

    Parameters
    ----------
    x : array_like of int, shape (n,) or (n, 1), or with more axes
        Class numbers.
    num_classes : int, optional
        Default: the largest class number plus one.

    Returns
    -------
    float64 ndarray, shape (n, num_classes)
        One-hot rows.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        `num_classes` is not a whole number of at least 1.
    DataError
        A value is not a whole number, or not below `num_classes`.

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
            f"to_categorical: x must be from 0 to {classes - 1}, but has values from {low} to "
            f"{high}."
        )
    rows: Array = (whole[..., np.newaxis] == np.arange(classes)).astype(np.float64)
    return rows


def normalize(x: Any, axis: int = -1, order: int = 2) -> Array:
    """Divide an array by its norm.

    Parameters
    ----------
    x : array_like
        Of any shape.
    axis : int, default -1
        Axis of the norm.
    order : int, default 2
        Order of the norm.

    Returns
    -------
    float64 ndarray
        Of the shape of `x`; where the norm is 0, the values are 0.
    """
    values = np.asarray(x, dtype=np.float64)
    norms = np.atleast_1d(np.linalg.norm(values, order, axis))
    norms[norms == 0] = 1
    result: Array = values / np.expand_dims(norms, axis)
    return result
