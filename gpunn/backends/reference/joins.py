"""Sums and products of layers, concatenation and accumulation, in plain NumPy."""

from __future__ import annotations

import numpy as np

from gpunn.backends.interface import Arrays, Attrs
from gpunn.backends.reference.function import Function


def add(a: Arrays, attrs: Attrs, rows: int) -> None:
    np.add(a["left"], a["right"], out=a["result"])


def multiply(a: Arrays, attrs: Attrs, rows: int) -> None:
    np.multiply(a["left"], a["right"], out=a["result"])


def copy_columns(a: Arrays, attrs: Attrs, rows: int) -> None:
    start, end, columns = attrs["source_start"], attrs["result_start"], attrs["columns"]
    a["result"][..., end : end + columns] = a["source"][..., start : start + columns]


def accumulate(a: Arrays, attrs: Attrs, rows: int) -> None:
    a["total"][...] += a["values"]


OPERATIONS: dict[str, Function] = {
    "add": add,
    "multiply": multiply,
    "copy_columns": copy_columns,
    "accumulate": accumulate,
}
