"""Loops that gather and scale rows."""

from __future__ import annotations

from typing import Any

from gpunn.backends.cpu.loops.compile import kernel
from gpunn.backends.cpu.loops.intrinsics import LINE, prefetch

# Rows are read in no order that the processor could foresee, and each waits for memory anew. Rows
# of so many bytes are prefetched, as many rows ahead.
PREFETCHED_BYTES, ROWS_AHEAD = 256, 2


@kernel
def gather(data: Any, order: Any, start: int, scale: Any, shift: Any, values: Any) -> None:
    rows, columns = values.shape
    shuffled = order.size > 0 and columns * data.itemsize >= PREFETCHED_BYTES
    for i in range(rows):
        row = order[start + i] if order.size else start + i
        if shuffled and i + ROWS_AHEAD < rows:
            for j in range(0, columns, LINE // data.itemsize):
                prefetch(data, order[start + i + ROWS_AHEAD], j)
        for j in range(columns):
            values[i, j] = data[row, j] * scale + shift


@kernel
def gather_normalized(
    data: Any, order: Any, start: int, center: Any, gain: Any, values: Any
) -> None:
    for i in range(values.shape[0]):
        row = order[start + i] if order.size else start + i
        for j in range(values.shape[1]):
            values[i, j] = (data[row, j] - center[j]) * gain[j]


@kernel
def normalize(values: Any, center: Any, gain: Any, result: Any) -> None:
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            result[i, j] = (values[i, j] - center[j]) * gain[j]
