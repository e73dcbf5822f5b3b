"""The GPU report, on the simulator with a small net: it runs, and leaves what it promises."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from op_runs import needs_compiler

from benchmarks import gpu_kernels, gpu_report

pytestmark = needs_compiler


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_kernels, "HIDDEN", (8, 5))
    monkeypatch.setattr(gpu_kernels, "REPEATS", 2)
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
    assert {row["op"] for row in written["kernels"]["products"]} >= {"dense"}
    eager, graphs = written["training"]["throughput"]
    assert (eager["mode"], graphs["mode"]) == ("eager", "graphs")
    assert eager["samples_per_second"] > 0 and graphs["samples_per_second"] > 0
    assert (eager["graph_launches_per_epoch"], graphs["graph_launches_per_epoch"]) == (0, 2)
    assert f"| float32 | 32 | graphs | {graphs['microseconds_per_step']:.1f} |" in text
    assert written["machine"]["versions"]["numpy"] in text
    assert "simulator" in text and "| adam | parameters |" in text


@pytest.mark.usefixtures("small")
def test_a_part_that_breaks_is_reported_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(device: str, seconds: float) -> dict[str, Any]:
        raise RuntimeError("out of luck")

    sections = [
        (name, broken if name == "kernels" else section, share)
        for name, section, share in gpu_report.SECTIONS
    ]
    monkeypatch.setattr(gpu_report, "SECTIONS", sections)
    code, written, text = report(monkeypatch, tmp_path, "--only", "kernels", "training")
    assert code == 1
    assert "out of luck" in written["kernels"]["error"]
    assert "broke off: RuntimeError: out of luck" in text
    assert written["training"]["ok"]
