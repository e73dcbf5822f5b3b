"""A team of threads performs every task of a job once, whatever its threads are doing."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

import numpy as np
import pytest
from numba import carray

from gpunn.backends.cpu.loops.intrinsics import fetch_add, pointer
from gpunn.backends.cpu.threads import loops as numba_team
from gpunn.backends.cpu.threads import team as team_module
from gpunn.backends.cpu.threads.loops import Task
from gpunn.backends.cpu.threads.tasks import parallel_copy
from gpunn.backends.cpu.threads.team import Team, team

COUNTS = np.dtype([("counts", np.int64), ("work", np.int64)])


def _count(record: int, task: int, thread: int) -> None:
    """Count the task, after some work."""
    job = carray(pointer(record), (1,), COUNTS)[0]
    x = 1.0
    for _ in range(job.work):
        x = x * 1.0000001 + task
    if x > 0:
        fetch_add(job.counts + 8 * task, 1)


count = Task(_count)


def performed(a_team: Team, tasks: int, jobs: int, work: int = 0, between: float = 0.0) -> None:
    """Check that each of many jobs has performed each task once."""
    counts = np.zeros(tasks, np.int64)
    job = a_team.job(count, tasks, COUNTS, counts=counts, work=work)
    for done in range(1, jobs + 1):
        job()
        assert (counts == done).all()
        time.sleep(between)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("tasks", [1, 2, 3, 7, 100])
def test_every_task_is_performed_once(threads: int, tasks: int) -> None:
    performed(Team(threads), tasks, jobs=300, work=20)


def test_jobs_long_after_one_another() -> None:
    """The workers have gone to sleep in between."""
    performed(Team(3), 50, jobs=20, work=2000, between=0.01)


def test_jobs_of_several_threads_at_once() -> None:
    """A team has one job at a time; who finds it busy works alone."""
    shared, failures = Team(2), []

    def use() -> None:
        try:
            performed(shared, 20, jobs=500, work=50)
        except AssertionError as failure:
            failures.append(failure)

    users = [threading.Thread(target=use) for _ in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert not failures


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_a_worker_leaves_the_core_of_the_thread_that_wakes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may go wherever it could before."""
    allowed, find, confine = (
        os.sched_getaffinity(0),
        team_module._current_core,
        os.sched_setaffinity,
    )
    left, confined = min(allowed), list[tuple[set[int], int]]()

    def watched(thread: int, cores: set[int]) -> None:
        confine(thread, cores)
        confined.append((set(cores), find()))  # before the system moves it again

    monkeypatch.setattr(team_module, "_current_core", lambda: left)
    monkeypatch.setattr(os, "sched_setaffinity", watched)
    thread = threading.Thread(target=team_module.migrate_off_core, args=(left,))
    thread.start()
    thread.join()
    assert os.sched_getaffinity(0) == allowed
    if confined:  # there are other cores, and the system has let it
        (others, found), (back, _) = confined
        assert others == allowed - {left} and found != left
        assert back == allowed


def test_numbers_of_jobs_start_again() -> None:
    a_team = Team(3)
    performed(a_team, 20, jobs=3)
    a_team._control[numba_team.GENERATION // 8] = numba_team.NUMBERS - 5
    performed(a_team, 20, jobs=20, between=0.0002)
    assert a_team._control[numba_team.GENERATION // 8] < 20


def test_without_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no more threads, the caller performs all tasks."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    performed(Team(3), 20, jobs=50)


@pytest.mark.parametrize("size", [1, 63, 64, 1000, 4097])
def test_a_copy_by_all_threads_is_whole(size: int) -> None:
    source = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    target = np.full(size + 64, 7, np.uint8)
    parallel_copy(Team(3), source, target[:size])()
    assert np.array_equal(target[:size], source)
    assert (target[size:] == 7).all()


def test_one_team_of_a_size_for_the_process() -> None:
    assert team(2) is team(2)
    assert team(2).threads == 2
    assert team(3) is not team(2)


def _in_a_child(a_team: Team) -> None:
    performed(a_team, 20, jobs=5)  # whose workers stayed behind
    assert team(2) is not a_team
    performed(team(2), 20, jobs=5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_a_team_of_its_own() -> None:
    performed(team(2), 20, jobs=5)
    child = multiprocessing.get_context("fork").Process(target=_in_a_child, args=(team(2),))
    child.start()
    child.join(600)
    assert child.exitcode == 0
