"""Keras's ``backend``: the few functions of it that programs for MLPs use."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np

from gpunn.errors import ArgumentError, ArgumentTypeError
from gpunn.specs.optimizers import LearningRate

__all__ = [
    "backend",
    "clear_session",
    "epsilon",
    "floatx",
    "get_value",
    "set_floatx",
    "set_value",
]


def get_value(x: Any) -> Any:
    """Return a learning rate as a float, and anything else as a NumPy array."""
    return float(x) if isinstance(x, float) else np.asarray(x)


def set_value(x: Any, value: float) -> None:
    """Set ``model.optimizer.learning_rate``, from the next step on.

    Parameters
    ----------
    x : LearningRate
        What ``model.optimizer.learning_rate`` returns.
    value : float

    Raises
    ------
    ArgumentTypeError
        `x` is something else, or the learning rate follows a schedule.
    """
    if not isinstance(x, LearningRate):
        raise ArgumentTypeError(
            f"set_value: sets model.optimizer.learning_rate, not {type(x).__name__}; for weights "
            f"use set_weights."
        )
    x.assign(value)


def clear_session() -> None:
    """Free the memory of models that are not used any more.

    There is no global state to clear: names of layers are counted anew in each model.
    """
    gc.collect()


def epsilon() -> float:
    """Return 1e-7, which keeps Keras's formulas from dividing by zero."""
    return 1e-7


def floatx() -> str:
    """Return ``"float32"``; see `set_floatx`."""
    return "float32"


def set_floatx(value: str) -> None:
    """Accept ``"float32"``; other precisions are chosen model by model, in `Model.compile`."""
    if value != "float32":
        raise ArgumentError(
            f"set_floatx: there is no precision for all models; use "
            f"model.compile(..., precision={value!r})."
        )


def backend() -> str:
    """Return ``"gpunn"``."""
    return "gpunn"
