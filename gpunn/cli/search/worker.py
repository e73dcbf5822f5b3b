"""What each process of a search does: take a trial, train it, write down its score.

``python -m gpunn.cli.search.worker JSON`` is a process that ``gpunn search --processes`` started.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import Trial

from gpunn.cli import recipes, run_settings, runs
from gpunn.cli.search.space import Search
from gpunn.cli.search.study import DIVERGED, Trials, open_search
from gpunn.data import named as datasets
from gpunn.data.named import Dataset
from gpunn.errors import GpunnError, TrainingError
from gpunn.training.callbacks.base import Callback, Logs
from gpunn.training.signals import deferred_signals

WAIT = 0.1  # seconds between two looks at what other processes do


@dataclass(frozen=True, kw_only=True)
class Work:
    """How a process takes part in a search.

    Attributes
    ----------
    folder : str
    dataset : str
    trials : int
        Finished trials of all processes after which the search ends.
    device : str
    threads : int or None
        Most threads of the CPU; None: what the data set's recipe says.
    data_dir : str or None
    deadline : float or None
        Time (`time.time`) after which no trial begins.
    parent : int or None
        Process to end with.
    """

    folder: str
    dataset: str
    trials: int
    device: str = "auto"
    threads: int | None = None
    data_dir: str | None = None
    deadline: float | None = None
    parent: int | None = None

    def is_over(self) -> bool:
        """Return whether no more trials are to begin."""
        late = self.deadline is not None and time.time() >= self.deadline
        return late or self.is_orphaned()

    def is_orphaned(self) -> bool:
        """Return whether the process that this one is to end with is there no more."""
        return self.parent is not None and os.getppid() != self.parent


class ReportToPruner(Callback):
    """Reports the score after each epoch; ends training where the pruner says so."""

    def __init__(self, trial: Trial, search: Search) -> None:
        self.trial, self.search = trial, search
        self.score: float | None = None
        self.pruned = False
        self.epochs = 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.score = float((logs or {})[f"val_{self.search.metric}"])
        self.epochs = epoch + 1
        if not math.isfinite(self.score):
            raise TrainingError("The score is not finite.")
        if self.search.pruner == "none":
            return
        self.trial.report(self.score, epoch)
        if self.epochs < self.search.epochs and self.trial.should_prune():
            self.pruned = self.model.stop_training = True


class EndWithParent(Callback):
    """Interrupts a trial after the epoch in which the process that shared out the work ended."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.work.is_orphaned():
            raise SystemExit(1)


def run(
    work: Work, search: Search, dataset: Dataset, tell: Callable[[Trials], object] = lambda _: None
) -> None:
    """Train trials until the search is done; `tell` is called whenever one has ended.

    Raises
    ------
    KeyboardInterrupt, SystemExit
        On a signal; the trial is marked as failed, and will be repeated.
    """
    trials = Trials(Path(work.folder), search)
    try:
        with deferred_signals() as interrupt:
            while not (interrupt or work.is_over()):
                trial = trials.take(work.trials)
                if trial == "done":
                    break
                if isinstance(trial, str):
                    time.sleep(WAIT)
                else:
                    _train(trials, trial, work, search, dataset)
                tell(trials)
            interrupt.raise_again()
    finally:
        trials.end()


def _train(trials: Trials, trial: Trial, work: Work, search: Search, dataset: Dataset) -> None:
    callback = ReportToPruner(trial, search)
    begin = time.perf_counter()
    try:
        note = _fit(callback, trial, work, search, dataset)
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        note = "interrupted" if stopped else " ".join(str(error).split())
        trials.fail(trial, note or type(error).__name__, repeat=stopped)
        raise
    score = None if note or callback.pruned else callback.score
    trials.finish(trial, score, callback.epochs, time.perf_counter() - begin, note)


def _fit(
    callback: ReportToPruner, trial: Trial, work: Work, search: Search, dataset: Dataset
) -> str:
    """Train as ``gpunn train`` does with the same options; return why there is no score."""
    settings = run_settings.start(search.dataset, search.options(trial.params))
    recipe = settings.recipe
    if work.threads is not None:
        threads = min(work.threads, recipe.threads or work.threads)
        recipe = dataclasses.replace(recipe, threads=threads)
    (x, y), validation = recipes.split(recipe, dataset)
    settings = dataclasses.replace(settings, recipe=recipe, device=work.device)
    model = runs.compiled_model(settings, dataset, recipe.total_steps(len(x)))
    try:
        with runs.overflow_ignored():
            model.fit(
                x,
                y,
                batch_size=recipe.batch_size,
                epochs=search.epochs,
                verbose=0,
                callbacks=[runs.FiniteLoss(), callback, EndWithParent(work)],
                validation_data=validation,
            )
    except TrainingError:
        return DIVERGED
    return ""


def main(argument: str) -> int:
    """Take part in the search that the JSON object describes; return the exit code."""
    values: dict[str, Any] = json.loads(argument)
    work = Work(**values)
    try:
        dataset = datasets.load(work.dataset, work.data_dir, progress=False)
        run(work, open_search(Path(work.folder), dataset, {}), dataset)
    except (GpunnError, OSError) as error:
        print(f"gpunn: error: process {os.getpid()}: {error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
