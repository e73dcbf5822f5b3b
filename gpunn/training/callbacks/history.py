"""The record of a fit: loss and metrics of each epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gpunn.errors import UnknownNameError
from gpunn.training.callbacks.base import Callback, Logs, entries

LIST = (list,)


class History(Callback):
    """The record that `Model.fit` returns.

    Attributes
    ----------
    history : dict of str to list of float
        The metrics and ``loss`` by name, the same with ``val_`` for validation data, and values
        added by callbacks. A value that a callback adds in some epochs only has a shorter list;
        `epochs_of` returns the epochs it belongs to.
    epoch : list of int
        Numbers of the epochs, from 0 or `initial_epoch` on.
    params : dict
        Arguments of the fit: ``verbose``, ``epochs``, ``steps`` (per epoch) and others.
    seconds : list of float
        Training time of each epoch, without validation.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []
        self.seconds: list[float] = []
        self.params = {}
        self._epochs: dict[str, list[int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Only the record: the trainer belongs to this process.
        return {k: v for k, v in vars(self).items() if k not in ("trainer", "model")}

    def epochs_of(self, name: str) -> list[int]:
        """Return the epochs that the values of a metric belong to.

        Parameters
        ----------
        name : str
            A key of `history`.

        Returns
        -------
        list of int
            Numbers of epochs, as many as there are values.

        Raises
        ------
        UnknownNameError
            There is no such metric.
        """
        if name not in self._epochs:
            raise UnknownNameError("metric", name, self._epochs)
        return list(self._epochs[name])

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.epoch and self.epoch[-1] == epoch:
            # The epoch was stopped by a limit of steps and has now been completed.
            for name, values in self.history.items():
                if self._epochs[name][-1:] == [epoch]:
                    values.pop()
                    self._epochs[name].pop()
            self.epoch.pop()
            self.seconds.pop()
        self.epoch.append(epoch)
        self.seconds.append(self.trainer.epoch_seconds)
        logs = logs or {}
        # In Keras's order: by name, validation last.
        self.amend({name: logs[name] for name in sorted(logs, key=_keras_order)})
        self.model.history = self  # other callbacks may look it up there, as in Keras

    def amend(self, logs: Logs) -> None:
        """Record what callbacks have added to the logs of the last epoch, or changed in them.

        Parameters
        ----------
        logs : dict of str to float
            Loss and metrics by name.
        """
        for name, value in logs.items():
            if isinstance(value, np.generic):
                value = value.item()  # the state of training is JSON
            values = self.history.setdefault(name, [])
            epochs = self._epochs.setdefault(name, [])
            if epochs[-1:] == self.epoch[-1:]:
                values[-1] = value
            else:
                values.append(value)
                epochs.append(self.epoch[-1])

    def state_dict(self) -> dict[str, Any]:
        history = {name: list(values) for name, values in self.history.items()}
        partial = {n: list(e) for n, e in self._epochs.items() if e != self.epoch}
        return {
            "history": history,
            "epoch": list(self.epoch),
            "seconds": list(self.seconds),
            "partial": partial,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        history, epoch, seconds = entries(self, state, history=(Mapping,), epoch=LIST, seconds=LIST)
        partial = state.get("partial", {})  # older states have none
        self.history = {name: list(values) for name, values in history.items()}
        self.epoch, self.seconds = list(epoch), list(seconds)
        self._epochs = {name: list(partial.get(name, epoch)) for name in history}


def loss_first(names: Iterable[str]) -> list[str]:
    """Return names of metrics in the order of display: loss first, validation last."""
    return sorted(names, key=lambda n: (n.startswith("val_"), n.removeprefix("val_") != "loss"))


def _keras_order(name: str) -> tuple[bool, str]:
    return name.startswith("val_"), name
