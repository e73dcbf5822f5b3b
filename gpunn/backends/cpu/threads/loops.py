"""How the threads of a team share out the tasks of a job, compiled.

All they share is a block of memory, `control`, with a cache line for each thing that one thread
writes while others look on:

- GENERATION: the number of the job, which grows by one; a worker that sees a new one takes part.
- FINISHED: how many of its tasks are finished.
- JOB: its function, and its argument.
- from RANGES on a line for each thread: the next of its tasks, with the job's number in the upper
  half, and where they end. A thread takes its own first, in order, then those that others have
  not come to yet. So a thread that the system does not let run holds nobody up, and what is in
  a core's cache stays there as long as all of them run.
- behind these a line for each thread: whether it sleeps.

A task is only ever taken by exchanging the number of the next one for the one after it, so a
thread that comes late, with the number of an earlier job, takes none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from numba import types

from gpunn.backends.cpu.loops.compile import c_function, threaded
from gpunn.backends.cpu.loops.intrinsics import (
    LINE,
    call_address,
    compare_exchange,
    fetch_add,
    load,
    pause,
    store,
)

GENERATION, FINISHED, JOB, RANGES = 0, LINE, 2 * LINE, 3 * LINE
_WORD = 8
NUMBERS = 0x7FFFFFFF  # generations start again behind these, as many as fit half a word


class Task:
    """A function of a job's record, the task's number and the thread's, compiled when it is used.

    Parameters
    ----------
    function : callable
        ``function(record, task, thread)``, with the record's address.
    """

    def __init__(self, function: Callable[[int, int, int], None]) -> None:
        self.function = function

    @cached_property
    def address(self) -> int:
        """Where the compiled function is."""
        signature = types.void(types.int64, types.int64, types.int64)
        return int(c_function(self.function, signature).address)


def nbytes(threads: int) -> int:
    """Return the size of `control`."""
    return RANGES + 2 * LINE * threads


def asleep(thread: int, threads: int) -> int:
    """Return where in `control` it says whether a thread sleeps."""
    return RANGES + LINE * (threads + thread)


@threaded
def _take(line: int, generation: int) -> int:
    """Return the next task of a thread's line, -1 if there is none."""
    end = load(line + _WORD)
    while True:
        following = load(line)
        task = following & 0xFFFFFFFF
        if following >> 32 != generation or task >= end:
            return -1
        if compare_exchange(line, following, following + 1):
            return task


@threaded
def _work(control: int, thread: int, threads: int, generation: int) -> None:
    for other in range(threads):
        line = control + RANGES + LINE * ((thread + other) % threads)
        while True:
            task = _take(line, generation)
            if task < 0:
                break
            call_address(load(control + JOB), load(control + JOB + _WORD), task, thread)
            fetch_add(control + FINISHED, 1)


@threaded
def worker_loop(control: int, thread: int, threads: int, seen: int, max_spins: int) -> int:
    """Take part in all jobs until none has come for `max_spins` looks at its number.

    `seen` is the generation of the last job that the thread knows of; so is the result.
    """
    sleeping = control + RANGES + LINE * (threads + thread)
    spins = 0
    while True:
        generation = load(control + GENERATION)
        if generation != seen:
            seen = generation
            _work(control, thread, threads, generation)
            spins = 0
        elif spins < max_spins:
            spins += 1
            pause()
        else:
            store(sleeping, 1)
            # A job that began just now may not have seen that.
            if load(control + GENERATION) == seen:
                return seen
            store(sleeping, 0)
            spins = 0


@threaded
def run_parallel(control: int, threads: int, function: int, argument: int, tasks: int) -> None:
    """Have a job's tasks run by the threads, of which this is the first."""
    generation = (load(control + GENERATION) + 1) & NUMBERS
    store(control + FINISHED, 0)
    store(control + JOB, function)
    store(control + JOB + _WORD, argument)
    for thread in range(threads):
        line = control + RANGES + LINE * thread
        # In this order: the new end with the old number would be a task of the job before.
        store(line, generation << 32 | tasks * thread // threads)
        store(line + _WORD, tasks * (thread + 1) // threads)
    store(control + GENERATION, generation)
    _work(control, 0, threads, generation)
    while load(control + FINISHED) < tasks:
        pause()


@threaded
def run_serial(function: int, argument: int, tasks: int) -> None:
    """Run a job's tasks one after the other on this thread."""
    for task in range(tasks):
        call_address(function, argument, task, 0)
