"""The measurement: rows, rounds, and what is noted down as it goes."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from gpunn.backends.ceilings import core_count
from gpunn.backends.select import select_backend
from gpunn.backends.timing import marks
from gpunn.bench import bounds, memory, profile
from gpunn.bench.machine import describe_machine
from gpunn.bench.settings import OPTIMIZERS, Settings, as_json
from gpunn.bench.task import Ours, Task
from gpunn.bench.workers import PeerError, PeerProcess, PeerRefusalError, missing_packages
from gpunn.errors import ArgumentError, PlanError
from gpunn.plan.spec import Plan

Report = dict[str, Any]
CHECKED_STEPS = 50
PREDICTED_ROWS = 10_000
MOST_CALLS = 200  # of predict in a round
PROFILED_STEPS = 400


class Progress(Protocol):
    """Who is told how far it is."""

    def begin(self, total: int) -> None:
        """So many parts are to be measured."""

    def now(self, text: str) -> None:
        """This is being measured."""

    def advance(self, parts: int = 1) -> None:
        """So many parts are done."""


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


class Bench:
    """One run of the measurement.

    Parameters
    ----------
    settings : Settings
    progress : Progress
    clock : callable
    start_peer : callable
        ``start_peer(name, threads, python)`` returns a `PeerProcess`.

    Attributes
    ----------
    report : dict
        What was measured so far; complete when ``report["complete"]``.
    """

    def __init__(
        self,
        settings: Settings,
        progress: Progress,
        clock: Callable[[], float] = perf_counter,
        start_peer: Callable[[str, int, str | None], Any] = PeerProcess,
    ) -> None:
        self.settings, self.progress, self.clock = settings, progress, clock
        self.start_peer = start_peer
        self.threads = settings.threads or core_count()
        self.peers: dict[str, Any] = {}
        self.report: Report = {
            "complete": False,
            "machine": describe_machine(),
            "settings": as_json(settings),
            "devices": {},
            "ceilings": [],
            "rows": [],
            "inference": [],
            "profiles": [],
            "cold_start": [],
            "peers": {},
            "skipped": [],
        }

    def run(self) -> Report:
        """Measure everything; Ctrl-C gets through, and leaves in `report` what there is."""
        plan = self._precisions()
        settings = self.settings
        rows = sum(map(len, plan.values())) * len(settings.optimizers) * len(settings.batch_sizes)
        cold = 2 * len(plan) if settings.cold_start else 0
        sides = 1 + len(settings.ways)
        self.progress.begin(rows * (1 + settings.rounds * sides) + cold)
        self.progress.now("random images")
        task = Task(settings)
        with tempfile.TemporaryDirectory(prefix="gpunn-bench-") as folder, ExitStack() as stack:
            if settings.peers:
                task.save(Path(folder))
            for device, precisions in plan.items():
                stack.callback(self._end_peers)
                self._start_peers(device, folder)
                for precision in precisions:
                    self._measure(task, device, precision)
                self._end_peers()
        if settings.cold_start:
            for device in plan:
                for cache in ("warm", "cold"):
                    self.progress.now(f"{device}: start of a process, {cache} cache")
                    found = memory.cold_start(settings, device, cache)
                    self.report["cold_start"].append(found)
                    self.progress.advance()
        self.report["peak_bytes"] = memory.peak_bytes()
        self.report["complete"] = True
        return self.report

    def _precisions(self) -> dict[str, list[str]]:
        """Return the precisions that each device computes in; note those that it does not."""
        found: dict[str, list[str]] = {}
        for device in self.settings.devices:
            threads = self.settings.threads if device == "cpu" else None
            backend = select_backend(device, threads=threads).backend
            for precision in self.settings.precisions:
                try:
                    backend.check((), precision, 1)
                except PlanError as error:
                    text = " ".join(str(error).split())
                    self.report["skipped"].append(f"{device}, {precision}: {text}")
                else:
                    found.setdefault(device, []).append(precision)
                    self.report["devices"][device] = backend.describe()
        if not found:
            raise ArgumentError(f"bench: nothing to measure. {' '.join(self.report['skipped'])}")
        return found

    # Peers

    def _start_peers(self, device: str, folder: str) -> None:
        settings, notes = self.settings, self.report["peers"].setdefault(device, {})
        for name in settings.ways:
            self.progress.now(f"{device}: starting {name}")
            if lacking := missing_packages(name, settings.peer_python):
                command = f"pip install {' '.join(lacking)}"
                notes[name] = {"state": "missing", "detail": command}
                continue
            notes[name] = {"state": "measured"}
            peer = self.start_peer(name, self.threads, settings.peer_python)
            self.peers[name] = peer
            place = "cpu" if device in ("reference", "simulator") else device
            arguments = {"folder": folder, "threads": self.threads, "device": place}
            if answer := self._ask(device, name, "start", **arguments):
                notes[name] |= answer
            elif name in self.peers:
                notes[name]["state"] = "refused"
                self.peers.pop(name).close()

    def _ask(self, where: str, name: str, do: str, /, **arguments: Any) -> dict[str, Any] | None:
        """Ask a peer; where that fails, note why and go on without it."""
        peer = self.peers.get(name)
        if peer is None:
            return None
        try:
            answer: dict[str, Any] = peer.ask(do, **arguments)
        except PeerRefusalError as error:
            refused = self.report["peers"][where][name].setdefault("refused", [])
            if str(error) not in refused:
                refused.append(str(error))
            return None
        except PeerError as error:
            self.report["peers"][where][name] |= {"state": "failed", "detail": str(error)}
            self.peers.pop(name).close()
            return None
        return answer

    def _end_peers(self) -> None:
        while self.peers:
            self.peers.popitem()[1].close()

    # Rows

    def _measure(self, task: Task, device: str, precision: str) -> None:
        """Measure the rows of one device and precision."""
        settings = self.settings
        label, seconds = f"{device}, {precision}", settings.seconds_per_row
        place: Report = {"device": device, "precision": precision}
        place["threads"] = self.threads if device == "cpu" else None
        limit = settings.threads if device == "cpu" else None
        backend = select_backend(device, threads=limit).backend

        def alone() -> bounds.Ceilings:
            self.progress.now(f"{label}: a large product and a large copy alone")
            with backend.threads():
                return bounds.large_ceilings(backend, precision, seconds, self.clock)

        ceilings = alone()
        entry = dict(place)
        self.report["ceilings"].append(entry)
        entry |= {"flops": ceilings.flops, "large_copy": ceilings.large_copy}
        rows = []
        for optimizer in settings.optimizers:
            for batch_size in settings.batch_sizes:
                text = f"{label}, {optimizer}, batch {batch_size}"
                self.progress.now(text)
                ours = Ours(task, device, precision, optimizer, batch_size, self.clock)
                row = place | {"optimizer": optimizer, "batch_size": batch_size}
                rows.append(self._row(row, ours, ceilings, text))
        self._inference(place, ours)
        # Once more: whatever else the machine did in between, the better one counts.
        ceilings = ceilings.best(alone())
        entry |= {"flops": ceilings.flops, "large_copy": ceilings.large_copy}
        for measured in rows:
            measured.against(ceilings)

    def _row(self, row: Report, ours: Ours, ceilings: bounds.Ceilings, label: str) -> _Measured:
        settings, device = self.settings, row["device"]
        ours.settle(settings.seconds_per_row / settings.rounds)
        plan = ours.plan
        with ours.backend.threads():
            seconds = settings.seconds_per_row / settings.rounds
            copy = bounds.copy_rate(
                ours.backend, bounds.working_set(plan) // 2, seconds, self.clock
            )
        measured = _Measured(row, plan, copy)
        row |= {
            "steps_per_round": ours.steps * ours.epochs,
            "epochs_per_round": ours.epochs,
            "flops": plan.flops("train"),
            "bytes": plan.bytes("train"),
            "working_set_copy": copy,
            "memory": memory.region_bytes(plan),
            "sides": {},
        }
        began = self.clock()
        ours.round()
        sides: dict[str, Report] = row["sides"]
        sides["gpunn"] = {
            "first_step_seconds": ours.first_step_seconds,
            "warm_up_seconds": self.clock() - began,
        }
        candidates: dict[str, Callable[[], Any]] = {"gpunn": ours.round}
        with ours.backend.threads():
            products = bounds.products_alone(ours.backend, plan, row["precision"])
        if products is not None:
            candidates["products"] = partial(self._products, ours, products)
            sides["products"] = {}
            candidates["products"]()
        task = {
            "batch_size": ours.batch_size,
            "optimizer": row["optimizer"],
            "rate": OPTIMIZERS[row["optimizer"]],
            "dropout": settings.dropout,
            "precision": row["precision"],
        }
        for name in list(self.peers):
            self.progress.now(f"{label}: {name} warms up")
            lengths = {"steps": ours.steps, "epochs": ours.epochs}
            if answer := self._ask(device, name, "setup", **lengths, **task):
                sides[name] = answer
                candidates[name] = partial(self._ask, device, name, "round")
        self.progress.advance()
        self.report["rows"].append(row)
        for side in sides.values():
            side |= {"rounds": [], "losses": []}
        try:
            for turn, name, run in interleaved(candidates, settings.rounds):
                self.progress.now(f"{label}: {name}, round {turn + 1} of {settings.rounds}")
                if answer := run():
                    sides[name]["rounds"].append(answer["seconds"])
                    sides[name]["losses"] += [answer["loss"]] if "loss" in answer else []
                self.progress.advance(name != "products")
            self._check(sides, ours, device)
            if settings.profile:
                self.progress.now(f"{label}: call by call")
                measured.profile = self._profile(row, ours)
        finally:
            measured.against(ceilings)
            ours.trainer.release()
        return measured

    def _products(self, ours: Ours, products: Callable[[], None]) -> dict[str, float]:
        count = ours.steps * ours.epochs
        with ours.backend.threads():
            began = self.clock()
            for _ in range(count):
                products()
            ours.backend.synchronize()
            return {"seconds": self.clock() - began}

    def _check(self, sides: dict[str, Report], ours: Ours, device: str) -> None:
        """Note the loss over the same first batches from the same weights, of each side."""
        steps = min(CHECKED_STEPS, ours.task.rows // ours.batch_size)
        sides["gpunn"]["check"] = {"steps": steps, "loss": ours.check(steps)}
        for name in list(self.peers):
            if name in sides and (answer := self._ask(device, name, "check", steps=steps)):
                sides[name]["check"] = {"steps": steps, "loss": answer["loss"]}

    def _profile(self, row: Report, ours: Ours) -> tuple[Report, list[list[float]], float, float]:
        clock, marker, restart = self.clock, marks(ours.backend), ours.restart()
        calls = ours.trainer.bound.calls("train")
        with ours.backend.threads():
            began = clock()
            ours.bare_steps(2)
            each = max((clock() - began) / 2, 1e-9)
            block = max(1, int(self.settings.seconds_per_row / each / 2 / self.settings.rounds))
            block = min(block, PROFILED_STEPS)
            extra = profile.overhead(marker, len(calls))
            times: list[list[float]] = [[] for _ in calls]
            whole = []
            for _ in range(self.settings.rounds):
                whole.append(ours.bare_steps(block) / block)
                for column, new in zip(
                    times, profile.time_calls(calls, block, marker, restart), strict=True
                ):
                    column += new
        place = {key: row[key] for key in ("device", "precision", "threads", "optimizer")}
        entry: Report = place | {"batch_size": row["batch_size"]}
        self.report["profiles"].append(entry)
        return entry, times, extra, statistics.median(whole)

    def _inference(self, place: Report, ours: Ours) -> None:
        """Measure ``predict`` of many rows, and of one."""
        device = place["device"]
        label = f"{device}, {place['precision']}: predict"
        rows = min(PREDICTED_ROWS, ours.task.rows)
        entry: Report = place | {"rows": rows, "sides": {}}
        sides = entry["sides"]
        self.report["inference"].append(entry)
        length = self.settings.seconds_per_row / self.settings.rounds
        for kind, count in (("throughput", rows), ("latency", 1)):
            self.progress.now(f"{label}, {kind}")
            once = max(ours.predict(count, 1), 1e-9)
            times = min(MOST_CALLS, max(1, int(length / once)))
            candidates: dict[str, Callable[[], Any]] = {
                "gpunn": partial(_predict, ours, count, times)
            }
            for name in self.peers:
                candidates[name] = partial(
                    self._ask, device, name, "predict", rows=count, times=times
                )
            for _, name, run in interleaved(candidates, self.settings.rounds):
                if answer := run():
                    side = sides.setdefault(name, {}).setdefault(kind, {"times": times})
                    side.setdefault("rounds", []).append(answer["seconds"])
            for side in sides.values():
                if kind in side:
                    calls = [seconds / times for seconds in side[kind]["rounds"]]
                    side[kind] |= {"call_seconds": spread(calls)}


@dataclass
class _Measured:
    """A row as it was measured, and what its bounds follow from."""

    row: Report
    plan: Plan
    copy: float
    profile: tuple[Report, list[list[float]], float, float] | None = None

    def against(self, ceilings: bounds.Ceilings) -> None:
        """Work out bounds, and what share of them is reached."""
        ceilings = replace(ceilings, small_copy=self.copy)
        self.row["bound_seconds"] = bounds.step_bound(self.plan, ceilings)
        summarize(self.row)
        if self.profile is not None:
            entry, times, extra, whole = self.profile
            entry |= profile.table(self.plan, times, extra, whole, ceilings)


def _predict(ours: Ours, rows: int, times: int) -> dict[str, float]:
    return {"seconds": ours.predict(rows, times)}


def summarize(row: Report) -> None:
    """Add the figures of a row that follow from its rounds; sides without any are left out."""
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
