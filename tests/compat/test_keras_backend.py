"""What programs for Keras type besides models: backend, utils, single batches, old names."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import gpunn
import gpunn as keras
from gpunn import layers
from gpunn.errors import ArgumentError, ArgumentTypeError, DataError

X = np.random.default_rng(2).normal(size=(50, 4)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(np.int32)


def classifier(**kwargs: Any) -> gpunn.Sequential:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, activation="softmax")])
    settings = {"optimizer": "sgd", "metrics": ["accuracy"], "device": "reference", "seed": 1}
    model.compile(**(settings | {"loss": "sparse_categorical_crossentropy"} | kwargs))
    return model


# The learning rate


def test_callback_that_raises_the_learning_rate() -> None:
    """Exercise 9 of "Hands-On Machine Learning", chapter 10."""
    K = keras.backend

    class ExponentialLearningRate(keras.callbacks.Callback):
        def __init__(self, factor: float) -> None:
            self.factor = factor
            self.rates: list[float] = []

        def on_batch_end(self, batch: int, logs: Any = None) -> None:
            self.rates.append(K.get_value(self.model.optimizer.learning_rate))
            K.set_value(
                self.model.optimizer.learning_rate, self.model.optimizer.learning_rate * self.factor
            )

    model = classifier(optimizer=keras.optimizers.SGD(learning_rate=1e-3))
    callback = ExponentialLearningRate(factor=1.5)
    model.fit(X, Y, epochs=1, batch_size=10, callbacks=[callback], verbose=0)
    assert callback.rates == pytest.approx([1e-3 * 1.5**k for k in range(5)])
    assert {type(rate) for rate in callback.rates} == {float}
    assert model.optimizer.lr == model.optimizer.learning_rate == pytest.approx(1e-3 * 1.5**5)
    K.set_value(model.optimizer.lr, 0.25)
    assert K.get_value(model.optimizer.learning_rate) == 0.25
    model.optimizer.lr = 0.5
    assert type(model.optimizer.learning_rate + 1) is float
    assert model.optimizer.learning_rate.numpy() == np.float32(0.5)


def test_set_value_and_get_value_of_other_things() -> None:
    model = classifier()
    kernel = model.layers[0].kernel
    assert np.array_equal(keras.backend.get_value(kernel), kernel)
    with pytest.raises(ArgumentTypeError, match="not ndarray; for weights use set_weights"):
        keras.backend.set_value(kernel, 3)
    scheduled = classifier(optimizer=keras.optimizers.SGD(keras.schedules.CosineDecay(0.1, 9)))
    with pytest.raises(ArgumentTypeError, match="follows the schedule"):
        keras.backend.set_value(scheduled.optimizer.learning_rate, 0.1)


def test_optimizer_given_to_compile_cannot_be_changed() -> None:
    optimizer = keras.optimizers.Adam(learning_rate=0.1)
    model = classifier(optimizer=optimizer)
    way = r"set model\.optimizer\.learning_rate = 0\.2 after"
    for name in ("learning_rate", "lr"):
        with pytest.raises(ArgumentError, match=rf"Adam: {name} .* cannot be set.*{way}"):
            setattr(optimizer, name, 0.2)
    with pytest.raises(ArgumentError, match=r"beta_1 .* cannot be set.*make another Adam"):
        optimizer.beta_1 = 0.5
    assert model.optimizer == optimizer
    assert hash(model.optimizer) == hash(optimizer)
    model.optimizer.learning_rate = 0.2
    assert optimizer.learning_rate == keras.optimizers.Adam(0.1).learning_rate
    assert hash(model.optimizer) == hash(keras.optimizers.Adam(0.2))


def test_names_of_keras_2() -> None:
    with pytest.raises(ArgumentTypeError, match="SGD: use learning_rate instead of lr"):
        keras.optimizers.SGD(lr=0.1)
    with pytest.raises(
        ArgumentTypeError, match="Adam: decay is not supported; set learning_rate to a"
    ):
        keras.optimizers.Adam(decay=1e-4)
    model = classifier()
    with pytest.raises(AttributeError, match=r"use np\.argmax\(model\.predict\(x\), axis=-1\)"):
        model.predict_classes(X)
    with pytest.raises(AttributeError, match=r"use model\.fit\(x, y\)"):
        model.fit_generator(X)
    with pytest.raises(AttributeError, match=r"has no attribute 'fitt'$"):
        model.fitt(X)
    assert not hasattr(model, "predict_proba")
    assert layers.InputLayer(input_shape=[8]).shape == layers.InputLayer(shape=(8,)).shape == (8,)
    for wrong in ({}, {"shape": (8,), "input_shape": (8,)}):
        with pytest.raises(ArgumentTypeError, match="InputLayer: give its shape"):
            layers.InputLayer(**wrong)


def test_losses_and_metrics_as_functions() -> None:
    model = classifier(
        loss=keras.losses.sparse_categorical_crossentropy,
        metrics=[keras.metrics.sparse_categorical_accuracy],
    )
    assert model.metrics_names == ["loss", "sparse_categorical_accuracy"]
    loss, accuracy = model.evaluate(X, Y, verbose=0)
    assert [loss, accuracy] == classifier().evaluate(X, Y)
    assert model.loss is not None
    with pytest.raises(AttributeError, match=r"gpunn\.losses' has no attribute 'mean_squarred'"):
        _ = keras.losses.mean_squarred
    with pytest.raises(AttributeError, match=r"gpunn\.metrics' has no attribute 'acuracy'"):
        _ = keras.metrics.acuracy


# Single batches


def test_single_batches_are_steps_of_fit() -> None:
    one, other = classifier(optimizer="adam"), classifier(optimizer="adam")
    other.set_weights(one.get_weights())
    figures = []
    for start in range(0, 50, 10):
        rows = slice(start, start + 10)
        before = one.test_on_batch(X[rows], Y[rows])
        figures.append(one.train_on_batch(X[rows], Y[rows]))
        assert figures[-1] == pytest.approx(before)
    history = other.fit(X, Y, batch_size=10, shuffle=False, verbose=0).history
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        assert np.array_equal(a, b)
    assert np.mean(figures, axis=0) == pytest.approx([history["loss"][0], history["accuracy"][0]])
    assert one.optimizer.iterations == other.optimizer.iterations == 5
    assert np.array_equal(one.predict_on_batch(X[:3]), one.predict(X[:3]))
    assert one.test_on_batch(X, Y, return_dict=True) == one.evaluate(X, Y, return_dict=True)
    one.reset_metrics()
    figures = one.train_on_batch(X, Y, return_dict=True)
    assert list(figures) == one.metrics_names


def test_weights_of_a_single_batch() -> None:
    by_class, by_sample = classifier(), classifier()
    by_sample.set_weights(by_class.get_weights())
    by_class.train_on_batch(X, Y, class_weight={0: 0.0, 1: 2.0})
    by_sample.train_on_batch(X, Y, sample_weight=np.where(Y == 1, 2.0, 0.0))
    for a, b in zip(by_class.get_weights(), by_sample.get_weights(), strict=True):
        assert np.array_equal(a, b)
    with pytest.raises(ArgumentError, match="class_weight or sample_weight, not both"):
        by_class.train_on_batch(X, Y, np.ones(50), {0: 1.0})
    with pytest.raises(ArgumentError, match="train_on_batch needs a loss"):
        classifier(loss=None, metrics=None).train_on_batch(X, Y)


def test_sequential_that_is_built_by_a_batch() -> None:
    model = keras.Sequential([layers.Dense(2, activation="softmax")], name="late")
    model.compile("sgd", "sparse_categorical_crossentropy", device="reference")
    assert np.isfinite(model.train_on_batch(X, Y))
    assert (model.name, model.input_shape) == ("late", (None, 4))


# Seeds


def test_weights_looked_at_before_compile_follow_the_global_seed() -> None:
    def run(seed: int) -> tuple[np.ndarray, np.ndarray]:
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
        looked_at = model.get_weights()[0]
        model.compile("sgd", "mse", device="reference")
        assert np.array_equal(model.get_weights()[0], looked_at)
        model.fit(X, X[:, :3], batch_size=7, verbose=0)
        return looked_at, model.get_weights()[0]

    first, again, other = run(42), run(42), run(43)
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], other[0])
    models = [keras.Sequential([keras.Input((4,)), layers.Dense(3)]) for _ in range(2)]
    assert not np.array_equal(models[0].get_weights()[0], models[1].get_weights()[0])


# Utilities


def test_to_categorical() -> None:
    """Results recorded from Keras 3.15."""
    rows = keras.utils.to_categorical([0, 2, 1])
    assert rows.dtype == np.float64
    assert rows.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert keras.utils.to_categorical(np.array([[1], [0]]), 3).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert keras.utils.to_categorical([[0, 1], [1, 0]]).shape == (2, 2, 2)
    for wrong, message in (
        ([0.5], "whole class numbers"),
        ([], "not empty"),
        (["a"], "whole class numbers"),
        ([-1, 0], "from -1 to 0"),
    ):
        with pytest.raises(DataError, match=message):
            keras.utils.to_categorical(wrong)
    with pytest.raises(DataError, match="x must be from 0 to 1, but has values from 0 to 2"):
        keras.utils.to_categorical([0, 2], num_classes=2)


def test_normalize() -> None:
    assert keras.utils.normalize([[3.0, 4.0], [0, 0]]).tolist() == [[0.6, 0.8], [0, 0]]
    assert keras.utils.normalize([[1.0, 3.0]], order=1).tolist() == [[0.25, 0.75]]


def test_backend_settings() -> None:
    assert keras.backend.epsilon() == 1e-7
    assert keras.backend.floatx() == "float32"
    assert keras.backend.backend() == "gpunn"
    keras.backend.set_floatx("float32")
    with pytest.raises(ArgumentError, match="precision='float64'"):
        keras.backend.set_floatx("float64")
    model = classifier()
    name, weights = model.layers[0].name, model.get_weights()
    keras.backend.clear_session()
    keras.utils.clear_session()
    assert model.layers[0].name == classifier().layers[0].name == name
    assert np.array_equal(model.get_weights()[0], weights[0])


def test_backend_needs_numpy_alone() -> None:
    code = "import sys, gpunn; gpunn.backend.epsilon(); print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
