"""The GPU report, on the simulator with a small net: it runs, and leaves what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from op_runs import needs_compiler

from benchmarks import gpu_accuracy, gpu_kernels, gpu_report, gpu_training, gpu_tuning, readme
from benchmarks.peers import worker
from benchmarks.peers.processes import PeerError, PeerRefusalError
from gpunn.backends.cuda import tuning
from gpunn.backends.cuda.simulator.driver import SimulatorDriver
from gpunn.backends.cuda.tuning import Choice, GpuModel
from gpunn.backends.select import cuda_status
from gpunn.cli.bench import task
from gpunn.cli.tune import measure as tune
from gpunn.cli.tune import steps as tune_steps

pytestmark = needs_compiler
ROOT = Path(__file__).parents[2]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_kernels, "HIDDEN", (8, 5))
    monkeypatch.setattr(gpu_training, "HIDDEN", (8, 5))
    monkeypatch.setattr(gpu_kernels, "REPEATS", 2)
    monkeypatch.setattr(tune, "REPEATS", 2)
    monkeypatch.setattr(task, "ROWS", 64)
    monkeypatch.setattr(gpu_training, "ROUNDS", 2)
    monkeypatch.setattr(gpu_training, "ROUND_SECONDS", 0.0)  # an epoch in each of them
    monkeypatch.setattr(gpu_training, "missing_packages", lambda name, python: [name])
    monkeypatch.delenv("GPUNN_DATA", raising=False)


def report(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> tuple[int, Any, str]:
    command = ["gpu_report", "--out", str(folder), "--device", "simulator", *arguments]
    monkeypatch.setattr(sys, "argv", command)
    code = gpu_report.main()
    written = json.loads((folder / "gpu_report.json").read_text())
    return code, written, (folder / "gpu_report.md").read_text()


@pytest.mark.usefixtures("small")
def test_report_of_kernels_and_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, written, text = report(monkeypatch, tmp_path, "--only", "kernels", "training")
    assert code == 0
    (step,) = written["kernels"]["steps"]
    assert [call["op"] for call in step["calls"]].count("dense") == 3
    assert all(call["microseconds"] > 0 for call in step["calls"])
    bounds = [call["bound_microseconds"] for call in step["calls"]]
    assert step["bound_us"] == pytest.approx(sum(bounds))
    assert step["between_us"] == min(call["microseconds"] for call in step["calls"])
    (row,) = written["training"]["rows"]
    sides = row["sides"]
    # The peers are not installed; the simulator launches one kernel after the other anyway.
    assert list(sides) == ["gpunn", "gpunn, eager", "gpunn, dependent"]
    assert sides["gpunn, dependent"]["graph_launches"] == 2
    assert (sides["gpunn"]["graph_launches"], sides["gpunn, eager"]["graph_launches"]) == (2, 0)
    ours, eager = (sides[name]["round_seconds"] for name in ("gpunn", "gpunn, eager"))
    ratios = [theirs / mine for theirs, mine in zip(eager, ours, strict=True)]
    assert sides["gpunn, eager"]["time_over_gpunn"]["median"] == pytest.approx(np.median(ratios))
    assert f"| float32 | 32 | {sides['gpunn']['step_seconds']['median'] * 1e6:.1f} |" in text
    assert "torch.graphs: not installed" in text and "jax: not installed" in text
    assert written["machine"]["versions"]["numpy"] in text
    assert "simulator" in text and "| adam | parameters |" in text
    assert written["commit"] and written["driver"] and written["machine"]["date"]
    short = readme.gpu_table(written)
    assert "| float32 | 8 |" in short and "| adam | parameters |" not in short
    assert not (tmp_path / "parts").exists()


@pytest.mark.usefixtures("small")
def test_a_gpu_without_dependent_launches_is_measured_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    never = property(lambda self: False, lambda self, wanted: None)
    monkeypatch.setattr(SimulatorDriver, "dependent_launches", never)
    found = gpu_training.measure("simulator", 300)
    assert list(found["rows"][0]["sides"]) == ["gpunn", "gpunn, eager"]
    (told,) = [x for x in gpu_training.markdown(found) if x.startswith("gpunn, dependent: refused")]
    assert told.endswith("has no dependent launches")


@pytest.mark.usefixtures("small")
def test_products_are_tuned_and_training_is_measured_with_and_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tuning, "user_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(gpu_tuning, "HIDDEN", (8, 5))
    monkeypatch.delenv(tuning.IGNORED, raising=False)
    monkeypatch.setattr(SimulatorDriver, "timed", True)  # so that the table is made use of
    monkeypatch.setattr(tune_steps, "LENGTHS", tune_steps.SHORT)
    # The library wins.
    monkeypatch.setattr(tune, "decide", lambda times, default: Choice())
    parts = ("--only", "tuning", "training")
    code, written, text = report(monkeypatch, tmp_path / "out", *parts)
    assert code == 0
    found = written["tuning"]
    gpu = GpuModel.of(SimulatorDriver())
    table = tuning.load(gpu)
    assert found["file"] == str(tuning.table_file(gpu)) and found["table"] == table.digest
    assert len(found["rows"]) == len(table) == 8 and not found["cut_short"]
    assert f"(table {table.digest})" in text and "| library |" in text
    assert "| float32 | forward | 8 x 8 x 784 |" in text
    (row,) = written["training"]["rows"]
    other = "gpunn, ordinary" if table.dependent_launch else "gpunn, dependent"
    assert list(row["sides"]) == ["gpunn", "gpunn, eager", other, "gpunn, untuned"]
    assert row["sides"]["gpunn, untuned"]["graph_launches"] == 2
    assert row["sides"]["gpunn, untuned"]["time_over_gpunn"]["median"] > 0
    assert row["products"] == table.describe()
    assert table.describe().startswith(f"8 products tuned, table {table.digest}, graphs of ")
    assert f"gpunn's matrix products: {row['products']}." in text
    assert f"| gpunn | gpunn, eager | {other} | gpunn, untuned |" in text
    assert len(found["steps"]) == 4 and "| 2 | dependent |" in text


@pytest.mark.usefixtures("small")
def test_tuning_stops_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tuning, "user_cache", lambda: tmp_path)
    monkeypatch.setattr(gpu_tuning, "HIDDEN", (8, 5))
    found = gpu_tuning.measure("simulator", 0.0)
    assert found["ok"] and found["cut_short"] and not found["rows"]
    assert "Cut short: the time was up." in gpu_tuning.markdown(found)


@pytest.mark.usefixtures("small")
def test_a_part_that_breaks_is_reported_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(device: str, seconds: float, save: Any) -> dict[str, Any]:
        save({"ok": True, "steps": [1]})
        raise RuntimeError("out of luck")

    sections = [
        (name, broken if name == "kernels" else section, share)
        for name, section, share in gpu_report.SECTIONS
    ]
    monkeypatch.setattr(gpu_report, "SECTIONS", sections)
    code, written, text = report(monkeypatch, tmp_path, "--only", "kernels", "training")
    assert code == 1
    assert "out of luck" in written["kernels"]["error"]
    assert written["kernels"]["steps"] == [1]  # what it had found
    assert "broke off: RuntimeError: out of luck" in text
    assert written["training"]["ok"]


def test_parts_get_the_time_that_others_leave(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[float] = []
    clock = SimpleNamespace(perf_counter=lambda: 0.0)  # parts that take no time
    monkeypatch.setattr(gpu_report, "time", clock)

    def section(device: str, seconds: float, save: Any) -> dict[str, Any]:
        given.append(seconds)
        return {"ok": True}

    monkeypatch.setattr(gpu_report, "SECTIONS", [("a", section, 0.6), ("b", section, 0.2)])
    report(monkeypatch, tmp_path, "--budget", "1000")
    assert given == pytest.approx([750, 1000])


@pytest.mark.skipif(cuda_status().usable, reason="there is a GPU")
def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_report", "--out", str(tmp_path / "new")])
    with pytest.raises(SystemExit) as stopped:
        gpu_report.main()
    assert stopped.value.code == 2
    assert "GPU" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_part_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")  # no compute-sanitizer
    found = gpu_report.part_apart("sanitizer", "simulator", 60, tmp_path / "a.json")
    assert found == {"ok": None, "why": "compute-sanitizer is not installed"}
    monkeypatch.setattr(gpu_report, "PART", "import sys, os; os.abort()")
    found = gpu_report.part_apart("training", "simulator", 60, tmp_path / "b.json")
    assert found["ok"] is False and "ended with code" in found["error"]


def test_a_part_out_of_time_leaves_what_it_has_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is not waited for: that would take ten minutes, and not be cut short."""
    monkeypatch.setattr(gpu_report, "PART", "import time; time.sleep(600)")
    monkeypatch.setattr(gpu_report, "GRACE", 0.0)
    (tmp_path / "a.json").write_text('{"ok": true, "rows": [1]}')
    found = gpu_report.part_apart("training", "simulator", 0.1, tmp_path / "a.json")
    assert found == {"ok": True, "rows": [1], "cut_short": True, "why": "nothing in 0 s"}


class FakePeer:
    """Answers like a worker, but one peer refuses and one dies."""

    asked: list[tuple[str, str, dict[str, Any]]]

    def __init__(self, name: str, threads: int) -> None:
        self.name, self.patience = name, None

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        self.asked.append((self.name, do, arguments))
        assert self.patience is not None
        if self.name == "torch.graphs" and do == "start":
            raise PeerRefusalError("RuntimeError: CUDA graphs need a GPU")
        if self.name == "torch" and do == "round":
            raise PeerError("died with exit code 1")
        if do == "start":
            return {"start_seconds": 1.0, "versions": {self.name: "1.0"}}
        return {"warm_up_seconds": 2.0} if do == "setup" else {"seconds": 3.0, "loss": 0.5}

    def close(self) -> None:
        self.asked.append((self.name, "close", {}))


@pytest.mark.usefixtures("small")
def test_peers_train_the_same_and_their_failures_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakePeer, "asked", [], raising=False)
    found = gpu_training.measure("simulator", 300, start=FakePeer, lacks=lambda name, python: [])
    (row,), (late,) = found["rows"], found["late_rows"]
    assert set(row["sides"]) == {"gpunn", "gpunn, eager", "gpunn, dependent", "jax"}
    assert set(late["sides"]) == set(row["sides"]) - {"jax"} | {"torch.autotune"}
    jax, ours = row["sides"]["jax"], row["sides"]["gpunn"]
    ratios = [3.0 / seconds for seconds in ours["round_seconds"]]
    assert jax["time_over_gpunn"]["median"] == pytest.approx(np.median(ratios))
    assert jax["step_seconds"]["median"] == pytest.approx(3.0 / (row["steps"] * row["epochs"]))
    setups = {name: asked for name, do, asked in FakePeer.asked if do == "setup"}
    assert setups["jax"]["precision"] == "float32" and setups["jax"]["steps"] == row["steps"] == 2
    assert found["peers"]["torch"]["state"] == "failed"
    assert found["peers"]["torch.graphs"]["state"] == "refused"
    closed = {name for name, do, _ in FakePeer.asked if do == "close"}
    assert closed == {"torch", "torch.graphs", "jax", "torch.autotune"}
    text = "\n".join(gpu_training.markdown(found))
    assert "torch: failed: died with exit code 1" in text
    assert "torch.graphs: refused: RuntimeError: CUDA graphs need a GPU" in text


@pytest.mark.usefixtures("small")
def test_nothing_is_begun_when_the_time_is_up() -> None:
    found = gpu_training.measure("simulator", 0.0, start=FakePeer, lacks=lambda name, python: [])
    assert found["rows"] == [] and found["late_rows"] == []


def test_ways_of_pytorch_reach_its_peer(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2, 3), np.uint8))
    np.save(tmp_path / "labels.npy", np.zeros(2, np.int32))
    np.savez(tmp_path / "weights.npz", np.zeros((3, 2)))
    seen = {}

    class Peer:
        def __init__(self, *arguments: Any, way: str = "") -> None:
            self.versions: dict[str, str] = {}
            seen[name] = way

    for name in ("torch", "torch.compile", "torch.autotune", "torch.graphs", "jax"):
        worker.Worker(name, Peer).start(str(tmp_path), 1, "cpu")
    ways = ["", "compile", "autotune", "graphs", ""]
    assert list(seen.values()) == ways


def test_epochs_to_the_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(256, size=(64, 28, 28), dtype=np.uint8)
    data = (x, np.zeros(64, np.int64)), (x[:20], np.zeros(20, np.int64))
    monkeypatch.setenv("GPUNN_DATA", "somewhere")
    monkeypatch.setattr(gpu_accuracy.gpunn.datasets.mnist, "load_data", lambda: data)
    monkeypatch.setattr(gpu_kernels, "HIDDEN", (8, 5))
    monkeypatch.setattr(gpu_accuracy, "SEEDS", 2)
    monkeypatch.setattr(gpu_accuracy, "BATCH", 4)
    found = gpu_accuracy.accuracy("simulator", 300)
    assert [run["seed"] for run in found["runs"]] == [0, 1]
    for run in found["runs"]:
        assert run["reached"] and run["test_accuracies"][-1] >= 0.98
        assert run["epochs"] == len(run["test_accuracies"]) <= 30
        assert 0 < run["training_seconds"] <= run["seconds_with_evaluation"]
    assert "| float32 | 2 of 2 |" in "\n".join(gpu_accuracy.accuracy_markdown(found))
    assert gpu_accuracy.accuracy("simulator", 0.0) == {"ok": True, "runs": [], "cut_short": True}


@pytest.mark.parametrize(
    ("last", "code", "ok"),
    [("PASSED", 0, True), ("FAILED", 1, False), ("FAILED", None, False), ("PASSED", None, None)],
)
def test_counts_of_the_gpu_tests(
    monkeypatch: pytest.MonkeyPatch, last: str, code: int | None, ok: bool | None
) -> None:
    output = f"""
tests/gpu/test_gpu_ops.py::test_a[x-y z] PASSED    [ 33%]
tests/gpu/test_gpu_ops.py::test_b SKIPPED (no)     [ 66%]
tests/gpu/test_gpu_ops.py::test_c {last}           [100%]
"""
    monkeypatch.setattr(
        gpu_report, "_run", lambda command, seconds: {"code": code, "output": output}
    )
    found = gpu_report.gpu_tests("cuda", 10, lambda result: None)
    assert found["ok"] is ok
    assert found["counts"]["skipped"] == 1 and sum(found["counts"].values()) == 3
    names = ["tests/gpu/test_gpu_ops.py::test_c"] if last == "FAILED" else []
    assert found["failed"] == names


def test_bits_that_differ_are_noticed() -> None:
    run = {"float32, graphs": "a", "float32, eager": "a"}
    assert gpu_accuracy.compared([run, run])["ok"]
    assert not gpu_accuracy.compared([run, run | {"float32, eager": "b"}])["ok"]
    other = {"float32, graphs": "a", "float32, eager": "b"}
    found = gpu_accuracy.compared([other, other])
    assert not found["ok"] and found["same_with_graphs"] == {"float32": False}


@pytest.mark.parametrize(
    ("codes", "ok"), [((0, 0, 0), True), ((0, 99, None), False), ((0, None, 0), None)]
)
def test_the_sanitizer_s_findings(
    monkeypatch: pytest.MonkeyPatch, codes: tuple[int | None, ...], ok: bool | None
) -> None:
    answers = iter(codes)
    monkeypatch.setattr(gpu_report.shutil, "which", lambda name: "/bin/true")
    answer = {"output": "========= ERROR SUMMARY: 1 error"}
    monkeypatch.setattr(
        gpu_report, "_run", lambda command, seconds: answer | {"code": next(answers)}
    )
    found = gpu_report.sanitizer("cuda", 10, lambda result: None)
    assert found["ok"] is ok
    assert found["tools"]["memcheck"]["summary"] == "ERROR SUMMARY: 1 error"


BARE = """
import sys
class Blocked:
    names = "platformdirs pooch optuna hypothesis tensorboardX pandas polars matplotlib".split()
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
sys.path.insert(0, "")
import numpy as np
import pytest
import benchmarks.gpu_report, benchmarks.gpu_sanitized
from benchmarks import gpu_kernels
gpu_kernels.HIDDEN = (8, 5)
x = np.zeros((8, 28, 28), np.uint8)
gpu_kernels.net("cpu").fit(x, np.zeros(8, int), verbose=0)
gpu_kernels.net("simulator").predict(x)
from gpunn.backends import select
select.cuda_status = lambda: select.simulator_status()  # a GPU that can be used
sys.exit(pytest.main(["tests/gpu", "--collect-only", "-qq", "-p", "no:cacheprovider"]))
"""


def test_nothing_here_needs_packages_for_other_purposes(tmp_path: Path) -> None:
    environment = os.environ | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "XDG_CACHE_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", BARE],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "tests/gpu/test_gpu_training.py: " in done.stdout
    assert list((tmp_path / "gpunn/kernels/simulator").iterdir())
