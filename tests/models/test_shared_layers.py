"""Layers that several models have: whoever trains or sets weights does it for all of them."""

from __future__ import annotations

import copy
import logging
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import TARGETS as Y
from small_models import X

import gpunn
from gpunn import Model, Sequential, layers
from gpunn.errors import ShapeError
from gpunn.models import clone_model


def pair(units: int = 3) -> tuple[Model, Model]:
    """Return a model, and one of its first layer alone."""
    inputs = gpunn.Input((4,))
    hidden = layers.Dense(units, "tanh", name="hidden")(inputs)
    return Model(inputs, layers.Dense(1, name="out")(hidden)), Model(inputs, hidden)


def train(model: Any, y: Any = Y, **options: Any) -> Any:
    if model._compiled is None:
        model.compile("sgd", "mse", **({"device": "reference", "seed": 1} | options))
    model.fit(X, y, batch_size=10, epochs=1, verbose=0)
    return model


def same(one: Any, other: Any) -> bool:
    return all(map(np.array_equal, one.get_weights()[:2], other.get_weights()[:2]))


def encoded(model: Any) -> Any:
    kernel, bias = model.get_weights()[:2]
    return np.tanh(X @ kernel + bias)


def test_before_and_after_training_on_either_side() -> None:
    whole, part = pair()
    assert same(whole, part)
    train(whole)
    assert same(whole, part)
    np.testing.assert_allclose(part.predict(X), encoded(whole), atol=1e-6)
    train(part, np.zeros((len(X), 3)))
    assert same(whole, part)
    np.testing.assert_allclose(part.predict(X), encoded(whole), atol=1e-6)
    whole.set_weights([np.ones_like(w) for w in whole.get_weights()])
    np.testing.assert_allclose(part.predict(X), encoded(part), atol=1e-6)
    assert part.get_weights()[0].max() == 1.0


def test_weights_from_a_file_are_those_of_all(tmp_path: Path) -> None:
    whole, part = pair()
    file = train(whole).save_weights(tmp_path / "weights.h5")
    expected = part.predict(X)
    part.set_weights([np.zeros_like(w) for w in part.get_weights()])
    assert not whole.get_layer("hidden").kernel.any()
    whole.load_weights(file)
    np.testing.assert_array_equal(part.predict(X), expected)


def test_the_layer_of_a_stack_that_grows_and_shrinks() -> None:
    first = layers.Dense(3, name="hidden")
    model = Sequential([gpunn.Input((4,)), first])
    weights = model.get_weights()
    model.add(layers.Dense(1))
    np.testing.assert_array_equal(model.get_weights()[0], weights[0])
    other = Sequential([gpunn.Input((4,)), first, layers.Dense(2)])
    train(model)
    assert same(model, other)
    model.pop()
    assert same(model, other)


def test_weights_outlive_the_model_that_trained_them() -> None:
    layer = layers.Dense(1, name="hidden")
    model = train(Sequential([gpunn.Input((4,)), layer]))
    expected = model.get_weights()
    del model
    np.testing.assert_array_equal(
        Sequential([gpunn.Input((4,)), layer]).get_weights()[0], expected[0]
    )


def test_a_clone_has_weights_of_its_own() -> None:
    whole, _ = pair()
    clone = clone_model(train(whole))
    clone.set_weights(whole.get_weights())
    before = clone.get_weights()
    train(whole)
    assert same(clone, clone) and all(map(np.array_equal, clone.get_weights(), before))
    assert not same(clone, whole)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda models: pickle.loads(pickle.dumps(models))]
)
@pytest.mark.parametrize("trained", [False, True])
def test_copies_share_among_themselves(copied: Any, trained: bool) -> None:
    models = pair()
    if trained:
        train(models[0])
    whole, part = copied(models)
    assert same(whole, part) and same(whole, models[0])
    train(whole)
    assert same(whole, part) and not same(whole, models[0])
    np.testing.assert_allclose(part.predict(X), encoded(whole), atol=1e-6)


def test_the_newer_values_win_whatever_device_and_precision(
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole, part = pair(units=7)
    whole.compile("sgd", "mse", device="reference", precision="float64", seed=1)
    part.compile("sgd", "mse", device="cpu", seed=1)
    with caplog.at_level(logging.INFO, "gpunn"):
        for _ in range(3):
            train(whole)
            np.testing.assert_allclose(part.predict(X), encoded(whole), atol=1e-6)
            train(part, np.zeros((len(X), 7)))
            np.testing.assert_allclose(whole.get_weights()[0], part.get_weights()[0])
            assert whole.get_weights()[0].dtype == np.float64
    told = [r.getMessage() for r in caplog.records if "newest weights" in r.getMessage()]
    assert sorted(told) == sorted(set(told))
    assert any("reference in float64 to cpu in float32" in line for line in told)


def test_a_layer_for_other_inputs_is_refused() -> None:
    layer = layers.Dense(3, name="hidden")
    train(Sequential([gpunn.Input((4,)), layer]), np.zeros((len(X), 3)))
    with pytest.raises(ShapeError, match=r"hidden.*kernel of shape \(4, 3\).*\(6, 3\)"):
        Sequential([gpunn.Input((6,)), layer])


def test_an_adapted_layer_is_adapted_for_all() -> None:
    norm = layers.Normalization(name="norm")
    models = [Sequential([gpunn.Input((4,)), norm, layers.Dense(1)]) for _ in range(2)]
    norm.adapt(X)
    mean = X.mean(axis=0)
    for model in models:
        np.testing.assert_allclose(model.get_weights()[0], mean, rtol=1e-5)


def test_models_that_share_nothing_train_in_two_threads() -> None:
    alone = [train(pair()[0], seed=seed).get_weights() for seed in (1, 2)]
    models = [pair()[0] for _ in range(2)]
    threads = [
        threading.Thread(target=train, args=(model,), kwargs={"seed": seed})
        for model, seed in zip(models, (1, 2), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model, expected in zip(models, alone, strict=True):
        assert all(map(np.array_equal, model.get_weights(), expected))


def test_trainers_of_models_that_share_a_layer_take_turns() -> None:
    whole, part = pair()
    for model in (whole, part):
        model.compile("sgd", "mse", device="reference", seed=1)
    first = gpunn.Trainer(whole, X, Y, batch_size=10)
    second = gpunn.Trainer(part, X, np.zeros((len(X), 3)), batch_size=10)
    for _ in range(2):
        for trainer in (first, second):
            trainer.epoch()
            assert same(whole, part)
    np.testing.assert_allclose(part.predict(X), encoded(whole), atol=1e-6)
