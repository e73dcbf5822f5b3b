"""A team of threads for jobs of a few microseconds, such as the products of a small batch.

Its workers spin for the next job for a tenth of a millisecond before they go to sleep, so within a
training step they are at hand at once; between epochs they cost nothing. The caller takes part,
and runs all tasks where the workers are late, asleep or gone, as after a fork.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from time import perf_counter
from typing import Any, cast

import numpy as np

from gpunn.backends.cpu.threads import loops
from gpunn.backends.cpu.threads.loops import Task
from gpunn.backends.host import aligned
from gpunn.backends.interface import Call

SPIN_SECONDS = 1e-4  # for which a worker waits for the next job before it sleeps
_TIMED_SPINS = 2000  # so many are timed, once

Array = np.ndarray[Any, Any]


class Team:
    """Threads that run jobs together.

    Parameters
    ----------
    threads : int
        The caller's included. The others are started with the first job.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._control = aligned(loops.nbytes(threads)).view(np.int64)
        self._sleeping = [loops.asleep(t, threads) // 8 for t in range(1, threads)]
        self._wake_locks = [threading.Lock() for _ in self._sleeping]  # released to wake a worker
        self._lock, self._starting = threading.Lock(), threading.Lock()
        self._core = np.full(1, -1)  # on which the thread runs that wakes the workers
        self._started = False

    def job(self, task: Task, count: int, kind: np.dtype[Any], **fields: Any) -> Call:
        """Return a call that runs a task `count` times, with its numbers from 0 on.

        Parameters
        ----------
        task : Task
        count : int
        kind : dtype
            Of the task's record.
        **fields
            Those of the record; an array stands for its address, and the call keeps it alive.
        """
        record = np.zeros(1, kind)
        for name, value in fields.items():
            record[name] = value.ctypes.data if isinstance(value, np.ndarray) else value
        alive = [record, *(value for value in fields.values() if isinstance(value, np.ndarray))]
        function, address = task.address, record.ctypes.data
        run_parallel, run_serial = loops.run_parallel, loops.run_serial
        if self.threads == 1 or count == 1:

            def serial(_alive: list[Array] = alive) -> None:
                run_serial(function, address, count)

            return serial
        self._start()
        control, threads = self._control.ctypes.data, self.threads
        sleeping, lock = tuple(enumerate(self._sleeping)), self._lock

        def parallel(_alive: list[Array] = alive) -> None:
            if not lock.acquire(blocking=False):
                run_serial(function, address, count)  # the team has a job of another thread's
                return
            try:
                for worker, place in sleeping:
                    if self._control[place]:
                        self._control[place] = 0
                        self._core[0] = _current_core()
                        if self._wake_locks[worker].locked():
                            self._wake_locks[worker].release()
                run_parallel(control, threads, function, address, count)
            finally:
                lock.release()

        return parallel

    def _start(self) -> None:
        with self._starting:
            if self._started:
                return
            self._started = True
            spins = self._count_spins()
            for thread, wake_lock in enumerate(self._wake_locks, start=1):
                wake_lock.acquire()
                arguments = self._control, thread, self.threads, spins, wake_lock, self._core
                name = f"gpunn-team-{thread}"
                worker = threading.Thread(target=_worker, args=arguments, name=name, daemon=True)
                with suppress(RuntimeError):  # no more threads: the others do its tasks
                    worker.start()

    def _count_spins(self) -> int:
        """Return how often a worker spins for a job within `SPIN_SECONDS`.

        A spin is a pause, which takes 10 to 140 cycles, as the processor has it. This also
        compiles what the workers run: a process that ends while another thread compiles may crash.
        """
        for spins in (1, _TIMED_SPINS):
            began = perf_counter()
            loops.worker_loop(self._control.ctypes.data, 1, self.threads, 0, spins)
        return max(1, int(SPIN_SECONDS * _TIMED_SPINS / (perf_counter() - began)))


def _worker(
    control: Array, thread: int, threads: int, spins: int, wake_lock: threading.Lock, core: Array
) -> None:
    seen = 0
    while True:
        seen = loops.worker_loop(control.ctypes.data, thread, threads, seen, spins)
        wake_lock.acquire()
        migrate_off_core(int(core[0]))


def _find_core() -> Callable[[], int]:
    """Return a function for the core that the calling thread runs on, -1 where nobody knows."""
    with suppress(AttributeError, OSError, TypeError):
        if hasattr(os, "sched_setaffinity"):
            return cast(Callable[[], int], ctypes.CDLL(None).sched_getcpu)
    return lambda: -1


_current_core = _find_core()


def migrate_off_core(core: int) -> None:
    """Have the calling thread run on another core than this.

    Linux puts a thread on the core of the one that wakes it. Both would then wait for one
    another there until the system balances its load, for some 100 ms.
    """
    if core >= 0 and core == _current_core():
        allowed = os.sched_getaffinity(0)
        if others := allowed - {core}:
            with suppress(OSError):  # some containers forbid it
                os.sched_setaffinity(0, others)
                os.sched_setaffinity(0, allowed)


@lru_cache
def team(threads: int) -> Team:
    """Return the team of so many threads: one for all models of a process."""
    return Team(threads)


if hasattr(os, "register_at_fork"):
    # The threads stay with the parent: models made in the child get a team of its own.
    os.register_at_fork(after_in_child=team.cache_clear)
