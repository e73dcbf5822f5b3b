"""The nets of "Hands-On Machine Learning", chapter 10, in gpunn and in Keras, side by side.

    python -m benchmarks.keras_chapter --keras-python PATH [--quick] [--out FILE.json] [TASK ...]

PATH is a Python that has Keras and JAX. Each training is a process of its own, see
``benchmarks/keras_chapter_task.py``; the two libraries take turns, seed by seed. Seconds are those
of ``fit`` with its validation, on two cores. A discarded run of two epochs comes first, so that
what a library keeps on disk is there (gpunn's compiled kernels); what it compiles in every process
is part of the time. Without ``--keras-python``
Keras's column says "not installed". ``--quick`` takes few rows and two epochs, shows that all of
it works, and writes only to a file that is named.

The data are split as the chapter does it: of the images the first 5,000 training rows are for
validation; of the districts a quarter is for testing and a quarter of the others for validation
(scikit-learn's ``train_test_split`` with ``random_state=42``), scaled by ``StandardScaler``. There
are 20,433 districts where they come from ``housing.csv``, 20,640 in the chapter.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.keras_chapter_task import TASKS
from benchmarks.machine import describe_machine

RESULTS = Path(__file__).parent / "results"
TASK_FILE = Path(__file__).parent / "keras_chapter_task.py"
SEEDS = (0, 1, 2)
DATASETS = {"fashion_mnist": "fashion_mnist", "exercise_9": "mnist"}  # others: housing
Array = np.ndarray[Any, Any]


def images(name: str) -> dict[str, Array]:
    """Return MNIST or Fashion-MNIST, pixels from 0 to 1."""
    import gpunn

    (x, y), (x_test, y_test) = getattr(gpunn.datasets, name).load_data()
    x, x_test = x.astype(np.float32) / 255, x_test.astype(np.float32) / 255
    parts = {"x_valid": x[:5000], "y_valid": y[:5000], "x_train": x[5000:], "y_train": y[5000:]}
    return parts | {"x_test": x_test, "y_test": y_test}


def districts() -> dict[str, Array]:
    """Return California housing, scaled."""
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    import gpunn

    (x, y), _ = gpunn.datasets.california_housing.load_data(test_split=0.0)
    x_full, x_test, y_full, y_test = train_test_split(x, y, random_state=42)
    x_train, x_valid, y_train, y_valid = train_test_split(x_full, y_full, random_state=42)
    scaler = StandardScaler().fit(x_train)
    found = {"y_train": y_train, "y_valid": y_valid, "y_test": y_test}
    for name, part in (("x_train", x_train), ("x_valid", x_valid), ("x_test", x_test)):
        found[name] = scaler.transform(part).astype(np.float32)
    return found


def train(python: str, library: str, task: str, seed: int, data: Path, quick: bool) -> Any:
    """Run one training in a process of its own; return its figures."""
    command = [python, str(TASK_FILE), library, task, str(seed), str(data)]
    command += ["--quick"] if quick else []
    environment = dict(os.environ)
    if library == "keras":
        environment.pop("PYTHONPATH", None)  # Keras's Python has libraries of its own
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean, smallest and largest figure, and the median time."""
    tests = [run["test"] for run in runs]
    return {
        "val_mean": statistics.fmean(run["val"] for run in runs),
        "test_mean": statistics.fmean(tests),
        "test_min": min(tests),
        "test_max": max(tests),
        "median_seconds": statistics.median(run["seconds"] for run in runs),
    }


def main() -> None:
    """Train, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--keras-python", help="a Python that has Keras and JAX")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    for task in options.tasks:
        if task not in TASKS:
            parser.error(f"unknown task {task!r}; known: {', '.join(TASKS)}")
    out = options.out or (None if options.quick else RESULTS / "keras_chapter.json")
    pythons = {"gpunn": sys.executable}
    if options.keras_python:
        pythons["keras"] = options.keras_python
    report: dict[str, Any] = {"tasks": {}}
    if out is not None and out.exists():
        report = json.loads(out.read_text())
    report |= {"machine": describe_machine(), "quick": options.quick, "threads": 2}
    with tempfile.TemporaryDirectory() as folder:
        for task in options.tasks:
            data = images(DATASETS[task]) if task in DATASETS else districts()
            if options.quick:
                data = {name: rows[:2000] for name, rows in data.items()}
            file = Path(folder) / f"{task}.npz"
            np.savez(file, **data)  # type: ignore[arg-type]
            if not options.quick:
                for library, python in pythons.items():
                    train(python, library, task, 0, file, True)
            runs: dict[str, list[dict[str, Any]]] = {library: [] for library in pythons}
            for seed in SEEDS[:1] if options.quick else SEEDS:
                for library, python in pythons.items():
                    runs[library].append(train(python, library, task, seed, file, options.quick))
                    print(task, library, json.dumps(runs[library][-1]), flush=True)
            file.unlink()
            entry = {
                library: {"summary": summarise(some), "runs": some}
                for library, some in runs.items()
            }
            report["tasks"][task] = {"rows": len(data["x_train"]), **entry}
            if out is not None:
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
