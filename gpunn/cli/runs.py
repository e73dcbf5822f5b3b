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
import json
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpunn import __version__
from gpunn.checkpoints.files import CheckpointDirectory
from gpunn.checkpoints.reader import OLDER
from gpunn.cli import recipes, reports
from gpunn.cli.recipes import Recipe
from gpunn.cli.reports import Screen
from gpunn.data import named as datasets
from gpunn.errors import ArgumentError, CheckpointError, GpunnError, PlanError, TrainingError
from gpunn.models import saving
from gpunn.specs import optimizers
from gpunn.training.callbacks.base import Callback, Checkpoints, Logs
from gpunn.training.callbacks.progress import ProgressBar
from gpunn.training.trainer import Trainer

if TYPE_CHECKING:
    from gpunn.data.named import Dataset
    from gpunn.models.model import Model

HISTORY, CURVE = "history.csv", "learning_curve.png"

# What may differ when a run is resumed: how long, where, and what is shown and saved.
FREE_ON_RESUME = ("epochs", "steps", "save_every", "device", "threads", "data_dir")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """All that decides how a run goes.

    Attributes
    ----------
    recipe : Recipe
        Net and training.
    schedule_steps : int or None
        Steps that the learning rate's schedule is spread over; settled when the run starts, and
        kept when it is resumed for longer. None before that.
    seed, device, precision
        For `Model.compile`.
    data_dir : str or None
        Where to look for the data set first.
    """

    recipe: Recipe
    schedule_steps: int | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "float32"
    data_dir: str | None = None


def start(dataset: str, options: Mapping[str, Any]) -> RunSettings:
    """Return the settings of a new run: the data set's recipe, changed by the options given."""
    return _changed(RunSettings(recipe=recipes.get(dataset)), _given(options))


def resume(folder: Path, dataset: str, options: Mapping[str, Any]) -> RunSettings:
    """Return the settings of the run in `folder`; options that contradict it are an error."""
    settings, given = load(folder), _given(options)
    recipe = settings.recipe
    if recipes.get(dataset).dataset != recipe.dataset:
        raise ArgumentError(f"{folder} is a run on {recipe.dataset}, not on {dataset}.")
    for name, value in given.items():
        if name in FREE_ON_RESUME:
            continue
        own = getattr(recipe if hasattr(recipe, name) else settings, name)
        scheduled = name == "learning_rate" and recipe.schedule != "constant"
        if value != own or scheduled:
            was = ",".join(map(str, own)) if isinstance(own, tuple) else own
            was = f"{was}, {recipe.schedule}" if scheduled else was
            option = f"--{name.replace('_', '-')}"
            raise ArgumentError(
                f"{option} contradicts the run in {folder}, which was started with {was}; "
                f"leave {option} out to resume it, or start another run with another --out."
            )
    return _changed(settings, {k: v for k, v in given.items() if k in FREE_ON_RESUME})


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in options.items() if value is not None}
    if "epochs" in given and "steps" in given:
        raise ArgumentError("Give --epochs or --steps, not both.")
    return given


def _changed(settings: RunSettings, given: Mapping[str, Any]) -> RunSettings:
    recipe, changes = settings.recipe, dict(given)
    if "epochs" in changes or "steps" in changes:
        changes = {"epochs": None, "steps": None} | changes
    if "optimizer" in changes:
        optimizer = optimizers.get(changes["optimizer"])  # says what is known, if it is not
        if changes["optimizer"] != recipe.optimizer and "learning_rate" not in changes:
            changes["learning_rate"] = optimizer.schedule(0)
    if "learning_rate" in changes:
        changes["schedule"] = "constant"
    fields = {field.name for field in dataclasses.fields(Recipe)}
    of_recipe = {name: value for name, value in changes.items() if name in fields}
    others = {name: value for name, value in changes.items() if name not in fields}
    return dataclasses.replace(settings, recipe=dataclasses.replace(recipe, **of_recipe), **others)


def load(folder: Path) -> RunSettings:
    """Read the settings of the run in `folder`."""
    path = folder / "run.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        del values["gpunn"]
        settings = RunSettings(**values | {"recipe": Recipe(**values["recipe"])})
        if not isinstance(settings.data_dir, str | None):
            raise TypeError(f"data_dir is {settings.data_dir!r}")
        return settings
    except FileNotFoundError:
        raise CheckpointError(
            f"There is no run to resume in {folder}: it has no run.json, which gpunn train writes."
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path}: not the settings of a run ({error}).") from error


def save(folder: Path, settings: RunSettings) -> None:
    """Write the settings: whole, or not at all."""
    values = {"gpunn": __version__} | dataclasses.asdict(settings)
    with reports.whole_file(folder / "run.json") as file:
        file.write(json.dumps(values, indent=2) + "\n")


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


def train(settings: RunSettings, out: Path | None, resume: bool, screen: Screen) -> int:
    """Train, evaluate, and say what came of it; return the exit code."""
    recipe = settings.recipe
    dataset = datasets.load(recipe.dataset, settings.data_dir, progress=not screen.quiet)
    (x, y), validation = recipes.split(recipe, dataset)
    schedule_steps = settings.schedule_steps or recipe.total_steps(len(x))
    settings = dataclasses.replace(settings, schedule_steps=schedule_steps)
    model = recipes.build_model(recipe, dataset)
    try:
        model.compile(
            recipes.build_optimizer(recipe, schedule_steps),
            **recipes.objective(dataset),
            device=settings.device,
            precision=settings.precision,
            threads=recipe.threads,
            seed=settings.seed,
        )
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
    save(folder, settings)
    drawn = False
    try:
        try:
            # `FiniteLoss` ends training when the loss overflows: no warnings on the way there.
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The loss is not finite", RuntimeWarning)
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
        trainer.load_state_dict(saving.read_training_state(trainer.model, folder))
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
