"""The README's tables of the comparison with the peers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.machine import in_words

Report = dict[str, Any]
NONE = "-"
NAMES = {
    "gpunn": "gpunn",
    "torch": "PyTorch",
    "torch.compile": "`torch.compile`",
    "jax": "JAX",
    "keras": "Keras on JAX",
    "sklearn": "scikit-learn",
    "numpy": "plain NumPy",
}


def document(report: Report, picture: str) -> str:
    """Return everything as Markdown; `picture` is the path of the one drawn of it."""
    found = lines(report)
    if report["parts"].get("training", {}).get("rows"):
        found += [f"![Samples per second over batch size]({picture})", ""]
    machine = in_words(report["machine"])
    return "\n".join([*found, f"{report['threads']} threads. Measured on: {machine}."])


def lines(report: Report) -> list[str]:
    """Return the tables, and what has to be said with them."""
    parts = report["parts"]
    found: list[str] = []
    if report["quick"]:
        found += ["**A quick run: these figures say nothing.**", ""]
    if parts.get("training", {}).get("rows"):
        found += training_lines(parts["training"])
    for device in _devices(parts):
        found += whole_lines(parts, device)
    found += _notes(parts)
    return found


def training_lines(part: Report) -> list[str]:
    """Return the table of training throughput."""
    rows = part["rows"]
    peers = [n for n in NAMES if n != "gpunn" and any(n in row["sides"] for row in rows)]
    titles = ["device", "optimizer", "batch size", "gpunn, samples/s", "of the bound"]
    titles.append("products alone")
    titles += [f"{NAMES[name]} / gpunn" for name in peers]
    found = [
        "Training, after the warm-up. For the peers: their time over gpunn's, median of the "
        'rounds pair by pair, quartiles in brackets; above 1 gpunn is faster. "Products alone": '
        "what NumPy's BLAS (on a GPU cuBLASLt) needs for the step's products, over gpunn's step; "
        "above 100 % where gpunn's own products, and all else in the step, take less. "
        '"Of the bound": the rate reached, over the one at which a large product and large '
        "copies, measured in the same run, would do the step's multiplications and move its "
        "bytes once.",
        "",
        *_header(titles),
    ]
    for row in rows:
        sides = row["sides"]
        ours = sides.get("gpunn", {})
        cells = [row["device"], row["optimizer"], f"{row['batch_size']:,}"]
        cells.append(f"{ours['samples_per_second']:,.0f}" if ours else NONE)
        cells.append(f"{ours['reached']:.0%}" if ours.get("reached") else NONE)
        cells.append(_share(sides.get("products"), ours))
        cells += [_ratio(sides.get(name, {}).get("time_over_gpunn")) for name in peers]
        found.append(_line(cells))
    return [*found, "", *_behind(rows, peers), *_agreement(rows), ""]


def _behind(rows: list[Report], peers: list[str]) -> list[str]:
    """Name the rows in which a peer is faster."""
    faster: dict[str, list[str]] = {}
    for row in rows:
        for name in peers:
            ratio = row["sides"].get(name, {}).get("time_over_gpunn")
            if ratio and ratio["median"] < 1:
                where = f"{row['device']}, {row['optimizer']}, {row['batch_size']:,}"
                faster.setdefault(name, []).append(f"{where} ({ratio['median']:.2f})")
    named = [f"{NAMES[name]} at {', '.join(found)}" for name, found in faster.items()]
    return [f"Faster than gpunn: {'; '.join(named)}.", ""] if named else []


def _agreement(rows: list[Report]) -> list[str]:
    """Say how nearly the same the losses of the same first steps are."""
    apart = 0.0
    for row in rows:
        losses = {n: s["check"]["loss"] for n, s in row["sides"].items() if "check" in s}
        if ours := losses.get("gpunn"):
            apart = max([apart, *(abs(loss / ours - 1) for loss in losses.values())])
    return [f"From side to side, the losses of the first steps differ by {apart:.1e} at most."]


def _share(products: Report | None, ours: Report) -> str:
    if not products or not ours:
        return NONE
    return f"{products['step_seconds']['median'] / ours['step_seconds']['median']:.0%}"


def whole_lines(parts: Report, device: str) -> list[str]:
    """Return the table of all that is not the training step, for one device."""
    columns: dict[str, dict[str, str]] = {}
    sides = _of(parts, "fit", device)
    if sides:
        part = parts["fit"]
        title = f"fit: {part['epochs']} epochs of {part['steps']:,} steps"
        columns[title] = {
            n: f"{s['fit_seconds']['median']:.2f} s" for n, s in sides.items() if "fit_seconds" in s
        }
    sides = _of(parts, "inference", device)
    if sides:
        rows = next(e for e in parts["inference"]["devices"] if e["device"] == device)["rows"]
        columns["inference, samples/s"] = {
            n: f"{rows / s['throughput']['call_seconds']['median']:,.0f}"
            for n, s in sides.items()
            if "throughput" in s
        }
        columns["one sample"] = {
            n: f"{s['latency']['call_seconds']['median'] * 1e6:,.0f} µs"
            for n, s in sides.items()
            if "latency" in s
        }
    sides = _of(parts, "accuracy", device)
    if sides:
        columns[f"to {parts['accuracy']['accuracy']:.1%} on MNIST (seeds that got there)"] = {
            n: _reached(s) for n, s in sides.items()
        }
    columns |= _start_columns(parts.get("start", {}).get("sides", {}), device)
    columns = {title: cells for title, cells in columns.items() if cells}
    if not columns:
        return []
    found = [f"From start to end, on `{device}`, medians:", "", *_header(["", *columns])]
    for name in NAMES:
        cells = [column.get(name, NONE) for column in columns.values()]
        if set(cells) != {NONE}:
            found.append(_line([NAMES[name], *cells]))
    return [*found, ""]


def _start_columns(sides: Report, device: str) -> dict[str, dict[str, str]]:
    columns: dict[str, dict[str, str]] = {
        "import": {
            n: f"{s['import_seconds']['median']:.2f} s"
            for n, s in sides.items()
            if "import_seconds" in s
        }
    }
    for cache in ("warm", "cold"):
        columns[f"start to first step, {cache} cache"] = {
            n: f"{call['seconds']:.1f} s"
            for n, s in sides.items()
            for call in s.get("first_call", ())
            if call["device"] == device and call["cache"] == cache and "seconds" in call
        }
    columns["installed"] = {
        n: f"{s['installed_bytes'] / 1e6:,.0f} MB"
        for n, s in sides.items()
        if "installed_bytes" in s
    }
    columns["peak memory"] = {
        n: f"{peak['bytes'] / 1e6:,.0f} MB"
        for n, s in sides.items()
        for peak in s.get("peak_memory", ())
        if peak["device"] == device and peak.get("bytes")
    }
    return columns


def _reached(side: Report) -> str:
    count = f"{side['reached']} of {len(side['runs'])}"
    return f"{side['median_seconds']:.1f} s ({count})" if side["reached"] else f"{NONE} ({count})"


def _notes(parts: Report) -> list[str]:
    """Name versions, peers that are missing, and parts that were cut short."""
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    for part in parts.values():
        for notes in part.get("peers", {}).values():
            for name, note in notes.items():
                versions |= note.get("versions", {})
                if note["state"] == "missing":
                    missing[name] = "not installed"
                elif note["state"] == "failed":
                    missing[name] = f"failed: {note['detail']}"
    for name in parts.get("start", {}).get("missing_peers", ()):
        missing[name] = "not installed"
    found = []
    if versions:
        found.append(", ".join(f"{name} {version}" for name, version in versions.items()) + ".")
    found += [f"{NAMES[name]}: {why}." for name, why in missing.items()]
    found += [part["missing"] for part in parts.values() if isinstance(part.get("missing"), str)]
    short = [name for name, part in parts.items() if not (part.get("complete") or "error" in part)]
    found += [f"Cut short: {', '.join(short)}."] if short else []
    failed = {name: part["error"] for name, part in parts.items() if "error" in part}
    found += [f"{name} failed: {why}." for name, why in failed.items()]
    return [" ".join(found), ""] if found else []


def _devices(parts: Report) -> list[str]:
    named = [e["device"] for part in parts.values() for e in _entries(part)]
    sides = parts.get("start", {}).get("sides", {})
    named += [c["device"] for side in sides.values() for c in side.get("first_call", ())]
    return list(dict.fromkeys(named))


def _entries(part: Report) -> list[Report]:
    devices = part.get("devices")
    return devices if isinstance(devices, list) else []


def _of(parts: Report, part: str, device: str) -> Report:
    for entry in _entries(parts.get(part, {})):
        if entry["device"] == device:
            sides: Report = entry["sides"]
            return sides
    return {}


def _ratio(spread: Report | None) -> str:
    if spread is None:
        return NONE
    low, high = spread["low_quartile"], spread["high_quartile"]
    return f"{spread['median']:.2f} ({low:.2f} to {high:.2f})"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _header(titles: list[str]) -> list[str]:
    return [_line(titles), "|" + "---|" * len(titles)]
