"""Writes the README's tables from the files in ``benchmarks/results``.

    python -m benchmarks.readme [--check]

A table stands between ``<!-- name -->`` and ``<!-- /name -->``. With ``--check`` nothing is
written; the exit code says whether the README is up to date.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks import comparison_table as comparison
from benchmarks.machine import in_words

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"


def recipes_table(report: dict[str, Any]) -> str:
    """Return the table of test figures of the default recipes."""
    lines = [
        "| data set | test figure, mean of seeds 0 to 4 | smallest to largest | training | "
        "whole command |",
        "|---|---|---|---|---|",
    ]
    for name, entry in report["datasets"].items():
        s = entry["summary"]
        if s["metric"] == "test_accuracy":
            figures = f"{s['mean']:.2%} accuracy", f"{s['min']:.2%} to {s['max']:.2%}"
        else:
            figures = f"{s['mean']:.4f} RMSE", f"{s['min']:.4f} to {s['max']:.4f}"
        seconds = f"{s['median_train_seconds']:.1f} s", f"{s['median_command_seconds']:.1f} s"
        lines.append(f"| {name} | {' | '.join((*figures, *seconds))} |")
    lines += ["", f"Measured on: {in_words(report['machine'])}."]
    return "\n".join(lines)


def steps_table(report: dict[str, Any]) -> str:
    """Return the table of training steps beside plain NumPy."""
    lines = [
        "| batch size | products alone | gpunn's step | `fit`, per step | plain NumPy | "
        "plain NumPy / `fit` |",
        "|---|---|---|---|---|---|",
    ]
    for result in report["results"]:
        times = {k: v["median"] for k, v in result["microseconds_per_step"].items()}
        ratio = result["ratios"]["numpy_over_gpunn_fit"]
        spread = f"{ratio['low_quartile']:.2f} to {ratio['high_quartile']:.2f}"
        cells = [
            f"{times[k]:,.0f}" for k in ("products", "gpunn_steps", "gpunn_fit", "plain_numpy")
        ]
        cells.append(f"{ratio['median']:.2f} ({spread})")
        lines.append(f"| {result['batch_size']} | {' | '.join(cells)} |")
    lines += ["", f"Measured on: {in_words(report['machine'])}."]
    return "\n".join(lines)


_CHAPTER = {
    "fashion_mnist": "Fashion-MNIST, 300-100, 30 epochs",
    "housing": "California housing, 30-1, 20 epochs",
    "wide_and_deep": "the same, wide & deep, two inputs, 20 epochs",
    "auxiliary_output": "the same with an auxiliary output, 20 epochs",
    "exercise_9": "exercise 9: MNIST, at most 100 epochs",
}


def chapter_table(report: dict[str, Any]) -> str:
    """Return the table of the chapter's nets in gpunn and in Keras."""
    lines = [
        "| net | gpunn: test figure (smallest to largest) | Keras: test figure | gpunn: `fit` | "
        "Keras: `fit` |",
        "|---|---|---|---|---|",
    ]
    versions: dict[str, str] = {}
    for task, title in _CHAPTER.items():
        if task not in report["tasks"]:
            continue
        figures, seconds = [], []
        for library in ("gpunn", "keras"):
            entry = report["tasks"][task].get(library)
            if entry is None:
                figures.append("not installed")
                seconds.append("not installed")
                continue
            versions |= entry["runs"][0]["versions"]
            s = entry["summary"]
            form = ".2%" if task in ("fashion_mnist", "exercise_9") else ".4f"
            unit = "" if form == ".2%" else " MSE"
            low, mean, high = (format(s[f"test_{k}"], form) for k in ("min", "mean", "max"))
            figures.append(f"{mean}{unit} ({low} to {high})")
            seconds.append(f"{s['median_seconds']:.1f} s")
        lines.append(f"| {title} | {' | '.join(figures + seconds)} |")
    machine = report["machine"] | {"versions": versions}
    quick = " A quick run on few rows: these figures say nothing." if report["quick"] else ""
    threads = f"Batches of 32, {report['threads']} threads, seeds 0 to 2.{quick}"
    return "\n".join([*lines, "", f"{threads} Measured on: {in_words(machine)}."])


def estimators_table(report: dict[str, Any]) -> str:
    """Return the table of the MLP estimators beside scikit-learn's."""
    lines = [
        "| data set | hidden layers | epochs | gpunn | scikit-learn | gpunn, fit | "
        "scikit-learn / gpunn |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, entry in report["tasks"].items():
        style = ".2%" if entry["metric"] == "accuracy" else ".4f"
        unit = "accuracy" if entry["metric"] == "accuracy" else "RMSE"
        ours, theirs = (
            f"{entry['mean_figures'][who]:{style}} ± {entry['standard_errors'][who]:{style}} {unit}"
            for who in ("gpunn", "scikit-learn")
        )
        ratio = entry["ratio"]
        cells = [
            name,
            "-".join(map(str, entry["hidden_layer_sizes"])),
            str(entry["epochs"]),
            ours,
            theirs,
            f"{entry['median_seconds']['gpunn']:.2f} s",
            f"{ratio['median']:.1f} ({ratio['low_quartile']:.1f} to {ratio['high_quartile']:.1f})",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    dnn = report["dnn_classifier"]
    lines += [
        "",
        f"`DNNClassifier`, {dnn['steps']:,} steps of {report['batch_size']} on MNIST: "
        f"{dnn['mean_accuracy']:.2%} in {dnn['median_seconds']:.1f} s (mean and median of "
        f"{len(dnn['runs'])} seeds).",
        "",
        "`cross_val_score` of `MLPClassifier` over 4 folds, time with one job / time with two: "
        + ", ".join(
            f"{name} ({entry['rows']:,} rows) {entry['ratio']['median']:.2f}"
            for name, entry in report["n_jobs"].items()
        )
        + ".",
        "",
        f"Measured on: {in_words(report['machine'])}; scikit-learn {report['scikit-learn']}, "
        f"{report['threads']} threads.",
    ]
    return "\n".join(lines)


def gpu_table(report: dict[str, Any]) -> str:
    """Return the GPU report without its tables of single kernels."""
    from benchmarks.gpu_report import markdown

    return markdown(report, calls=False).strip()


TABLES = {
    "recipes": recipes_table,
    "cpu_step": steps_table,
    "keras_chapter": chapter_table,
    "sklearn_mlp": estimators_table,
    "gpu_report": gpu_table,
    "comparison": lambda report: comparison.document(report, "benchmarks/results/comparison.png"),
}


OPTIONS = {"gpu_report": " --out benchmarks/results"}


def updated(text: str) -> str:
    """Return the README with its tables made anew."""
    for name, table in TABLES.items():
        file = RESULTS / f"{name}.json"
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        options = OPTIONS.get(name, "")
        body = f"Not measured yet; `python -m benchmarks.{name}{options}` does it."
        if file.exists():
            body = table(json.loads(file.read_text()))
        text, count = pattern.subn(lambda m, body=body: f"{m[1]}{body}\n{m[2]}", text)  # type: ignore[misc]
        if count != 1:
            raise SystemExit(f"README.md: expected one place for the table {name!r}, found {count}")
    return text


def main() -> None:
    """Update the README, or check it."""
    path = ROOT / "README.md"
    text = path.read_text()
    new = updated(text)
    if "--check" in sys.argv[1:]:
        raise SystemExit(0 if new == text else "README.md is older than benchmarks/results")
    path.write_text(new)


if __name__ == "__main__":
    main()
