"""The table of tuned products: kept, read, made use of; and how ``gpunn tune`` fills it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from op_cases import PRODUCTS, precision_cases
from op_runs import (
    assert_equals_reference,
    assert_equals_rounded_reference,
    cases,
    generator,
    needs_compiler,
)

from gpunn.backends import select
from gpunn.backends.cuda import backend as backend_module
from gpunn.backends.cuda import tuning
from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.cuda.driver import Launch, LibraryError, LibraryProduct
from gpunn.backends.cuda.simulator.driver import SimulatorDriver
from gpunn.backends.cuda.tilings import TILES, Tile, choose_tiling, tilings
from gpunn.backends.cuda.tuning import Choice, GpuModel, Key, Table
from gpunn.backends.select import Selection, cuda_status, select_backend
from gpunn.cli.app import main
from gpunn.cli.tune import measure as tune_module
from gpunn.cli.tune import run as tune_command
from gpunn.cli.tune.measure import Tuner, TuneSettings, candidates, decide
from gpunn.cli.tune.steps import SHORT, Way, chosen
from gpunn.errors import ArgumentError, DeviceError

pytestmark = needs_compiler

H100 = GpuModel("NVIDIA H100 80GB HBM3", 90, 132)
FORWARD = Key("FORWARD", "float32", 4, 6, 8)
SPLIT = Key("KERNEL_GRADIENT", "tf32", 784, 300, 8192)


def table() -> Table:
    split = next(shape for shape in shapes(SPLIT, TILES["tf32"][4]) if shape.splits > 1)
    choices = {FORWARD: Choice(seconds=2e-6, default_seconds=3e-6), SPLIT: Choice.own(split)}
    return Table(choices, dependent_launch=True, graph_steps=256)


def shapes(key: Key, tile: Tile) -> list[Any]:
    return list(tilings(*key, tile, SimulatorDriver().limits))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for tables."""
    monkeypatch.setattr(tuning, "user_cache", lambda: tmp_path)
    monkeypatch.delenv(tuning.IGNORED, raising=False)
    return tmp_path


# The file


def test_a_table_is_read_as_it_was_written() -> None:
    written = table()
    file = tuning.save(H100, written)
    found = tuning.load(H100)
    assert found.choices == written.choices
    assert found.dependent_launch is True and found.graph_steps == 256
    assert found.choices[FORWARD].seconds == 2e-6
    assert found.choices[FORWARD].default_seconds == 3e-6
    assert found.digest == written.digest
    assert "H100" in file.name and "sm_90" in file.name and tuning.kernels_digest() in file.name
    assert list(file.parent.iterdir()) == [file]  # no scraps


def test_gpus_have_files_of_their_own() -> None:
    tuning.save(H100, table())
    for other in (GpuModel("NVIDIA A100", 80, 108), GpuModel(H100.model, 86, 132)):
        assert tuning.table_file(other) != tuning.table_file(H100)
        assert not len(tuning.load(other))
    assert tuning.forget(H100) == tuning.table_file(H100)
    assert not len(tuning.load(H100)) and tuning.forget(H100) is None


@pytest.mark.parametrize("value", ["off", "0", " Off "])
def test_the_environment_turns_tables_off(value: str) -> None:
    tuning.save(H100, table())
    assert not len(tuning.load(H100, environment={tuning.IGNORED: value}))
    assert len(tuning.load(H100, environment={tuning.IGNORED: "on"})) == 2


def damage(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        contents = json.loads(file.read_text())
        change(contents)
        file.write_text(json.dumps(contents))

    return write


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda file: file.write_text(file.read_text()[:-9]), "it is damaged"),
        (lambda file: file.write_text("[]"), "it is damaged"),
        (lambda file: file.write_bytes(b"\xff\xfe\x00"), "cannot be read"),
        (damage(lambda c: c["gpu"].update(model="another")), "its gpu is {'model': 'another'"),
        (damage(lambda c: c["gpu"].update(multiprocessors=1)), "its gpu is"),
        (damage(lambda c: c.update(format=0)), "its format is 0, not 1"),
        (damage(lambda c: c.update(kernels="0")), "its kernels is '0', not"),
        (damage(lambda c: c["products"][1].update(splits=0)), "it is damaged"),
        (damage(lambda c: c["products"][1].update(tile=[1, 2])), "it is damaged"),
        (damage(lambda c: c["products"][0].update(form="SIDEWAYS")), "it is damaged"),
        (damage(lambda c: c["products"][0].update(m="50")), "it is damaged"),
        (damage(lambda c: c.update(dependent_launch="perhaps")), "it is damaged"),
        (damage(lambda c: c.update(graph_steps=0)), "it is damaged"),
    ],
)
def test_a_file_that_is_damaged_or_foreign_is_left_out(
    harm: Callable[[Path], None], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tuning.save(H100, table())
    harm(file)
    assert not len(tuning.load(H100))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(file) in record.getMessage() and why in record.getMessage()


def test_the_digest_is_of_choices_and_not_of_times() -> None:
    one, other = table(), table()
    other.choices[FORWARD] = Choice(seconds=1.0, default_seconds=2.0)
    assert one.digest == other.digest
    other.choices[FORWARD] = Choice.own(shapes(FORWARD, TILES["float32"][0])[0])
    assert one.digest != other.digest
    assert one.digest == Table(one.choices).digest  # how it is launched changes no bit
    said = f"2 products tuned, table {one.digest}"
    assert one.describe() == f"{said}, graphs of 256 steps, dependent launches"
    assert Table(one.choices).describe() == said and Table().describe() == ""
    assert Table(dependent_launch=False).describe() == "ordinary launches"


# Making use of it


def works(backend: CudaBackend, op: str, key: Key) -> list[Any]:
    """Return what `op` launches for a product of this shape."""
    m, n, k = key.m, key.n, key.k
    stored = {
        "dense": {"values": (m, k), "kernel": (k, n), "bias": (n,), "result": (m, n)},
        "dense_kernel_update": {"values": (k, m), "gradient": (k, n), "kernel": (m, n)},
    }[op]
    arrays = {role: np.zeros(shape, np.float32) for role, shape in stored.items()}
    if op == "dense_kernel_update":
        arrays["learning_rate"] = np.zeros(1, np.float32)
    attrs = {"precision": key.precision, "activation": "relu", "parameter": 0.0}
    return backend.work(op, arrays, attrs, m)


def test_the_table_decides_what_is_launched() -> None:
    driver = SimulatorDriver()
    own = CudaBackend(driver, products="own")
    tuned = CudaBackend(driver, table=table())
    product, finish = works(tuned, "dense", FORWARD)
    assert isinstance(product, LibraryProduct) and product.kind == "float32"
    assert isinstance(finish, Launch) and finish.symbol == "finish_dense"
    assert [work.symbol for work in works(own, "dense", FORWARD)] == ["dense"]

    choice = tuned.table.choices[SPLIT]
    cut, finish = works(tuned, "dense_kernel_update", SPLIT)
    assert choice.tile is not None
    assert set(choice.tile.defines()) <= set(cut.source.defines)
    assert cut.grid[1] == choice.splits and cut.block[0] == choice.tile.threads
    assert finish.symbol == "finish_dense_kernel_gradient"
    default = choose_tiling(*SPLIT, driver.limits)
    (uncut, *_) = works(own, "dense_kernel_update", SPLIT)
    assert uncut.grid[1] == default.splits
    assert (default.tile, default.splits) != (choice.tile, choice.splits)


def test_what_the_table_does_not_know_is_cut_by_the_cost_model() -> None:
    driver = SimulatorDriver()
    own, tuned = CudaBackend(driver, products="own"), CudaBackend(driver, table=table())
    for key in (FORWARD._replace(m=5), FORWARD._replace(precision="tf32")):
        (one,), (other,) = works(own, "dense", key), works(tuned, "dense", key)
        assert (one.source, one.grid, one.block) == (other.source, other.grid, other.block)


@pytest.mark.parametrize(
    "choice",
    [
        Choice(Tile(24, 24, 24, 1, 1, 1, 2, 1), 1),  # of other kernels
        Choice(TILES["float32"][0], 60),  # the reduction has no 60 parts
        Choice(TILES["float32"][1], 1),  # 92 kB of shared memory
    ],
)
def test_a_choice_that_this_device_has_not_is_left_out(choice: Choice) -> None:
    driver = SimulatorDriver(shared_memory=48 << 10)
    own = CudaBackend(driver, products="own")
    tuned = CudaBackend(driver, table=Table({FORWARD: choice}))
    (one,), (other,) = works(own, "dense", FORWARD), works(tuned, "dense", FORWARD)
    assert one.source == other.source and isinstance(other, Launch)


def test_without_the_library_the_table_s_products_are_our_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    driver = SimulatorDriver()

    def fail() -> None:
        raise LibraryError("there is no nvmath-python")

    monkeypatch.setattr(driver, "check_library", fail)
    caplog.set_level(logging.INFO, logger="gpunn")
    tuned = CudaBackend(driver, table=table())
    for _ in range(2):
        (work,) = works(tuned, "dense", FORWARD)
        assert isinstance(work, Launch)
    assert tuned.describe().endswith("; no cuBLASLt")
    first, record = caplog.records
    assert first.getMessage() == f"simulator: {table().describe()}"
    assert record.levelno == logging.INFO and "there is no nvmath-python" in record.getMessage()


def test_a_product_that_the_library_has_no_more_is_our_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    driver = SimulatorDriver()

    def fail(product: LibraryProduct) -> Any:
        raise LibraryError("cuBLASLt has no such product")

    monkeypatch.setattr(driver, "prepare_product", fail)
    caplog.set_level(logging.INFO, logger="gpunn")
    case = next(case for case in cases("dense", "float32") if case.rows)
    chosen = Table()
    chosen.choices = Everything(0)
    monkeypatch.setattr(Everything, "get", lambda self, key: Choice())
    assert_equals_reference(CudaBackend(driver, table=chosen), case)
    assert "cuBLASLt has no such product" in caplog.records[-1].getMessage()
    with pytest.raises(DeviceError, match="no such product"):  # who asks for it by name is told
        assert_equals_reference(CudaBackend(driver, products="library"), case)


def test_products_that_were_asked_for() -> None:
    driver = SimulatorDriver()
    with pytest.raises(ArgumentError, match="products must be one of 'auto', 'own', 'library', no"):
        CudaBackend(driver, products="best")
    own = CudaBackend(driver, products="own", table=table())
    assert isinstance(works(own, "dense", FORWARD)[0], Launch)
    library = CudaBackend(driver, products="library")
    assert isinstance(works(library, "dense", SPLIT)[0], LibraryProduct)
    assert library.describe().endswith("; products by the library")
    tuned = CudaBackend(driver, table=table())
    assert tuned.describe() == f"{own.describe()}; {tuned.table.describe()}"


def test_the_table_in_the_cache_is_for_devices_whose_times_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = SimulatorDriver()
    tuning.save(GpuModel.of(driver), table())
    assert not len(CudaBackend(driver).table)
    monkeypatch.setattr(SimulatorDriver, "timed", True)
    backend: Any = select_backend("simulator").backend
    assert backend.table.choices == table().choices
    monkeypatch.setenv(tuning.IGNORED, "off")
    # The environment is that of the process.
    assert not len(tuning.load(GpuModel.of(driver)))


def test_gpunn_devices_names_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = SimulatorDriver()
    driver.name = "cuda:0"
    tuned = CudaBackend(driver, table=table())
    chosen = Selection(tuned, "a GPU that can be used")
    monkeypatch.setattr(select, "select_backend", lambda device: chosen)
    assert main(["devices"]) == 0
    assert f"2 products tuned, table {table().digest}" in capsys.readouterr().out


class Everything(dict[Key, Choice]):
    """Choices for all products: in turn the library, whole, and in as many parts as can be."""

    def __init__(self, turn: int) -> None:
        self.turn = turn

    def get(self, key: Key, default: Any = None) -> Any:
        first, second = (shapes(key, tile) for tile in TILES[key.precision][:2])
        found = [Choice(), Choice.own(second[0]), Choice.own(first[-1])]
        return found[(self.turn + key.m + key.n + key.k) % len(found)]

    def __len__(self) -> int:
        return 1


def tuned_backend(turn: int) -> CudaBackend:
    chosen = Table()
    chosen.choices = Everything(turn)
    return CudaBackend(SimulatorDriver(), table=chosen)


@pytest.mark.parametrize("op", PRODUCTS)
def test_results_do_not_depend_on_the_table(op: str) -> None:
    made = []
    for turn in range(3):
        backend = tuned_backend(turn)
        for case in cases(op, "float32"):
            assert_equals_reference(backend, case)
            works = backend.work(op, case.make(generator(case)), case.attrs, case.rows)
            made += map(type, works)
    assert set(made) == {Launch, LibraryProduct}


def test_rounded_results_do_not_depend_on_the_table() -> None:
    for turn, case in enumerate(precision_cases("tf32")):
        assert_equals_rounded_reference(tuned_backend(turn), case)


# Measuring


SMALL: dict[str, Any] = {"hidden": (6,), "inputs": 8, "outputs": 3, "batch_sizes": (4,)}


class Clock:
    """A timer: `wins` says which candidate is fast; all others take a second for each call."""

    def __init__(self, wins: Callable[[Choice], bool], seconds: float = 0.5) -> None:
        self.wins, self.fast, self.seen = wins, seconds, []
        self.calls: list[Any] = []
        self.seen: list[tuple[Key, Choice]] = []

    def __call__(self, key: Key, choice: Choice, call: Any) -> float:
        self.seen.append((key, choice))
        return tune_module.REPEATS * (self.fast if self.wins(choice) else 1.0)


def tuner(clock: Clock, driver: SimulatorDriver | None = None, **settings: Any) -> Tuner:
    chosen = TuneSettings(**{**SMALL, "precisions": ("float32",), "quick": True, **settings})
    backend = CudaBackend(driver or SimulatorDriver(), products="own")
    return Tuner(chosen, backend, Table(), timer=clock)


def test_the_fastest_is_chosen_for_every_product_of_a_step() -> None:
    clock = Clock(lambda choice: choice.tile is None)
    one = tuner(clock)
    one.products()
    expected = [
        Key("FORWARD", "float32", 4, 6, 8),
        Key("FORWARD", "float32", 4, 3, 6),
        Key("INPUT_GRADIENT", "float32", 4, 6, 3),
        Key("KERNEL_GRADIENT", "float32", 6, 3, 4),
        Key("KERNEL_GRADIENT", "float32", 8, 6, 4),
    ]
    assert set(one.table.choices) == set(expected) and len(one.rows) == 5
    for choice in one.table.choices.values():
        assert choice == Choice() and (choice.seconds, choice.default_seconds) == (0.5, 1.0)
    # Candidates take turns.
    mine = [choice for key, choice in clock.seen if key == expected[0]]
    count = len(set(mine))
    assert count > 2 and len(mine) == count * one.settings.rounds
    assert mine[:count] == mine[count : 2 * count][::-1]


def test_a_tile_that_wins_is_chosen_and_used() -> None:
    wanted = Choice(TILES["float32"][3], 1)
    one = tuner(Clock(lambda choice: choice == wanted), quick=False)
    one.products()
    assert set(one.table.choices.values()) == {wanted}
    tuned = CudaBackend(one.backend.driver, table=one.table)
    (work,) = works(tuned, "dense", FORWARD)
    assert set(TILES["float32"][3].defines()) <= set(work.source.defines)


@pytest.mark.parametrize("seconds", [0.985, 1.0, 2.0])
def test_the_cost_model_s_choice_stays_unless_it_is_beaten_clearly(seconds: float) -> None:
    one = tuner(Clock(lambda choice: choice.tile is None, seconds))
    one.products()
    limits = one.backend.driver.limits
    for key, choice in one.table.choices.items():
        assert choice == Choice.own(choose_tiling(*key, limits))


def test_noise_decides_nothing() -> None:
    default, other = Choice(TILES["float32"][0], 1), Choice()
    steady, noisy = [1.0] * 9, [0.5, 1.5, 0.9, 1.1, 0.94, 1.2, 0.4, 0.9, 1.3]
    assert decide({default: steady, other: noisy}, default) == default
    assert decide({default: noisy, other: [0.91] * 9}, default) == default
    assert decide({default: steady, other: [0.97] * 9}, default) == other
    assert decide({default: steady, other: [0.99] * 9}, default) == default


@pytest.mark.parametrize("quick", [False, True])
def test_candidates(quick: bool) -> None:
    backend = CudaBackend(SimulatorDriver(), products="own")
    for key in (SPLIT, FORWARD, Key("INPUT_GRADIENT", "bfloat16", 8192, 300, 100)):
        found = candidates(key, backend, quick=quick)
        assert found[0] == Choice.own(choose_tiling(*key, backend.driver.limits))
        assert len(set(found)) == len(found)
        assert all(choice.tiling(key, backend.driver.limits) for choice in found)
        if quick:
            assert len(found) <= tune_module.QUICK_BEST
        else:
            whole = {choice.tile for choice in found if choice.splits == 1}
            fit = {t for t in TILES[key.precision] if shapes(key, t)}
            assert whole == {t for t in fit if t.shared_bytes(*key[:2]) <= 232448}


def test_a_device_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = SimulatorDriver()

    def fail() -> None:
        raise LibraryError("no nvmath-python")

    monkeypatch.setattr(driver, "check_library", fail)
    clock = Clock(lambda choice: False)
    one = tuner(clock, driver)
    one.products()
    assert one.notes == ["the library is left out: no nvmath-python"]
    assert all(choice.tile for _, choice in clock.seen) and len(one.rows) == 5


def test_a_gpu_without_tensor_cores() -> None:
    one = tuner(Clock(lambda choice: False), SimulatorDriver(architecture=75), precisions=("tf32",))
    one.products()
    assert not one.rows
    (note,) = one.notes
    assert note.startswith("tf32 is left out: ") and "8.0 or later" in note


def test_when_the_time_is_up_no_product_is_begun() -> None:
    one = tuner(Clock(lambda choice: False), seconds=10.0)
    ticks = iter(range(0, 1000, 4))  # the beginning, and a look before each product
    one._clock = lambda: float(next(ticks))
    one.products()
    assert len(one.rows) == 2 and not one.complete


def test_products_are_kept_as_they_are_found() -> None:
    kept: list[int] = []
    clock = Clock(lambda choice: False)
    backend = CudaBackend(SimulatorDriver(), products="own")
    settings = TuneSettings(**SMALL, precisions=("float32",), quick=True)

    def timer(key: Key, choice: Choice, call: Any) -> float:
        if len(kept) == 2:
            raise KeyboardInterrupt
        return clock(key, choice, call)

    one = Tuner(settings, backend, Table(), timer=timer, keep=lambda table: kept.append(len(table)))
    with pytest.raises(KeyboardInterrupt):
        one.products()
    assert kept == [1, 2] and len(one.table) == 2


def test_what_is_timed_is_the_op_in_a_graph() -> None:
    replays: list[tuple[int, int]] = []
    driver = SimulatorDriver()

    def timer(key: Key, choice: Choice, call: Any) -> float:
        before = driver.replays, driver.launches
        call()
        replays.append((driver.replays - before[0], driver.launches - before[1]))
        return 9.0 if choice.tile is None else 1.0

    settings = TuneSettings(**SMALL, precisions=("float32",), quick=True)
    Tuner(settings, CudaBackend(driver, products="own"), Table(), timer=timer).products()
    assert {count for count, _ in replays} == {1}
    # Our kernels are one launch; the library's product is finished by a second.
    assert {count for _, count in replays} == {tune_module.REPEATS, 2 * tune_module.REPEATS}


# Whole steps


@pytest.mark.parametrize(
    ("fast", "found"),
    [
        ([], Way(64, False)),
        ([Way(16, False)], Way(16, False)),
        ([Way(64, True)], Way(64, True)),
        ([Way(256, True)], Way(64, False)),  # at the usual length it does not pay
        ([Way(64, True), Way(256, True)], Way(64, True)),
    ],
)
def test_another_way_to_take_steps_has_to_be_clearly_faster(fast: list[Way], found: Way) -> None:
    ways = [Way(steps, dependent) for dependent in (False, True) for steps in (16, 64, 256)]
    times = {way: [0.9, 0.91, 0.9] if way in fast else [1.0, 1.01, 1.0] for way in ways}
    assert chosen(times) == found
    noisy = {way: [0.8, 1.0, 1.2] if way in fast else [0.9, 1.05, 1.3] for way in ways}
    assert chosen(noisy) == Way(64, False)


@pytest.mark.parametrize("pays", [False, True])
def test_whole_steps_are_timed_in_graphs_from_the_first_row_on(pays: bool) -> None:
    driver = SimulatorDriver()
    counts: dict[Way, set[tuple[int, int]]] = {}

    def timer(what: Any, way: Way, call: Any) -> float:
        assert what == "step"
        before = driver.replays, driver.launches
        call()
        call()  # there are rows for both
        counts.setdefault(way, set()).add((driver.replays - before[0], driver.launches - before[1]))
        return way.steps * (0.5 if pays and way.dependent else 1.0)

    one = Tuner(
        TuneSettings(**SMALL, precisions=("float32",), quick=True),
        CudaBackend(driver, products="own"),
        Table(),
        timer=timer,
    )
    one.whole_steps()
    assert set(counts) == {Way(steps, early) for steps in SHORT for early in (False, True)}
    for way, found in counts.items():
        ((replays, launches),) = found
        assert replays == 2 and launches % (2 * way.steps) == 0
    assert one.table.graph_steps == SHORT[0] and one.table.dependent_launch is pays
    assert [step["chosen"] for step in one.steps].count(True) == 1 and not one.notes
    assert driver.dependent_launches is pays


def test_without_dependent_launches_only_lengths_are_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: Any, wanted: bool) -> None:
        if wanted:
            raise DeviceError("simulator: dependent launches need cuda-bindings.")

    monkeypatch.setattr(SimulatorDriver, "dependent_launches", property(lambda _: False, refuse))
    one = tuner(Clock(lambda choice: False))
    one.whole_steps()
    assert [Way(step["steps"], step["dependent"]) for step in one.steps] == [
        Way(steps, False) for steps in SHORT
    ]
    assert one.table.dependent_launch is False
    (note,) = one.notes
    assert note.startswith("dependent launches are left out: ") and "cuda-bindings" in note


def test_the_table_says_how_steps_are_launched(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gpunn")
    driver = SimulatorDriver()
    backend = CudaBackend(driver, table=Table(dependent_launch=True, graph_steps=3))
    assert driver.dependent_launches
    noted: list[int] = []
    repeated = backend.repeated([lambda: noted.append(1)])
    repeated(20)
    driver.replays = 0
    repeated(11)
    assert len(noted) == 31 and driver.replays == 3 + 2  # of 3 steps, and of 1

    def refuse(self: Any, wanted: bool) -> None:
        raise DeviceError("no")

    monkeypatch.setattr(SimulatorDriver, "dependent_launches", property(lambda _: False, refuse))
    late = CudaBackend(SimulatorDriver(), table=Table(dependent_launch=True))
    assert "dependent launches, which pay here, are left out: no" in caplog.text
    assert late.describe().endswith("; ordinary launches")


# The command


TUNE = ["tune", "--device", "simulator", "--hidden", "6", "--inputs", "8", "--outputs", "3"]
TUNE += ["--batch-sizes", "4", "--precision", "float32", "--quick"]


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    gpu = GpuModel.of(SimulatorDriver())
    assert main(["tune", "--device", "simulator", "--show"]) == 0
    assert "simulator: nothing was tuned; gpunn tune does it" in capsys.readouterr().out
    assert main(TUNE) == 0
    said = capsys.readouterr().out
    found = tuning.load(gpu)
    assert len(found) == 5 and f"5 products tuned, table {found.digest}" in said
    assert "kernel gradient" in said and "8 x 6 x 4" in said and "L2 warm" in said
    assert "Times of the simulator mean nothing" in said
    assert main(["tune", "--device", "simulator", "--show"]) == 0
    shown = capsys.readouterr().out
    assert "8 x 6 x 4" in shown and found.digest in shown
    assert main(["tune", "--device", "simulator", "--forget"]) == 0
    assert f"removed {tuning.table_file(gpu)}" in capsys.readouterr().out.replace("\n", "")
    assert not len(tuning.load(gpu))
    assert main(["tune", "--device", "simulator", "--forget"]) == 0
    assert "nothing was tuned" in capsys.readouterr().out


def test_other_products_of_the_table_stay(capsys: pytest.CaptureFixture[str]) -> None:
    gpu = GpuModel.of(SimulatorDriver())
    tuning.save(gpu, table())
    assert main(TUNE) == 0
    found = tuning.load(gpu)
    assert len(found) == 6
    assert found.choices[SPLIT] == table().choices[SPLIT]


def test_ctrl_c_keeps_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Key] = []

    def timer(key: Key, choice: Choice, call: Any) -> float:
        seen.append(key)
        if len(set(seen)) == 4:  # whole steps, and two products
            raise KeyboardInterrupt
        return 1e-6

    settings = TuneSettings(**SMALL, precisions=("float32",), quick=True)
    assert tune_command.tune(settings, "simulator", timer) == 130
    assert len(tuning.load(GpuModel.of(SimulatorDriver()))) == 2
    assert "Cut short" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--device", "cpu"], "device must be cuda, cuda:N or simulator, not 'cpu'"),
        (["--precision", "float16"], "float16"),
        (["--hidden", "many"], "--hidden must be whole numbers"),
        (["--batch-sizes", "0"], "batch_sizes must be at least 1"),
        (["--seconds", "0"], "seconds"),
        (["--show", "--forget"], "--show and --forget exclude one another"),
    ],
)
def test_mistakes(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TUNE, *options]) == 2
    shown = capsys.readouterr()
    assert said in shown.err and len(shown.err.splitlines()) == 1 and not shown.out


@pytest.mark.skipif(cuda_status().usable, reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for options in ([], ["--show"], ["--forget"]):
        assert main(["tune", *options]) == 2
        shown = capsys.readouterr()
        assert "device 'cuda' cannot be used" in shown.err
        assert len(shown.err.splitlines()) == 1 and not shown.out


def test_the_backend_knows_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not tuned is as `own`: the same launches, by the same way."""
    driver = SimulatorDriver()
    monkeypatch.setattr(backend_module, "choose_tiling", None)  # not asked
    (one,), (other,) = (
        works(CudaBackend(driver, products=products), "dense", FORWARD)
        for products in ("auto", "own")
    )
    assert (one.source, one.grid) == (other.source, other.grid)
