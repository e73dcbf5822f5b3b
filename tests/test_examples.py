"""Every example runs as it stands."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    # What the examples write goes into a folder that they are given; those that write nothing take
    # no notice.
    monkeypatch.setattr(sys, "argv", [str(path), "written"])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out
    if path.stem == "learning_rate_finder":
        assert Path("written/learning_rate_finder.png").read_bytes().startswith(b"\x89PNG")
    if path.stem == "pictures":
        assert {file.stem for file in Path("written").glob("*.png")} == {
            "activations",
            "confusion_matrix",
            "learning_curve",
            "mistakes",
            "weights",
        }
    if path.stem == "perceptron":
        assert Path("written/perceptron.png").read_bytes().startswith(b"\x89PNG")
    if path.stem == "exercise_9":
        written = {file.name for file in Path("written").iterdir()}
        assert written == {"learning_rate.png", "logs", "my_model.keras"}
