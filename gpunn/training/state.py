"""The state of a training run: taken, checked and restored, so that it goes on bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gpunn.errors import CheckpointError, TrainingError
from gpunn.plan.spec import CONTROL, METRICS, slot_region

if TYPE_CHECKING:
    from gpunn.training.checkpoint import Checkpoint
    from gpunn.training.trainer import Trainer


def take(trainer: Trainer) -> dict[str, Any]:
    """Return the state; see `Trainer.state_dict`."""
    bound, session = trainer.bound, trainer.session
    paths = [v.path for v in session.graph.variables if v.trainable]
    slots = trainer.model.compiled.optimizer.slots
    return {
        "weights": session.weights(),
        "optimizer": {
            f"{slot}/{path}": bound.read(f"{slot_region(slot)}/{path}")
            for slot in slots
            for path in paths
        },
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


COUNTERS = ("step", "first_epoch", "epoch", "offset", "samples", "rows", "batch_size", "seed")


def _check(trainer: Trainer, saved: Mapping[str, Any]) -> None:
    """Raise before anything is written if a state is not whole, or not of this run."""
    training = saved["training"]
    kinds: dict[str, Any] = dict.fromkeys(COUNTERS, int) | {
        "epoch_seconds": (int, float),
        "shuffle": bool,
        "callbacks": list,
    }
    for name, kind in kinds.items():
        value: Any = training.get(name) if isinstance(training, Mapping) else None
        whole = isinstance(value, kind) and (kind is not int or not isinstance(value, bool))
        if not whole or (name in COUNTERS and value < 0):
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
    for path, values in saved["optimizer"].items():
        slot, _, variable = path.partition("/")
        bound.write(f"{slot_region(slot)}/{variable}", values)
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
    from gpunn.training.checkpoint import Checkpoint

    advice = "Nothing is saved. Lower the learning rate, or set clipnorm."
    step = trainer.nonfinite_step
    if step is not None:
        raise TrainingError(f"The loss is not finite since step {step}. {advice}")
    saved = take(trainer)
    for path, values in saved["weights"].items():
        if not np.isfinite(values).all():
            raise TrainingError(f"{path} is not finite at step {trainer.step_count}. {advice}")
    return Checkpoint(trainer.model._config(), **saved)
