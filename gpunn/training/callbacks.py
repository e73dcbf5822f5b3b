"""Callbacks: code that runs at set points of training, with Keras's hooks.

A hook that a callback does not define costs nothing: the trainer looks once, before it starts,
which are defined, and without per-batch hooks it runs many steps between looks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpunn.errors import ArgumentError
from gpunn.registry import check_count

if TYPE_CHECKING:
    from gpunn.training.trainer import Trainer

Logs = dict[str, float]


class Callback:
    """Base class of callbacks.

    Attributes
    ----------
    trainer : Trainer
        Set before training.
    model : Model
        Set before training.
    params : dict
        ``epochs``, ``steps`` (per epoch), ``batch_size``, ``rows`` and ``verbose``.
    runs_last : bool
        Whether it comes after all other callbacks, because it saves their state.
    interval : float or None
        Seconds between calls of `on_interval`; None for none.
    every_steps : int or None
        Steps between calls of `on_steps`; None for none.
    """

    trainer: Trainer
    model: Any
    params: dict[str, Any]
    runs_last: bool = False
    interval: float | None = None
    every_steps: int | None = None

    def set_model(self, model: Any) -> None:
        """Take the model that is trained."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Take the parameters of the fit."""
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Run before the first step."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Run after the last step."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Run before an epoch (0, 1, ...)."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Run after an epoch and its validation; `logs` has loss and metrics."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before each step; defining it makes every step wait for Python."""
        self.on_batch_begin(batch, logs=logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after each step, with the loss so far; defining it makes every step wait."""
        self.on_batch_end(batch, logs=logs)

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Keras's older name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Keras's older name of `on_train_batch_end`."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Run before the validation of an epoch."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Run after it, with its figures (without ``val_``)."""

    def on_interval(self, logs: Logs) -> None:
        """Run about every `interval` seconds, with loss and metrics of the epoch so far."""

    def on_steps(self, step: int) -> None:
        """Run after every `every_steps` steps."""

    def on_interrupt(self) -> None:
        """Run when a signal stops training, between two steps."""

    def on_exception(self) -> None:
        """Run when an error ends training; the error is raised afterwards."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to know, as JSON values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""


class LambdaCallback(Callback):
    """A callback made of functions.

    Parameters
    ----------
    **hooks : callable
        By the names of the hooks: ``on_epoch_end=lambda epoch, logs: ...``; None for none.
    """

    def __init__(self, **hooks: Any) -> None:
        for name, hook in hooks.items():
            if not (name.startswith("on_") and hasattr(Callback, name)):
                known = ", ".join(n for n in vars(Callback) if n.startswith("on_"))
                raise ArgumentError(f"LambdaCallback: there is no hook {name!r}; known: {known}.")
            if hook is not None:
                setattr(self, name, hook)


class Checkpoints(Callback):
    """Saves the whole state of training, so that a run can be resumed exactly.

    Parameters
    ----------
    directory : path
        Where the files go: ``step-0000012345.h5`` and ``best.h5``.
    save_every : int, default 1
        Epochs between saves; 0 for none.
    save_every_steps : int, optional
        Steps between saves.
    keep_last : int, default 3
        Older files are deleted once the new one is safe.
    monitor : str, optional
        Figure that decides which model is kept as ``best.h5``, default ``val_loss`` where there
        is validation data; which way is better, the metric says.
    """

    runs_last = True

    def __init__(
        self,
        directory: str | Path,
        *,
        save_every: int = 1,
        save_every_steps: int | None = None,
        keep_last: int = 3,
        monitor: str | None = None,
    ) -> None:
        from gpunn.training.checkpoint import CheckpointDirectory

        self.directory = CheckpointDirectory(directory, keep_last=keep_last)
        self.save_every = check_count("Checkpoints", "save_every", save_every, minimum=0)
        if save_every_steps is not None:
            check_count("Checkpoints", "save_every_steps", save_every_steps)
        self.every_steps = save_every_steps
        self.monitor = monitor
        self.best: float | None = None
        self.last_saved: int | None = None
        self.path: Path | None = None

    def _save(self, best: bool = False) -> None:
        step = self.trainer.step_count
        self.path = self.directory.save(self.trainer.checkpoint(), step, best=best)
        self.last_saved = step

    def _improved(self, logs: Logs) -> bool:
        monitor = self.monitor or "val_loss"
        if monitor not in logs:
            if self.monitor:
                raise ArgumentError(
                    f"Checkpoints: monitor {monitor!r} is not among {', '.join(logs)}."
                )
            return False
        value = float(logs[monitor])
        sign = -1.0 if higher_is_better(self.trainer, monitor) else 1.0
        if math.isnan(value) or not (self.best is None or sign * value < sign * self.best):
            return False
        self.best = value
        return True

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self._ended_broken():
            return
        best = self._improved(logs or {})
        if self.save_every and (epoch + 1) % self.save_every == 0:
            self._save(best)
        elif best:
            self.directory.save_best(self.trainer.checkpoint())

    def on_steps(self, step: int) -> None:
        self._save()

    def _ended_broken(self) -> bool:
        """Return whether a callback, such as TerminateOnNaN, stops a run that is broken."""
        return self.trainer.stop_training and self.trainer.nonfinite_step is not None

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._ended_broken():
            return
        if self.last_saved != self.trainer.step_count:
            self._save()

    def on_interrupt(self) -> None:
        if self.last_saved != self.trainer.step_count:
            self._save()

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best = state.get("best")


def defines(callback: Callback, hook: str) -> bool:
    """Return whether `callback` has its own version of `hook`."""
    own = getattr(callback, hook, None)
    return own is not None and getattr(own, "__func__", own) is not getattr(Callback, hook)


def higher_is_better(trainer: Trainer, monitor: str) -> bool:
    """Return whether larger values of a figure are better: the metric says, losses are not."""
    label = monitor.removeprefix("val_")
    metrics = trainer.bound.plan.metrics
    return any(metric.higher_is_better for metric in metrics if metric.label == label)
