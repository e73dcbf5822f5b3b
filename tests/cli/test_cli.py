"""The command line, mostly in process: ``main(argv)`` is what the ``gpunn`` program calls."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from op_runs import needs_compiler

import gpunn
from gpunn.backends import select
from gpunn.checkpoints.files import CheckpointDirectory
from gpunn.cli import predict, recipes, reports, runs
from gpunn.cli.app import main
from gpunn.data import named as datasets
from gpunn.training.callbacks.progress import EpochLines, ProgressBar
from gpunn.training.trainer import Trainer

SMALL = ("--hidden", "16,8", "--batch-size", "100", "--threads", "1")
EPOCH = 14  # steps: 1,337 rows in batches of 100
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A folder of its own for each test, and no pictures where none are looked at."""
    monkeypatch.chdir(tmp_path)
    if "learning_curve" not in request.node.name:
        monkeypatch.setattr(reports, "draw_learning_curve", lambda *arguments: True)


@pytest.fixture
def train(answer: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Train on the digits and return the JSON object."""
    return partial(answer, "train", "digits", *SMALL)


def latest(folder: str) -> gpunn.Model:
    return gpunn.load_model(folder, device="reference")


def assert_same_run(one: str, other: str) -> None:
    """Same weights, bit for bit, and the same history but for the seconds."""
    for a, b in zip(latest(one).get_weights(), latest(other).get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert history(one) == history(other)


def history(folder: str) -> list[dict[str, str]]:
    with (Path(folder) / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: v for name, v in row.items() if name != "seconds"} for row in rows]


# Training


def test_json_is_one_strict_object(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(["train", "digits", *SMALL, "--epochs", "2", "--seed", "7", "--json"])
    shown = capsys.readouterr()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    (line,) = shown.out.splitlines()
    result = json.loads(line, parse_constant=refuse)
    assert code == 0
    assert "device   cpu" in shown.err  # for people, on the other stream
    assert "val_accuracy" in shown.err
    assert (result["dataset"], result["device"]) == ("digits", "cpu")
    assert result["seed"] == 7
    assert result["parameters"] == 64 * 16 + 16 + 16 * 8 + 8 + 8 * 10 + 10
    assert (result["epochs"], result["steps"]) == (2, 2 * EPOCH)
    assert result["train_seconds"] > 0
    assert result["samples_per_second"] == pytest.approx(2 * 1337 / result["train_seconds"])
    assert 0 < result["test_accuracy"] < 1
    assert result["train_loss"] > 0 and result["test_loss"] > 0 and result["val_loss"] > 0
    assert Path(result["checkpoint"]).is_file()


def test_files_of_a_run(train: Callable[..., dict[str, Any]]) -> None:
    first, second = train("--steps", "1"), train("--steps", "1")
    assert (first["run"], second["run"]) == (
        str(Path("runs/digits-1")),
        str(Path("runs/digits-2")),
    )
    names = {path.name for path in Path("runs/digits-1").iterdir()}
    assert names >= {"run.json", "step-0000000001.h5", "history.csv"}
    (row,) = history("runs/digits-1")
    assert list(row) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
    assert row["epoch"] == "1"


def test_learning_curve_is_a_picture(train: Callable[..., dict[str, Any]]) -> None:
    pytest.importorskip("matplotlib")
    train("--steps", "1", "--out", "run")
    assert Path("run/learning_curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["a$b$c^", "\u6f22\U0001f680", "bad\udcff"])
def test_learning_curve_of_a_folder_of_any_name(
    train: Callable[..., dict[str, Any]], name: str
) -> None:
    pytest.importorskip("matplotlib")
    try:
        Path(name).mkdir()
    except (OSError, UnicodeError):
        pytest.skip("no such names on this file system")
    train("--steps", "1", "--out", name)
    assert Path(name, "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_there_is_no_learning_curve(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    arguments = ["train", "digits", *SMALL, "--steps", "1", "--out", "run", "--device", "reference"]
    assert main(arguments) == 0
    assert "pip install matplotlib" in capsys.readouterr().out
    assert not Path("run/learning_curve.png").exists()


def test_screen_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", *SMALL, "--epochs", "2", "--out", "run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    labels = " ".join(line.split()[0] for line in lines)
    assert labels == "device data net training run epoch 1/2 2/2 time test saved"
    assert "\x1b" not in "".join(lines)
    assert max(map(len, lines[1:])) <= 80


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", *SMALL, "--steps", "1", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_options_replace_the_recipe(train: Callable[..., dict[str, Any]]) -> None:
    train(
        *("--steps", "3", "--out", "run", "--activation", "tanh", "--dropout", "0"),
        *("--learning-rate", "0.5", "--optimizer", "sgd", "--validation", "0.25", "--seed", "3"),
    )
    model = latest("run")
    assert [layer.name for layer in model.layers if hasattr(layer.spec, "units")] == [
        *("hidden1", "hidden2", "outputs"),
    ]
    assert model.get_layer("hidden1").activation.name == "tanh"
    assert not any(type(layer.spec).__name__ == "Dropout" for layer in model.layers)
    assert model.optimizer == gpunn.optimizers.SGD(0.5)
    assert model.seed == 3
    settings = json.loads(Path("run/run.json").read_text())
    assert settings["recipe"]["validation"] == 0.25
    assert settings["recipe"]["epochs"] is None


def test_another_optimizer_brings_its_own_learning_rate(
    train: Callable[..., dict[str, Any]],
) -> None:
    train("--steps", "1", "--out", "run", "--optimizer", "sgd")
    assert latest("run").optimizer == gpunn.optimizers.SGD()


def test_validation_can_be_left_out(train: Callable[..., dict[str, Any]]) -> None:
    result = train("--epochs", "1", "--validation", "0")
    assert result["steps"] == 15  # all 1,437 rows
    assert not any(name.startswith("val_") for name in result)


# Resuming


@pytest.mark.parametrize("stop", [EPOCH, EPOCH + 5, 3])
def test_resumed_run_is_the_uninterrupted_one(
    train: Callable[..., dict[str, Any]], stop: int
) -> None:
    constant = ("--learning-rate", "0.003")  # the default's schedule spans the whole run
    whole = train("--steps", "33", "--out", "whole", *constant)
    train("--steps", str(stop), "--out", "parts", *constant)
    resumed = train("--steps", "33", "--out", "parts", "--resume")
    assert_same_run("whole", "parts")
    timings = ("train_seconds", "samples_per_second", "run", "checkpoint")
    assert {k: v for k, v in resumed.items() if k not in timings} == {
        k: v for k, v in whole.items() if k not in timings
    }


def test_resume_keeps_settings_and_schedule(train: Callable[..., dict[str, Any]]) -> None:
    train("--epochs", "2", "--out", "run", "--seed", "5", "--save-every", "1")
    optimizer = latest("run").optimizer
    assert optimizer.schedule.decay_steps == 2 * EPOCH
    assert main(["train", "digits", "--out", "run", "--resume", "--epochs", "3", "--quiet"]) == 0
    assert latest("run").optimizer == optimizer
    assert latest("run").seed == 5
    assert [row["epoch"] for row in history("run")] == ["1", "2", "3"]
    # And with no options at all: three epochs are the aim now, and done.
    assert main(["train", "digits", "--out", "run", "--resume", "--quiet"]) == 0
    assert CheckpointDirectory("run").steps()[-1] == 3 * EPOCH


def test_resume_before_the_first_checkpoint_starts_anew(
    train: Callable[..., dict[str, Any]],
) -> None:
    train("--steps", "20", "--out", "whole")
    train("--steps", "20", "--out", "run")
    for path in Path("run").glob("*.h5"):
        path.unlink()
    assert main(["train", "digits", "--out", "run", "--resume", "--quiet"]) == 0
    assert_same_run("whole", "run")


def test_resuming_says_what_is_left(
    train: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    train("--epochs", "2", "--out", "run")
    again = ("train", "digits", "--out", "run", "--resume")
    assert main([*again, "--epochs", "1"]) == 0
    assert "14 steps are done" in capsys.readouterr().out
    assert main([*again, "--epochs", "3"]) == 0
    assert f"cosine schedule ends at step {2 * EPOCH}, at a rate of 0" in capsys.readouterr().out


def test_resuming_after_a_damaged_checkpoint(
    train: Callable[..., dict[str, Any]], mistake: Callable[..., str]
) -> None:
    whole = train("--epochs", "3", "--out", "run", "--save-every", "1")
    train("--epochs", "3", "--out", "same", "--save-every", "1")
    last = Path(whole["checkpoint"])
    last.write_bytes(last.read_bytes()[:3000])
    message = mistake("train", "digits", "--out", "run", "--resume", "--quiet")
    assert last.name in message and "move this file" in message
    last.unlink()
    train("--out", "run", "--resume")
    assert_same_run("run", "same")


def test_a_folder_takes_one_run_at_a_time(
    train: Callable[..., dict[str, Any]], mistake: Callable[..., str]
) -> None:
    pytest.importorskip("fcntl")
    train("--steps", "1", "--out", "run")
    with runs.held(Path("run")):
        assert "Another process" in mistake("train", "digits", "--out", "run", "--resume")
    train("--steps", "2", "--out", "run", "--resume")


def test_closed_output_does_not_lose_training(
    train: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    constant = ("--learning-rate", "0.003")

    def closed(bar: object, epoch: int, logs: object = None) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with monkeypatch.context() as patch:
        patch.setattr(ProgressBar, "on_epoch_end", closed)
        with contextlib.suppress(SystemExit):  # typer's way to end quietly
            main(["train", "digits", *SMALL, *constant, "--epochs", "3", "--out", "run"])
    assert CheckpointDirectory("run").steps() == [EPOCH]
    train("--out", "run", "--resume")
    train("--epochs", "3", "--out", "whole", *constant)
    assert_same_run("run", "whole")


def test_a_table_that_cannot_be_written_is_only_warned_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "history.csv")

    monkeypatch.setattr(reports, "write_history", full)
    assert main(["train", "digits", *SMALL, "--steps", "1", "--out", "run"]) == 0
    shown = capsys.readouterr()
    assert "test     loss" in shown.out
    assert shown.err == "gpunn: warning: history.csv: No space left on device\n"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--hidden", "10"), ("--activation", "tanh"), ("--batch-size", "50")),
        *(("--optimizer", "sgd"), ("--learning-rate", "0.003"), ("--dropout", "0.5")),
        *(("--seed", "1"), ("--validation", "7"), ("--precision", "float64")),
    ],
)
def test_resume_refuses_other_settings(
    train: Callable[..., dict[str, Any]], mistake: Callable[..., str], option: str, value: str
) -> None:
    train("--steps", "1", "--out", "run")
    before = {path: path.read_bytes() for path in Path("run").iterdir()}
    message = mistake("train", "digits", "--out", "run", "--resume", option, value)
    assert f"{option} contradicts the run" in message
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before


def test_resume_refuses_another_data_set_or_no_run(
    train: Callable[..., dict[str, Any]], mistake: Callable[..., str]
) -> None:
    train("--steps", "1", "--out", "run")
    message = mistake("train", "mnist", "--out", "run", "--resume")
    assert "run on digits, not on mnist" in message
    assert "no run to resume in other" in mistake("train", "digits", "--out", "other", "--resume")
    assert "--resume needs --out" in mistake("train", "digits", "--resume")
    Path("run/run.json").write_text("{}")
    assert "run.json" in mistake("train", "digits", "--out", "run", "--resume")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals from outside")
def test_interrupted_run_goes_on(
    number: signal.Signals, code: int, train: Callable[..., dict[str, Any]]
) -> None:
    whole = ("--learning-rate", "0.001", "--validation", "0")
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gpunn", "train", "digits", *SMALL, *whole),
            *("--steps", "100000000", "--save-every", "1", "--out", "run"),
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 600
    while not CheckpointDirectory("run").steps() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == code
    assert "gpunn train digits --out run --resume" in errors

    stopped = CheckpointDirectory("run").steps()[-1]
    steps = str(stopped + 20)
    assert train("--resume", "--out", "run", "--steps", steps)["steps"] == stopped + 20
    train(*whole, "--steps", steps, "--out", "whole")
    assert_same_run("whole", "run")


# Mistakes


def test_a_new_run_does_not_mix_with_an_earlier_one(
    train: Callable[..., dict[str, Any]], mistake: Callable[..., str]
) -> None:
    train("--steps", "1", "--out", "run")
    before = {path: path.read_bytes() for path in Path("run").iterdir()}
    message = mistake("train", "digits", "--out", "run")
    assert "--resume" in message and "--out" in message
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "digitz"], "did you mean 'digits'?"),
        (["train", "digits", "--hidden", "a,b"], "--hidden"),
        (["train", "digits", "--hidden", "0"], "units"),
        (["train", "digits", "--activation", "rellu"], "did you mean 'relu'?"),
        (["train", "digits", "--optimizer", "adan"], "did you mean 'adam'?"),
        (["train", "digits", "--learning-rate", "-1"], "learning_rate"),
        (["train", "digits", "--learning-rate", "nan"], "learning_rate"),
        (["train", "digits", "--batch-size", "0"], "batch_size"),
        (["train", "digits", "--batch-size", "5000"], "1337"),
        (["train", "digits", "--epochs", "0"], "epochs"),
        (["train", "digits", "--epochs", "2", "--steps", "3"], "not both"),
        (["train", "digits", "--validation", "2000"], "validation"),
        (["train", "digits", "--validation", "1.5"], "validation"),
        (["train", "digits", "--validation", "nan"], "validation"),
        (["train", "digits", "--validation", "inf"], "validation"),
        (["train", "digits", "--dropout", "1"], "dropout"),
        (["train", "digits", "--seed", "-1"], "seed"),
        (["train", "digits", "--save-every", "0"], "save_every"),
        (["train", "digits", "--device", "gpu"], "device"),
        (["train", "digits", "--device", "cuda:99"], "cuda:99"),
        (["train", "digits", "--precision", "float8"], "precision"),
        (["train", "digits", "--threads", "0"], "threads"),
        (["train", "digits", "--epochs", "many"], "--epochs"),
        (["train", "digits", "--epoch-count", "3"], "--epoch-count"),
        (["train"], "DATASET"),
        (["trane", "digits"], "trane"),
        (["evaluate", "nowhere", "digits"], "nowhere"),
        (["evaluate", "nowhere", "digits", "--precision", "float32"], "nowhere"),
        (["inspect", "nowhere"], "nowhere"),
        (["predict", "nowhere", "images.npy"], "nowhere"),
    ],
)
def test_mistakes_are_said_plainly(
    mistake: Callable[..., str], arguments: list[str], expected: str
) -> None:
    assert expected in mistake(*arguments)
    assert not list(Path().rglob("*.h5"))
    assert not list(Path().glob("runs/*"))


def test_folder_that_cannot_be_made(mistake: Callable[..., str]) -> None:
    Path("file").touch()
    assert "file" in mistake("train", "digits", "--out", "file/run")
    assert "file" in mistake("train", "digits", "--out", "file")


def test_missing_data_set(mistake: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object, **options: object) -> None:
        raise gpunn.errors.DatasetError("mnist: did not find it\nPass --data-dir.")

    monkeypatch.setattr(datasets, "load", missing)
    assert "--data-dir" in mistake("train", "mnist")
    assert not Path("runs").exists()


def test_loss_that_is_not_finite_ends_training(mistake: Callable[..., str]) -> None:
    message = mistake(
        *("train", "digits", *SMALL, "--quiet", "--out", "other", "--optimizer", "sgd"),
        *("--learning-rate", "1e30", "--epochs", "50"),
    )
    assert "NaN or infinite" in message
    assert not list(Path("other").glob("*.h5"))


def test_checkpoints_stay_as_they_were_when_the_loss_is_lost(
    train: Callable[..., dict[str, Any]],
    mistake: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train("--epochs", "2", "--out", "run")
    before = {path: path.read_bytes() for path in Path("run").glob("*.h5")}
    monkeypatch.setattr(Trainer, "nonfinite_step", property(lambda trainer: 30))
    message = mistake("train", "digits", "--quiet", "--out", "run", "--resume", "--epochs", "3")
    assert "NaN or infinite at step 30" in message
    assert {path: path.read_bytes() for path in Path("run").glob("*.h5")} == before


# Use


def test_evaluate_is_what_training_said(
    train: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    result = train("--epochs", "2", "--out", "run")
    for path in ("run", result["checkpoint"]):
        assert main(["evaluate", path, "digits", "--json"]) == 0
        shown = capsys.readouterr()
        evaluated = json.loads(shown.out)
        assert evaluated["test_accuracy"] == result["test_accuracy"]
        assert evaluated["test_loss"] == pytest.approx(result["test_loss"], rel=1e-6)
        assert evaluated["rows"] == 360
        assert "accuracy" in shown.err


def test_evaluate_on_another_data_set(
    train: Callable[..., dict[str, Any]], mistake: Callable[..., str], real_data: Path
) -> None:
    train("--steps", "1", "--out", "run")
    assert "shape" in mistake("evaluate", "run", "mnist", "--data-dir", str(real_data))


def test_predictions(
    train: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    train("--epochs", "2", "--out", "run")
    images = datasets.load_digits().x_test[:20]
    np.save("images.npy", images)
    np.save("flat.npy", images.reshape(20, 64))
    np.save("one.npy", images[0])
    np.savetxt("images.csv", images.reshape(20, 64), delimiter=",", fmt="%d")
    header = ",".join(f"pixel{i}" for i in range(64))
    Path("header.csv").write_text(f"{header}\n{Path('images.csv').read_text()}")
    texts = {}
    for name in ("images.npy", "flat.npy", "images.csv", "header.csv", "one.npy"):
        assert main(["predict", "run", name, "--out", "predictions.csv"]) == 0
        texts[name] = Path("predictions.csv").read_text()
    capsys.readouterr()
    assert main(["predict", "run", "images.npy"]) == 0
    assert capsys.readouterr().out == texts["images.npy"]

    rows = list(csv.DictReader(texts["images.npy"].splitlines()))
    assert list(rows[0]) == ["class", "probability", *(f"p{i}" for i in range(10))]
    expected = latest("run").predict(images)
    probabilities = np.array([[float(row[f"p{i}"]) for i in range(10)] for row in rows])
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-6)
    assert [int(row["class"]) for row in rows] == probabilities.argmax(axis=1).tolist()
    assert [float(row["probability"]) for row in rows] == probabilities.max(axis=1).tolist()
    for name in ("flat.npy", "images.csv", "header.csv"):
        values = np.loadtxt(texts[name].splitlines()[1:], delimiter=",")
        np.testing.assert_allclose(values[:, 2:], probabilities, rtol=1e-4, atol=1e-6)
    assert len(texts["one.npy"].splitlines()) == 2


def test_predictions_of_values(capsys: pytest.CaptureFixture[str]) -> None:
    model = gpunn.Sequential([gpunn.Input((3,)), gpunn.layers.Dense(1, name="outputs")])
    model.compile("sgd", "mse", device="reference")
    model.save("model.h5")
    Path("rows.csv").write_text("1,2,3\n4,5,6\n")
    assert main(["predict", "model.h5", "rows.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "value"
    expected = model.predict(np.array([[1, 2, 3], [4, 5, 6]])).ravel()
    np.testing.assert_allclose([float(line) for line in lines[1:]], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.npy", None),
        ("empty.npy", b""),
        ("damaged.npy", b"\x93NUMPY\x01\x00"),
        ("empty.csv", b""),
        ("header.csv", b"a,b\n"),
        ("hole.csv", ",".join(["1", "", *["1"] * 62]).encode()),  # not taken for a header
        ("words.csv", b"a,b\nc,d\n"),
        ("ragged.csv", b"1,2\n1,2,3\n"),
        ("narrow.csv", b"1,2\n3,4\n"),
        ("binary.csv", b"\xff\xfe\x00"),
        ("infinite.csv", ",".join(["inf"] * 64).encode()),
    ],
)
def test_inputs_that_cannot_be_used(
    train: Callable[..., dict[str, Any]],
    mistake: Callable[..., str],
    name: str,
    content: bytes | None,
) -> None:
    train("--steps", "1", "--out", "run")
    if content is not None:
        Path(name).write_bytes(content)
    assert name in mistake("predict", "run", name, "--out", "predictions.csv")
    assert not Path("predictions.csv").exists()


def test_predictions_are_written_whole_or_not_at_all(
    train: Callable[..., dict[str, Any]],
    mistake: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train("--steps", "1", "--out", "run")
    np.save("images.npy", datasets.load_digits().x_test[:3])
    Path("predictions.csv").write_text("earlier")

    def full(model: object, outputs: object, file: IO[str]) -> None:
        file.write("class")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(predict, "write_predictions", full)
    message = mistake("predict", "run", "images.npy", "--out", "predictions.csv")
    assert "predictions.csv: No space left" in message
    assert Path("predictions.csv").read_text() == "earlier"
    assert not list(Path().glob(".gpunn-*"))


@pytest.mark.skipif(sys.platform == "win32", reason="no such device")
def test_predictions_to_what_is_no_file(train: Callable[..., dict[str, Any]]) -> None:
    train("--steps", "1", "--out", "run")
    np.save("images.npy", datasets.load_digits().x_test[:3])
    assert main(["predict", "run", "images.npy", "--out", os.devnull]) == 0
    assert not Path(os.devnull).is_file()


def test_inputs_scaled_beforehand_are_remarked_on(
    train: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    train("--steps", "1", "--out", "run")
    images = datasets.load_digits().x_test[:3]
    for name, values, noted in (("raw", images * 1.0, False), ("scaled", images / 16, True)):
        np.save(f"{name}.npy", values)
        assert main(["predict", "run", f"{name}.npy"]) == 0
        shown = capsys.readouterr()
        assert len(shown.out.splitlines()) == 4
        assert ("the model takes 0 to 16" in shown.err) == noted


def test_not_enough_memory(
    train: Callable[..., dict[str, Any]], mistake: Callable[..., str]
) -> None:
    train("--steps", "1", "--out", "run")
    np.save("huge.npy", np.zeros((1, 8, 8)))
    content = (
        Path("huge.npy").read_bytes().replace(b"(1, 8, 8), } ", b"(1" + b"0" * 15 + b", 8, 8), } ")
    )
    Path("huge.npy").write_bytes(content.replace(b" " * 15 + b"\n", b"\n", 1))
    assert "memory" in mistake("predict", "run", "huge.npy")


def test_predict_does_not_unpickle(
    train: Callable[..., dict[str, Any]], mistake: Callable[..., str]
) -> None:
    train("--steps", "1", "--out", "run")
    np.save("objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert "objects.npy" in mistake("predict", "run", "objects.npy")


def test_inspect(train: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    result = train("--steps", str(EPOCH + 2), "--out", "run", "--seed", "9")
    assert main(["inspect", "run", "--plan"]) == 0
    shown = capsys.readouterr().out
    size = Path(result["checkpoint"]).stat().st_size
    assert "hidden1 (Dense)" in shown
    assert f"{result['checkpoint']}, {size:,} bytes" in shown
    assert "seed     9" in shown
    assert f"epoch 1, 200 rows into the next, step {EPOCH + 2}, batch 100" in shown
    assert f"val_loss {result['val_loss']:.4f}" in shown
    assert latest("run").plan(100, ["uint8"]).describe().splitlines()[0] in shown

    assert "products in float32" in shown

    latest("run").save("model.h5")
    assert main(["inspect", "model.h5"]) == 0
    assert "cannot be resumed" in capsys.readouterr().out

    gpunn.Sequential([gpunn.Input((3,)), gpunn.layers.Dense(1)]).save("uncompiled.h5")
    assert main(["inspect", "uncompiled.h5"]) == 0
    assert "cannot be resumed" in capsys.readouterr().out


@pytest.fixture
def tf32_run(train: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> str:
    """The latest checkpoint of a run in tf32, and from then on no GPU."""
    options = ("--device", "simulator", "--precision", "tf32", "--hidden", "4")
    result = train("--steps", "2", "--out", "run", *options)
    assert result["precision"] == "tf32"
    missing = select.DeviceStatus("cuda", False, "no NVIDIA GPU found")
    monkeypatch.setattr(select, "cuda_status", lambda: missing)
    return str(result["checkpoint"])


@needs_compiler
def test_run_of_a_gpu_is_used_on_a_laptop(
    tf32_run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    images = datasets.load_digits().x_test[:20]
    np.save("images.npy", images)
    warning = f"gpunn: warning: {tf32_run} was saved with precision='tf32', but cpu, which "
    assert main(["evaluate", "run", "digits", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["precision"] == "float32"
    assert shown.err.startswith(warning) and shown.err.count("warning") == 1
    assert main(["predict", "run", "images.npy"]) == 0
    predicted = capsys.readouterr()
    assert len(predicted.out.splitlines()) == 21
    (line,) = predicted.err.splitlines()
    assert line.startswith(warning)

    # Asked for, it needs no warning.
    assert main(["predict", "run", "images.npy", "--precision", "float32"]) == 0
    assert capsys.readouterr() == (predicted.out, "")
    arguments = ["evaluate", "run", "digits", "--json", "--precision", "float64"]
    assert main([*arguments, "--device", "reference"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["precision"] == "float64"
    assert "warning" not in shown.err
    # And with its own device it keeps its precision.
    assert main(["evaluate", "run", "digits", "--json", "--device", "simulator"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["precision"] == "tf32"
    assert "warning" not in shown.err


@needs_compiler
def test_run_of_a_gpu_can_be_looked_at_anywhere(
    tf32_run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", "run", "--plan"]) == 0
    shown = capsys.readouterr()
    assert "products in tf32" in shown.out
    assert "step 2, batch 100" in shown.out
    assert "\nbatch size 100, tf32\n" in shown.out
    assert shown.err == ""


@needs_compiler
def test_what_does_not_compute_in_a_precision_is_refused(
    tf32_run: str, mistake: Callable[..., str]
) -> None:
    named = mistake("evaluate", "run", "digits", "--device", "cpu")
    assert f"{tf32_run} was saved with precision='tf32'. Device 'cpu' does not compute" in named
    assert "use precision='float32', or for tf32 device='cuda'" in named
    given = mistake("evaluate", "run", "digits", "--precision", "bfloat16")
    assert "device='auto' took cpu (no NVIDIA GPU found), which does not compute in bf" in given
    # A run keeps its precision.
    resumed = ("train", "digits", "--out", "run", "--resume", "--device", "auto")
    message = mistake(*resumed)
    assert "The run in run can only go on in the precision it was started with, tf32. " in message
    assert "auto' took cpu" in message
    message = mistake(*resumed, "--precision", "float32")
    assert "--precision contradicts the run in run, which was started with tf32" in message


def test_output_that_lacks_characters(
    train: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    train("--steps", "1", "--out", "run")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert main(["inspect", "run"]) == 0
    sys.stdout.flush()
    assert b"hidden1 (Dense)" in written.getvalue()


def test_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ["cuda", "cpu", "reference", "simulator", "auto"]
    assert [line.split()[0] for line in lines[:5]] == names  # of a GPU there is one more line
    assert lines[2].split()[1] == "usable"


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gpunn {gpunn.__version__}\n"
    for arguments in ([], ["--help"], ["train", "--help"]):
        assert main(arguments) == 0
        assert "train" in capsys.readouterr().out.lower()


# Recipes


@pytest.mark.parametrize("seed", range(3))
def test_digits_recipe(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Seeds 0 to 7 come to 0.969 to 0.983: roundings decide about single rows of the 360."""
    arguments = ["--json", "--quiet", "--seed", str(seed), "--device", "cpu"]
    assert main(["train", "digits", *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["test_accuracy"] >= 0.95


@pytest.mark.parametrize("name", list(datasets.NAMES))
def test_recipe_fits_its_data_set(name: str, real_data: Path) -> None:
    recipe, dataset = recipes.get(name), datasets.load(name, real_data)
    model = recipes.build_model(recipe, dataset)
    (x, _), validation = recipes.split(recipe, dataset)
    assert validation is not None
    assert len(x) + len(validation[0]) == len(dataset.x_train)
    names = [layer.name for layer in model.layers if hasattr(layer.spec, "units")]
    assert names == [*(f"hidden{i + 1}" for i in range(len(recipe.hidden))), "outputs"]
    optimizer = recipes.build_optimizer(recipe, 100)
    model.compile(optimizer, **recipes.objective(dataset), device="reference")
    # The inputs come to about unit size, from training rows alone.
    if recipe.scale is not None:
        assert dataset.x_train.max() * recipe.scale == pytest.approx(1)
    else:
        layer = next(layer for layer in model.layers if hasattr(layer.spec, "adapt"))
        np.testing.assert_allclose(layer.mean, x.mean(axis=0, dtype=np.float64))


# Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def fit(*callbacks: gpunn.callbacks.Callback) -> None:
    data = datasets.load_digits()
    model = gpunn.Sequential(
        [gpunn.Input((8, 8)), gpunn.layers.Flatten(), gpunn.layers.Dense(10, activation="softmax")]
    )
    model.compile(
        "sgd", "sparse_categorical_crossentropy", metrics=["accuracy"], device="reference", seed=0
    )
    x, y = data.x_train[:200], data.y_train[:200]
    model.fit(x, y, epochs=2, batch_size=50, verbose=0, callbacks=callbacks, validation_split=0.5)


def test_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    terminal = Terminal()
    bar = ProgressBar(terminal)
    bar.interval = 0.0
    fit(bar)
    shown = terminal.getvalue()
    assert "epoch 1/2" in shown and "samples/s" in shown and "left" in shown
    # The table stays; the cursor, hidden under the bar, is back.
    assert shown.count("val_accuracy") == 1
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_bar_is_taken_away_when_training_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal, stdout = Terminal(), sys.stdout

    def fail(epoch: int, logs: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(gpunn.callbacks.LambdaCallback(on_epoch_end=fail), ProgressBar(terminal))
    shown = terminal.getvalue()
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert sys.stdout is stdout


def test_lines_per_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    fit(EpochLines())
    lines = capsys.readouterr().out.splitlines()
    figure = r"\d+\.\d{4}"
    expected = (
        r"Epoch 1/2 - \d+\.\d\d s - [\d,]+ samples/s - "
        rf"loss: {figure} - accuracy: {figure} - val_loss: {figure} - val_accuracy: {figure}"
    )
    assert len(lines) == 2
    assert re.fullmatch(expected, lines[0])
