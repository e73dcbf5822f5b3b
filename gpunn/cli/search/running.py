"""A search from beginning to end: its processes, its report, and the final training."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpunn.backends.select import select_backend
from gpunn.cli import recipes, run_settings, runs
from gpunn.cli.reports import Screen, can_draw
from gpunn.cli.search import report, space, worker
from gpunn.cli.search.space import Search
from gpunn.cli.search.study import Row, Trials, find_search, open_search
from gpunn.cli.search.worker import Work
from gpunn.data import named as datasets
from gpunn.models.compiling import check_precision, check_precision_name
from gpunn.training.signals import deferred_signals


@dataclass(frozen=True, kw_only=True)
class Request:
    """What ``gpunn search`` was asked for; `options` are those of the search itself."""

    dataset: str
    options: Mapping[str, Any]
    trials: int
    processes: int = 1
    out: Path | None = None
    device: str = "auto"
    timeout: float | None = None
    data_dir: str | None = None
    final: bool = False


def run_search(request: Request, screen: Screen) -> int:
    """Search, and say what was found; return the exit code."""
    begin = time.time()
    name = recipes.get(request.dataset).dataset
    folder = request.out or Path("searches") / name
    # What cannot be is said before data is loaded, and before there is a folder.
    if (before := find_search(folder)) is not None:
        space.check_same(before, name, request.options, folder)
    check_precision_name(precision := request.options.get("precision", "float32"))
    check_precision(select_backend(request.device), request.device, precision)
    dataset = datasets.load(name, request.data_dir, progress=not screen.quiet)
    plan = space.new(dataset, request.options) if before is None else before
    recipe = dataclasses.replace(_recipe(plan), validation=plan.validation)
    (x, _), _ = recipes.split(recipe, dataset)
    space.check_batch_sizes(plan, len(x))
    search = open_search(folder, dataset, request.options)
    trials = Trials(folder, search)
    work = Work(
        folder=str(folder),
        dataset=dataset.name,
        trials=request.trials,
        device=request.device,
        threads=_threads(request),
        data_dir=request.data_dir,
        deadline=None if request.timeout is None else begin + request.timeout,
    )
    _show_start(screen, request, search, folder, trials)
    told = _Told(screen, trials.rows())
    code = killed = 0
    final: dict[str, Any] = {}
    try:
        if request.processes == 1:
            worker.run(work, search, dataset, told)
        else:
            code, killed = _share(work, request.processes, trials, told, screen)
    except KeyboardInterrupt:
        code = 130
    except SystemExit as stop:  # from SIGTERM
        code = stop.code if isinstance(stop.code, int) else 1
    rows, best = trials.rows(), trials.best()
    _write(screen, rows, search, folder, best)
    finished = trials.finished()
    if killed and finished < request.trials:
        code = code or 1  # nobody was left to do the rest
    if code or finished < request.trials:
        left = f"stopped with {finished} of {request.trials} trials finished"
        print(f"{left}; to go on:\n  {_again(request, folder)}", file=sys.stderr, flush=True)
    elif request.final and best is not None:
        code, final = _train_best(screen, search, best, folder, request)
    screen.result(_result(search, rows, best, folder) | final)
    return code


def _recipe(search: Search) -> recipes.Recipe:
    return recipes.get(search.dataset)


def _threads(request: Request) -> int | None:
    if request.processes == 1:
        return None
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # on macOS
        cores = os.cpu_count() or 1
    return max(1, cores // request.processes)


class _Told:
    """Prints a line for each trial that has ended, whichever process it was of."""

    def __init__(self, screen: Screen, rows: list[Row]) -> None:
        self._screen = screen
        self._known = {row.number for row in rows if self._ended(row)}

    def _ended(self, row: Row) -> bool:
        return row.state not in ("running", "waiting")

    def __call__(self, trials: Trials) -> None:
        for row in sorted(trials.rows(), key=lambda row: row.number):
            if self._ended(row) and row.number not in self._known:
                self._known.add(row.number)
                self._screen.line("trial", report.trial_text(row))


def _share(
    work: Work, processes: int, trials: Trials, told: _Told, screen: Screen
) -> tuple[int, int]:
    """Let other processes do the work; return the exit code, and how many were killed."""
    work = dataclasses.replace(work, parent=os.getpid())
    command = [
        sys.executable,
        "-m",
        "gpunn.cli.search.worker",
        json.dumps(dataclasses.asdict(work)),
    ]
    with deferred_signals() as interrupt:
        # In sessions of their own: Ctrl-C in a terminal would reach them twice.
        started = [
            subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
            for _ in range(processes)
        ]
        going = list(started)
        stopping = False
        while going:
            if interrupt and not stopping:
                stopping = True
                for process in going:
                    process.send_signal(signal.SIGTERM)
            time.sleep(worker.WAIT)
            told(trials)
            for process in [p for p in going if p.poll() is not None]:
                going.remove(process)
                if process.returncode < 0 and not stopping:
                    what = f"process {process.pid} was ended by signal {-process.returncode}"
                    screen.line("", f"{what}: its trial will be repeated")
        told(trials)
        interrupt.raise_again()
    # Killed ones do not count as long as the others have done the work.
    failed = [p.returncode for p in started if p.returncode > 0]
    return failed[0] if failed else 0, sum(p.returncode < 0 for p in started)


def _show_start(
    screen: Screen, request: Request, search: Search, folder: Path, trials: Trials
) -> None:
    finished = trials.finished()
    screen.line("search", f"{folder}: {finished} of {request.trials} trials finished")
    for name in space.PARAMETERS:
        screen.line("", f"{name.replace('_', ' ')} {space.text(name, getattr(search, name))}")
    rows = f"{search.validation:g}" if search.validation >= 1 else f"{search.validation:.0%}"
    screen.line(
        "score",
        f"{search.metric} of {rows} {'rows' if search.validation >= 1 else 'of the rows'} held out "
        f"of the training part, after {search.epochs} epochs; {search.sampler}, pruner "
        f"{search.pruner}, seed {search.seed}",
    )


def _write(screen: Screen, rows: list[Row], search: Search, folder: Path, best: Row | None) -> None:
    if not screen.quiet:
        report.print_table(rows, search, screen.file)
    screen.line("trials", report.counts_text(rows))
    saved = [report.TABLE]
    written = runs._written(lambda: report.write_csv(rows, search, folder / report.TABLE))
    if not written:
        saved.clear()
    title = f"{search.dataset}: {report.counts_text(rows)}"
    if runs._written(lambda: report.draw(rows, search, title, folder / report.PICTURE)):
        saved.append(report.PICTURE)
    if best is not None and best.score is not None:
        screen.line("best", f"trial {best.number}, {search.metric} {best.score:.4f}:")
        screen.line("", report.train_command(search, best))
    if saved:
        screen.line("saved", f"{', '.join(saved)} in {folder}")
    if not can_draw():
        screen.line("", "for a picture of the trials: pip install matplotlib")


class _Noted(Screen):
    """Keeps the result for the search's own."""

    values: Mapping[str, Any] | None = None

    def result(self, values: Mapping[str, Any]) -> None:
        self.values = values


def _train_best(
    screen: Screen, search: Search, best: Row, folder: Path, request: Request
) -> tuple[int, dict[str, Any]]:
    """Train with the best settings on all training rows, and test: a run like any other."""
    options = search.options(best.params) | {
        "validation": 0,
        "device": request.device,
        "data_dir": request.data_dir,
    }
    out = folder / f"final-{best.number}"
    # A run that was stopped goes on; one that is done is evaluated again.
    resume = runs.has_checkpoints(out) and (out / "run.json").exists()
    settings = (
        run_settings.resume(out, search.dataset, {})
        if resume
        else run_settings.start(search.dataset, options)
    )
    noted = _Noted(as_json=screen.as_json, quiet=screen.quiet or screen.as_json)
    code = runs.train(settings, out, resume, noted)
    screen.line(
        "final", f"to evaluate it again: gpunn evaluate {shlex.quote(str(out))} {search.dataset}"
    )
    return code, {"final": noted.values}


def _again(request: Request, folder: Path) -> str:
    words = ["gpunn", "search", request.dataset, "--out", str(folder)]
    words += ["--trials", str(request.trials)]
    if request.processes > 1:
        words += ["--processes", str(request.processes)]
    if request.device != "auto":
        words += ["--device", request.device]
    if request.data_dir is not None:
        words += ["--data-dir", request.data_dir]
    return shlex.join(words + (["--final"] if request.final else []))


def _result(search: Search, rows: list[Row], best: Row | None, folder: Path) -> dict[str, Any]:
    return {
        "dataset": search.dataset,
        "search": str(folder),
        "trials": report.counts(rows),
        "metric": search.metric,
        "best_trial": None if best is None else best.number,
        "best_score": None if best is None else best.score,
        "best_params": None if best is None else search.fixed() | best.params,
        "command": None if best is None else report.train_command(search, best),
    }
