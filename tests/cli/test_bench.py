"""``gpunn bench``: what is measured, in which order, and what is shown and written. No times."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_peer import FakePeer
from op_runs import needs_compiler
from rich.console import Console

import gpunn
from benchmarks.peers import processes, worker
from gpunn.backends import roofline, timing
from gpunn.backends.cuda.detect import DeviceStatus
from gpunn.backends.reference.backend import NumpyReference
from gpunn.cli.app import main
from gpunn.cli.bench import bounds, measure, memory, plot, profile, report
from gpunn.cli.bench import run as command
from gpunn.cli.bench import settings as settings_module
from gpunn.cli.bench.measure import Bench
from gpunn.cli.bench.rounds import interleaved
from gpunn.cli.bench.settings import OPTIMIZERS, BenchSettings
from gpunn.cli.bench.task import Ours, Task
from gpunn.errors import ArgumentError, UnknownNameError

PEERS = Path(worker.__file__).parent


def small(**options: Any) -> BenchSettings:
    """Return a measurement of 4-3-2 that takes a second of the counting clock per round."""
    chosen: dict[str, Any] = {
        "hidden": (3,),
        "inputs": 4,
        "classes": 2,
        "batch_sizes": (5, 8),
        "devices": ("reference",),
        "rounds": 3,
        "seconds_per_row": 3.0,
        "cold_start": False,
    }
    return BenchSettings(**chosen | options)


class Silent:
    """Progress that notes what it is told."""

    def __init__(self) -> None:
        self.total, self.done, self.texts = 0, 0, list[str]()

    def begin(self, total: int) -> None:
        self.total = total

    def now(self, text: str) -> None:
        self.texts.append(text)

    def advance(self, parts: int = 1) -> None:
        self.done += parts


def counting_clock() -> Callable[[], float]:
    """A second passes with every look at it."""
    ticks = itertools.count()
    return lambda: float(next(ticks))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Roofline are found with small arrays, and nobody waits for a BLAS to sleep."""
    monkeypatch.setattr(bounds, "LARGE_PRODUCT", {})
    monkeypatch.setattr(bounds, "LARGE_COPY", {})
    monkeypatch.setattr(measure, "SETTLED", 0.0)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All frameworks seem to be there."""
    monkeypatch.setattr(processes, "missing_packages", lambda name, python: [])


def bench_of(settings: BenchSettings, start: Any = FakePeer) -> Bench:
    return Bench(settings, Silent(), counting_clock(), start)


def shown(found: dict[str, Any], width: int = 220) -> str:
    console = Console(width=width, file=io.StringIO())
    report.show(found, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


# Bounds


@pytest.fixture(scope="module")
def ours() -> Iterator[Ours]:
    one = Ours(Task(small()), "reference", "float32", "sgd", 5)
    yield one
    one.trainer.release()


def test_products_of_a_step_are_those_of_back_propagation(ours: Ours) -> None:
    shapes = bounds.product_shapes(ours.plan)
    assert [(s.m, s.k, s.n) for s in shapes] == [
        (5, 4, 3),  # forward
        (5, 3, 2),
        (5, 2, 3),  # gradient of the hidden layer, through the transposed kernel
        (3, 5, 2),  # gradients of the kernels
        (4, 5, 3),
    ]
    assert [s.flops for s in shapes] == [120, 60, 60, 60, 120]
    assert shapes[2].stored == ((5, 2), (3, 2))
    assert shapes[4].stored == ((5, 4), (5, 3))


def test_bound_is_the_slower_of_flops_and_bytes_call_by_call(ours: Ours) -> None:
    dense = ours.plan.programs["train"][1]
    # 5x4 @ 4x3: 120 FLOPs, and 30 for bias and activation; 20 + 12 + 3 + 15 floats.
    assert ours.plan.step_cost(dense) == (150, 200)
    by_flops = bounds.Roofline(10.0, 1e9, 1e9)
    by_bytes = bounds.Roofline(1e9, 10.0, 50.0)
    assert bounds.call_bound(ours.plan, dense, by_flops) == 15
    assert bounds.call_bound(ours.plan, dense, by_bytes) == 4  # at the faster of both copies
    assert bounds.call_bound(ours.plan, dense, bounds.Roofline(None, 50.0, 50.0)) == 4
    assert bounds.step_bound(ours.plan, by_flops) == pytest.approx(
        ours.plan.flops("train") / 10, rel=1e-6
    )
    assert bounds.step_bound(ours.plan, by_bytes) == pytest.approx(ours.plan.bytes("train") / 50)


def test_of_two_measurements_the_higher_ceiling_counts() -> None:
    one, other = bounds.Roofline(5.0, 2.0, 9.0), bounds.Roofline(None, 3.0, 1.0)
    assert one.best(other) == other.best(one) == bounds.Roofline(5.0, 3.0, 9.0)


def test_ceilings_follow_from_the_clock() -> None:
    found = bounds.measure_roofline(NumpyReference(), "float32", 4.0, counting_clock())
    assert found.flops == 2 * bounds.SMALL**3  # in a second
    assert found.large_copy == 2 * bounds.SMALL**2
    assert bounds.copy_rate(NumpyReference(), 100, 2.0, counting_clock()) == 200


@pytest.mark.parametrize("flags", [(False, False), (False, True), (True, False), (True, True)])
def test_products_are_computed(flags: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    original = np.matmul
    monkeypatch.setattr(np, "matmul", lambda a, b, out: results.append(original(a, b, out=out)))
    shape = roofline.GemmShape(3, 4, 5, *flags)
    roofline.product_call(NumpyReference(), shape, "float64")()
    rng = np.random.default_rng(0)
    left, right = (rng.random(size) for size in shape.stored)
    expected = (left.T if flags[0] else left) @ (right.T if flags[1] else right)
    np.testing.assert_allclose(results[0], expected)


def test_memory_is_that_of_the_layout(ours: Ours) -> None:
    found = memory.region_bytes(ours.plan)
    # Two kernels and two biases, each padded to 256 bytes.
    assert found["parameters"] == 4 * 256
    assert bounds.working_set(ours.plan) == sum(found.values())


# Profile


class CountingTimer(timing.Timer):
    """A point is a second after the one before, and `slow` more behind call 2."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.times: list[float] = []

    def record(self) -> None:
        last = self.times[-1] if self.times else 0.0
        self.times.append(last + (6.0 if self.log and self.log[-1] == 2 else 1.0))

    def seconds(self) -> list[float]:
        times, self.times = self.times, []
        return [b - a for a, b in itertools.pairwise(times)]


def test_every_call_is_timed_within_its_step() -> None:
    log: list[Any] = []
    calls = [lambda i=i: log.append(i) for i in range(4)]
    steps = profile.BLOCK + 3
    times = profile.time_calls(calls, steps, CountingTimer(log), lambda: log.append("start"))
    assert log == ["start", 0, 1, 2, 3] * steps
    assert times == [[1.0] * steps, [1.0] * steps, [6.0] * steps, [1.0] * steps]


def test_profile_has_each_call_of_the_plan_once(ours: Ours) -> None:
    steps = ours.plan.programs["train"]
    times = [[2.0 + i, 1.5 + i, 9.0 + i] for i in range(len(steps))]
    found = profile.table(ours.plan, times, 0.5, 100.0, bounds.Roofline(10.0, 10.0, 10.0))
    results = [(call["op"], call["result"]) for call in found["calls"]]
    assert results == [(s.op, next(iter(s.outputs.values()))) for s in steps]
    assert [call["seconds"] for call in found["calls"]] == [1.5 + i for i in range(len(steps))]
    assert sum(call["share"] for call in found["calls"]) == pytest.approx(1)
    assert found["between_seconds"] == 100 - found["sum_seconds"]
    dense = found["calls"][1]
    assert dense["product"] == [5, 4, 3]
    assert dense["flops_per_second"] == 150 / 2.5
    assert (dense["bound_seconds"], dense["reached"]) == (20.0, 20 / 2.5)


def test_events_are_read_when_the_device_is_done() -> None:
    log = []

    class Event:
        def record(self, stream: str) -> None:
            log.append(stream)
            self.at = len(log)

    class Driver:
        _stream = "ours"

        class _cuda:
            pass

        def current(self) -> Any:
            return nullcontext()

        def synchronize(self) -> None:
            log.append("wait")

    Driver._cuda.Event = Event  # type: ignore[attr-defined]
    Driver._cuda.get_elapsed_time = lambda a, b: 1e3 * (b.at - a.at)  # type: ignore[attr-defined]

    class Backend:
        driver = Driver()

    timer = timing.timer(Backend())  # type: ignore[arg-type]
    for _ in range(3):
        timer.record()
    assert timer.seconds() == [1.0, 1.0]
    assert log == ["ours"] * 3 + ["wait"]
    assert timer.seconds() == []


# Settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precisions": ("float16",)}, "Unknown precision 'float16'"),
        ({"optimizers": ("sdg",)}, "did you mean 'sgd'"),
        ({"peers": ("pytorch",)}, "did you mean 'torch'"),
        ({"batch_sizes": ()}, "batch_sizes is empty"),
        ({"batch_sizes": (5, 5)}, "names one twice: 5, 5"),
        ({"batch_sizes": (0,)}, "batch_sizes must be at least 1, not 0"),
        ({"dropout": 1.0}, "dropout must be from 0 to below 1"),
        ({"seconds_per_row": 0.0}, "seconds_per_row must be a number above 0"),
        ({"classes": 1}, "classes must be at least 2"),
        ({"peer_python": "/nowhere/python"}, "no Python '/nowhere/python'"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        small(**options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "gpu"], "Unknown device 'gpu'; did you mean 'cuda'"),
        (["--batch-size", "32;64"], "--batch-size must be whole numbers with commas"),
        (["--compare", "tensorflow"], "Unknown peer 'tensorflow'"),
        (["--device", "cpu", "--precision", "tf32"], "nothing to measure. cpu, tf32: Device 'cpu'"),
        (["--json", "nowhere/a.json"], "nowhere/a.json: its folder does not exist"),
        (["--json", "."], ".: is a folder, not a file"),
    ],
)
def test_mistakes_on_the_command_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_devices_by_default_are_those_that_are_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpunn.backends import select

    states = {"cuda": True, "cpu": True}
    for name in states:
        status = lambda n=name: DeviceStatus(n, states[n], "")  # noqa: E731
        monkeypatch.setattr(select, f"{name}_status", status)
    assert settings_module.usable_devices() == ("cuda", "cpu")
    states["cuda"] = False
    assert settings_module.usable_devices() == ("cpu",)
    states["cpu"] = False
    with pytest.raises(ArgumentError, match="neither a GPU nor the CPU"):
        settings_module.usable_devices()


# The measurement


def test_rounds_alternate() -> None:
    order = interleaved(dict.fromkeys("ABC", lambda: None), 3)
    assert "".join(name for _, name, _ in order) == "ABCCBAABC"
    assert [turn for turn, _, _ in order] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_what_is_measured(installed: None) -> None:
    peers: list[FakePeer] = []

    def start(*arguments: Any) -> FakePeer:
        peers.append(FakePeer(*arguments))
        return peers[-1]

    bench = bench_of(small(peers=("jax",), profile=True, optimizers=("sgd", "adam")), start)
    found = bench.run()
    assert found["complete"]
    assert [(r["optimizer"], r["batch_size"]) for r in found["rows"]] == [
        *(("sgd", 5), ("sgd", 8), ("adam", 5), ("adam", 8))
    ]
    for row in found["rows"]:
        assert set(row["sides"]) == {"gpunn", "products", "jax"}
        assert row["sides"]["jax"]["rounds"] == [2.0] * 3
        assert row["sides"]["jax"]["step_seconds"]["median"] == 2.0 / row["steps_per_round"]
        speed = row["batch_size"] * row["steps_per_round"] / 2.0
        assert row["sides"]["jax"]["samples_per_second"] == speed
        assert row["sides"]["jax"]["reached"] == row["bound_seconds"] * row["steps_per_round"] / 2
        ratio = row["sides"]["jax"]["time_over_gpunn"]["median"]
        assert ratio == 2.0 / row["sides"]["gpunn"]["rounds"][0]
        assert row["sides"]["gpunn"]["check"]["steps"] == measure.CHECKED_STEPS
        assert row["bound_seconds"] > 0
    assert len(found["profiles"]) == 4
    for entry, row in zip(found["profiles"], found["rows"], strict=True):
        assert sum(call["flops"] for call in entry["calls"]) == row["flops"]
    (inference,) = found["inference"]
    assert inference["sides"]["jax"]["latency"]["rounds"] == [4.0] * 3
    (peer,) = peers
    assert peer.closed
    assert peer.asked[0] == "start"
    assert "".join(do[0] for do in peer.asked[1:]).startswith("srrrc" * 4 + "ppp")
    progress = bench.progress
    assert isinstance(progress, Silent)
    assert progress.done == progress.total
    json.dumps(command.finite(found), allow_nan=False)


def test_tables_name_device_precision_and_threads(installed: None) -> None:
    found = bench_of(small(peers=("jax",), devices=("cpu",), threads=1, profile=True)).run()
    text = shown(found)
    (line,) = [line for line in text.splitlines() if "jax" in line and " 8 " in line]
    cells = line.split()
    assert cells[:6] == ["cpu", "float32", "1", "sgd", "8", "jax"]
    for title in ("Roofline", "Training", "Inference", "A step call by call", "Memory"):
        assert title in text
    assert "jax on cpu: fake 1.0" in text
    assert "4-3-2" in text
    assert text.count("softmax_cross_entropy") == 2
    assert "Cut short" not in text


def test_no_figure_is_cut_off_on_a_narrow_screen(installed: None) -> None:
    found = bench_of(small(peers=("jax",), profile=True)).run()
    narrow = shown(found, 60)
    assert "…" not in narrow
    for line in shown(found).splitlines():
        if " jax " in line:
            assert line.split() in [other.split() for other in narrow.splitlines()]


def test_a_busy_machine_is_said_to_be_one() -> None:
    found = bench_of(small(batch_sizes=(5,))).run()
    assert "busy: 4.2 programs" in shown(found | {"load_before": 4.2})
    assert "busy" not in shown(found | {"load_before": 0.1})
    assert "busy" not in shown(found | {"load_before": None})


def test_a_precision_that_a_device_lacks_is_left_out_and_named() -> None:
    found = bench_of(small(precisions=("float32", "tf32"), batch_sizes=(5,))).run()
    assert [row["precision"] for row in found["rows"]] == ["float32"]
    assert "left out: reference, tf32" in shown(found)


@needs_compiler
def test_the_simulator_is_measured_where_it_is_asked_for() -> None:
    settings = small(devices=("simulator",), batch_sizes=(2,), rounds=1, seconds_per_row=1.0)
    (row,) = bench_of(settings).run()["rows"]
    assert (row["device"], row["threads"]) == ("simulator", None)
    assert row["sides"]["gpunn"]["check"]["loss"] > 0


def test_ctrl_c_leaves_what_was_measured(
    installed: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Interrupted(FakePeer):
        def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
            answer = super().ask(do, **arguments)
            if self.asked.count("round") == 5:  # the second of the second row
                raise KeyboardInterrupt
            return answer

    def make(settings: BenchSettings, progress: Any) -> Bench:
        return Bench(settings, progress, counting_clock(), Interrupted)

    monkeypatch.setattr(command, "Bench", make)
    json_file, picture = tmp_path / "a.json", tmp_path / "a.png"
    assert command.run(small(peers=("jax",)), json_file, picture) == 130
    found = json.loads(json_file.read_text())
    assert not found["complete"]
    assert [len(row["sides"]["jax"]["rounds"]) for row in found["rows"]] == [3, 1]
    assert found["rows"][1]["sides"]["gpunn"]["step_seconds"]["median"] > 0
    assert "Cut short" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_whole_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    json_file, picture = tmp_path / "a.json", tmp_path / "a.png"
    options = "--device reference --hidden 3 --inputs 4 --classes 2 --batch-size 5,8 --rounds 2"
    options += " --seconds-per-row 0.01 --no-cold-start --profile --dropout 0.25"
    code = main(["bench", *options.split(), "--json", str(json_file), "--plot", str(picture)])
    assert code == 0
    assert "dropout 0.25" in capsys.readouterr().out
    found = json.loads(json_file.read_text())
    assert found["complete"]
    assert found["settings"]["dropout"] == 0.25
    assert {"processor", "cores", "python", "versions"} <= set(found["machine"])
    assert all(len(row["sides"]["gpunn"]["rounds"]) == 2 for row in found["rows"])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_start_of_a_process() -> None:
    found = memory.cold_start(small(), "reference", "warm")
    assert set(found["seconds"]) == {"import", "compile", "first_fit", "second_fit"}
    assert "Unknown device" in memory.cold_start(small(), "nothing", "cold")["error"]


def test_curves_of_the_picture() -> None:
    rows = [
        {
            "device": "cpu",
            "precision": "float32",
            "optimizer": "sgd",
            "batch_size": size,
            "bound_seconds": 0.5,
            "sides": {
                "gpunn": {"samples_per_second": 3.0 * size},
                "products": {"step_seconds": {}},
            },
        }
        for size in (8, 2)
    ]
    assert plot.curves({"rows": rows}) == {
        ("cpu", "float32", "sgd"): {
            "gpunn": [(2, 6.0), (8, 24.0)],
            "bound": [(2, 4.0), (8, 16.0)],
        }
    }


# Peers


def test_missing_peers_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> object | None:
        return None if name in ("torch", "jax") else object()

    monkeypatch.setattr(processes.importlib.util, "find_spec", find_spec)
    assert processes.missing_packages("sklearn", None) == []
    monkeypatch.setattr(processes.importlib.util, "find_spec", lambda name: None)
    assert processes.missing_packages("sklearn", None) == ["scikit-learn"]
    found = bench_of(small(peers=("torch", "keras"), batch_sizes=(5,))).run()
    assert set(found["rows"][0]["sides"]) == {"gpunn", "products"}
    text = shown(found)
    assert "torch on reference: missing; pip install torch" in text
    assert "torch.compile on reference: missing; pip install torch" in text
    assert "keras on reference: missing; pip install keras jax" in text


def test_an_installed_package_says_where_the_peers_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # None: it cannot be imported.
    monkeypatch.setitem(sys.modules, "benchmarks.peers.processes", None)
    monkeypatch.setattr(gpunn, "__file__", str(tmp_path / "site-packages/gpunn/__init__.py"))
    assert main(["bench", "--device", "reference", "--compare", "numpy"]) == 2
    assert "benchmarks/peers of gpunn's repository" in capsys.readouterr().err


def test_missing_peers_of_another_python() -> None:
    assert processes.missing_packages("sklearn", sys.executable) == []


DIES = """
import json, sys
for number, line in enumerate(sys.stdin):
    if json.loads(line)["do"] == "round":
        sys.exit("out of luck")
    print(json.dumps({"ok": True, "warm_up_seconds": 1.0}), flush=True)
"""


def test_the_measurement_goes_on_without_a_peer_that_dies(installed: None) -> None:
    def start(name: str, threads: int, python: str | None) -> processes.PeerProcess:
        return processes.PeerProcess(name, threads, command=[sys.executable, "-c", DIES])

    found = bench_of(small(peers=("jax",)), start).run()
    assert found["complete"]
    assert [set(row["sides"]) for row in found["rows"]] == [{"gpunn", "products"}] * 2
    assert all(len(row["sides"]["gpunn"]["rounds"]) == 3 for row in found["rows"])
    assert "jax on reference: failed: died with exit code 1: out of luck" in shown(found)


def test_what_a_peer_refuses_is_left_out_and_named(installed: None) -> None:
    class OnlyFive(FakePeer):
        def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
            if do == "setup" and arguments["batch_size"] != 5:
                raise processes.PeerRefusalError("five at once")
            return super().ask(do, **arguments)

    found = bench_of(small(peers=("jax",), batch_sizes=(8, 5)), OnlyFive).run()
    assert ["jax" in row["sides"] for row in found["rows"]] == [False, True]
    assert "jax on reference: fake 1.0; refused: five at once" in shown(found)

    class Never(FakePeer):
        def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
            raise processes.PeerRefusalError("no GPU")

    found = bench_of(small(peers=("jax",), batch_sizes=(5,)), Never).run()
    assert "jax on reference: refused: no GPU" in shown(found)


def test_a_peer_that_cannot_do_it_says_so(tmp_path: Path) -> None:
    Task(small()).save(tmp_path)
    peer = processes.PeerProcess("sklearn", 1)
    try:
        peer.ask("start", folder=str(tmp_path), threads=1, device="cpu")
        task = {"batch_size": 5, "optimizer": "sgd", "rate": 0.01, "precision": "float32"}
        with pytest.raises(processes.PeerRefusalError, match="has no dropout"):
            peer.ask("setup", steps=2, epochs=1, dropout=0.5, **task)
        answer = peer.ask("setup", steps=2, epochs=1, dropout=0.0, **task)  # and goes on
        assert set(answer) == {"warm_up_seconds"}
    finally:
        peer.close()


Losses = Callable[[str, str], tuple[float, float]]


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Losses]:
    """The loss of gpunn's and of a peer's first 50 steps, in float64; peers are started once."""
    task = Task(small(hidden=(6, 5), inputs=12, classes=3, batch_sizes=(16,)))
    folder = tmp_path_factory.mktemp("task")
    task.save(folder)
    started: dict[str, processes.PeerProcess] = {}

    def compared(name: str, optimizer: str) -> tuple[float, float]:
        ours = Ours(task, "reference", "float64", optimizer, 16).check(50)
        if name not in started:
            started[name] = processes.PeerProcess(name, 1)
            started[name].ask("start", folder=str(folder), threads=1, device="cpu")
        peer = started[name]
        options = {"rate": OPTIMIZERS[optimizer], "dropout": 0.0, "precision": "float64"}
        peer.ask("setup", steps=3, epochs=2, batch_size=16, optimizer=optimizer, **options)
        assert peer.ask("round")["seconds"] > 0  # which must not change what is checked
        return ours, peer.ask("check", steps=50)["loss"]

    yield compared
    for peer in started.values():
        peer.close()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_scikit_learn_trains_the_same_net(optimizer: str, losses: Losses) -> None:
    ours, theirs = losses("sklearn", optimizer)
    # Images are scaled in float32 there.
    assert theirs == pytest.approx(ours, rel=1e-8)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_plain_numpy_trains_the_same_net(optimizer: str, losses: Losses) -> None:
    ours, theirs = losses("numpy", optimizer)
    assert theirs == pytest.approx(ours, rel=1e-8)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_pytorch_trains_the_same_net(optimizer: str, losses: Losses) -> None:
    if processes.missing_packages("torch", None):
        pytest.skip("needs PyTorch")
    ours, theirs = losses("torch", optimizer)
    # PyTorch adds Adam's epsilon after the correction of the bias, Keras and gpunn before it.
    assert theirs == pytest.approx(ours, rel=1e-5 if optimizer == "adam" else 1e-8)


def test_every_peer_can_be_imported_without_its_framework() -> None:
    code = """
import sys
for name in ("torch", "jax", "jaxlib", "keras", "sklearn", "gpunn"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
import worker
for name in worker.MODULES:
    print(name, worker.load(name).Peer.__name__)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(PEERS)], capture_output=True, text=True, check=True
    )
    names = [line.split()[0] for line in done.stdout.splitlines()]
    ways = [way for ways in settings_module.PEERS.values() for way in ways]
    # The last two are those of benchmarks/gpu_training.py.
    assert sorted(names) == sorted([*ways, "torch.autotune", "torch.graphs"])


def test_the_worker_times_whole_rounds(tmp_path: Path) -> None:
    log: list[Any] = []

    class Peer:
        versions: dict[str, str] = {}  # noqa: RUF012

        def __init__(self, images: Any, labels: Any, *others: Any) -> None:
            log.append((images.dtype.name, float(images.max()) <= 1, labels.dtype.name))

        def setup(self, **task: Any) -> None:
            log.append(task)

        def epoch(self, steps: int, shuffle: bool) -> float:
            log.append((steps, shuffle))
            return 0.25

    Task(small()).save(tmp_path)
    one = worker.Worker("jax", Peer)
    one.start(str(tmp_path), 1, "cpu")
    one.setup(steps=4, epochs=2, batch_size=5)
    assert one.round()["loss"] == one.check(7)["loss"] == 0.25
    first, second = {"batch_size": 5}, ("float32", True, "int64")
    assert log == [second, first, *[(4, True)] * 4, first, (7, False)]


def test_unknown_names_are_errors_of_their_own() -> None:
    with pytest.raises(UnknownNameError):
        small(peers=("tensorflow",))
