"""The loop: exact resumption, no allocations, callbacks and their triggers, signals."""

from __future__ import annotations

import gc
import os
import signal
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpunn
from gpunn.callbacks import (
    BackupAndRestore,
    Callback,
    Checkpoints,
    EarlyStopping,
    LambdaCallback,
)
from gpunn.errors import CheckpointError, TrainingError

ROWS, FEATURES, CLASSES = 70, 12, 4
RNG = np.random.default_rng(20)
X = RNG.integers(0, 256, (ROWS, 3, 4), dtype=np.uint8)
Y = RNG.integers(0, CLASSES, ROWS)
NUMPY_DOMAIN = np.lib.tracemalloc_domain


def make_model(
    optimizer: Any = None, device: str = "cpu", dropout: float = 0.3, seed: int = 5
) -> gpunn.Model:
    layers = gpunn.layers
    model = gpunn.Sequential(
        [
            gpunn.Input((3, 4)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(9, activation="relu", name="hidden1"),
            layers.Dropout(dropout),
            layers.Dense(6, activation="tanh", name="hidden2"),
            layers.Dense(CLASSES, activation="softmax", name="outputs"),
        ]
    )
    if optimizer is None:
        rate = gpunn.schedules.CosineDecay(0.01, 60, warmup_target=0.02, warmup_steps=5)
        optimizer = gpunn.optimizers.Adam(rate)
    model.compile(
        optimizer, "sparse_categorical_crossentropy", ["accuracy"], device=device, seed=seed
    )
    return model


def same_weights(a: gpunn.Model, b: gpunn.Model) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.get_weights(), b.get_weights(), strict=True))


class StopAfter(Callback):
    """Raises after some steps, as a crash would."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.trainer.step_count == self.steps:
            raise ZeroDivisionError


OPTIMIZERS = {
    "sgd": lambda: gpunn.optimizers.SGD(0.05),
    "nesterov": lambda: gpunn.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adagrad": lambda: gpunn.optimizers.Adagrad(0.05),
    "rmsprop": lambda: gpunn.optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "adam with cosine": lambda: None,
    "adamw": lambda: gpunn.optimizers.AdamW(0.01, amsgrad=True, global_clipnorm=1.0),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("stop", [14, 17], ids=["epoch's end", "mid-epoch"])
def test_a_resumed_run_equals_the_uninterrupted_one(
    tmp_path: Path, name: str, device: str, stop: int
) -> None:
    fit = {"batch_size": 10, "epochs": 4, "verbose": 0, "validation_data": (X[:20], Y[:20])}
    whole = make_model(OPTIMIZERS[name](), device)
    expected = whole.fit(X, Y, **fit)

    crashed = make_model(OPTIMIZERS[name](), device)
    saver = Checkpoints(tmp_path, save_every=0, save_every_steps=stop)
    with pytest.raises(ZeroDivisionError):
        crashed.fit(X, Y, callbacks=[saver, StopAfter(stop + 2)], **fit)
    assert not same_weights(whole, crashed)

    resumed = make_model(OPTIMIZERS[name](), device)
    saver = Checkpoints(tmp_path, save_every=0)
    history = resumed.fit(X, Y, callbacks=[saver], resume=tmp_path, **fit)
    assert same_weights(whole, resumed)
    assert history.history == expected.history
    assert history.epoch == expected.epoch == [0, 1, 2, 3]


@settings(max_examples=25)
@given(
    rows=st.integers(3, ROWS),
    batch_size=st.integers(1, 16),
    stop=st.integers(1, 40),
    shuffle=st.booleans(),
)
def test_a_state_can_be_taken_up_at_any_step(
    rows: int, batch_size: int, stop: int, shuffle: bool
) -> None:
    batch_size = min(batch_size, rows)
    options = {"batch_size": batch_size, "shuffle": shuffle}
    total = stop + 7

    def trainer() -> gpunn.Trainer:
        return gpunn.Trainer(make_model(device="reference"), X[:rows], Y[:rows], **options)

    whole = trainer()
    state = None
    for step in range(total):
        whole.step()
        if step + 1 == stop:
            state = whole.state_dict()
    resumed = trainer()
    assert state is not None
    resumed.load_state_dict(state)
    for _ in range(total - stop):
        logs = resumed.step()
    assert same_weights(whole.model, resumed.model)
    assert resumed.epoch_index == whole.epoch_index and resumed.offset == whole.offset
    assert np.isfinite(logs["loss"])


@pytest.mark.parametrize(
    ("name", "value"),
    [("offset", None), ("step", -1), ("epoch", "2"), ("shuffle", 1), ("callbacks", [1])],
)
def test_a_damaged_state_is_refused_before_anything_changes(name: str, value: object) -> None:
    trainer = gpunn.Trainer(make_model(), X, Y, batch_size=10)
    state = trainer.state_dict()
    trainer.epoch()
    before = trainer.model.get_weights()
    state["training"][name] = value
    with pytest.raises(CheckpointError, match="damaged: its " + name):
        trainer.load_state_dict(state)
    assert all(map(np.array_equal, before, trainer.model.get_weights()))
    assert trainer.step_count == 7


def test_threads_may_predict_at_once() -> None:
    model = make_model()
    expected = model.predict(X)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda i: model.predict(X[i : i + 1]), [*range(ROWS)] * 5))
    for i, result in enumerate(results):
        np.testing.assert_allclose(result[0], expected[i % ROWS], rtol=1e-5)


def test_a_run_stopped_by_steps_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = make_model()
    expected = whole.fit(X, Y, batch_size=10, steps=25, verbose=0)
    part = make_model()
    part.fit(X, Y, batch_size=10, steps=11, verbose=0, callbacks=[Checkpoints(tmp_path)])
    resumed = make_model()
    history = resumed.fit(X, Y, batch_size=10, steps=25, verbose=0, resume=tmp_path)
    assert same_weights(whole, resumed)
    assert history.history == expected.history


@pytest.mark.parametrize("changed", ["batch_size", "shuffle", "rows", "seed", "optimizer", "net"])
def test_resuming_with_other_settings_is_refused(tmp_path: Path, changed: str) -> None:
    make_model().fit(X, Y, batch_size=10, verbose=0, callbacks=[Checkpoints(tmp_path)])
    fit: dict[str, Any] = {"batch_size": 10}
    model, x, y = make_model(), X, Y
    if changed == "batch_size":
        fit["batch_size"] = 9
    elif changed == "shuffle":
        fit["shuffle"] = False
    elif changed == "rows":
        x, y = X[:60], Y[:60]
    elif changed == "seed":
        model = make_model(seed=6)
    elif changed == "optimizer":
        model = make_model("sgd")
    else:
        model = make_model(dropout=0.2)
    with pytest.raises(CheckpointError, match="layers" if changed == "net" else changed):
        model.fit(x, y, epochs=2, verbose=0, resume=tmp_path, **fit)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_allocates_nothing_after_warm_up(name: str) -> None:
    x, y = np.tile(X, (100, 1, 1)), np.tile(Y, 100)
    trainer = gpunn.Trainer(make_model(OPTIMIZERS[name]()), x, y, batch_size=200)
    trainer.step()
    calls = trainer.bound.calls("train")
    trainer.bound.write("control/offset", 0)

    def growth(steps: int) -> tuple[int, int, int]:
        """Return what `steps` steps add: bytes, bytes of NumPy arrays, and bytes at the peak."""
        arrays = numpy_bytes()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(steps):
            for call in calls:
                call()
        after, peak = tracemalloc.get_traced_memory()
        return after - before, numpy_bytes() - arrays, peak - before

    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(4):  # Python's own free lists are refilled under tracemalloc's eyes first
            growth(30)
            trainer.bound.write("control/offset", 0)
        measuring_itself, _, _ = growth(0)
        total, arrays, peak = growth(14)
    finally:
        tracemalloc.stop()
        gc.enable()
    assert total <= measuring_itself
    assert arrays == 0
    # Room for numbers and NumPy's iterators, which come and go as Python objects, but not for a
    # batch of any layer: the smallest has 200 x 4 values of 4 bytes.
    assert peak < 200 * 4 * 4


def numpy_bytes() -> int:
    domain = tracemalloc.DomainFilter(inclusive=True, domain=NUMPY_DOMAIN)
    traces = tracemalloc.take_snapshot().filter_traces([domain])
    return sum(entry.size for entry in traces.statistics("lineno"))


def test_an_array_made_in_a_step_would_be_noticed() -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = np.empty(100)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before >= kept.nbytes


def test_callbacks_that_ask_for_nothing_per_batch_are_not_called_per_batch() -> None:
    looks: list[int] = []
    model = make_model()
    per_epoch = LambdaCallback(on_epoch_end=lambda epoch, logs: looks.append(epoch))
    trainer = gpunn.Trainer(model, X, Y, batch_size=2, callbacks=[per_epoch])
    advances: list[int] = []
    advance = trainer._advance
    trainer._advance = lambda count: (advances.append(count), advance(count))[1]  # type: ignore[method-assign,func-returns-value]
    trainer.fit(epochs=2)
    assert looks == [0, 1]
    # 35 steps an epoch, in chunks of 16 and more on a machine that is not very slow.
    assert sum(advances) == 70
    assert len(advances) < 20


def test_step_triggers_fall_on_their_steps() -> None:
    seen: list[int] = []
    callback = LambdaCallback(on_steps=seen.append)
    callback.every_steps = 4
    make_model().fit(X, Y, batch_size=10, epochs=2, verbose=0, callbacks=[callback])
    assert seen == [4, 8, 12]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_at_the_next_step_and_the_run_can_be_resumed(
    tmp_path: Path, number: int
) -> None:
    whole = make_model()
    whole.fit(X, Y, batch_size=10, epochs=3, verbose=0)

    class Kill(Callback):
        every_steps = 9

        def on_steps(self, step: int) -> None:
            if step == 9:
                os.kill(os.getpid(), number)

    model = make_model()
    raised = KeyboardInterrupt if number == signal.SIGINT else SystemExit
    with pytest.raises(raised):
        model.fit(
            X, Y, batch_size=10, epochs=3, verbose=0, callbacks=[Kill(), Checkpoints(tmp_path)]
        )
    resumed = make_model()
    resumed.fit(X, Y, batch_size=10, epochs=3, verbose=0, resume=tmp_path)
    assert same_weights(whole, resumed)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_broken_model_is_never_saved(tmp_path: Path) -> None:
    model = make_model("sgd", dropout=0.0)
    saver = Checkpoints(tmp_path)
    model.fit(X, Y, batch_size=10, verbose=0, callbacks=[saver])
    good = sorted(tmp_path.iterdir())
    weights = model.get_weights()
    weights[0][0, 0] = np.nan
    model.set_weights(weights)
    with (
        pytest.raises(TrainingError, match="not finite since step 7"),
        pytest.warns(RuntimeWarning),
    ):
        model.fit(X, Y, batch_size=10, verbose=0, callbacks=[Checkpoints(tmp_path)])
    assert sorted(tmp_path.iterdir()) == good
    assert np.isfinite(gpunn.load_model(good[-1]).get_weights()[0]).all()
    with pytest.raises(TrainingError, match="hidden1/kernel"):
        model.save(tmp_path / "model.h5")


def test_the_best_model_is_kept_beside_the_last(tmp_path: Path) -> None:
    model = make_model()
    saver = Checkpoints(tmp_path, keep_last=2)
    history = model.fit(
        X, Y, batch_size=10, epochs=6, verbose=0, callbacks=[saver], validation_data=(X, Y)
    )
    assert len(list(tmp_path.glob("step-*.h5"))) == 2
    best = gpunn.load_model(tmp_path / "best.h5", device="cpu")
    loss = best.evaluate(X, Y, return_dict=True)["loss"]
    assert loss == pytest.approx(min(history.history["val_loss"]), rel=1e-6)


def test_a_checkpoint_holds_what_the_other_callbacks_have_just_learned(tmp_path: Path) -> None:
    class Counter(Callback):
        epochs = 0

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.epochs += 1

        def state_dict(self) -> dict[str, Any]:
            return {"epochs": self.epochs}

        def load_state_dict(self, state: Any) -> None:
            self.epochs = state["epochs"]

    def fit(epochs: int, **more: Any) -> int:
        counter = Counter()
        # The order in which they are given does not matter.
        callbacks = [Checkpoints(tmp_path), counter]
        make_model().fit(X, Y, epochs=epochs, callbacks=callbacks, verbose=0, **more)
        return counter.epochs

    assert fit(2) == 2
    assert fit(5, resume=tmp_path) == 5


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("name", ["nesterov", "rmsprop", "adam with cosine", "adamw"])
def test_moving_averages_do_not_become_subnormal(name: str, device: str) -> None:
    x = X.copy()
    trainer = gpunn.Trainer(make_model(OPTIMIZERS[name](), device), x, Y, batch_size=70)
    trainer.step()
    slots = trainer.model.compiled.optimizer.slots
    for slot in slots:  # as they are after a thousand steps without a gradient
        trainer.bound.write(f"optimizer/{slot}/hidden1/kernel", np.float32(2e-37))
    x[...] = 0
    trainer.epoch()
    for slot in slots:
        values = trainer.bound.read(f"optimizer/{slot}/hidden1/kernel")
        if slot == "velocity_hat":  # the largest so far: it never shrinks
            continue
        assert not values.any(), slot


@pytest.mark.parametrize(("name", "best"), [("accuracy", max), ("in_top_2", max), ("loss", min)])
def test_the_metric_says_which_way_is_better(tmp_path: Path, name: str, best: Any) -> None:
    model = make_model(dropout=0.0)
    metrics = ["accuracy", gpunn.metrics.TopKCategoricalAccuracy(2, name="in_top_2")]
    adam, loss = gpunn.optimizers.Adam(0.03), "sparse_categorical_crossentropy"
    model.compile(adam, loss, metrics, device="cpu", seed=5)
    saver = Checkpoints(tmp_path, monitor=f"val_{name}")
    fit = {"batch_size": 10, "epochs": 5, "verbose": 0, "callbacks": [saver]}
    history = model.fit(X, Y, validation_data=(X[::2], Y[::2]), **fit).history
    assert len(set(history[f"val_{name}"])) > 1
    assert saver.best == best(history[f"val_{name}"])


def test_epochs_are_reshuffled_and_reproducible() -> None:
    def first_batches(seed: int) -> list[list[int]]:
        trainer = gpunn.Trainer(make_model(seed=seed), X, Y, batch_size=10)
        orders = []
        for _ in range(2):
            trainer.epoch()
            orders.append(trainer._source.arrays["order"].tolist())
        return orders

    one, two = first_batches(5)
    assert sorted(one) == sorted(two) == list(range(ROWS))
    assert one != two
    assert first_batches(5) == [one, two] != first_batches(6)


def test_shuffle_false_keeps_the_order() -> None:
    trainer = gpunn.Trainer(make_model(), X, Y, batch_size=10, shuffle=False)
    trainer.epoch()
    assert trainer._source.arrays["order"].tolist() == list(range(ROWS))


@pytest.mark.parametrize("end", ["done", "error"])
def test_a_fit_does_not_keep_the_data(end: str) -> None:
    x, xv = X.copy(), X.copy()
    alive = weakref.ref(x), weakref.ref(xv)
    model = make_model()
    fit = {"batch_size": 10, "verbose": 0, "validation_data": (xv, Y)}
    if end == "done":
        history = model.fit(x, Y, **fit)
        assert len(history.epoch) == 1
    else:
        with pytest.raises(ZeroDivisionError):
            model.fit(x, Y, callbacks=[StopAfter(3)], **fit)
    del x, xv, fit
    gc.collect()
    assert [reference() for reference in alive] == [None, None]


def test_trainers_of_one_model_take_turns() -> None:
    model, alone = make_model("sgd", dropout=0.0), make_model("sgd", dropout=0.0)
    first = gpunn.Trainer(model, X, Y, batch_size=10)
    second = gpunn.Trainer(model, X[:10], Y[:10], batch_size=10)
    only = gpunn.Trainer(alone, X, Y, batch_size=10)
    for _ in range(3):
        first.step()
        only.step()
    # The second one exists, but has not trained: the first still sees its own rows.
    assert first.epoch() == only.epoch()
    assert same_weights(model, alone)
    second.epoch()
    assert second.step_count == 8
    first.epoch()
    assert first.step_count == 15
    first.step()
    model.fit(X[:20], Y[:20], batch_size=10, verbose=0)
    with pytest.raises(TrainingError, match="middle of an epoch"):
        first.step()


def test_a_state_is_not_changed_by_what_comes_after() -> None:
    trainer = gpunn.Trainer(make_model(), X, Y, batch_size=10)
    trainer.epoch()
    state = trainer.state_dict()
    trainer.epoch()
    trainer.load_state_dict(state)
    assert trainer.history.epoch == [0]
    assert len(trainer.history.history["loss"]) == 1


def test_the_step_that_ends_an_epoch_ends_it_for_callbacks_too() -> None:
    seen: list[tuple[str, int]] = []
    hooks = LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(("begin", epoch)),
        on_epoch_end=lambda epoch, logs: seen.append(("end", epoch)),
    )
    trainer = gpunn.Trainer(make_model(), X, Y, batch_size=35, callbacks=[hooks])
    trainer.step()
    trainer.step()
    trainer.epoch()
    assert seen == [("begin", 0), ("end", 0), ("begin", 1), ("end", 1)]
    assert trainer.history.epoch == [0, 1]


def test_a_signal_after_the_last_step_saves_too(tmp_path: Path) -> None:
    class Kill(Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                os.kill(os.getpid(), signal.SIGINT)

    callbacks = [Kill(), Checkpoints(tmp_path, save_every=0)]
    with pytest.raises(KeyboardInterrupt):
        make_model().fit(X, Y, batch_size=10, epochs=2, verbose=0, callbacks=callbacks)
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000000014.h5"]


def test_a_signal_that_the_process_ignores_stays_ignored() -> None:
    class Kill(Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        history = make_model().fit(X, Y, epochs=2, verbose=0, callbacks=[Kill()])
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert history.epoch == [0, 1]


def test_two_callbacks_of_one_type_get_their_own_states_back() -> None:
    class Remembers(Callback):
        def __init__(self, value: int) -> None:
            self.value = value

        def state_dict(self) -> dict[str, Any]:
            return {"value": self.value}

        def load_state_dict(self, state: Any) -> None:
            self.value = state["value"]

    model = make_model()
    saved = gpunn.Trainer(model, X, Y, callbacks=[Remembers(1), Remembers(2)]).state_dict()
    callbacks = [Remembers(0), Remembers(0)]
    gpunn.Trainer(model, X, Y, callbacks=callbacks).load_state_dict(saved)
    assert [callback.value for callback in callbacks] == [1, 2]


def test_a_loss_that_is_not_a_number_is_never_the_best(tmp_path: Path) -> None:
    saver = Checkpoints(tmp_path)
    gpunn.Trainer(make_model(), X, Y, batch_size=10, callbacks=[saver])
    assert not saver._improved({"val_loss": float("nan")})
    assert saver._improved({"val_loss": 2.0})
    assert not saver._improved({"val_loss": float("nan")})
    assert saver._improved({"val_loss": 1.0})


def test_statistics_set_between_steps_are_used_by_the_next() -> None:
    normalization = gpunn.layers.Normalization(mean=[0.0] * 3, variance=[1.0] * 3)
    model = gpunn.Sequential([gpunn.Input((3,)), normalization, gpunn.layers.Dense(1)])
    model.compile("sgd", "mse", device="cpu", seed=1)
    x, y = X[:, :, 0].astype(np.float32), Y[:, np.newaxis]
    trainer = gpunn.Trainer(model, x, y, batch_size=ROWS, shuffle=False)
    trainer.step()
    model.get_layer(index=0).set_weights([np.full(3, 99.0), np.full(3, 50.0)])
    loss = model.evaluate(x, y)
    assert trainer.step()["loss"] == pytest.approx(loss, rel=1e-6)


def hooks_seen(seen: list[str]) -> Callback:
    names = ("train_begin", "train_end", "interrupt", "exception")
    hooks: dict[str, Any] = {f"on_{n}": lambda *_, n=n: seen.append(n) for n in names}
    hooks["on_epoch_end"] = lambda epoch, logs: seen.append(f"epoch {epoch}")
    return LambdaCallback(**hooks)


def test_a_loop_in_hand_begins_once_and_ends_when_it_is_told_to() -> None:
    seen: list[str] = []
    trainer = gpunn.Trainer(make_model(), X, Y, batch_size=35, callbacks=[hooks_seen(seen)])
    trainer.step()
    for _ in range(2):
        trainer.epoch()
    assert seen == ["train_begin", "epoch 0", "epoch 1"]
    trainer.end()
    trainer.end()
    assert seen[3:] == ["train_end"]
    with trainer:
        trainer.epoch()
    assert seen[4:] == ["train_begin", "epoch 2", "train_end"]
    # `fit` goes on with a loop that has begun, and ends it.
    trainer.epoch()
    trainer.fit(epochs=5)
    assert seen[7:] == ["train_begin", "epoch 3", "epoch 4", "train_end"]
    assert trainer.history.epoch == [0, 1, 2, 3, 4]


def test_a_loop_in_hand_is_the_same_training_as_fit() -> None:
    model, same = make_model(), make_model()
    model.fit(X, Y, batch_size=10, epochs=3, verbose=0)
    with gpunn.Trainer(same, X, Y, batch_size=10) as trainer:
        while trainer.epoch_index < 1:
            trainer.step()
        trainer.epoch()
        trainer.epoch()
    assert same_weights(model, same)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_error_in_a_loop_in_hand_is_told_to_callbacks_once(error: type[BaseException]) -> None:
    seen: list[str] = []
    callbacks = [hooks_seen(seen), StopAfter(4)]
    told = "interrupt" if error is KeyboardInterrupt else "exception"
    with (
        pytest.raises(error),
        gpunn.Trainer(make_model(), X, Y, batch_size=35, callbacks=callbacks[:1]) as trainer,
    ):
        trainer.epoch()
        raise error
    assert seen == ["train_begin", "epoch 0", told]
    seen.clear()
    with (
        pytest.raises(ZeroDivisionError),
        gpunn.Trainer(make_model(), X, Y, batch_size=35, callbacks=callbacks) as trainer,
    ):
        for _ in range(9):
            trainer.step()
    assert seen == ["train_begin", "epoch 0", "exception"]


def test_early_stopping_and_backups_last_as_long_as_a_loop_in_hand(tmp_path: Path) -> None:
    losses = [3.0, 2.0, 5.0, 4.0, 1.0]
    weights: list[Any] = []

    class Losses(Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs["val_loss"] = losses[epoch]
            weights.append(self.model.get_weights())

    stopping = EarlyStopping(patience=2, restore_best_weights=True)
    callbacks = [Losses(), stopping, BackupAndRestore(tmp_path / "backup")]
    with gpunn.Trainer(make_model(), X, Y, batch_size=10, callbacks=callbacks) as trainer:
        while trainer.epoch_index < 5 and not trainer.stop_training:
            trainer.epoch()
            assert [p.name for p in (tmp_path / "backup").iterdir()] == [
                f"step-{trainer.step_count:010}.h5"
            ]
        assert trainer.epoch_index == 4
        assert all(map(np.array_equal, trainer.model.get_weights(), weights[3]))
    assert all(map(np.array_equal, trainer.model.get_weights(), weights[1]))
    assert not (tmp_path / "backup").exists()


def test_a_step_in_hand_calls_the_hooks_of_a_batch() -> None:
    batches: list[tuple[str, int]] = []
    hook = LambdaCallback(
        on_train_batch_begin=lambda batch, logs: batches.append(("begin", batch)),
        on_train_batch_end=lambda batch, logs: batches.append(("end", batch)),
    )
    trainer = gpunn.Trainer(make_model(), X, Y, batch_size=10, callbacks=[hook])
    trainer.step()
    trainer.step()
    assert batches == [("begin", 0), ("end", 0), ("begin", 1), ("end", 1)]
