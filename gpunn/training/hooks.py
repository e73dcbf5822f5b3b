"""Callbacks around the batches of `Model.evaluate` and `Model.predict`, as Keras calls them.

Without a callback that defines a hook per batch, batches are large and nothing is called between
them; with one they are of the size that was asked for, since the hook counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gpunn.errors import ArgumentError, ArgumentTypeError
from gpunn.specs.registry import check_count
from gpunn.training.callbacks.base import Callback, defines

DEFAULT_BATCH_SIZE = 32
# By kind: the model's flag with which a hook ends the call early.
STOP_FLAGS = {"test": "stop_evaluating", "predict": "stop_predicting"}


def check_callbacks(callbacks: Any) -> list[Callback]:
    """Return callbacks, one, several, lists of them or None, as a list."""
    if callbacks is None:
        return []
    if isinstance(callbacks, Callback):
        return [callbacks]
    if not isinstance(callbacks, Iterable):
        raise ArgumentTypeError(f"callbacks must be a list of callbacks, not {callbacks!r}.")
    checked: list[Callback] = []
    for callback in callbacks:
        if isinstance(callback, list | tuple):
            checked += check_callbacks(callback)
        elif isinstance(callback, Callback):
            checked.append(callback)
        else:
            raise ArgumentError(
                f"callbacks must be gpunn.callbacks.Callback objects, not {callback!r}."
            )
    return checked


class Hooks:
    """What callbacks define for an evaluation or a prediction.

    Parameters
    ----------
    model : Model
    callbacks : Callback, sequence of them or None
    kind : {"test", "predict"}
    rows : int
        Rows of the data.
    batch_size : int, optional
        Default 32; only batches that a hook looks at are of this size.
    """

    def __init__(
        self,
        model: Any,
        callbacks: Any,
        kind: str,
        rows: int,
        batch_size: int | None = None,
    ) -> None:
        callbacks = check_callbacks(callbacks)
        self.model, self.callbacks, self.kind = model, callbacks, kind
        asked = DEFAULT_BATCH_SIZE
        if callbacks and batch_size is not None:
            asked = check_count("evaluate" if kind == "test" else kind, "batch_size", batch_size)
        self.batch_size = min(asked, max(rows, 1))
        self.steps = -(-rows // self.batch_size)
        self._begin = [c for c in callbacks if defines(c, f"on_{kind}_batch_begin")]
        self._end = [c for c in callbacks if defines(c, f"on_{kind}_batch_end")]

    def introduce(self, verbose: int | str) -> None:
        """Tell the callbacks of a call of its own, not within a fit, what they are part of."""
        for callback in self.callbacks:
            # To be set a model is to start anew: not for callbacks that know this one already.
            if getattr(callback, "model", None) is not self.model:
                callback.set_model(self.model)
            shown = 1 if verbose == "auto" else int(verbose)
            callback.set_params({"verbose": shown, "epochs": 1, "steps": self.steps})

    @property
    def batches(self) -> Hooks | None:
        """Itself where there are hooks per batch."""
        return self if self._begin or self._end else None

    def begin(self) -> None:
        """Run before the first batch."""
        if self.callbacks:
            setattr(self.model, STOP_FLAGS[self.kind], False)
        for callback in self.callbacks:
            getattr(callback, f"on_{self.kind}_begin")({})

    def end(self, *logs: Any) -> None:
        """Run after the last batch."""
        for callback in self.callbacks:
            getattr(callback, f"on_{self.kind}_end")(*logs or ({},))

    def batch_begin(self, batch: int) -> None:
        """Run before a batch (0, 1, ...)."""
        for callback in self._begin:
            getattr(callback, f"on_{self.kind}_batch_begin")(batch, logs={})

    def batch_end(self, batch: int, logs: Callable[[], dict[str, Any]]) -> bool:
        """Run after a batch; return whether it is to be the last one."""
        if self._end:
            known = logs()
            for callback in self._end:
                getattr(callback, f"on_{self.kind}_batch_end")(batch, logs=known)
        return bool(getattr(self.model, STOP_FLAGS[self.kind], False))
