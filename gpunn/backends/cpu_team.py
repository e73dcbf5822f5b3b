"""Which ops of a program a team of threads takes over from the BLAS and the serial loops.

Either all products of a program that have threads have the team's, or all have those of the BLAS:
the threads of both look for work for a while after each job, and would keep each other from the
cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from gpunn.backends import cpu_dense, cpu_updates
from gpunn.backends.cpu_products import TeamProducts
from gpunn.backends.interface import Arrays, Attrs, Binder, BoundStep, Call
from gpunn.backends.numba_update_tasks import RECORD, TASKS
from gpunn.backends.team import Team, team

# Bounds as measured (benchmarks/NOTES.md): below, a BLAS is as good, above, it is better.
_LEAST_ROWS, _MOST_ROWS = 16, 128
_LEAST_COLUMNS = 32  # of a kernel that counts, as many as a tile has
_LEAST_PRODUCT = 2**19  # rows * inputs * columns of the largest such product of a program
_LEAST_ALONE = 2**16  # below, what goes with a product takes longer than the product
_LEAST_SHARED = 2**19  # below, one thread is done before the others have begun
_LEAST_UPDATE = 2**15  # parameters
_CHUNK = 2**14  # parameters of a task, which takes some microseconds


def operations(
    steps: Sequence[BoundStep], rows: int, threads: int, *, always: bool
) -> dict[str, Binder]:
    """Return the ops of a program that are the team's; none where a BLAS is better.

    Parameters
    ----------
    steps : sequence of (op, arrays, attrs)
    rows : int
        Of a batch.
    threads : int
        That the team may have.
    always : bool
        Whether the team takes over all that it can, however small or large.
    """
    kernels = [_kernel(arrays) for op, arrays, _ in steps if op in cpu_dense.PRODUCTS]
    wide = [rows * kernel.size for kernel in kernels if kernel.shape[1] >= _LEAST_COLUMNS]
    largest = max(wide, default=0)
    pays = _LEAST_ROWS <= rows <= _MOST_ROWS and largest >= _LEAST_PRODUCT
    if not kernels or kernels[0].dtype != np.float32 or not (pays or always):
        return {}
    shared, alone = TeamProducts(team(threads)), TeamProducts(team(1))

    def choice(rows: int, kernel: np.ndarray[Any, Any]) -> cpu_dense.Products:
        size = rows * kernel.size
        if size >= _LEAST_SHARED or (always and size):
            return shared
        return alone if size >= _LEAST_ALONE else cpu_dense.LIBRARY

    optimizers = {op: partial(_update, team(threads), op, always) for op in TASKS}
    return cpu_dense.operations(choice) | optimizers


def _kernel(arrays: Arrays) -> np.ndarray[Any, Any]:
    kernel: np.ndarray[Any, Any] = arrays.get("kernel", arrays.get("kernel_gradient"))
    return kernel


def _update(team: Team, op: str, always: bool, a: Arrays, attrs: Attrs, rows: int) -> Call:
    """Bind an optimizer."""
    size = a["parameters"].size
    if size < _LEAST_UPDATE and not always:
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
    return team.job(TASKS[op], count, RECORD, size=size, chunk=_CHUNK, **constants, **a)
