"""Measuring what serves each matrix product of a net best on a GPU: what ``gpunn tune`` does.

Each candidate is the whole op of a training step: the product and the launches that finish it, as
many times over in a CUDA graph. Its arrays stay where they are from call to call, so what fits the
level 2 cache lies there ("warm"), as the arrays of a small net's step do in training. Candidates
take turns, round by round, so that drifts of the clock fall on all of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gpunn.backends.cuda import tuning
from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.cuda.driver import LibraryError
from gpunn.backends.cuda.ops.launches import TilingChooser
from gpunn.backends.cuda.tilings import (
    Tiling,
    choose_tiling,
    device_tiles,
    tilings,
)
from gpunn.backends.cuda.tuning import Choice, GpuModel, Key, Table
from gpunn.backends.interface import Call
from gpunn.backends.select import PRECISIONS
from gpunn.cli.bench import bounds
from gpunn.cli.bench.report import Progress
from gpunn.cli.bench.rounds import clearly_faster, interleaved, spread
from gpunn.cli.tune.steps import Timer, chosen, measured
from gpunn.errors import DeviceError, PlanError, UnknownNameError
from gpunn.plan.bind import BoundPlan
from gpunn.plan.spec import Step
from gpunn.specs.registry import check_count, check_number

BATCH_SIZES = (32, 50, 128, 512, 1024, 8192)
STEP_BATCH = 50  # small, so that launches count
REPEATS = 20  # calls in a graph
ROUNDS, QUICK_ROUNDS = 9, 5
BEST = 6  # of the cost model's ranking, besides each tile whole and split
QUICK_BEST = 3


@dataclass(frozen=True)
class TuneSettings:
    """What is to be tuned.

    Attributes
    ----------
    hidden : tuple of int
        Units of the hidden layers.
    inputs, outputs : int
    batch_sizes : tuple of int
    precisions : tuple of str
    quick : bool
        Whether to try only what the cost model thinks best, and the library, in fewer rounds.
    seconds : float, optional
        When to begin no further product; default: never.
    """

    hidden: tuple[int, ...] = (300, 100)
    inputs: int = 784
    outputs: int = 10
    batch_sizes: tuple[int, ...] = BATCH_SIZES
    precisions: tuple[str, ...] = ("float32", "tf32", "bfloat16")
    quick: bool = False
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("hidden", "batch_sizes"):
            for value in getattr(self, name):
                check_count("tune", name, value)
        check_count("tune", "inputs", self.inputs)
        check_count("tune", "outputs", self.outputs)
        if self.seconds is not None:
            check_number("tune", "seconds", self.seconds, above=0)
        for precision in self.precisions:
            if precision not in PRECISIONS:
                raise UnknownNameError("precision", precision, PRECISIONS)

    @property
    def rounds(self) -> int:
        """Rounds that each candidate is measured in."""
        return QUICK_ROUNDS if self.quick else ROUNDS


@dataclass
class Op:
    """A call of a training step that has a matrix product."""

    backend: CudaBackend
    step: Step
    arrays: Mapping[str, Any]
    rows: int

    def call(self, choose: TilingChooser) -> Call:
        """Return the call, its product computed as `choose` says."""
        attrs = self.step.constants(self.rows)
        return self.backend.bind_with(self.step.op, self.arrays, attrs, self.rows, choose)

    def key(self) -> Key:
        """Return the product."""
        seen: list[Key] = []

        def look(*key: Any) -> Tiling:
            seen.append(Key(*key))
            return choose_tiling(*key, self.backend.driver.limits)

        attrs = self.step.constants(self.rows)
        self.backend.work(self.step.op, self.arrays, attrs, self.rows, look)
        return seen[0]


def ops(backend: CudaBackend, settings: TuneSettings, precision: str, batch: int) -> Iterator[Op]:
    """Yield the products of a training step, their arrays on the device and filled."""
    bound = BoundPlan(_plan(backend, settings, precision, batch), backend)
    rng = np.random.default_rng(0)
    for step in bound.plan.programs["train"]:
        if step.op not in bounds.PRODUCTS:
            continue
        arrays = {role: bound.array(name, batch) for role, name in step.roles.items()}
        for role, array in arrays.items():
            if len(array.shape) == 2:  # the factors; zeros would draw less power
                backend.write(arrays[role], rng.standard_normal(array.shape, np.float32))
        yield Op(backend, step, arrays, batch)


def _plan(
    backend: CudaBackend, settings: TuneSettings, precision: str, batch: int, dtype: str = "float32"
) -> Any:
    import gpunn
    from gpunn.specs import layers

    several = settings.outputs > 1
    net = gpunn.Sequential(
        [
            gpunn.Input((settings.inputs,)),
            *(layers.Dense(units, activation="relu") for units in settings.hidden),
            layers.Dense(settings.outputs, activation="softmax" if several else "sigmoid"),
        ]
    )
    loss = "sparse_categorical_crossentropy" if several else "binary_crossentropy"
    # SGD: the gradient of a kernel and its update are one call.
    net.compile("sgd", loss, device=backend.name, precision=precision, seed=0)
    return net.plan(batch, [dtype])


def candidates(key: Key, backend: CudaBackend, *, quick: bool) -> list[Choice]:
    """Return what is tried: the cost model's choice first, the library (if it is there) last."""
    limits = backend.driver.limits
    found: list[Tiling] = []
    each: list[Tiling] = []
    for tile in device_tiles(key.precision, limits):
        if tile.shared_bytes(key.form, key.precision) <= limits.shared_memory:
            shapes = list(tilings(*key, tile, limits))
            found += shapes
            each += [s for s in shapes if s.splits == 1]
            each += sorted((s for s in shapes if s.splits > 1), key=lambda s: s.cycles)[:1]
    ranked = sorted(found, key=lambda shape: shape.cycles)
    wanted = ranked[:QUICK_BEST] if quick else [*ranked[:BEST], *each]
    default = Choice.own(choose_tiling(*key, limits))
    return list(dict.fromkeys([default, *map(Choice.own, wanted)]))


def decide(times: Mapping[Choice, list[float]], default: Choice) -> Choice:
    """Return the fastest candidate; the default unless that is beaten by more than the noise."""
    fastest = min(times, key=lambda choice: statistics.median(times[choice]))
    return fastest if clearly_faster(times[fastest], times[default]) else default


class Tuner:
    """The measurement.

    Parameters
    ----------
    settings : TuneSettings
    backend : CudaBackend
    table : Table
        What was found before: it is added to.
    progress : Progress, optional
    timer : callable, optional
        ``timer(key, choice, call)`` returns the seconds of `call`; default: the device's.
    clock : callable, optional
        Seconds, for the time that may be spent.
    keep : callable, optional
        Called with the table whenever something was found.

    Attributes
    ----------
    steps : list of dict
        Seconds of a step, way by way.
    rows : list of dict
        What was measured, product by product.
    notes : list of str
        What was left out, and why.
    complete : bool
        Whether the time sufficed.
    """

    def __init__(
        self,
        settings: TuneSettings,
        backend: CudaBackend,
        table: Table,
        progress: Progress | None = None,
        *,
        timer: Timer | None = None,
        clock: Callable[[], float] = time.perf_counter,
        keep: Callable[[Table], object] = lambda table: None,
    ) -> None:
        self.settings, self.backend, self.table = settings, backend, table
        self.progress, self._clock, self._keep = progress or Progress(), clock, keep
        self._timer = timer or self._device_time
        self.gpu = GpuModel.of(backend.driver)
        self.steps: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.complete = True
        self._library = self._has_library()

    def _device_time(self, what: Any, way: Any, call: Call) -> float:
        # Behind another call: the host's launch is over before the device comes to it, and the
        # candidate's arrays are in the cache again.
        call()
        return self.backend.driver.seconds(call)

    def _has_library(self) -> bool:
        try:
            self.backend.driver.check_library()
        except LibraryError as error:
            self.notes.append(f"the library is left out: {error}")
            return False
        return True

    def run(self) -> None:
        """Measure everything; what was found so far stands in `table` at any time."""
        self.whole_steps()
        self.products()

    def whole_steps(self) -> None:
        """Measure how many steps a graph is best made of, and whether dependent launches pay."""
        sizes = self.settings.batch_sizes
        self.batch_size = STEP_BATCH if STEP_BATCH in sizes else min(sizes)
        self.progress.now(f"steps of {self.batch_size} samples")
        plan = _plan(self.backend, self.settings, "float32", self.batch_size, "uint8")
        times = measured(self.backend, plan, self.settings.rounds, self._timer, self.notes)
        best = chosen(times)
        self.table.graph_steps, self.table.dependent_launch = best.steps, best.dependent
        self.backend.driver.dependent_launches = best.dependent  # as the products will be
        self.steps += [
            way._asdict() | {"chosen": way == best} | spread(values)
            for way, values in times.items()
        ]
        self._keep(self.table)

    def products(self) -> None:
        """Measure all products."""
        settings, began, seen = self.settings, self._clock(), set()
        sizes = [(p, b) for p in settings.precisions for b in settings.batch_sizes]
        self.progress.begin(len(sizes))
        refused: set[str] = set()
        for precision, batch in sizes:
            self.progress.now(f"{precision}, batch {batch}")
            try:
                for op in () if precision in refused else self._ops(precision, batch):
                    key = op.key()
                    if key in seen:
                        continue
                    if settings.seconds is not None and self._clock() - began >= settings.seconds:
                        self.complete = False
                        return
                    seen.add(key)
                    self._measure(key, op)
            except PlanError as error:  # no tensor cores
                refused.add(precision)
                self.notes.append(f"{precision} is left out: {error}")
            self.progress.advance()

    def _ops(self, precision: str, batch: int) -> Iterator[Op]:
        return ops(self.backend, self.settings, precision, batch)

    def _measure(self, key: Key, op: Op) -> None:
        tried = candidates(key, self.backend, quick=self.settings.quick)
        default = tried[0]
        graphs = {choice: self._graph(key, choice, op) for choice in tried}
        if self._library:
            try:
                graphs[Choice()] = self._graph(key, Choice(), op)
            except DeviceError as error:
                self.notes.append(f"{_words(key)}: {error}")
        calls = {
            str(number): partial(self._timer, key, choice, graph)
            for number, (choice, graph) in enumerate(graphs.items())
        }
        found: dict[str, list[float]] = {name: [] for name in calls}
        for _, name, timed in interleaved(calls, self.settings.rounds):
            found[name].append(timed() / REPEATS)
        times = dict(zip(graphs, found.values(), strict=True))
        chosen = decide(times, default)
        medians = {choice: statistics.median(values) for choice, values in times.items()}
        self.table.choices[key] = tuning.timed(chosen, medians[chosen], medians[default])
        self._keep(self.table)
        self.rows.append(
            key._asdict()
            | {
                "default": default.words(),
                "chosen": chosen.words(),
                "candidates": [
                    {"what": choice.words()} | spread(values) for choice, values in times.items()
                ],
            }
        )

    def _graph(self, key: Key, choice: Choice, op: Op) -> Call:
        shape = choice.tiling(key, self.backend.driver.limits)
        call = op.call(lambda *key: shape)
        call()  # loads what is loaded at the first call
        graph = self.backend.driver.capture([call] * REPEATS)
        graph()
        return graph


def _words(key: Key) -> str:
    return f"{key.form.lower().replace('_', ' ')} {key.m} x {key.n} x {key.k} in {key.precision}"
