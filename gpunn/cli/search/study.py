"""The trials of a search: who takes the next one, and what becomes of those that were left."""

from __future__ import annotations

import os
import secrets
import socket
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from gpunn.cli.search import space
from gpunn.cli.search.journal import FileLock, Journal
from gpunn.cli.search.space import RANGES, Search
from gpunn.data.named import Dataset
from gpunn.errors import ArgumentError, CheckpointError

JOURNAL, LOCK, STUDY = "search.journal", "search.lock", "gpunn"
DIVERGED = "diverged"  # the note of a trial whose loss was not finite
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


@dataclass(frozen=True)
class Row:
    """A trial as it is shown.

    Attributes
    ----------
    number : int
    state : {'complete', 'pruned', 'failed', 'running', 'waiting'}
    score : float or None
        Of the last epoch, also of a trial that was pruned; None where there is none.
    params : dict
        The parameters that are searched.
    epochs, seconds
        What was trained; None for a trial that has not ended by itself.
    repeats : int or None
        The number of the failed trial that this one repeats.
    note : str
        Why it was pruned or failed.
    """

    number: int
    state: str
    score: float | None
    params: dict[str, Any]
    epochs: int | None
    seconds: float | None
    repeats: int | None
    note: str


class Trials:
    """The trials of the search in a folder, shared with other processes.

    Parameters
    ----------
    folder : Path
        With a search in it; see `open_search`.
    search : Search
    """

    def __init__(self, folder: Path, search: Search) -> None:
        self.folder, self.search = folder, search
        self._lock = FileLock(folder / LOCK)
        self._processes = folder / "processes"
        self._name = secrets.token_hex(8)
        self._presence: FileLock | None = None  # held while this process takes part
        with self._lock.held():
            self._study = _study(folder, search)
        self._distributions = {name: _distribution(search, name) for name in search.searched()}

    # Taking trials and giving them back

    def take(self, wanted: int) -> Trial | Literal["wait", "done"]:
        """Start the next trial, unless `wanted` are finished or on their way.

        Trials of processes that are no more are marked as failed first, and will be repeated.

        Returns
        -------
        Trial, "wait" or "done"
            "wait" while other processes have trials that may yet have to be repeated.
        """
        if self._presence is None:
            self._processes.mkdir(exist_ok=True)
            self._presence = FileLock(self._processes / f"{self._name}.lock")
            self._presence.acquire()
        with self._lock.held():
            self._fail_abandoned()
            trials = self._study.get_trials(deepcopy=False)
            running = sum(t.state == TrialState.RUNNING for t in trials)
            finished = sum(t.state in FINISHED for t in trials)
            if finished + running >= wanted:
                return "wait" if running else "done"
            # From seed and number: processes differ, and a resumed search goes on as it would have.
            self._study.sampler = _sampler(self.search, len(trials))
            trial = self._study.ask(self._distributions)
            owner = {"process": self._name, "pid": os.getpid(), "host": socket.gethostname()}
            trial.set_user_attr("owner", owner)
            return trial

    def finish(
        self, trial: Trial, score: float | None, epochs: int, seconds: float, note: str = ""
    ) -> None:
        """Write down what came of a trial; without a score it is one that was pruned."""
        trial.set_user_attr("result", {"epochs": epochs, "seconds": seconds, "note": note})
        if score is None:
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, score)

    def fail(self, trial: Trial, note: str, *, repeat: bool) -> None:
        """Mark a trial as failed."""
        trial.set_user_attr("result", {"epochs": None, "seconds": None, "note": note})
        with self._lock.held():
            frozen = self._study.tell(trial, state=TrialState.FAIL)
            if repeat:
                self._repeat(frozen)

    def _fail_abandoned(self) -> None:
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            owner = trial.user_attrs.get("owner", {})
            # Owners are written under the lock that is held here: none means it died before.
            if owner and self._is_present(owner["process"]):
                continue
            who = f"process {owner['pid']} on {owner['host']}" if owner else "its process"
            note = {"epochs": None, "seconds": None, "note": f"{who} ended without a result"}
            storage = self._study._storage
            storage.set_trial_user_attr(trial._trial_id, "result", note)
            self._study.tell(trial.number, state=TrialState.FAIL)
            self._repeat(trial)

    def _is_present(self, name: str) -> bool:
        """Return whether the process of that name is there; if not, clear its file away."""
        lock = FileLock(self._processes / f"{name}.lock")
        if not lock.path.exists():
            return False
        if not lock.acquire(wait=False):
            return True
        lock.remove()
        return False

    def _repeat(self, trial: FrozenTrial) -> None:
        if set(trial.params) == set(self._distributions):
            first = trial.user_attrs.get("repeats", trial.number)
            self._study.enqueue_trial(trial.params, user_attrs={"repeats": first})

    def end(self) -> None:
        """Take no more trials."""
        if self._presence is not None:
            self._presence.remove()

    # Looking

    def rows(self) -> list[Row]:
        """Return all trials: by score, then those without one."""
        sign = -1 if self.search.higher_is_better else 1
        rows = [_row(trial) for trial in self._study.get_trials(deepcopy=False)]
        # Scores of pruned trials are of an earlier epoch.
        order = list(STATES.values())

        def key(row: Row) -> tuple[Any, ...]:
            score = float("inf") if row.score is None else sign * row.score
            return (order.index(row.state), score, row.number)

        return sorted(rows, key=key)

    def finished(self) -> int:
        """Return how many trials have come to a result."""
        return sum(t.state in FINISHED for t in self._study.get_trials(deepcopy=False))

    def best(self) -> Row | None:
        """Return the trial with the best score, the earliest of several."""
        rows = self.rows()
        return rows[0] if rows and rows[0].state == "complete" else None


def open_search(folder: Path, dataset: Dataset, given: Mapping[str, Any]) -> Search:
    """Return the search in a folder; begin it with the options given if there is none.

    Raises
    ------
    ArgumentError
        Where the options contradict the search that is there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ArgumentError(f"search: {folder} is not a folder; choose another --out.") from None
    with FileLock(folder / LOCK).held():
        search = find_search(folder)
        if search is None:
            search = space.new(dataset, given)
            _study(folder, search).set_user_attr("search", search.to_json())
    space.check_same(search, dataset.name, given, folder)
    return search


def find_search(folder: Path) -> Search | None:
    """Return the search in a folder, None where there is none yet."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if not (folder / JOURNAL).exists():
        return None
    values = None
    with suppress(KeyError):  # its process was killed before it had written a thing
        study = optuna.load_study(study_name=STUDY, storage=_storage(folder))
        values = study.user_attrs.get("search")
    try:
        return None if values is None else space.stored(values)
    except TypeError as error:
        raise CheckpointError(
            f"{folder / JOURNAL} has no settings that this gpunn knows ({error})."
        ) from error


def _study(folder: Path, search: Search) -> optuna.Study:
    storage, pruner = _storage(folder), _pruner(search)
    try:
        return optuna.load_study(study_name=STUDY, storage=storage, pruner=pruner)
    except KeyError:
        return optuna.create_study(
            study_name=STUDY,
            storage=storage,
            pruner=pruner,
            direction="maximize" if search.higher_is_better else "minimize",
        )


def _storage(folder: Path) -> JournalStorage:
    path = folder / JOURNAL
    try:
        return JournalStorage(Journal(path))
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged, or not the journal of a search ({error}). Move it away to begin "
            f"anew."
        ) from error


def _row(trial: FrozenTrial) -> Row:
    result = trial.user_attrs.get("result", {})
    score = trial.value if trial.state in FINISHED else None
    params = trial.params or trial.system_attrs.get("fixed_params", {})
    return Row(
        trial.number,
        STATES[trial.state],
        score,
        dict(params),
        result.get("epochs"),
        result.get("seconds"),
        trial.user_attrs.get("repeats"),
        result.get("note", ""),
    )


def _distribution(search: Search, name: str) -> BaseDistribution:
    values = getattr(search, name)
    if name not in RANGES:
        return CategoricalDistribution(values)
    kind, _, _, log = RANGES[name]
    low, high = values
    if kind is int:
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def _sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed)
    with warnings.catch_warnings():
        # Some releases of Optuna call the argument experimental: it keeps processes from trying
        # what another one is at.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def _pruner(search: Search) -> optuna.pruners.BasePruner:
    if search.pruner == "none":
        return optuna.pruners.NopPruner()
    if search.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=search.epochs)
    return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=search.epochs // 5)
