"""``benchmarks.comparison``: what is measured, kept and shown. Peers are fakes, but for NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_peer import FakePeer

from benchmarks import comparison, comparison_start, comparison_whole
from benchmarks.comparison import Scale, Watch
from benchmarks.comparison_table import document
from benchmarks.peers import processes
from gpunn.cli.bench.settings import BenchSettings

Report = dict[str, Any]


class Started(FakePeer):
    """Can be found again."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        STARTED.append(self)


STARTED: list[Started] = []


@pytest.fixture(autouse=True)
def small_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """MNIST is 90 images of 2 x 2 pixels; those of class 1 are bright."""
    STARTED.clear()
    labels = np.arange(90, dtype=np.uint8) % 2
    images = np.where(labels[:, None, None] == 1, 250, 5) * np.ones((90, 2, 2))
    images = images.astype(np.uint8)
    found = SimpleNamespace(x_train=images, y_train=labels, x_test=images, y_test=labels)
    monkeypatch.setattr(comparison_whole, "load", lambda name: found)
    monkeypatch.setitem(comparison_whole.RECIPE, "batch_size", 10)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All frameworks seem to be there; processes to ask them are not started."""
    for module in (processes, comparison_start):
        monkeypatch.setattr(module, "missing_packages", lambda name, python: [])
    monkeypatch.setattr(comparison_start, "_python", lambda python, code, *rest: "5000000")


def scale(**options: Any) -> Scale:
    """Return a comparison of nets 4-3-2."""
    chosen: Report = {
        "hidden": (3,),
        "inputs": 4,
        "classes": 2,
        "batch_sizes": (5, 8),
        "devices": ("reference",),
        "rounds": 2,
        "threads": 1,
        "seconds_per_row": 0.01,
        "cold_start": False,
        "peers": ("jax",),
    }
    return Scale(BenchSettings(**chosen | options), ("sgd", "adam"), 3, 2, 3, 4, 60)


def report_of() -> Report:
    machine: Report = {"processor": "abacus", "cores": 1, "versions": {}, "date": "today"}
    return {"machine": machine, "quick": False, "threads": 1, "parts": {}}


def silent() -> Watch:
    return Watch(lambda: None, say=lambda text: None)


def measured(names: list[str], chosen: Scale, start: Any = Started) -> Report:
    report = report_of()
    comparison.run(chosen, names, report, silent(), 3600, start)
    return report


def test_training_is_measured_for_sgd_first(installed: None) -> None:
    part = measured(["training"], scale())["parts"]["training"]
    assert part["complete"]
    assert [(row["optimizer"], row["batch_size"]) for row in part["rows"]] == [
        *(("sgd", 5), ("sgd", 8), ("adam", 5), ("adam", 8))
    ]
    assert part["settings"]["optimizers"] == ["sgd", "adam"]
    for row in part["rows"]:
        assert set(row["sides"]) == {"gpunn", "products", "jax"}
        ratio = 2.0 / np.array(row["sides"]["gpunn"]["rounds"])
        assert row["sides"]["jax"]["time_over_gpunn"]["median"] == np.median(ratio)
    assert all(peer.closed for peer in STARTED)


def test_a_fit_is_compared_pair_by_pair(installed: None) -> None:
    part = measured(["fit"], scale())["parts"]["fit"]
    (entry,) = part["devices"]
    ours, theirs = entry["sides"]["gpunn"], entry["sides"]["jax"]
    assert theirs["first_seconds"] == 6.0
    assert theirs["rounds"] == [6.0, 6.0]
    assert ours["losses"][0] == ours["losses"][1]  # each round is a new model
    assert theirs["time_over_gpunn"]["median"] == np.median(6.0 / np.array(ours["rounds"]))
    assert STARTED[0].asked == ["start", *["fit"] * 3]


def test_training_goes_on_until_the_accuracy_is_reached(installed: None) -> None:
    part = measured(["accuracy"], scale())["parts"]["accuracy"]
    sides = part["devices"][0]["sides"]
    assert [run["seed"] for run in sides["gpunn"]["runs"]] == [0, 1, 2]
    assert (sides["jax"]["reached"], sides["jax"]["median_seconds"]) == (3, 6.0)
    assert sides["jax"]["median_epochs"] == 2
    first = sides["gpunn"]["runs"][0]
    assert len(first["seconds"]) == 1 + len(first["accuracies"]) <= 5


def test_gpunn_and_plain_numpy_reach_it_alike() -> None:
    chosen = scale(peers=("numpy",), hidden=(20,))
    chosen = Scale(chosen.settings, seeds=2, most_epochs=40, rows=60)
    part = measured(["accuracy"], chosen, comparison.start_peer)["parts"]["accuracy"]
    sides = part["devices"][0]["sides"]
    for name in ("gpunn", "numpy"):
        for run in sides[name]["runs"]:
            assert run["accuracies"][-1] == 1  # as bright and dark are told apart
            assert all(value < 0.98 for value in run["accuracies"][:-1])


def test_plain_numpy_fits_as_gpunn_does() -> None:
    chosen = scale(peers=("numpy",))
    part = measured(["fit"], chosen, comparison.start_peer)["parts"]["fit"]
    ours, theirs = (part["devices"][0]["sides"][name] for name in ("gpunn", "numpy"))
    assert theirs["losses"][0] == pytest.approx(ours["losses"][0], rel=0.02)  # other orders


def test_where_mnist_is_not_there_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> None:
        raise comparison_whole.DatasetError("no file anywhere\nlong story")

    monkeypatch.setattr(comparison_whole, "load", load)
    report = measured(["accuracy"], scale())
    assert report["parts"]["accuracy"]["missing"] == "MNIST: no file anywhere"
    assert "MNIST: no file anywhere" in document(report, "a.png")


def test_processes(installed: None) -> None:
    part = measured(["start"], scale())["parts"]["start"]
    theirs = part["sides"]["jax"]
    assert [(c["cache"], c["seconds"]) for c in theirs["first_call"]] == [
        *(("warm", 4.0), ("cold", 4.0))
    ]
    assert theirs["peak_memory"] == [{"device": "reference", "bytes": 7_000_000}]
    warm, cold = STARTED[0].environment, STARTED[1].environment
    assert not warm
    assert set(cold) == set(comparison_start.CACHES)


def test_installed_size_counts_what_is_needed_too() -> None:
    alone = comparison_start.installed_bytes("numpy", None)
    with_needs = comparison_start.installed_bytes("sklearn", None)
    assert 10_000_000 < alone < with_needs  # scikit-learn needs NumPy
    assert comparison_start.installed_bytes("gpunn", None) > with_needs


def test_missing_peers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "missing_packages", lambda name, python: ["jax"])
    report = measured(["fit"], scale())
    assert report["parts"]["fit"]["complete"]
    assert set(report["parts"]["fit"]["devices"][0]["sides"]) == {"gpunn"}
    assert "JAX: not installed." in document(report, "a.png")


def test_a_part_ends_when_its_time_is_over(installed: None) -> None:
    report, lines = report_of(), list[str]()
    seen = 0

    def clock() -> float:
        nonlocal seen
        seen += 1
        return 0.0 if seen < 20 else 1e9

    watch = Watch(lambda: None, clock, lines.append)
    comparison.run(scale(), ["training", "fit"], report, watch, 3600, Started)
    training = report["parts"]["training"]
    assert not training["complete"]
    assert len(training["rows"]) in (1, 2)
    assert all(row["sides"]["gpunn"]["step_seconds"] for row in training["rows"])
    assert any("training: cut short" in line for line in lines)
    assert report["parts"]["fit"]["complete"]  # which has a time of its own
    assert "Cut short: training." in document(report, "a.png")
    assert all(peer.closed for peer in STARTED)


def test_the_parts_after_one_that_fails_are_measured(
    installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise ValueError("no such\nthing")

    monkeypatch.setitem(comparison.PARTS, "training", broken)
    report = measured(["training", "fit"], scale())
    assert report["parts"]["training"]["error"] == "ValueError: no such thing"
    assert report["parts"]["fit"]["complete"]
    text = document(report, "a.png")
    assert "training failed: ValueError: no such thing." in text
    assert "Cut short" not in text


def test_ctrl_c_keeps_what_is_there(
    installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "quick", lambda settings: scale())
    monkeypatch.setattr(comparison, "start_peer", Started)
    monkeypatch.setitem(comparison.PARTS, "inference", interrupted)
    file = tmp_path / "comparison.json"
    arguments = ["--quick", "--peers", "jax", "--devices", "reference", "--threads", "1"]
    arguments += ["--out", str(file)]
    assert comparison.main([*arguments, "--only", "fit,inference,start"]) == 130
    parts = json.loads(file.read_text())["parts"]
    assert parts["fit"]["complete"]
    assert not parts["inference"]["complete"]
    assert "start" not in parts
    # A part measured later joins what the same machine has measured before.
    assert comparison.main([*arguments, "--only", "start"]) == 0
    again = json.loads(file.read_text())["parts"]
    assert again["fit"] == parts["fit"]
    assert again["start"]["complete"]


def test_a_python_for_the_peers_that_is_not_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as stopped:
        comparison.main(["--peer-python", "/no/python", "--out", str(tmp_path / "c.json")])
    assert stopped.value.code == 2
    assert "there is no Python '/no/python' for the peers" in capsys.readouterr().err


def test_the_tables_have_every_figure_and_the_picture_is_drawn(
    installed: None, tmp_path: Path
) -> None:
    report = measured(list(comparison.PARTS), scale())
    comparison.write(tmp_path / "comparison.json", report)
    assert (tmp_path / "comparison.png").stat().st_size > 10_000
    kept = json.loads((tmp_path / "comparison.json").read_text())
    text = document(kept, "comparison.png")
    assert text in (tmp_path / "comparison.md").read_text()
    assert "say nothing" not in text
    ours = [row["sides"]["gpunn"]["check"]["loss"] for row in kept["parts"]["training"]["rows"]]
    apart = max(abs(0.7 / loss - 1) for loss in ours)
    assert f"the first steps differ by {apart:.1e} at most" in text
    lines = text.splitlines()
    (header,) = (line for line in lines if line.startswith("|  |"))
    for title in ("fit: 2 epochs of 3", "98.0%", "import", "cold cache", "peak memory"):
        assert title in header
    (jax,) = (line for line in lines if line.startswith("| JAX "))
    for cell in ("6.00 s", "6.0 s (3 of 3)", "4.0 s", "7 MB"):
        assert f"| {cell} |" in jax
    assert sum(line.startswith("| reference | adam |") for line in lines) == 2
    for row, ratio in zip(kept["parts"]["training"]["rows"], (0.5, 1.0, 0.25, 2.0), strict=True):
        row["sides"]["jax"]["time_over_gpunn"]["median"] = ratio
    first, _, third, _ = kept["parts"]["training"]["rows"]
    places = [f"reference, {row['optimizer']}, {row['batch_size']}" for row in (first, third)]
    said = f"Faster than gpunn: JAX at {places[0]} (0.50), {places[1]} (0.25)."
    assert said in document(kept, "a.png").splitlines()
