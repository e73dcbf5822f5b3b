"""What Keras keeps under ``keras.utils``."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.errors import DataError
from gpunn.plots.model import plot_model
from gpunn.randomness.seeds import set_seed
from gpunn.registry import check_count

__all__ = ["plot_model", "set_random_seed", "to_categorical"]


def to_categorical(x: Any, num_classes: int | None = None) -> NDArray[np.float32]:
    """Return class numbers as one-hot rows.

    Parameters
    ----------
    x : array of int, shape (n,) or (n, 1)
        Class numbers from 0.
    num_classes : int, optional
        Default: one more than the largest.

    Returns
    -------
    array of float32, shape (n, num_classes)

    Raises
    ------
    DataError
        A class number is not a whole number from 0 to `num_classes` - 1.
    """
    labels = np.asarray(x)
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    classes = labels.astype(np.int64)
    if num_classes is None:
        num_classes = int(classes.max()) + 1
    check_count("to_categorical", "num_classes", num_classes)
    if (classes != labels).any() or classes.min() < 0 or classes.max() >= num_classes:
        raise DataError(
            f"to_categorical: class numbers must be whole numbers from 0 to {num_classes - 1}; got "
            f"values from {labels.min()} to {labels.max()}."
        )
    return np.eye(num_classes, dtype=np.float32)[classes]


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
