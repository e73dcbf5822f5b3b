"""Models go through pickle and copy.deepcopy, and train on as if they had not."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunn
from gpunn import Input, Model, Sequential, layers, optimizers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = (np.arange(60) % 3).astype(np.int32)
SPARSE = "sparse_categorical_crossentropy"


class Deep(Model):
    """A subclass that can be imported."""

    def __init__(self, units: int = 5) -> None:
        super().__init__()
        self.hidden = [layers.Dense(units, "tanh"), layers.Dense(units, "relu")]
        self.last = layers.Dense(3, "softmax")

    def call(self, inputs: Any) -> Any:
        for layer in self.hidden:
            inputs = layer(inputs)
        return self.last(inputs)


def sequential() -> Model:
    return Sequential(
        [
            Input((4,)),
            layers.Dense(5, "relu"),
            layers.Dropout(0.2),
            layers.Dense(3, "softmax"),
        ]
    )


def functional() -> Model:
    inputs = Input((4,))
    hidden = layers.Dense(5, "relu")(inputs)
    return Model(inputs, layers.Dense(3, "softmax")(layers.concatenate([inputs, hidden])))


def with_adapted_layer() -> Model:
    normalization = layers.Normalization()
    normalization.adapt(X)
    return Sequential([Input((4,)), normalization, layers.Dense(3, "softmax")])


def through_pickle(model: Any) -> Any:
    return pickle.loads(pickle.dumps(model))


MODELS = (sequential, functional, with_adapted_layer, Deep)
WAYS = (through_pickle, copy.deepcopy)
Way = Callable[[Any], Any]


def trained(make: Callable[[], Model], device: str = "cpu", epochs: int = 2) -> Model:
    model = make()
    adam = optimizers.Adam(0.01)
    model.compile(adam, SPARSE, metrics=["accuracy"], device=device, seed=3)
    model.fit(X, Y, batch_size=16, epochs=epochs, verbose=0)
    return model


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", MODELS)
def test_training_goes_on_bit_for_bit(make: Callable[[], Model], way: Way) -> None:
    model = trained(make)
    model.optimizer.learning_rate = 0.03
    other = way(model)
    assert type(other) is type(model)
    for one in (model, other):
        one.fit(X, Y, batch_size=16, epochs=3, verbose=0)
    for mine, its in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)
    np.testing.assert_array_equal(model.predict(X, verbose=0), other.predict(X, verbose=0))
    assert other.optimizer.learning_rate == 0.03
    assert other.optimizer.iterations == model.optimizer.iterations == 5 * 4
    assert other.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)


@pytest.mark.parametrize("device", ["reference", "simulator"])
def test_on_other_devices(device: str) -> None:
    model = trained(sequential, device, epochs=1)
    other = through_pickle(model)
    for one in (model, other):
        one.fit(X, Y, batch_size=16, epochs=1, verbose=0)
    for mine, its in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_is_a_model_of_its_own(way: Way) -> None:
    model = trained(sequential)
    before = model.get_weights()
    other = way(model)
    other.fit(X, Y, epochs=1, verbose=0)
    other.layers[0].set_weights([np.zeros((4, 5)), np.zeros(5)])
    for mine, was in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, was)
    assert other.history.epoch == [0]
    assert model.history.epoch == [0, 1]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", MODELS)
def test_before_training(make: Callable[[], Model], way: Way) -> None:
    model = make()
    fresh = way(model)
    assert fresh.built == model.built
    model.compile("sgd", SPARSE, device="reference", seed=5)
    for one in (model, way(model)):
        one.fit(X, Y, epochs=1, verbose=0)
    # Twice: pickled again before it was ever used.
    other = way(way(model))
    for mine, its in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)


def test_the_history_comes_along() -> None:
    model = trained(sequential)
    other = through_pickle(model)
    assert other.history.history == model.history.history
    assert other.seed == model.seed == 3


def test_layers_of_a_copy_are_its_own() -> None:
    model = trained(Deep)
    other = through_pickle(model)
    assert other.last._model is other
    other.last.set_weights([np.ones((5, 3)), np.zeros(3)])
    assert not (model.last.kernel == 1).any()
    np.testing.assert_array_equal(other.last.kernel, np.ones((5, 3)))


def test_a_part_of_another_model() -> None:
    base = trained(sequential)
    model = Sequential([*base.layers[:1], layers.Dense(3, "softmax")])
    model.compile("sgd", SPARSE, device="reference", seed=1)
    other = through_pickle(model)
    np.testing.assert_array_equal(other.layers[0].kernel, base.layers[0].kernel)
    other.fit(X, Y, verbose=0)


def test_a_copied_model_can_be_compiled_anew() -> None:
    other = through_pickle(trained(sequential))
    weights = other.get_weights()
    other.compile("sgd", SPARSE, device="reference")
    assert other.optimizer.iterations == 0
    for mine, was in zip(other.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(mine, was)


def test_a_class_that_cannot_be_imported() -> None:
    class Local(Deep):
        pass

    model = Local()
    with pytest.raises((AttributeError, pickle.PicklingError), match=r"local object.*Local"):
        pickle.dumps(model)
    assert isinstance(copy.deepcopy(model), Local)


def test_the_device_of_a_pickle_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps(trained(sequential, "simulator", epochs=1))

    def missing(device: str, *, threads: int | None = None) -> Any:
        raise gpunn.errors.DeviceError(f"device {device!r} cannot be used: no compiler.")

    monkeypatch.setattr("gpunn.models.pickling.select_backend", missing)
    with pytest.raises(gpunn.errors.DeviceError, match="simulator"):
        pickle.loads(data)


def test_batches_of_many_sizes_share_their_gradients() -> None:
    model = trained(sequential)
    for rows in range(5, 12):
        model.train_on_batch(X[:rows], Y[:rows])
    plans = [plan for key, plan in model.session._plans.items() if key[0] == "train"]
    assert len(plans) == 8
    assert len({id(plan.regions["gradients"]) for plan in plans}) == 1


@pytest.mark.parametrize("copied", [through_pickle, copy.copy, copy.deepcopy])
def test_weights_not_drawn_yet_are_the_same(copied: Callable[[Any], Any]) -> None:
    model = sequential()
    again = copied(model)
    for mine, its in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)
