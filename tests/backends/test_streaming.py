"""Data that do not fit the device are streamed to it; nothing else is different, to the last bit.

The simulator's memory is limited, and its copies run as late as they may.
"""

from __future__ import annotations

import gc
import logging
import math
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from op_runs import needs_compiler

import gpunn
from gpunn import layers
from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.cuda.simulator.driver import SimulatorDriver
from gpunn.backends.select import Selection
from gpunn.callbacks import Callback, Checkpoints, EarlyStopping
from gpunn.data import blocks
from gpunn.data.batches import Data
from gpunn.data.sources import Resident
from gpunn.data.streaming import DoubleBuffer
from gpunn.errors import DeviceError
from gpunn.models import compilable
from gpunn.optimizers import SGD, Adam
from gpunn.schedules import ExponentialDecay

pytestmark = needs_compiler
ROWS, FEATURES, BATCH = 403, 64, 8  # 51 steps an epoch, the last of 3 rows
LITTLE = 1 << 16  # bytes, of which a net takes some 16,000
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, FEATURES)).astype(np.float32)
Y = RNG.integers(3, size=ROWS)
WEIGHTS = RNG.uniform(0.5, 1.5, ROWS).astype(np.float32)
OPTIMIZERS = {
    "sgd": SGD(0.1),
    "momentum": SGD(ExponentialDecay(0.1, decay_steps=7, decay_rate=0.9), momentum=0.9),
    "adam": Adam(0.01),
}


@pytest.fixture(autouse=True)
def no_data_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "SMALL_NBYTES", 0)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have the models that are compiled from now on compute in a simulator with this memory."""

    def use(memory: int | None) -> SimulatorDriver:
        driver = SimulatorDriver(memory=memory)
        selection = Selection(CudaBackend(driver), "asked for")
        monkeypatch.setattr(compilable, "select_backend", lambda *args, **options: selection)
        return driver

    return use


def net(optimizer: Any = OPTIMIZERS["sgd"], eager: bool = False) -> gpunn.Model:
    model = gpunn.Sequential(
        [
            gpunn.Input((FEATURES,)),
            layers.Dense(8, activation="tanh"),
            layers.Dropout(0.2),
            layers.Dense(3, activation="softmax"),
        ]
    )
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, ["accuracy"], device="simulator", seed=3, run_eagerly=eager)
    return model


def weights(model: gpunn.Model) -> list[bytes]:
    return [w.tobytes() for w in model.get_weights()]


def streamed(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what has been streamed, as the log has it."""
    found = [r.getMessage() for r in caplog.records if "streamed in blocks" in r.getMessage()]
    return [message.split(" (")[0] for message in found]


class Watch(Callback):
    """Writes down every batch."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seen.append((batch, sorted(logs.items())))


FITS: dict[str, dict[str, Any]] = {
    "shuffled": {"epochs": 3},
    "in order": {"epochs": 2, "shuffle": False},
    "weights": {"epochs": 2, "sample_weight": WEIGHTS},
    # To evaluate no more than 32 rows takes little memory.
    "validation": {"epochs": 3, "validation_data": (X[:30], Y[:30])},
    "split": {"epochs": 2, "validation_split": 0.07},
    "steps": {"steps": 77},
    "whole batches": {"epochs": 2, "batch_size": 31},
    "stopped": {"epochs": 9, "callbacks": [EarlyStopping("loss", mode="max", patience=1)]},
}


@pytest.mark.parametrize(
    ("optimizer", "fit", "eager"),
    [
        *(("sgd", "shuffled", False), ("adam", "steps", False)),
        *(("momentum", fit, False) for fit in FITS),
        *((("adam", "steps", True), ("momentum", "shuffled", True), ("momentum", "split", True))),
    ],
)
def test_a_streamed_fit_is_the_fit_with_data_on_the_device(
    optimizer: str, fit: str, eager: bool, on: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gpunn")
    runs = []
    for memory in (None, LITTLE):
        assert not streamed(caplog)
        driver = on(memory)
        model = net(OPTIMIZERS[optimizer], eager)
        history = model.fit(X, Y, **{"batch_size": BATCH, "verbose": 0, **FITS[fit]})
        again = model.fit(X, Y, BATCH, epochs=1, verbose=0)
        runs.append((history.history, again.history, weights(model)))
        assert (driver.replays > 0) != eager
    assert "the training data" in streamed(caplog)
    assert runs[0] == runs[1]


def test_what_is_streamed_and_what_is_not(on: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gpunn")
    held = (X[:30], Y[:30])  # evaluated by a plan for batches of 32
    on(1 << 17)
    few = gpunn.Trainer(net(), X[:100], Y[:100], batch_size=BATCH, validation_data=held)
    assert isinstance(few._source, Resident) and not streamed(caplog)
    few.release()
    many = gpunn.Trainer(net(), X, Y, batch_size=BATCH, validation_data=held)
    assert isinstance(many._source, DoubleBuffer)
    many.release()
    (record,) = (r for r in caplog.records if "streamed" in r.getMessage())
    assert record.levelname == "INFO"
    size = many._source.blocks.size
    assert record.getMessage().startswith("the training data (105.5 KiB) do not fit on simulator (")
    assert record.getMessage().endswith(
        f" streamed in blocks of {size} rows ({size * 268 / 1024:.1f} KiB)"
    )
    assert size % BATCH == 0


class Lying:
    """An array on the device, as little of it as is asked for."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.dtype, self.nbytes = values, values.dtype, values.nbytes

    def __array__(self, *arguments: Any, **options: Any) -> np.ndarray:
        return self.values


def test_what_is_on_the_device_is_not_streamed(on: Any) -> None:
    driver = on(None)
    model = net()
    session, outputs = model.session, model.compiled.outputs
    optimizer, targets = model.compiled.optimizer, Y.astype(np.int32)
    for x, kind in ((X, DoubleBuffer), (Lying(X), Resident)):
        data = Data((x,), (targets,), (None,), ROWS)  # type: ignore[arg-type]
        bound = session.training_plan(data, BATCH, outputs, optimizer)
        driver._memory = driver._used + int(1.05 * ROWS * (FEATURES * 4 + 12))
        source = session.training_source(data, bound, shuffle=True)
        assert type(source) is kind
        source.close()


def test_data_in_a_file_are_not_copied(on: Any, tmp_path: Path) -> None:
    file = np.memmap(tmp_path / "x", np.float32, "w+", shape=X.shape)
    file[:] = X
    on(LITTLE)
    model, expected = net(), net()
    trainer = gpunn.Trainer(model, file, Y, batch_size=BATCH)
    ring: Any = trainer._source
    (x,) = (array for name, array in ring._host.items() if name.startswith("data/"))
    assert np.shares_memory(x, file)
    trainer.fit(1)
    trainer.release()
    expected.fit(X, Y, BATCH, verbose=0)
    assert weights(model) == weights(expected)


def test_a_search_for_a_learning_rate(on: Any) -> None:
    found = []
    for memory in (None, LITTLE):
        on(memory)
        model = net()
        search = gpunn.find_learning_rate(model, X, Y, batch_size=BATCH, steps=60)
        found.append((list(search.losses), weights(model)))
    assert found[0] == found[1] and len(found[0][0]) > 20


def test_hooks_see_every_batch(on: Any) -> None:
    seen = []
    for memory in (None, LITTLE):
        on(memory)
        model, watch = net(OPTIMIZERS["momentum"]), Watch()
        model.fit(X, Y, BATCH, epochs=2, verbose=0, callbacks=[watch])
        seen.append((watch.seen, weights(model)))
    assert seen[0] == seen[1]
    assert len(seen[0][0]) == 2 * math.ceil(ROWS / BATCH)


def test_several_inputs_and_outputs(on: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gpunn")
    images = RNG.integers(256, size=(ROWS, 60)).astype(np.uint8)
    inputs = {"images": images, "numbers": X[:, :7]}
    targets = {"classes": Y, "values": X[:, 1:3]}
    sample_weight = {"classes": WEIGHTS, "values": WEIGHTS[::-1]}
    runs = []
    for memory in (None, 1 << 15):
        on(memory)
        pictures = gpunn.Input((60,), name="images")
        numbers = gpunn.Input((7,), name="numbers")
        hidden = layers.Dense(5, activation="relu")(layers.Rescaling(1 / 255)(pictures))
        both = layers.Concatenate()([hidden, numbers])
        model = gpunn.Model(
            [pictures, numbers],
            [
                layers.Dense(3, activation="softmax", name="classes")(both),
                layers.Dense(2, name="values")(both),
            ],
        )
        model.compile(
            Adam(0.01),
            {"classes": "sparse_categorical_crossentropy", "values": "mse"},
            device="simulator",
            seed=1,
        )
        history = model.fit(
            inputs, targets, BATCH, epochs=2, verbose=0, sample_weight=sample_weight
        )
        runs.append((history.history, weights(model)))
    assert streamed(caplog) == ["the training data"]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("steps", [13, 51, 64])
def test_a_run_goes_on_in_the_middle_of_a_block(steps: int, on: Any, tmp_path: Path) -> None:
    """From a checkpoint of a run with or without streams, to a run with or without."""
    fit: dict[str, Any] = {"batch_size": BATCH, "verbose": 0}
    on(None)
    whole = net(OPTIMIZERS["momentum"])
    history = whole.fit(X, Y, epochs=3, **fit)
    for first, then in ((LITTLE, LITTLE), (None, LITTLE), (LITTLE, None)):
        on(first)
        half = net(OPTIMIZERS["momentum"])
        folder = tmp_path / f"{first}-{then}"
        half.fit(X, Y, steps=steps, callbacks=[Checkpoints(folder)], **fit)
        on(then)
        resumed = net(OPTIMIZERS["momentum"])
        assert resumed.fit(X, Y, epochs=3, resume=folder, **fit).history == history.history
        assert weights(resumed) == weights(whole)


def test_a_loop_in_hand(on: Any) -> None:
    """Steps one by one, whole epochs, a state put back, and two trainers that take turns."""
    runs = []
    for memory in (None, 1 << 17):
        on(memory)
        model = net(OPTIMIZERS["momentum"])
        one = gpunn.Trainer(model, X, Y, batch_size=BATCH)
        other = gpunn.Trainer(model, -X[::-1], Y, batch_size=BATCH)
        assert isinstance(other._source, Resident if memory is None else DoubleBuffer)
        logs: list[Any] = [one.step() for _ in range(20)]
        state = one.state_dict()
        logs += [one.step() for _ in range(9)]
        one.load_state_dict(state)
        logs.append(one.epoch())
        logs += [other.epoch(), one.epoch(), other.epoch()]
        runs.append((logs, weights(model)))
        one.release()
        other.release()
    assert runs[0] == runs[1]


class Back(Callback):
    """Goes back to an earlier step's state, once, while the loop runs."""

    every_steps = 1

    def __init__(self, saved: int, restored: int) -> None:
        self.saved, self.restored = saved, restored
        self.state: Any = None

    def on_steps(self, step: int) -> None:
        if step == self.saved and self.state is None:
            self.state = self.trainer.state_dict()
        if step == self.restored:
            self.restored = 0
            self.trainer.load_state_dict(self.state)


@pytest.mark.parametrize(
    ("memory", "saved", "restored"),
    [
        (None, 49, 52),
        *((LITTLE, 1, 3), (LITTLE, 20, 22), (LITTLE, 30, 45), (LITTLE, 53, 55)),
        *((LITTLE, 70, 99), (LITTLE, 49, 52), (LITTLE, 20, 120)),
    ],
)
def test_a_callback_goes_back_to_an_earlier_state(
    memory: int | None, saved: int, restored: int, on: Any
) -> None:
    on(memory)
    plain, back = net(OPTIMIZERS["momentum"]), net(OPTIMIZERS["momentum"])
    expected = plain.fit(X, Y, BATCH, epochs=3, verbose=0).history
    callback = Back(saved, restored)
    history = back.fit(X, Y, BATCH, epochs=3, verbose=0, callbacks=[callback]).history
    assert callback.restored == 0  # it did
    assert history == expected and weights(back) == weights(plain)


def test_evaluate_and_predict(on: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gpunn")
    x = RNG.normal(size=(7001, FEATURES)).astype(np.float32)
    y, sample_weight = RNG.integers(3, size=7001), RNG.uniform(size=7001).astype(np.float32)

    class Batches(Callback):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
            self.seen.append((batch, sorted(logs.items())))

        def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
            self.seen.append((batch, logs["outputs"].tobytes()))

    runs = []
    for memory in (None, 1 << 21):
        on(memory)
        model, watch = net(), Batches()
        told: list[Any] = [model.evaluate(x, y, verbose=0, sample_weight=sample_weight)]
        told += [model.predict(x).tobytes() for _ in range(2)]
        kept = model.session.predict(model.prepare(x), on_host=False)
        told += [np.array(kept[0]).tobytes()]
        told += [model.evaluate(x, y, 500, verbose=0, callbacks=[watch])]
        told += [model.predict(x, 500, callbacks=[watch]).tobytes()]
        runs.append((told, watch.seen))
    assert streamed(caplog) == ["the data"] * 6
    assert runs[0] == runs[1] and len(runs[0][1]) == 30


@pytest.mark.parametrize("both", [False, True])
def test_validation_data_that_do_not_fit(
    both: bool, on: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gpunn")
    x = RNG.normal(size=(7001, FEATURES)).astype(np.float32)
    y = RNG.integers(3, size=7001)
    runs = []
    for memory in (None, 1_900_000 if both else 1_300_000):
        on(memory)
        model = net()
        train = (x[::-1], y) if both else (X, Y)
        history = model.fit(*train, 128, epochs=2, verbose=0, validation_data=(x, y))
        runs.append((history.history, weights(model)))
    assert streamed(caplog) == ["the training data"] * both + ["the validation data"]
    assert runs[0] == runs[1]


def test_every_block_is_gathered_once_and_ahead(on: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    on(LITTLE)
    gather, gathered = blocks.gather, []

    def noted(arrays: Any, targets: Any, span: tuple[int, int], order: Any, *rest: Any) -> None:
        gathered.append((order.epoch, span))
        gather(arrays, targets, span, order, *rest)

    monkeypatch.setattr("gpunn.data.streaming.gather", noted)
    trainer = gpunn.Trainer(net(), X, Y, batch_size=BATCH)
    cut = trainer._source.blocks  # type: ignore[attr-defined]
    spans = [(epoch, cut.span(block)) for epoch in range(3) for block in range(cut.count)]
    trainer.step()
    assert len(gathered) <= 2  # the second may just have begun
    trainer.epoch()
    trainer.epoch()
    trainer.release()
    assert gathered == spans[: 2 * cut.count + 1]


def test_no_room_for_two_batches(on: Any) -> None:
    driver = on(None)
    model = net()
    model.fit(X[:BATCH], Y[:BATCH], BATCH, verbose=0)
    driver._memory = driver._used + 2 * BATCH * 268  # and nothing for the margin
    with pytest.raises(
        DeviceError,
        match=r"the training data \(108,004 bytes\) do not fit on simulator, which has 4,288 bytes "
        r"free, and neither do two batches of 8 rows to stream them through \(4,288 bytes\); use "
        r"a smaller batch_size",
    ):
        model.fit(X, Y, BATCH, verbose=0)
    driver._memory += 700
    model.fit(X, Y, BATCH, verbose=0)


# What is left behind


class Stop(Exception):
    pass


class Raise(Callback):
    every_steps = 20

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def on_steps(self, step: int) -> None:
        raise self.error


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
def test_memory_and_threads_go_with_a_run_that_fails(error: type[BaseException], on: Any) -> None:
    driver = on(LITTLE)
    model = net()
    model.fit(X, Y, BATCH, verbose=0)
    before, used = set(threading.enumerate()), driver._used
    with pytest.raises(error):
        model.fit(X, Y, BATCH, epochs=3, verbose=0, callbacks=[Raise(error)])
    assert set(threading.enumerate()) <= before
    gc.collect()
    assert driver._used == used
    model.fit(X, Y, BATCH, verbose=0)


def test_memory_goes_with_a_trainer_that_is_dropped(on: Any) -> None:
    driver = on(LITTLE)
    model = net()
    model.fit(X, Y, BATCH, verbose=0)
    used = driver._used
    trainer = gpunn.Trainer(model, X, Y, batch_size=BATCH)
    trainer.step()
    ring = weakref.ref(trainer._source)
    del trainer
    model.session.detach()
    for thread in threading.enumerate():
        if thread.name.startswith(("gpunn-fill", "gpunn-gather")):
            thread.join()
    gc.collect()
    assert ring() is None and driver._used == used


def test_what_goes_wrong_in_the_thread_is_raised(on: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    on(LITTLE)
    model = net()
    gather, failures = blocks.gather, [OSError("the disk is gone")]

    def failing(arrays: Any, targets: Any, span: tuple[int, int], *rest: Any) -> None:
        if span[0] >= 200 and failures:
            raise failures.pop()
        gather(arrays, targets, span, *rest)

    monkeypatch.setattr("gpunn.data.streaming.gather", failing)
    with gpunn.Trainer(model, X, Y, batch_size=BATCH) as trainer:
        with pytest.raises(OSError, match="the disk is gone"):
            trainer.epoch()
        # Where it stopped it can go on.
        assert 0 < trainer.offset < ROWS
        trainer.epoch()
        assert trainer.epoch_index == 1
    trainer.release()
    expected = net()
    expected.fit(X, Y, BATCH, verbose=0)
    assert weights(model) == weights(expected)


def test_a_thread_that_cannot_be_started(on: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = on(LITTLE)
    model = net()
    model.fit(X, Y, BATCH, verbose=0)
    used = driver._used

    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="can't start new thre"):
        patch.setattr("gpunn.data.streaming._Fill.start", fail)
        model.fit(X, Y, BATCH, verbose=0)
    gc.collect()
    assert driver._used == used
    model.fit(X, Y, BATCH, verbose=0)


# The simulator's copy stream


def test_copies_are_checked_and_late(on: Any) -> None:
    driver = on(None)
    stream = driver.copy_stream()
    array, pinned = driver.allocate(8), stream.allocate_pinned(8)
    pinned[:] = 7
    copied = stream.copy([(array[:4], pinned[4:])], stream.record_event())
    assert not array.any()
    stream.wait_event(copied)
    assert array.tolist() == [7] * 4 + [0] * 4
    for to, values, message in (
        (np.zeros(8, np.uint8), pinned, "to an array that this device did not allocate"),
        (array, np.zeros(8, np.uint8), "from memory that is not page-locked"),
        (array[::2], pinned[:4], "of an array that is not C-contiguous"),
        (array[:4], pinned, "of 8 bytes to 4"),
    ):
        with pytest.raises(DeviceError, match=message):
            stream.copy([(to, values)], stream.record_event())
