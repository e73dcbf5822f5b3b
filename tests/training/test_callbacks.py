"""Keras's callbacks: what they decide, that they can be resumed, and that no step waits."""

from __future__ import annotations

import copy
import csv
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gpunn
from gpunn import optimizers
from gpunn.callbacks import (
    BackupAndRestore,
    Callback,
    Checkpoints,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from gpunn.errors import ArgumentError, ArgumentTypeError, CheckpointError, TrainingError
from gpunn.plan.bind import BoundPlan
from gpunn.training import chunks

ROWS = 70
RNG = np.random.default_rng(3)
X = RNG.normal(size=(ROWS, 5)).astype(np.float32)
Y = (X[:, 0] + 0.1 * RNG.normal(size=ROWS) > 0).astype(np.int64)
FIT: dict[str, Any] = {"batch_size": 10, "verbose": 0, "validation_data": (X[:20], Y[:20])}


def make_model(optimizer: Any = None, device: str = "cpu", dropout: float = 0.2) -> gpunn.Model:
    layers = gpunn.layers
    stack = [gpunn.Input((5,)), layers.Dense(6, activation="tanh"), layers.Dropout(dropout)]
    model = gpunn.Sequential([*stack, layers.Dense(2, activation="softmax")])
    loss = "sparse_categorical_crossentropy"
    optimizer = optimizer or gpunn.optimizers.Adam(0.01)
    model.compile(optimizer, loss, ["accuracy"], device=device, seed=4)
    return model


def same_weights(a: gpunn.Model, b: gpunn.Model) -> bool:
    return all(map(np.array_equal, a.get_weights(), b.get_weights()))


class Figures(Callback):
    """Replaces a figure of the logs by given values, and notes the learning rates."""

    def __init__(self, name: str, values: list[float]) -> None:
        self.name, self.values = name, values
        self.rates: list[float] = []
        self.weights: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs[self.name] = self.values[epoch]
        self.weights.append(self.model.get_weights())

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.rates.append(self.trainer.learning_rate)


class Crash(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == self.epoch:
            raise ZeroDivisionError


# Epochs, and the weights' epoch where they are restored: recorded with Keras 3.15.
NOISY = [5.0, 4.0, 4.5, 3.9, 4.1, 4.2, 4.3, 4.4, 3.0, 5.0]
STOPS: list[tuple[dict[str, Any], int]] = [
    ({}, 3),
    ({"patience": 2}, 6),
    ({"patience": 2, "min_delta": 0.2}, 4),
    ({"patience": 2, "mode": "max"}, 3),
    ({"patience": 3, "baseline": 3.95}, 3),
    ({"patience": 3, "baseline": 1.0}, 3),
    ({"start_from_epoch": 2}, 5),
    ({"patience": 1, "start_from_epoch": 4}, 6),
    ({"patience": 5}, 10),
]


@pytest.mark.parametrize(("options", "epochs"), STOPS)
def test_early_stopping_stops_where_keras_does(options: dict[str, Any], epochs: int) -> None:
    model = make_model()
    stopping = EarlyStopping(**options)
    history = model.fit(X, Y, epochs=10, callbacks=[Figures("val_loss", NOISY), stopping], **FIT)
    assert len(history.epoch) == epochs
    assert stopping.stopped_epoch == (0 if epochs == 10 else epochs - 1)
    # A second fit starts anew.
    assert len(model.fit(X, Y, epochs=1, callbacks=[stopping], **FIT).epoch) == 1
    assert stopping.stopped_epoch == 0 and stopping.wait == 0


def test_early_stopping_asks_the_metric_which_way_is_better() -> None:
    for name, rising in (("val_accuracy", True), ("val_loss", False), ("loss", False)):
        values = [0.1, 0.2, 0.3, 0.4] if rising else [0.4, 0.3, 0.2, 0.1]
        for figures, epochs in ((values, 4), (values[::-1], 2)):
            callbacks = [Figures(name, figures), EarlyStopping(name)]
            history = make_model().fit(X, Y, epochs=4, callbacks=callbacks, **FIT)
            assert len(history.epoch) == epochs


@pytest.mark.parametrize(("epochs", "best"), [(4, 3), (10, 3), (9, 3), (2, 1)])
def test_early_stopping_restores_the_best_weights(
    epochs: int, best: int, capsys: pytest.CaptureFixture[str]
) -> None:
    model, figures = make_model(), Figures("val_loss", NOISY)
    stopping = EarlyStopping(patience=4, restore_best_weights=True, verbose=1)
    model.fit(X, Y, epochs=epochs, callbacks=[figures, stopping], **FIT)
    assert all(map(np.array_equal, model.get_weights(), figures.weights[best]))
    printed = capsys.readouterr().out
    assert f"Restoring model weights from the end of the best epoch: {best + 1}." in printed
    assert ("Epoch 8: early stopping" in printed) == (epochs > 7)


# Learning rates of the epochs, recorded with Keras 3.15 and SGD(0.8).
PLATEAUS: list[tuple[dict[str, Any], list[float]]] = [
    ({"patience": 2, "factor": 0.5}, [0.8] * 6 + [0.4] * 2 + [0.2] * 2),
    (
        {"patience": 1, "factor": 0.5, "cooldown": 1, "min_lr": 0.3},
        [0.8] * 3 + [0.4] * 2 + [0.3] * 5,
    ),
    ({"patience": 1, "factor": 0.5, "min_delta": 2.0}, [0.8, *(0.8 / 2**i for i in range(9))]),
    (
        {"patience": 2, "mode": "max", "factor": 0.25},
        [0.8] * 3 + [0.2] * 2 + [0.05] * 2 + [0.0125] * 2 + [0.003125],
    ),
    ({"patience": 0, "factor": 0.5, "cooldown": 3}, [0.8] * 3 + [0.4] * 3 + [0.2] * 4),
]


@pytest.mark.parametrize(("options", "expected"), PLATEAUS)
def test_reduce_lr_on_plateau_does_what_keras_does(
    options: dict[str, Any], expected: list[float]
) -> None:
    model, figures = make_model(optimizers.SGD(0.8)), Figures("val_loss", NOISY)
    callbacks = [figures, ReduceLROnPlateau(**options)]
    history = model.fit(X, Y, epochs=10, callbacks=callbacks, **FIT)
    assert figures.rates == pytest.approx(expected)
    assert history.history["learning_rate"] == pytest.approx(expected)


def test_a_reduced_rate_is_the_one_that_steps_take() -> None:
    model, same = (make_model(optimizers.SGD(0.5)) for _ in range(2))
    model.fit(X, Y, epochs=3, callbacks=[LearningRateScheduler(lambda e: 0.5 / (e + 1))], **FIT)
    for epoch in range(3):
        same.optimizer.learning_rate = 0.5 / (epoch + 1)
        same.fit(X, Y, epochs=1, **FIT)
    assert same_weights(model, same)
    still = make_model(optimizers.SGD(0.5))
    before = still.get_weights()
    still.optimizer.learning_rate = 0.0
    still.fit(X, Y, epochs=2, **FIT)
    assert all(map(np.array_equal, before, still.get_weights()))


def test_learning_rate_scheduler_takes_both_kinds_of_functions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = make_model(optimizers.SGD(0.8))
    halve = LearningRateScheduler(lambda epoch, lr: lr * 0.5 if epoch else lr, verbose=1)
    history = model.fit(X, Y, epochs=3, callbacks=[halve], **FIT)
    assert history.history["learning_rate"] == pytest.approx([0.8, 0.4, 0.2])
    assert "Epoch 2: LearningRateScheduler setting learning rate to 0.4." in capsys.readouterr().out
    for bad, error in ((lambda epoch: "x", ArgumentTypeError), (lambda epoch: -1.0, ArgumentError)):
        with pytest.raises(error, match="result of schedule must be a number at least 0"):
            model.fit(X, Y, callbacks=[LearningRateScheduler(bad)], **FIT)

    def own_error(epoch: int, lr: float) -> float:
        return lr + "1"  # type: ignore[operator, no-any-return]

    with pytest.raises(TypeError, match="unsupported operand"):
        model.fit(X, Y, callbacks=[LearningRateScheduler(own_error)], **FIT)


def test_the_optimizers_learning_rate_can_be_set_and_the_spec_stays() -> None:
    spec = optimizers.Adam(0.01)
    model = make_model(spec)
    optimizer = model.optimizer
    assert isinstance(optimizer, optimizers.Adam) and optimizer == spec and spec == optimizer
    assert optimizer.learning_rate == 0.01 and optimizer.beta_1 == 0.9
    model.fit(X, Y, epochs=1, **FIT)
    plans = model.session._plans.copy()
    model.optimizer.learning_rate = 0.5
    model.optimizer.learning_rate.assign(0.25)
    assert model.optimizer.learning_rate == 0.25 and model.optimizer.iterations == 7
    assert model.optimizer == optimizers.Adam(0.25) != model.optimizer.spec
    model.fit(X, Y, epochs=1, **FIT)
    assert model.session._plans.keys() == plans.keys()  # no plan was built anew
    assert spec == optimizers.Adam(0.01)
    for copied in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert copied == optimizer and copied.learning_rate == 0.25
    # Another model takes the rate over; compiling again takes the given one.
    assert make_model(optimizer).optimizer == optimizers.Adam(0.25)
    model.compile(spec, "sparse_categorical_crossentropy", device="cpu")
    assert model.optimizer.learning_rate == 0.01


def test_a_rate_that_cannot_be_set_is_refused() -> None:
    model = make_model()
    with pytest.raises(ArgumentTypeError, match="learning_rate must be a number"):
        model.optimizer.learning_rate = "high"
    with pytest.raises(ArgumentError, match="learning_rate must be a number at least 0"):
        model.optimizer.learning_rate = -1
    with pytest.raises(ArgumentError, match=r"only learning_rate can be set.*'beta_1'"):
        model.optimizer.beta_1 = 0.5
    scheduled = make_model(optimizers.SGD(gpunn.schedules.CosineDecay(0.1, 10)))
    with pytest.raises(TypeError, match=r"follows the schedule CosineDecay.* cannot be set"):
        scheduled.optimizer.learning_rate = 0.1
    assert scheduled.optimizer.learning_rate == pytest.approx(0.1)
    for callback in (ReduceLROnPlateau(), LearningRateScheduler(lambda epoch: 0.1)):
        with pytest.raises(ArgumentTypeError, match="follows the schedule"):
            scheduled.fit(X, Y, callbacks=[callback], **FIT)
    scheduled.fit(X, Y, epochs=1, **FIT)
    expected = gpunn.schedules.CosineDecay(0.1, 10)(7)
    assert scheduled.optimizer.learning_rate == pytest.approx(expected)


def test_initial_epoch_goes_on_where_a_fit_ended() -> None:
    whole, parts = make_model(), make_model()
    expected = whole.fit(X, Y, epochs=5, **FIT)
    first = parts.fit(X, Y, epochs=3, **FIT)
    second = parts.fit(X, Y, epochs=5, initial_epoch=3, **FIT)
    assert same_weights(whole, parts)
    assert first.epoch + second.epoch == expected.epoch and second.epoch == [3, 4]
    assert first.history["loss"] + second.history["loss"] == expected.history["loss"]
    assert second.params["epochs"] == 5 and second.params["steps"] == 7
    assert second.params["verbose"] == 0
    assert parts.fit(X, Y, epochs=2, initial_epoch=2, **FIT).epoch == []
    with pytest.raises(ArgumentError, match="initial_epoch goes with epochs"):
        parts.fit(X, Y, steps=3, initial_epoch=1, **FIT)
    with pytest.raises(ArgumentError, match="initial_epoch must be at least 0"):
        parts.fit(X, Y, initial_epoch=-1, **FIT)
    with pytest.raises(ArgumentError, match="initial_epoch or resume"):
        parts.fit(X, Y, initial_epoch=1, resume="run", **FIT)


@pytest.mark.parametrize("make", [EarlyStopping, ReduceLROnPlateau, ModelCheckpoint])
def test_a_monitor_that_does_not_exist_is_an_error(make: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"monitor": "val_acc"}
    if make is ModelCheckpoint:
        options |= {"filepath": tmp_path / "m.keras", "save_best_only": True}
    with pytest.raises(ArgumentError, match=r"'val_acc' is not among loss, accuracy.*validation"):
        make_model().fit(X, Y, verbose=0, callbacks=[make(**options)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EarlyStopping(mode="up"), "Unknown mode 'up'.*auto, max, min"),
        (lambda: EarlyStopping(patience=-1), "EarlyStopping: patience must be at least 0"),
        (lambda: EarlyStopping(baseline="x"), "baseline must be a number"),
        (lambda: ReduceLROnPlateau(factor=1.0), "factor must be a number .*below 1"),
        (lambda: LearningRateScheduler(0.1), "schedule must be a function"),  # type: ignore
        (lambda: CSVLogger("log.csv", ""), "separator must be one character"),
        (lambda: ModelCheckpoint("model"), "must end in .keras or .h5"),
        (lambda: ModelCheckpoint("a.h5", save_weights_only=True), "must end in .weights.h5"),
        (lambda: ModelCheckpoint("a.h5", save_freq="batch"), "'epoch' or a number of steps"),
        (lambda: BackupAndRestore(""), "backup_dir is empty"),
        (lambda: BackupAndRestore(3), "backup_dir must be a path, not 3"),  # type: ignore
        (lambda: CSVLogger(None), "filename must be a path, not None"),  # type: ignore
        (lambda: ModelCheckpoint(3), "filepath must be a path, not 3"),  # type: ignore
        (lambda: Checkpoints(""), "directory is empty"),
        (lambda: BackupAndRestore("b", save_freq=0), "save_freq must be at least 1"),
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        make()


class Poison(Callback):
    """Makes the model's weights infinite before an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == self.epoch:
            weights = self.model.get_weights()
            weights[-1][:] = np.nan
            self.model.set_weights(weights)


def test_terminate_on_nan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saver = ModelCheckpoint(tmp_path / "{epoch}.keras")
    backup = BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
    ended: list[str] = []
    end = LambdaCallback(on_train_end=lambda logs: ended.append("end"), on_epoch_begin=None)
    callbacks = [Poison(2), TerminateOnNaN(), saver, backup, end]
    with pytest.warns(RuntimeWarning, match="not finite"):
        history = make_model().fit(X, Y, epochs=9, callbacks=callbacks, **FIT)
    assert history.epoch == [0, 1, 2] and ended == ["end"]
    assert "Invalid loss, terminating training" in capsys.readouterr().out
    # The broken model is saved nowhere.
    assert sorted(p.name for p in tmp_path.glob("*.keras")) == ["1.keras", "2.keras"]
    assert [p.name for p in backup.backup_dir.iterdir()] == ["step-0000000014.h5"]
    with (
        pytest.warns(RuntimeWarning, match="not finite"),
        pytest.raises(TrainingError, match="not finite since step"),
    ):
        make_model().fit(X, Y, callbacks=[Poison(0), TerminateOnNaN(raise_error=True)], **FIT)


def test_terminate_on_nan_stops_within_an_epoch() -> None:
    trainer = gpunn.Trainer(make_model(), X, Y, batch_size=1, callbacks=[stop := TerminateOnNaN()])
    stop.interval = 0.0
    weights = trainer.model.get_weights()
    weights[-1][:] = np.nan
    trainer.model.set_weights(weights)
    with pytest.warns(RuntimeWarning, match="not finite"):
        trainer.fit(epochs=3)
    assert 0 < trainer.step_count < ROWS and trainer.stop_training


def rows(path: Path, separator: str = ",") -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file, delimiter=separator))


def test_csv_logger(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    model = make_model()
    history = model.fit(X, Y, epochs=2, callbacks=[CSVLogger(path)], **FIT).history
    names = ["accuracy", "loss", "val_accuracy", "val_loss"]
    expected = [[str(e), *(str(history[n][e]) for n in names)] for e in range(2)]
    assert rows(path) == [["epoch", *names], *expected]
    model.fit(X, Y, epochs=3, initial_epoch=2, callbacks=[CSVLogger(path, append=True)], **FIT)
    assert [row[0] for row in rows(path)] == ["epoch", "0", "1", "2"]
    # Without append it starts anew; without validation data its columns say NA, as in Keras.
    model.fit(X, Y, verbose=0, callbacks=[CSVLogger(path, separator=";")])
    assert rows(path, ";")[0] == ["epoch", *names] and rows(path, ";")[1][3:] == ["NA", "NA"]


def test_model_checkpoint_saves_each_epoch_or_the_best(tmp_path: Path) -> None:
    figures, model = Figures("val_loss", NOISY), make_model()
    every = ModelCheckpoint(tmp_path / "all" / "{epoch:02d}-{val_loss:.2f}.keras")
    best = ModelCheckpoint(tmp_path / "best.h5", save_best_only=True)
    weights = tmp_path / "{epoch}.weights.h5"
    options: dict[str, Any] = {"save_weights_only": True, "save_best_only": True}
    few = ModelCheckpoint(weights, initial_value_threshold=3.95, **options)
    model.fit(X, Y, epochs=8, callbacks=[figures, every, best, few], **FIT)
    saved = sorted(path.name for path in (tmp_path / "all").iterdir())
    assert saved[:2] == ["01-5.00.keras", "02-4.00.keras"] and len(saved) == 8
    assert [path.name for path in tmp_path.glob("*.weights.h5")] == ["4.weights.h5"]
    for path in (tmp_path / "best.h5", tmp_path / "all" / "04-3.90.keras"):
        loaded = gpunn.load_model(path, device="cpu").get_weights()
        assert all(map(np.array_equal, loaded, figures.weights[3]))
    model.load_weights(tmp_path / "4.weights.h5")
    assert all(map(np.array_equal, model.get_weights(), figures.weights[3]))


def test_model_checkpoint_saves_after_steps(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path / "{epoch}-{batch}-{loss:.0f}.keras", save_freq=5)
    make_model().fit(X, Y, epochs=2, callbacks=[saver], **FIT)
    assert sorted(path.name[:3] for path in tmp_path.iterdir()) == ["1-5", "2-3"]
    with pytest.raises(ArgumentError, match=r"cannot be filled in.*there are epoch, loss"):
        make_model().fit(X, Y, callbacks=[ModelCheckpoint(tmp_path / "{mae}.keras")], **FIT)


def stateful(folder: Path) -> list[Callback]:
    return [
        EarlyStopping("loss", patience=3, min_delta=0.01, restore_best_weights=True),
        ReduceLROnPlateau("accuracy", patience=1, factor=0.5, min_delta=0.05),
        CSVLogger(folder / "log.csv"),
        ModelCheckpoint(folder / "best.keras", monitor="loss", save_best_only=True),
    ]


@pytest.mark.parametrize("ending", ["resume", "backup", "backup in steps"])
def test_a_run_with_callbacks_is_resumed_exactly(tmp_path: Path, ending: str) -> None:
    whole, folder = make_model(), tmp_path / "whole"
    folder.mkdir()
    expected = whole.fit(X, Y, epochs=14, callbacks=stateful(folder), **FIT)
    assert expected.history["learning_rate"][-1] < 0.01

    backup = tmp_path / "backup"
    freq: Any = 4 if ending == "backup in steps" else "epoch"
    saver: Any = Checkpoints(backup) if ending == "resume" else BackupAndRestore(backup, freq)
    resume = {"resume": backup} if ending == "resume" else {}
    with pytest.raises(ZeroDivisionError):
        make_model().fit(X, Y, epochs=14, callbacks=[*stateful(tmp_path), Crash(7), saver], **FIT)
    saver = Checkpoints(backup) if ending == "resume" else BackupAndRestore(backup, freq)
    model = make_model()
    history = model.fit(X, Y, epochs=14, callbacks=[saver, *stateful(tmp_path)], **FIT, **resume)
    assert same_weights(model, whole)
    assert history.history == expected.history and history.epoch == expected.epoch
    for name in ("log.csv", "best.keras"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert (ending == "resume") == backup.exists()


def test_a_backup_that_cannot_be_read_gives_way_to_the_one_before(tmp_path: Path) -> None:
    for double in (False, True):
        backup = BackupAndRestore(tmp_path / str(double), double_checkpoint=double)
        with pytest.raises(ZeroDivisionError):
            make_model().fit(X, Y, epochs=5, callbacks=[backup, Crash(3)], **FIT)
        files = sorted(backup.backup_dir.iterdir())
        assert len(files) == 1 + double
        files[-1].write_bytes(b"damaged")
        if double:
            model = make_model()
            assert model.fit(X, Y, epochs=5, callbacks=[backup], **FIT).epoch == [0, 1, 2, 3, 4]
        else:
            with pytest.raises(CheckpointError):
                make_model().fit(X, Y, epochs=5, callbacks=[backup], **FIT)


def test_the_learning_rate_is_part_of_the_state() -> None:
    trainer = gpunn.Trainer(make_model(), X, Y)
    assert trainer.state_dict()["training"]["learning_rate"] is None
    trainer.learning_rate = 0.125
    state = trainer.state_dict()
    other = gpunn.Trainer(make_model(), X, Y)
    other.load_state_dict(state)
    assert other.learning_rate == other.model.optimizer.learning_rate == 0.125
    for damaged in ("fast", -1.0, float("nan"), True):
        state["training"]["learning_rate"] = damaged
        with pytest.raises(CheckpointError, match="damaged: its learning_rate"):
            other.load_state_dict(state)
    # States from before there was one have none.
    del state["training"]["learning_rate"]
    other.load_state_dict(state)
    assert other.learning_rate == 0.01


def test_no_callback_makes_a_step_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 700
    # A clock that stands still: chunks of steps grow, and no interval is over.
    monkeypatch.setattr(chunks, "time", SimpleNamespace(perf_counter=lambda: 0.0))

    def counts(callbacks: list[Callback]) -> dict[str, int]:
        trainer = gpunn.Trainer(make_model(), X, Y, batch_size=1, callbacks=callbacks)
        counted = {"_advance": 0, "wait": 0, "_set_rates": 0}

        def count(name: str) -> None:
            owner = chunks.Chunks if name == "wait" else trainer
            method = getattr(owner, name)

            def counting(*arguments: Any) -> Any:
                counted[name] += 1
                return method(*arguments)

            patched.setattr(owner, name, counting)

        with monkeypatch.context() as patched:
            for name in counted:
                count(name)
            trainer.fit(epochs=steps // ROWS)
        assert trainer.step_count == steps
        return counted

    patient = stateful(tmp_path)
    patient[0].patience = steps  # type: ignore[attr-defined]
    every: list[Callback] = [
        *patient,
        TerminateOnNaN(),
        LearningRateScheduler(lambda epoch: 0.01),
        LambdaCallback(on_epoch_end=lambda epoch, logs: None),
        BackupAndRestore(tmp_path / "backup"),
    ]
    # Three chunks an epoch, of 16, 32 and 22 steps, and one wait at its end.
    expected = {"_advance": 30, "wait": 10, "_set_rates": 30}
    assert counts(every) == counts([]) == expected
    hook = LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    assert counts([hook])["_advance"] == steps


def test_a_rate_that_was_set_is_saved_with_the_model(tmp_path: Path) -> None:
    model = make_model()
    model.optimizer.learning_rate = 1e-3
    path = model.save(tmp_path / "a.h5")
    loaded = gpunn.load_model(path, device="cpu")
    assert float(loaded.optimizer.learning_rate) == pytest.approx(1e-3)
    assert loaded.optimizer == model.optimizer


def test_a_rate_that_was_set_outlives_the_building_of_a_model() -> None:
    model = gpunn.Sequential([gpunn.layers.Dense(3), gpunn.layers.Dense(1)])
    model.compile("sgd", "mse", device="cpu", seed=1)
    optimizer = model.optimizer
    optimizer.learning_rate = 1e-5
    model.fit(X, Y, verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-5)
    assert model.optimizer is optimizer


def test_keras_older_and_test_hooks_are_called() -> None:
    called: list[str] = []

    class Older(Callback):
        def on_batch_begin(self, batch: int, logs: Any = None) -> None:
            called.append(f"begin {batch} {logs}")

        def on_batch_end(self, batch: int, logs: Any = None) -> None:
            called.append(f"end {batch} {sorted(logs)}")

        def on_test_end(self, logs: Any = None) -> None:
            called.append(f"test {sorted(logs)}")

    make_model().fit(X, Y, epochs=1, callbacks=[Older()], **FIT)
    assert called[:2] == ["begin 0 {}", "end 0 ['accuracy', 'loss']"]
    assert len(called) == 2 * 7 + 1
    assert called[-1] == "test ['accuracy', 'loss']"


def test_a_checkpoint_of_the_end_holds_the_last_weights_not_the_best(tmp_path: Path) -> None:
    def callbacks() -> list[Callback]:
        stopping = EarlyStopping(mode="max", patience=50, restore_best_weights=True)
        return [stopping, Checkpoints(tmp_path, save_every=2)]

    whole = make_model().fit(X, Y, epochs=6, **FIT).history["loss"]
    make_model().fit(X, Y, epochs=3, callbacks=callbacks(), **FIT)
    resumed = make_model().fit(X, Y, epochs=6, callbacks=callbacks(), resume=tmp_path, **FIT)
    assert resumed.history["loss"] == whole


def test_a_broken_run_that_is_stopped_still_ends_in_order(tmp_path: Path) -> None:
    model = make_model()
    model.set_weights([w * np.float32(np.nan) for w in model.get_weights()])
    callbacks = [TerminateOnNaN(), Checkpoints(tmp_path)]
    with pytest.warns(RuntimeWarning, match="not finite"):
        history = model.fit(X, Y, epochs=3, callbacks=callbacks, **FIT)
    assert len(history.epoch) == 1
    assert not list(tmp_path.glob("*.h5"))


def test_values_added_by_a_callback_may_be_numpy_scalars(tmp_path: Path) -> None:
    half = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(f1=np.float32(0.5)))
    watching = EarlyStopping("f1", mode="max", patience=9)
    callbacks = [half, watching, Checkpoints(tmp_path, monitor="f1")]
    history = make_model().fit(X, Y, epochs=2, callbacks=callbacks, **FIT)
    assert history.history["f1"] == [0.5, 0.5]


def test_compiling_in_the_middle_of_a_run_is_refused() -> None:
    model = make_model()
    trainer = gpunn.Trainer(model, X, Y, batch_size=10)
    trainer.epoch()
    model.compile("sgd", "sparse_categorical_crossentropy", device="cpu")
    with pytest.raises(TrainingError, match="compiled again"):
        trainer.epoch()


def test_callbacks_may_be_nested_as_in_keras_and_see_the_history() -> None:
    seen: list[int] = []

    class Last(Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            assert self.model.history.history["loss"][-1] == logs["loss"]
            seen.append(len(self.model.history.history["loss"]))

    nested: Any = [[Last(), EarlyStopping()], TerminateOnNaN()]
    make_model().fit(X, Y, epochs=2, callbacks=nested, **FIT)
    assert seen == [1, 2]


def test_callbacks_that_are_none_are_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="callbacks must be a list of callbacks, not 3"):
        make_model().fit(X, Y, callbacks=3, **FIT)  # type: ignore[arg-type]


def test_a_log_file_may_lie_in_a_new_folder(tmp_path: Path) -> None:
    make_model().fit(X, Y, callbacks=[CSVLogger(tmp_path / "new" / "log.csv")], **FIT)
    assert (tmp_path / "new" / "log.csv").read_text().startswith("epoch,")


@pytest.mark.parametrize("restored_by", ["resume", "backup"])
def test_a_run_that_was_stopped_early_trains_no_further(tmp_path: Path, restored_by: str) -> None:
    def callbacks(patience: int = 2) -> list[Callback]:
        saver: Callback = Checkpoints(tmp_path)
        if restored_by == "backup":
            saver = BackupAndRestore(tmp_path, delete_checkpoint=False)
        stopping = EarlyStopping(patience=patience, restore_best_weights=True)
        return [Figures("val_loss", NOISY), stopping, saver]

    resume = {"resume": tmp_path} if restored_by == "resume" else {}
    model, resumed, patient = make_model(), make_model(), make_model()
    expected = model.fit(X, Y, epochs=10, callbacks=callbacks(), **FIT)
    assert expected.epoch == list(range(6))
    history = resumed.fit(X, Y, epochs=10, callbacks=callbacks(), **FIT, **resume)
    assert history.epoch == expected.epoch and same_weights(model, resumed)
    # More patience than it was stopped with: it goes on.
    history = patient.fit(X, Y, epochs=10, callbacks=callbacks(5), **FIT, **resume)
    assert history.epoch == list(range(10))


class BreakLast(Callback):
    """Makes a weight infinite after the last step of an epoch, as that step might have."""

    every_steps = 7

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_steps(self, step: int) -> None:
        if step == 7 * (self.epoch + 1):
            kernel, *others = self.model.get_weights()
            kernel[0, 0] = np.inf
            self.model.set_weights([kernel, *others])


FEW = {"batch_size": 10, "verbose": 0, "epochs": 5}


def savers(folder: Path) -> list[Callback]:
    best = ModelCheckpoint(folder / "best.h5", monitor="loss", save_best_only=True)
    return [ModelCheckpoint(folder / "{epoch}.keras"), best, BackupAndRestore(folder / "backup")]


def test_weights_that_the_last_step_broke_are_not_saved(tmp_path: Path) -> None:
    model = make_model(dropout=0.0)
    with pytest.warns(RuntimeWarning) as warned:
        history = model.fit(X, Y, callbacks=[BreakLast(1), *savers(tmp_path)], **FEW)
    # Without a callback that ends it training goes on, as in Keras.
    assert len(history.epoch) == 5
    messages = [str(warning.message) for warning in warned]
    assert any(
        "BackupAndRestore: dense/kernel is not finite at step 14. Nothing is saved." in message
        for message in messages
    )
    assert any("ModelCheckpoint" in message for message in messages)
    assert [path.name for path in tmp_path.glob("*.keras")] == ["1.keras"]
    for path in (tmp_path / "1.keras", tmp_path / "best.h5"):
        weights = gpunn.load_model(path, device="cpu").get_weights()
        assert all(np.isfinite(w).all() for w in weights)
    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["step-0000000007.h5"]


def test_terminate_on_nan_ends_a_run_whose_last_step_broke_the_weights(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run")
    callbacks = [BreakLast(1), TerminateOnNaN(), *savers(tmp_path), checkpoints]
    with pytest.warns(RuntimeWarning, match=r"not finite|NaN or infinity"):
        history = make_model(dropout=0.0).fit(X, Y, callbacks=callbacks, **FEW)
    assert history.epoch == [0, 1]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["step-0000000007.h5"]
    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["step-0000000007.h5"]
    # The next fit takes up the last good backup.
    history = make_model(dropout=0.0).fit(X, Y, callbacks=savers(tmp_path), **FEW)
    assert history.epoch == [0, 1, 2, 3, 4] and not (tmp_path / "backup").exists()


@pytest.mark.parametrize(
    "make",
    [
        EarlyStopping,
        ReduceLROnPlateau,
        lambda: CSVLogger("log.csv"),
        lambda: ModelCheckpoint("m.keras"),
        lambda: Checkpoints("run"),
        gpunn.callbacks.History,
    ],
)
def test_a_state_of_another_callback_is_refused(make: Any) -> None:
    callback = make()
    gpunn.Trainer(make_model(), X, Y, callbacks=[callback])
    name = type(callback).__name__
    for state in ({}, {"counter": 3}, None, {"best": "low", "wait": 1.5, "keys": 3, "epoch": 1}):
        with pytest.raises(CheckpointError, match=f"{name}: its state is that of another callback"):
            callback.load_state_dict(state)
    callback.load_state_dict(callback.state_dict())


class Inference(Callback):
    """Notes the hooks of evaluate and predict."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.outputs: list[Any] = []

    def on_test_begin(self, logs: Any = None) -> None:
        self.seen.append(f"test begin {logs}")

    def on_test_end(self, logs: Any = None) -> None:
        self.seen.append(f"test end {sorted(logs)}")

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.seen.append(f"begin {batch}")

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seen.append(f"end {batch} {sorted(logs)}")

    def on_predict_begin(self, logs: Any = None) -> None:
        self.seen.append("predict begin")

    def on_predict_end(self, logs: Any = None) -> None:
        self.seen.append("predict end")

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seen.append(f"end {batch}")
        self.outputs.append(logs["outputs"])


def test_evaluate_and_predict_call_their_hooks_as_keras_does() -> None:
    model, hooks = make_model(dropout=0.0), Inference()
    expected, outputs = model.evaluate(X, Y), model.predict(X)
    # Recorded with Keras 3.15: 70 rows are three batches of 32.
    assert model.evaluate(X, Y, callbacks=[hooks], verbose=0) == pytest.approx(expected)
    figures = ["accuracy", "loss"]
    batches = [text for i in range(3) for text in (f"begin {i}", f"end {i} {figures}")]
    assert hooks.seen == ["test begin {}", *batches, f"test end {figures}"]
    assert hooks.params == {"verbose": 0, "epochs": 1, "steps": 3} and hooks.model is model
    hooks.seen.clear()
    found = model.predict(X, batch_size=40, callbacks=hooks)
    np.testing.assert_allclose(found, outputs, rtol=1e-6)  # products of other sizes
    assert hooks.seen == ["predict begin", "end 0", "end 1", "predict end"]
    assert [len(batch) for batch in hooks.outputs] == [40, 30]
    np.testing.assert_array_equal(np.concatenate(hooks.outputs), found)
    assert hooks.params["steps"] == 2
    # In a fit they are called around each epoch's validation, in batches of its size.
    hooks.seen.clear()
    model.fit(X, Y, epochs=1, callbacks=[hooks], **FIT)
    assert hooks.seen[0] == "test begin {}" and hooks.seen[-1] == f"test end {figures}"
    assert len(hooks.seen) == 2 + 2 * 2
    with pytest.raises(ArgumentTypeError, match="callbacks must be a list of callbacks, not 3"):
        model.evaluate(X, Y, callbacks=3)
    with pytest.raises(ArgumentError, match=r"gpunn.callbacks.Callback objects, not <function"):
        model.predict(X, callbacks=[lambda: None])


def test_a_hook_may_end_an_evaluation_and_use_the_model_meanwhile() -> None:
    model = make_model(dropout=0.0)
    outputs = model.predict(X)

    class Early(Callback):
        def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
            np.testing.assert_array_equal(self.model.predict(X), outputs)
            self.whole = self.model.evaluate(X, Y)
            self.model.stop_evaluating = batch == 1

        def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
            np.testing.assert_array_equal(self.model.predict(X), outputs)

        def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
            self.model.stop_predicting = batch == 1

    early = Early()
    found = model.evaluate(X, Y, batch_size=20, callbacks=[early])
    assert found == pytest.approx(model.evaluate(X[:40], Y[:40]))
    assert early.whole == model.evaluate(X, Y)
    found = model.predict(X, batch_size=20, callbacks=[early])
    np.testing.assert_allclose(found, outputs[:40], rtol=1e-6)  # products of other sizes


def test_hooks_that_are_not_defined_leave_batches_large(monkeypatch: pytest.MonkeyPatch) -> None:
    model, idle = make_model(), LambdaCallback(on_test_begin=lambda logs: None)
    repeat, repeated = BoundPlan.repeat, []

    def counting(self: Any, program: str, times: int, rows: int | None = None) -> None:
        repeated.append((program, times, rows))
        repeat(self, program, times, rows)

    monkeypatch.setattr(BoundPlan, "repeat", counting)
    model.evaluate(X, Y, callbacks=[idle])
    model.predict(X, callbacks=[idle])
    assert repeated == [("evaluate", 1, ROWS), ("predict", 1, ROWS)]


def test_history_is_keras_history() -> None:
    history = make_model().fit(
        X, Y, epochs=2, callbacks=[LearningRateScheduler(lambda epoch: 0.1)], **FIT
    )
    # Recorded with Keras 3.15.
    names = ["accuracy", "loss", "val_accuracy", "val_loss", "learning_rate"]
    assert list(history.history) == names
    assert history.params.items() >= {"verbose": 0, "epochs": 2, "steps": 7}.items()
    assert history.epoch == [0, 1]
    # As pandas.DataFrame wants it: a float for each epoch.
    values = [value for column in history.history.values() for value in column]
    assert len(values) == 5 * 2 and all(type(value) is float for value in values)


def test_a_figure_of_some_epochs_is_kept_with_its_epochs(tmp_path: Path) -> None:
    class Seldom(Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch in (1, 4):
                logs["f1"] = epoch / 10

    callbacks: list[Callback] = [Seldom(), Checkpoints(tmp_path)]
    whole = make_model().fit(X, Y, epochs=6, callbacks=callbacks, **FIT)
    assert whole.history["f1"] == [0.1, 0.4] and whole.epochs_of("f1") == [1, 4]
    assert whole.epochs_of("loss") == whole.epoch
    make_model().fit(X, Y, epochs=3, callbacks=[Seldom(), Checkpoints(tmp_path / "part")], **FIT)
    resumed = make_model().fit(
        X, Y, epochs=6, callbacks=[Seldom()], resume=tmp_path / "part", **FIT
    )
    assert resumed.history == whole.history and resumed.epochs_of("f1") == [1, 4]
    with pytest.raises(ArgumentError, match="Unknown metric 'f2'"):
        whole.epochs_of("f2")


def test_lambda_callback_takes_keras_arguments() -> None:
    epochs: list[int] = []
    callback = LambdaCallback(lambda epoch, logs: epochs.append(epoch))
    make_model().fit(X, Y, epochs=2, callbacks=[callback], **FIT)
    assert epochs == [0, 1]
    with pytest.raises(ArgumentTypeError, match="on_epoch_end must be a function, not 3"):
        LambdaCallback(on_epoch_end=3)


def test_what_keras_has_and_gpunn_has_not_is_said() -> None:
    with pytest.raises(AttributeError, match="no 'RemoteMonitor': send the logs"):
        gpunn.callbacks.RemoteMonitor  # noqa: B018
    with pytest.raises(AttributeError, match="has no 'Nothing'"):
        gpunn.callbacks.Nothing  # noqa: B018
