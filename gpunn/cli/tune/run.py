"""``gpunn tune``: from its options to the table in the user's cache, and what is shown of it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from gpunn.backends.cuda import tuning
from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.cuda.tilings import choose_tiling
from gpunn.backends.cuda.tuning import Choice, GpuModel, Key, Table
from gpunn.backends.select import select_backend
from gpunn.cli.bench.report import LiveProgress, micro
from gpunn.cli.reports import make_console, print_table
from gpunn.cli.tune.measure import REPEATS, Timer, Tuner, TuneSettings
from gpunn.errors import ArgumentError


def device_backend(device: str) -> CudaBackend:
    """Return the backend of a GPU, or of the simulator; it has no table of its own.

    Raises
    ------
    ArgumentError
        The device has no kernels of ours to tune.
    DeviceError
        It cannot be used here.
    """
    if device.partition(":")[0] not in ("cuda", "simulator"):
        raise ArgumentError(
            f"tune: device must be cuda, cuda:N or simulator, not {device!r}; the others have "
            "nothing to choose from."
        )
    backend = select_backend(device).backend
    assert isinstance(backend, CudaBackend)
    backend.driver.dependent_launches = False
    return CudaBackend(backend.driver, products="own")


def tune(settings: TuneSettings, device: str, timer: Timer | None = None) -> int:
    """Measure, show, keep; return the exit code: 130 after Ctrl-C."""
    backend = device_backend(device)
    gpu, console, code = GpuModel.of(backend.driver), make_console(sys.stdout), 0
    table = tuning.load(gpu, environment={})
    with LiveProgress(console).shown() as progress:
        tuner = Tuner(
            settings, backend, table, progress, timer=timer, keep=lambda t: tuning.save(gpu, t)
        )
        try:
            tuner.run()
        except KeyboardInterrupt:
            code = 130
    _say(console, backend.driver.describe())
    for step in tuner.steps:
        chosen = ", chosen" if step["chosen"] else ""
        launches = "dependent" if step["dependent"] else "ordinary"
        _say(
            console,
            f"a step of {tuner.batch_size} samples, graphs of {step['steps']}, "
            f"{launches} launches: {micro(step['median'])} us{chosen}",
        )
    measured = [Key(*(row[name] for name in Key._fields)) for row in tuner.rows]
    if measured:
        print_table(console, choices_table(table, backend, measured))
    for note in tuner.notes:
        _say(console, note)
    if code or not tuner.complete:
        _say(console, "Cut short: this is what was measured until then.")
    if not backend.driver.timed:
        _say(
            console,
            "Times of the simulator mean nothing. Its table is used by nothing but by "
            "CudaBackend(driver, table=...).",
        )
    if measured:
        _say(console, f"{table.describe()}: {tuning.table_file(gpu)}")
    return code


def show(device: str) -> int:
    """Print the table of a GPU; return the exit code."""
    backend = device_backend(device)
    gpu, console = GpuModel.of(backend.driver), make_console(sys.stdout)
    table = tuning.load(gpu, environment={})
    if not table.describe():
        _say(console, f"{gpu.model}: nothing was tuned; gpunn tune does it")
        return 0
    print_table(console, choices_table(table, backend, table.choices))
    _say(console, f"{table.describe()}: {tuning.table_file(gpu)}")
    return 0


def forget(device: str) -> int:
    """Remove the table of a GPU; return the exit code."""
    gpu = GpuModel.of(device_backend(device).driver)
    file = tuning.forget(gpu)
    _say(
        make_console(sys.stdout),
        f"{gpu.model}: " + (f"removed {file}" if file else "nothing was tuned"),
    )
    return 0


def _say(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)


def choices_table(table: Table, backend: CudaBackend, keys: Iterable[Key]) -> RichTable:
    """Return what was chosen for each product, beside what the cost model chooses."""
    found = RichTable(
        title="Matrix products: tile and parts of the reduction",
        title_justify="left",
        caption=f"of {REPEATS} calls in a CUDA graph, with the launches that finish them; L2 warm",
        caption_justify="left",
    )
    for name in ("precision", "form", "m x n x k", "cost model", "chosen"):
        found.add_column(name, no_wrap=True)
    for name in ("us", "chosen us", "gain", "TFLOP/s"):
        found.add_column(name, justify="right", no_wrap=True)
    for key in keys:
        found.add_row(*cells(key, table.choices[key], backend))
    return found


def cells(key: Key, choice: Choice, backend: CudaBackend) -> list[str]:
    """Return the words of a row."""
    default = Choice.own(choose_tiling(*key, backend.driver.limits))
    words: list[Any] = [key.precision, key.form.lower().replace("_", " ")]
    words += [f"{key.m} x {key.n} x {key.k}", default.words()]
    words.append("the same" if choice == default else choice.words())
    seconds, before = choice.seconds, choice.default_seconds
    if not seconds or not before:
        return [*words, "", "", "", ""]
    rate = 2 * key.m * key.n * key.k / seconds / 1e12
    gain = f"{before / seconds - 1:.0%}" if choice != default else ""
    return [*words, micro(before), micro(seconds), gain, f"{rate:.3g}"]
