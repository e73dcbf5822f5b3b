"""gpunn's MLP estimators beside scikit-learn's: same data, settings and epochs, in one run.

    python -m benchmarks.sklearn_mlp [--out benchmarks/results/sklearn_mlp.json] [--quick]
                                     [--only digits,mnist,california-housing,dnn,n_jobs]

Digits, MNIST (300-100) and California housing (a pipeline with a ColumnTransformer), batches of 50,
float32 data, Adam, a fixed number of epochs. Each round fits both with the same `random_state`,
one after the other, the order changing from round to round; ratios are computed round by round,
medians and quartiles are over the rounds. The BLAS has the same number of threads in both. Times
are those of a whole `fit` of the estimator, what it sets up included. Then `DNNClassifier` as in
TF.Learn's chapter: MNIST, pixels from 0 to 1, 40,000 steps of 50. Last, whether processes side by
side get in each other's way: cross-validation of gpunn's classifier with one and with two jobs.

``--quick`` cuts everything down to see that it works; its figures say nothing.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from threadpoolctl import threadpool_limits

import gpunn
from benchmarks.machine import describe_machine
from gpunn.backends.cpu.products import blas

BATCH_SIZE = 50
DNN_STEPS = 40_000
PARTS = ("digits", "mnist", "california-housing", "dnn", "n_jobs")
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Task:
    """Data, net and epochs; `make` builds what is fitted around an estimator."""

    name: str
    data: tuple[Array, Array, Array, Array]
    hidden: tuple[int, ...]
    epochs: int
    rounds: int = 5
    regression: bool = False
    make: Callable[[Any], Any] = lambda estimator: estimator

    def figure(self, model: Any) -> float:
        """Return accuracy, or RMSE, on the test rows."""
        _, _, x, y = self.data
        if self.regression:
            return float(root_mean_squared_error(y, model.predict(x)))
        return float(model.score(x, y))


def housing_pipeline(estimator: Any) -> Any:
    """Return a pipeline for the eight columns of California housing."""
    logarithm = FunctionTransformer(np.log1p, feature_names_out="one-to-one")
    columns = ColumnTransformer(
        [
            ("skewed", make_pipeline(logarithm, StandardScaler()), [2, 3, 4, 5]),
            ("others", StandardScaler(), [0, 1, 6, 7]),
        ]
    )
    return make_pipeline(columns, estimator)


def tasks(quick: bool) -> list[Task]:
    """Return what is measured."""
    rows = 500 if quick else None

    def images(name: str) -> tuple[Array, Array, Array, Array]:
        (x, y), (x_test, y_test) = getattr(gpunn.datasets, name).load_data()
        top = np.float32(x.max())
        flat = [(a.reshape(len(a), -1) / top).astype(np.float32)[:rows] for a in (x, x_test)]
        return flat[0], y[:rows], flat[1], y_test[:rows]

    (x, y), (x_test, y_test) = gpunn.datasets.california_housing.load_data()
    housing = [a.astype(np.float32)[:rows] for a in (x, y, x_test, y_test)]
    # From seed to seed the RMSE varies by more than the two differ: 5 rounds would show nothing.
    regression: Any = {"rounds": 20, "regression": True, "make": housing_pipeline}
    return [
        Task("digits", images("digits"), (100,), 2 if quick else 50),
        Task("mnist", images("mnist"), (300, 100), 1 if quick else 5),
        Task(
            "california-housing",
            (housing[0], housing[1].ravel(), housing[2], housing[3].ravel()),
            (100, 50),
            2 if quick else 30,
            **regression,
        ),
    ]


def spread(ratios: Array) -> dict[str, float]:
    """Return the median and the quartiles."""
    names = ("low_quartile", "median", "high_quartile")
    return dict(zip(names, np.quantile(ratios, (0.25, 0.5, 0.75)).tolist(), strict=True))


def compare(task: Task, rounds: int, device: str) -> dict[str, Any]:
    """Fit both, round by round; return figures, seconds and their ratios."""
    x, y, *_ = task.data
    kinds = {
        "scikit-learn": (MLPRegressor if task.regression else MLPClassifier, {}),
        "gpunn": (
            gpunn.MLPRegressor if task.regression else gpunn.MLPClassifier,
            {"device": device},
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    figures: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(rounds + 1):
        for name in kinds if turn % 2 == 0 else reversed(kinds):
            kind, own = kinds[name]
            model = task.make(
                kind(
                    hidden_layer_sizes=task.hidden,
                    batch_size=BATCH_SIZE,
                    # The first round warms up: kernels are read from the cache, say.
                    max_iter=task.epochs if turn else 1,
                    n_iter_no_change=task.epochs + 1,
                    random_state=turn,
                    **own,
                )
            )
            began = time.perf_counter()
            model.fit(x, y)
            if turn:
                seconds[name].append(time.perf_counter() - began)
                figures[name].append(task.figure(model))
    ratios = np.divide(seconds["scikit-learn"], seconds["gpunn"])
    return {
        "hidden_layer_sizes": task.hidden,
        "rows": len(x),
        "epochs": task.epochs,
        "metric": "rmse" if task.regression else "accuracy",
        "figures": figures,
        "seconds": seconds,
        "median_seconds": {name: float(np.median(values)) for name, values in seconds.items()},
        "mean_figures": {name: float(np.mean(values)) for name, values in figures.items()},
        "standard_errors": {
            name: float(np.std(values, ddof=1) / len(values) ** 0.5) if rounds > 1 else None
            for name, values in figures.items()
        },
        "ratio": spread(ratios),
    }


def dnn_classifier(quick: bool, seeds: int, device: str) -> dict[str, Any]:
    """Train TF.Learn's classifier on MNIST, its pixels scaled to 0 to 1 as in its tutorial."""
    (x, y), (x_test, y_test) = gpunn.datasets.mnist.load_data()
    x, x_test = ((a.reshape(len(a), -1) / np.float32(255)).astype(np.float32) for a in (x, x_test))
    steps = 200 if quick else DNN_STEPS
    runs = []
    for seed in range(seeds):
        model = gpunn.DNNClassifier([300, 100], 10, random_state=seed, device=device)
        began = time.perf_counter()
        model.fit(x, y, batch_size=BATCH_SIZE, steps=steps)
        runs.append({"seconds": time.perf_counter() - began} | model.evaluate(x_test, y_test))
    return {
        "steps": steps,
        "runs": runs,
        "mean_accuracy": float(np.mean([run["accuracy"] for run in runs])),
        "median_seconds": float(np.median([run["seconds"] for run in runs])),
    }


def n_jobs(quick: bool, device: str) -> dict[str, Any]:
    """Cross-validate gpunn's classifier with one process and with two, in turns."""
    nets = [task for task in tasks(quick) if not task.regression]
    found = {}
    for task in nets:
        x, y, *_ = (values[:10_000] for values in task.data)
        seconds: dict[int, list[float]] = {1: [], 2: []}
        for turn in range(2 if quick else 6):
            for jobs in (1, 2) if turn % 2 else (2, 1):
                model = gpunn.MLPClassifier(
                    task.hidden,
                    batch_size=BATCH_SIZE,
                    max_iter=task.epochs,
                    n_iter_no_change=task.epochs + 1,
                    random_state=turn,
                    device=device,
                )
                began = time.perf_counter()
                cross_val_score(model, x, y, cv=4, n_jobs=jobs)
                if turn:  # in the first the processes start
                    seconds[jobs].append(time.perf_counter() - began)
        found[task.name] = {
            "rows": len(x),
            "folds": 4,
            "seconds": seconds,
            "ratio": spread(np.divide(seconds[1], seconds[2])),
        }
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS), help="parts; default: %(default)s")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of the BLAS, in both; default: as it likes")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.quick and options.out:
        parser.error("--quick measures nothing that is worth a file; leave out --out")
    chosen = options.only.split(",")
    if unknown := [name for name in chosen if name not in PARTS]:
        parser.error(f"--only: there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    warnings.simplefilter("ignore", ConvergenceWarning)
    report: dict[str, Any] = {
        "machine": describe_machine(),
        "scikit-learn": version("scikit-learn"),
        "device": options.device,
        "batch_size": BATCH_SIZE,
        "precision": "float32",
        "tasks": {},
    }
    with threadpool_limits(options.threads, user_api="blas"):
        report["threads"] = blas.thread_count()
        for task in tasks(options.quick):
            if task.name in chosen:
                rounds = 1 if options.quick else task.rounds
                result = report["tasks"][task.name] = compare(task, rounds, options.device)
                print(task.name, json.dumps({k: result[k] for k in ("mean_figures", "ratio")}))
        if "dnn" in chosen:
            seeds = 1 if options.quick else 5
            report["dnn_classifier"] = dnn_classifier(options.quick, seeds, options.device)
            print("DNNClassifier", json.dumps(report["dnn_classifier"]))
    if "n_jobs" in chosen:  # with the threads that a user gets
        report["n_jobs"] = n_jobs(options.quick, options.device)
        print("n_jobs", json.dumps(report["n_jobs"]))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
