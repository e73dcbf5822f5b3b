"""A trained model that is saved and loaded trains on as if it had not been."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from op_runs import needs_compiler
from small_models import AUX, DEEP, LABELS, MAIN, WIDE, X, assert_equal, differ, wide_and_deep
from trained_models import SPARSE, assert_same, classifier, progress, reloaded, train

import gpunn
from gpunn import Model, Sequential, layers, optimizers, schedules
from gpunn.callbacks import Checkpoints, EarlyStopping, ModelCheckpoint
from gpunn.checkpoints import files as checkpoints
from gpunn.checkpoints.files import Checkpoint
from gpunn.errors import ArgumentTypeError, CheckpointError

OPTIMIZERS: dict[str, optimizers.Optimizer] = {
    "sgd": optimizers.SGD(0.1),
    "momentum": optimizers.SGD(0.1, momentum=0.9),
    "nesterov": optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipnorm=0.5),
    "adagrad": optimizers.Adagrad(0.05),
    "rmsprop": optimizers.RMSprop(0.01),
    "rmsprop, all slots": optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "adam": optimizers.Adam(0.02),
    "amsgrad": optimizers.Adam(0.02, amsgrad=True, global_clipnorm=1.0),
    "adamw": optimizers.AdamW(0.02, weight_decay=0.01),
    "schedule": optimizers.Adam(schedules.PiecewiseConstantDecay([5, 9], [0.1, 0.05, 0.01])),
}


# Training goes on


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
@pytest.mark.parametrize("device", ["reference", "cpu"])
def test_training_goes_on_bit_for_bit(
    tmp_path: Path, optimizer: Any, dropout: float, device: str
) -> None:
    model = train(classifier(optimizer, dropout, device))
    loaded = reloaded(model, tmp_path)
    assert loaded.optimizer.iterations == 2 * 3
    assert_same(loaded, model)
    for one in (model, loaded):
        before = one.get_weights()
        train(one, 3)
        assert differ(one.get_weights(), before)
    assert_same(loaded, model)
    assert loaded.history.history == model.history.history


@settings(max_examples=25)
@given(
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    dropout=st.sampled_from([0.0, 0.3]),
    epochs=st.lists(st.integers(0, 3), min_size=1, max_size=4),
    batch_sizes=st.lists(st.integers(1, 24), min_size=4, max_size=4),
    shuffle=st.booleans(),
)
def test_however_often_it_is_saved(
    tmp_path_factory: pytest.TempPathFactory,
    optimizer: str,
    dropout: float,
    epochs: list[int],
    batch_sizes: list[int],
    shuffle: bool,
) -> None:
    folder = tmp_path_factory.mktemp("saved")
    model = classifier(OPTIMIZERS[optimizer], dropout)
    saved = classifier(OPTIMIZERS[optimizer], dropout)
    for some, batch_size in zip(epochs, batch_sizes, strict=False):
        train(model, some, batch_size, shuffle=shuffle)
        train(saved, some, batch_size, shuffle=shuffle)
        saved = reloaded(saved, folder)
    assert_same(saved, model)


class Branched(Model):
    """With a call of its own, a shared layer, and layers that keep statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = layers.Dense(4, "tanh")
        self.norm = layers.BatchNormalization()
        self.rectified = layers.PReLU()
        self.drop = layers.Dropout(0.3)
        self.last = layers.Dense(3, "softmax")

    def call(self, inputs: Any) -> Any:
        hidden = self.norm(self.shared(inputs))
        return self.last(layers.concatenate([self.drop(self.rectified(hidden)), inputs]))


def test_of_a_class_of_ones_own(tmp_path: Path) -> None:
    model = Branched()
    model.compile(optimizers.Adam(0.02), SPARSE, device="reference", seed=1)
    train(model)
    loaded = reloaded(model, tmp_path)
    assert type(loaded) is Model
    for one in (model, loaded):
        train(one, 2)
    assert_same(loaded, model)


def test_of_several_inputs_and_outputs(tmp_path: Path) -> None:
    model = wide_and_deep()
    model.compile("adam", ["mse", "mae"], loss_weights=[2.0, 1.0], device="reference", seed=1)
    model.fit([WIDE, DEEP], [MAIN, AUX], epochs=2, verbose=0)
    loaded = reloaded(model, tmp_path)
    for one in (model, loaded):
        one.fit([WIDE, DEEP], [MAIN, AUX], epochs=2, verbose=0)
    assert_same(loaded, model)


def test_a_learning_rate_that_was_set_and_one_by_one(tmp_path: Path) -> None:
    model = train(classifier())
    model.optimizer.learning_rate = 0.003
    loaded = reloaded(model, tmp_path)
    assert loaded.optimizer.learning_rate == 0.003
    for one in (model, loaded):
        for rows in (5, 24, 1):
            one.train_on_batch(X[:rows], LABELS[:rows])
        train(one, 4, initial_epoch=2)
    assert_same(loaded, model)


def test_a_loaded_model_that_is_not_trained_is_saved_again(tmp_path: Path) -> None:
    model = train(classifier())
    loaded = reloaded(model, tmp_path)
    assert (tmp_path / "model.keras").read_bytes() == reloaded_bytes(loaded, tmp_path)
    loaded.predict(X)
    again = reloaded(pickle.loads(pickle.dumps(loaded)), tmp_path)
    assert_same(again, model)


def reloaded_bytes(model: Model, folder: Path) -> bytes:
    return model.save(folder / "again.keras").read_bytes()


@needs_compiler
@pytest.mark.parametrize("there", ["reference", "cpu", "simulator"])
@pytest.mark.parametrize("here", ["reference", "cpu", "simulator"])
def test_on_another_device(tmp_path: Path, here: str, there: str) -> None:
    model = train(classifier(dropout=0.2, device=here), 1)
    loaded = reloaded(model, tmp_path, device=there)
    assert_same(loaded, model)
    for one in (model, loaded):
        train(one, 1)
    if here == there:
        assert_same(loaded, model)
    # Devices sum up in other orders; Adam's steps, of 0.02, would differ by far more without slots.
    for mine, its in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-5)


def test_in_another_precision(tmp_path: Path) -> None:
    model = train(classifier(precision="float64"))
    assert_same(reloaded(model, tmp_path), model)
    narrow = reloaded(model, tmp_path, precision="float32")
    for one in (model, narrow):
        train(one, 1)
    for mine, its in zip(model.get_weights(), narrow.get_weights(), strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-6)


def test_checkpoints_of_a_run_are_gone_on_from_too(tmp_path: Path) -> None:
    save = Checkpoints(tmp_path / "run", save_every=1)
    model = train(classifier(dropout=0.2), 3, callbacks=[save])
    train(model, 2)
    loaded = gpunn.load_model(tmp_path / "run", device="reference")
    assert loaded.optimizer.iterations == 9
    assert_same(train(loaded, 2), model)


def test_model_checkpoints_are_gone_on_from(tmp_path: Path) -> None:
    model = classifier(dropout=0.2)
    train(model, 3, callbacks=[ModelCheckpoint(tmp_path / "{epoch}.keras")])
    loaded = gpunn.load_model(tmp_path / "1.keras", device="reference")
    assert_same(train(loaded, 2), model)


def test_a_model_saved_within_an_epoch_begins_that_epoch_again(tmp_path: Path) -> None:
    model = classifier(dropout=0.2)
    train(model, 1, callbacks=[ModelCheckpoint(tmp_path / "{batch}.keras", save_freq=2)])
    # As a model does whose training was stopped there.
    stopped = classifier(dropout=0.2)
    stopped.fit(X, LABELS, batch_size=10, steps=2, verbose=0)
    loaded = gpunn.load_model(tmp_path / "2.keras", device="reference")
    assert loaded.optimizer.iterations == 2
    assert_same(train(loaded, 2), train(stopped, 2))


def test_callbacks_see_a_run_of_its_own(tmp_path: Path) -> None:
    loaded = reloaded(train(classifier()), tmp_path)
    assert loaded.history is None
    stopping = EarlyStopping("loss", patience=1, min_delta=10.0)
    train(loaded, 5, callbacks=[stopping])
    assert loaded.history.epoch == [0, 1]


# Where nothing goes on


def slots_in(path: Path) -> list[str]:
    with h5py.File(path) as file:
        return [*file["optimizer"], *(name for name in file["training"] if name == "state")]


def starts_anew(model: Model, weights: list[Any]) -> None:
    """Assert that the model trains as one does that was just compiled, from these weights."""
    assert model.optimizer.iterations == 0
    fresh = classifier()
    fresh.set_weights(weights)
    assert_same(train(model), train(fresh))


def test_compiling_again_drops_the_state(tmp_path: Path) -> None:
    model = train(classifier())
    loaded = reloaded(model, tmp_path)
    loaded.compile(optimizers.Adam(0.02), SPARSE, metrics=["accuracy"], device="reference")
    starts_anew(loaded, model.get_weights())
    bare = reloaded(model, tmp_path, compile=False)
    bare.compile(optimizers.Adam(0.02), SPARSE, metrics=["accuracy"], device="reference")
    starts_anew(bare, model.get_weights())


def test_without_the_optimizer(tmp_path: Path) -> None:
    model = train(classifier())
    path = model.save(tmp_path / "model.h5", include_optimizer=False)
    assert slots_in(path) == []
    starts_anew(gpunn.load_model(path, device="reference"), model.get_weights())
    with pytest.raises(ArgumentTypeError, match="include_optimizer must be True or False, not 0"):
        model.save(path, include_optimizer=0)


def test_models_that_were_not_trained(tmp_path: Path) -> None:
    model = classifier()
    weights = model.get_weights()
    starts_anew(reloaded(model, tmp_path), weights)
    assert slots_in(tmp_path / "model.keras") == []
    model = Sequential([gpunn.Input((4,)), layers.Dense(2)])
    model.predict(X)
    assert slots_in(model.save(tmp_path / "model.h5")) == []


def test_files_of_the_version_before(tmp_path: Path) -> None:
    """They hold configuration and weights."""
    for optimizer in (optimizers.Adam(0.02), optimizers.SGD()):
        model = train(classifier(optimizer))
        weights = {v.path: model._read(v.path) for v in model.graph.variables}
        checkpoints.write(tmp_path / "old.h5", Checkpoint(model.get_config(), weights))
        loaded = gpunn.load_model(tmp_path / "old.h5", device="reference")
        assert_equal(loaded.get_weights(), model.get_weights())
        assert loaded.optimizer.iterations == 0
        assert progress(loaded) == {}
        train(loaded)


def test_weights_alone_stay_weights_alone(tmp_path: Path) -> None:
    model, other = train(classifier()), train(classifier(), 5)
    path = model.save_weights(tmp_path / "model.weights.h5")
    assert slots_in(path) == []
    before = progress(other)
    for file in (path, model.save(tmp_path / "model.keras")):
        other.load_weights(file)
        assert_equal(other.get_weights(), model.get_weights())
        assert {n: v.tobytes() for n, v in progress(other).items()} == {
            n: v.tobytes() for n, v in before.items()
        }
    assert other.optimizer.iterations == 15


def test_only_a_run_is_resumed(tmp_path: Path) -> None:
    model = train(classifier())
    for options in ({}, {"include_optimizer": False}):
        path = model.save(tmp_path / "model.h5", **options)
        with pytest.raises(CheckpointError, match=r"no state of training that could be resumed"):
            train(classifier(), resume=path)
