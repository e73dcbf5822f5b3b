"""Where a step's time goes: every call of the plan, timed in place within real steps."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from gpunn.backends.timing import Timer
from gpunn.cli.bench.bounds import Roofline, call_bound, product_shape
from gpunn.plan.spec import Plan

OVERHEAD_STEPS = 200
BLOCK = 50  # steps whose marks are read together: reading waits for the device


def time_calls(
    calls: Sequence[Callable[[], object]], steps: int, timer: Timer, restart: Callable[[], object]
) -> list[list[float]]:
    """Return the seconds of each call, one list per call.

    Parameters
    ----------
    calls : sequence of callables
        One step.
    steps : int
    timer : Timer
    restart : callable
        Called before each step, outside of what is timed: it sets the offset within the data.
    """
    found: list[list[float]] = [[] for _ in calls]
    for first in range(0, steps, BLOCK):
        for _ in range(first, min(first + BLOCK, steps)):
            restart()
            timer.record()
            for call in calls:
                call()
                timer.record()
        # From the last mark of a step to the first of the next is no call.
        for i, seconds in enumerate(timer.seconds()):
            column = i % (len(calls) + 1)
            if column < len(calls):
                found[column].append(seconds)
    return found


def overhead(timer: Timer, calls: int) -> float:
    """Return the seconds that a mark and an empty call take."""
    empty = [_nothing] * calls
    times = time_calls(empty, OVERHEAD_STEPS, timer, _nothing)
    return statistics.median(second for column in times for second in column)


def _nothing() -> None:
    """Do nothing."""


def table(
    plan: Plan,
    times: Sequence[Sequence[float]],
    extra: float,
    whole: float,
    ceilings: Roofline,
) -> dict[str, Any]:
    """Return the profile of a step.

    Parameters
    ----------
    plan : Plan
    times : sequence of sequence of float
        As from `time_calls`, in the order of ``plan.programs["train"]``.
    extra : float
        Seconds of overhead in each of them.
    whole : float
        Seconds of a whole step without timing.
    ceilings : Roofline

    Returns
    -------
    dict
        ``calls`` (one entry per call of the plan), ``sum_seconds``, ``step_seconds``,
        ``between_seconds`` (the step less the sum: what is between the calls; below 0 where marks
        disturb more than they measure) and ``overhead_seconds``.
    """
    rows: list[dict[str, Any]] = []
    for step, seconds in zip(plan.programs["train"], times, strict=True):
        took = max(statistics.median(seconds) - extra, 0.0)
        flops, nbytes = plan.step_cost(step)
        bound = call_bound(plan, step, ceilings)
        product = product_shape(plan, step)
        result = next(iter(step.outputs.values()))
        rows.append(
            {
                "op": step.op,
                "result": result,
                "shape": list(plan.buffers[result].shape),
                "product": None if product is None else [product.m, product.k, product.n],
                "seconds": took,
                "flops": flops,
                "bytes": nbytes,
                "flops_per_second": flops / took if took else None,
                "bytes_per_second": nbytes / took if took else None,
                "bound_seconds": bound,
                "reached": bound / took if took else None,
            }
        )
    total: float = sum(row["seconds"] for row in rows)
    for row in rows:
        row["share"] = row["seconds"] / total if total else 0.0
    return {
        "calls": rows,
        "sum_seconds": total,
        "step_seconds": whole,
        "between_seconds": whole - total,
        "overhead_seconds": extra,
    }
