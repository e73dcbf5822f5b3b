"""Which ops of a program a team of threads takes over from the BLAS and the serial loops.

Either all products of a program that have threads have the team's, or all have those of the BLAS:
the threads of both look for work for a while after each job, and would keep each other from the
cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from gpunn.backends.cpu.ops import dense as cpu_dense
from gpunn.backends.cpu.ops import optimizers as cpu_updates
from gpunn.backends.cpu.products.team import TeamProducts
from gpunn.backends.cpu.threads.optimizers import RECORD, TASKS
from gpunn.backends.cpu.threads.team import Team, team
from gpunn.backends.interface import Arrays, Attrs, Binder, BoundStep, Call

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
    kernels = [_kernel(arrays) for op, arrays, _ in steps if op in cpu_dense.PRODUCTS]
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

    def choice(rows: int, kernel: np.ndarray[Any, Any]) -> cpu_dense.Products:
        size = rows * kernel.size
        if not size or kernel.dtype != np.float32:
            return cpu_dense.LIBRARY
        if always or size >= _LEAST_SHARED:
            return shared
        return alone if size >= _LEAST_ALONE else cpu_dense.LIBRARY

    optimizers = {op: partial(_update, everyone, op, always) for op in TASKS}
    return cpu_dense.operations(choice) | optimizers


def _kernel(arrays: Arrays) -> np.ndarray[Any, Any]:
    kernel: np.ndarray[Any, Any] = arrays.get("kernel", arrays.get("kernel_gradient"))
    return kernel


def _update(workers: Team, op: str, always: bool, a: Arrays, attrs: Attrs, rows: int) -> Call:
    """Bind an optimizer."""
    parameters = a["parameters"]
    size = parameters.size
    small = not size or (size < _LEAST_UPDATE and not always)
    if small or parameters.dtype != np.float32:
        return cpu_updates.OPERATIONS[op](a, attrs, rows)
    fields = RECORD.names or ()
    constants = {name: value for name, value in attrs.items() if name in fields}
    if op in ("momentum", "rmsprop"):
        constants["beta"] = constants.pop("momentum")
    if op == "adam":
        constants |= {"rest_1": 1 - attrs["beta_1"], "rest_2": 1 - attrs["beta_2"]}
    if attrs.get("epsilon"):
        # Squares divide: without an epsilon beside them they must not become 0.
        constants["tiny_square"] = attrs.get("tiny", 0.0)
    count = -(-size // _CHUNK)
    return workers.job(TASKS[op], count, RECORD, size=size, chunk=_CHUNK, **constants, **a)
