"""What the command line shows and writes: lines on the screen, tables, the learning curve."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from gpunn.cli.files import whole_file
from gpunn.cli.run_settings import RunSettings
from gpunn.data.named import Dataset
from gpunn.models.model import Model
from gpunn.training.callbacks.history import History
from gpunn.training.trainer import Trainer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Array = np.ndarray[Any, Any]
WIDEST = 400  # characters of a line


class Screen:
    """Where lines for people go.

    Parameters
    ----------
    as_json : bool
        Standard output is for one JSON object; lines go to standard error.
    quiet : bool
        No lines at all.
    """

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json, self.quiet = as_json, quiet

    @property
    def file(self) -> IO[str]:
        """The stream of the lines."""
        return sys.stderr if self.as_json else sys.stdout

    def line(self, label: str, text: str) -> None:
        """Print a line that opens with a label."""
        if not self.quiet:
            print(f"{label:<8} {text}", file=self.file, flush=True)

    def result(self, values: Mapping[str, Any]) -> None:
        """Print the JSON object, if it is asked for; what is not finite becomes null."""
        if self.as_json:
            print(json.dumps(finite(values), allow_nan=False), flush=True)


def finite(value: Any) -> Any:
    """Return `value` with null in place of what JSON cannot hold."""
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def make_console(file: IO[str]) -> Console:
    """Return a console; where nobody looks, in a file or a pipe, lines are as long as they are."""
    from rich.console import Console

    return Console(file=file, width=None if file.isatty() else 200, highlight=False)


def print_table(console: Console, *tables: Table) -> None:
    """Print the first table that fits; else the last: rather lines that break than cut numbers."""
    screen = console.width
    for table in tables:
        console.width = WIDEST
        needed = console.measure(table).maximum
        console.width = screen
        if needed <= screen:
            break
    console.width = max(screen, needed)
    console.print(table, highlight=False)
    console.width = screen


def show_start(
    screen: Screen, settings: RunSettings, model: Model, dataset: Dataset, trainer: Trainer
) -> None:
    """Say what is about to be trained, on what, and where."""
    recipe, selection = settings.recipe, model.compiled.selection
    screen.line("device", f"{selection.backend.describe()}: {selection.reason}")
    held = f" + {trainer.validation.rows:,} held out" if trainer.validation is not None else ""
    units = [math.prod(dataset.x_train.shape[1:]), *recipe.hidden, dataset.classes or 1]
    screen.line("data", f"{dataset.name}, {trainer.rows:,} rows{held}")
    dropout = f", dropout {recipe.dropout:g}" if recipe.dropout else ""
    screen.line(
        "net",
        f"{'-'.join(map(str, units))} {recipe.activation}{dropout}, "
        f"{model.count_params():,} parameters",
    )
    length = f"{recipe.epochs} epochs of {trainer.steps_per_epoch}"
    if recipe.steps is not None:
        length = f"{recipe.steps:,}"
    rate = f"{recipe.learning_rate:g}"
    rate += f" {recipe.schedule}" if recipe.schedule != "constant" else ""
    precision = f", {settings.precision}" if settings.precision != "float32" else ""
    screen.line(
        "training",
        f"{length} steps, batch {recipe.batch_size}, {recipe.optimizer} {rate}, "
        f"seed {settings.seed}{precision}",
    )


def test_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return loss and metrics of the test rows by the names of the JSON output."""
    return {f"test_{name}": value for name, value in metrics.items()}


def metrics_text(metrics: Mapping[str, float]) -> str:
    """Return ``loss 0.1234, accuracy 0.9650``."""
    from gpunn.training.callbacks.progress import number

    return ", ".join(f"{name} {number(value)}" for name, value in metrics.items())


def training_summary(trainer: Trainer) -> dict[str, Any]:
    """Return what the JSON output says about the training: counts, time, speed, last metrics."""
    history = trainer.history
    seconds = sum(history.seconds)
    samples = trainer.epoch_index * trainer.rows + trainer.offset
    last = {name: values[-1] for name, values in history.history.items()}
    return {
        "epochs": trainer.epoch_index,
        "steps": trainer.step_count,
        "train_seconds": seconds,
        "samples_per_second": samples / seconds if seconds > 0 else None,
        "train_loss": last.get("loss"),
        **{name: value for name, value in last.items() if name.startswith("val_")},
    }


def speed_text(summary: Mapping[str, Any]) -> str:
    """Return time and speed of the training."""
    speed = summary["samples_per_second"]
    text = f"{summary['train_seconds']:.2f} s of training"
    return text if speed is None else f"{text}, {speed:,.0f} samples/s"


# Files of a run


def write_history(history: History, path: Path) -> None:
    """Write a row per epoch: its number, its seconds of training, loss and metrics."""
    with whole_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        from gpunn.training.callbacks.history import loss_first

        names = loss_first(history.history)
        writer.writerow(["epoch", "seconds", *names])
        columns = (history.epoch, history.seconds, *(history.history[name] for name in names))
        for epoch, *values in zip(*columns, strict=True):
            writer.writerow([epoch + 1, *values])


def can_draw() -> bool:
    """Return whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_learning_curve(history: History, title: str, path: Path) -> bool:
    """Draw loss and first metric by epoch; return False where matplotlib is not installed."""
    if not history.epoch or not can_draw():
        return False
    # Not pyplot: it looks for a display, and takes longer to import.
    from matplotlib.figure import Figure

    from gpunn.plots.learning import draw_curves
    from gpunn.training.callbacks.history import loss_first

    metrics = [n for n in loss_first(history.history) if not n.startswith("val_")][:2]
    figure = Figure(figsize=(4.5 * len(metrics), 3.4), dpi=100)
    # Set by hand: to let matplotlib find them takes 0.1 s.
    edge = 0.16 / len(metrics)
    figure.subplots_adjust(left=edge, right=1 - edge / 8, bottom=0.14, top=0.84, wspace=0.24)
    # A folder may have any name: no formulas, and no bytes that are not text.
    printable = title.encode(errors="replace").decode()
    figure.suptitle(printable, fontsize=11, parse_math=False)
    epochs = [epoch + 1 for epoch in history.epoch]
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        draw_curves(axes, epochs, history.history, metric)
    with warnings.catch_warnings(), whole_file(path, "wb") as file:
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the title's, in no font
        figure.savefig(file, format="png")
    return True


# Use of a trained net


def load_model(path: Path, device: str | None, precision: str | None) -> Model:
    """Load a net, and say on standard error if it computes in another precision than it has."""
    from gpunn.models.saving import load_with_note

    model, note = load_with_note(path, device=device or "auto", precision=precision, to_train=False)
    if note is not None:
        print(f"gpunn: warning: {note}", file=sys.stderr, flush=True)
    return model
