"""Penalties, clipping, optimizers and constraints on the CPU: a part of its table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from gpunn.backends.cpu.loops import optimizers as loops
from gpunn.backends.cpu.ops.calls import optional, sequence
from gpunn.backends.interface import Arrays, Attrs, Binder, Call

Array = np.ndarray[Any, Any]


# Regularizers and clipping


def regularizer(a: Arrays, attrs: Attrs, rows: int) -> Call:
    l1, l2 = float(attrs["l1"]), float(attrs["l2"])
    return partial(loops.penalty, a["kernel"].reshape(-1), l1, l2, rows, a["sum"])


def regularizer_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    kernel = a["kernel"].reshape(-1)
    l1, twice_l2 = kernel.dtype.type(attrs["l1"]), kernel.dtype.type(2 * attrs["l2"])
    gradient = a["kernel_gradient"].reshape(-1)
    weights = rows * float(attrs["l1"]), rows * float(attrs["l2"])
    return partial(loops.penalty_gradient, kernel, l1, twice_l2, *weights, gradient, a["sum"])


def clip_by_value(a: Arrays, attrs: Attrs, rows: int) -> Call:
    g = a["gradients"]
    limit = g.dtype.type(attrs["limit"])
    return sequence(partial(np.minimum, g, limit, out=g), partial(np.maximum, g, -limit, out=g))


def clip_by_norm(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return partial(loops.clip_by_norm, a["gradients"].reshape(-1), float(attrs["limit"]))


# Constraints


def norm_constraint(a: Arrays, attrs: Attrs, rows: int) -> Call:
    kernel = a["kernel"]
    w = kernel.reshape(kernel.shape[0], -1)
    factors = np.empty(w.shape[1], dtype=w.dtype)
    names = ("minimum", "maximum", "rate", "epsilon")
    constants = (w.dtype.type(attrs[name]) for name in names)
    return partial(loops.norm_constraint, w, factors, *constants)


def non_negative(a: Arrays, attrs: Attrs, rows: int) -> Call:
    kernel = a["kernel"]
    return partial(np.maximum, kernel, kernel.dtype.type(0), out=kernel)


# Optimizers


def _common(a: Arrays, attrs: Attrs) -> tuple[tuple[Any, ...], Callable[[float], Any]]:
    """Return the arguments that all updates share, and the parameters' type."""
    w = a["parameters"]
    dtype = w.dtype.type
    return (w, a["gradients"], a["learning_rate"], dtype(attrs["weight_decay"])), dtype


def _tiny(attrs: Attrs, dtype: Callable[[float], Any]) -> tuple[Any, Any]:
    """Return `tiny` for means and for squares: these divide, so without epsilon they stay."""
    return dtype(attrs["tiny"]), dtype(attrs["tiny"] if attrs["epsilon"] else 0.0)


def _slot(a: Arrays, role: str) -> Any:
    return optional(a, role, a["parameters"].dtype)


def sgd(a: Arrays, attrs: Attrs, rows: int) -> Call:
    common, _ = _common(a, attrs)
    return partial(loops.sgd, *common)


def momentum(a: Arrays, attrs: Attrs, rows: int) -> Call:
    common, dtype = _common(a, attrs)
    beta = dtype(attrs["momentum"])
    nesterov, tiny = bool(attrs["nesterov"]), dtype(attrs["tiny"])
    return partial(loops.momentum, *common, a["momentum"], beta, nesterov, tiny)


def adagrad(a: Arrays, attrs: Attrs, rows: int) -> Call:
    common, dtype = _common(a, attrs)
    return partial(loops.adagrad, *common, a["accumulator"], dtype(attrs["epsilon"]))


def rmsprop(a: Arrays, attrs: Attrs, rows: int) -> Call:
    common, dtype = _common(a, attrs)
    slots = a["velocity"], _slot(a, "average_gradient"), _slot(a, "momentum")
    constants = (dtype(attrs[name]) for name in ("rho", "momentum", "epsilon"))
    return partial(loops.rmsprop, *common, *slots, *constants, *_tiny(attrs, dtype))


def adam(a: Arrays, attrs: Attrs, rows: int) -> Call:
    common, dtype = _common(a, attrs)
    beta_1, beta_2 = float(attrs["beta_1"]), float(attrs["beta_2"])
    slots = a["step"], a["momentum"], a["velocity"], _slot(a, "velocity_hat")
    constants = dtype(1 - beta_1), dtype(1 - beta_2), dtype(attrs["epsilon"]), *_tiny(attrs, dtype)
    return partial(loops.adam, *common, *slots, *constants, beta_1, beta_2)


def advance(a: Arrays, attrs: Attrs, rows: int) -> Call:
    step, offset = a["step"], a["offset"]

    def call() -> None:
        step[0] += 1
        offset[0] += rows

    if "rates" not in a:
        return call
    rates, first_step, learning_rate = a["rates"], a["first_step"], a["learning_rate"]

    def call_with_rate() -> None:
        call()
        at = step[0] - first_step[0]
        if 0 <= at < rates.size:
            learning_rate[0] = rates[at]

    return call_with_rate


OPERATIONS: dict[str, Binder] = {
    "regularizer": regularizer,
    "regularizer_gradient": regularizer_gradient,
    "clip_by_value": clip_by_value,
    "clip_by_norm": clip_by_norm,
    "norm_constraint": norm_constraint,
    "non_negative": non_negative,
    "sgd": sgd,
    "momentum": momentum,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "advance": advance,
}
