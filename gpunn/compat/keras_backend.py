"""The few functions of Keras's ``backend`` that programs for MLPs use."""

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
    """Return a value as a Python or NumPy object.

    Parameters
    ----------
    x : float or array_like
        A learning rate, or anything else.

    Returns
    -------
    float or ndarray
        A float for a learning rate, else an array.
    """
    return float(x) if isinstance(x, float) else np.asarray(x)


def set_value(x: Any, value: float) -> None:
    """Set ``model.optimizer.learning_rate``, from the next step on.

    Parameters
    ----------
    x : LearningRate
        What ``model.optimizer.learning_rate`` returns.
    value : float
        The learning rate, at least 0.

    Raises
    ------
    ArgumentTypeError
        `x` is something else, or the learning rate follows a schedule.
    """
    if not isinstance(x, LearningRate):
        raise ArgumentTypeError(
            f"set_value: x must be model.optimizer.learning_rate, not "
            f"{type(x).__name__}; for weights use set_weights."
        )
    x.assign(value)


def clear_session() -> None:
    """Free the memory of models that are no longer used.

    There is no global state to clear: names of layers are counted per model.
    """
    gc.collect()


def epsilon() -> float:
    """Return the constant that keeps Keras's formulas from dividing by zero.

    Returns
    -------
    float
        Always 1e-7.
    """
    return 1e-7


def floatx() -> str:
    """Return the default floating-point type.

    Returns
    -------
    str
        Always "float32"; see `set_floatx`.
    """
    return "float32"


def set_floatx(value: str) -> None:
    """Accept ``"float32"``; other precisions are chosen per model, in `Model.compile`.

    Parameters
    ----------
    value : str
        Must be "float32".

    Raises
    ------
    ArgumentError
        It is another type.
    """
    if value != "float32":
        raise ArgumentError(
            f"set_floatx: there is no global precision; use "
            f"model.compile(..., precision={value!r})."
        )


def backend() -> str:
    """Return the name of the backend.

    Returns
    -------
    str
        Always "gpunn".
    """
    return "gpunn"
