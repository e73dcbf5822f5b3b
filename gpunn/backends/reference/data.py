"""Shuffling, gathering and scaling of rows, in plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.backends.interface import Arrays, Attrs
from gpunn.backends.reference.function import Array, Function
from gpunn.randomness.permutation import KeyedPermutation


def keyed_permutation(a: Arrays, attrs: Attrs, rows: int) -> None:
    order = a["order"]
    for model in np.ndindex(order.shape[:-1]):
        seed, epoch = int(a["seed"][model][0]), int(a["epoch"][model][0])
        order[model] = KeyedPermutation(order.shape[-1], seed, epoch).order()


def _rows(a: Arrays, rows: int) -> Any:
    """Row numbers of the batch: (rows,), or (models, rows)."""
    start = int(a["offset"].flat[0])
    return a["order"][..., start : start + rows] if "order" in a else slice(start, start + rows)


def gather(a: Arrays, attrs: Attrs, rows: int) -> None:
    dtype = a["values"].dtype
    values = a["data"][_rows(a, rows)].astype(dtype)
    a["values"][...] = _affine(values, a, attrs)


def _affine(values: Array, a: Arrays, attrs: Attrs) -> Array:
    dtype = values.dtype.type
    if "gain" in a:
        return (values - a["center"][..., np.newaxis, :]) * a["gain"][..., np.newaxis, :]
    return values * dtype(attrs["scale"]) + dtype(attrs["shift"])


def gather_rows(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["values"][...] = a["data"][_rows(a, rows)]


def normalization_statistics(a: Arrays, attrs: Attrs, rows: int) -> None:
    dtype, repeats = a["center"].dtype, a["center"].shape[-1] // a["mean"].shape[-1]
    mean, variance = a["mean"].astype(np.float64), a["variance"].astype(np.float64)
    deviation = np.maximum(np.sqrt(variance), attrs["epsilon"])
    center = (mean - attrs["shift"]) / attrs["scale"]
    tiling = (1,) * (center.ndim - 1) + (repeats,)
    a["center"][...] = np.tile(center, tiling).astype(dtype)
    a["gain"][...] = np.tile(attrs["scale"] / deviation, tiling).astype(dtype)


def affine(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["result"][...] = _affine(a["values"], a, attrs)


def affine_gradient(a: Arrays, attrs: Attrs, rows: int) -> None:
    gradient = a["gradient"]
    gain = a["gain"][..., np.newaxis, :] if "gain" in a else gradient.dtype.type(attrs["scale"])
    a["input_gradient"][...] = gradient * gain


OPERATIONS: dict[str, Function] = {
    "keyed_permutation": keyed_permutation,
    "gather": gather,
    "gather_rows": gather_rows,
    "normalization_statistics": normalization_statistics,
    "affine": affine,
    "affine_gradient": affine_gradient,
}
