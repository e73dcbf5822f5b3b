"""What ``gpunn bench`` shows: progress while it measures, tables at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich import progress as rich_progress
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from gpunn.cli.reports import print_table

Report = Mapping[str, Any]
BUSY = 0.5  # load from which on figures are said to be disturbed
DEVICE_COLUMNS = ("device", "precision", "threads")


class Progress:
    """Who is told how far a measurement is; this one shows nothing."""

    def begin(self, total: int) -> None:
        """So many parts are to be measured."""

    def now(self, text: str) -> None:
        """This is being measured."""

    def advance(self, parts: int = 1) -> None:
        """So many parts are done."""


class LiveProgress(Progress):
    """A bar with what is being measured and the time left; no bar where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self._bar = rich_progress.Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    @contextmanager
    def shown(self) -> Iterator[LiveProgress]:
        """Show the bar within the context."""
        with self._bar:
            yield self

    def begin(self, total: int) -> None:
        self._task = self._bar.add_task("", total=total)

    def now(self, text: str) -> None:
        if self._task is not None:
            self._bar.update(self._task, description=text)

    def advance(self, parts: int = 1) -> None:
        if self._task is not None:
            self._bar.advance(self._task, parts)


def show(report: Report, console: Console) -> None:
    """Print all tables of a report."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    settings = report["settings"]
    net = "-".join(map(str, (settings["inputs"], *settings["hidden"], settings["classes"])))
    dropout = f", dropout {settings['dropout']:g}" if settings["dropout"] else ""
    lines = [
        f"{machine['processor']}, {machine['cores']} cores; Python {machine['python']}, {versions}",
        *report["devices"].values(),
        f"net {net}, ReLU, softmax{dropout}; random images",
    ]
    lines += [f"left out: {text}" for text in report["skipped"]]
    if (load := report["load_before"]) is not None and load >= BUSY:
        lines.append(f"busy: {load:.1f} programs were running before this began; they are in it")
    parts: list[Any] = [Text("\n".join(lines))]
    parts += [
        build(report)
        for key, build in (
            ("ceilings", ceilings_table),
            ("rows", rows_table),
            ("inference", inference_table),
        )
        if report[key]
    ]
    parts += [profile_table(entry) for entry in report["profiles"]]
    if report["rows"]:
        parts.append(memory_table(report))
    if report["cold_start"]:
        parts.append(cold_table(report))
    if any(report["peers"].values()):
        parts.append(Text("\n".join(peer_lines(report))))
    if not report["complete"]:
        parts.append(Text("Cut short: this is what was measured until then.", style="bold"))
    for part in parts:
        if isinstance(part, Table):
            print_table(console, part)
        else:
            console.print(part, highlight=False)
        console.print()


def _table(title: str, *columns: str, caption: str = "") -> Table:
    table = Table(
        title=title,
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        collapse_padding=True,
    )
    for name in columns:
        words = name in ("device", "precision", "optimizer", "side", "op", "result", "cache")
        table.add_column(name, justify="left" if words else "right", no_wrap=True)
    return table


def _place(entry: Report) -> list[str]:
    threads = entry["threads"]
    return [entry["device"], entry["precision"], "" if threads is None else str(threads)]


def micro(seconds: float) -> str:
    """Return microseconds with about three digits."""
    value = seconds * 1e6
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _spread(spread: Mapping[str, float]) -> list[str]:
    low, high = micro(spread["low_quartile"]), micro(spread["high_quartile"])
    return [micro(spread["median"]), f"{low}-{high}"]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def ceilings_table(report: Report) -> Table:
    """Return what each device reaches with one thing only."""
    table = _table(
        "Roofline measured in this run",
        *DEVICE_COLUMNS,
        *("product GFLOP/s", "copy GB/s"),
    )
    for entry in report["ceilings"]:
        flops = entry["flops"]
        table.add_row(
            *_place(entry),
            "none" if flops is None else f"{flops / 1e9:,.0f}",
            f"{entry['large_copy'] / 1e9:,.1f}",
        )
    return table


def rows_table(report: Report) -> Table:
    """Return the training steps of gpunn and of the peers."""
    compared = any(len(set(row["sides"]) - {"products"}) > 1 for row in report["rows"])
    columns = [*DEVICE_COLUMNS, "optimizer", "batch", "side", "us/step", "quartiles", "samples/s"]
    columns += ["products\nus", "bound\nus", "reached"]
    columns += ["time /\ngpunn's", "warm-up\ns", "loss\ncheck"] if compared else []
    caption = "bound: call by call, FLOPs at the product's ceiling or bytes at the copy's, "
    caption += "whichever takes longer; products: the same products alone, in the library"
    if compared:
        caption += "\nwarm-up: before the rounds, with whatever is compiled, and a round\n"
        caption += "loss check: mean loss of the first steps, from the same weights and batches"
        caption += ", with dropout masks of their own" if report["settings"]["dropout"] else ""
    table = _table("Training", *columns, caption=caption)
    for row in report["rows"]:
        products = row["sides"].get("products")
        for name, side in row["sides"].items():
            if name == "products" or "step_seconds" not in side:
                continue
            cells = [*_place(row), row["optimizer"], str(row["batch_size"]), name]
            cells += _spread(side["step_seconds"])
            cells.append(f"{side.get('samples_per_second', 0):,.0f}")
            cells.append("" if products is None else micro(products["step_seconds"]["median"]))
            cells += [micro(row["bound_seconds"]), _percent(side.get("reached"))]
            if compared:
                ratio = side.get("time_over_gpunn")
                cells.append("" if ratio is None else f"{ratio['median']:.2f}")
                cells.append(f"{side['warm_up_seconds']:.2f}")
                cells.append(f"{side['check']['loss']:.5f}" if "check" in side else "")
            table.add_row(*cells, end_section=name == list(row["sides"])[-1] and compared)
    return table


def inference_table(report: Report) -> Table:
    """Return throughput and latency of ``predict``."""
    columns = ("side", "samples/s", "one sample\nus", "quartiles")
    table = _table("Inference", *DEVICE_COLUMNS, *columns)
    for entry in report["inference"]:
        for name, side in entry["sides"].items():
            cells = [*_place(entry), name, "", "", ""]
            if "call_seconds" in side.get("throughput", {}):
                median = side["throughput"]["call_seconds"]["median"]
                cells[4] = f"{entry['rows'] / median:,.0f}" if median > 0 else ""
            if "call_seconds" in side.get("latency", {}):
                cells[5:] = _spread(side["latency"]["call_seconds"])
            table.add_row(*cells)
    return table


def profile_table(entry: Report) -> Table:
    """Return the calls of a step."""
    title = f"A step call by call: {entry['device']}, {entry['precision']}, "
    title += f"{entry['optimizer']}, batch {entry['batch_size']}"
    caption = (
        f"sum {micro(entry['sum_seconds'])} us, whole step {micro(entry['step_seconds'])} us, "
        f"between the calls {micro(entry['between_seconds'])} us; "
        f"{entry['overhead_seconds'] * 1e9:.0f} ns of timer taken off each call"
    )
    columns = ("op", "result", "product", "us", "share", "GFLOP/s", "GB/s", "bound\nus", "reached")
    table = _table(title, *columns, caption=caption)
    for call in entry["calls"]:
        product, flops, moved = (
            call["product"],
            call["flops_per_second"],
            call["bytes_per_second"],
        )
        table.add_row(
            call["op"],
            call["result"],
            "" if product is None else "x".join(map(str, product)),
            micro(call["seconds"]),
            _percent(call["share"]),
            f"{flops / 1e9:,.1f}" if flops else "",
            f"{moved / 1e9:,.1f}" if moved else "",
            micro(call["bound_seconds"]),
            _percent(call["reached"]),
        )
    return table


def memory_table(report: Report) -> Table:
    """Return the regions of each plan."""
    names = list(dict.fromkeys(name for row in report["rows"] for name in row["memory"]))
    peak = report.get("peak_bytes")
    caption = "" if peak is None else f"peak of this process: {peak / 1e6:,.0f} MB, data included"
    table = _table(
        "Memory of a training plan, kB",
        *("device", "optimizer", "batch", *names, "sum", "copy GB/s\nwithin"),
        caption=caption,
    )
    seen = set()
    for row in report["rows"]:
        key = row["device"], row["optimizer"], row["batch_size"]
        if key not in seen:
            seen.add(key)
            sizes = [f"{row['memory'].get(name, 0) / 1e3:,.1f}" for name in names]
            sizes.append(f"{sum(row['memory'].values()) / 1e3:,.1f}")
            table.add_row(*map(str, key), *sizes, f"{row['working_set_copy'] / 1e9:,.1f}")
    return table


def cold_table(report: Report) -> Table:
    """Return the seconds of the first calls in a fresh process."""
    caption = "cold: nothing compiled earlier is found; warm: what this machine has compiled is"
    names = ("import", "compile", "first_fit", "second_fit")
    headers = [f"{name.replace('_', ' ')}\ns" for name in names]
    table = _table("Start of a process", "device", "cache", *headers, caption=caption)
    for entry in report["cold_start"]:
        if "error" in entry:
            table.add_row(entry["device"], entry["cache"], entry["error"])
        else:
            seconds = [f"{entry['seconds'][name]:.3f}" for name in names]
            table.add_row(entry["device"], entry["cache"], *seconds)
    return table


def peer_lines(report: Report) -> list[str]:
    """Return a line for each peer: its versions, or why it is not there."""
    lines = []
    for device, peers in report["peers"].items():
        for name, peer in peers.items():
            if peer["state"] == "missing":
                lines.append(f"{name} on {device}: missing; {peer['detail']}")
            elif peer["state"] == "failed":
                lines.append(f"{name} on {device}: failed: {peer['detail']}")
            else:
                versions = ", ".join(" ".join(pair) for pair in peer.get("versions", {}).items())
                reasons = [f"refused: {reason}" for reason in peer.get("refused", ())]
                lines.append(f"{name} on {device}: {'; '.join(filter(None, [versions, *reasons]))}")
    return lines
