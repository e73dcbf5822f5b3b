"""All that decides how a run goes: from the options, and to and from the run's ``run.json``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpunn import __version__
from gpunn.cli import recipes
from gpunn.cli.files import whole_file
from gpunn.cli.recipes import Recipe
from gpunn.errors import ArgumentError, CheckpointError
from gpunn.specs import optimizers

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
    with whole_file(folder / "run.json") as file:
        file.write(json.dumps(values, indent=2) + "\n")
