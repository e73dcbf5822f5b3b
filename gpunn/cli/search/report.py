"""What a search shows and writes: a line per trial, the table, trials.csv and a picture."""

from __future__ import annotations

import csv
import math
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from gpunn.cli import reports
from gpunn.cli.files import whole_file
from gpunn.cli.reports import can_draw
from gpunn.cli.search.space import RANGES, Search
from gpunn.cli.search.study import DIVERGED, STATES, Row

if TYPE_CHECKING:
    from rich.table import Table

TABLE, PICTURE = "trials.csv", "search.png"
_COLOURS = {"complete": "#0072B2", "pruned": "#8c8c8c"}


def short(value: Any) -> str:
    """Return a number as it is read."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def trial_text(row: Row) -> str:
    """Return what came of a trial, in a line."""
    params = ", ".join(f"{name} {short(value)}" for name, value in row.params.items())
    score = "" if row.score is None else f"{row.score:.4f} "
    note = f" ({row.note})" if row.note else ""
    return f"{row.number:<4} {row.state:<8} {score}{params}{note}"


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """Return how many trials there are in each state."""
    found = Counter(row.state for row in rows)
    return {state: found[state] for state in STATES.values()}


def counts_text(rows: Sequence[Row]) -> str:
    """Return ``12 complete, 3 pruned, 1 failed``."""
    return ", ".join(f"{n} {state}" for state, n in counts(rows).items() if n) or "none"


def print_table(rows: Sequence[Row], search: Search, file: IO[str]) -> None:
    """Print the trials, the best one first, and what there is to say of some of them."""
    console = reports.make_console(file)
    reports.print_table(console, *(_table(rows, search, lengths=each) for each in (True, False)))
    for row in sorted(rows, key=lambda row: row.number):
        if row.note and row.state == "failed":
            console.print(f"trial {row.number} failed: {row.note}", markup=False, soft_wrap=True)
        if row.repeats is not None:
            console.print(f"trial {row.number} repeats trial {row.repeats}")


def _table(rows: Sequence[Row], search: Search, *, lengths: bool) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    names = search.searched()
    for head in ("#", search.metric, *(name.replace("_", "\n") for name in names)):
        table.add_column(head, justify="right", no_wrap=True)
    if lengths:
        table.add_column("epochs", justify="right", no_wrap=True)
        table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for row in rows:
        epochs = "" if row.epochs is None else str(row.epochs)
        seconds = "" if row.seconds is None else f"{row.seconds:.2f}"
        diverged = " (diverged)" if row.note == DIVERGED else ""
        table.add_row(
            str(row.number),
            "" if row.score is None else f"{row.score:.4f}",
            *(short(row.params.get(name, "")) for name in names),
            *((epochs, seconds) if lengths else ()),
            row.state + diverged,
            style=None if row.state == "complete" else "dim",
        )
    return table


def train_command(search: Search, row: Row) -> str:
    """Return the command that trains the net of a trial."""
    words = ["gpunn", "train", search.dataset]
    for name, value in search.options(row.params).items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        if (name, value) != ("precision", "float32"):
            words += [f"--{name.replace('_', '-')}", text]
    return shlex.join(words)


def write_csv(rows: Sequence[Row], search: Search, path: Path) -> None:
    """Write a row per trial, in the order of the table, with all parameters."""
    fixed = search.fixed()
    names = [*search.searched(), *fixed]
    with whole_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["trial", "state", search.metric, *names, "epochs", "seconds", "repeats", "note"]
        )
        for row in rows:
            params = fixed | row.params
            cells = [params.get(name) for name in names]
            end = (row.epochs, row.seconds, row.repeats, row.note)
            writer.writerow([row.number, row.state, row.score, *cells, *end])


def draw(rows: Sequence[Row], search: Search, title: str, path: Path) -> bool:
    """Draw scores by trial and by each parameter; return False where matplotlib is missing."""
    scored = sorted((r for r in rows if r.score is not None), key=lambda row: row.number)
    scored = [row for row in scored if math.isfinite(row.score or 0.0)]
    if not scored or not can_draw():
        return False
    # Not pyplot: it looks for a display, and takes longer to import.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = search.searched()
    # One line of panels for up to four parameters, else two.
    lines = 1 if len(names) <= 4 else 2
    columns = max(2, -(-len(names) // lines))
    figure = Figure(figsize=(2.9 * columns, 3.0 + 2.5 * lines), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=11, parse_math=False)
    grid = figure.add_gridspec(1 + lines, columns, height_ratios=[1.15] + [1] * lines)
    limits = _limits([row.score or 0.0 for row in scored], search.higher_is_better)
    top = figure.add_subplot(grid[0, :])
    _scatter(top, [row.number for row in scored], scored, limits)
    better = max if search.higher_is_better else min
    best, numbers, scores = None, [], []
    for row in scored:
        if row.state == "complete" and row.score is not None:
            best = row.score if best is None else better(best, row.score)
            numbers.append(row.number)
            scores.append(best)
    if numbers:
        numbers.append(scored[-1].number)
        scores.append(scores[-1])
        top.step(numbers, scores, where="post", color="#D55E00", label="best so far")
    top.set(xlabel="trial", ylabel=f"validation {search.metric}")
    top.legend(fontsize=8, loc="lower right" if search.higher_is_better else "upper right")
    top.xaxis.set_major_locator(MaxNLocator(integer=True))
    for place, name in enumerate(names):
        axes = figure.add_subplot(grid[1 + place // columns, place % columns])
        values = [row.params[name] for row in scored]
        if name in RANGES:
            if RANGES[name][3]:
                _log_axis(axes, *getattr(search, name))
            elif RANGES[name][0] is int:
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            values = [getattr(search, name).index(value) for value in values]
            axes.set_xticks(range(len(getattr(search, name))), map(str, getattr(search, name)))
            axes.set_xlim(-0.5, len(getattr(search, name)) - 0.5)
        _scatter(axes, values, scored, limits)
        axes.set_xlabel(name.replace("_", " "))
        axes.tick_params(labelsize=8)
    with whole_file(path, "wb") as file:
        figure.savefig(file, format="png")
    return True


def _scatter(
    axes: Any, values: Sequence[Any], rows: Sequence[Row], limits: tuple[float, float]
) -> None:
    """Draw scores; those beyond the limits as triangles at the edge."""
    axes.set_ylim(limits)
    axes.grid(alpha=0.25)
    margin = 0.03 * (limits[1] - limits[0])
    low, high = limits[0] + margin, limits[1] - margin
    scores = np.array([row.score for row in rows], float)
    shown = np.clip(scores, low, high)
    for state, colour in _COLOURS.items():
        here = np.array([row.state == state for row in rows])
        marker = "o" if state == "complete" else "x"
        for chosen, shape in (
            (here & (scores < low), "v"),
            (here & (scores > high), "^"),
            (here & (scores == shown), marker),
        ):
            if chosen.any():
                lines = 1 if shape == "x" else 0
                label = state if shape == marker else None
                x, y = np.asarray(values)[chosen], shown[chosen]
                axes.scatter(x, y, s=18, c=colour, marker=shape, linewidths=lines, label=label)


def _log_axis(axes: Any, low: float, high: float) -> None:
    """Scale by orders of magnitude; matplotlib's ticks of less than two of them overlap."""
    from matplotlib.ticker import NullFormatter

    axes.set_xscale("log")
    axes.set_xlim(low / (high / low) ** 0.05, high * (high / low) ** 0.05)
    axes.xaxis.set_minor_formatter(NullFormatter())
    if isinstance(low, int) or high / low < 100:
        ticks = np.geomspace(low, high, 4)
        ticks = np.unique(ticks.round() if isinstance(low, int) else ticks)
        axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])


def _limits(scores: Sequence[float], higher_is_better: bool) -> tuple[float, float]:
    """Return limits in which the better half is told apart; the worst may be far off."""
    ordered = sorted(scores, reverse=higher_is_better)
    best, middle, worst = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    if abs(worst - best) > 4 * abs(middle - best) > 0:
        worst = best + 3 * (middle - best)
    low, high = min(best, worst), max(best, worst)
    edge = 0.08 * (high - low) or 0.05
    return low - edge, high + edge
