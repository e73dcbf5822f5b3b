"""Threads of an estimator in a worker process, such as those of ``GridSearchCV(n_jobs=2)``."""

from __future__ import annotations

import multiprocessing
import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

# If one of these is set, threads have already been limited; joblib's loky sets them.
VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "BLIS_NUM_THREADS",
)


def limited_threads() -> AbstractContextManager[Any]:
    """Return a context in which the BLAS is limited to this process's share of the cores.

    loky limits the threads of its workers itself. A forked process inherits the BLAS of its parent,
    with as many threads as there are cores in every process: there it is limited to one thread.
    Worker threads share one BLAS, which cannot be limited for one of them.
    """
    if not multiprocessing.current_process().daemon or any(
        name in os.environ for name in VARIABLES
    ):
        return nullcontext()
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(1, user_api="blas")
    return limits
