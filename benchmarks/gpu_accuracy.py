"""Time to 98 % test accuracy on MNIST on a GPU, the start of a process, and equal bits.

python -m benchmarks.gpu_accuracy DEVICE     # prints digests of trained weights
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import gpunn
from benchmarks.gpu_kernels import PRECISIONS, net
from benchmarks.gpu_training import Save
from gpunn.cli.bench.memory import cold_start
from gpunn.cli.bench.settings import BenchSettings

GOAL, BATCH, MOST_EPOCHS, SEEDS = 0.98, 128, 30, 5


def _until_goal(device: str, precision: str, seed: int, data: Any, epochs: int) -> dict[str, Any]:
    """Train until the goal is reached; evaluation after every epoch is timed apart.

    The time of training has everything from the data on the host to the last step.
    """
    (x, y), (x_test, y_test) = data
    gpunn.utils.set_random_seed(seed)
    model = net(device, precision, "adam", seed=seed)
    began = time.perf_counter()
    trainer = gpunn.Trainer(model, x, y, batch_size=BATCH)
    training, accuracies = time.perf_counter() - began, []
    for _ in range(epochs):
        start = time.perf_counter()
        trainer.epoch()
        training += time.perf_counter() - start
        logs = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
        accuracies.append(float(logs["accuracy"]))
        if accuracies[-1] >= GOAL:
            break
    return {
        "precision": precision,
        "seed": seed,
        "reached": accuracies[-1] >= GOAL,
        "epochs": len(accuracies),
        "training_seconds": training,
        "seconds_with_evaluation": time.perf_counter() - began,
        "test_accuracies": accuracies,
    }


def accuracy(device: str, seconds: float, save: Save = lambda result: None) -> dict[str, Any]:
    """Return the time to the goal for each seed; stops when the time is up."""
    if not os.environ.get("GPUNN_DATA"):
        return {"ok": None, "why": "GPUNN_DATA does not say where MNIST is"}
    deadline = time.perf_counter() + seconds
    data = gpunn.datasets.mnist.load_data()
    result: dict[str, Any] = {"ok": True, "runs": []}
    for precision in PRECISIONS if device.startswith("cuda") else PRECISIONS[:1]:
        if time.perf_counter() < deadline:
            _until_goal(device, precision, SEEDS, data, 1)  # kernels are compiled now
        for seed in range(SEEDS):
            if time.perf_counter() >= deadline:
                return result | {"cut_short": True}
            result["runs"].append(_until_goal(device, precision, seed, data, MOST_EPOCHS))
            save(result)
    return result


def starts(device: str, seconds: float, save: Save = lambda result: None) -> dict[str, Any]:
    """Return the seconds of import, compile and first steps in fresh processes."""
    began = time.perf_counter()
    result: dict[str, Any] = {"ok": True, "starts": []}
    settings = BenchSettings(devices=(device,))
    for cache in ("cold", "warm"):
        left = max(1.0, seconds - (time.perf_counter() - began))
        result["starts"].append(cold_start(settings, device, cache, left))
        result["ok"] &= "error" not in result["starts"][-1]
        save(result)
    return result


def digests(device: str) -> dict[str, str]:
    """Return a digest of the weights after a training in each precision, with graphs and not."""
    on_gpu = device.startswith("cuda")
    rng = np.random.default_rng(0)
    rows, epochs = (6000, 3) if on_gpu else (100, 2)
    x = rng.integers(256, size=(rows, 28, 28), dtype=np.uint8)
    y = rng.integers(10, size=rows)
    found = {}
    for precision in PRECISIONS if on_gpu else PRECISIONS[:1]:
        for mode in ("graphs", "eager"):
            model = net(device, precision, "adam")
            backend: Any = model.session.backend
            backend.graphs = mode == "graphs"
            model.fit(x, y, 50, epochs=epochs, verbose=0)
            state = hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights()))
            found[f"{precision}, {mode}"] = state.hexdigest()
    return found


def bits(device: str, seconds: float, save: Save = lambda result: None) -> dict[str, Any]:
    """Train the same in two processes, with graphs and without; say whether the bits are equal."""
    command = [sys.executable, "-m", "benchmarks.gpu_accuracy", device]
    root = Path(__file__).parent.parent
    runs = []
    for _ in range(2):
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=seconds / 2, check=False
        )
        if done.returncode:
            return {"ok": False, "error": done.stderr[-3000:] or "no output"}
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return compared(runs)


def compared(runs: list[dict[str, str]]) -> dict[str, Any]:
    """Return which digests agree between runs, and between modes of a precision."""
    between_runs = {name: len({run[name] for run in runs}) == 1 for name in runs[0]}
    precisions = dict.fromkeys(name.partition(",")[0] for name in runs[0])
    modes = {p: runs[0][f"{p}, graphs"] == runs[0][f"{p}, eager"] for p in precisions}
    ok = all(between_runs.values()) and all(modes.values())
    return {"ok": ok, "same_in_two_processes": between_runs, "same_with_graphs": modes}


def accuracy_markdown(result: dict[str, Any]) -> list[str]:
    """Return the table of times to the goal."""
    lines = [
        f"MNIST to {GOAL:.0%} test accuracy, Adam, batch {BATCH}, kernels compiled before:",
        "",
        "| precision | seeds that reach it | epochs, median | training s, median (range) | "
        "with evaluation s |",
        "|---|---|---|---|---|",
    ]
    for precision in dict.fromkeys(run["precision"] for run in result["runs"]):
        runs = [run for run in result["runs"] if run["precision"] == precision]
        good = [run for run in runs if run["reached"]]
        cells = [precision, f"{len(good)} of {len(runs)}"]
        if good:
            times = [run["training_seconds"] for run in good]
            whole = statistics.median(run["seconds_with_evaluation"] for run in good)
            cells.append(f"{statistics.median(run['epochs'] for run in good):g}")
            cells.append(f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})")
            cells.append(f"{whole:.2f}")
        else:
            cells += ["-"] * 3
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def starts_markdown(result: dict[str, Any]) -> list[str]:
    """Return the table of starts."""
    lines = [
        "Start of a process, seconds:",
        "",
        "| caches | import | compile() | first fit | second fit |",
        "|---|---|---|---|---|",
    ]
    for entry in result["starts"]:
        if "error" in entry:
            lines.append(f"| {entry['cache']} | {entry['error']} | | | |")
        else:
            s = entry["seconds"]
            seconds = (s[name] for name in ("import", "compile", "first_fit", "second_fit"))
            lines.append(f"| {entry['cache']} | {' | '.join(f'{f:.2f}' for f in seconds)} |")
    return lines


if __name__ == "__main__":
    print(json.dumps(digests(sys.argv[1])))
