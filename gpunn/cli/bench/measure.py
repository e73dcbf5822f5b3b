"""The measurement: rows, rounds, and what is noted down as it goes."""

from __future__ import annotations

import importlib
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import gpunn
from gpunn.backends.roofline import core_count
from gpunn.backends.select import select_backend
from gpunn.backends.timing import timer
from gpunn.cli.bench import bounds, memory, profile
from gpunn.cli.bench.machine import describe_machine, load
from gpunn.cli.bench.report import Progress
from gpunn.cli.bench.rounds import SETTLED, Measured, Report, interleaved, spread
from gpunn.cli.bench.settings import OPTIMIZERS, BenchSettings, as_json
from gpunn.cli.bench.task import Ours, Task
from gpunn.errors import ArgumentError, PlanError

CHECKED_STEPS = 50
PREDICTED_ROWS = 10_000
MOST_CALLS = 200  # of predict in a round
PROFILED_STEPS = 400


def peer_processes() -> Any:
    """Return the module that starts the peers, which is not installed with gpunn.

    Raises
    ------
    ArgumentError
        Neither the working folder nor the folder of this gpunn is a checkout of the repository.
    """
    with suppress(ModuleNotFoundError):
        return importlib.import_module("benchmarks.peers.processes")
    checkout = Path(gpunn.__file__).resolve().parents[1]
    if not (checkout / "benchmarks" / "peers" / "processes.py").is_file():
        raise ArgumentError(
            "--compare needs the programs in benchmarks/peers of gpunn's repository, which are not "
            "installed with gpunn: get a checkout, and run `python -m gpunn bench` in it."
        )
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    return importlib.import_module("benchmarks.peers.processes")


class Bench:
    """One run of the measurement.

    Parameters
    ----------
    settings : BenchSettings
    progress : Progress
    clock : callable
    start_peer : callable
        ``start_peer(name, threads, python)`` returns a process to ask; default: `PeerProcess`.

    Attributes
    ----------
    report : dict
        What was measured so far; complete when ``report["complete"]``.
    """

    def __init__(
        self,
        settings: BenchSettings,
        progress: Progress,
        clock: Callable[[], float] = perf_counter,
        start_peer: Callable[[str, int, str | None], Any] | None = None,
    ) -> None:
        self.settings, self.progress, self.clock = settings, progress, clock
        self.start_peer = start_peer
        self.threads = settings.threads or core_count()
        self._peers = peer_processes() if settings.peers else None
        self.company: Any = None
        self.report: Report = {
            "complete": False,
            "machine": describe_machine(),
            "load_before": load(),
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
                notes = self.report["peers"].setdefault(device, {})
                if self._peers is not None:
                    start = self.start_peer or self._peers.PeerProcess
                    self.company = self._peers.Company(notes, start)
                    stack.callback(self.company.close)
                place = "cpu" if device in ("reference", "simulator") else device
                for name in settings.ways:
                    self.progress.now(f"{device}: starting {name}")
                    self.company.start(
                        name, self.threads, settings.peer_python, folder=folder, device=place
                    )
                for precision in precisions:
                    self._measure(task, device, precision)
                stack.close()
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

    @property
    def _names(self) -> list[str]:
        """The peers that wait for commands."""
        return [] if self.company is None else list(self.company.names)

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

    # Rows

    def _measure(self, task: Task, device: str, precision: str) -> None:
        """Measure the rows of one device and precision."""
        settings = self.settings
        label, seconds = f"{device}, {precision}", settings.seconds_per_row
        place: Report = {"device": device, "precision": precision}
        place["threads"] = self.threads if device == "cpu" else None
        limit = settings.threads if device == "cpu" else None
        backend = select_backend(device, threads=limit).backend

        def alone() -> bounds.Roofline:
            self.progress.now(f"{label}: a large product and a large copy alone")
            with backend.threads():
                return bounds.measure_roofline(backend, precision, seconds, self.clock)

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
        if settings.inference:
            self._inference(place, ours)
        # Once more: whatever else the machine did in between, the better one counts.
        ceilings = ceilings.best(alone())
        entry |= {"flops": ceilings.flops, "large_copy": ceilings.large_copy}
        for measured in rows:
            measured.against(ceilings)

    def _row(self, row: Report, ours: Ours, ceilings: bounds.Roofline, label: str) -> Measured:
        settings = self.settings
        ours.settle(settings.seconds_per_row / settings.rounds)
        plan = ours.plan
        with ours.backend.threads():
            seconds = settings.seconds_per_row / settings.rounds
            copy = bounds.copy_rate(
                ours.backend, bounds.working_set(plan) // 2, seconds, self.clock
            )
        measured = Measured(row, plan, copy)
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
            "warm_up_seconds": ours.first_step_seconds + self.clock() - began,
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
        for name in self._names:
            self.progress.now(f"{label}: {name} warms up")
            lengths = {"steps": ours.steps, "epochs": ours.epochs}
            if answer := self.company.ask(name, "setup", **lengths, **task):
                sides[name] = answer
                candidates[name] = partial(self.company.ask, name, "round")
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
            self.progress.now(f"{label}: losses of the same first steps")
            self._check(sides, ours)
            if settings.profile:
                self.progress.now(f"{label}: call by call")
                measured.profile = self._profile(row, ours)
        finally:
            measured.against(ceilings)
            if measured.profile is not None:
                self.report["profiles"].append(measured.profile[0])
            ours.trainer.release()
        return measured

    def _products(self, ours: Ours, products: Callable[[], None]) -> dict[str, float]:
        count = ours.steps * ours.epochs
        with ours.backend.threads():
            began = self.clock()
            for _ in range(count):
                products()
            ours.backend.synchronize()
            seconds = self.clock() - began
        sleep(SETTLED)
        return {"seconds": seconds}

    def _check(self, sides: dict[str, Report], ours: Ours) -> None:
        """Note the loss over the same first batches from the same weights, of each side."""
        steps = min(CHECKED_STEPS, ours.task.rows // ours.batch_size)
        sides["gpunn"]["check"] = {"steps": steps, "loss": ours.check(steps)}
        for name in self._names:
            if name in sides and (answer := self.company.ask(name, "check", steps=steps)):
                sides[name]["check"] = {"steps": steps, "loss": answer["loss"]}

    def _profile(self, row: Report, ours: Ours) -> tuple[Report, list[list[float]], float, float]:
        clock, marker, restart = self.clock, timer(ours.backend), ours.restart()
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
            for name in self._names:
                candidates[name] = partial(
                    self.company.ask, name, "predict", rows=count, times=times
                )
            for _, name, run in interleaved(candidates, self.settings.rounds):
                if answer := run():
                    side = sides.setdefault(name, {}).setdefault(kind, {"times": times})
                    side.setdefault("rounds", []).append(answer["seconds"])
            for side in sides.values():
                if kind in side:
                    calls = [seconds / times for seconds in side[kind]["rounds"]]
                    side[kind] |= {"call_seconds": spread(calls)}


def _predict(ours: Ours, rows: int, times: int) -> dict[str, float]:
    return {"seconds": ours.predict(rows, times)}
