"""Runs: a folder with the settings of a training, its checkpoints, its history and its curve.

::

    runs/mnist-1/run.json                    the settings, written before the first step
                 step-0000040000.h5 best.h5  checkpoints
                 history.csv                 figures of each epoch
                 learning_curve.png
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpunn import __version__, optimizers, recipes
from gpunn.errors import ArgumentError, CheckpointError, TrainingError
from gpunn.recipes import Recipe
from gpunn.training.callbacks import Callback, Logs
from gpunn.training.checkpoint import CheckpointDirectory

# What may differ when a run is resumed: how long, where, and what is shown and saved.
FREE_ON_RESUME = ("epochs", "steps", "device", "threads", "data_dir", "save_every")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that decides how a run goes.

    Attributes
    ----------
    recipe : Recipe
        Net and training.
    schedule_steps : int or None
        Steps that the learning rate's schedule is spread over; settled when the run starts, and
        kept when it is resumed for longer. None before that.
    seed, device, precision, threads
        For `Model.compile`.
    data_dir : str or None
        Where to look for the data set first.
    save_every : int
        Epochs between checkpoints.
    """

    recipe: Recipe
    schedule_steps: int | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "float32"
    threads: int | None = None
    data_dir: str | None = None
    save_every: int = 1


def start(dataset: str, options: Mapping[str, Any]) -> Settings:
    """Return the settings of a new run: the data set's recipe, changed by the options given."""
    return _changed(Settings(recipe=recipes.get(dataset)), _given(options))


def resume(folder: Path, dataset: str, options: Mapping[str, Any]) -> Settings:
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


def _changed(settings: Settings, given: Mapping[str, Any]) -> Settings:
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


def load(folder: Path) -> Settings:
    """Read the settings of the run in `folder`."""
    path = folder / "run.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        del values["gpunn"]
        return Settings(**values | {"recipe": Recipe(**values["recipe"])})
    except FileNotFoundError:
        raise CheckpointError(
            f"There is no run to resume in {folder}: it has no run.json, which gpunn train writes."
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path}: not the settings of a run ({error}).") from error


def save(folder: Path, settings: Settings) -> None:
    """Write the settings: whole, or not at all."""
    values = {"gpunn": __version__} | dataclasses.asdict(settings)
    temporary = folder / f".run-{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(json.dumps(values, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / "run.json")
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def has_checkpoints(folder: Path) -> bool:
    """Return whether there are checkpoints in `folder`."""
    directory = CheckpointDirectory(folder)
    return bool(directory.steps() or directory.best())


def claim(out: Path | None, dataset: str) -> Path:
    """Make the folder of a new run: `out`, or the first free ``runs/<dataset>-<n>``."""
    if out is not None:
        if has_checkpoints(out):
            raise ArgumentError(
                f"{out} has checkpoints of an earlier run: go on with it by --resume, or choose "
                f"another --out."
            )
        out.mkdir(parents=True, exist_ok=True)
        return out
    Path("runs").mkdir(exist_ok=True)
    for number in itertools.count(1):
        folder = Path("runs") / f"{dataset}-{number}"
        with suppress(FileExistsError):  # of two processes only one makes it
            folder.mkdir()
            return folder
    raise AssertionError("unreachable")


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
