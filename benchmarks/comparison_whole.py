"""Parts of the comparison that train to an end: a whole fit, and the time to an accuracy."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

import gpunn
from benchmarks.peers.processes import Company
from gpunn.cli.bench.rounds import interleaved, spread
from gpunn.cli.bench.settings import OPTIMIZERS, BenchSettings
from gpunn.cli.bench.task import Task
from gpunn.data.named import load
from gpunn.errors import DatasetError

if TYPE_CHECKING:
    from benchmarks.comparison import Scale, Watch

Report = dict[str, Any]
FIT_BATCH = 50
# The recipe of the time to an accuracy; the rate is that of `OPTIMIZERS`.
RECIPE = {"optimizer": "adam", "batch_size": 128}
ACCURACY = 0.98


def task_of(batch_size: int, optimizer: str) -> Report:
    """Return what a peer is told about the net."""
    rate = OPTIMIZERS[optimizer]
    chosen: Report = {"batch_size": batch_size, "optimizer": optimizer, "rate": rate}
    return chosen | {"dropout": 0.0, "precision": "float32"}


@contextmanager
def company(
    task: Task, device: str, watch: Watch, notes: Report, start: Any
) -> Iterator[tuple[Company, Report]]:
    """Start the peers on one device; end them at the end."""
    settings = task.settings
    place: Report = {"device": device if device.startswith("cuda") else "cpu"}
    with tempfile.TemporaryDirectory(prefix="gpunn-comparison-") as folder:
        task.save(Path(folder))
        place |= {"folder": folder}
        peers = Company(notes, start)
        try:
            for name in settings.ways:
                watch.now(f"{device}: starting {name}")
                peers.start(name, settings.threads or 1, settings.peer_python, **place)
            yield peers, place | {"threads": settings.threads or 1}
        finally:
            peers.close()


# A whole fit


def fit(scale: Scale, watch: Watch, entry: Report, start: Any) -> None:
    """Measure from data in memory to a trained model, with all that comes between."""
    task = Task(scale.settings)
    steps, epochs = scale.fit_steps, scale.fit_epochs
    entry |= {"batch_size": FIT_BATCH, "steps": steps, "epochs": epochs, "devices": []}
    entry["peers"] = {}
    for device in scale.settings.devices:
        found: Report = {"device": device, "sides": {}}
        notes = entry["peers"].setdefault(device, {})
        with company(task, device, watch, notes, start) as (peers, _):
            entry["devices"].append(found)
            order: Report = {"gpunn": partial(own_fit, task, device, steps, epochs)}
            for name in peers.names:
                told = {"steps": steps, "epochs": epochs, **task_of(FIT_BATCH, "sgd")}
                order[name] = partial(peers.ask, name, "fit", **told)
            # The first fit of a process has compiled code to load, or to make: that is apart.
            for name, call in order.items():
                watch.now(f"{device}: whole fit, {name}, the first")
                if answer := call():
                    found["sides"][name] = {"first_seconds": answer["seconds"], "rounds": []}
                    found["sides"][name]["losses"] = []
            rounds = scale.settings.rounds
            for turn, name, call in interleaved(order, rounds):
                if name in found["sides"]:
                    watch.now(f"{device}: whole fit, {name}, round {turn + 1} of {rounds}")
                    if answer := call():
                        found["sides"][name]["rounds"].append(answer["seconds"])
                        found["sides"][name]["losses"].append(answer["loss"])
                        compare(found["sides"])


def compare(sides: Report) -> None:
    """Add medians, and ratios to gpunn's rounds pair by pair."""
    ours = sides["gpunn"]["rounds"]
    for name, side in sides.items():
        if side["rounds"]:
            side["fit_seconds"] = spread(side["rounds"])
        pairs = list(zip(side["rounds"], ours, strict=False))
        if pairs and name != "gpunn":
            side["time_over_gpunn"] = spread([theirs / mine for theirs, mine in pairs])


def own_fit(task: Task, device: str, steps: int, epochs: int) -> Report:
    """Return the seconds of gpunn's fit, with the making of the model, and its last loss."""
    rows = steps * FIT_BATCH
    images, labels = task.images[:rows], task.labels[:rows]
    began = perf_counter()
    model = task.model(device, "float32", "sgd")
    history = model.fit(images, labels, batch_size=FIT_BATCH, epochs=epochs, verbose=0)
    return {"seconds": perf_counter() - began, "loss": float(history.history["loss"][-1])}


# Time to an accuracy


class Digits(Task):
    """MNIST: the training images, then the test images; weights of a seed."""

    def __init__(self, settings: BenchSettings, rows: int, tested: int) -> None:
        found = load("mnist")
        self.settings, self.tested = settings, min(tested, len(found.x_test))
        parts = (found.x_train[:rows], found.x_test[: self.tested])
        self.images = np.concatenate(parts).reshape(-1, settings.inputs)
        labels = (found.y_train[:rows], found.y_test[: self.tested])
        self.labels = np.concatenate(labels).astype(np.int32)

    @property
    def trained(self) -> int:
        """Rows to train on."""
        return len(self.images) - self.tested

    def draw(self, seed: int) -> None:
        """Draw initial weights."""
        settings = self.settings
        layers: list[Any] = [gpunn.Input((settings.inputs,))]
        layers += [gpunn.layers.Dense(units, activation="relu") for units in settings.hidden]
        net = gpunn.Sequential([*layers, gpunn.layers.Dense(settings.classes)])
        net.compile("sgd", "mse", device="reference", seed=seed)
        self.weights = net.get_weights()


def accuracy(scale: Scale, watch: Watch, entry: Report, start: Any) -> None:
    """Measure how long training takes to reach an accuracy on the test images."""
    settings = scale.settings
    entry |= RECIPE | {"rate": OPTIMIZERS["adam"], "accuracy": ACCURACY, "devices": []}
    entry["peers"] = {}
    try:
        task = Digits(settings, scale.rows, max(scale.rows // 6, 1))
    except DatasetError as error:
        entry["missing"] = f"MNIST: {str(error).splitlines()[0]}"
        watch.say(entry["missing"])
        return
    batch = int(RECIPE["batch_size"])  # type: ignore[call-overload]
    told = {"steps": task.trained // batch, "most": scale.most_epochs, "tested": task.tested}
    told |= {"accuracy": ACCURACY}
    task.draw(0)
    for device in settings.devices:
        found: Report = {"device": device, "sides": {}}
        notes = entry["peers"].setdefault(device, {})
        with company(task, device, watch, notes, start) as (peers, again):
            entry["devices"].append(found)
            for seed in range(scale.seeds):
                task.draw(seed)
                np.savez(Path(again["folder"]) / "weights.npz", *task.weights)
                names = ["gpunn", *peers.names]
                for name in names if seed % 2 == 0 else reversed(names):
                    watch.now(f"{device}: to {ACCURACY:.1%}, {name}, seed {seed}")
                    if name == "gpunn":
                        answer: Report | None = own_reach(task, device, **told)
                    elif peers.ask(name, "start", **again):  # with these weights
                        told_all = told | task_of(batch, "adam")
                        answer = peers.ask(name, "reach", **told_all)
                    else:
                        answer = None
                    if answer:
                        side = found["sides"].setdefault(name, {"runs": []})
                        side["runs"].append({"seed": seed} | answer)
                        summarize(side)
                watch.save()


def summarize(side: Report) -> None:
    """Add how many runs got there, and the median seconds and epochs of those."""
    there = [run for run in side["runs"] if run["accuracies"][-1] >= ACCURACY]
    side["reached"] = len(there)
    if there:
        side["median_seconds"] = statistics.median(sum(run["seconds"]) for run in there)
        side["median_epochs"] = statistics.median(len(run["accuracies"]) for run in there)


def own_reach(
    task: Digits, device: str, steps: int, most: int, tested: int, accuracy: float
) -> Report:
    """Train gpunn's net as `Worker.reach` does a peer's."""
    batch = int(RECIPE["batch_size"])  # type: ignore[call-overload]
    rows, first = steps * batch, task.trained
    images, labels = task.images[:rows], task.labels[:rows]
    began = perf_counter()
    model = task.model(device, "float32", "adam")
    trainer = gpunn.Trainer(model, images, labels, batch_size=batch)
    seconds, found = [perf_counter() - began], list[float]()
    while len(found) < most and (not found or found[-1] < accuracy):
        began = perf_counter()
        trainer.epoch()
        seconds.append(perf_counter() - began)
        guesses = model.predict(task.images[first:], verbose=0).argmax(1)
        found.append(float((guesses == task.labels[first:]).mean()))
    trainer.release()
    return {"seconds": seconds, "accuracies": found}
