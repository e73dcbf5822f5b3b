"""What ``gpunn tune`` finds for the net of all GPU figures, which training then makes use of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.gpu_kernels import BATCH_SIZES, HIDDEN, PRECISIONS
from gpunn.backends.cuda import tuning
from gpunn.backends.cuda.tuning import GpuModel, Table
from gpunn.cli.tune.measure import REPEATS, Timer, Tuner, TuneSettings
from gpunn.cli.tune.run import device_backend


def measure(
    device: str,
    seconds: float,
    save: Callable[[dict[str, Any]], None] = lambda result: None,
    timer: Timer | None = None,
) -> dict[str, Any]:
    """Tune, and keep the table in the user's cache; stops when the time is up."""
    on_gpu = device.startswith("cuda")
    settings = TuneSettings(
        hidden=HIDDEN,
        batch_sizes=BATCH_SIZES if on_gpu else (8,),
        precisions=PRECISIONS if on_gpu else PRECISIONS[:1],
        quick=True,
        seconds=max(seconds, 1e-3),
    )
    backend = device_backend(device)
    gpu = GpuModel.of(backend.driver)
    result: dict[str, Any] = {"ok": True, "steps": [], "rows": [], "notes": []}

    def keep(table: Table) -> None:
        result["file"], result["table"] = str(tuning.save(gpu, table)), table.digest
        save(result)

    tuner = Tuner(settings, backend, tuning.load(gpu, environment={}), timer=timer, keep=keep)
    result |= {"steps": tuner.steps, "rows": tuner.rows, "notes": tuner.notes}
    tuner.run()
    return result | {"cut_short": not tuner.complete}


def markdown(result: dict[str, Any]) -> list[str]:
    """Return the table of choices."""
    lines = []
    if result.get("steps"):
        lines += ["Whole steps, microseconds by the steps of a graph:", ""]
        lines += ["| steps | launches | us | chosen |", "|---|---|---|---|"]
        for step in result["steps"]:
            launches = "dependent" if step["dependent"] else "ordinary"
            chosen = "yes" if step["chosen"] else ""
            lines.append(
                f"| {step['steps']} | {launches} | {step['median'] * 1e6:.2f} | {chosen} |"
            )
        lines.append("")
    lines += [
        f"Matrix products tuned (table {result.get('table', 'none')}), microseconds of {REPEATS} "
        "calls in a graph, with the launches that finish them; level 2 cache warm:",
        "",
        "| precision | form | m x n x k | cost model | us | chosen | us | library us |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        times = {one["what"]: one["median"] * 1e6 for one in row["candidates"]}
        library = f"{times['library']:.2f}" if "library" in times else "-"
        lines.append(
            f"| {row['precision']} | {row['form'].lower().replace('_', ' ')} | "
            f"{row['m']} x {row['n']} x {row['k']} | {row['default']} | "
            f"{times[row['default']]:.2f} | {row['chosen']} | {times[row['chosen']]:.2f} | "
            f"{library} |"
        )
    for note in result["notes"]:
        lines += ["", note]
    if result.get("cut_short"):
        lines += ["", "Cut short: the time was up."]
    return lines
