"""Shuffling, gathering and scaling of rows on the CPU."""

from __future__ import annotations

from functools import partial

import numpy as np

from gpunn.backends.cpu.loops import data as loops
from gpunn.backends.cpu.loops import random
from gpunn.backends.cpu.ops.calls import optional, sequence
from gpunn.backends.interface import Arrays, Attrs, Binder, Call
from gpunn.randomness import philox
from gpunn.randomness.permutation import ROUNDS


def keyed_permutation(a: Arrays, attrs: Attrs, rows: int) -> Call:
    order, seed, epoch = a["order"], a["seed"], a["epoch"]
    scratch = np.empty(random.SCRATCH_SHAPE, dtype=np.uint64)
    # Words as `permutation.round_keys` gives them, which takes as long as a small epoch.
    stream = np.uint64(philox.stream_id(philox.Purpose.SHUFFLE))
    words, half = np.empty(2 * ROUNDS, dtype=np.uint32), np.uint64(32)

    def call() -> None:
        random.philox_words(words, seed[0], np.uint64(epoch[0]), stream)
        halves = words.astype(np.uint64)
        keys = halves[0::2] | halves[1::2] << half
        random.fill_order(order, order.size, keys, 0, scratch)

    return call


def gather(a: Arrays, attrs: Attrs, rows: int) -> Call:
    data, values, offset = a["data"], a["values"], a["offset"]
    order = optional(a, "order", np.int64)
    if "gain" in a:
        center, gain = a["center"], a["gain"]

        def normalized() -> None:
            loops.gather_normalized(data, order, offset[0], center, gain, values)

        return normalized
    dtype = values.dtype.type
    scale, shift = dtype(attrs["scale"]), dtype(attrs["shift"])

    def call() -> None:
        loops.gather(data, order, offset[0], scale, shift, values)

    return call


def gather_rows(a: Arrays, attrs: Attrs, rows: int) -> Call:
    data, values, offset = a["data"], a["values"], a["offset"]
    if "order" not in a:

        def copy() -> None:
            start = offset[0]
            np.copyto(values, data[start : start + rows])

        return copy
    order = a["order"]

    def call() -> None:
        start = offset[0]
        # Without mode="clip" NumPy would check and buffer.
        data.take(order[start : start + rows], axis=0, out=values, mode="clip")

    return call


def normalization_statistics(a: Arrays, attrs: Attrs, rows: int) -> Call:
    mean, variance, center, gain = a["mean"], a["variance"], a["center"], a["gain"]
    repeats = center.size // mean.size

    def call() -> None:
        deviation = np.maximum(np.sqrt(variance.astype(np.float64)), attrs["epsilon"])
        shifted = (mean.astype(np.float64) - attrs["shift"]) / attrs["scale"]
        center[:] = np.tile(shifted, repeats)
        gain[:] = np.tile(attrs["scale"] / deviation, repeats)

    return call


def affine(a: Arrays, attrs: Attrs, rows: int) -> Call:
    values, result = a["values"], a["result"]
    if "gain" in a:
        return partial(loops.normalize, values, a["center"], a["gain"], result)
    dtype = values.dtype.type
    return sequence(
        partial(np.multiply, values, dtype(attrs["scale"]), out=result),
        partial(np.add, result, dtype(attrs["shift"]), out=result),
    )


def affine_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    gradient = a["gradient"]
    factor = a["gain"] if "gain" in a else gradient.dtype.type(attrs["scale"])
    return partial(np.multiply, gradient, factor, out=a["input_gradient"])


OPERATIONS: dict[str, Binder] = {
    "keyed_permutation": keyed_permutation,
    "gather": gather,
    "gather_rows": gather_rows,
    "normalization_statistics": normalization_statistics,
    "affine": affine,
    "affine_gradient": affine_gradient,
}
