"""How many steps a graph best holds, and whether dependent launches pay: part of ``gpunn tune``.

Whole training steps of the net, data and all, in graphs of different lengths, each launched in the
ordinary way and, where the GPU can, dependently.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.cuda.graphs import GRAPH_SIZES
from gpunn.backends.interface import Call
from gpunn.cli.bench.rounds import clearly_faster, interleaved
from gpunn.errors import DeviceError
from gpunn.plan.bind import BoundPlan
from gpunn.plan.spec import CONTROL, EXTERNAL, Plan

# What is measured, which way, a call of it -> seconds; it may make the call twice.
Timer = Callable[[Any, Any, Call], float]

LENGTHS = (16, 64, 256)
SHORT = (1, 2)  # where times mean nothing


class Way(NamedTuple):
    """Steps of a graph, and whether its launches are dependent."""

    steps: int
    dependent: bool


def measured(
    backend: CudaBackend,
    plan: Plan,
    rounds: int,
    timer: Timer,
    notes: list[str],
) -> dict[Way, list[float]]:
    """Return the seconds of a step, each way and round.

    Parameters
    ----------
    backend : CudaBackend
    plan : Plan
        For training, on uint8 data.
    rounds : int
    timer : callable
        Gets "step" and a `Way`.
    notes : list of str
        What is left out, and why, is added to it.
    """
    driver = backend.driver
    lengths = LENGTHS if driver.timed else SHORT
    rows = 2 * max(lengths) * plan.batch_size
    calls: dict[Way, Callable[[], float]] = {}
    for dependent in (False, True):
        try:
            with _launched(driver, dependent):
                if driver.dependent_launches != dependent:
                    break  # not on this GPU
                bound = BoundPlan(plan, backend)
                bound.attach(_data(backend, plan, rows))
                steps = bound.calls("train")
                bound.run("train")
                for length in lengths:
                    way, graph = Way(length, dependent), driver.capture(steps * length)
                    calls[way] = partial(_timed, bound, way, graph, timer)
        except DeviceError as error:
            if not dependent:
                raise
            notes.append(f"dependent launches are left out: {error}")
    found: dict[Way, list[float]] = {way: [] for way in calls}
    by_name = {str(number): call for number, call in enumerate(calls.values())}
    for _, name, call in interleaved(by_name, rounds):
        way = list(calls)[int(name)]
        found[way].append(call() / way.steps)
    return found


@contextmanager
def _launched(driver: Any, dependent: bool) -> Iterator[None]:
    before = driver.dependent_launches
    driver.dependent_launches = dependent
    try:
        yield
    finally:
        driver.dependent_launches = before


def _timed(bound: BoundPlan, way: Way, graph: Call, timer: Timer) -> float:
    bound.write(f"{CONTROL}/offset", 0)
    return timer("step", way, graph)


def _data(backend: CudaBackend, plan: Plan, rows: int) -> dict[str, Any]:
    """Return a data set of no meaning, its rows in no order."""
    rng = np.random.default_rng(0)
    external = {name: spec for name, spec in plan.buffers.items() if spec.region == EXTERNAL}
    arrays = {
        name: rng.integers(0, 2, (rows, *spec.shape[1:])).astype(spec.dtype)
        for name, spec in external.items()
    }
    arrays["order"] = rng.permutation(rows)
    return {name: backend.upload(array) for name, array in arrays.items()}


def chosen(times: Mapping[Way, list[float]]) -> Way:
    """Return the way to take: another than the default only where it is clearly faster."""
    default = next((way for way in times if way.steps == GRAPH_SIZES[0]), next(iter(times)))
    early = default._replace(dependent=True)
    if early in times and clearly_faster(times[early], times[default]):
        default = early
    same = [way for way in times if way.dependent == default.dependent]
    fastest = min(same, key=lambda way: statistics.median(times[way]))
    return fastest if clearly_faster(times[fastest], times[default]) else default
