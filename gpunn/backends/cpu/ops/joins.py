"""Sums and products of layers, concatenation and accumulation on the CPU."""

from __future__ import annotations

from functools import partial

import numpy as np

from gpunn.backends.interface import Arrays, Attrs, Binder, Call


def add(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return partial(np.add, a["left"], a["right"], out=a["result"])


def multiply(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return partial(np.multiply, a["left"], a["right"], out=a["result"])


def copy_columns(a: Arrays, attrs: Attrs, rows: int) -> Call:
    start, end, columns = attrs["source_start"], attrs["result_start"], attrs["columns"]
    target = a["result"][:, end : end + columns]
    return partial(np.copyto, target, a["source"][:, start : start + columns])


def accumulate(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return partial(np.add, a["total"], a["values"], out=a["total"])


OPERATIONS: dict[str, Binder] = {
    "add": add,
    "multiply": multiply,
    "copy_columns": copy_columns,
    "accumulate": accumulate,
}
