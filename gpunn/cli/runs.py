"""Runs: a folder with the settings of a training, its checkpoints, its history and its curve.

::

    runs/mnist-1/run.json                    the settings, written before the first step
                 step-0000040000.h5 best.h5  checkpoints
                 history.csv                 loss and metrics of each epoch
                 learning_curve.png
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from gpunn.checkpoints.files import CheckpointDirectory
from gpunn.checkpoints.reader import OLDER
from gpunn.cli import recipes, reports, run_settings
from gpunn.cli.reports import Screen
from gpunn.cli.run_settings import RunSettings
from gpunn.data import named as datasets
from gpunn.data.named import Dataset
from gpunn.errors import ArgumentError, CheckpointError, GpunnError, PlanError, TrainingError
from gpunn.models.model import Model
from gpunn.training.callbacks.base import Callback, Checkpoints, Logs
from gpunn.training.callbacks.progress import ProgressBar
from gpunn.training.trainer import Trainer

HISTORY, CURVE = "history.csv", "learning_curve.png"


def has_checkpoints(folder: Path) -> bool:
    """Return whether there are checkpoints in `folder`."""
    directory = CheckpointDirectory(folder)
    return bool(directory.steps() or directory.best())


def check_unused(folder: Path) -> None:
    """Raise if a new run in `folder` would mix with an earlier one."""
    if has_checkpoints(folder):
        raise ArgumentError(
            f"{folder} has checkpoints of an earlier run: go on with it by --resume, or choose "
            f"another --out."
        )


def claim(out: Path | None, dataset: str) -> Path:
    """Make the folder of a new run: `out`, or the first free ``runs/<dataset>-<n>``."""
    if out is not None:
        check_unused(out)
        out.mkdir(parents=True, exist_ok=True)
        return out
    Path("runs").mkdir(exist_ok=True)
    for number in itertools.count(1):
        folder = Path("runs") / f"{dataset}-{number}"
        with suppress(FileExistsError):  # of two processes only one makes it
            folder.mkdir()
            return folder
    raise AssertionError("unreachable")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes from training into `folder` meanwhile, where the system can do that."""
    try:
        import fcntl
    except ImportError:  # on Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArgumentError(
                f"Another process is training into {folder}: wait for it, or choose another --out."
            ) from None
        except OSError:  # a network file system without locks
            pass
        yield
    finally:
        os.close(descriptor)  # and with it the lock


class FiniteLoss(Callback):
    """Ends training once the loss is NaN or infinite; checkpoints stay as they are."""

    interval = 0.5

    def on_interval(self, logs: Logs) -> None:
        self._check()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._check()

    def _check(self) -> None:
        step = self.trainer.nonfinite_step
        if step is not None:
            raise TrainingError(
                f"The loss became NaN or infinite at step {step}: training ends here, and earlier "
                f"checkpoints are as they were.\nLower --learning-rate, or check the data."
            )


@contextmanager
def overflow_ignored() -> Iterator[None]:
    """Warn of no overflow within the context: `FiniteLoss` ends training when the loss does."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The loss is not finite", RuntimeWarning)
        yield


def compiled_model(settings: RunSettings, dataset: Dataset, schedule_steps: int) -> Model:
    """Return the net, ready to be trained."""
    recipe = settings.recipe
    model = recipes.build_model(recipe, dataset)
    model.compile(
        recipes.build_optimizer(recipe, schedule_steps),
        **recipes.objective(dataset),
        device=settings.device,
        precision=settings.precision,
        threads=recipe.threads,
        seed=settings.seed,
    )
    return model


def train(settings: RunSettings, out: Path | None, resume: bool, screen: Screen) -> int:
    """Train, evaluate, and say what came of it; return the exit code."""
    recipe = settings.recipe
    dataset = datasets.load(recipe.dataset, settings.data_dir, progress=not screen.quiet)
    (x, y), validation = recipes.split(recipe, dataset)
    schedule_steps = settings.schedule_steps or recipe.total_steps(len(x))
    settings = dataclasses.replace(settings, schedule_steps=schedule_steps)
    try:
        model = compiled_model(settings, dataset, schedule_steps)
    except PlanError as error:
        if not resume:
            raise
        # Its precision stays: to change it, as the error advises, is for new runs.
        raise PlanError(
            f"The run in {out} can only go on in the precision it was started with, "
            f"{settings.precision}. {error}"
        ) from error
    folder = out if resume and out is not None else claim(out, recipe.dataset)
    with held(folder):
        if not resume:
            check_unused(folder)  # another process may have been quicker
        return _train_into(folder, settings, resume, screen, model, dataset, (x, y), validation)


def _train_into(
    folder: Path,
    settings: RunSettings,
    resume: bool,
    screen: Screen,
    model: Model,
    dataset: Dataset,
    rows: recipes.Pair,
    validation: recipes.Pair | None,
) -> int:
    recipe = settings.recipe
    checkpoints = Checkpoints(folder, save_every=recipe.save_every)
    bar: list[Callback] = [] if screen.quiet else [ProgressBar(screen.file)]
    try:
        trainer = Trainer(
            model,
            *rows,
            batch_size=recipe.batch_size,
            validation_data=validation,
            callbacks=[FiniteLoss(), checkpoints, *bar],
        )
    except GpunnError:
        with suppress(OSError):
            folder.rmdir()  # only if it is empty
        raise
    reports.show_start(screen, settings, model, dataset, trainer)
    if resume and has_checkpoints(folder):
        _restore(trainer, folder, settings, screen)
    else:
        screen.line("run", str(folder))
    run_settings.save(folder, settings)
    drawn = False
    try:
        try:
            with overflow_ignored():
                trainer.fit(recipe.epochs, recipe.steps)
            metrics = model.evaluate(dataset.x_test, dataset.y_test, return_dict=True)
        except OSError as error:
            # Standard output is closed (`| head -1`), say: no reason to lose the last steps.
            if not isinstance(error, GpunnError):
                with suppress(GpunnError):
                    checkpoints.on_interrupt()
            raise
        finally:
            written = _written(lambda: reports.write_history(trainer.history, folder / HISTORY))
        drawn = _written(
            lambda: reports.draw_learning_curve(trainer.history, folder.name, folder / CURVE)
        )
    except KeyboardInterrupt:
        return _stopped(130, folder, recipe.dataset, checkpoints.last_saved, screen)
    except SystemExit as stop:  # from SIGTERM, once the state is saved
        code = stop.code if isinstance(stop.code, int) else 1
        return _stopped(code, folder, recipe.dataset, checkpoints.last_saved, screen)
    about = reports.training_summary(trainer)
    screen.line("time", reports.speed_text(about))
    screen.line("test", f"{reports.metrics_text(metrics)} ({len(dataset.x_test):,} rows)")
    saved = [str(checkpoints.path), *([HISTORY] if written else []), *([CURVE] if drawn else [])]
    screen.line("saved", ", ".join(saved))
    if not reports.can_draw():
        screen.line(
            "", "history.csv is the learning curve; for a picture of it: pip install matplotlib"
        )
    screen.result(
        {
            "dataset": recipe.dataset,
            "run": str(folder),
            "device": model.compiled.selection.backend.name,
            "device_description": model.device,
            "precision": settings.precision,
            "seed": settings.seed,
            "parameters": model.count_params(),
            **about,
            **reports.test_metrics(metrics),
            "checkpoint": str(checkpoints.path),
        }
    )
    return 0


def _restore(trainer: Trainer, folder: Path, settings: RunSettings, screen: Screen) -> None:
    """Take the state of the latest checkpoint, and say what is left to do."""
    recipe = settings.recipe
    try:
        trainer.resume(folder)
    except CheckpointError as error:
        others = len(CheckpointDirectory(folder).steps()) > 1
        if others and OLDER in str(error):
            what = str(error).replace(OLDER, "").rstrip()
            raise CheckpointError(
                f"{what}\nTo go on from the checkpoint before it, move this file out of the folder."
            ) from error
        raise
    total = recipe.total_steps(trainer.rows)
    screen.line("resumed", f"{folder} at step {trainer.step_count:,}")
    end = settings.schedule_steps
    if trainer.step_count >= total:
        screen.line("", f"its {total:,} steps are done; for more, give more --epochs or --steps")
    elif recipe.schedule != "constant" and end is not None and total > end:
        rate = trainer.schedule(end)
        screen.line(
            "", f"mind: its {recipe.schedule} schedule ends at step {end:,}, at a rate of {rate:g}"
        )


def _written(write: Callable[[], object]) -> bool:
    """Write a table or a picture of a run: if it fails, say so and go on, as the net is saved."""
    try:
        return write() is not False
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"gpunn: warning: {where}{error.strerror or error}", file=sys.stderr, flush=True)
        return False


def _stopped(code: int, folder: Path, dataset: str, step: int | None, screen: Screen) -> int:
    """Say where a run that a signal has stopped can be taken up again."""
    if not screen.quiet:
        saved = "before the first checkpoint" if step is None else f"saved at step {step:,}"
        command = f"gpunn train {dataset} --out {shlex.quote(str(folder))} --resume"
        print(f"stopped, {saved}; to go on:\n  {command}", file=sys.stderr, flush=True)
    return code
