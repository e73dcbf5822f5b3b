"""Matrix products of small batches for a team of threads, compiled.

A BLAS packs both operands anew at every call and deals them out anew to its threads; at the sizes
of a training step's products that takes as long as the arithmetic. Here nothing is packed but the
kernel of an input gradient, a panel at a time. Each thread keeps to the same rows of a kernel in
the forward pass and in its update, so these stay in the cache of its core; and what follows a
product (bias and ReLU, or their gradients) is done by the task that has it in its cache.

A job is a record of addresses, sizes and strides (in bytes); a task is a function of the job's
address, its own number and that of the thread. All values are float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from gpunn.backends.cpu.loops.compile import threaded
from gpunn.backends.cpu.loops.intrinsics import SIZE, fetch_add, floats, pointer
from gpunn.backends.cpu.products.tiles import (
    COLUMNS,
    HEIGHTS,
    LANES,
    copy_row,
    tile,
    transpose,
)
from gpunn.backends.cpu.threads.loops import Task


def tile_height(rows: int) -> int:
    """Return the height of the tiles that take the least time for so many rows.

    A step along the sum takes a cycle for each row of a tile, four at least, and about as much as
    two more.
    """
    usable = [height for height in HEIGHTS if height <= rows]
    return min(usable, key=lambda height: -(-rows // height) * (max(height, 4) + 2))


@threaded
def _panel(
    height: int,
    start: int,
    end: int,
    a: int,
    a_row: int,
    a_step: int,
    b: int,
    b_row: int,
    depth: int,
    out: int,
    out_row: int,
    columns: int,
    alpha: Any,
    accumulate: bool,
) -> None:
    """``out (+)= alpha * a @ b``, its rows from `start` to `end` - 1 and `columns` of a tile.

    `end` is at least the height: the last tile begins so that it ends with the rows.
    """
    for row in range(start, end, height):
        top = min(row, end - height)
        x, y, first = a + top * a_row, out + top * out_row, row - top
        tile(
            *(height, x, a_row, a_step, b, b_row, depth, y, out_row),
            *(first, columns, alpha, accumulate),
        )


# Forward: result = activation(values @ kernel + bias), the activation piecewise linear

FORWARD = np.dtype(
    [
        *((name, np.int64) for name in ("values", "kernel", "result")),
        *((name, np.int64) for name in ("rows", "inputs", "columns", "bias")),
        *((name, np.int64) for name in ("parts", "partial", "arrived", "chunk", "height")),
        ("slope", np.float32),
    ],
    align=True,
)


@threaded
def _add(total: Any, values: Any) -> None:
    for i in range(total.size):
        total[i] += values[i]


@threaded
def apply_bias_and_slope(y: Any, bias: Any, slope: Any) -> None:
    """y + bias, times `slope` where negative, as `loops.dense.add_bias`."""
    zero = slope - slope
    for i in range(y.size):
        z = y[i] + bias[i]
        # + 0 turns the -0 of relu into 0.
        y[i] = (z if z > zero else z * slope) + zero


def _forward(job: int, task: int, thread: int) -> None:
    """One of `parts` of the sum, for a panel of columns of a `chunk` of rows."""
    j = carray(pointer(job), (1,), FORWARD)[0]
    panels = (j.columns + COLUMNS - 1) // COLUMNS
    places = panels * ((j.rows + j.chunk - 1) // j.chunk)
    part, place = task // places, task % places
    top, column = place // panels * j.chunk, place % panels * COLUMNS
    bottom, columns = min(top + j.chunk, j.rows), min(COLUMNS, j.columns - column)
    start, end = j.inputs * part // j.parts, j.inputs * (part + 1) // j.parts
    out_row = j.columns * SIZE
    out = j.result
    if part:
        out = j.partial + (part - 1) * j.rows * out_row
    _panel(
        j.height,
        top,
        bottom,
        j.values + start * SIZE,
        j.inputs * SIZE,
        SIZE,
        j.kernel + start * out_row + column * SIZE,
        out_row,
        end - start,
        out + column * SIZE,
        out_row,
        columns,
        np.float32(1),
        False,
    )
    if (fetch_add(j.arrived + place * 8, 1) + 1) % j.parts == 0:  # all parts of the sum are there
        bias = floats(j.bias + column * SIZE, columns)
        for i in range(top, bottom):
            offset = i * out_row + column * SIZE
            y = floats(j.result + offset, columns)
            for other in range(j.parts - 1):
                _add(y, floats(j.partial + other * j.rows * out_row + offset, columns))
            apply_bias_and_slope(y, bias, j.slope)


# Gradient of a kernel: (kernel -= rate *) values.T @ gradient

UPDATE = np.dtype(
    [
        *((name, np.int64) for name in ("values", "gradient", "result", "rows")),
        *((name, np.int64) for name in ("inputs", "columns", "rate", "packed", "height")),
    ],
    align=True,
)


def _update(job: int, task: int, thread: int) -> None:
    """The kernel's rows of a tile."""
    j = carray(pointer(job), (1,), UPDATE)[0]
    bottom = min((task + 1) * j.height, j.inputs)
    top = bottom - j.height
    row = j.columns * SIZE
    values, step = j.values + top * SIZE, j.inputs * SIZE
    if j.packed:
        packed, packed_step = j.packed + thread * j.rows * LANES * SIZE, LANES * SIZE
        for i in range(j.rows):
            copy_row(values + i * step, j.height, packed + i * packed_step)
        values, step = packed, packed_step
    alpha = np.float32(1)
    if j.rate:
        alpha = -floats(j.rate, 1)[0]
    for column in range(0, j.columns, COLUMNS):
        tile(
            j.height,
            values,
            SIZE,
            step,
            j.gradient + column * SIZE,
            row,
            j.rows,
            j.result + top * row + column * SIZE,
            row,
            task * j.height - top,
            min(COLUMNS, j.columns - column),
            alpha,
            j.rate != 0,
        )


# Gradient of the input: result = (gradient @ kernel.T) * derivative of the activation, with the
# column sums, which are the gradient of the bias before it

BACKWARD = np.dtype(
    [
        *((name, np.int64) for name in ("gradient", "kernel", "result", "rows", "inputs")),
        *((name, np.int64) for name in ("columns", "packed", "output", "sums", "height")),
        *((name, np.int64) for name in ("bias", "rate")),
        ("slope", np.float32),
    ],
    align=True,
)


@threaded
def apply_slope_gradient(gradient: Any, output: Any, slope: Any, sums: Any) -> None:
    zero = slope - slope
    one = type(slope)(1)
    for i in range(gradient.size):
        value = gradient[i] * (one if output[i] > zero else slope)
        gradient[i] = value
        sums[i] += value


@threaded
def _subtract(total: Any, factor: Any, values: Any) -> None:
    for i in range(total.size):
        total[i] -= factor * values[i]


def _backward(job: int, task: int, thread: int) -> None:
    """A panel of the input's columns, which are rows of the kernel."""
    j = carray(pointer(job), (1,), BACKWARD)[0]
    column = task * COLUMNS
    columns = min(COLUMNS, j.inputs - column)
    row, packed_row = j.columns * SIZE, COLUMNS * SIZE
    packed = j.packed + thread * j.columns * packed_row
    for i in range(0, columns, LANES):
        for k in range(0, j.columns, LANES):
            transpose(
                *(j.kernel + (column + i) * row + k * SIZE, row),
                *(min(LANES, columns - i), min(LANES, j.columns - k)),
                *(packed + k * packed_row + i * SIZE, packed_row),
            )
    out_row = j.inputs * SIZE
    _panel(
        j.height,
        0,
        j.rows,
        j.gradient,
        row,
        SIZE,
        packed,
        packed_row,
        j.columns,
        j.result + column * SIZE,
        out_row,
        columns,
        np.float32(1),
        False,
    )
    if j.sums:
        sums = floats(j.sums + column * SIZE, columns)
        sums[:] = 0
        for i in range(j.rows):
            offset = i * out_row + column * SIZE
            apply_slope_gradient(
                floats(j.result + offset, columns),
                floats(j.output + offset, columns),
                j.slope,
                sums,
            )
        if j.bias:
            _subtract(floats(j.bias + column * SIZE, columns), floats(j.rate, 1)[0], sums)


forward, update, backward = Task(_forward), Task(_update), Task(_backward)
