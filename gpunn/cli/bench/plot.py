"""Samples per second over the batch size: gpunn, its bound, and the peers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpunn.cli.files import whole_file
from gpunn.errors import MissingPackageError
from gpunn.plots.common import COLOURS

Report = Mapping[str, Any]
MARKERS = "osD^vP*"
PANEL = (5.6, 4.2)  # inches


def check_can_draw() -> None:
    """Raise `MissingPackageError` where matplotlib is not installed: before, not after."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            "--plot needs matplotlib, which is not installed: pip install matplotlib"
        ) from error


def curves(report: Report) -> dict[tuple[str, str, str], dict[str, list[tuple[int, float]]]]:
    """Return, by (device, precision, optimizer), the points of each curve.

    A point is (batch size, samples per second); the curve ``"bound"`` is the lower bound's.
    """
    found: dict[tuple[str, str, str], dict[str, list[tuple[int, float]]]] = {}
    for row in report["rows"]:
        panel = found.setdefault((row["device"], row["precision"], row["optimizer"]), {})
        for name, side in row["sides"].items():
            if "samples_per_second" in side:
                point = row["batch_size"], side["samples_per_second"]
                panel.setdefault(name, []).append(point)
        if row["bound_seconds"] > 0:
            bound = row["batch_size"], row["batch_size"] / row["bound_seconds"]
            panel.setdefault("bound", []).append(bound)
    return {key: {name: sorted(p) for name, p in panel.items()} for key, panel in found.items()}


def draw(report: Report, path: Path) -> None:
    """Write the picture to `path`, a PNG file."""
    from matplotlib.figure import Figure

    panels = curves(report)
    if not panels:
        return
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = Figure(
        figsize=(PANEL[0] * columns, PANEL[1] * rows + 0.5), dpi=130, layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    sides = [name for name in names if name != "bound"]
    for axes, ((device, precision, optimizer), panel) in zip(
        grid.flat, panels.items(), strict=False
    ):
        _panel(axes, panel, sides)
        axes.set_title(f"{device}, {precision}, {optimizer}", fontsize=10)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    for line in grid[:, 0]:
        line.set_ylabel("samples per second")
    settings, machine = report["settings"], report["machine"]
    net = "-".join(map(str, (settings["inputs"], *settings["hidden"], settings["classes"])))
    figure.suptitle(f"Training {net}", fontsize=12)
    figure.supxlabel(
        f"batch size\n{machine['processor']}, {machine['cores']} cores; "
        f"gpunn {machine['versions']['gpunn']}, {machine['date']}",
        fontsize=8,
        parse_math=False,
    )
    with whole_file(path, "wb") as file:
        figure.savefig(file, format="png")


def _panel(axes: Any, panel: Mapping[str, list[tuple[int, float]]], sides: list[str]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    batches: set[int] = set()
    for name, points in panel.items():
        sizes, rates = zip(*points, strict=True)
        batches |= set(sizes)
        if name == "bound":
            mark = "_" if len(points) == 1 else ""
            style = {"color": "#555555", "lw": 1.2, "marker": mark, "zorder": 1}
            axes.plot(sizes, rates, "--", label="gpunn's bound", **style)
            continue
        at = sides.index(name)
        ours = name == "gpunn"
        axes.plot(
            *(sizes, rates),
            color=COLOURS[at % len(COLOURS)],
            marker=MARKERS[at % len(MARKERS)],
            lw=2.4 if ours else 1.4,
            ms=6 if ours else 4.5,
            label=name,
            zorder=3 if ours else 2,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(_spaced(sorted(batches))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(_short))
    axes.grid(True, which="major", color="#dddddd", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, framealpha=0.9)


def _spaced(sizes: list[int]) -> list[int]:
    """Return the batch sizes to name on the axis: those that are not too near to the one before."""
    chosen: list[int] = []
    for size in sizes:
        if not chosen or size >= 1.9 * chosen[-1]:
            chosen.append(size)
    if len(chosen) > 1 or sizes[-1] >= 1.2 * sizes[0]:  # the last one always
        chosen = [*(size for size in chosen if sizes[-1] >= 1.2 * size), sizes[-1]]
    return chosen


def _short(value: float, _: object) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"
