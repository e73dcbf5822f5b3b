"""Launches of the ops that bring in rows: shuffle, gather, scaling."""

from __future__ import annotations

import numpy as np

from gpunn.backends.cuda.driver import Launch
from gpunn.backends.cuda.geometry import THREADS, elementwise_grid, tiles
from gpunn.backends.cuda.ops.launches import (
    Context,
    LaunchBuilder,
    Work,
    int32,
    int64,
    kernel_source,
)
from gpunn.backends.interface import Arrays, Attrs

KEYED_PERMUTATION = "keyed_permutation.cu"
GATHER = "gather.cu"
NORMALIZATION = "normalization_statistics.cu"
AFFINE = "affine.cu"
# Kernels that know no type of parameters are compiled for one.
_ANY = np.float32


def keyed_permutation(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    order = a["order"]
    if not order.size:
        return []
    arguments = (a["seed"], a["epoch"], order, int64(order.size))
    grid = (elementwise_grid(order.size, context.limits), 1, 1)
    source = kernel_source(KEYED_PERMUTATION, _ANY)
    keys = 12 * 8  # as many rounds, one uint64 each
    return [Launch(source, "keyed_permutation", grid, (THREADS, 1, 1), arguments, keys)]


def gather(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    data, values = a["data"], a["values"]
    if not values.size:
        return []
    batch, columns = values.shape
    real = values.dtype.type
    by_4 = columns % 4 == 0
    width, grid, block = tiles(batch, columns // 4 if by_4 else columns, context.limits)
    arguments = (
        *(data, a.get("order"), a["offset"], a.get("center"), a.get("gain"), values),
        *(int64(batch), int64(columns), int32(width)),
        *(real(attrs["scale"]), real(attrs["shift"])),
    )
    name = f"gather_{'uint8' if data.dtype == np.uint8 else 'real'}{'_by_4' * by_4}"
    return [Launch(kernel_source(GATHER, real), name, grid, block, arguments)]


def gather_rows(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    values = a["values"]
    if not values.size:
        return []
    batch = values.shape[0]
    words = values.nbytes // batch // 4
    by_4 = words % 4 == 0
    width, grid, block = tiles(batch, words // 4 if by_4 else words, context.limits)
    arguments = (
        *(a["data"].view(np.uint32), a.get("order"), a["offset"], values.view(np.uint32)),
        *(int64(batch), int64(words), int32(width)),
    )
    name = "gather_rows" + "_by_4" * by_4
    return [Launch(kernel_source(GATHER, _ANY), name, grid, block, arguments)]


def normalization_statistics(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    mean, center = a["mean"], a["center"]
    if not center.size:
        return []
    arguments = (
        *(mean, a["variance"], center, a["gain"], int64(center.size), int64(mean.size)),
        *(np.float64(attrs[name]) for name in ("scale", "shift", "epsilon")),
    )
    grid = (elementwise_grid(center.size, context.limits), 1, 1)
    source = kernel_source(NORMALIZATION, mean.dtype)
    return [Launch(source, "normalization_statistics", grid, (THREADS, 1, 1), arguments)]


def affine(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    values, result = a["values"], a["result"]
    if not values.size:
        return []
    real = values.dtype.type
    arguments = (
        *(values, a.get("center"), a.get("gain"), result),
        *(int64(values.size), int32(values.shape[-1])),
        *(real(attrs["scale"]), real(attrs["shift"])),
    )
    grid = elementwise_grid(values.size, context.limits)
    source = kernel_source(AFFINE, values.dtype)
    return [Launch(source, "affine", (grid, 1, 1), (THREADS, 1, 1), arguments)]


def affine_gradient(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    gradient = a["gradient"]
    if not gradient.size:
        return []
    arguments = (
        *(gradient, a.get("gain"), a["input_gradient"]),
        *(int64(gradient.size), int32(gradient.shape[-1]), gradient.dtype.type(attrs["scale"])),
    )
    grid = elementwise_grid(gradient.size, context.limits)
    source = kernel_source(AFFINE, gradient.dtype)
    return [Launch(source, "affine_gradient", (grid, 1, 1), (THREADS, 1, 1), arguments)]


OPERATIONS: dict[str, LaunchBuilder] = {
    "keyed_permutation": keyed_permutation,
    "gather": gather,
    "gather_rows": gather_rows,
    "normalization_statistics": normalization_statistics,
    "affine": affine,
    "affine_gradient": affine_gradient,
}
