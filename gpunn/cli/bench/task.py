"""What is trained: random images like MNIST's, and gpunn's side of the comparison."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import gpunn
from gpunn.backends.interface import Backend
from gpunn.cli.bench.settings import OPTIMIZERS, BenchSettings
from gpunn.plan.spec import CONTROL, Plan

Array = np.ndarray[Any, Any]
ROWS = 60_000
FLOAT_BYTES = 1 << 30  # what the images take at most as the peers hold them, in float32
BACKGROUND = 0.8  # share of pixels that are 0
CALIBRATION_SECONDS = 0.05


def mnist_like(rows: int, inputs: int, classes: int) -> tuple[Array, Array]:
    """Return images, uint8 of shape (rows, inputs), and labels that a net can learn."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (rows, inputs), dtype=np.uint8)
    images[rng.random(images.shape, dtype=np.float32) < BACKGROUND] = 0
    teacher = rng.standard_normal((inputs, classes), dtype=np.float32)
    scores = images.astype(np.float32) @ teacher
    scores -= scores.mean(0)
    return images, (scores / (scores.std(0) + 1e-6)).argmax(1).astype(np.int32)


class Task:
    """Data and initial weights, the same for gpunn and for all peers."""

    def __init__(self, settings: BenchSettings) -> None:
        largest = max(settings.batch_sizes)
        rows = max(largest, min(ROWS, FLOAT_BYTES // (4 * settings.inputs)))
        self.settings = settings
        self.images, self.labels = mnist_like(rows, settings.inputs, settings.classes)
        net = _net(settings)
        net.compile("sgd", "sparse_categorical_crossentropy", device="reference", seed=0)
        self.weights: list[Array] = net.get_weights()

    @property
    def rows(self) -> int:
        """Rows of the data."""
        return len(self.images)

    def save(self, folder: Path) -> None:
        """Write data and weights for the peers."""
        np.save(folder / "images.npy", self.images)
        np.save(folder / "labels.npy", self.labels)
        np.savez(folder / "weights.npz", *self.weights)

    def model(self, device: str, precision: str, optimizer: str) -> gpunn.Model:
        """Return gpunn's net with the initial weights."""
        net = _net(self.settings)
        rate = OPTIMIZERS[optimizer]
        chosen = {
            "sgd": gpunn.optimizers.SGD(rate),
            "momentum": gpunn.optimizers.SGD(rate, momentum=0.9),
            "adam": gpunn.optimizers.Adam(rate),
        }[optimizer]
        net.compile(
            chosen,
            "sparse_categorical_crossentropy",
            device=device,
            precision=precision,
            threads=self.settings.threads if device in ("cpu", "auto") else None,
            seed=0,
        )
        net.set_weights(self.weights)
        return net


def _net(settings: BenchSettings) -> gpunn.Model:
    stack: list[Any] = [gpunn.Input((settings.inputs,)), gpunn.layers.Rescaling(1 / 255)]
    for units in settings.hidden:
        stack.append(gpunn.layers.Dense(units, activation="relu"))
        if settings.dropout:
            stack.append(gpunn.layers.Dropout(settings.dropout))
    stack.append(gpunn.layers.Dense(settings.classes, activation="softmax"))
    return gpunn.Sequential(stack)


class Ours:
    """gpunn in one row of the measurement.

    Parameters
    ----------
    task : Task
    device, precision, optimizer : str
    batch_size : int
    clock : callable
    """

    def __init__(
        self,
        task: Task,
        device: str,
        precision: str,
        optimizer: str,
        batch_size: int,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.task, self.batch_size, self.clock = task, batch_size, clock
        self._net = lambda: task.model(device, precision, optimizer)
        began = clock()
        self.model = self._net()
        self.trainer = self._trainer(self.model, task.rows // batch_size)
        self.trainer.step()
        self.first_step_seconds = clock() - began
        self.steps, self.epochs = 1, 1

    @property
    def backend(self) -> Backend:
        """Where it computes."""
        backend: Backend = self.model.compiled.selection.backend
        return backend

    @property
    def plan(self) -> Plan:
        """The plan of a training step."""
        plan: Plan = self.trainer.bound.plan
        return plan

    def _trainer(self, model: gpunn.Model, steps: int, shuffle: bool = True) -> gpunn.Trainer:
        rows = steps * self.batch_size
        images, labels = self.task.images[:rows], self.task.labels[:rows]
        return gpunn.Trainer(model, images, labels, batch_size=self.batch_size, shuffle=shuffle)

    def bare_steps(self, count: int) -> float:
        """Return the seconds of `count` steps with nothing around them."""
        calls = self.trainer.bound.calls("train")
        restart = self.restart()
        began = self.clock()
        for _ in range(count):
            restart()
            for call in calls:
                call()
        self.backend.synchronize()
        return self.clock() - began

    def restart(self) -> Callable[[], None]:
        """Return what to call before each bare step: it goes back to the first row at the end."""
        left = 0

        def call() -> None:
            nonlocal left
            if not left:
                self.trainer.bound.write(f"{CONTROL}/offset", 0)
                left = self.trainer.steps_per_epoch
            left -= 1

        return call

    def settle(self, seconds: float) -> float:
        """Decide on the steps of a round that takes about `seconds`; return those of a step."""
        with self.backend.threads():
            count = 1
            while (took := self.bare_steps(count)) < min(CALIBRATION_SECONDS, seconds):
                count *= 2
        wanted = max(1, int(seconds * count / max(took, 1e-9)))
        self.steps = min(wanted, self.trainer.steps_per_epoch)
        self.epochs = max(1, wanted // self.steps)
        # Anew: the bare steps have moved the weights and the counters.
        self.trainer.release()
        self.model = self._net()
        self.trainer = self._trainer(self.model, self.steps)
        return took / count

    def round(self) -> dict[str, float]:
        """Train the epochs of a round; return seconds and the last epoch's loss."""
        began = self.clock()
        for _ in range(self.epochs):
            logs = self.trainer.epoch()
        return {"seconds": self.clock() - began, "loss": float(logs["loss"])}

    def check(self, steps: int) -> float:
        """Return the mean loss of the first steps from the initial weights, unshuffled."""
        trainer = self._trainer(self._net(), steps, shuffle=False)
        loss = float(trainer.epoch()["loss"])
        trainer.release()
        return loss

    def predict(self, rows: int, times: int) -> float:
        """Return the seconds of `times` calls of ``predict`` on data that is on the device."""
        images = self.backend.upload(self.task.images[:rows])
        self.model.predict(images, verbose=0)
        began = self.clock()
        for _ in range(times):
            self.model.predict(images, verbose=0)
        return self.clock() - began
