"""``gpunn search``: trials shared by processes, some of them killed; what is written of them."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from gpunn.cli.app import main
from gpunn.cli.search.journal import FileLock, Journal
from gpunn.cli.search.study import JOURNAL
from gpunn.cli.search.worker import ReportToPruner
from gpunn.data import named as datasets
from gpunn.errors import ArgumentError

TINY = ("--hidden", "0:2", "--neurons", "4:16", "--batch-size", "64,128", "--dropout", "0")
SEARCH = ("search", "digits", "--out", "s", *TINY, "--validation", "300")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def search(answer: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Search and return the JSON object."""
    return partial(answer, *SEARCH)


@pytest.fixture
def mistake(mistake: Callable[..., str]) -> Callable[..., str]:
    """The same, of messages that are a single line."""

    def run(*arguments: str) -> str:
        message = mistake(*arguments)
        assert "\n" not in message
        return message

    return run


def table(folder: str = "s") -> list[dict[str, str]]:
    with (Path(folder) / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def study(folder: Path = Path("s")) -> optuna.Study:
    storage = optuna.storages.JournalStorage(Journal(folder / JOURNAL))
    return optuna.load_study(study_name="gpunn", storage=storage)


def params(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("hidden", "neurons", "learning_rate", "batch_size"))


# What is found and written


def test_table_csv_and_picture(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SEARCH, "--trials", "7", "--epochs", "3", "--pruner", "none"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    rows = table()
    assert [row["state"] for row in rows] == ["complete"] * 7
    assert {row["trial"] for row in rows} == set("0123456")
    scores = [float(row["accuracy"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    for row in rows:
        assert int(row["hidden"]) in (0, 1, 2)
        assert 4 <= int(row["neurons"]) <= 16
        assert 1e-4 <= float(row["learning_rate"]) <= 0.1
        assert row["batch_size"] in ("64", "128")
        assert (row["dropout"], row["optimizer"], row["activation"]) == ("0.0", "adam", "relu")
        assert row["epochs"] == "3"
        assert float(row["seconds"]) > 0
    lines = shown.out.splitlines()
    (head,) = [n for n, line in enumerate(lines) if line.split()[:2] == ["#", "accuracy"]]
    shown_rows = [line.split() for line in lines[head + 2 : head + 9]]
    assert [cells[0] for cells in shown_rows] == [row["trial"] for row in rows]
    assert shown_rows[0][1] == f"{scores[0]:.4f}"
    assert "trials   7 complete" in lines
    assert Path("s/search.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_of_the_best_trial_gives_its_score(
    search: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    result = search("--trials", "6", "--epochs", "4", "--seed", "5")
    program, *arguments = shlex.split(result["command"])
    assert program == "gpunn"
    assert main([*arguments, "--json", "--quiet"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert trained["val_accuracy"] == result["best_score"]
    best = table()[0]
    assert result["best_trial"] == int(best["trial"])
    assert result["best_params"]["learning_rate"] == float(best["learning_rate"])


@pytest.fixture
def houses(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Few rows in place of California's; what searches them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 8)).astype(np.float32)
    y = (x @ rng.normal(size=8)).astype(np.float32)
    small = datasets.Dataset("california-housing", x[:400], y[:400], x[400:], y[400:], "regression")
    monkeypatch.setattr(datasets, "load", lambda *arguments, **keywords: small)
    arguments = ("search", "california-housing", "--out", "s", "--hidden", "0", "--dropout", "0")
    return (*arguments, "--validation", "0.2", "--epochs", "3", "--json", "--quiet")


def test_a_lower_rmse_is_better(
    houses: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*houses, "--trials", "5", "--pruner", "none"]) == 0
    result = json.loads(capsys.readouterr().out)
    scores = [float(row["rmse"]) for row in table()]
    assert scores == sorted(scores)
    assert result["best_score"] == scores[0]
    assert "--hidden '' " in result["command"]


def test_trials_that_diverge_have_no_score(
    houses: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*houses, "--trials", "3", "--optimizer", "sgd", "--learning-rate", "1e4"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["trials"]["pruned"] == 3
    assert (result["best_trial"], result["command"]) == (None, None)
    assert {row["note"] for row in table()} == {"diverged"}


def test_poor_trials_are_pruned(search: Callable[..., Any]) -> None:
    result = search("--trials", "16", "--sampler", "random", "--epochs", "6")
    pruned = [row for row in table() if row["state"] == "pruned"]
    assert result["trials"]["complete"] == 16 - len(pruned)
    assert len(pruned) > 2
    assert all(int(row["epochs"]) < 6 for row in pruned)


def test_final_trains_on_all_rows_and_can_be_evaluated(
    search: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    result = search("--trials", "2", "--epochs", "2", "--final")
    run = f"s/final-{result['best_trial']}"
    settings = json.loads(Path(run, "run.json").read_text())
    assert settings["recipe"]["validation"] == 0
    assert settings["recipe"]["learning_rate"] == result["best_params"]["learning_rate"]
    assert main(["evaluate", run, "digits", "--json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["test_accuracy"]
    assert accuracy > 0 and result["final"]["test_accuracy"] == accuracy
    again = search("--trials", "2", "--final")  # nothing left to do
    assert again["final"]["test_accuracy"] == accuracy


def test_a_folder_that_is_a_file(mistake: Callable[..., str], tmp_path: Path) -> None:
    Path("taken").write_text("mine")
    message = mistake("search", "digits", "--out", "taken", "--trials", "1")
    assert "search: taken is not a folder; choose another --out" in message
    assert Path("taken").read_text() == "mine"


# Going on


def test_a_search_goes_on_as_if_it_had_not_stopped(search: Callable[..., Any]) -> None:
    search("--trials", "3", "--epochs", "2")
    search("--trials", "8")
    resumed = table()
    Path("s").rename("t")
    search("--trials", "8", "--epochs", "2")
    assert len(resumed) == 8
    assert [(*params(row), row["accuracy"], row["state"]) for row in resumed] == [
        (*params(row), row["accuracy"], row["state"]) for row in table()
    ]


@pytest.mark.parametrize(
    ("option", "value", "own"),
    [
        ("--hidden", "1:3", "0:2"),
        ("--learning-rate", "0.001:0.1", "0.0001:0.1"),
        ("--batch-size", "64", "64,128"),
        ("--epochs", "9", "1"),
        ("--pruner", "none", "median"),
    ],
)
def test_another_space_needs_another_folder(
    search: Callable[..., Any], mistake: Callable[..., str], option: str, value: str, own: str
) -> None:
    search("--trials", "1", "--epochs", "1")
    before = Path("s", JOURNAL).read_bytes()
    message = mistake("search", "digits", "--out", "s", option, value)
    assert f"{option} {value} contradicts the search in s, which has {own}: leave it" in message
    assert "is a search on digits, not on mnist" in mistake("search", "mnist", "--out", "s")
    assert Path("s", JOURNAL).read_bytes() == before


def test_half_a_line_in_the_journal_is_no_record(search: Callable[..., Any]) -> None:
    search("--trials", "3", "--epochs", "1")
    whole = Path("s", JOURNAL).read_bytes()
    # The last record, "the third trial is complete", is written in part.
    Path("s", JOURNAL).write_bytes(whole[:-9])
    result = search("--trials", "4")
    assert result["trials"] == {
        "complete": 4,
        "pruned": 0,
        "failed": 1,
        "running": 0,
        "waiting": 0,
    }
    lines = Path("s", JOURNAL).read_bytes().splitlines()
    assert [json.loads(line) for line in lines[: whole.count(b"\n") - 1]]
    assert all(json.loads(line) for line in lines)
    (failed,) = [row for row in table() if row["state"] == "failed"]
    (again,) = [row for row in table() if row["repeats"]]
    assert again["repeats"] == failed["trial"]
    assert params(again) == params(failed)


def test_a_damaged_journal_is_an_error(
    search: Callable[..., Any], mistake: Callable[..., str]
) -> None:
    search("--trials", "1", "--epochs", "1")
    path = Path("s", JOURNAL)
    path.write_bytes(b"{}}\n" + path.read_bytes())
    assert "search.journal is damaged" in mistake("search", "digits", "--out", "s")


def test_ctrl_c_marks_the_trial_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    search: Callable[..., Any],
) -> None:
    after = ReportToPruner.on_epoch_end

    def interrupt(self: ReportToPruner, epoch: int, logs: Any = None) -> None:
        after(self, epoch, logs)
        if self.trial.number == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ReportToPruner, "on_epoch_end", interrupt)
    assert main([*SEARCH, "--trials", "4", "--epochs", "3", "--quiet"]) == 130
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [
        "stopped with 2 of 4 trials finished; to go on:",
        "  gpunn search digits --out s --trials 4",
    ]
    assert [row["note"] for row in table() if row["state"] == "failed"] == ["interrupted"]
    (waiting,) = [row for row in table() if row["state"] == "waiting"]
    assert waiting["repeats"] == "2"
    monkeypatch.setattr(ReportToPruner, "on_epoch_end", after)
    counts = search("--trials", "4")["trials"]
    assert counts["complete"] + counts["pruned"] == 4
    assert counts["failed"] == 1


def test_no_trial_begins_after_the_timeout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SEARCH, "--trials", "3", "--timeout", "1e-9", "--quiet"]) == 0
    assert "stopped with 0 of 3 trials finished" in capsys.readouterr().err
    assert table() == []


def test_nothing_is_said_to_be_saved_that_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    Path("s", "trials.csv").mkdir(parents=True)
    assert main([*SEARCH, "--timeout", "1e-9"]) == 0
    shown = capsys.readouterr()
    assert "trials.csv: Is a directory" in shown.err
    assert "saved" not in shown.out


def test_how_to_go_on_says_where_the_data_are(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ("--timeout", "1e-9", "--quiet", "--data-dir", str(tmp_path))
    assert main([*SEARCH, *arguments]) == 0
    assert f" --data-dir {tmp_path}" in capsys.readouterr().err


def test_a_full_disk_is_an_error_that_names_the_journal(tmp_path: Path) -> None:
    code = "import resource, sys; from gpunn.cli.app import main\n"
    code += "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); sys.exit(main(sys.argv[1:]))"
    process = start(("--trials", "9", "--quiet"), "-c", code)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 2
    assert err == "gpunn: error: s/search.journal: File too large\n"


# Several processes


# Trains as ever, but for its second trial: that one never gets beyond the second epoch.
STUCK = """
import sys, time
from gpunn.cli.app import main
from gpunn.cli.search.worker import ReportToPruner
after, begun = ReportToPruner.on_epoch_end, set()
def on_epoch_end(self, epoch, logs=None):
    after(self, epoch, logs)
    begun.add(self.trial.number)
    if len(begun) == 2 and epoch == 1:
        print(self.trial.number, flush=True)
        time.sleep(600)
ReportToPruner.on_epoch_end = on_epoch_end
sys.exit(main(sys.argv[1:]))
"""


def start(arguments: tuple[str, ...], *program: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", *program, *SEARCH, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_one_of_two_processes_is_killed_and_comes_back() -> None:
    arguments = ("--trials", "12", "--epochs", "8", "--json")
    processes = [start(arguments, "-c", STUCK)]
    try:
        assert processes[0].stdout is not None
        killed = int(processes[0].stdout.readline())
        processes.append(start(arguments, "-m", "gpunn"))
        deadline = time.monotonic() + 600
        while sum(trial.state.is_finished() for trial in study().get_trials()) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        processes[0].kill()
        processes[0].communicate(timeout=600)
        processes.append(start(arguments, "-m", "gpunn"))
        for process in processes[1:]:
            out, err = process.communicate(timeout=600)
            assert process.returncode == 0, err
            counts = json.loads(out)["trials"]
            assert counts["complete"] + counts["pruned"] == 12
            assert counts["failed"] == 1
            assert counts["running"] == counts["waiting"] == 0
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    rows = {int(row["trial"]): row for row in table()}
    assert len(rows) == 13
    assert rows[killed]["state"] == "failed"
    assert rows[killed]["note"].endswith("ended without a result")
    (again,) = [row for row in rows.values() if row["repeats"]]
    assert again["repeats"] == str(killed)
    assert params(again) == params(rows[killed])
    assert again["state"] in ("complete", "pruned")
    owners = {trial.user_attrs["owner"]["pid"] for trial in study().get_trials()}
    assert len(owners) >= 2
    assert list(Path("s", "processes").iterdir()) == []


def test_processes_of_its_own(search: Callable[..., Any]) -> None:
    result = search("--trials", "6", "--epochs", "2", "--processes", "2")
    assert result["trials"]["complete"] + result["trials"]["pruned"] == 6
    owners = {trial.user_attrs["owner"]["pid"] for trial in study().get_trials()}
    assert os.getpid() not in owners


# Trains as ever, but no first epoch ever ends; says which processes do the work.
ENDLESS = """
import os, sys, time
from gpunn.cli.app import main
import gpunn.cli.search.running as running
begin = running.subprocess.Popen
def popen(command, **keywords):
    code = "import sys, time, gpunn.cli.search.worker as w\\n"
    code += "w.ReportToPruner.on_epoch_end = lambda *_, **__: {act}\\nsys.exit(w.main(sys.argv[1]))"
    process = begin([sys.executable, "-c", code, command[-1]], **keywords)
    print(process.pid, flush=True)
    return process
running.subprocess.Popen = popen
sys.exit(main(sys.argv[1:]))
"""


def running_trials() -> int:
    if not Path("s", JOURNAL).exists():
        return 0
    try:
        trials = study().get_trials()
    except KeyError:  # the journal has no record of the search yet
        return 0
    return sum(trial.state == optuna.trial.TrialState.RUNNING for trial in trials)


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_search_whose_processes_are_all_killed_has_failed() -> None:
    process = start(
        ("--trials", "4", "--processes", "2", "--quiet"),
        "-c",
        ENDLESS.format(act="time.sleep(600)"),
    )
    with process:
        assert process.stdout is not None
        children = [int(process.stdout.readline()) for _ in range(2)]
        wait_until(lambda: running_trials() == 2)
        for child in children:
            os.kill(child, signal.SIGKILL)
        _, err = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "stopped with 0 of 4 trials finished" in err


def test_processes_end_with_the_one_that_started_them() -> None:
    arguments = ("--trials", "1", "--processes", "2", "--quiet", "--epochs", "100000")
    with start(arguments, "-c", ENDLESS.format(act="time.sleep(0.01)")) as process:
        wait_until(lambda: running_trials() == 1)
        process.kill()
    wait_until(lambda: running_trials() == 0)
    (failed,) = [t for t in study().get_trials() if t.state == optuna.trial.TrialState.FAIL]
    assert failed.user_attrs["result"]["note"] == "interrupted"


def test_what_is_killed_leaves_no_lock(tmp_path: Path) -> None:
    code = "import sys, pathlib, time; from gpunn.cli.search.journal import FileLock\n"
    code += "FileLock(pathlib.Path(sys.argv[1])).acquire(); print('held', flush=True)\n"
    code += "time.sleep(600)"
    command = [sys.executable, "-c", code, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        lock = FileLock(tmp_path / "lock")
        assert not lock.acquire(wait=False)
        process.kill()
    assert lock.acquire(wait=False)
    lock.release()


def test_an_error_in_a_trial_marks_it_and_ends_the_search(
    monkeypatch: pytest.MonkeyPatch, mistake: Callable[..., str], search: Callable[..., Any]
) -> None:
    def fail(*arguments: Any) -> None:
        raise ArgumentError("The roof is on fire.")

    with monkeypatch.context() as patch:
        patch.setattr(ReportToPruner, "on_epoch_end", fail)
        arguments = (*SEARCH, "--trials", "2", "--epochs", "1", "--quiet")
        assert mistake(*arguments) == "gpunn: error: The roof is on fire."
    assert search("--trials", "2")["trials"]["failed"] == 1
    assert "The roof is on fire." in {row["note"] for row in table()}


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--hidden", "3:1"), "--hidden must be a range from low to high, at least 0"),
        (("--hidden", "few"), "--hidden must be a range such as 1:3"),
        (("--learning-rate", "0:1"), "--learning-rate must be a range from low to high"),
        (
            ("--dropout", "0:1"),
            "--dropout must be a range from low to high, at least 0 and below 1",
        ),
        (("--batch-size", "32,x"), "--batch-size must be whole numbers"),
        (("--batch-size", "32,32"), "--batch-size must be choices"),
        (("--batch-size", "8²"), "--batch-size must be whole numbers"),
        (("--batch-size", "32,9999"), "--batch-size 9999: there are 1337 rows to train on"),
        (("--optimizer", "adam,sdg"), "Unknown optimizer 'sdg'; did you mean 'sgd'?"),
        (("--activation", "relo"), "Unknown activation 'relo'; did you mean 'relu'?"),
        (("--sampler", "grid"), "Unknown sampler 'grid'"),
        (("--pruner", "medium"), "Unknown pruner 'medium'; did you mean 'median'?"),
        (("--validation", "0"), "--validation must leave rows"),
        (("--validation", "9999"), "leaves nothing to train on"),
        (("--device", "tpu"), "'tpu'"),
        (("--device", "cpu", "--precision", "tf32"), "does not compute in tf32"),
        (("--trials", "0"), "--trials must be at least 1"),
    ],
)
def test_options_are_checked(
    mistake: Callable[..., str], arguments: tuple[str, ...], message: str
) -> None:
    assert message in mistake("search", "digits", "--out", "s", *arguments)
    assert not Path("s").exists()


def test_optuna_may_be_missing(
    monkeypatch: pytest.MonkeyPatch, mistake: Callable[..., str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "which is not installed: pip install 'optuna>=4'" in mistake("search", "digits")
