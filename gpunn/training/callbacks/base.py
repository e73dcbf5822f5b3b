"""Callbacks: code that runs at certain points of training, with Keras's hooks.

A hook that a callback does not define costs nothing: before training, the trainer checks which
hooks are defined, and without per-batch hooks it runs many steps at a time. With one, steps are
run one by one, which is logged to the logger ``gpunn``: a GPU then gets a graph of a single step
instead of one of many, and waits for Python after each.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Protocol

from gpunn.checkpoints.format import Checkpoint
from gpunn.errors import ArgumentError, ArgumentTypeError, CheckpointError, TrainingError
from gpunn.specs.registry import check_count

Logs = dict[str, float]


class Run(Protocol):
    """What callbacks see of the `Trainer` that they are called by."""

    session: Any
    bound: Any
    history: Any
    callbacks: list[Callback]
    optimizer: Any
    schedule: Any
    rows: int
    batch_size: int
    steps_per_epoch: int
    first_epoch: int
    stop_training: bool
    learning_rate: float

    @property
    def step_count(self) -> int: ...

    @property
    def epoch_index(self) -> int: ...

    @property
    def offset(self) -> int: ...

    @property
    def samples(self) -> int: ...

    @property
    def epoch_seconds(self) -> float: ...

    @property
    def nonfinite_step(self) -> int | None: ...

    def logs(self) -> Logs: ...

    def checkpoint(self) -> Checkpoint: ...

    def resume(self, path: Path) -> None: ...


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
        Whether it runs after all other callbacks, because it saves their state.
    ends_broken_runs : bool
        Whether it stops training when the model has become non-finite, so that callbacks that save
        it need not raise an error.
    interval : float or None
        Seconds between calls of `on_interval`; None for none.
    every_steps : int or None
        Steps between calls of `on_steps`; None for none.

    Notes
    -----
    The hooks, `on_train_begin` and the others, do nothing here. Their arguments are `epoch` and
    `batch`, ints counted from 0, `step`, the number of steps taken, and `logs`, a dict of str to
    float: the loss and the metrics by name, if there are any yet.
    """

    trainer: Run
    model: Any
    params: dict[str, Any]
    runs_last: bool = False
    ends_broken_runs: bool = False
    interval: float | None = None
    every_steps: int | None = None

    def set_model(self, model: Any) -> None:
        """Set the model that is trained.

        Parameters
        ----------
        model : Model
            The model.
        """
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Set the parameters of the fit.

        Parameters
        ----------
        params : dict of str to object
            See `params`.
        """
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
        """Run before each step. If defined, every step waits for Python."""
        self.on_batch_begin(batch, logs=logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after each step, with the metrics so far. If defined, every step waits for Python."""
        self.on_batch_end(batch, logs=logs)

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before each step: Keras's older name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after each step: Keras's older name of `on_train_batch_end`."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Run before an evaluation, including that of an epoch's validation data."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Run after an evaluation, with its metrics (without ``val_``)."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before each batch of an evaluation; if defined, these have `batch_size` rows."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after each batch of an evaluation, with the metrics so far.

        ``model.stop_evaluating = True`` ends the evaluation.
        """

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Run before `Model.predict`."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Run after `Model.predict`."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before each batch of a prediction; if defined, these have `batch_size` rows."""

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Run after each batch of a prediction, with its ``outputs`` in `logs`.

        ``model.stop_predicting = True`` ends the prediction.
        """

    def on_interval(self, logs: Logs) -> None:
        """Run about every `interval` seconds, with the metrics of the epoch so far."""

    def on_steps(self, step: int) -> None:
        """Run after every `every_steps` steps."""

    def on_interrupt(self) -> None:
        """Run when a signal stops training between two steps."""

    def on_exception(self) -> None:
        """Run when an error ends training; the error is raised afterwards."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs.

        Returns
        -------
        dict of str to object
            JSON values.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state_dict` returned.

        Parameters
        ----------
        state : mapping of str to object
            The state.
        """


class LambdaCallback(Callback):
    """A callback made of functions.

    Parameters
    ----------
    on_epoch_begin, on_epoch_end, on_train_begin, on_train_end : callable, optional
    on_train_batch_begin, on_train_batch_end : callable, optional
    **hooks : callable
        Other hooks by name: ``on_test_end=lambda logs: ...``.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        There is no such hook, or it is not a function.
    """

    def __init__(
        self,
        on_epoch_begin: Any = None,
        on_epoch_end: Any = None,
        on_train_begin: Any = None,
        on_train_end: Any = None,
        on_train_batch_begin: Any = None,
        on_train_batch_end: Any = None,
        **hooks: Any,
    ) -> None:
        hooks |= {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
        }
        for name, hook in hooks.items():
            if not (hook is None or callable(hook)):
                raise ArgumentTypeError(f"LambdaCallback: {name} must be a function, not {hook!r}.")
            if not (name.startswith("on_") and hasattr(Callback, name)):
                known = ", ".join(n for n in vars(Callback) if n.startswith("on_"))
                raise ArgumentError(f"LambdaCallback: there is no hook {name!r}; known: {known}.")
            if hook is not None:
                setattr(self, name, hook)


class Checkpoints(Callback):
    """Saves the complete state of training, so that a run can be resumed exactly.

    Parameters
    ----------
    directory : path
        For the files ``step-0000012345.h5`` and ``best.h5``.
    save_every : int, default 1
        Epochs between saves; 0 for none.
    save_every_steps : int, optional
        Steps between saves.
    keep_last : int, default 3
        Number of files to keep; older ones are deleted once the new one is safely stored.
    monitor : str, optional
        Metric that decides which model is kept as ``best.h5``; default ``val_loss`` if there is
        validation data. The metric defines which direction is better.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is not valid.
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
        from gpunn.checkpoints.files import CheckpointDirectory

        folder = check_path("Checkpoints", "directory", directory)
        self.directory = CheckpointDirectory(folder, keep_last=keep_last)
        self.save_every = check_count("Checkpoints", "save_every", save_every, minimum=0)
        if save_every_steps is not None:
            check_count("Checkpoints", "save_every_steps", save_every_steps)
        self.every_steps = save_every_steps
        self.monitor = monitor
        self.best: float | None = None
        self.last_saved: int | None = None
        self.path: Path | None = None
        self._refused: int | None = None

    def _save(self, best: bool = False, *, interrupted: bool = False) -> None:
        checkpoint, step = self._checkpoint(interrupted), self.trainer.step_count
        if checkpoint is not None:
            self.path = self.directory.save(checkpoint, step, best=best)
            self.last_saved = step

    def _checkpoint(self, interrupted: bool = False) -> Checkpoint | None:
        """Return the state to save; None for a non-finite model if a callback stops training."""
        try:
            return self.trainer.checkpoint()
        except TrainingError as error:
            if not (interrupted or ends_broken_runs(self.trainer)):
                raise
            self._refused = self.trainer.step_count
            refuse(self, error)
            return None

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
        elif best and (checkpoint := self._checkpoint()) is not None:
            self.directory.save_best(checkpoint)

    def on_steps(self, step: int) -> None:
        self._save()

    def _ended_broken(self) -> bool:
        """Return whether training was stopped because the model has become non-finite."""
        trainer = self.trainer
        broken = trainer.nonfinite_step is not None or self._refused == trainer.step_count
        return trainer.stop_training and broken

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._ended_broken():
            return
        if self.last_saved != self.trainer.step_count:
            self._save()

    def on_interrupt(self) -> None:
        if self.last_saved != self.trainer.step_count:
            self._save(interrupted=True)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        (self.best,) = entries(self, state, best=VALUE)


def defines(callback: Callback, hook: str) -> bool:
    """Return whether `callback` has its own version of `hook`."""
    own = getattr(callback, hook, None)
    return own is not None and getattr(own, "__func__", own) is not getattr(Callback, hook)


def ends_broken_runs(trainer: Run) -> bool:
    """Return whether a callback such as TerminateOnNaN stops training of a non-finite model."""
    return any(callback.ends_broken_runs for callback in trainer.callbacks)


def refuse(callback: Callback, error: TrainingError) -> None:
    """Warn that a non-finite model was not saved; stop training if a callback requests that."""
    message = f"{type(callback).__name__}: {error} Files of earlier steps are kept."
    warnings.warn(message, RuntimeWarning, stacklevel=2)
    if ends_broken_runs(callback.trainer):
        callback.trainer.stop_training = True


def check_path(owner: str, name: str, value: Any) -> Path:
    """Return `value` as a path, or raise an error unless it is one and not empty."""
    if not isinstance(value, str | os.PathLike):
        raise ArgumentTypeError(f"{owner}: {name} must be a path, not {value!r}.")
    if not str(value):
        raise ArgumentError(f"{owner}: {name} is empty; give a path.")
    return Path(value)


# Types of entries of a callback's state: a count; a value, or None before the first.
COUNT, VALUE = (int,), (int, float, NoneType)


def entries(callback: Callback, state: Any, **kinds: tuple[type, ...]) -> list[Any]:
    """Return the named entries of a callback's state, in order.

    Raises
    ------
    CheckpointError
        An entry is missing or of the wrong type: the state belongs to another callback, or is
        damaged.
    """
    values = []
    for name, kind in kinds.items():
        value = state.get(name, ...) if isinstance(state, Mapping) else ...
        if not isinstance(value, kind) or isinstance(value, bool):
            found = "missing" if value is ... else repr(value)
            raise CheckpointError(
                f"{type(callback).__name__}: its state is that of another callback, or damaged: "
                f"{name} is {found}."
            )
        values.append(value)
    return values


def higher_is_better(trainer: Run, monitor: str) -> bool:
    """Return whether larger values are better: the metric defines it; for losses they are not."""
    label = monitor.removeprefix("val_")
    metrics = trainer.bound.plan.metrics
    return any(metric.higher_is_better for metric in metrics if metric.label == label)
