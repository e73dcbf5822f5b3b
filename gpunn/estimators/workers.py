"""Threads of an estimator in a worker process, such as those of ``GridSearchCV(n_jobs=2)``."""

from __future__ import annotations

import multiprocessing
import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

# Whoever has set one of these has shared out the cores; joblib's loky does so for its workers.
SHARES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "BLIS_NUM_THREADS")


def share_of_threads() -> AbstractContextManager[Any]:
    """Return a context within which the BLAS keeps to this process's share of the cores.

    loky gives its workers a share as it starts them. A process of a pool that was forked has the
    BLAS of its parent, with as many threads as there are cores, in each of them: there it is one
    thread. Worker threads share one BLAS, which cannot be held back for one of them.
    """
    if not multiprocessing.current_process().daemon or any(name in os.environ for name in SHARES):
        return nullcontext()
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(1, user_api="blas")
    return limits
