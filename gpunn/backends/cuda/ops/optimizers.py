"""Launches of penalties, clipping, constraints and optimizers, and of a step's end."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpunn.backends.cuda.driver import Launch
from gpunn.backends.cuda.geometry import THREADS, ceil_div, elementwise_grid
from gpunn.backends.cuda.ops.launches import (
    Context,
    LaunchBuilder,
    Work,
    int32,
    int64,
    kernel_source,
)
from gpunn.backends.cuda.ops.reductions import (
    SUMS,
    column_tile,
    partials,
    reduction,
    reduction_blocks,
)
from gpunn.backends.interface import Arrays, Attrs

REGULARIZER = "regularizer.cu"
CLIP = "clip.cu"
CONSTRAINTS = "constraints.cu"  # those of optimizers are named after the ops
PACK_BYTES = 16  # that a thread reads at a time


def _pack(array: Any) -> int:
    """Return how many values of `array` a thread takes at a time."""
    return PACK_BYTES // int(array.dtype.itemsize)


def _each(
    context: Context,
    file: str,
    symbol: str,
    array: Any,
    arguments: tuple[Any, ...],
    shared: int = 0,
) -> list[Work]:
    """Return the launch of a loop over the values of `array`."""
    if not array.size:
        return []
    grid = elementwise_grid(array.size, context.limits, _pack(array))
    source = kernel_source(file, array.dtype)
    return [Launch(source, symbol, (grid, 1, 1), (THREADS, 1, 1), arguments, shared)]


# Regularizers and clipping


def _penalty(
    context: Context,
    symbol: str,
    a: Arrays,
    attrs: Attrs,
    rows: int,
    largest: int,
    more: tuple[Any, ...],
) -> list[Work]:
    kernel = a["kernel"]
    if not kernel.size:
        return []
    constants = (np.float64(rows * attrs["l1"]), np.float64(rows * attrs["l2"]))
    arguments = (kernel, a["sum"], ..., int64(kernel.size), *constants, *more)
    geometry = reduction_blocks(ceil_div(kernel.size, _pack(kernel)), kernel.size, largest)
    first = kernel_source(REGULARIZER, kernel.dtype), symbol
    return reduction(context, first, geometry, 1, arguments, ("regularizer_finish", (a["sum"],)))


def regularizer(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    return _penalty(context, "regularizer", a, attrs, rows, 512, ())


def regularizer_gradient(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    real = a["kernel"].dtype.type
    more = (a["kernel_gradient"], real(attrs["l1"]), real(2 * attrs["l2"]))
    return _penalty(context, "regularizer_gradient", a, attrs, rows, 256, more)


def clip_by_value(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    g = a["gradients"]
    arguments = (g, int64(g.size), g.dtype.type(attrs["limit"]))
    return _each(context, CLIP, "clip_by_value", g, arguments)


def clip_by_norm(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    g = a["gradients"]  # `axes` are all that it has
    if not g.size:
        return []
    blocks, threads = reduction_blocks(ceil_div(g.size, _pack(g)), g.size, 512)
    parts = partials(context, blocks, 1)
    source = kernel_source(CLIP, g.dtype)
    size, limit = int64(g.size), np.float64(attrs["limit"])
    if parts is None:
        block = (threads, 1, 1)
        return [Launch(source, "clip_by_norm", (1, 1, 1), block, (g, size, limit), SUMS)]
    arguments = (g, parts, size)
    block = (THREADS, 1, 1)
    grid = (elementwise_grid(g.size, context.limits, _pack(g)), 1, 1)
    return [
        Launch(source, "sum_of_squares", (blocks, 1, 1), block, arguments, SUMS),
        Launch(source, "scale_by_norm", grid, block, (*arguments, limit, int32(blocks)), SUMS),
    ]


# Constraints


def norm_constraint(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    kernel = a["kernel"]
    if not kernel.size:
        return []
    real, height = kernel.dtype.type, kernel.shape[0]  # `axes` are all that it has
    columns = kernel.size // height
    tile = column_tile(columns, kernel.dtype)
    block_rows = tile.block_rows(height)
    sizes = (int64(height), int32(columns), int32(tile.width))
    constants = tuple(real(attrs[name]) for name in ("minimum", "maximum", "rate", "epsilon"))
    launches: list[Work] = []
    parts = None

    def launch(name: str, arguments: tuple[Any, ...]) -> Launch:
        return tile.launch((CONSTRAINTS, name), kernel.dtype, block_rows, arguments, tile.shared)

    if block_rows > 1:
        parts = context.workspace(block_rows * columns * kernel.dtype.itemsize).view(kernel.dtype)
        launches.append(launch("column_squares", (kernel, parts, *sizes)))
    arguments = (kernel, parts, int32(block_rows), *sizes, *constants)
    return [*launches, launch("norm_constraint", arguments)]


def non_negative(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    kernel = a["kernel"]
    if not kernel.size:
        return []
    grid = elementwise_grid(kernel.size, context.limits, 16 // kernel.dtype.itemsize)
    source = kernel_source(CONSTRAINTS, kernel.dtype)
    arguments = (kernel, int64(kernel.size))
    return [Launch(source, "non_negative", (grid, 1, 1), (THREADS, 1, 1), arguments)]


# Optimizers


def _update(
    context: Context,
    op: str,
    a: Arrays,
    attrs: Attrs,
    slots: tuple[Any, ...],
    constants: tuple[Any, ...],
    shared: int = 0,
) -> list[Work]:
    w = a["parameters"]
    arguments = (
        *(w, a["gradients"], a["learning_rate"], *slots, int64(w.size)),
        *(w.dtype.type(attrs["weight_decay"]), *constants),
    )
    return _each(context, f"{op}.cu", op, w, arguments, shared)


def _tiny(attrs: Attrs) -> tuple[float, float]:
    """Return `tiny` for means and for squares: these divide, so without epsilon they stay."""
    return attrs["tiny"], attrs["tiny"] if attrs["epsilon"] else 0.0


def sgd(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    return _update(context, "sgd", a, attrs, (), ())


def momentum(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    real = a["parameters"].dtype.type
    constants = (real(attrs["momentum"]), real(attrs["tiny"]), int32(attrs["nesterov"]))
    return _update(context, "momentum", a, attrs, (a["momentum"],), constants)


def adagrad(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    real = a["parameters"].dtype.type
    return _update(context, "adagrad", a, attrs, (a["accumulator"],), (real(attrs["epsilon"]),))


def rmsprop(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    real = a["parameters"].dtype.type
    slots = (a["velocity"], a.get("average_gradient"), a.get("momentum"))
    rho = attrs["rho"]
    values = (rho, 1 - rho, attrs["momentum"], attrs["epsilon"], *_tiny(attrs))
    return _update(context, "rmsprop", a, attrs, slots, tuple(map(real, values)))


def adam(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    real = a["parameters"].dtype.type
    betas = [float(attrs[name]) for name in ("beta_1", "beta_2")]
    logarithms = [np.float64(math.log(beta) if beta else -math.inf) for beta in betas]
    slots = (a["step"], a["momentum"], a["velocity"], a.get("velocity_hat"))
    values = (1 - betas[0], 1 - betas[1], attrs["epsilon"], *_tiny(attrs))
    constants = (*logarithms, *map(real, values))
    return _update(context, "adam", a, attrs, slots, constants, shared=8)


# Counters


def advance(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    # A schedule's rates are there only where they change from step to step.
    rates: Any = a.get("rates")
    learning_rate = None if rates is None else a["learning_rate"]
    arguments = (
        *(a["step"], a["offset"], int64(rows), rates, int64(0 if rates is None else rates.size)),
        *(a.get("first_step"), learning_rate),
    )
    source = kernel_source("advance.cu", np.float32 if rates is None else rates.dtype)
    return [Launch(source, "advance", (1, 1, 1), (1, 1, 1), arguments)]


OPERATIONS: dict[str, LaunchBuilder] = {
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
