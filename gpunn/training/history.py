"""The record of a fit: loss and metrics of each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gpunn.training.callbacks import Callback, Logs


class History(Callback):
    """What `Model.fit` returns.

    Attributes
    ----------
    history : dict of str to list of float
        ``loss``, the metrics, and the same with ``val_`` for validation data.
    epoch : list of int
        Numbers of the epochs, from 0 or `initial_epoch` on.
    params : dict
        What the fit was asked for: ``epochs``, ``steps`` (per epoch), ``verbose`` and others.
    seconds : list of float
        Training time of each epoch, without validation.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []
        self.seconds: list[float] = []
        self.params = {}
        self._recorded: set[str] = set()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.epoch and self.epoch[-1] == epoch:
            # The epoch was cut short by a limit of steps and has now been finished.
            self.epoch.pop()
            self.seconds.pop()
            for values in self.history.values():
                values.pop()
        self.epoch.append(epoch)
        self.seconds.append(self.trainer.epoch_seconds)
        self._recorded = set()
        self.amend(logs or {})

    def amend(self, logs: Logs) -> None:
        """Take in what callbacks have added to the logs of the last epoch, or changed."""
        for name, value in logs.items():
            if isinstance(value, np.generic):
                value = value.item()  # the state of training is JSON
            values = self.history.setdefault(name, [])
            if name in self._recorded:
                values[-1] = value
            else:
                values.append(value)
        self._recorded |= logs.keys()

    def state_dict(self) -> dict[str, Any]:
        history = {name: list(values) for name, values in self.history.items()}
        return {"history": history, "epoch": list(self.epoch), "seconds": list(self.seconds)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.history = {name: list(values) for name, values in state["history"].items()}
        self.epoch, self.seconds = list(state["epoch"]), list(state["seconds"])
