"""A team of threads for jobs of a few microseconds, such as the products of a small batch.

Its workers look for the next job for a tenth of a millisecond before they go to sleep, so within a
training step they are at hand at once; between epochs they cost nothing. The caller takes part,
and performs all tasks where the workers are late, asleep or gone, as after a fork.
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

from gpunn.backends.cpu.threads import loops as numba_team
from gpunn.backends.cpu.threads.loops import Task
from gpunn.backends.host import aligned
from gpunn.backends.interface import Call

_PATIENCE = 1e-4  # seconds for which a worker looks for the next job
_LOOKS = 2000  # so many are timed, once

Array = np.ndarray[Any, Any]


class Team:
    """Threads that perform jobs together.

    Parameters
    ----------
    threads : int
        The caller's included. The others are started with the first job.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._control = aligned(numba_team.nbytes(threads)).view(np.int64)
        self._sleeping = [numba_team.asleep(t, threads) // 8 for t in range(1, threads)]
        self._alarms = [threading.Lock() for _ in self._sleeping]  # released to wake a worker
        self._lock, self._starting = threading.Lock(), threading.Lock()
        self._core = np.full(1, -1)  # on which the thread runs that wakes the workers
        self._started = False

    def job(self, task: Task, count: int, kind: np.dtype[Any], **fields: Any) -> Call:
        """Return a call that performs a task `count` times, with its numbers from 0 on.

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
        lead, alone = numba_team.lead, numba_team.alone
        if self.threads == 1 or count == 1:

            def serial(_alive: list[Array] = alive) -> None:
                alone(function, address, count)

            return serial
        self._start()
        control, threads = self._control.ctypes.data, self.threads
        sleeping, lock = tuple(enumerate(self._sleeping)), self._lock

        def parallel(_alive: list[Array] = alive) -> None:
            if not lock.acquire(blocking=False):
                alone(function, address, count)  # the team has a job of another thread's
                return
            try:
                for worker, place in sleeping:
                    if self._control[place]:
                        self._control[place] = 0
                        self._core[0] = _current_core()
                        if self._alarms[worker].locked():
                            self._alarms[worker].release()
                lead(control, threads, function, address, count)
            finally:
                lock.release()

        return parallel

    def _start(self) -> None:
        with self._starting:
            if self._started:
                return
            self._started = True
            looks = self._looks()
            for thread, alarm in enumerate(self._alarms, start=1):
                alarm.acquire()
                arguments = self._control, thread, self.threads, looks, alarm, self._core
                name = f"gpunn-team-{thread}"
                worker = threading.Thread(target=_serve, args=arguments, name=name, daemon=True)
                with suppress(RuntimeError):  # no more threads: the others do its tasks
                    worker.start()

    def _looks(self) -> int:
        """Return how often a worker looks for a job until its patience ends.

        A look is a pause, which takes 10 to 140 cycles, as the processor has it. This also
        compiles what the workers run: a process that ends while another thread compiles may crash.
        """
        for looks in (1, _LOOKS):
            began = perf_counter()
            numba_team.attend(self._control.ctypes.data, 1, self.threads, 0, looks)
        return max(1, int(_PATIENCE * _LOOKS / (perf_counter() - began)))


def _serve(
    control: Array, thread: int, threads: int, looks: int, alarm: threading.Lock, core: Array
) -> None:
    seen = 0
    while True:
        seen = numba_team.attend(control.ctypes.data, thread, threads, seen, looks)
        alarm.acquire()
        _leave(int(core[0]))


def _find_core() -> Callable[[], int]:
    """Return a function for the core that the calling thread runs on, -1 where nobody knows."""
    with suppress(AttributeError, OSError, TypeError):
        if hasattr(os, "sched_setaffinity"):
            return cast(Callable[[], int], ctypes.CDLL(None).sched_getcpu)
    return lambda: -1


_current_core = _find_core()


def _leave(core: int) -> None:
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
