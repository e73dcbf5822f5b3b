"""The learning curve: loss and metrics of training and validation by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpunn.errors import ArgumentError, ArgumentTypeError, DataError, ShapeError, UnknownNameError
from gpunn.plots.common import TRAINING, VALIDATION, panels
from gpunn.training.callbacks.history import History, loss_first


class LearningCurveDisplay:
    """Loss and metrics by epoch, one panel for each.

    Parameters
    ----------
    epochs : sequence of int
        Numbers of the epochs, from 1.
    curves : dict of str to sequence of float
        ``loss``, the metrics, and the same with ``val_`` for validation; a value for each epoch, or
        None, which the line skips.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : ndarray of matplotlib Axes, shape (panels,)
    lines_ : dict of str to matplotlib Line2D
        By the names of the curves.

    Raises
    ------
    ShapeError, DataError
        A curve has not one value per epoch, or there are none.
    """

    def __init__(self, epochs: Sequence[int], curves: Mapping[str, Sequence[float | None]]) -> None:
        self.epochs = list(epochs)
        self.curves = {name: list(values) for name, values in curves.items()}
        for name, values in self.curves.items():
            if len(values) != len(self.epochs):
                raise ShapeError(
                    f"history: {name!r} has {len(values)} values for {len(self.epochs)} epochs; "
                    f"it must have one for each."
                )
        if not self.epochs or not self.curves:
            raise DataError("history has no epochs yet: call fit first.")
        self.figure_: Any = None
        self.ax_: Any = None
        self.lines_: dict[str, Any] = {}

    @classmethod
    def from_history(
        cls, history: Any, *, metrics: str | Sequence[str] | None = None, ax: Any = None
    ) -> LearningCurveDisplay:
        """Draw the record of a fit.

        Parameters
        ----------
        history : History, Model, or dict of str to list of float
            What `fit` returned, its ``.history``, or the model that was fitted.
        metrics : str or list of str, optional
            The panels, such as ``"loss"``; default: all.
        ax : matplotlib Axes, or array of one for each panel, optional
            Where to draw; a single Axes is divided into the panels. Default: a new figure.

        Returns
        -------
        LearningCurveDisplay
            The display.

        Raises
        ------
        ArgumentTypeError, DataError, ShapeError
            `history` is not a record of a fit, or has no epochs.
        ArgumentError, UnknownNameError
            `metrics` is empty, or one of them is not in the history.
        """
        record, epochs = history, None
        while not isinstance(record, Mapping) and hasattr(record, "history"):
            epochs = getattr(record, "epoch", None)
            history, record = record, record.history
        if record is None:
            raise DataError("history: the model has not been trained yet; call fit first.")
        if not isinstance(record, Mapping):
            raise ArgumentTypeError(
                f"history must be what fit returned, or a dict of lists, not "
                f"{type(history).__name__}."
            )
        if epochs is None:
            epochs = range(len(next(iter(record.values()), ())))
        if isinstance(history, History):
            record = {name: _spread(history, name) for name in record}
        return cls([epoch + 1 for epoch in epochs], record).plot(ax, metrics=metrics)

    def plot(
        self, ax: Any = None, *, metrics: str | Sequence[str] | None = None
    ) -> LearningCurveDisplay:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, or array of one for each panel, optional
            As for `from_history`.
        metrics : str or list of str, optional
            As for `from_history`.

        Returns
        -------
        LearningCurveDisplay
            The display itself.

        Raises
        ------
        ArgumentError, UnknownNameError
            `metrics` is empty, or one of them is not among the curves.
        """
        known = loss_first(dict.fromkeys(name.removeprefix("val_") for name in self.curves))
        chosen = known if metrics is None else [metrics] if isinstance(metrics, str) else metrics
        for name in chosen:
            if name not in known:
                raise UnknownNameError("metric in metrics", name, known)
        if not chosen:
            raise ArgumentError(f"metrics is empty; choose from {', '.join(known)}.")
        self.figure_, self.ax_ = panels(
            len(chosen), ax, columns=min(3, len(chosen)), size=(4.5, 3.4)
        )
        self.lines_ = {}
        for axes, name in zip(self.ax_, chosen, strict=True):
            self.lines_ |= draw_curves(axes, self.epochs, self.curves, name)
        return self


def _spread(history: History, name: str) -> list[float | None]:
    """Return a value for each epoch, None for epochs without one."""
    values = history.history[name]
    if len(values) == len(history.epoch):
        return list(values)
    return [dict(zip(history.epochs_of(name), values, strict=True)).get(e) for e in history.epoch]


def draw_curves(
    axes: Any, epochs: Sequence[int], curves: Mapping[str, Sequence[float | None]], metric: str
) -> dict[str, Any]:
    """Draw one metric of training and validation; return the lines by name."""
    lines = {}
    for name, label, colour in (
        (metric, "training", TRAINING),
        (f"val_{metric}", "validation", VALIDATION),
    ):
        if name in curves:
            points = [(e, v) for e, v in zip(epochs, curves[name], strict=True) if v is not None]
            # Without markers, few points or epochs without one could not be made out.
            marker = "o" if len(epochs) <= 10 or len(points) < len(epochs) else ""
            where, values = np.asarray(points, dtype=float).reshape(-1, 2).T
            (lines[name],) = axes.plot(
                where, values, marker=marker, ms=3, color=colour, label=label
            )
    axes.set_xlabel("epoch")
    axes.set_title(metric, loc="left", fontsize=10)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if len(epochs) == 1:
        axes.set_xlim(0, 2)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return lines
