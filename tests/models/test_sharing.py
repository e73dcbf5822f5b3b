"""Models that have layers in common: copies, files, devices and changed stacks.

How their training compares with Keras's is in test_keras_sharing.py,
how they take turns within a call in test_sharing_turns.py.
"""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shared_models import (
    CODES,
    DEVICES,
    FIT,
    X,
    Y,
    compiled,
    equal,
    pair,
    shared_weights,
    train,
)

from gpunn import Input, Model, Sequential, layers
from gpunn.errors import ShapeError
from gpunn.models import clone_model

RNG = np.random.default_rng(11)
NARROW = {"device": "cpu", "precision": "float32"}


# Copies of several models


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda models: pickle.loads(pickle.dumps(models))]
)
def test_copies_share_among_themselves_alone(
    duplicate: Callable[[Any], Any], trained: bool
) -> None:
    models = list(pair())
    if trained:
        for model in models:
            train(model)
    twins = duplicate(models)
    for model, twin in zip(models, twins, strict=True):
        assert equal(model.get_weights(), twin.get_weights())
    before = shared_weights(*models)
    train(twins[0])
    assert not equal(shared_weights(*twins), before)
    assert equal(shared_weights(*models), before)
    train(models[1])
    after = shared_weights(*models)
    assert not equal(after, before)
    train(twins[1])
    assert equal(shared_weights(*models), after)


def test_copies_train_on_as_the_originals() -> None:
    models = list(pair())
    for model in models:
        train(model)
    twins = copy.deepcopy(models)
    for group in (models, twins):
        for model in (group[1], group[0], group[1]):
            model.fit(X, Y if model is group[0] else CODES, initial_epoch=1, epochs=2, **FIT)
    for model, twin in zip(models, twins, strict=True):
        assert equal(model.get_weights(), twin.get_weights())


def test_copy_of_one_model_of_two_is_by_itself() -> None:
    one, other = pair()
    train(one)
    twin = copy.deepcopy(one)
    before = shared_weights(one, other)
    train(twin)
    assert equal(shared_weights(one, other), before)
    assert not equal(shared_weights(twin), before)


def test_clone_has_weights_of_its_own() -> None:
    one, other = pair()
    train(one)
    before = shared_weights(one, other)
    clone = compiled(clone_model(one))
    assert not equal(shared_weights(clone), before)
    train(clone)
    assert equal(shared_weights(one, other), before)


def test_layer_outlives_the_model_it_came_from() -> None:
    one, other = pair()
    train(one, epochs=2)
    before = one.get_layer("shared").get_weights()
    del one
    assert equal(shared_weights(other), before)
    train(other)
    assert not equal(shared_weights(other), before)


# Setting weights


def started(model: Any) -> None:
    model.predict(X)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("before", [(), (0,), (1,), (0, 1), (1, 0)])
def test_set_weights_from_either_side(before: tuple[int, ...], device: str) -> None:
    """Whichever of the models has computed already, and lies on a device."""
    models = pair(device)
    for index in before:
        started(models[index])
    for model in models:
        new = [RNG.normal(size=w.shape) for w in model.get_weights()]
        model.set_weights(new)
        assert equal(shared_weights(*models), new[:2])
        hidden = np.tanh(X @ new[0] + new[1])
        for each in models:
            kernel, bias = each.get_weights()[2:]
            np.testing.assert_allclose(each.predict(X), hidden @ kernel + bias, rtol=1e-10)
        bias = RNG.normal(size=3)
        model.get_layer("shared").set_weights([new[0], bias])
        assert np.array_equal(shared_weights(*models)[1], bias)
        model.weights[1].assign(2 * bias)
        assert np.array_equal(shared_weights(*models)[1], 2 * bias)


@pytest.mark.parametrize("index", [0, 1])
def test_load_weights_from_either_side(index: int, tmp_path: Path) -> None:
    models = pair()
    for model in models:
        train(model)
    path = models[index].save_weights(tmp_path / "model.weights.h5")
    saved = shared_weights(*models)
    rest = models[1 - index].get_weights()[2:]
    for model in models:
        train(model)
        rest = models[1 - index].get_weights()[2:]
    models[index].load_weights(path)
    assert equal(shared_weights(*models), saved)
    assert equal(models[1 - index].get_weights()[2:], rest)


def test_weights_set_before_another_model_takes_the_layer() -> None:
    one, _ = pair()
    train(one)
    late = compiled(Sequential([*one.layers[:1], layers.Dense(2, name="late")]))
    assert equal(shared_weights(one, late), late.get_weights()[:2])
    late.fit(X, CODES[:, :2], **FIT)
    assert equal(shared_weights(one, late), late.get_weights()[:2])


# Devices and precisions


def test_newer_weights_win_over_devices_and_precisions(caplog: pytest.LogCaptureFixture) -> None:
    shared = layers.Dense(3, "tanh", name="shared_by_devices")
    wide = Sequential([Input((4,)), shared, layers.Dense(1, name="one")])
    narrow = Sequential([Input((4,)), shared, layers.Dense(3, name="other")])
    compiled(wide, device="reference", precision="float64")
    compiled(narrow, **NARROW)
    with caplog.at_level(logging.INFO, logger="gpunn"):
        for _ in range(3):
            train(wide)
            exact = wide.layers[0].get_weights()
            assert exact[0].dtype == np.float64
            train_start = [w.astype(np.float32) for w in exact]
            assert equal(narrow.layers[0].get_weights(), train_start)
            train(narrow)
            rounded = narrow.layers[0].get_weights()
            assert rounded[0].dtype == np.float32
            assert not equal(rounded, train_start)
            assert equal(wide.layers[0].get_weights(), [w.astype(np.float64) for w in rounded])
    lines = [record.getMessage() for record in caplog.records if "newest" in record.getMessage()]
    # One for each way that the weights go, however often.
    assert len(lines) == len(set(lines)) == 2
    assert all("shared_by_devices" in line for line in lines)
    assert any(line.endswith("from reference in float64 to cpu in float32") for line in lines)


def test_reading_rounds_nothing() -> None:
    """A float32 model that only predicts leaves the float64 weights what they were."""
    shared = layers.Dense(3, name="shared")
    wide = compiled(Sequential([Input((4,)), shared]))
    narrow = compiled(
        Sequential([Input((4,)), shared, layers.Dense(1)]), device="cpu", precision="float32"
    )
    wide.fit(X, CODES, **FIT)
    before = wide.get_weights()
    narrow.predict(X)
    narrow.evaluate(X, Y, verbose=0)
    assert equal(wide.get_weights(), before)


def test_frozen_layer_is_not_rounded_by_a_model_of_lower_precision() -> None:
    shared = layers.Dense(3, name="shared")
    wide = compiled(Sequential([Input((4,)), shared]))
    narrow = compiled(
        Sequential([Input((4,)), shared, layers.Dense(1)]), device="cpu", precision="float32"
    )
    train(wide)
    before, head = wide.get_weights(), narrow.get_weights()[2:]
    shared.trainable = False
    train(narrow)
    assert not equal(narrow.get_weights()[2:], head)
    assert equal(wide.get_weights(), before)


# Changed stacks


def test_add_and_pop_keep_weights() -> None:
    model = Sequential([Input((4,)), layers.Dense(3, name="a")])
    first = model.get_weights()
    model.add(layers.Dense(1, name="b"))
    assert equal(model.get_weights()[:2], first)
    train(compiled(model))
    trained = model.get_weights()
    model.pop()
    assert equal(compiled(model).get_weights(), trained[:2])
    train(model)
    assert not equal(model.get_weights(), trained[:2])


def test_popped_layer_goes_on_in_another_place() -> None:
    model = Sequential([Input((4,)), layers.Dense(3, name="a"), layers.Dense(1, name="b")])
    train(compiled(model))
    weights, last = model.get_weights(), model.layers[-1]
    model.pop()
    model.add(layers.Dense(3, name="between"))
    model.add(last)
    found = compiled(model).get_weights()
    assert equal(found[:2] + found[4:], weights)


@pytest.mark.parametrize("used", [False, True])
def test_layer_of_another_width(used: bool) -> None:
    """As in Keras it makes no difference whether the first model was used."""
    layer = layers.Dense(3, name="shared")
    model = compiled(Sequential([Input((4,)), layer]))
    if used:
        train(model)
    before = model.get_weights()
    inputs = Input((6,))
    match = r"'shared'.*kernel of shape \(4, 3\) in another model.*\(6, 3\).*clone_model"
    with pytest.raises(ShapeError, match=match):
        Sequential([inputs, layer])
    with pytest.raises(ShapeError, match=match):
        Model(inputs, model.layers[0](inputs))
    wide = Sequential([layers.Dense(6), layer])
    with pytest.raises(ShapeError, match=match):
        wide.build((None, 4))
    assert equal(model.get_weights(), before)
    train(model)
    assert not equal(model.get_weights(), before)
