"""Keras's ``ModelCheckpoint``: saves the model after each epoch, or only the best one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpunn.errors import ArgumentError, TrainingError
from gpunn.specs.registry import check_count, check_number
from gpunn.training.callbacks.base import VALUE, Logs, check_path, entries, refuse
from gpunn.training.callbacks.monitors import MonitorCallback


class ModelCheckpoint(MonitorCallback):
    """Saves the model, or its weights, after each epoch or only when it is the best so far.

    The file of a model includes the optimizer's state, as with `Model.save`; training of the model
    that `gpunn.load_model` returns continues from the last epoch that began. To resume a run
    exactly, including callbacks and history, use `Checkpoints`.

    Parameters
    ----------
    filepath : path
        Ends in ``.keras`` or ``.h5``, or with `save_weights_only` in ``.weights.h5``. It may have
        placeholders: ``{epoch:02d}`` (from 1), loss and metrics, such as ``{val_loss:.2f}``, and
        with a `save_freq` in steps ``{batch}`` (from 1).
    monitor : str, default "val_loss"
        Metric for `save_best_only`; an error is raised if it does not exist.
    verbose : {0, 1}
        Whether to print a message at each save.
    save_best_only : bool, default False
        Save only if the metric has improved.
    save_weights_only : bool, default False
        Save only the weights.
    mode : {"auto", "min", "max"}
        Which direction is better; with "auto" the metric defines it.
    save_freq : "epoch" or int
        Steps between saves, in multiples of the model's step count.
    initial_value_threshold : float, optional
        The best value so far, for `save_best_only`.

    Raises
    ------
    ArgumentError, ArgumentTypeError, UnknownNameError
        An argument is not valid.

    Notes
    -----
    Files are written atomically. A model whose loss is not finite is not saved; nor is one whose
    weights are not finite, with a warning.
    """

    def __init__(
        self,
        filepath: str | Path,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        owner = "ModelCheckpoint"
        check_path(owner, "filepath", filepath)
        self.filepath = str(filepath)
        endings = (".weights.h5",) if save_weights_only else (".keras", ".h5")
        if not self.filepath.endswith(endings):
            raise ArgumentError(
                f"{owner}: filepath must end in {' or '.join(endings)}"
                f"{' with save_weights_only' * save_weights_only}, not {self.filepath!r}."
            )
        self.verbose = verbose
        self.save_best_only, self.save_weights_only = bool(save_best_only), bool(save_weights_only)
        self.save_freq = check_frequency(owner, save_freq)
        self.every_steps = None if save_freq == "epoch" else int(save_freq)
        if initial_value_threshold is not None:
            self.best = check_number(owner, "initial_value_threshold", initial_value_threshold)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.every_steps is None:
            self._save(epoch, logs or {}, {})

    def on_steps(self, step: int) -> None:
        trainer = self.trainer
        batch = -(-trainer.offset // trainer.batch_size)
        self._save(trainer.epoch_index, trainer.logs(), {"batch": batch})

    def _save(self, epoch: int, logs: Logs, batch: Mapping[str, int]) -> None:
        if self.trainer.nonfinite_step is not None:
            return
        path = self._path({"epoch": epoch + 1, **batch, **logs})
        news = f"\nEpoch {epoch + 1}: "
        if self.save_best_only:
            current = self._current(logs)
            best = "None" if self.best is None else f"{self.best:.5f}"
            if not self._improves(current, self.best):
                self._say(f"{news}{self.monitor} did not improve from {best}")
                return
            news += f"{self.monitor} improved from {best} to {current:.5f}, "
        try:
            if self.save_weights_only:
                self.model.save_weights(path, overwrite=True)
            else:
                self.model.save(path, overwrite=True)
        except TrainingError as error:
            refuse(self, error)
            return
        if self.save_best_only:
            self.best = current
        self._say(f"{news}saving model to {path}")

    def _path(self, values: Mapping[str, float]) -> str:
        try:
            return self.filepath.format(**values)
        except (KeyError, IndexError, ValueError) as error:
            raise ArgumentError(
                f"ModelCheckpoint: filepath {self.filepath!r} cannot be filled in ({error}); "
                f"there are {', '.join(values)}."
            ) from error

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        (self.best,) = entries(self, state, best=VALUE)


def check_frequency(owner: str, value: object) -> str | int:
    """Return a `save_freq`: "epoch" or a number of steps."""
    if isinstance(value, str):
        if value == "epoch":
            return value
        raise ArgumentError(
            f"{owner}: save_freq must be 'epoch' or a number of steps, not {value!r}."
        )
    return check_count(owner, "save_freq", value)
