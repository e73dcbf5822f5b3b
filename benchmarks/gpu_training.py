"""Training throughput on a GPU beside PyTorch and JAX, all in the same run.

Everyone trains the same net on the same images, which lie on the device: 784-300-100-10 with ReLU,
dropout and SGD, rows in a new order every epoch. gpunn launches kernel by kernel ("eager") or in
CUDA graphs of many steps, for small batches also with kernels put in place early ("dependent":
where it takes less time than gpunn without, such launches pay); PyTorch works eagerly, with
hand-captured CUDA graphs of many steps, and with ``torch.compile(mode="max-autotune")``; JAX
compiles a `lax.scan` over the epoch. gpunn keeps images in uint8, the others in float32, scaled
beforehand. Rounds are interleaved; ratios are taken round by round. Each peer has a process of its
own.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gpunn
from benchmarks.gpu_kernels import BATCH_SIZES, HIDDEN, PRECISIONS
from benchmarks.peers.processes import PeerError, PeerProcess, PeerRefusalError, missing_packages
from gpunn.backends.select import select_backend
from gpunn.cli.bench.rounds import interleaved, spread
from gpunn.cli.bench.settings import OPTIMIZERS, BenchSettings
from gpunn.cli.bench.task import Task
from gpunn.errors import DeviceError

Save = Callable[[dict[str, Any]], None]
PEERS = ("torch", "torch.graphs", "jax")
LATE = "torch.autotune"  # compiles for minutes, so it comes when all others are done


class Mode(NamedTuple):
    """How gpunn launches: in graphs or kernel by kernel, in place early, tuned products.

    Where `dependent` is None it is as users get it.
    """

    graphs: bool
    dependent: bool | None = None
    tuned: bool = True


MODES = {
    "gpunn": Mode(True),
    "gpunn, eager": Mode(False),
    # Whichever of the two users do not get anyway.
    "gpunn, dependent": Mode(True, dependent=True),
    "gpunn, ordinary": Mode(True, dependent=False),
}
SMALL = 128  # the largest batch for which dependent launches are measured
UNTUNED = "gpunn, untuned"  # with graphs; a side only where "gpunn" makes use of a table
ROUNDS = 5
ROUND_SECONDS = 0.03  # of gpunn; the slowest peer takes some twenty times as long
WARM_UP = 5  # epochs: a graph is captured once as many steps as it holds, and 8, have been taken
DROPOUT = 0.2


class Ours:
    """gpunn's side of a row."""

    def __init__(
        self, task: Task, device: str, precision: str, batch_size: int, mode: Mode
    ) -> None:
        self.model = task.model(device, precision, "sgd")
        self.backend: Any = self.model.session.backend
        self.mode, self.epochs = mode, 1
        if not mode.tuned:
            self.backend.products = "own"  # nothing is bound yet
        self._choose()
        rows = task.rows // batch_size * batch_size
        data = task.images[:rows], task.labels[:rows]
        self.trainer = gpunn.Trainer(self.model, *data, batch_size=batch_size)

    def _choose(self) -> None:
        """Launch in this side's way; the sides share a driver."""
        driver, wanted = self.backend.driver, self.mode.dependent
        wanted = bool(self.backend.table.dependent_launch) if wanted is None else wanted
        self.backend.graphs, driver.dependent_launches = self.mode.graphs, wanted
        if self.mode.dependent and not driver.dependent_launches:
            raise DeviceError(f"{driver.describe()} has no dependent launches")

    def round(self) -> dict[str, Any]:
        """Train the epochs of a round."""
        self._choose()
        replays, began = self.backend.driver.replays, time.perf_counter()
        for _ in range(self.epochs):
            logs = self.trainer.epoch()
        seconds = time.perf_counter() - began
        launched = (self.backend.driver.replays - replays) / self.epochs
        return {"seconds": seconds, "loss": float(logs["loss"]), "graph_launches": launched}


class Peers:
    """Peers that wait for commands; who is not there, and why, stands in `notes`."""

    def __init__(self, device: str, folder: Path, deadline: float, start: Any, lacks: Any) -> None:
        self.notes: dict[str, Any] = {}
        self.device, self.folder, self.deadline = device, folder, deadline
        self._start, self._lacks = start, lacks
        self._running: dict[str, Any] = {}

    def begin(self, name: str) -> None:
        """Start a peer, if it is installed."""
        if lacking := self._lacks(name, None):
            self.notes[name] = {"state": "not installed", "detail": ", ".join(lacking)}
            return
        self.notes[name] = {"state": "measured"}
        self._running[name] = self._start(name, 1)
        where = {"folder": str(self.folder), "threads": 1, "device": self.device}
        if answer := self.ask(name, "start", **where):
            self.notes[name] |= answer
        elif name in self._running:
            self.notes[name]["state"] = "refused"
            self._running.pop(name).close()

    def ask(self, name: str, do: str, **arguments: Any) -> dict[str, Any] | None:
        """Return the answer, or note why there is none; nobody is waited for past the deadline."""
        peer = self._running.get(name)
        if peer is None:
            return None
        peer.patience = max(1.0, self.deadline - time.perf_counter())
        try:
            answer: dict[str, Any] = peer.ask(do, **arguments)
        except PeerRefusalError as error:
            self.notes[name].setdefault("errors", []).append(str(error))
            return None
        except PeerError as error:
            self.notes[name] |= {"state": "failed", "detail": str(error)}
            self._running.pop(name).close()
            return None
        return answer

    def close(self) -> None:
        """End all."""
        while self._running:
            self._running.popitem()[1].close()


def gpu_table(device: str) -> tuple[str, bool]:
    """Return what training takes from `gpunn tune`, in words; whether launches are dependent."""
    backend: Any = select_backend(device).backend
    return backend.table.describe(), bool(backend.table.dependent_launch)


def one_row(
    task: Task, device: str, precision: str, batch_size: int, peers: Peers, names: tuple[str, ...]
) -> dict[str, Any]:
    """Return the rounds of gpunn and of the peers `names` for one batch size and precision."""
    steps, candidates = task.rows // batch_size, {}
    sides: dict[str, Any] = {}
    table, dependent = gpu_table(device)
    modes = MODES | ({UNTUNED: Mode(True, tuned=False)} if table else {})
    for name, mode in modes.items():
        if mode.dependent is not None and (batch_size > SMALL or mode.dependent == dependent):
            continue
        try:
            ours = Ours(task, device, precision, batch_size, mode)
        except DeviceError as error:
            if not mode.dependent:
                raise
            peers.notes[name] = {"state": "refused", "detail": str(error)}
            continue
        ours.epochs, candidates[name] = WARM_UP, ours.round
        sides[name] = {"warm_up_seconds": ours.round()["seconds"]}
        ours.epochs = 1
        if name == "gpunn":
            epochs = max(1, min(200, round(ROUND_SECONDS / max(ours.round()["seconds"], 1e-6))))
        ours.epochs = epochs
    job = {"batch_size": batch_size, "optimizer": "sgd", "rate": OPTIMIZERS["sgd"]}
    job |= {"dropout": DROPOUT, "precision": precision}
    for name in names:
        if answer := peers.ask(name, "setup", steps=steps, epochs=epochs, **job):
            sides[name] = answer
            candidates[name] = lambda name=name: peers.ask(name, "round")
    rounds: dict[int, dict[str, float]] = {}
    for turn, name, call in interleaved(candidates, ROUNDS):
        if time.perf_counter() < peers.deadline and (answer := call()):
            rounds.setdefault(turn, {})[name] = answer["seconds"]
            sides[name] |= answer
    for name, side in sides.items():
        times = [found[name] for found in rounds.values() if name in found]
        if not times:
            continue
        per_step = spread([seconds / (steps * epochs) for seconds in times])
        side |= {"round_seconds": times, "step_seconds": per_step}
        side["samples_per_second"] = batch_size / per_step["median"]
        pairs = [(r[name], r["gpunn"]) for r in rounds.values() if name in r and "gpunn" in r]
        if name != "gpunn" and pairs:
            side["time_over_gpunn"] = spread([theirs / mine for theirs, mine in pairs])
    row = {"precision": precision, "batch_size": batch_size, "steps": steps, "epochs": epochs}
    row |= {"products": table or "untuned"}
    return row | {"sides": {k: v for k, v in sides.items() if "step_seconds" in v}}


def measure(
    device: str,
    seconds: float,
    save: Save = lambda result: None,
    start: Any = PeerProcess,
    lacks: Any = missing_packages,
) -> dict[str, Any]:
    """Return throughput; stops when the time is up."""
    deadline = time.perf_counter() + seconds
    on_gpu = device.startswith("cuda")
    batch_sizes = BATCH_SIZES if on_gpu else (32,)
    task = Task(BenchSettings(hidden=HIDDEN, batch_sizes=batch_sizes, dropout=DROPOUT))
    if not on_gpu:
        task.images, task.labels = task.images[:64], task.labels[:64]
    result: dict[str, Any] = {"ok": True, "rows": [], "late_rows": [], "peers": {}}
    with tempfile.TemporaryDirectory(prefix="gpunn-report-") as folder:
        task.save(Path(folder))
        where = device if on_gpu else "cpu"
        peers = Peers(where, Path(folder), deadline, start, lacks)
        result["peers"] = peers.notes
        jobs = [(p, b) for p in (PRECISIONS if on_gpu else PRECISIONS[:1]) for b in batch_sizes]
        try:
            for names, rows in ((PEERS, result["rows"]), ((LATE,), result["late_rows"])):
                if time.perf_counter() >= deadline:
                    break
                for name in names:
                    peers.begin(name)
                if names == (LATE,) and peers.notes[LATE]["state"] != "measured":
                    break
                for precision, batch_size in jobs:
                    if time.perf_counter() >= deadline:
                        result["cut_short"] = True
                        break
                    rows.append(one_row(task, device, precision, batch_size, peers, names))
                    save(result)
        finally:
            peers.close()
    return result


def markdown(result: dict[str, Any]) -> list[str]:
    """Return the tables."""
    measured = {name for row in result["rows"] for name in row["sides"]}
    names = [name for name in (*MODES, UNTUNED) if name in measured] + [*PEERS, LATE]
    lines = [
        "Training 784-300-100-10, SGD, dropout 0.2, microseconds per step (median), data on the "
        "device; in brackets the time over that of gpunn with CUDA graphs, median of the ratios "
        "of rounds:",
        "",
        f"| precision | batch | {' | '.join(names)} |",
        "|---|---|" + "---|" * len(names),
    ]
    late = {(row["precision"], row["batch_size"]): row for row in result["late_rows"]}
    for row in result["rows"]:
        other = late.get((row["precision"], row["batch_size"]), {"sides": {}})["sides"]
        sides = row["sides"] | {k: v for k, v in other.items() if k == LATE}
        cells = [_cell(sides.get(name)) for name in names]
        lines.append(f"| {row['precision']} | {row['batch_size']} | {' | '.join(cells)} |")
    for said in sorted({row["products"] for row in result["rows"] if "products" in row}):
        lines += ["", f"gpunn's matrix products: {said}."]
    for name, note in result["peers"].items():
        why = "; ".join(filter(None, [note.get("detail"), *note.get("errors", [])]))
        if why:
            lines += ["", f"{name}: {note['state']}: {why}"]
    if result.get("cut_short"):
        lines += ["", "Cut short: the time was up."]
    return lines


def _cell(side: dict[str, Any] | None) -> str:
    if side is None:
        return "-"
    text = f"{side['step_seconds']['median'] * 1e6:.1f}"
    ratio = side.get("time_over_gpunn")
    return f"{text} ({ratio['median']:.2f})" if ratio else text
