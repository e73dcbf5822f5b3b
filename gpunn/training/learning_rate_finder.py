"""Learning rate finder: train with an increasing learning rate and record the loss.

After L. N. Smith, "Cyclical Learning Rates for Training Neural Networks" (2017), section 3.3, with
the exponential increase and the stopping rule of fastai's ``lr_find``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from gpunn.errors import ArgumentError, ArgumentTypeError
from gpunn.plan.bind import WRITTEN_FIRST, BoundPlan
from gpunn.plan.spec import METRICS
from gpunn.specs.registry import check_count, check_number
from gpunn.training.signals import deferred_signals
from gpunn.training.trainer import Trainable, Trainer

Array = np.ndarray[Any, Any]

STEPS = 100
# Steps between reads of the losses: at most this many run in vain after a divergence.
CHUNK = 16


@dataclass(frozen=True)
class LearningRateSearch:
    """The result of `find_learning_rate`.

    Parameters
    ----------
    learning_rates : ndarray, shape (steps,)
        The learning rate of each step.
    losses : ndarray, shape (steps,)
        The loss of each step's batch, before the update; the last may not be finite.
    smoothed : ndarray, shape (steps,)
        Exponential moving average of the losses, with bias correction; NaN where the loss is not
        finite.
    suggestion : float or None
        A tenth of the learning rate at which the smoothed loss is lowest; None if it never fell.
    divergence : float or None
        The learning rate at which the loss diverged, which ended the search; None if it did not.
    """

    learning_rates: Array
    losses: Array
    smoothed: Array
    suggestion: float | None
    divergence: float | None


def find_learning_rate(
    model: Trainable,
    x: Any,
    y: Any,
    *,
    minimum: float = 1e-6,
    maximum: float = 10.0,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    sample_weight: Any = None,
    shuffle: bool = True,
    smoothing: float = 0.8,
    stop_factor: float = 4.0,
) -> LearningRateSearch:
    """Train for some steps with an exponentially increasing learning rate, then undo the training.

    Parameters
    ----------
    model : Model
        Must be compiled. Its weights, the state and learning rate of its optimizer, and the
        position in training are restored afterwards, bit for bit; a learning-rate schedule is
        ignored during the search.
    x, y : array_like, or list or dict of them
        Inputs and targets, as for `Model.fit`.
    minimum, maximum : float, default 1e-6 and 10
        Learning rates of the first and the last step.
    steps : int, optional
        Number of steps, at least 2; default 100. Take more if the losses are noisy.
    epochs : int, optional
        Instead of `steps`: as many steps as these epochs have.
    batch_size : int, optional
        Default 32, or all rows if there are fewer.
    sample_weight : array_like, shape (rows,), optional
        As for `Model.fit`.
    shuffle : bool, default True
        Whether to shuffle the rows before each epoch.
    smoothing : float, default 0.8
        Decay of the moving average, at least 0 and below 1; 0 for no smoothing.
    stop_factor : float, default 4
        The loss has diverged if it is not finite, or if the smoothed loss exceeds its minimum by
        this factor; above 1.

    Returns
    -------
    LearningRateSearch
        Learning rates, losses and a suggestion.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is not valid.
    NotBuiltError
        The model is not compiled.

    Notes
    -----
    No step waits for Python: the device records the loss of every step, and sixteen losses are read
    at a time.

    Examples
    --------
    >>> search = gpunn.find_learning_rate(model, x, y)                     # doctest: +SKIP
    >>> model.optimizer.learning_rate = search.suggestion                  # doctest: +SKIP
    >>> gpunn.plots.LearningRateFinderDisplay.from_result(search)          # doctest: +SKIP
    """
    owner = "find_learning_rate"
    check_number(owner, "minimum", minimum, above=0)
    check_number(owner, "maximum", maximum, above=0)
    if not maximum > minimum:
        raise ArgumentError(
            f"{owner}: maximum must be above minimum, which is {minimum!r}, not {maximum!r}."
        )
    check_number(owner, "smoothing", smoothing, minimum=0, below=1)
    check_number(owner, "stop_factor", stop_factor, above=1)
    if steps is not None and epochs is not None:
        raise ArgumentError(f"{owner}: give steps or epochs, not both.")
    if steps is not None:
        steps = check_count(owner, "steps", steps, minimum=2)
    if epochs is not None:
        epochs = check_count(owner, "epochs", epochs)
    if y is None:
        raise ArgumentTypeError(f"{owner}: y is missing; give the targets, one for each row of x.")
    make = partial(Trainer, model, x, y, batch_size=batch_size)
    make = partial(make, sample_weight=sample_weight, shuffle=shuffle)
    with _undone(make) as trainer:
        if epochs is not None:
            steps = max(epochs * trainer.steps_per_epoch, 2)
        rates = np.geomspace(minimum, maximum, STEPS if steps is None else steps)
        tracker = _LossTracker(smoothing, stop_factor)
        diverged = _search(trainer, rates, tracker)
    losses, smoothed = np.array(tracker.losses), np.array(tracker.smoothed)
    return _result(rates[: len(losses)], losses, smoothed, diverged)


@contextmanager
def _undone(make: Callable[[], Trainer]) -> Iterator[Trainer]:
    """Make a trainer, and put everything that it changes back in the end."""
    trainer = make()
    trainer.session.copies.refresh()  # what is put back is the newest, whoever trained it
    model, session, bound = trainer.model, trainer.session, trainer.bound
    backend, before = session.backend, (replace(session.state), session.active_trainer)
    stopped = model.stop_training
    kept = [name for name in bound.regions if name not in WRITTEN_FIRST]
    saved = {name: backend.to_host(_bytes(bound, name)).copy() for name in kept}
    try:
        yield trainer
    finally:
        for name, content in saved.items():
            backend.write(_bytes(bound, name), content)
        trainer.release()
        vars(session.state).update(vars(before[0]))
        session.active_trainer, model.stop_training = before[1], stopped
        session.copies.version += 1


def _bytes(bound: BoundPlan, region: str) -> Any:
    nbytes = bound.layout[region].nbytes
    return bound.backend.view(bound.regions[region], 0, (nbytes,), "uint8")


def _search(trainer: Trainer, rates: Array, tracker: _LossTracker) -> bool:
    """Take steps and pass their losses to `tracker`; return whether the last one diverged."""
    bound, backend = trainer.bound, trainer.session.backend
    metrics = _bytes(bound, METRICS)[0]
    width = bound.layout[METRICS].nbytes
    records = backend.view(backend.allocate(CHUNK * width, 1), 0, (CHUNK, width), "uint8")[0]
    before = np.zeros(len(bound.plan.metrics))
    taken: list[tuple[bool, int]] = []  # whether an epoch began, rows
    # A diverging loss may overflow.
    ignored = np.errstate(all="ignore")
    with backend.threads(), deferred_signals() as interrupt, ignored:
        for i, rate in enumerate(rates):
            if interrupt:
                break
            trainer._begin_epoch()
            begins, samples = trainer.offset == 0, trainer.samples
            backend.write(trainer._rate, rate)
            trainer._take_steps(1)
            backend.write(records[len(taken)], metrics)
            taken.append((begins, trainer.samples - samples))
            if trainer.offset >= trainer.rows:
                trainer._finish_epoch()
            if len(taken) < CHUNK and i < len(rates) - 1:
                continue
            for row, (new, rows) in zip(backend.to_host(records), taken, strict=False):
                sums = _sums(bound, row)
                loss = _loss(bound, sums - (0 if new else before)) / rows
                before = sums
                if tracker.diverged(loss):
                    return True
            taken.clear()
    interrupt.raise_again()
    return False


def _sums(bound: BoundPlan, row: Array) -> Array:
    """Return the sums behind the loss and the metrics, from the bytes of a step."""
    offsets = bound.layout[METRICS].offsets
    parts = [
        row[offsets[m.buffer] : offsets[m.buffer] + bound.plan.buffers[m.buffer].nbytes].view(
            bound.plan.buffers[m.buffer].dtype
        )[0]
        for m in bound.plan.metrics
    ]
    return np.array(parts, np.float64)


def _loss(bound: BoundPlan, sums: Array) -> float:
    parts = zip(bound.plan.metrics, sums, strict=True)
    return sum(m.weight * float(value) for m, value in parts if m.weight)


class _LossTracker:
    """Records and smooths losses, and detects divergence."""

    def __init__(self, smoothing: float, factor: float) -> None:
        self.smoothing, self.factor = smoothing, factor
        self.total = self.weight = 0.0
        self.best = math.inf
        self.losses: list[float] = []
        self.smoothed: list[float] = []

    def diverged(self, loss: float) -> bool:
        """Record the next loss; return whether it has diverged."""
        self.total = self.smoothing * self.total + loss
        self.weight = self.smoothing * self.weight + 1
        average = self.total / self.weight
        self.losses.append(loss)
        self.smoothed.append(average if math.isfinite(average) else math.nan)
        if not math.isfinite(average):
            return True
        self.best = min(self.best, average)
        return average > self.best + (self.factor - 1) * abs(self.best)


def _result(rates: Array, losses: Array, smoothed: Array, diverged: bool) -> LearningRateSearch:
    suggestion = None
    if np.isfinite(smoothed[:1]).all() and (lowest := int(np.nanargmin(smoothed))) > 0:
        suggestion = float(rates[lowest]) / 10
    divergence = float(rates[-1]) if diverged else None
    return LearningRateSearch(rates, losses, smoothed, suggestion, divergence)
