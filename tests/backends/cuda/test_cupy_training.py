"""Whole trainings on the stand-in for CuPy, whose GPU runs the simulator's kernels, and late.

Kernels, copies and graphs run only when somebody waits for them, so a value that the host changes
too early, or a step that is not in order with its learning rate, shows in the weights.
"""

from __future__ import annotations

import ctypes
import gc
import pickle
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_cublaslt
import fake_cupy
import numpy as np
import pytest
from op_runs import needs_compiler

import gpunn
from gpunn import layers
from gpunn.backends.cuda import cublaslt, cupy_driver, nvrtc
from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.cuda.cupy_copy_stream import CupyCopyStream
from gpunn.backends.cuda.cupy_driver import CupyDriver
from gpunn.backends.cuda.graphs import WARMUP_STEPS
from gpunn.backends.cuda.simulator import compiler as host_compiler
from gpunn.backends.cuda.simulator import driver as simulator
from gpunn.backends.cuda.simulator.driver import SimulatorDriver
from gpunn.backends.select import Selection
from gpunn.callbacks import Callback, Checkpoints
from gpunn.data import blocks
from gpunn.data.streaming import DoubleBuffer
from gpunn.errors import DeviceError
from gpunn.models import compilable
from gpunn.optimizers import SGD, Adam
from gpunn.schedules import ExponentialDecay
from gpunn.training import chunks

pytestmark = needs_compiler
ROWS, BATCH = 203, 4  # 51 steps an epoch, the last of 3 rows


class Runtime(fake_cupy.Runtime):
    def memGetInfo(self) -> tuple[int, int]:
        super().memGetInfo()
        return 1 << 30, 1 << 31


class Module:
    """Kernels compiled for the host."""

    functions: tuple[tuple[Any, Any], ...] = ()

    def load(self, contents: bytes) -> None:
        fake_cupy.need_context()
        self.library = host_compiler.load(*pickle.loads(contents))

    def get_function(self, name: str) -> Any:
        Module.functions += ((self.library, self.library.kernels[name]),)
        return SimpleNamespace(ptr=len(Module.functions), module=self)


class Driver(fake_cupy.Driver):
    def _launch(self, function: int, geometry: list[Any], stream: int, parameters: int) -> None:
        fake_cupy.need_context()
        self.launched.append(tuple(geometry))
        library, kernel = Module.functions[function - 1]
        cooperative = geometry[0] == "cooperative"
        gx, gy, gz, bx, by, bz, shared = geometry[cooperative:]
        # As CUDA does, at the launch.
        addresses = (ctypes.c_uint64 * max(1, len(kernel.parameters))).from_address(parameters)
        values = [
            ctypes.c_uint64(ctypes.c_uint64.from_address(address).value)
            for address in addresses[: len(kernel.parameters)]
        ]
        pointers = (ctypes.c_void_p * max(1, len(values)))(*map(ctypes.addressof, values))
        message = ctypes.create_string_buffer(2048)
        packed = simulator._LaunchStruct(
            kernel=kernel.number,
            cooperative=cooperative,
            grid=(gx, gy, gz),
            block=(bx, by, bz),
            shared=shared,
            arguments=ctypes.addressof(pointers),
            message=ctypes.addressof(message),
            message_size=len(message),
        )

        def run(kept: Any = (values, pointers)) -> None:
            with simulator._LOCK:
                failed = library.handle.gpunn_launch(ctypes.byref(packed))
            assert not failed, message.value.decode()

        fake_cupy.STREAMS[stream].push(run)


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    fake_cupy.reset()
    module = fake_cupy.module()
    module.cuda.runtime, module.cuda.driver = Runtime(), Driver()
    module.cuda.function.Module = Module
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(cupy_driver, "LOADED", {})
    monkeypatch.setattr(blocks, "SMALL_NBYTES", 0)
    monkeypatch.setattr(
        nvrtc, "load", lambda compiler, source, architecture: pickle.dumps((source, architecture))
    )
    return module


def net(
    device: str,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: Any,
    eager: bool,
    products: str = "own",
    precision: str = "float32",
) -> gpunn.Model:
    """Return a net on the driver for GPUs, or on the simulator."""
    driver: Any = CupyDriver(0) if device == "cuda" else SimulatorDriver()
    selection = Selection(CudaBackend(driver, products=products), "asked for")
    monkeypatch.setattr(compilable, "select_backend", lambda *arguments, **options: selection)
    made = gpunn.Sequential(
        [
            gpunn.Input((6,)),
            layers.Dense(8, activation="tanh", name="hidden"),
            layers.BatchNormalization(name="normal"),
            layers.Dropout(0.2),
            layers.Dense(3, activation="softmax", name="classes"),
        ]
    )
    loss = "sparse_categorical_crossentropy"
    settings: dict[str, Any] = {"device": device, "precision": precision, "run_eagerly": eager}
    made.compile(optimizer, loss, ["accuracy"], seed=3, **settings)
    return made


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(ROWS, 6)).astype(np.float32), rng.integers(3, size=ROWS)


class Watch(Callback):
    every_steps = 13

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_steps(self, step: int) -> None:
        self.seen.append((step, sorted(self.trainer.logs().items())))


def fitted(made: gpunn.Model, epochs: int = 3) -> list[Any]:
    """Return all that a fit shows."""
    (x, y), watch = data(), Watch()
    first = made.fit(x, y, BATCH, epochs=epochs, verbose=0, validation_data=(x[:70], y[:70]))
    second = made.fit(x, y, BATCH, epochs=2, verbose=0, callbacks=[watch])
    figures = [first.history, second.history, watch.seen, made.evaluate(x, y, verbose=0)]
    return [*figures, made.predict(x).tobytes(), [w.tobytes() for w in made.get_weights()]]


RATE = ExponentialDecay(0.1, decay_steps=7, decay_rate=0.9)


@pytest.mark.parametrize("optimizer", [SGD(RATE, momentum=0.9), Adam(0.01)], ids=["sgd", "adam"])
def test_a_late_gpu_comes_to_what_the_simulator_comes_to(
    optimizer: Any, cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fitted(net("simulator", monkeypatch, optimizer, eager=True))
    eager = net("cuda", monkeypatch, optimizer, eager=True)
    assert fitted(eager) == expected
    assert not fake_cupy.GRAPHS
    graphs = net("cuda", monkeypatch, optimizer, eager=False)
    assert fitted(graphs) == expected
    launched = [len(graph.launched) for graph in fake_cupy.GRAPHS]
    backend: Any = graphs.session.backend
    assert sum(launched) == backend.driver.replays > 0 and all(launched)
    # Nothing but kernels in them, one after the other, and every launch is accounted for.
    other: Any = eager.session.backend
    assert backend.driver.launches == other.driver.launches


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_products_of_the_library_are_part_of_graphs(
    precision: str, cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bindings: Any = fake_cublaslt.Library()
    monkeypatch.setitem(sys.modules, cublaslt.BINDINGS, bindings)
    how = SGD(RATE, momentum=0.9), False, "library", precision
    graphs = net("cuda", monkeypatch, *how)
    found = fitted(graphs)
    backend: Any = graphs.session.backend
    assert backend.graphs and backend.driver.replays > 0
    launched = [stream for stream, _ in bindings.launched]
    assert backend.driver._capture_stream.ptr in launched
    assert {asked["precision"] for asked in bindings.asked} == {precision}
    eager = net("cuda", monkeypatch, how[0], True, *how[2:])
    assert fitted(eager) == found  # bit for bit
    other: Any = eager.session.backend
    assert backend.driver.launches == other.driver.launches and not other.driver.replays
    # The same numbers as the simulator's, though the host adds them up in another order.
    expected = net("simulator", monkeypatch, *how)
    fitted(expected)
    for one, two in zip(graphs.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)


def test_a_run_goes_on_where_a_checkpoint_was_made(
    cupy: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    x, y = data()
    fit: dict[str, Any] = {"batch_size": BATCH, "verbose": 0}
    whole = net("simulator", monkeypatch, Adam(0.01), eager=True)
    whole.fit(x, y, epochs=4, **fit)
    half = net("cuda", monkeypatch, Adam(0.01), eager=False)
    half.fit(x, y, epochs=2, callbacks=[Checkpoints(tmp_path)], **fit)
    resumed = net("cuda", monkeypatch, Adam(0.01), eager=False)
    resumed.fit(x, y, epochs=4, resume=tmp_path, **fit)
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        assert one.tobytes() == other.tobytes()


def test_no_more_than_two_chunks_are_under_way(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits on the stream never gets longer than two chunks and what goes with them."""
    clock = SimpleNamespace(perf_counter=lambda: 0.0)  # chunks grow as fast as they can
    monkeypatch.setattr(chunks, "time", clock)
    made = net("cuda", monkeypatch, SGD(0.1), eager=False)
    x, y = data()
    driver: Any = made.session.backend.driver  # type: ignore[attr-defined]
    trainer = gpunn.Trainer(made, x, y, batch_size=BATCH)
    trainer.epoch()
    per_step, lengths, marked = len(trainer.bound.calls("train")), [], driver.mark

    def mark() -> Any:
        lengths.append(len(driver._stream.todo))
        return marked()

    monkeypatch.setattr(driver, "mark", mark)
    trainer.epoch()
    # Chunks of 16, 16 and 19 steps; a copy of the rate goes with each, and before the first there
    # is what begins an epoch.
    first, second, last = lengths
    assert 16 * per_step < first < 16 * per_step + 10
    assert second == first + 16 * per_step + 1
    assert last == 16 * per_step + 1 + 19 * per_step + 1  # the first chunk has been waited for


def test_new_data_are_trained_on(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs hold addresses: those of data that have gone must go too."""
    x, y = data()
    weights = []
    for device, eager in (("simulator", True), ("cuda", False)):
        made = net(device, monkeypatch, SGD(0.1), eager)
        for shift in range(3):
            for rows in (ROWS, 90):
                made.fit(x[:rows] + shift, y[:rows], BATCH, epochs=2, verbose=0)
        weights.append([w.tobytes() for w in made.get_weights()])
    assert weights[0] == weights[1]
    assert len(fake_cupy.GRAPHS) >= 6 and WARMUP_STEPS < ROWS // BATCH


@pytest.mark.parametrize("eager", [True, False])
def test_dependent_launches_come_to_the_same(
    eager: bool, cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bindings = fake_cupy.Bindings(cupy)
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", bindings)
    expected = fitted(net("cuda", monkeypatch, Adam(0.01), eager), epochs=1)
    assert cupy.cuda.driver.launched and not bindings.launched
    ordinary = len(cupy.cuda.driver.launched)
    early = net("cuda", monkeypatch, Adam(0.01), eager)
    early.session.backend.driver.dependent_launches = True  # type: ignore[attr-defined]
    assert fitted(early, epochs=1) == expected
    assert len(bindings.launched) == len(cupy.cuda.driver.launched) - ordinary > 0


# Data that are streamed: copies on a second stream, as late or as early as its waits allow


def streamed(
    device: str, monkeypatch: pytest.MonkeyPatch, optimizer: Any = None, early: bool = False
) -> list[bytes]:
    """Return the weights after a fit, on the GPU with room for blocks of a few batches."""
    (x, y), eager = data(), device == "simulator"
    made = net(device, monkeypatch, optimizer or SGD(0.1), eager)
    made.fit(x, y, BATCH, steps=1, verbose=0)
    if device == "cuda":
        backend: Any = made.session.backend
        backend.copy_stream().stream.early = early
        gc.collect()
        fake_cupy.POOL.set_limit(fake_cupy.POOL.used + 4096)
    trainer = gpunn.Trainer(made, x, y, batch_size=BATCH)
    if device == "cuda":
        assert isinstance(trainer._source, DoubleBuffer)
        assert 2 * BATCH < trainer._source.blocks.size < ROWS / 4
    trainer.fit(4)
    trainer.release()
    fake_cupy.POOL.set_limit(0)
    return [w.tobytes() for w in made.get_weights()]


@pytest.mark.parametrize("early", [False, True], ids=["late", "early"])
@pytest.mark.parametrize("optimizer", [SGD(RATE, momentum=0.9), Adam(0.01)], ids=["sgd", "adam"])
def test_copies_and_steps_wait_for_one_another(
    optimizer: Any, early: bool, cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = streamed("simulator", monkeypatch, optimizer)
    assert streamed("cuda", monkeypatch, optimizer, early) == expected
    assert sum(len(graph.launched) for graph in fake_cupy.GRAPHS) > 10


@pytest.mark.parametrize("missing", ["steps for a copy", "a copy for steps", "the host"])
def test_a_wait_that_is_missing_would_be_seen(
    missing: str, cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = streamed("simulator", monkeypatch)
    copy = CupyCopyStream.copy

    def at_once(self: CupyCopyStream, pairs: Any, after: Any) -> Any:
        nothing = fake_cupy.Event(disable_timing=True)
        nothing.record(self.stream)
        return copy(self, pairs, nothing)

    changes: dict[str, tuple[str, Any]] = {
        "steps for a copy": ("wait_event", lambda self, event: None),
        "a copy for steps": ("copy", at_once),
        "the host": ("synchronize", lambda self, event: None),
    }
    monkeypatch.setattr(CupyCopyStream, *changes[missing])
    early = missing == "a copy for steps"
    assert streamed("cuda", monkeypatch, early=early) != expected


def test_what_cuda_reports_of_a_copy_is_raised(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (x, y), memcpy = data(), cupy.cuda.runtime.memcpyAsync
    made = net("cuda", monkeypatch, SGD(0.1), eager=False)
    made.fit(x, y, BATCH, steps=1, verbose=0)
    backend: Any = made.session.backend
    copies = backend.copy_stream().stream.ptr

    def failing(target: int, origin: int, nbytes: int, kind: int, stream: int) -> None:
        if stream == copies:
            raise fake_cupy.CUDARuntimeError(700, "cudaErrorIllegalAddress")
        memcpy(target, origin, nbytes, kind, stream)

    monkeypatch.setattr(cupy.cuda.runtime, "memcpyAsync", failing)
    gc.collect()
    fake_cupy.POOL.set_limit(fake_cupy.POOL.used + 4096)
    with pytest.raises(DeviceError, match="cuda:0: copying to the device failed: cudaErrorIllegal"):
        made.fit(x, y, BATCH, verbose=0)
    assert not [
        one for one in threading.enumerate() if one.name.startswith(("gpunn-fill", "gpunn-gather"))
    ]
