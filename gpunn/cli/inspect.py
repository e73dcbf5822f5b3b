"""``gpunn inspect``: what a run or a model file holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpunn.cli import options
from gpunn.errors import CheckpointError

if TYPE_CHECKING:
    from gpunn.models.model import Model


def inspect(
    run: options.RunPath,
    plan: Annotated[
        bool, typer.Option("--plan", help="Also print the kernel calls of a training step.")
    ] = False,
) -> None:
    """Show what a run or a model file holds."""
    from gpunn.checkpoints.files import resolve
    from gpunn.models import saving

    file = resolve(run)
    model = saving.load_for_inspection(file)
    training = read_training(model, file)
    show_model(model, file, training)
    if plan:
        print()
        print(model.plan(training["batch_size"] if training else 32).describe())


def show_model(model: Model, file: Path, training: Mapping[str, Any] | None) -> None:
    """Print what a model file holds."""
    model.summary()
    print()
    print(f"{'file':<8} {file}, {file.stat().st_size:,} bytes")
    print(f"{'seed':<8} {model.seed}")
    if model._compiled is not None:
        print(f"{'products':<8} in {model.compiled.precision}")
    if training is None:
        print(f"{'training':<8} none: the file holds a model, and cannot be resumed")
        return
    into = f", {training['offset']:,} rows into the next" if training["offset"] else ""
    print(
        f"{'training':<8} epoch {training['epoch']}{into}, step {training['step']:,}, "
        f"batch {training['batch_size']}, {training['rows']:,} rows"
    )
    history = next((c["state"] for c in training["callbacks"] if c["type"] == "History"), None)
    if history and history["epoch"]:
        last = {name: values[-1] for name, values in history["history"].items()}
        from gpunn.cli.reports import metrics_text

        print(f"{'last':<8} {metrics_text(last)}")
        print(f"{'time':<8} {sum(history['seconds']):.2f} s of training")


def read_training(model: Model, file: Path) -> dict[str, Any] | None:
    """Return the state of training in a file, None if it holds a model only."""
    from gpunn.models.saving import read_training_state

    if model._compiled is None:
        return None
    try:
        training: dict[str, Any] = read_training_state(model, file)["training"]
    except CheckpointError as error:
        if "no state of training" in str(error):
            return None
        raise
    return training
