"""A team of threads for jobs of a few microseconds, such as the products of a small batch.

Its workers look for the next job for a tenth of a millisecond before they go to sleep, so within a
training step they are at hand at once; between epochs they cost nothing. The caller takes part,
and performs all tasks where the workers are late, asleep or gone, as after a fork.
"""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from typing import Any

import numpy as np

from gpunn.backends import numba_team
from gpunn.backends.interface import Call
from gpunn.backends.numba_team import Task

_PATIENCE = 3000  # looks, of some 40 ns each, before a worker goes to sleep

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
        nbytes = numba_team.nbytes(threads)
        raw = np.zeros(nbytes + numba_team.LINE, dtype=np.uint8)
        start = -raw.ctypes.data % numba_team.LINE
        self._control = raw[start : start + nbytes].view(np.int64)
        self._sleeping = [numba_team.asleep(t, threads) // 8 for t in range(1, threads)]
        self._alarms = [threading.Semaphore(0) for _ in self._sleeping]
        self._lock, self._starting = threading.Lock(), threading.Lock()
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
        for thread, alarm in enumerate(self._alarms, start=1):
            arguments = self._control, thread, self.threads, alarm
            name = f"gpunn-team-{thread}"
            threading.Thread(target=_serve, args=arguments, name=name, daemon=True).start()


def _serve(control: Array, thread: int, threads: int, alarm: threading.Semaphore) -> None:
    seen = 0
    while True:
        seen = numba_team.attend(control.ctypes.data, thread, threads, seen, _PATIENCE)
        alarm.acquire()


@lru_cache
def team(threads: int) -> Team:
    """Return the team of so many threads: one for all models of a process."""
    return Team(threads)


if hasattr(os, "register_at_fork"):
    # The threads stay with the parent: models made in the child get a team of its own.
    os.register_at_fork(after_in_child=team.cache_clear)
