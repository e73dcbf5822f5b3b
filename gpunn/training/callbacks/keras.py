"""Keras's callbacks that monitor no metric: learning rate, NaN, log file, backup."""

from __future__ import annotations

import csv
import inspect
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import NoneType
from typing import Any

from gpunn.checkpoints.files import CheckpointDirectory
from gpunn.errors import ArgumentError, ArgumentTypeError, CheckpointError, TrainingError
from gpunn.specs.registry import check_number
from gpunn.training.callbacks.base import Callback, Logs, check_path, entries, refuse
from gpunn.training.callbacks.model_checkpoint import check_frequency


class LearningRateScheduler(Callback):
    """Sets the learning rate at the start of each epoch.

    Parameters
    ----------
    schedule : callable
        ``schedule(epoch, learning_rate)`` or ``schedule(epoch)``, which returns the learning rate;
        epochs are counted from 0.
    verbose : {0, 1}
        Whether to print a message at each epoch.

    Raises
    ------
    ArgumentError
        `schedule` is not callable.

    Notes
    -----
    The learning rate of each epoch is recorded as ``learning_rate`` in the history. For a learning
    rate that changes with every step, give the optimizer a schedule of `gpunn.schedules`.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        if not callable(schedule):
            raise ArgumentError(
                f"LearningRateScheduler: schedule must be a function of the epoch and the "
                f"learning rate, not {schedule!r}."
            )
        self.schedule, self.verbose = schedule, verbose

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.model.optimizer.check_settable()

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        rate = self._rate(epoch)
        self.trainer.learning_rate = check_number(
            "LearningRateScheduler", "the result of schedule", rate, minimum=0
        )
        if self.verbose:
            print(
                f"\nEpoch {epoch + 1}: LearningRateScheduler setting learning rate to {rate}.",
                flush=True,
            )

    def _rate(self, epoch: int) -> float:
        arguments: tuple[Any, ...] = (epoch, self.trainer.learning_rate)
        # Keras calls it with both and, after a TypeError, again with one; this would hide a
        # TypeError of the schedule.
        with suppress(ValueError):  # functions without a signature
            signature = inspect.signature(self.schedule)
            try:
                signature.bind(*arguments)
            except TypeError:
                arguments = (epoch,)
                self._check(signature)
        return self.schedule(*arguments)

    def _check(self, signature: inspect.Signature) -> None:
        try:
            signature.bind(0)
        except TypeError as error:
            raise ArgumentTypeError(
                f"LearningRateScheduler: schedule must be a function of (epoch) or "
                f"(epoch, learning_rate), not of {signature}."
            ) from error

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = self.trainer.learning_rate


class TerminateOnNaN(Callback):
    """Stops training when the loss is NaN or infinite.

    It causes no synchronization: the device records the first such step, which is checked about
    once a second and at the end of each epoch, so training stops some steps later than in Keras.

    Parameters
    ----------
    raise_error : bool, default False
        Raise `TrainingError` instead; `on_train_end` of callbacks is not run then.

    Notes
    -----
    Training also stops if a callback that saves the model finds weights that are not finite.
    """

    interval = 1.0

    def __init__(self, raise_error: bool = False) -> None:
        self.raise_error = bool(raise_error)
        self.ends_broken_runs = not self.raise_error

    def _check(self) -> None:
        step = self.trainer.nonfinite_step
        if step is None or self.model.stop_training:
            return
        if self.raise_error:
            raise TrainingError(
                f"The loss is not finite since step {step}; lower the learning rate, or set "
                f"clipnorm."
            )
        print(f"Step {step}: Invalid loss, terminating training", flush=True)
        self.model.stop_training = True

    def on_interval(self, logs: Logs) -> None:
        self._check()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._check()


class CSVLogger(Callback):
    """Writes a line per epoch to a CSV file: ``epoch`` (from 0), then loss and metrics by name.

    Parameters
    ----------
    filename : path
        The file.
    separator : str, default ","
        A single character.
    append : bool, default False
        Append to an existing file instead of replacing it.

    Raises
    ------
    ArgumentError
        `separator` is not a single character, or `filename` is not a path.

    Notes
    -----
    A resumed run continues its file as if it had not been interrupted.
    """

    def __init__(self, filename: str | Path, separator: str = ",", append: bool = False) -> None:
        if not (isinstance(separator, str) and len(separator) == 1):
            raise ArgumentError(f"CSVLogger: separator must be one character, not {separator!r}.")
        self.filename = check_path("CSVLogger", "filename", filename)
        self.sep, self.append = separator, bool(append)
        self.keys: list[str] | None = None
        self._size: int | None = None

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        self.keys = self._size = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        if self.keys is None:
            self.keys = sorted(logs)
            if not any(key.startswith("val_") for key in self.keys):
                self.keys += [f"val_{key}" for key in self.keys]
        header = self._prepare()
        with self.filename.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=self.sep)
            if header:
                writer.writerow(["epoch", *self.keys])
            writer.writerow([epoch, *(logs.get(key, "NA") for key in self.keys)])
        self._size = self.filename.stat().st_size

    def _prepare(self) -> bool:
        """Truncate the file to where this run left it; return whether it needs a header."""
        self.filename.parent.mkdir(parents=True, exist_ok=True)
        size = self.filename.stat().st_size if self.filename.exists() else 0
        if self._size is None:
            keep = size if self.append else 0
        else:
            # Lines after the epoch from which a run was resumed are written again.
            keep = self._size if size >= self._size else 0
        if keep < size:
            os.truncate(self.filename, keep)
        return keep == 0

    def state_dict(self) -> dict[str, Any]:
        return {"keys": self.keys, "size": self._size}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        keys, self._size = entries(self, state, keys=(list, NoneType), size=(int, NoneType))
        self.keys = None if keys is None else [str(key) for key in keys]


class BackupAndRestore(Callback):
    """Backs up the complete state of training; the next `fit` continues exactly from there.

    After a crash, run the program again with the same arguments. Unlike in Keras, the history then
    includes the epochs before the interruption, and training continues within an epoch.

    Parameters
    ----------
    backup_dir : path
        Directory for the backups of this run only.
    save_freq : "epoch", int or False
        Steps between backups, in multiples of the model's step count. A backup is always made when
        a signal stops training.
    double_checkpoint : bool, default False
        Keep the previous backup too, in case the last one cannot be read.
    delete_checkpoint : bool, default True
        Delete the backups when training has finished.

    Notes
    -----
    A model whose loss or weights are not finite is not backed up, and if training ends with such a
    model, the last good backup is not deleted.
    """

    runs_last = True

    def __init__(
        self,
        backup_dir: str | Path,
        save_freq: str | int | bool = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ) -> None:
        self.backup_dir = check_path("BackupAndRestore", "backup_dir", backup_dir)
        if save_freq is not False:
            save_freq = check_frequency("BackupAndRestore", save_freq)
        self.save_freq = save_freq
        self.every_steps = (int(save_freq) or None) if save_freq != "epoch" else None
        self.double_checkpoint = bool(double_checkpoint)
        self.delete_checkpoint = bool(delete_checkpoint)
        self._directory = CheckpointDirectory(self.backup_dir, 2 if double_checkpoint else 1)
        self._looked = False
        self._broken: int | None = None

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        self._looked, self._broken = False, None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        path = self._directory.latest()
        if self._looked or path is None:
            return
        self._looked = True
        try:
            self.trainer.resume(path)
        except CheckpointError:
            before = self._directory.steps()[:-1]
            if not (self.double_checkpoint and before):
                raise
            self.trainer.resume(self.backup_dir / f"step-{before[-1]:010d}.h5")

    def _save(self) -> None:
        trainer = self.trainer
        if trainer.nonfinite_step is not None:
            return
        self._looked = True
        try:
            checkpoint = trainer.checkpoint()
        except TrainingError as error:
            self._broken = trainer.step_count
            refuse(self, error)
            return
        self._directory.save(checkpoint, trainer.step_count)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_freq == "epoch":
            self._save()

    def on_steps(self, step: int) -> None:
        self._save()

    def on_interrupt(self) -> None:
        self._save()

    def on_train_end(self, logs: Logs | None = None) -> None:
        trainer = self.trainer
        broken = trainer.nonfinite_step is not None or self._broken == trainer.step_count
        if broken or not self.delete_checkpoint:
            return
        while (path := self._directory.latest()) is not None:
            path.unlink()
        with suppress(OSError):  # not empty
            self.backup_dir.rmdir()
