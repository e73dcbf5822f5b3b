"""Texts as books on Keras have them, with gpunn imported in its place."""

from __future__ import annotations

import numpy as np
import pytest
from small_models import TARGETS, X

import gpunn as keras


def test_sequential_text_from_a_keras_book() -> None:
    """Hands-On Machine Learning, chapter 10, but for fewer images and the device."""
    x_train = np.random.default_rng(0).integers(0, 256, (60, 28, 28)) / 255.0
    y_train = np.arange(60) % 10
    x_valid, y_valid = x_train[:20], y_train[:20]

    model = keras.models.Sequential()
    model.add(keras.layers.Flatten(input_shape=[28, 28]))
    model.add(keras.layers.Dense(300, activation="relu"))
    model.add(keras.layers.Dense(100, activation="relu"))
    model.add(keras.layers.Dense(10, activation="softmax"))
    assert model.count_params() == 266_610
    hidden1 = model.layers[1]
    assert hidden1.name == "dense"
    weights, biases = hidden1.get_weights()
    assert weights.shape == (784, 300)
    assert not biases.any()
    model.compile(
        loss="sparse_categorical_crossentropy",
        optimizer="sgd",
        metrics=["accuracy"],
        device="reference",
    )
    history = model.fit(x_train, y_train, epochs=8, verbose=0, validation_data=(x_valid, y_valid))
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert history.history["loss"][-1] < history.history["loss"][0]
    loss, accuracy = model.evaluate(x_valid, y_valid, verbose=0)
    assert (loss, accuracy) == (
        history.history["val_loss"][-1],
        history.history["val_accuracy"][-1],
    )
    y_proba = model.predict(x_valid[:3])
    assert y_proba.shape == (3, 10)
    assert np.argmax(y_proba, axis=-1).shape == (3,)


def test_functional_text_from_a_keras_book() -> None:
    input_a = keras.layers.Input(shape=[5], name="wide_input")
    input_b = keras.layers.Input(shape=[6], name="deep_input")
    hidden1 = keras.layers.Dense(30, activation="relu")(input_b)
    hidden2 = keras.layers.Dense(30, activation="relu")(hidden1)
    concat = keras.layers.concatenate([input_a, hidden2])
    output = keras.layers.Dense(1, name="main_output")(concat)
    aux_output = keras.layers.Dense(1, name="aux_output")(hidden2)
    model = keras.models.Model(inputs=[input_a, input_b], outputs=[output, aux_output])
    model.compile(
        loss=["mse", "mse"],
        loss_weights=[0.9, 0.1],
        optimizer=keras.optimizers.SGD(learning_rate=1e-3),
        device="reference",
    )
    x = np.random.default_rng(0).normal(0.0, 1.0, (40, 8))
    y = x[:, :1] ** 2
    a, b = x[:, :5], x[:, 2:]
    history = model.fit([a, b], [y, y], epochs=3, verbose=0, validation_data=([a, b], [y, y]))
    assert history.history["loss"][-1] < history.history["loss"][0]
    total, main, aux = model.evaluate([a, b], [y, y], verbose=0)
    assert total == pytest.approx(0.9 * main + 0.1 * aux)
    y_pred_main, y_pred_aux = model.predict([a[:3], b[:3]])
    assert y_pred_main.shape == y_pred_aux.shape == (3, 1)


def test_regression_text_from_a_keras_book() -> None:
    norm_layer = keras.layers.Normalization(input_shape=[4])
    model = keras.Sequential(
        [
            norm_layer,
            keras.layers.Dense(50, activation="relu", kernel_initializer="HeNormal"),
            keras.layers.Dense(1),
        ]
    )
    optimizer = keras.optimizers.Adam(learning_rate=1e-3)
    model.compile(
        loss="mse", optimizer=optimizer, metrics=["RootMeanSquaredError"], device="reference"
    )
    norm_layer.adapt(X)
    history = model.fit(X, TARGETS, epochs=5, verbose=0, validation_data=(X, TARGETS))
    mse_test, rmse_test = model.evaluate(X, TARGETS, verbose=0)
    assert rmse_test == pytest.approx(mse_test**0.5)
    assert set(history.history) == {
        "loss",
        "RootMeanSquaredError",
        "val_loss",
        "val_RootMeanSquaredError",
    }
