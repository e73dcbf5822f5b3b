"""Training throughput and accuracy on a GPU, as a user sees them: through `fit`.

Steps are launched kernel by kernel ("eager"), and as CUDA graphs of many steps ("graphs"), with the
data on the device.
"""

from __future__ import annotations

import os
import statistics
import time
from typing import Any

import numpy as np

import gpunn
from benchmarks.gpu_kernels import BATCH_SIZES, PRECISIONS, ROWS, net

Array = np.ndarray[Any, Any]
ACCURACY_EPOCHS, ACCURACY_BATCH = 10, 128
MODES = ("eager", "graphs")
WARM_UP = 10  # epochs: after eight even the last batch, which is smaller, has become a graph


def _data(rows: int) -> tuple[str, Array, Array]:
    if os.environ.get("GPUNN_DATA"):
        (x, y), _ = gpunn.datasets.mnist.load_data()
        return "MNIST", x[:rows], y[:rows]
    rng = np.random.default_rng(0)
    return (
        "random images",
        rng.integers(256, size=(rows, 28, 28), dtype=np.uint8),
        np.arange(rows) % 10,
    )


def throughput(
    device: str, precision: str, batch_size: int, mode: str, x: Array, y: Array
) -> dict[str, Any]:
    """Return the median time of a step over whole epochs of one `Trainer`."""
    model = net(device, precision, "sgd")
    backend: Any = model.session.backend
    backend.graphs = mode == "graphs"
    trainer = gpunn.Trainer(model, x, y, batch_size=batch_size)
    for _ in range(WARM_UP):
        trainer.epoch()
    seconds, replays = [], backend.driver.replays
    for _ in range(5):
        trainer.epoch()
        seconds.append(trainer.epoch_seconds)
    median = statistics.median(seconds)
    return {
        "precision": precision,
        "batch_size": batch_size,
        "mode": mode,
        "graph_launches_per_epoch": (backend.driver.replays - replays) / len(seconds),
        "microseconds_per_step": median / trainer.steps_per_epoch * 1e6,
        "samples_per_second": len(x) / median,
        "epoch_seconds": seconds,
    }


def accuracy(device: str, precision: str) -> dict[str, Any]:
    """Train on MNIST; return test accuracy and the time of the whole `fit`."""
    (x, y), (x_test, y_test) = gpunn.datasets.mnist.load_data()
    model = net(device, precision, "adam")
    began = time.perf_counter()
    model.fit(x, y, ACCURACY_BATCH, epochs=ACCURACY_EPOCHS, verbose=0)
    seconds = time.perf_counter() - began
    figures = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
    return {"precision": precision, "accuracy": figures["accuracy"], "fit_seconds": seconds}


def measure(device: str, seconds: float) -> dict[str, Any]:
    """Return throughput and accuracy; stops when the time is up."""
    began = time.perf_counter()
    on_gpu = device.startswith("cuda")
    name, x, y = _data(ROWS if on_gpu else 64)
    result: dict[str, Any] = {"ok": True, "data": name, "throughput": [], "accuracy": []}
    for precision in PRECISIONS if on_gpu else PRECISIONS[:1]:
        for batch_size in BATCH_SIZES if on_gpu else (32,):
            for mode in MODES:
                if time.perf_counter() - began < seconds:
                    one = throughput(device, precision, batch_size, mode, x, y)
                    result["throughput"].append(one)
        if on_gpu and name == "MNIST" and time.perf_counter() - began < seconds:
            result["accuracy"].append(accuracy(device, precision))
    if result["accuracy"] and time.perf_counter() - began < seconds:
        result["accuracy"].append(accuracy("cpu", "float32") | {"precision": "float32 (cpu)"})
    return result


def markdown(result: dict[str, Any]) -> list[str]:
    """Return the tables."""
    if "throughput" not in result:
        return [f"Training: broke off: {result['error'].strip().splitlines()[-1]}"]
    lines = [
        f"Training 784-300-100-10 with SGD and dropout on {result['data']}, through "
        f"`Trainer.epoch`, kernels launched one by one or as graphs of many steps:",
        "",
        "| precision | batch | mode | us per step | samples/s | graphs launched an epoch |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['precision']} | {row['batch_size']} | {row['mode']} | "
        f"{row['microseconds_per_step']:.1f} | {row['samples_per_second']:,.0f} | "
        f"{row['graph_launches_per_epoch']:.0f} |"
        for row in result["throughput"]
    ]
    if result["accuracy"]:
        lines += [
            "",
            f"MNIST, Adam, batch {ACCURACY_BATCH}, {ACCURACY_EPOCHS} epochs:",
            "",
            "| precision | test accuracy | seconds of fit |",
            "|---|---|---|",
        ]
        lines += [
            f"| {row['precision']} | {row['accuracy']:.2%} | {row['fit_seconds']:.2f} |"
            for row in result["accuracy"]
        ]
    return lines
