"""Where a training stands: one state, which checkpoints hold and the device mirrors.

Everything that the next step depends on beside weights, data and seed is in `TrainingState`, or in
the optimizer's slots and the metrics' accumulators on the device. Randomness has no state: batches
and dropout masks follow from the seed and the counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpunn.checkpoints.format import Checkpoint
from gpunn.errors import CheckpointError
from gpunn.plan.bind import BoundPlan
from gpunn.plan.spec import CONTROL, METRICS, slot_region
from gpunn.specs.graph import Graph
from gpunn.specs.optimizers import Optimizer

Array = np.ndarray[Any, Any]

# The counters of what `Model.save` writes; those of a run are more.
POSITION = ("step", "first_epoch", "epoch")
COUNTERS = (*POSITION, "offset", "samples", "rows", "batch_size")
MAX_COUNT = 1 << 62  # so that the sum of two fits the device's int64


@dataclass
class TrainingState:
    """Where the training of a compiled model stands.

    Attributes
    ----------
    step : int
        Steps taken since `compile`: the optimizer's iterations.
    epoch : int
        Number of the epoch that is under way or comes next; batches are shuffled by it.
    offset : int
        Rows of that epoch that are done.
    samples : int
        Rows that the accumulators of loss and metrics have seen.
    epoch_seconds : float
        Time that the steps of the epoch have taken.
    learning_rate : float or None
        What was set in place of the optimizer's own.
    slots : dict of str to array
        The optimizer's slots, ``slot/layer/name``, that no device holds.
    """

    step: int = 0
    epoch: int = 0
    offset: int = 0
    samples: int = 0
    epoch_seconds: float = 0.0
    learning_rate: float | None = None
    slots: dict[str, Array] = field(default_factory=dict)

    @property
    def begun(self) -> bool:
        """Whether there is anything to go on from."""
        return bool(self.step or self.epoch)

    def write_counters(self, bound: BoundPlan) -> None:
        """Mirror the counters on the device."""
        for name in ("step", "epoch", "offset"):
            bound.write(f"{CONTROL}/{name}", getattr(self, name))

    def begin_epoch(self) -> None:
        """Start to count the rows of an epoch."""
        self.samples, self.epoch_seconds = 0, 0.0

    def advance(self, steps: int, rows: int) -> None:
        """Count steps that the device has been given."""
        self.step += steps
        self.offset += rows
        self.samples += rows

    def finish_epoch(self) -> None:
        """Go on to the next epoch."""
        self.epoch, self.offset = self.epoch + 1, 0

    def saved_with_model(self, slots: Mapping[str, Array]) -> dict[str, Any]:
        """Return what a model's file holds of it, with the optimizer's slots."""
        training = {"step": self.step, "first_epoch": self.epoch, "epoch": 0}
        return {"optimizer": dict(slots), "training": training}


def slot_buffers(
    graph: Graph, optimizer: Optimizer, frozen: Collection[str] = ()
) -> dict[str, str]:
    """Return the optimizer's slots, ``slot/layer/name`` as in files, with their buffers."""
    paths = [v.path for v in graph.variables if v.trainable and v.layer not in frozen]
    return {f"{slot}/{p}": f"{slot_region(slot)}/{p}" for slot in optimizer.slots for p in paths}


def metric_buffers(bound: BoundPlan) -> dict[str, str]:
    """Return the accumulators, by their names in files, with their buffers."""
    names = (name for name, spec in bound.plan.buffers.items() if spec.region == METRICS)
    return {name.removeprefix(f"{METRICS}/").replace("/", "."): name for name in names}


def is_run(training: Mapping[str, Any]) -> bool:
    """Return whether a state of training is that of a run, and not of a model."""
    return set(training) != set(POSITION)


def state_of_model(saved: Checkpoint) -> TrainingState:
    """Return where the training of a model stands that was read from its file, or a run's."""
    training = saved.training
    if training is None:
        if saved.optimizer:
            raise CheckpointError("It has slots of an optimizer, but not how far it had come.")
        return TrainingState()
    check_counters(training, POSITION)
    epoch = training["first_epoch"] + training["epoch"]
    return TrainingState(training["step"], epoch, slots=dict(saved.optimizer))


def check_counters(training: Any, names: Iterable[str]) -> None:
    """Raise `CheckpointError` unless all of them are counts."""
    for name in names:
        value: Any = training.get(name) if isinstance(training, Mapping) else None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MAX_COUNT:
            raise CheckpointError(f"The state of training is damaged: its {name} is {value!r}.")


def check_run(
    saved: Mapping[str, Any], run: Mapping[str, Any], metrics: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise `CheckpointError` if the state of a run is not whole, or not that of this run.

    Parameters
    ----------
    saved : mapping
        As `Trainer.state_dict` returns it.
    run : mapping
        What it must have in common with this run: rows, batch_size, shuffle, seed.
    metrics : mapping of str to tuple of int
        Shapes of this run's accumulators.
    """
    training = saved["training"]
    check_counters(training, COUNTERS)
    kinds: dict[str, Any] = {
        "seed": int,
        "epoch_seconds": (int, float),
        "shuffle": bool,
        "callbacks": list,
    }
    for name, kind in kinds.items():
        value: Any = training.get(name)
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise CheckpointError(f"The state of training is damaged: its {name} is {value!r}.")
    rate = training.get("learning_rate")
    if rate is not None and (
        isinstance(rate, bool) or not isinstance(rate, int | float) or not rate >= 0
    ):
        raise CheckpointError(f"The state of training is damaged: its learning_rate is {rate!r}.")
    for entry in training["callbacks"]:
        if not (isinstance(entry, Mapping) and isinstance(entry.get("state"), Mapping)):
            raise CheckpointError("The state of training is damaged: its callbacks are no states.")
    for name, shape in metrics.items():
        if np.shape(saved["metrics"].get(name)) != shape:
            raise CheckpointError(f"The state of training is damaged: it lacks {name!r}.")
    for name, mine in run.items():
        if training[name] != mine:
            raise CheckpointError(
                f"The checkpoint was trained with {name} {training[name]}, this run has "
                f"{mine}; to resume it use {name} {training[name]}."
            )
