"""Training steps on the CPU: gpunn beside a plain NumPy loop, in one run.

    python -m benchmarks.cpu_step [--out FILE.json]

For each batch size: the products alone (the floor of this BLAS), gpunn's bare steps (the bound
calls, nothing around them), gpunn's `fit`, and the plain NumPy loop, interleaved round by round.
Ratios are computed round by round; medians and quartiles are over the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import gpunn
from benchmarks.machine import describe_machine
from benchmarks.peers.numpy_peer import PlainNumpyMLP
from gpunn.cli.bench.rounds import SETTLED

SIZES = (784, 300, 100, 10)
ROWS = 60_000
BATCH_SIZES = (50, 128, 1024, 8192)
Array = np.ndarray[Any, Any]


def mnist_like(rows: int) -> tuple[Array, Array]:
    """Return random images and labels of MNIST's shapes; speed does not depend on the values."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
    images[rng.random((rows, 28, 28)) < 0.8] = 0
    return images, rng.integers(0, 10, rows).astype(np.int32)


def products_only(batch_size: int) -> Callable[[], None]:
    """Return one step's matrix products, outputs preallocated: what the BLAS needs alone."""
    rng = np.random.default_rng(0)
    calls = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(SIZES)):
        x = rng.random((batch_size, inputs), dtype=np.float32)
        w = rng.random((inputs, outputs), dtype=np.float32)
        d = rng.random((batch_size, outputs), dtype=np.float32)
        calls.append((x, w, np.empty_like(d)))
        calls.append((x.T, d, np.empty_like(w)))
        if i:
            calls.append((d, w.T, np.empty_like(x)))

    def step() -> None:
        for left, right, out in calls:
            np.matmul(left, right, out=out)

    return step


def compiled_model() -> gpunn.Model:
    """Return the net of the benchmark, with plain SGD."""
    model = gpunn.Sequential(
        [
            gpunn.Input((28, 28)),
            gpunn.layers.Rescaling(1 / 255),
            gpunn.layers.Flatten(),
            gpunn.layers.Dense(SIZES[1], activation="relu"),
            gpunn.layers.Dense(SIZES[2], activation="relu"),
            gpunn.layers.Dense(SIZES[3], activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", ["accuracy"], device="cpu", seed=0)
    return model


def timed(call: Callable[[], object]) -> float:
    """Return the seconds `call` takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(batch_size: int, rounds: int, images: Array, labels: Array) -> dict[str, Any]:
    """Return microseconds per step of each candidate, and ratios, for one batch size."""
    steps = min(ROWS // batch_size, max(10, 600 * 50 // batch_size))
    rows = steps * batch_size
    order = np.random.default_rng(1).permutation(ROWS)[:rows]
    flat = images.reshape(ROWS, -1)
    x, y = images[:rows], labels[:rows]
    products = products_only(batch_size)
    numpy_net = PlainNumpyMLP(SIZES, 0.01)
    model = compiled_model()
    model.fit(x, y, batch_size=batch_size, steps=2, verbose=0)
    # A model of its own: a fit gives its data back when it is done.
    trainer = gpunn.Trainer(compiled_model(), x, y, batch_size=batch_size)
    trainer.step()

    def bare_steps() -> None:
        trainer.bound.write("control/offset", 0)
        calls = trainer.bound.calls("train")
        for _ in range(steps):
            for call in calls:
                call()

    candidates: dict[str, Callable[[], object]] = {
        "products": lambda: [products() for _ in range(steps)],
        "gpunn_steps": bare_steps,
        "gpunn_fit": lambda: model.fit(x, y, batch_size=batch_size, epochs=1, verbose=0),
        "plain_numpy": lambda: numpy_net.epoch(flat, labels, batch_size, order),
    }
    for call in candidates.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds):
        names = list(candidates) if turn % 2 == 0 else list(reversed(candidates))
        for name in names:
            seconds[name].append(timed(candidates[name]))
            time.sleep(SETTLED)
    times = {name: np.array(values) * 1e6 / steps for name, values in seconds.items()}
    ratios = {
        "numpy_over_gpunn_fit": times["plain_numpy"] / times["gpunn_fit"],
        "numpy_over_gpunn_steps": times["plain_numpy"] / times["gpunn_steps"],
        "fit_over_steps": times["gpunn_fit"] / times["gpunn_steps"],
        "steps_over_products": times["gpunn_steps"] / times["products"],
    }
    return {
        "batch_size": batch_size,
        "steps_per_round": steps,
        "microseconds_per_step": {name: _spread(v) for name, v in times.items()},
        "ratios": {name: _spread(v) for name, v in ratios.items()},
    }


def _spread(values: Array) -> dict[str, float]:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {"median": float(median), "low_quartile": float(low), "high_quartile": float(high)}


def main() -> None:
    """Measure, print a table, write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    images, labels = mnist_like(ROWS)
    results = []
    print(
        f"{'batch':>6}{'products':>10}{'steps':>10}{'fit':>10}{'numpy':>10}"
        f"{'numpy/fit':>11}{'fit/steps':>11}{'steps/prod':>12}   (microseconds per step)"
    )
    for batch_size in BATCH_SIZES:
        result = measure(batch_size, options.rounds, images, labels)
        results.append(result)
        t = {k: v["median"] for k, v in result["microseconds_per_step"].items()}
        r = {k: v["median"] for k, v in result["ratios"].items()}
        print(
            f"{batch_size:>6}{t['products']:>10.0f}{t['gpunn_steps']:>10.0f}"
            f"{t['gpunn_fit']:>10.0f}{t['plain_numpy']:>10.0f}"
            f"{r['numpy_over_gpunn_fit']:>11.2f}{r['fit_over_steps']:>11.3f}"
            f"{r['steps_over_products']:>12.2f}"
        )
    report = {
        "machine": describe_machine(),
        "python": platform.python_version(),
        "net": SIZES,
        "optimizer": "sgd",
        "precision": "float32",
        "results": results,
    }
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
