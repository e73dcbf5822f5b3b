"""Arguments of fit: rows, weights, batches, epochs, and what is validated and shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_models import LABELS, SETTINGS, TARGETS, X, assert_equal, classifier, differ

import gpunn
from gpunn import layers


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("mae", "mae"),
        ("mse", "mse"),
        ("mean_absolute_error", "mean_absolute_error"),
        ("RootMeanSquaredError", "RootMeanSquaredError"),
        # As objects the long names, as in Keras.
        (gpunn.metrics.MeanAbsoluteError(), "mean_absolute_error"),
        (gpunn.metrics.MeanSquaredError(), "mean_squared_error"),
        (gpunn.metrics.RootMeanSquaredError(), "root_mean_squared_error"),
        (gpunn.metrics.RootMeanSquaredError, "root_mean_squared_error"),
        (gpunn.metrics.RootMeanSquaredError(name="rmse"), "rmse"),
    ],
)
def test_history_names_metrics_as_keras_does(metric: Any, label: str) -> None:
    model = gpunn.Sequential([gpunn.Input((4,)), layers.Dense(1)])
    model.compile("sgd", "mse", metrics=[metric], **SETTINGS)
    history = model.fit(X, TARGETS, epochs=2, verbose=0, validation_data=(X, TARGETS))
    assert set(history.history) == {"loss", label, "val_loss", f"val_{label}"}
    assert all(len(values) == 2 for values in history.history.values())
    assert history.epoch == [0, 1]
    assert model.history is history
    assert history.params["epochs"] == 2
    errors = model.predict(X) - TARGETS
    value = {"mae": np.abs(errors).mean(), "mean_absolute_error": np.abs(errors).mean()}.get(
        label, (errors**2).mean()
    )
    value = value**0.5 if label.lower().startswith("r") else value
    # float32.
    assert model.evaluate(X, TARGETS)[1] == pytest.approx(float(value), rel=1e-5)


@pytest.mark.parametrize("name", ["accuracy", "acc"])
def test_accuracy_fits_the_output(name: str) -> None:
    """Binary for one output, sparse for class numbers, categorical for one-hot rows."""
    one_hot = np.eye(3, dtype=np.float32)[LABELS]
    for loss, units, activation, y in (
        ("sparse_categorical_crossentropy", 3, "softmax", LABELS),
        ("categorical_crossentropy", 3, "softmax", one_hot),
        ("binary_crossentropy", 1, "sigmoid", LABELS > 0),
    ):
        model = gpunn.Sequential([gpunn.Input((4,)), layers.Dense(units, activation)])
        model.compile("sgd", loss, metrics=[name], **SETTINGS)
        out = model.predict(X)
        hits = out.argmax(axis=1) == LABELS if units == 3 else (out[:, 0] > 0.5) == (LABELS > 0)
        assert model.evaluate(X, y, return_dict=True)[name] == pytest.approx(hits.mean())


def test_validation_split_holds_out_the_last_rows() -> None:
    """As in Keras the last quarter, before shuffling, and class weights leave it alone."""
    model, other = classifier(), classifier()
    weights = {0: 1.0, 1: 5.0, 2: 0.5}
    split = model.fit(X, LABELS, validation_split=0.25, class_weight=weights, epochs=2, verbose=0)
    given = other.fit(
        X[:18],
        LABELS[:18],
        validation_data=(X[18:], LABELS[18:]),
        class_weight=weights,
        epochs=2,
        verbose=0,
    )
    assert split.history == given.history
    assert_equal(model.get_weights(), other.get_weights())


def test_validation_split_splits_sample_weights_too() -> None:
    model, other = classifier(), classifier()
    w = np.linspace(0.1, 2.0, 24)
    split = model.fit(X, LABELS, validation_split=0.25, sample_weight=w, verbose=0)
    given = other.fit(
        X[:18],
        LABELS[:18],
        sample_weight=w[:18],
        validation_data=(X[18:], LABELS[18:], w[18:]),
        verbose=0,
    )
    assert split.history == given.history


def test_class_weight_equals_sample_weights() -> None:
    model, other, plain = classifier(), classifier(), classifier()
    model.fit(X, LABELS, class_weight={1: 4.0}, epochs=2, verbose=0)
    other.fit(X, LABELS, sample_weight=np.where(LABELS == 1, 4.0, 1.0), epochs=2, verbose=0)
    plain.fit(X, LABELS, epochs=2, verbose=0)
    assert_equal(model.get_weights(), other.get_weights())
    assert differ(model.get_weights(), plain.get_weights())


def test_default_batch_size_is_32_or_all_rows() -> None:
    x, y = np.tile(X, (3, 1)), np.tile(LABELS, 3)
    assert classifier().fit(X, LABELS, verbose=0).params["batch_size"] == 24
    history = classifier().fit(x, y, verbose=0)
    assert (history.params["batch_size"], history.params["steps"]) == (32, 3)


def test_fewer_rows_than_32_are_left_after_a_split() -> None:
    x, y = np.tile(X, (2, 1)), np.tile(LABELS, 2)
    assert classifier().fit(x, y, validation_split=0.5, verbose=0).params["batch_size"] == 24


@pytest.mark.parametrize("kind", [list, np.asarray, lambda a: np.asfortranarray(a)])
def test_inputs_may_be_lists_and_arrays_of_any_layout(kind: Any) -> None:
    model, other = classifier(), classifier()
    model.fit(kind(X.tolist()), kind(LABELS.tolist()), verbose=0)
    other.fit(X, LABELS, verbose=0)
    assert_equal(model.get_weights(), other.get_weights())


def test_labels_may_be_a_column() -> None:
    model, other = classifier(), classifier()
    model.fit(X, LABELS[:, np.newaxis], verbose=0)
    other.fit(X, LABELS, verbose=0)
    assert_equal(model.get_weights(), other.get_weights())


def test_shuffle_false_takes_the_rows_in_order() -> None:
    """One step of SGD per row; a replay in NumPy in the rows' order gives the same weights."""
    model = gpunn.Sequential([gpunn.Input((4,)), layers.Dense(1, use_bias=False)])
    model.compile(gpunn.optimizers.SGD(0.1), "mse", precision="float64", **SETTINGS)
    w = model.get_weights()[0].astype(np.float64)
    shuffled = gpunn.Sequential([gpunn.Input((4,)), layers.Dense(1, use_bias=False)])
    shuffled.compile(gpunn.optimizers.SGD(0.1), "mse", precision="float64", **SETTINGS)
    model.fit(X, TARGETS, batch_size=1, shuffle=False, verbose=0)
    shuffled.fit(X, TARGETS, batch_size=1, verbose=0)
    for row, target in zip(X.astype(np.float64), TARGETS.astype(np.float64), strict=True):
        w = w - 0.1 * np.outer(row, 2 * (row @ w - target))
    np.testing.assert_allclose(model.get_weights()[0], w, rtol=1e-12)
    assert np.abs(shuffled.get_weights()[0] - w).max() > 1e-6


def test_steps_and_epochs_count_alike() -> None:
    model, other = classifier(), classifier()
    model.fit(X, LABELS, batch_size=8, epochs=2, verbose=0)
    other.fit(X, LABELS, batch_size=8, steps=6, verbose=0)
    assert_equal(model.get_weights(), other.get_weights())


def test_epochs_0_trains_nothing() -> None:
    model = classifier()
    before = model.get_weights()
    assert model.fit(X, LABELS, epochs=0, verbose=0).history == {}
    assert_equal(model.get_weights(), before)


def test_verbose_2_prints_a_line_per_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    classifier().fit(X, LABELS, epochs=3, verbose=0)
    assert capsys.readouterr().out == ""
    classifier().fit(X, LABELS, epochs=3, verbose=2)
    out = capsys.readouterr().out
    assert all(f"Epoch {epoch}/3" in out for epoch in (1, 2, 3))
    assert "loss" in out


def test_rmsprop_without_memory() -> None:
    weights = []
    for device in ("cpu", "reference"):
        model = classifier(device=device)
        model.compile(
            gpunn.optimizers.RMSprop(rho=0.0),
            "sparse_categorical_crossentropy",
            **(SETTINGS | {"device": device}),
        )
        model.fit(X, LABELS, batch_size=24, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_split_takes_a_list_of_rows() -> None:
    histories = [
        classifier().fit(x, LABELS, validation_split=0.25, verbose=0).history
        for x in (X, list(X), X.tolist())
    ]
    assert histories[0] == histories[1] == histories[2]
