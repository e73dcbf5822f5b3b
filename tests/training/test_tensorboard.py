"""The TensorBoard callback, read back by TensorBoard's own reader."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import (
    HISTOGRAMS,
    SCALARS,
    EventAccumulator,
)

import gpunn
from gpunn.callbacks import Callback, Checkpoints, LambdaCallback
from gpunn.errors import ArgumentError, GpunnError
from gpunn.training.callbacks.tensorboard import TensorBoard

ROWS = 50
RNG = np.random.default_rng(3)
X = RNG.normal(size=(ROWS, 4)).astype(np.float32)
Y = RNG.integers(0, 3, ROWS)
FIT: dict[str, Any] = {"batch_size": 10, "verbose": 0, "validation_data": (X[:20], Y[:20])}
RATE = gpunn.schedules.ExponentialDecay(0.05, 10, 0.5)
STEPS = 5  # of an epoch


def make_model(device: str = "reference") -> gpunn.Model:
    layers = gpunn.layers
    model = gpunn.Sequential(
        [
            gpunn.Input((4,), name="pixels"),
            layers.Dense(6, activation="relu", name="hidden1"),
            layers.Dropout(0.2, name="drop"),
            layers.Dense(3, activation="softmax", name="outputs"),
        ]
    )
    model.compile(
        gpunn.optimizers.Adam(RATE), "sparse_categorical_crossentropy", ["accuracy"],
        device=device, seed=4,
    )  # fmt: skip
    return model


def read(folder: Path) -> EventAccumulator:
    everything = {SCALARS: 0, HISTOGRAMS: 0}
    return EventAccumulator(str(folder), size_guidance=everything).Reload()


def curve(events: EventAccumulator, tag: str) -> tuple[list[int], list[float]]:
    points = events.Scalars(tag)
    return [point.step for point in points], [point.value for point in points]


def single(values: list[float]) -> list[float]:
    """Return the values as the files hold them."""
    return [float(np.float32(value)) for value in values]


def event_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("events.out.tfevents.*"))


class CrashAt(Callback):
    def __init__(self, step: int) -> None:
        self.every_steps = self.step = step

    def on_steps(self, step: int) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_tensorboard_shows_the_curves_of_history(tmp_path: Path, device: str) -> None:
    board = TensorBoard(tmp_path)
    history = make_model(device).fit(X, Y, epochs=3, callbacks=[board], **FIT).history
    train, validation = read(tmp_path / "train"), read(tmp_path / "validation")
    assert set(train.Tags()["scalars"]) == {"epoch_loss", "epoch_accuracy", "epoch_learning_rate"}
    for name in ("loss", "accuracy"):
        assert curve(train, f"epoch_{name}") == ([0, 1, 2], single(history[name]))
        held_out = single(history[f"val_{name}"])
        assert curve(validation, f"epoch_{name}") == ([0, 1, 2], held_out)
        by_step = curve(validation, f"evaluation_{name}_vs_iterations")
        assert by_step == ([STEPS, 2 * STEPS, 3 * STEPS], held_out)
    rates = [RATE(STEPS), RATE(2 * STEPS), RATE(3 * STEPS)]
    assert curve(train, "epoch_learning_rate") == ([0, 1, 2], single(rates))


def test_steps_per_second_are_those_of_the_history(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, write_steps_per_second=True)
    history = make_model().fit(X, Y, epochs=2, callbacks=[board], **FIT)
    steps, values = curve(read(tmp_path / "train"), "epoch_steps_per_second")
    assert steps == [0, 1]
    assert values == pytest.approx([STEPS / seconds for seconds in history.seconds])


def test_a_loop_in_hand_leaves_no_file_open(tmp_path: Path) -> None:
    trainer = gpunn.Trainer(make_model(), X, Y, batch_size=10, callbacks=[TensorBoard(tmp_path)])
    for _ in range(3):
        trainer.epoch()
    assert curve(read(tmp_path / "train"), "epoch_loss")[0] == [0, 1, 2]
    del trainer
    gc.collect()  # a file left open would be a warning here


def test_without_validation_data_there_is_no_validation_run(tmp_path: Path) -> None:
    make_model().fit(X, Y, batch_size=10, verbose=0, callbacks=[TensorBoard(str(tmp_path / "a"))])
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["train"]


def test_histograms_hold_the_weights(tmp_path: Path) -> None:
    model = make_model()
    seen: dict[int, list[np.ndarray]] = {}
    taking = LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.update({epoch: model.get_weights()})
    )
    board = TensorBoard(tmp_path, histogram_freq=2)
    model.fit(X, Y, epochs=4, callbacks=[board, taking], **FIT)
    events = read(tmp_path / "train")
    paths = ["hidden1/kernel", "hidden1/bias", "outputs/kernel", "outputs/bias"]
    assert set(events.Tags()["histograms"]) == {f"{path}/histogram" for path in paths}
    for index, path in enumerate(paths):
        entries = events.Histograms(f"{path}/histogram")
        assert [entry.step for entry in entries] == [0, 2]
        for entry in entries:
            weights, found = seen[entry.step][index].astype(np.float64), entry.histogram_value
            assert found.num == sum(found.bucket) == weights.size
            assert (found.min, found.max) == (weights.min(), weights.max())
            assert found.sum == pytest.approx(weights.sum())
            below = np.cumsum(found.bucket)[:-1]
            expected = [(weights < limit).sum() for limit in found.bucket_limit[:-1]]
            np.testing.assert_array_equal(below, expected)


def test_weights_that_are_not_finite_do_not_end_training(tmp_path: Path) -> None:
    model = make_model()
    kernel, bias, *others = model.get_weights()
    kernel[0, 0], bias[:] = np.inf, np.nan
    model.set_weights([kernel, bias, *others])
    with pytest.warns(RuntimeWarning):
        model.fit(X, Y, callbacks=[TensorBoard(tmp_path, histogram_freq=1)], **FIT)
    events = read(tmp_path / "train")
    assert "hidden1/bias/histogram" not in events.Tags()["histograms"]
    assert np.isnan(curve(events, "epoch_loss")[1]).all()


def test_the_graph_has_the_layers_as_nodes(tmp_path: Path) -> None:
    layers = gpunn.layers
    left, right = gpunn.Input((2,), name="left"), gpunn.Input((3,), name="right")
    joined = layers.Concatenate(name="joined")([left, right])
    model = gpunn.Model([left, right], layers.Dense(4, activation="tanh", name="top")(joined))
    model.compile("sgd", "mse", device="reference", seed=1)
    x = [np.zeros((8, 2)), np.ones((8, 3))]
    model.fit(x, np.ones((8, 4)), epochs=2, verbose=0, callbacks=[TensorBoard(tmp_path)])
    nodes = {node.name: node for node in read(tmp_path / "train").Graph().node}
    assert set(nodes) == {"left", "right", "joined", "top"}
    assert list(nodes["joined"].input) == ["left", "right"]
    assert list(nodes["top"].input) == ["joined"]
    assert nodes["top"].op == "Dense"
    assert b'"tanh"' in nodes["top"].attr["activation"].s
    assert nodes["top"].attr["parameters"].i == 5 * 4 + 4
    (shape,) = nodes["joined"].attr["_output_shapes"].list.shape
    assert [dim.size for dim in shape.dim] == [-1, 5]


def test_write_graph_false_writes_none(tmp_path: Path) -> None:
    make_model().fit(X, Y, callbacks=[TensorBoard(tmp_path, write_graph=False)], **FIT)
    assert not read(tmp_path / "train").Tags()["graph"]


@pytest.mark.parametrize(("update_freq", "steps"), [("batch", [*range(1, 11)]), (3, [3, 6, 9])])
def test_metrics_between_epochs(tmp_path: Path, update_freq: Any, steps: list[int]) -> None:
    losses: list[float] = []
    taking = LambdaCallback(on_train_batch_end=lambda batch, logs: losses.append(logs["loss"]))
    board = TensorBoard(tmp_path, update_freq=update_freq)
    make_model().fit(X, Y, epochs=2, callbacks=[board, taking], **FIT)
    events = read(tmp_path / "train")
    expected = single([losses[step - 1] for step in steps])
    assert curve(events, "batch_loss") == (steps, expected)
    assert curve(events, "batch_accuracy")[0] == steps


@pytest.mark.parametrize("crash", [3 * STEPS - 1, 3 * STEPS + 1], ids=["one epoch", "two epochs"])
def test_a_resumed_run_goes_on_in_the_same_files(tmp_path: Path, crash: int) -> None:
    options: dict[str, Any] = {"histogram_freq": 1, "update_freq": 2}

    def fit(board: str, *callbacks: Callback, **more: Any) -> None:
        all_of_them = [TensorBoard(tmp_path / board, **options), *callbacks]
        make_model().fit(X, Y, epochs=4, callbacks=all_of_them, **FIT, **more)

    fit("whole")
    # The only checkpoint is older than the last epochs that were written.
    saver = Checkpoints(tmp_path / "saved", save_every=0, save_every_steps=2 * STEPS - 1)
    with pytest.raises(ZeroDivisionError):
        fit("cut", saver, CrashAt(crash))
    files = event_files(tmp_path / "cut")
    assert len(files) == 2
    fit("cut", resume=tmp_path / "saved")
    assert event_files(tmp_path / "cut") == files

    for run in ("train", "validation"):
        whole, cut = read(tmp_path / "whole" / run), read(tmp_path / "cut" / run)
        assert cut.Tags() == whole.Tags()
        for tag in whole.Tags()["scalars"]:
            assert curve(cut, tag) == curve(whole, tag)
        for tag in whole.Tags()["histograms"]:
            mine, theirs = cut.Histograms(tag), whole.Histograms(tag)
            assert [h.step for h in mine] == [h.step for h in theirs] == [0, 1, 2, 3]
            assert [h.histogram_value for h in mine] == [h.histogram_value for h in theirs]


def test_a_run_taken_up_by_another_callback_goes_on_in_the_same_files(tmp_path: Path) -> None:
    saved: list[Any] = []

    class TakeUp(Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            if saved:
                self.trainer.load_state_dict(saved[0])

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            saved.append(self.trainer.state_dict())

    for epochs in (2, 4):  # the first state is that of one epoch
        make_model().fit(X, Y, epochs=epochs, callbacks=[TensorBoard(tmp_path), TakeUp()], **FIT)
    assert len(event_files(tmp_path)) == 2
    for run in ("train", "validation"):
        assert curve(read(tmp_path / run), "epoch_loss")[0] == [0, 1, 2, 3]


def test_resuming_into_another_folder_leaves_the_first_as_it_is(tmp_path: Path) -> None:
    saver = Checkpoints(tmp_path / "saved", save_every=0, save_every_steps=STEPS + 2)
    first = [TensorBoard(tmp_path / "first"), saver, CrashAt(2 * STEPS + 1)]
    with pytest.raises(ZeroDivisionError):
        make_model().fit(X, Y, epochs=3, callbacks=first, **FIT)
    before = {path: path.read_bytes() for path in event_files(tmp_path / "first")}
    second = TensorBoard(tmp_path / "second")
    make_model().fit(X, Y, epochs=3, callbacks=[second], resume=tmp_path / "saved", **FIT)
    assert {path: path.read_bytes() for path in event_files(tmp_path / "first")} == before
    events = read(tmp_path / "second" / "train")
    assert curve(events, "epoch_loss")[0] == [1, 2]
    assert events.Tags()["graph"]


@pytest.mark.parametrize("name", ["{victim}", "../../victim", "events.out.tfevents.d/../victim"])
def test_a_checkpoint_cannot_name_a_file_elsewhere(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "train"
    (folder / "events.out.tfevents.d").mkdir(parents=True)
    victims = [tmp_path.parent / "victim", folder / "victim"]
    for victim in victims:
        victim.write_text("precious")
    board = TensorBoard(tmp_path)
    name = name.format(victim=victims[1])
    board.load_state_dict({"train": {"name": name, "bytes": 0}})
    make_model().fit(X, Y, callbacks=[board], **FIT)
    assert [victim.read_text() for victim in victims] == ["precious", "precious"]


def test_two_runs_of_the_same_second_keep_their_files(tmp_path: Path) -> None:
    for _ in range(2):
        make_model().fit(X, Y, batch_size=10, verbose=0, callbacks=[TensorBoard(tmp_path)])
    first, second = event_files(tmp_path)
    assert [curve(read(path), "epoch_loss")[0] for path in (first, second)] == [[0], [0]]


def test_a_trainer_in_hand_writes_every_epoch(tmp_path: Path) -> None:
    trainer = gpunn.Trainer(make_model(), X, Y, batch_size=10, callbacks=[TensorBoard(tmp_path)])
    losses = [trainer.epoch()["loss"]]
    losses += [trainer.step()["loss"] for _ in range(STEPS)][-1:]
    losses.append(trainer.epoch()["loss"])
    assert len(event_files(tmp_path)) == 1
    assert curve(read(tmp_path / "train"), "epoch_loss") == ([0, 1, 2], single(losses))


def divide_by_zero() -> None:
    raise ZeroDivisionError


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("fail", "error"),
    [(divide_by_zero, ZeroDivisionError), (interrupt, KeyboardInterrupt)],
    ids=["error", "signal"],
)
def test_files_are_closed_when_training_breaks_off(
    tmp_path: Path, fail: Callable[[], None], error: type[BaseException]
) -> None:
    class Failing(Callback):
        every_steps = STEPS + 2

        def on_steps(self, step: int) -> None:
            fail()

    board = TensorBoard(tmp_path, update_freq=1)
    with pytest.raises(error):
        make_model().fit(X, Y, epochs=3, callbacks=[board, Failing()], **FIT)
    # What was written since the last epoch is there too, though the callback still lives.
    events = read(tmp_path / "train")
    assert curve(events, "epoch_loss")[0] == [0]
    assert curve(events, "batch_loss")[0] == list(range(1, STEPS + 3))


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("write_images", True),
        ("profile_batch", (10, 20)),
        ("embeddings_freq", 1),
        ("embeddings_metadata", "labels.tsv"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(argument: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=f"{argument} is not supported"):
        TensorBoard(**{argument: value})


def test_mistakes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for argument, value in (("update_freq", "step"), ("update_freq", 0), ("histogram_freq", -1)):
        with pytest.raises(ArgumentError, match=argument):
            TensorBoard(**{argument: value})
    with pytest.raises(TypeError, match="log_dir"):
        TensorBoard(3)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ArgumentError, match="log_dir"):
        make_model().fit(X, Y, callbacks=[TensorBoard(tmp_path / "taken")], **FIT)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"pip install 'gpunn\[tensorboard\]'") as missing:
        TensorBoard(tmp_path)
    assert isinstance(missing.value, GpunnError)
