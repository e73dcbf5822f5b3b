"""Rounds: their order, and the statistics that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpunn.cli.bench import bounds, profile
from gpunn.plan.spec import Plan

Report = dict[str, Any]
# Seconds after which the threads of a BLAS sleep: until then they look for work, and keep those of
# whoever computes next from the cores.
SETTLED = 0.1
GAIN = 0.02  # by how much one way has to be faster than another to take its place


def interleaved(
    candidates: Mapping[str, Callable[[], Any]], rounds: int
) -> list[tuple[int, str, Callable[[], Any]]]:
    """Return the order of the rounds: A B, B A, A B, ... so that drifts fall on all alike."""
    names = list(candidates)
    order = []
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            order.append((turn, name, candidates[name]))
    return order


def spread(values: list[float]) -> dict[str, float]:
    """Return median and quartiles."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {"median": float(median), "low_quartile": float(low), "high_quartile": float(high)}


def clearly_faster(these: list[float], those: list[float]) -> bool:
    """Return whether times are shorter than others by more than the noise."""
    ours, other = spread(these), spread(those)
    faster = ours["median"] < (1 - GAIN) * other["median"]
    return faster and ours["high_quartile"] < other["low_quartile"]


@dataclass
class Measured:
    """A row as it was measured, and what its bounds follow from."""

    row: Report
    plan: Plan
    copy: float
    profile: tuple[Report, list[list[float]], float, float] | None = None

    def against(self, ceilings: bounds.Roofline) -> None:
        """Work out bounds, and what share of them is reached."""
        ceilings = replace(ceilings, small_copy=self.copy)
        self.row["bound_seconds"] = bounds.step_bound(self.plan, ceilings)
        summarize(self.row)
        if self.profile is not None:
            entry, times, extra, whole = self.profile
            entry |= profile.table(self.plan, times, extra, whole, ceilings)


def summarize(row: Report) -> None:
    """Add the statistics of a row that follow from its rounds; sides without any are left out."""
    steps, batch_size = row["steps_per_round"], row["batch_size"]
    row["sides"] = {name: side for name, side in row["sides"].items() if side.get("rounds")}
    for name, side in row["sides"].items():
        side["step_seconds"] = spread([seconds / steps for seconds in side["rounds"]])
        median = side["step_seconds"]["median"]
        if name != "products" and median > 0:
            side["samples_per_second"] = batch_size / median
            side["reached"] = row["bound_seconds"] / median
    ours = row["sides"].get("gpunn")
    if ours is None:
        return
    for name, side in row["sides"].items():
        if name not in ("gpunn", "products"):
            pairs = zip(side["rounds"], ours["rounds"], strict=False)
            ratios = [theirs / mine for theirs, mine in pairs if mine > 0]
            if ratios:
                side["time_over_gpunn"] = spread(ratios)
