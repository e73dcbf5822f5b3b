"""Keras's callbacks that monitor a metric: early stopping, reducing the learning rate."""

from __future__ import annotations

import base64
import math
import warnings
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

import numpy as np

from gpunn.errors import ArgumentError, CheckpointError, UnknownNameError
from gpunn.specs.registry import check_count, check_number
from gpunn.training.callbacks.base import COUNT, VALUE, Callback, Logs, entries, higher_is_better

MODES = ("auto", "min", "max")
# Limit of the weights in the state of training, which is JSON.
MAX_WEIGHT_BYTES = 24 << 20


class MonitorCallback(Callback):
    """Base class of callbacks that monitor a metric.

    Parameters
    ----------
    monitor : str, default "val_loss"
        Key of the logs. If it does not exist, an error is raised; Keras only warns.
    mode : {"auto", "min", "max"}
        Which direction is better; with "auto" the metric defines it, and for anything else lower is
        better.
    min_delta : float, default 0
        Smaller changes do not count as improvement; nor does NaN.
    """

    def __init__(
        self, monitor: str = "val_loss", mode: str = "auto", min_delta: float = 0.0
    ) -> None:
        if mode not in MODES:
            raise UnknownNameError("mode", mode, MODES)
        self.monitor, self.mode = monitor, mode
        self.min_delta = abs(check_number(type(self).__name__, "min_delta", min_delta))
        self.best: float | None = None

    def _current(self, logs: Logs) -> float:
        if self.monitor not in logs:
            hint = "; give fit validation data" if self.monitor.startswith("val_") else ""
            raise ArgumentError(
                f"{type(self).__name__}: monitor {self.monitor!r} is not among "
                f"{', '.join(logs)}{hint}."
            )
        return float(logs[self.monitor])

    def _improves(self, value: float, reference: float | None) -> bool:
        if math.isnan(value):
            return False
        if reference is None:
            return True
        up = self.mode == "max"
        if self.mode == "auto":
            up = higher_is_better(self.trainer, self.monitor)
        if up:
            return value - self.min_delta > reference
        return value + self.min_delta < reference

    def _say(self, message: str) -> None:
        if getattr(self, "verbose", 0):
            print(message, flush=True)


class EarlyStopping(MonitorCallback):
    """Stops training when a metric has stopped improving.

    Parameters
    ----------
    monitor : str, default "val_loss"
        Metric; an error is raised if it does not exist.
    min_delta : float, default 0
        Smaller changes do not count as improvement.
    patience : int, default 0
        Epochs without improvement after which training stops.
    verbose : {0, 1}
        Whether to print messages.
    mode : {"auto", "min", "max"}
        Which direction is better; with "auto" the metric defines it.
    baseline : float, optional
        Only values better than this count as improvement.
    restore_best_weights : bool, default False
        Restore the weights of the best epoch at the end, whether training was stopped or not.
    start_from_epoch : int, default 0
        Earlier epochs do not count.

    Raises
    ------
    ArgumentError, ArgumentTypeError, UnknownNameError
        An argument is not valid.

    Notes
    -----
    A resumed run keeps the count of epochs and, if they take up to 24 MiB, the best weights. A run
    that was stopped does not continue unless it is resumed with more patience.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        owner = "EarlyStopping"
        self.patience = check_count(owner, "patience", patience, minimum=0)
        self.verbose = verbose
        self.baseline = None if baseline is None else check_number(owner, "baseline", baseline)
        self.restore_best_weights = bool(restore_best_weights)
        self.start_from_epoch = check_count(owner, "start_from_epoch", start_from_epoch, minimum=0)
        self._reset()

    def _reset(self) -> None:
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self._has_stopped = False
        self.best: float | None = None
        self.best_weights: list[np.ndarray] | None = None

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        # Not in on_train_begin, which comes after a resumed run's state.
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        current = self._current(logs or {})
        if epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self._keep(epoch)
        self.wait += 1
        if self._improves(current, self.best):
            self.best = current
            self._keep(epoch)
            if self.baseline is None or self._improves(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_begin(self, logs: Logs | None = None) -> None:
        if self._has_stopped:
            self.model.stop_training = True

    def _keep(self, epoch: int) -> None:
        self.best_epoch = epoch
        if self.restore_best_weights:
            self.best_weights = self.model.get_weights()

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._has_stopped = False
        if self.stopped_epoch > 0:
            self._say(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            self._say(
                f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}."
            )
            self.model.set_weights(self.best_weights)

    def state_dict(self) -> dict[str, Any]:
        return {
            "wait": self.wait,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "stopped_epoch": self.stopped_epoch,
            "best_weights": _packed(self.best_weights),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        # States of earlier versions have no stopped_epoch.
        state = {"stopped_epoch": 0, **state} if isinstance(state, Mapping) else state
        kinds: dict[str, Any] = {"wait": COUNT, "best": VALUE, "best_epoch": COUNT}
        kinds |= {"stopped_epoch": COUNT, "best_weights": (list, NoneType)}
        self.wait, self.best, self.best_epoch, stopped, saved = entries(self, state, **kinds)
        # A stopped run continues if it now has more patience.
        self._has_stopped = stopped > 0 and self.wait >= self.patience
        self.stopped_epoch = stopped if self._has_stopped else 0
        if self._has_stopped:
            self.model.stop_training = True  # in case training has already begun
        self.best_weights = _unpacked(saved) if self.restore_best_weights and saved else None
        if self.restore_best_weights and saved is None and self.best is not None:
            warnings.warn(
                "EarlyStopping: the best weights so far are not in the state of training (more "
                "than 24 MiB, or not requested); the best from here on will be restored.",
                RuntimeWarning,
                stacklevel=2,
            )


class ReduceLROnPlateau(MonitorCallback):
    """Reduces the learning rate when a metric has stopped improving.

    Parameters
    ----------
    monitor : str, default "val_loss"
        Metric; an error is raised if it does not exist.
    factor : float, default 0.1
        The learning rate is multiplied by it; at least 0 and below 1.
    patience : int, default 10
        Epochs without improvement before a reduction.
    verbose : {0, 1}
        Whether to print a message at each reduction.
    mode : {"auto", "min", "max"}
        Which direction is better; with "auto" the metric defines it.
    min_delta : float, default 1e-4
        Smaller changes do not count as improvement.
    cooldown : int, default 0
        Epochs after a reduction that do not count.
    min_lr : float, default 0
        Lower bound of the learning rate.

    Raises
    ------
    ArgumentError, ArgumentTypeError, UnknownNameError
        An argument is not valid.

    Notes
    -----
    The learning rate of each epoch is recorded as ``learning_rate`` in the history. The optimizer
    must not use a schedule.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        owner = "ReduceLROnPlateau"
        self.factor = check_number(owner, "factor", factor, minimum=0, below=1)
        self.patience = check_count(owner, "patience", patience, minimum=0)
        self.verbose = verbose
        self.cooldown = check_count(owner, "cooldown", cooldown, minimum=0)
        self.min_lr = check_number(owner, "min_lr", min_lr, minimum=0)
        self.wait = self.cooldown_counter = 0

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        self.best, self.wait, self.cooldown_counter = None, 0, 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.model.optimizer.check_settable()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = {} if logs is None else logs
        logs["learning_rate"] = rate = self.trainer.learning_rate
        current = self._current(logs)
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self._improves(current, self.best):
            self.best, self.wait = current, 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience and rate > self.min_lr:
                self.trainer.learning_rate = max(rate * self.factor, self.min_lr)
                self.cooldown_counter, self.wait = self.cooldown, 0
                self._say(
                    f"\nEpoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to "
                    f"{self.trainer.learning_rate}."
                )

    def in_cooldown(self) -> bool:
        """Return whether epochs do not count because of a recent reduction.

        Returns
        -------
        bool
            True during `cooldown` epochs after a reduction.
        """
        return self.cooldown_counter > 0

    def state_dict(self) -> dict[str, Any]:
        return {"wait": self.wait, "best": self.best, "cooldown_counter": self.cooldown_counter}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.wait, self.best, self.cooldown_counter = entries(
            self, state, wait=COUNT, best=VALUE, cooldown_counter=COUNT
        )


def _packed(weights: Sequence[np.ndarray] | None) -> list[Any] | None:
    """Return arrays as JSON values; None if there are none or they are too large."""
    if weights is None or sum(array.nbytes for array in weights) > MAX_WEIGHT_BYTES:
        return None
    little = [array.astype(array.dtype.newbyteorder("<")) for array in weights]
    return [[a.dtype.str, list(a.shape), base64.b64encode(a.tobytes()).decode()] for a in little]


def _unpacked(saved: Sequence[Any]) -> list[np.ndarray]:
    try:
        return [
            np.frombuffer(base64.b64decode(text), np.dtype(code)).reshape(shape).copy()
            for code, shape, text in saved
        ]
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"The state of training is damaged: its best_weights ({error})."
        ) from error
