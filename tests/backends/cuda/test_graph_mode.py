"""Steps captured as graphs of many: the same bits as steps launched one by one, in fewer launches.

The simulator runs the very calls that a GPU would replay, as many at a time.
"""

from __future__ import annotations

import gc
import json
import logging
import signal
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from device_runs import BATCH, OPTIMIZERS, ROWS, data, model
from hypothesis import given
from hypothesis import strategies as st
from op_runs import needs_compiler

import gpunn
from gpunn import layers
from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.cuda.graphs import GRAPH_SIZES, MAX_CACHED, WARMUP_STEPS, Graphs
from gpunn.backends.cuda.simulator.driver import SimulatorDriver
from gpunn.callbacks import Callback
from gpunn.errors import ArgumentTypeError, DeviceError
from gpunn.optimizers import SGD, Adam
from gpunn.schedules import ExponentialDecay
from gpunn.training import chunks

pytestmark = needs_compiler
STEPS = -(-ROWS // BATCH)  # an epoch's


def net(eager: bool, *, normalized: bool = False, optimizer: Any = "adam") -> gpunn.Model:
    """Return a net whose loss depends on step, seed, offset and rate in as many ways as can be."""
    made = gpunn.Sequential(
        [
            gpunn.Input((5, 5)),
            layers.Flatten(),
            layers.Rescaling(1 / 255),
            layers.Dense(9, activation=None if normalized else "selu", name="hidden"),
            *([layers.BatchNormalization(name="normal"), layers.ReLU()] if normalized else []),
            layers.Dropout(0.3),
            layers.Dense(4, activation="softmax", name="classes"),
        ]
    )
    loss = "sparse_categorical_crossentropy"
    made.compile(optimizer, loss, ["accuracy"], device="simulator", seed=5, run_eagerly=eager)
    return made


def driver_of(made: gpunn.Model) -> Any:
    backend = made.session.backend
    assert isinstance(backend, CudaBackend)
    return backend.driver


def state_of(trainer: gpunn.Trainer) -> dict[str, Any]:
    """Return all that a run leaves behind but the time it took: bytes of arrays, and JSON."""
    saved = trainer.state_dict()
    training = saved["training"]
    del training["epoch_seconds"]
    for callback in training["callbacks"]:
        callback["state"].pop("seconds", None)
    arrays = {
        f"{part}/{name}": np.asarray(values).tobytes()
        for part in ("weights", "optimizer", "metrics")
        for name, values in saved[part].items()
    }
    return arrays | {"training": json.dumps(training, sort_keys=True)}


class Watch(Callback):
    """Notes loss and accuracy every few steps; acts at one of them."""

    def __init__(self, every: int, act: Callable[[Watch], None] | None = None, at: int = 0) -> None:
        self.every_steps, self.act, self.at = every, act, at
        self.seen: list[Any] = []

    def on_steps(self, step: int) -> None:
        self.seen.append((step, sorted(self.trainer.logs().items())))
        if step == self.at and self.act:
            self.act(self)


def fitted(eager: bool, optimizer: Any = "adam", epochs: int = 4, **options: Any) -> Any:
    x, y = data()
    made = net(eager, optimizer=optimizer, normalized=options.pop("normalized", False))
    options = {"validation_data": (x[:70], y[:70]), **options}
    trainer = gpunn.Trainer(made, x, y, batch_size=BATCH, **options)
    history = trainer.fit(epochs).history
    return state_of(trainer), history, made.predict(x).tobytes(), driver_of(made).replays


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS.values(), SGD(0.1, momentum=0.9)], ids=repr)
def test_a_fit_with_ragged_ends_and_validation(optimizer: Any) -> None:
    *eager, none = fitted(True, optimizer)
    *graphs, some = fitted(False, optimizer)
    assert graphs == eager
    assert none == 0 and some > 0


def test_a_schedule_of_learning_rates() -> None:
    rate = ExponentialDecay(0.1, decay_steps=3, decay_rate=0.9)
    assert fitted(False, SGD(rate, momentum=0.5))[:3] == fitted(True, SGD(rate, momentum=0.5))[:3]


def test_graphs_of_all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(perf_counter=lambda: 0.0)  # so fast that chunks grow
    monkeypatch.setattr(chunks, "time", clock)
    sizes: list[int] = []
    capture = SimulatorDriver.capture

    def noting(driver: Any, calls: Any) -> Any:
        sizes.append(len(calls))
        return capture(driver, calls)

    monkeypatch.setattr(SimulatorDriver, "capture", noting)
    rng = np.random.default_rng(0)
    x, y = rng.integers(256, size=(503, 5, 5), dtype=np.uint8), rng.integers(4, size=503)
    rate = ExponentialDecay(0.1, decay_steps=9, decay_rate=0.95)
    states = []
    for eager in (True, False):
        trainer = gpunn.Trainer(net(eager, optimizer=SGD(rate)), x, y, batch_size=2)
        trainer.fit(9)
        states.append(state_of(trainer))
    assert states[0] == states[1]
    step = sizes[0] // 8
    assert sizes == [8 * step, 64 * step, step, step]  # at last the ragged batch


def test_batch_normalization() -> None:
    assert fitted(False, normalized=True)[:3] == fitted(True, normalized=True)[:3]


def test_a_callback_every_few_steps_sees_the_same() -> None:
    watches = [Watch(7), Watch(7)]
    eager, graphs = (fitted(i == 0, callbacks=[watch])[:3] for i, watch in enumerate(watches))
    assert graphs == eager
    assert watches[0].seen == watches[1].seen and len(watches[0].seen) == 4 * STEPS // 7


def test_a_callback_at_every_batch_gets_graphs_of_one_step_and_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Batches(Callback):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.seen.append((batch, sorted(logs.items())))

    watches = [Batches(), Batches()]
    with caplog.at_level(logging.INFO, "gpunn"):
        runs = [
            fitted(i == 0, callbacks=[watch], validation_data=None)
            for i, watch in enumerate(watches)
        ]
    assert runs[0][:3] == runs[1][:3] and watches[0].seen == watches[1].seen
    # 4 epochs of 12 full batches, of which the first few are launched one by one, and the ragged
    # ones, of which there are too few.
    assert runs[1][3] == 4 * (STEPS - 1) - WARMUP_STEPS
    told = [r.getMessage() for r in caplog.records if "every batch" in r.getMessage()]
    assert told == ["Batches looks at every batch: steps are taken one by one"] * 2  # one a fit


def test_stop_training_between_steps() -> None:
    def stop(watch: Watch) -> None:
        watch.trainer.stop_training = True

    results = []
    for eager in (True, False):
        watch = Watch(5, stop, at=35)
        results.append((fitted(eager, callbacks=[watch])[:3], watch.seen))
    assert results[0] == results[1] and results[0][1][-1][0] == 35


def test_a_signal_stops_after_the_same_steps() -> None:
    def interrupt(watch: Watch) -> None:
        signal.raise_signal(signal.SIGINT)

    states = []
    for eager in (True, False):
        x, y = data()
        watch = Watch(5, interrupt, at=35)
        trainer = gpunn.Trainer(net(eager), x, y, batch_size=BATCH, callbacks=[watch])
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(10)
        assert trainer.step_count == 35
        states.append(state_of(trainer))
    assert states[0] == states[1]


def test_a_run_resumed_in_the_middle_of_an_epoch() -> None:
    x, y = data()

    def trainer(eager: bool) -> gpunn.Trainer:
        return gpunn.Trainer(net(eager), x, y, batch_size=BATCH)

    whole, first, second = trainer(True), trainer(False), trainer(False)
    whole.fit(steps=60)
    for _ in range(33):
        first.step()
    second.load_state_dict(first.state_dict())
    second.fit(steps=60)
    arrays = [{k: v for k, v in state_of(t).items() if k != "training"} for t in (whole, second)]
    assert arrays[0] == arrays[1]
    assert (whole.epoch_index, whole.offset) == (second.epoch_index, second.offset)


def test_trainers_of_one_model_take_turns() -> None:
    """Each attaches its own data and has batches of its own size."""
    x, y = data()
    states = []
    for eager in (True, False):
        made = net(eager)
        trainers = [
            gpunn.Trainer(made, x, y, batch_size=BATCH),
            gpunn.Trainer(made, x[::-1], y[::-1], batch_size=BATCH),
            gpunn.Trainer(made, x[:90], y[:90], batch_size=9),
        ]
        for _ in range(4):
            for trainer in trainers:
                trainer.epoch()
        states.append((state_of(trainers[0]), made.predict(x).tobytes()))
    assert states[0] == states[1]


def test_predictions_of_another_thread_meanwhile() -> None:
    x, y = data()
    alone = net(True)
    alone.fit(x, y, BATCH, epochs=6, verbose=0)
    beside, done, wrong = net(False), threading.Event(), []
    still = net(False)
    expected = still.predict(x)
    beside.predict(x)

    def predict() -> None:
        while not done.is_set():
            beside.predict(x[:20])
            if still.predict(x).tobytes() != expected.tobytes():
                wrong.append("another model's predictions have changed")

    other = threading.Thread(target=predict)
    other.start()
    try:
        beside.fit(x, y, BATCH, epochs=6, verbose=0)
    finally:
        done.set()
        other.join()
    assert not wrong
    for one, two in zip(alone.get_weights(), beside.get_weights(), strict=True):
        assert one.tobytes() == two.tobytes()


def test_evaluate_over_many_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpunn.training.session.EVALUATION_BATCH", 40)
    rng = np.random.default_rng(0)
    x = rng.integers(256, size=(1000, 5, 5), dtype=np.uint8)
    y = rng.integers(4, size=1000)
    eager, graphs = net(True), net(False)
    assert eager.evaluate(x, y, verbose=0) == graphs.evaluate(x, y, verbose=0)
    assert eager.predict(x).tobytes() == graphs.predict(x).tobytes()
    assert driver_of(eager).replays == 0
    # 25 batches: 8 one by one, then two graphs of 8 and one of 1; a prediction waits for each.
    assert driver_of(graphs).replays == 3 + 17


# How many launches


def test_an_epoch_is_a_handful_of_launches() -> None:
    x, y = np.zeros((1200, 5, 5), np.uint8), np.zeros(1200, int)
    trainer = gpunn.Trainer(net(False), x, y, batch_size=1)
    driver, bound = driver_of(trainer.model), trainer.bound
    bound.attach(trainer._source.arrays)
    replays = []
    for _ in range(2):
        before = driver.replays
        bound.repeat("train", 1200)
        bound.write("control/offset", 0)
        replays.append(driver.replays - before)
    # 8 steps one by one, then 7 graphs of 8 until 64 steps are taken, and the 1136 left.
    assert replays == [7 + 17 + 6, 18 + 6]
    assert GRAPH_SIZES == (64, 8, 1) and WARMUP_STEPS == 8


def test_chunks_become_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(perf_counter=lambda: 0.0)  # as fast as can be
    monkeypatch.setattr(chunks, "time", clock)
    x, y = np.zeros((603, 5, 5), np.uint8), np.zeros(603, int)
    trainer = gpunn.Trainer(net(False), x, y, batch_size=2)
    driver, replays = driver_of(trainer.model), []
    for _ in range(10):
        before = driver.replays
        trainer.epoch()
        replays.append(driver.replays - before)
    # Chunks of 16, 16, 32, 64, 128 and 46 steps, the last of which is ragged: 302 in all.
    whole = 2 + 2 + 4 + 1 + 2 + (5 + 5)
    first = whole - 1  # 8 steps one by one
    assert replays == [first, *[whole] * 7, whole + 1, whole + 1]


# What keeps them


def recorder(launches: list[str]) -> Any:
    """Return a driver that captures; a call appends to `launches`."""

    def capture(calls: Any) -> Any:
        launches.append(f"capture {len(calls)}")
        kept = tuple(calls)
        return lambda: launches.append(f"graph {len(kept)}")

    return SimpleNamespace(capture=capture)


@given(st.lists(st.tuples(st.integers(0, 2 * MAX_CACHED), st.integers(0, 200)), max_size=150))
def test_steps_are_as_many_as_were_asked_for_however_they_are_taken(
    turns: list[tuple[int, int]],
) -> None:
    """With more lists of calls than keep graphs, in any order."""
    log: list[tuple[int, int]] = []

    def capture(calls: Any) -> Any:
        kept = tuple(calls)

        def replay() -> None:
            for call in kept:
                call()

        return replay

    graphs = Graphs(SimpleNamespace(capture=capture), threading.RLock())  # type: ignore[arg-type]
    steps = [
        graphs.repeated([lambda i=i, part=part: log.append((i, part)) for part in range(2)])
        for i in range(2 * MAX_CACHED + 1)
    ]
    for i, count in turns:
        steps[i](count)
    assert log == [(i, part) for i, count in turns for _ in range(count) for part in range(2)]
    assert sum(bool(step._captured) for step in steps) <= MAX_CACHED


def test_no_graph_comes_between_the_launches_of_an_op_in_another_thread() -> None:
    together, free = threading.RLock(), []

    def graph() -> None:
        with ThreadPoolExecutor(1) as other:
            free.append(other.submit(together.acquire, blocking=False).result())

    Graphs(SimpleNamespace(capture=lambda calls: graph), together).repeated([])(  # type: ignore[arg-type]
        WARMUP_STEPS + 1
    )
    assert free == [False]


def test_the_longest_unused_graphs_are_let_go() -> None:
    log: list[str] = []
    graphs = Graphs(recorder(log), threading.RLock())
    steps = [graphs.repeated([lambda: None]) for _ in range(MAX_CACHED + 1)]
    for step in steps:
        step(WARMUP_STEPS + 1)
    assert log == ["capture 1", "graph 1"] * len(steps)
    log.clear()
    steps[-1](1)
    assert log == ["graph 1"]
    log.clear()
    steps[0](WARMUP_STEPS)  # forgotten: warm again before it is captured again
    assert log == []
    steps[0](1)
    assert log == ["capture 1", "graph 1"]


def test_graphs_of_calls_that_are_gone_are_gone() -> None:
    graphs = Graphs(recorder([]), threading.RLock())

    class Call:
        def __call__(self) -> None:
            pass

    call = Call()
    step = graphs.repeated([call])
    step(100)
    kept = weakref.ref(call)
    del step, call
    gc.collect()
    assert kept() is None and not graphs._recent


def test_a_device_that_refuses_goes_on_one_by_one_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def capture(calls: Any) -> Any:
        raise DeviceError("cuda:0: out of luck.")

    taken: list[int] = []
    graphs = Graphs(SimpleNamespace(capture=capture), threading.RLock())  # type: ignore[arg-type]
    steps = [graphs.repeated([lambda i=i: taken.append(i)]) for i in range(2)]
    for step in steps:
        step(100)
    assert taken == [0] * 100 + [1] * 100
    assert [r.getMessage() for r in caplog.records] == [
        "no CUDA graphs: kernels are launched one by one (cuda:0: out of luck.)"
    ]


def test_new_data_and_no_data_let_go_of_the_graphs() -> None:
    x, y = data()
    trainer = gpunn.Trainer(net(False), x, y, batch_size=BATCH)
    for _ in range(3):
        trainer.epoch()
    bound = trainer.bound
    assert bound._repeated
    bound.attach(dict(trainer._source.arrays))
    assert bound._repeated  # the same arrays
    order = bound.backend.upload(np.arange(ROWS))
    bound.attach({"order": order})
    assert not bound._repeated
    trainer.epoch()
    assert bound._repeated
    trainer.release()
    assert not bound._repeated


def test_data_are_freed_after_a_fit() -> None:
    x, y = data()
    made = net(False, optimizer=Adam(0.01))
    trainer = gpunn.Trainer(made, x, y, batch_size=BATCH)
    trainer.fit(3)
    held = [weakref.ref(array) for name, array in trainer._source.arrays.items() if "data/" in name]
    trainer.release()
    gc.collect()
    assert driver_of(made).replays > 0
    assert len(held) == 1 and held[0]() is None


def test_run_eagerly_is_true_or_false() -> None:
    made = gpunn.Sequential([gpunn.Input((2,)), layers.Dense(1)])
    with pytest.raises(ArgumentTypeError, match="run_eagerly must be True or False, not 1"):
        made.compile("sgd", "mse", run_eagerly=1)  # type: ignore[arg-type]
    made.compile("sgd", "mse", device="reference", run_eagerly=True)
    made.fit(np.ones((4, 2)), np.ones(4), verbose=0)


def test_own_functions() -> None:
    x, y = data()
    results = []
    for eager in (True, False):
        made = gpunn.Sequential(
            [
                gpunn.Input((5, 5)),
                layers.Flatten(),
                layers.Rescaling(1 / 255),
                layers.Dense(6, activation=lambda v: v * gpunn.ops.sigmoid(1.5 * v)),
                layers.Dense(1),
            ]
        )
        made.compile("sgd", "mse", device="simulator", seed=2, run_eagerly=eager)
        history = made.fit(x, y.astype(np.float32), BATCH, epochs=3, verbose=0).history
        results.append((history, [w.tobytes() for w in made.get_weights()]))
    assert results[0] == results[1]


def test_the_nets_of_the_other_devices_tests() -> None:
    x, y = data()
    runs = []
    for graphs in (False, True):
        made = model("simulator", "adam")
        made.session.backend.graphs = graphs
        made.fit(x, y, BATCH, epochs=3, verbose=0)
        runs.append([w.tobytes() for w in made.get_weights()])
    assert runs[0] == runs[1]
