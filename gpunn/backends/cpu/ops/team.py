"""Ops that a team of threads computes in place of the BLAS and the serial loops, and when.

Either all products of a program that have threads have the team's, or all have those of the BLAS:
the threads of both spin for a while after each job, and would keep each other from the cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from gpunn.backends.cpu.ops import dense, optimizers
from gpunn.backends.cpu.ops.activations import negative_slope
from gpunn.backends.cpu.ops.dense import followed_by_activation_gradient, is_product_alone
from gpunn.backends.cpu.products import tasks
from gpunn.backends.cpu.products.tiles import COLUMNS, LANES
from gpunn.backends.cpu.threads.tasks import OPTIMIZER, OPTIMIZERS
from gpunn.backends.cpu.threads.team import Team, team
from gpunn.backends.interface import Arrays, Attrs, Binder, BoundStep, Call

Array = np.ndarray[Any, Any]

# Bounds as measured (benchmarks/NOTES.md): below, a BLAS is as good, above, it is better.
_LEAST_ROWS, _MOST_ROWS = 16, 128
_LEAST_COLUMNS = 32  # of a kernel that counts: as many as a tile has with AVX-512
_LEAST_PRODUCT = 2**19  # rows * inputs * columns of the largest such product of a program
_LEAST_ALONE = 2**16  # below, what goes with a product takes longer than the product
_LEAST_SHARED = 2**19  # below, one thread is done before the others have begun
_LEAST_UPDATE = 2**15  # parameters
_CHUNK = 2**14  # parameters of a task, which takes some microseconds
# More threads have not been measured: each has the results of all the others to fetch. Where there
# are more, a BLAS has the use of them for large products; the bound is a guess.
_MOST_THREADS = 4
_MOST_BESIDE_MORE = 2**25
# A forward product is split along its sum, a part for each thread, where what that saves (a kernel
# stays in the caches) is more than what the sum of the parts costs: up to so many rows of a batch
# for each row of the kernel.
_ROWS_TO_SPLIT = 0.5
_TASKS_PER_THREAD = 4
# The values for a tile's rows of an update are packed where they serve so many columns.
_COLUMNS_TO_PACK = 512


class TeamProducts:
    """Products of a team of threads, each with what comes before and after it.

    Parameters
    ----------
    team : Team
    """

    def __init__(self, team: Team) -> None:
        self.team = team

    def forward(self, a: Arrays, slope: float) -> Call:
        values, kernel, result = a["values"], a["kernel"], a["result"]
        rows, columns = result.shape
        inputs, threads = kernel.shape[0], self.team.threads
        height = tasks.tile_height(rows)
        parts = threads if rows <= _ROWS_TO_SPLIT * inputs else 1
        panels, tiles = -(-columns // COLUMNS), -(-rows // height)
        chunks = min(tiles, -(-_TASKS_PER_THREAD * threads // (parts * panels)))
        chunk = -(-tiles // chunks) * height
        places = panels * -(-rows // chunk)
        return self.team.job(
            tasks.forward,
            parts * places,
            tasks.FORWARD,
            values=values,
            kernel=kernel,
            result=result,
            bias=a.get("bias", np.zeros(columns, dtype=np.float32)),
            rows=rows,
            inputs=inputs,
            columns=columns,
            slope=slope,
            parts=parts,
            partial=np.empty((parts - 1, rows, columns), dtype=np.float32),
            arrived=np.zeros(places, dtype=np.int64),
            chunk=chunk,
            height=height,
        )

    def input_gradient(self, a: Arrays, attrs: Attrs) -> Call:
        result, slope = a["input_gradient"], negative_slope(attrs)
        alone = is_product_alone(a, attrs)
        fused = slope is not None and "rate" not in a and not alone
        rows, inputs = result.shape
        columns = a["kernel"].shape[1]
        optional: dict[str, Array] = {}
        if fused:
            optional["output"] = a.get("output", result)
            optional["sums"] = a.get("bias_gradient", np.empty(inputs, dtype=np.float32))
            if "bias" in a and "bias_gradient" not in a:
                optional |= {"bias": a["bias"], "rate": a["learning_rate"]}
        product = self.team.job(
            tasks.backward,
            -(-inputs // COLUMNS),
            tasks.BACKWARD,
            gradient=a["gradient"],
            kernel=a["kernel"],
            result=result,
            rows=rows,
            inputs=inputs,
            columns=columns,
            slope=slope if fused else 1.0,
            packed=np.empty((self.team.threads, columns, COLUMNS), dtype=np.float32),
            height=tasks.tile_height(rows),
            **optional,
        )
        return product if alone or fused else followed_by_activation_gradient(product, a, attrs)

    def kernel_gradient(self, values: Array, gradient: Array, result: Array) -> Call:
        return self._update(values, gradient, result)

    def kernel_update(self, values: Array, gradient: Array, rate: Array, kernel: Array) -> Call:
        return self._update(values, gradient, kernel, rate=rate)

    def _update(self, values: Array, gradient: Array, result: Array, **optional: Array) -> Call:
        inputs, columns = result.shape
        if columns >= _COLUMNS_TO_PACK:
            shape = self.team.threads, len(values), LANES
            optional["packed"] = np.empty(shape, dtype=np.float32)
        height = tasks.tile_height(inputs)
        return self.team.job(
            tasks.update,
            -(-inputs // height),
            tasks.UPDATE,
            values=values,
            gradient=gradient,
            result=result,
            rows=len(values),
            inputs=inputs,
            columns=columns,
            height=height,
            **optional,
        )


def operations(
    steps: Sequence[BoundStep], batch_size: int, threads: Callable[[], int], *, always: bool
) -> dict[str, Binder]:
    """Return the ops of a program that are the team's; none where a BLAS is better.

    Parameters
    ----------
    steps : sequence of (op, arrays, attrs)
    batch_size : int
        Rows of a full batch: the last one of an epoch is served as the others are.
    threads : callable
        That gives the number of threads there are.
    always : bool
        Whether the team takes over all that it can, however small or large.
    """
    kernels = [_kernel(arrays) for op, arrays, _ in steps if op in dense.PRODUCTS]
    wide = [
        batch_size * kernel.size
        for kernel in kernels
        if kernel.shape[1] >= _LEAST_COLUMNS and kernel.dtype == np.float32
    ]
    largest = max(wide, default=0)
    pays = _LEAST_ROWS <= batch_size <= _MOST_ROWS and largest >= _LEAST_PRODUCT
    if not (pays or always):
        return {}
    count = threads()
    if count > _MOST_THREADS and largest > _MOST_BESIDE_MORE and not always:
        return {}
    everyone, one = team(min(count, _MOST_THREADS)), team(1)
    shared, alone = TeamProducts(everyone), TeamProducts(one)

    def choice(rows: int, kernel: np.ndarray[Any, Any]) -> dense.DenseProducts:
        size = rows * kernel.size
        if not size or kernel.dtype != np.float32:
            return dense.BLAS
        if always or size >= _LEAST_SHARED:
            return shared
        return alone if size >= _LEAST_ALONE else dense.BLAS

    updates = {op: partial(_update, everyone, op, always) for op in OPTIMIZERS}
    return dense.operations(choice) | updates


def _kernel(arrays: Arrays) -> np.ndarray[Any, Any]:
    kernel: np.ndarray[Any, Any] = arrays.get("kernel", arrays.get("kernel_gradient"))
    return kernel


def _update(workers: Team, op: str, always: bool, a: Arrays, attrs: Attrs, rows: int) -> Call:
    """Bind an optimizer."""
    parameters = a["parameters"]
    size = parameters.size
    small = not size or (size < _LEAST_UPDATE and not always)
    if small or parameters.dtype != np.float32:
        return optimizers.OPERATIONS[op](a, attrs, rows)
    fields = OPTIMIZER.names or ()
    constants = {name: value for name, value in attrs.items() if name in fields}
    if op in ("momentum", "rmsprop"):
        constants["beta"] = constants.pop("momentum")
    if op == "adam":
        constants |= {"rest_1": 1 - attrs["beta_1"], "rest_2": 1 - attrs["beta_2"]}
    if attrs.get("epsilon"):
        # Squares divide: without an epsilon beside them they must not become 0.
        constants["tiny_square"] = attrs.get("tiny", 0.0)
    count = -(-size // _CHUNK)
    return workers.job(OPTIMIZERS[op], count, OPTIMIZER, size=size, chunk=_CHUNK, **constants, **a)
