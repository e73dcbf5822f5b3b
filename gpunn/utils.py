"""What Keras keeps under ``keras.utils``."""

from __future__ import annotations

import random

import numpy as np

from gpunn.plots.model import plot_model
from gpunn.randomness.seeds import set_seed

__all__ = ["plot_model", "set_random_seed"]


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
