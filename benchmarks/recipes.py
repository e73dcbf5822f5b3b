"""The default recipes, trained through the command line with seeds 0 to 4.

    python -m benchmarks.recipes [--out benchmarks/results/recipes.json] [DATASET ...]

Each run is ``gpunn train DATASET --seed S`` in a process of its own. The file holds every run's
figures; the README's table is made from it (``python -m benchmarks.readme``). The recipes were
chosen on held-out training rows (see ``gpunn/cli/recipes.py``).
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine

DATASETS = ("digits", "mnist", "fashion-mnist", "california-housing")
SEEDS = (0, 1, 2, 3, 4)
RESULTS = Path(__file__).parent / "results"


def train(dataset: str, seed: int, device: str, folder: Path) -> dict[str, Any]:
    """Run one training; return what its ``--json`` says, and the seconds of the whole command."""
    command = [sys.executable, "-m", "gpunn", "train", dataset, "--seed", str(seed), "--json"]
    command += ["--quiet", "--device", device, "--out", str(folder)]
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    summary["command_seconds"] = time.perf_counter() - began
    for name in ("run", "checkpoint"):  # gone with the folder
        summary.pop(name)
    return summary


def summarise(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Return mean, smallest and largest test figure, and the median times."""
    metric = "test_accuracy" if "test_accuracy" in runs[0] else "test_rmse"
    values = [run[metric] for run in runs]
    return {
        "metric": metric,
        "mean": statistics.fmean(values),
        "stdev": statistics.stdev(values),
        "min": min(values),
        "max": max(values),
        "median_train_seconds": statistics.median(run["train_seconds"] for run in runs),
        "median_command_seconds": statistics.median(run["command_seconds"] for run in runs),
    }


def main() -> None:
    """Train, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="*", default=DATASETS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS / "recipes.json")
    options = parser.parse_args()
    report: dict[str, Any] = {"datasets": {}}
    if options.out.exists():
        report = json.loads(options.out.read_text())
    report["machine"] = describe_machine()
    for dataset in options.datasets:
        runs = []
        with tempfile.TemporaryDirectory() as scratch:
            for seed in SEEDS:
                folder = Path(scratch) / f"{dataset}-seed-{seed}"
                runs.append(train(dataset, seed, options.device, folder))
                print(dataset, json.dumps(runs[-1]), flush=True)
            if dataset == "mnist":
                picture = Path(scratch) / f"{dataset}-seed-{SEEDS[0]}" / "learning_curve.png"
                shutil.copy(picture, options.out.parent / "mnist_learning_curve.png")
        report["datasets"][dataset] = {"summary": summarise(runs), "runs": runs}
        print(dataset, json.dumps(report["datasets"][dataset]["summary"]), flush=True)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
