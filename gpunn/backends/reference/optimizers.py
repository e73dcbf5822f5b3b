"""Penalties, clipping, constraints and optimizers of the reference backend, in plain NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gpunn.backends.interface import Arrays, Attrs
from gpunn.backends.reference.function import Array, Function

# Regularizers and clipping


def regularizer(a: Arrays, attrs: Attrs, rows: int) -> None:
    w = a["kernel"].astype(np.float64)
    axes = tuple(range(a["sum"].ndim - 1, w.ndim))  # all but that of the models
    penalty = attrs["l1"] * np.abs(w).sum(axis=axes) + attrs["l2"] * (w * w).sum(axis=axes)
    a["sum"][...] += rows * penalty[..., np.newaxis]


def regularizer_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    w = a["kernel"]
    l1, l2 = w.dtype.type(attrs["l1"]), w.dtype.type(2 * attrs["l2"])
    a["kernel_gradient"][...] += l1 * np.sign(w) + l2 * w
    regularizer(a, attrs, rows)


def clip_by_value(a: Arrays, attrs: Attrs, rows: int) -> None:
    np.clip(a["gradients"], -attrs["limit"], attrs["limit"], out=a["gradients"])


def clip_by_norm(a: Arrays, attrs: Attrs, rows: int) -> None:
    g = a["gradients"]
    axes = tuple(range(-attrs["axes"], 0))
    norm = np.sqrt((g.astype(np.float64) ** 2).sum(axis=axes, keepdims=True))
    g *= (attrs["limit"] / np.maximum(norm, attrs["limit"])).astype(g.dtype)


# Constraints


def norm_constraint(a: Arrays, attrs: Attrs, rows: int) -> None:
    w = a["kernel"]
    norm = np.sqrt((w.astype(np.float64) ** 2).sum(axis=-attrs["axes"], keepdims=True))
    desired = attrs["rate"] * np.clip(norm, attrs["minimum"], attrs["maximum"])
    desired += (1 - attrs["rate"]) * norm
    w *= (desired / (attrs["epsilon"] + norm)).astype(w.dtype)


def non_negative(a: Arrays, attrs: Attrs, rows: int) -> None:
    np.maximum(a["kernel"], 0, out=a["kernel"])


# Optimizers


def _optimizer(formula: Callable[[Array, Array, Array, Arrays, Attrs], None]) -> Function:
    """Apply weight decay, then the formula: parameters, gradients, learning rate, slots."""

    def update(a: Arrays, attrs: Attrs, rows: int) -> None:
        w, rate = a["parameters"], a["learning_rate"]
        if attrs["weight_decay"]:
            w -= w * (rate * w.dtype.type(attrs["weight_decay"]))
        formula(w, a["gradients"], rate, a, attrs)

    update.__name__ = formula.__name__
    return update


def _without_tiny(values: Array, attrs: Attrs, squares: bool = False) -> None:
    # Squares divide: without an epsilon beside them they must not become 0.
    if not squares or attrs["epsilon"]:
        values[np.abs(values) < attrs["tiny"]] = 0


@_optimizer
def sgd(w: Array, g: Array, rate: Array, a: Arrays, attrs: Attrs) -> None:
    w -= rate * g


@_optimizer
def momentum(w: Array, g: Array, rate: Array, a: Arrays, attrs: Attrs) -> None:
    v = a["momentum"]
    v[...] = attrs["momentum"] * v - rate * g
    _without_tiny(v, attrs)
    w += attrs["momentum"] * v - rate * g if attrs["nesterov"] else v


@_optimizer
def adagrad(w: Array, g: Array, rate: Array, a: Arrays, attrs: Attrs) -> None:
    accumulator = a["accumulator"]
    accumulator += g * g
    w -= rate * g / np.sqrt(accumulator + attrs["epsilon"])


@_optimizer
def rmsprop(w: Array, g: Array, rate: Array, a: Arrays, attrs: Attrs) -> None:
    v, rho = a["velocity"], attrs["rho"]
    v[...] = rho * v + (1 - rho) * g * g
    _without_tiny(v, attrs, squares=True)
    denominator = v
    if "average_gradient" in a:
        average = a["average_gradient"]
        average[...] = rho * average + (1 - rho) * g
        _without_tiny(average, attrs)
        denominator = v - average * average
    increment = rate * g / np.sqrt(denominator + attrs["epsilon"])
    if "momentum" in a:
        m = a["momentum"]
        m[...] = attrs["momentum"] * m + increment
        _without_tiny(m, attrs)
        increment = m
    w -= increment


@_optimizer
def adam(w: Array, g: Array, rate: Array, a: Arrays, attrs: Attrs) -> None:
    m, v = a["momentum"], a["velocity"]
    t = int(a["step"].flat[0]) + 1
    alpha = rate * w.dtype.type(np.sqrt(1 - attrs["beta_2"] ** t) / (1 - attrs["beta_1"] ** t))
    m += (g - m) * (1 - attrs["beta_1"])
    v += (g * g - v) * (1 - attrs["beta_2"])
    _without_tiny(m, attrs)
    _without_tiny(v, attrs, squares=True)
    if "velocity_hat" in a:
        np.maximum(a["velocity_hat"], v, out=a["velocity_hat"])
        v = a["velocity_hat"]
    w -= alpha * m / (np.sqrt(v) + attrs["epsilon"])


# Counters


def advance(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["step"][...] += 1
    a["offset"][...] += rows
    if "rates" in a:
        at = int(a["step"].flat[0] - a["first_step"].flat[0])
        if 0 <= at < a["rates"].shape[-1]:
            a["learning_rate"][...] = a["rates"][..., at : at + 1]


OPERATIONS: dict[str, Function] = {
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
