"""The state of training: taken, checked and restored, so that it goes on bit for bit.

That of a run, in checkpoints, is all of it. That of a model, in what `Model.save` writes, is what
the next `fit` goes on from: the optimizer's slots and three of the run's counters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gpunn.errors import CheckpointError, TrainingError
from gpunn.plan.spec import CONTROL, METRICS, slot_region

if TYPE_CHECKING:
    from gpunn.checkpoints.files import Checkpoint
    from gpunn.specs.graph import Graph
    from gpunn.specs.optimizers import Optimizer
    from gpunn.training.trainer import Trainer

# What a `Session` hands on: the optimizer, with its counters and slots by buffer.
Progress = tuple["Optimizer", dict[str, Any]]


def slot_buffers(graph: Graph, optimizer: Optimizer) -> dict[str, str]:
    """Return the optimizer's slots, ``slot/layer/name`` as in files, with their buffers."""
    paths = [v.path for v in graph.variables if v.trainable]
    return {f"{slot}/{p}": f"{slot_region(slot)}/{p}" for slot in optimizer.slots for p in paths}


def take(trainer: Trainer) -> dict[str, Any]:
    """Return the state; see `Trainer.state_dict`."""
    bound, session = trainer.bound, trainer.session
    slots = slot_buffers(session.graph, trainer.model.compiled.optimizer)
    return {
        "weights": session.weights(),
        "optimizer": {saved: bound.read(name) for saved, name in slots.items()},
        "metrics": {saved: bound.read(name) for name, saved in _metric_buffers(trainer)},
        "training": {
            "step": trainer.step_count,
            "first_epoch": trainer.first_epoch,
            "epoch": trainer.epoch_index,
            "offset": trainer.offset,
            "samples": trainer.samples,
            "epoch_seconds": trainer.epoch_seconds,
            "rows": trainer.rows,
            "batch_size": trainer.batch_size,
            "shuffle": trainer.shuffle,
            "seed": session.seed,
            "callbacks": [
                {"type": type(c).__name__, "state": c.state_dict()} for c in trainer.callbacks
            ],
        },
    }


def _metric_buffers(trainer: Trainer) -> Iterator[tuple[str, str]]:
    """Yield the accumulators: buffer, and name in the state."""
    for name, spec in trainer.bound.plan.buffers.items():
        if spec.region == METRICS:
            yield name, name.removeprefix(f"{METRICS}/").replace("/", ".")


# Where in training a model is: those that say it in what `Model.save` writes.
POSITION = ("step", "first_epoch", "epoch")
COUNTERS = (*POSITION, "offset", "samples", "rows", "batch_size")
MAX_COUNT = 1 << 62  # so that the sum of two fits the device's int64


def is_run(training: Mapping[str, Any]) -> bool:
    """Return whether a state of training is that of a run, and not of a model."""
    return set(training) != set(POSITION)


def of_model(graph: Graph, progress: Progress | None) -> dict[str, Any]:
    """Return what the next training goes on from, as a file holds it; nothing before training."""
    if progress is None:
        return {}
    optimizer, values = progress
    step, epoch = (int(np.ravel(values[f"{CONTROL}/{name}"])[0]) for name in ("step", "epoch"))
    return {
        "optimizer": {s: values[name] for s, name in slot_buffers(graph, optimizer).items()},
        "training": {"step": step, "first_epoch": epoch, "epoch": 0},
    }


def progress_in(graph: Graph, optimizer: Optimizer, saved: Checkpoint) -> Progress | None:
    """Return what `of_model` was given, from the file of a model or of a run."""
    training = saved.training
    if training is None:
        if saved.optimizer:
            raise CheckpointError("It has slots of an optimizer, but not how far it had come.")
        return None
    _check_counters(training, POSITION)
    position = {"step": training["step"], "epoch": training["first_epoch"] + training["epoch"]}
    values: dict[str, Any] = {f"{CONTROL}/{name}": value for name, value in position.items()}
    slots = slot_buffers(graph, optimizer)
    return optimizer, values | {name: saved.optimizer[s] for s, name in slots.items()}


def _check_counters(training: Any, names: Iterable[str]) -> None:
    for name in names:
        value: Any = training.get(name) if isinstance(training, Mapping) else None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MAX_COUNT:
            raise CheckpointError(f"The state of training is damaged: its {name} is {value!r}.")


def _check(trainer: Trainer, saved: Mapping[str, Any]) -> None:
    """Raise before anything is written if a state is not whole, or not of this run."""
    training = saved["training"]
    _check_counters(training, COUNTERS)
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
    for entry in training["callbacks"]:
        if not (isinstance(entry, Mapping) and isinstance(entry.get("state"), Mapping)):
            raise CheckpointError("The state of training is damaged: its callbacks are no states.")
    for name, saved_name in _metric_buffers(trainer):
        shape = np.shape(saved["metrics"].get(saved_name))
        if shape != trainer.bound.plan.buffers[name].shape:
            raise CheckpointError(f"The state of training is damaged: it lacks {saved_name!r}.")
    for name, mine in (
        ("rows", trainer.rows),
        ("batch_size", trainer.batch_size),
        ("shuffle", trainer.shuffle),
        ("seed", trainer.session.seed),
    ):
        if training[name] != mine:
            raise CheckpointError(
                f"The checkpoint was trained with {name} {training[name]}, this run has "
                f"{mine}; to resume it use {name} {training[name]}."
            )


def restore(trainer: Trainer, saved: Mapping[str, Any]) -> None:
    """Take back what `take` returned; see `Trainer.load_state_dict`."""
    _check(trainer, saved)
    training, bound = saved["training"], trainer.bound
    trainer.session.turn = trainer.turn
    for path, values in saved["weights"].items():
        trainer.session.write(path, values)
    slots = slot_buffers(trainer.session.graph, trainer.model.compiled.optimizer)
    for name, values in saved["optimizer"].items():
        bound.write(slots[name], values)
    for name, saved_name in _metric_buffers(trainer):
        bound.write(name, saved["metrics"][saved_name])
    trainer.step_count = training["step"]
    trainer.first_epoch, trainer.epoch_index = training["first_epoch"], training["epoch"]
    trainer.offset, trainer.samples = training["offset"], training["samples"]
    trainer.epoch_seconds = training["epoch_seconds"]
    trainer.in_epoch = False
    bound.write(f"{CONTROL}/step", trainer.step_count)
    bound.write(f"{CONTROL}/offset", trainer.offset)
    bound.write(f"{CONTROL}/epoch", trainer.first_epoch + trainer.epoch_index)
    entries = list(training["callbacks"])
    for callback in trainer.callbacks:
        # The first of a type takes the first entry of that type, the second the second.
        kind = type(callback).__name__
        found = next((i for i, entry in enumerate(entries) if entry.get("type") == kind), None)
        if found is not None:
            callback.load_state_dict(entries.pop(found)["state"])


def checkpoint(trainer: Trainer) -> Checkpoint:
    """Return the state as a checkpoint, unless it is broken; see `Trainer.checkpoint`."""
    from gpunn.checkpoints.files import Checkpoint

    advice = "Nothing is saved. Lower the learning rate, or set clipnorm."
    step = trainer.nonfinite_step
    if step is not None:
        raise TrainingError(f"The loss is not finite since step {step}. {advice}")
    saved = take(trainer)
    for path, values in saved["weights"].items():
        if not np.isfinite(values).all():
            raise TrainingError(f"{path} is not finite at step {trainer.step_count}. {advice}")
    return Checkpoint(trainer.model._config(), **saved)
