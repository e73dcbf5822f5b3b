"""What a user of Keras relies on: names, shapes, orders and return values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from op_runs import needs_compiler

import gpunn
import gpunn as keras
from gpunn import layers
from gpunn.backends import select
from gpunn.backends.numpy_reference import NumpyReference
from gpunn.errors import CheckpointError, PlanError
from gpunn.models import saving

RNG = np.random.default_rng(7)
X = RNG.normal(0.0, 1.0, (24, 4)).astype(np.float32)
LABELS = np.arange(24) % 3
TARGETS = RNG.normal(0.0, 1.0, (24, 1)).astype(np.float32)
SETTINGS: dict[str, Any] = {"device": "reference", "seed": 3}


def classifier(**settings: Any) -> gpunn.Sequential:
    model = gpunn.Sequential(
        [
            gpunn.Input((4,)),
            layers.Dense(5, "relu", name="hidden"),
            layers.Dense(3, "softmax", name="out"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", **(SETTINGS | settings))
    return model


def wide_and_deep() -> gpunn.Model:
    """The functional API's usual example: two inputs, two outputs."""
    wide, deep = gpunn.Input((3,), name="wide"), gpunn.Input((2,), name="deep")
    hidden = layers.Dense(4, activation="relu", name="hidden")(deep)
    joined = layers.concatenate([wide, hidden])
    outputs = [layers.Dense(1, name="main")(joined), layers.Dense(1, name="aux")(hidden)]
    return gpunn.Model(inputs=[wide, deep], outputs=outputs)


WIDE, DEEP = (RNG.normal(0.0, 1.0, (24, n)).astype(np.float32) for n in (3, 2))
MAIN, AUX = (RNG.normal(0.0, 1.0, (24, 1)).astype(np.float32) for _ in range(2))


def assert_equal(first: Any, second: Any) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def differ(first: Any, second: Any) -> bool:
    return any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


# Building


def test_list_and_add_give_the_same_model() -> None:
    listed = gpunn.Sequential([gpunn.Input((4,)), layers.Dense(5, "relu"), layers.Dense(3)])
    added = gpunn.Sequential()
    added.add(gpunn.Input((4,)))
    added.add(layers.Dense(5, "relu"))
    added.add(layers.Dense(3))
    for model in (listed, added):
        model.compile("sgd", "mse", **SETTINGS)
    assert [layer.name for layer in added.layers] == ["dense", "dense_1"]
    assert_equal(listed.get_weights(), added.get_weights())
    np.testing.assert_array_equal(listed.predict(X), added.predict(X))


def test_pop_takes_the_last_layer_off() -> None:
    model = gpunn.Sequential([gpunn.Input((4,)), layers.Dense(5), layers.Dense(3)])
    model.pop()
    assert model.predict(X).shape == (24, 5)


def test_layers_keep_their_weights_when_the_stack_changes() -> None:
    model = classifier(device="cpu")
    model.fit(X, LABELS, verbose=0)
    trained = model.get_weights()
    model.pop()
    assert_equal(model.get_weights(), trained[:2])
    assert model.predict(X).shape == (24, 5)
    model.add(layers.Dense(1, name="head"))
    model.compile("sgd", "mse", **SETTINGS)
    assert_equal(model.get_weights()[:2], trained[:2])
    model.fit(X, TARGETS, verbose=0)
    assert model.predict(X).shape == (24, 1)


@pytest.mark.parametrize("first", ["fit", "evaluate", "predict", "build"])
def test_model_without_input_is_built_by_its_first_use(first: str) -> None:
    model = gpunn.Sequential([layers.Dense(5, "relu"), layers.Dense(3, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"], **SETTINGS)
    assert not model.built
    if first == "fit":
        assert set(model.fit(X, LABELS, verbose=0).history) == {"loss", "accuracy"}
    elif first == "evaluate":
        assert len(model.evaluate(X, LABELS)) == 2
    elif first == "build":
        model.build((None, 4))
        assert len(model.evaluate(X, LABELS)) == 2
    else:
        assert model.predict(X).shape == (24, 3)
    assert model.built
    assert [w.shape for w in model.get_weights()] == [(4, 5), (5,), (5, 3), (3,)]


def test_deferred_model_equals_one_with_input() -> None:
    deferred = gpunn.Sequential([layers.Dense(5, "relu"), layers.Dense(3, "softmax")])
    deferred.compile("sgd", "sparse_categorical_crossentropy", **SETTINGS)
    known = classifier()
    for model in (deferred, known):
        model.fit(X, LABELS, epochs=2, batch_size=5, verbose=0)
    assert_equal(deferred.get_weights(), known.get_weights())


def test_names_follow_keras() -> None:
    model = gpunn.Sequential(
        [
            gpunn.Input((2, 2)),
            layers.Flatten(),
            layers.Rescaling(1 / 255),
            layers.Dense(3),
            layers.Activation("relu"),
            layers.Dropout(0.2),
            layers.Dense(3),
            layers.Dense(1, name="last"),
        ]
    )
    assert [layer.name for layer in model.layers] == [
        "flatten",
        "rescaling",
        "dense",
        "activation",
        "dropout",
        "dense_1",
        "last",
    ]


def test_summary_shows_layers_shapes_and_counts() -> None:
    lines: list[str] = []
    model = classifier()
    model.summary(print_fn=lines.append)
    text = "\n".join(lines)
    hidden = next(line for line in text.splitlines() if line.startswith("hidden"))
    assert hidden.split() == ["hidden", "(Dense)", "(None,", "5)", "25"]
    assert "Total params: 43\nTrainable params: 43\nNon-trainable params: 0" in text
    assert "InputLayer" not in text
    assert model.count_params() == 43


def test_summary_of_functional_model_shows_connections(capsys: pytest.CaptureFixture[str]) -> None:
    wide_and_deep().summary()
    text = capsys.readouterr().out
    row = next(line for line in text.splitlines() if line.startswith("concatenate"))
    assert row.split() == ["concatenate", "(Concatenate)", "(None,", "7)", "0", "wide,", "hidden"]


def test_statistics_are_not_trainable() -> None:
    layer = layers.Normalization()
    layer.adapt(X)
    model = gpunn.Sequential([gpunn.Input((4,)), layer, layers.Dense(1)])
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    assert "Trainable params: 5\nNon-trainable params: 8" in lines[0]


# Layers and weights


def test_layers_are_found_by_name_and_by_index() -> None:
    model = classifier()
    assert [layer.name for layer in model.layers] == ["hidden", "out"]
    assert model.get_layer("out").units == 3
    assert model.get_layer(index=0).name == "hidden"
    assert model.get_layer("hidden").activation.name == "relu"
    assert model.get_layer("hidden").count_params() == 25


def test_weights_come_as_kernel_and_bias_layer_by_layer() -> None:
    model = classifier()
    weights = model.get_weights()
    assert [w.shape for w in weights] == [(4, 5), (5,), (5, 3), (3,)]
    assert {w.dtype for w in weights} == {np.dtype(np.float32)}
    kernel, bias = model.layers[1].get_weights()
    np.testing.assert_array_equal(kernel, weights[2])
    np.testing.assert_array_equal(bias, weights[3])
    np.testing.assert_array_equal(model.get_layer("out").kernel, weights[2])
    np.testing.assert_array_equal(model.get_layer("out").bias, weights[3])


def test_weights_are_copies() -> None:
    model = classifier()
    before = model.get_weights()
    for array in model.get_weights():
        array[...] = 9.0
    assert_equal(model.get_weights(), before)


def test_set_weights_decides_what_predict_returns() -> None:
    model = gpunn.Sequential([gpunn.Input((4,)), layers.Dense(2, name="d")])
    kernel = np.arange(8, dtype=np.float32).reshape(4, 2)
    # Before compiling, after it, and layer by layer.
    model.set_weights([kernel, [1.0, 2.0]])
    np.testing.assert_allclose(model.predict(X), X @ kernel + [1, 2], rtol=1e-5, atol=1e-5)
    model.compile("sgd", "mse", **SETTINGS)
    np.testing.assert_allclose(model.predict(X), X @ kernel + [1, 2], rtol=1e-5, atol=1e-5)
    model.get_layer("d").set_weights([2 * kernel, [0.0, 0.0]])
    np.testing.assert_allclose(model.predict(X), X @ kernel * 2, rtol=1e-5, atol=1e-5)


def test_use_bias_false_has_a_kernel_only() -> None:
    model = gpunn.Sequential([gpunn.Input((4,)), layers.Dense(2, use_bias=False)])
    assert [w.shape for w in model.get_weights()] == [(4, 2)]


# fit


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


# Several inputs and outputs


def test_inputs_and_outputs_as_lists_and_as_dicts() -> None:
    histories, weights = [], []
    for x, y in (
        ([WIDE, DEEP], [MAIN, AUX]),
        ((WIDE, DEEP), (MAIN, AUX)),
        ({"deep": DEEP, "wide": WIDE}, {"aux": AUX, "main": MAIN}),
    ):
        model = wide_and_deep()
        model.compile("sgd", ["mse", "mae"], loss_weights=[0.75, 0.25], **SETTINGS)
        histories.append(model.fit(x, y, epochs=2, validation_split=0.25, verbose=0).history)
        weights.append(model.get_weights())
    assert histories[0] == histories[1] == histories[2]
    assert_equal(weights[0], weights[1])
    assert_equal(weights[0], weights[2])
    loss = histories[0]
    assert set(loss) == {
        f"{prefix}{name}" for prefix in ("", "val_") for name in ("loss", "main_loss", "aux_loss")
    }
    # float64 sums of float32 losses.
    assert loss["loss"] == pytest.approx(
        [0.75 * a + 0.25 * b for a, b in zip(loss["main_loss"], loss["aux_loss"], strict=True)]
    )


@pytest.mark.parametrize(
    "metrics",
    [
        {"main": ["mae"], "aux": ["mse"]},
        {"main": "mae", "aux": "mse"},
        [["mae"], ["mse"]],
        ["mae", "mse"],  # one for each output, as in Keras 3
    ],
)
def test_metrics_go_to_their_outputs(metrics: Any) -> None:
    model = wide_and_deep()
    model.compile("sgd", "mse", metrics=metrics, **SETTINGS)
    figures = model.evaluate([WIDE, DEEP], [MAIN, AUX], return_dict=True)
    # The order that Keras returns values in, too: losses, then metrics.
    assert list(figures) == ["loss", "main_loss", "aux_loss", "main_mae", "aux_mse"]
    assert model.evaluate([WIDE, DEEP], [MAIN, AUX]) == list(figures.values())
    main, aux = model.predict([WIDE, DEEP])
    assert figures["main_mae"] == pytest.approx(float(np.abs(main - MAIN).mean()), rel=1e-5)
    assert figures["aux_mse"] == pytest.approx(float(((aux - AUX) ** 2).mean()), rel=1e-5)


def test_loss_and_metrics_by_output_name() -> None:
    model, other = wide_and_deep(), wide_and_deep()
    weights = {"aux": 0.25, "main": 0.75}
    model.compile("sgd", {"aux": "mae", "main": "mse"}, loss_weights=weights, **SETTINGS)
    other.compile("sgd", ["mse", "mae"], loss_weights=[0.75, 0.25], **SETTINGS)
    for m in (model, other):
        m.fit([WIDE, DEEP], [MAIN, AUX], verbose=0)
    assert_equal(model.get_weights(), other.get_weights())


def test_sample_weights_for_all_or_each_output() -> None:
    w = np.linspace(0.0, 2.0, 24)
    losses = []
    for weights in (w, [w, w], {"aux": w, "main": w}, [w, np.ones(24)]):
        model = wide_and_deep()
        model.compile("sgd", "mse", precision="float64", **SETTINGS)
        x, y = [WIDE, DEEP], [MAIN, AUX]
        losses.append(model.evaluate(x, y, sample_weight=weights, return_dict=True))
    assert losses[0] == losses[1] == losses[2]
    assert losses[3]["main_loss"] == losses[0]["main_loss"]
    assert losses[3]["aux_loss"] != losses[0]["aux_loss"]


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("loss", ["mse", "ce", "one-hot"])
def test_a_loss_of_weight_0_counts_for_nothing(device: str, loss: str) -> None:
    inputs = gpunn.Input((4,))
    hidden = layers.Dense(5, "relu")(inputs)
    ends = [layers.Dense(3, "softmax", name="a")(hidden), layers.Dense(1, name="b")(hidden)]
    model = gpunn.Model(inputs, ends)
    name = {"ce": "sparse_categorical_crossentropy", "one-hot": "categorical_crossentropy"}
    first, weights = name.get(loss, "mse"), [0.0, 1.0] if loss != "mse" else [1.0, 0.0]
    model.compile("sgd", [first, "mse"], loss_weights=weights, **(SETTINGS | {"device": device}))
    before = model.get_layer("a" if loss != "mse" else "b").get_weights()
    y = LABELS if loss == "ce" else np.eye(3, dtype=np.float32)[LABELS]
    history = model.fit(X, [y, TARGETS], batch_size=24, verbose=0).history
    assert history["loss"] == history["b_loss" if loss != "mse" else "a_loss"]
    assert np.isfinite([*history["a_loss"], *history["b_loss"]]).all()
    assert_equal(model.get_layer("a" if loss != "mse" else "b").get_weights(), before)


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


def test_output_without_loss_can_be_predicted() -> None:
    model = wide_and_deep()
    model.compile("sgd", {"main": "mse"}, **SETTINGS)
    assert set(model.fit([WIDE, DEEP], [MAIN, AUX], verbose=0).history) >= {"loss"}
    assert [out.shape for out in model.predict([WIDE, DEEP])] == [(24, 1), (24, 1)]


def test_functional_model_computes_what_it_says() -> None:
    model = wide_and_deep()
    weights = {layer.name: layer.get_weights() for layer in model.layers}
    hidden = np.maximum(DEEP @ weights["hidden"][0] + weights["hidden"][1], 0)
    joined = np.concatenate([WIDE, hidden], axis=1)
    main, aux = model.predict([WIDE, DEEP])
    for out, value, name in ((main, joined, "main"), (aux, hidden, "aux")):
        wanted = value @ weights[name][0] + weights[name][1]
        # float32 sums in another order.
        np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-6)


# evaluate and predict


def test_evaluate_returns_a_number_a_list_or_a_dict() -> None:
    model = classifier()
    loss = model.evaluate(X, LABELS)
    assert isinstance(loss, float)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"], **SETTINGS)
    values = model.evaluate(X, LABELS, batch_size=7, verbose=0)
    assert isinstance(values, list)
    assert values[0] == loss
    figures = {"loss": values[0], "accuracy": values[1]}
    assert model.evaluate(X, LABELS, return_dict=True) == figures
    out = model.predict(X)
    assert loss == pytest.approx(float(-np.log(out[np.arange(24), LABELS]).mean()), rel=1e-5)


def test_evaluate_does_not_train() -> None:
    model = classifier()
    before = model.get_weights()
    model.evaluate(X, LABELS)
    assert_equal(model.get_weights(), before)


@pytest.mark.parametrize("rows", [1, 2, 31, 32, 33, 1024, 1030])
def test_predict_gives_a_row_per_row(rows: int) -> None:
    """Whatever the batches inside: each row's result does not depend on its neighbours."""
    model = classifier()
    x = np.random.default_rng(rows).normal(0.0, 1.0, (rows, 4)).astype(np.float32)
    out = model.predict(x)
    assert out.shape == (rows, 3)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.sum(axis=1), 1, rtol=1e-5)
    singly = np.concatenate([model.predict(x[i : i + 1]) for i in (0, rows // 2, rows - 1)])
    # Products of other shapes may add in another order.
    np.testing.assert_allclose(out[[0, rows // 2, rows - 1]], singly, rtol=1e-5)
    np.testing.assert_array_equal(model(x), out)


def test_predict_keeps_axes_of_the_output() -> None:
    model = gpunn.Sequential([gpunn.Input((2, 3)), layers.Rescaling(2.0)])
    x = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    np.testing.assert_array_equal(model.predict(x), 2 * x)


def test_dropout_is_off_outside_training() -> None:
    model = gpunn.Sequential([gpunn.Input((4,)), layers.Dropout(0.5), layers.Dense(1)])
    model.compile("sgd", "mse", **SETTINGS)
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(model.predict(X), X @ kernel + bias, rtol=1e-5, atol=1e-6)
    trained = model.fit(X, TARGETS, verbose=0).history["loss"][0]
    assert trained != pytest.approx(float(((X @ kernel + bias - TARGETS) ** 2).mean()), rel=1e-3)


def test_uint8_images_equal_scaled_floats() -> None:
    images = RNG.integers(0, 256, (24, 5, 5), dtype=np.uint8)

    def model(*first: Any) -> gpunn.Sequential:
        stack = [gpunn.Input((5, 5)), *first, layers.Flatten(), layers.Dense(3, "softmax")]
        built = gpunn.Sequential(stack)
        built.compile("sgd", "sparse_categorical_crossentropy", precision="float64", **SETTINGS)
        return built

    raw, scaled = model(layers.Rescaling(1 / 255)), model()
    history = raw.fit(images, LABELS, epochs=2, batch_size=7, verbose=0)
    other = scaled.fit(images / 255.0, LABELS, epochs=2, batch_size=7, verbose=0)
    assert history.history["loss"] == pytest.approx(other.history["loss"], rel=1e-12)
    for a, b in zip(raw.get_weights(), scaled.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


# compile


def test_names_and_objects_compile_alike() -> None:
    named, built = classifier(), classifier()
    named.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], **SETTINGS)
    built.compile(
        optimizer=gpunn.optimizers.Adam(learning_rate=0.001),
        loss=gpunn.losses.SparseCategoricalCrossentropy(),
        metrics=[gpunn.metrics.SparseCategoricalAccuracy(name="accuracy")],
        **SETTINGS,
    )
    histories = [m.fit(X, LABELS, epochs=2, verbose=0).history for m in (named, built)]
    assert histories[0] == histories[1]
    assert_equal(named.get_weights(), built.get_weights())


@pytest.mark.parametrize("value", [0.05, np.float32(0.05), np.float64(0.05), np.array(0.05)])
def test_learning_rate_may_be_any_number(value: Any) -> None:
    assert gpunn.optimizers.SGD(value).schedule(0) == pytest.approx(0.05)


def test_compiling_again_keeps_the_weights_and_restarts_the_optimizer() -> None:
    model = classifier()
    momentum = gpunn.optimizers.SGD(0.1, momentum=0.9)
    model.compile(momentum, "sparse_categorical_crossentropy", **SETTINGS)
    model.fit(X, LABELS, epochs=2, verbose=0)
    trained = model.get_weights()
    model.compile(momentum, "sparse_categorical_crossentropy", **SETTINGS)
    assert_equal(model.get_weights(), trained)
    fresh = classifier()
    fresh.compile(momentum, "sparse_categorical_crossentropy", **SETTINGS)
    fresh.set_weights(trained)
    for m in (model, fresh):
        m.fit(X, LABELS, batch_size=8, shuffle=False, verbose=0)
    assert_equal(model.get_weights(), fresh.get_weights())


def test_fitting_again_goes_on() -> None:
    """Twice two epochs are four: optimizer slots, step count and shuffling go on."""
    twice, once = classifier(), classifier()
    for model in (twice, once):
        model.compile("adam", "sparse_categorical_crossentropy", **SETTINGS)
    first = twice.fit(X, LABELS, epochs=2, batch_size=5, verbose=0)
    second = twice.fit(X, LABELS, epochs=2, batch_size=5, verbose=0)
    whole = once.fit(X, LABELS, epochs=4, batch_size=5, verbose=0)
    assert first.history["loss"] + second.history["loss"] == whole.history["loss"]
    assert_equal(twice.get_weights(), once.get_weights())


def test_same_seed_same_run() -> None:
    def run(seed: int | None) -> list[np.ndarray]:
        model = gpunn.Sequential(
            [gpunn.Input((4,)), layers.Dense(8, "relu"), layers.Dropout(0.3), layers.Dense(1)]
        )
        model.compile("sgd", "mse", device="reference", seed=seed)
        model.fit(X, TARGETS, epochs=2, batch_size=5, verbose=0)
        return model.get_weights()

    assert_equal(run(5), run(5))
    assert differ(run(5), run(6))
    assert differ(run(None), run(None))


# Saving


def test_saved_model_comes_back_whole(tmp_path: Path) -> None:
    model = gpunn.Sequential(
        [
            gpunn.Input((4,)),
            layers.Dense(5, "elu", kernel_initializer="he_normal", kernel_regularizer="l2"),
            layers.Dropout(0.2),
            layers.Dense(3, "softmax"),
        ],
        name="mine",
    )
    schedule = gpunn.schedules.ExponentialDecay(0.01, 10, 0.9)
    model.compile(
        gpunn.optimizers.AdamW(schedule, weight_decay=0.01, clipnorm=1.0),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        **SETTINGS,
    )
    model.fit(X, LABELS, verbose=0)
    path = model.save(tmp_path / "model.h5")
    loaded = keras.models.load_model(path, device="reference")
    assert type(loaded) is gpunn.Sequential
    assert loaded.name == "mine"
    assert loaded.get_config() == model.get_config()
    assert loaded.optimizer == model.optimizer
    assert_equal(loaded.get_weights(), model.get_weights())
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.evaluate(X, LABELS) == model.evaluate(X, LABELS)
    before = loaded.get_weights()
    loaded.fit(X, LABELS, verbose=0)
    assert differ(loaded.get_weights(), before)


def test_saved_functional_model_comes_back_whole(tmp_path: Path) -> None:
    model = wide_and_deep()
    model.compile(
        "sgd", ["mse", "mae"], loss_weights=[2.0, 1.0], metrics=["mae", "mse"], **SETTINGS
    )
    path = model.save(tmp_path / "model.h5")
    loaded = gpunn.load_model(path, device="reference")
    assert_equal(loaded.predict([WIDE, DEEP]), model.predict([WIDE, DEEP]))
    figures = [m.evaluate([WIDE, DEEP], [MAIN, AUX], return_dict=True) for m in (loaded, model)]
    assert figures[0] == figures[1]


def test_float64_model_is_saved_in_float64_before_it_is_trained(tmp_path: Path) -> None:
    model = classifier(precision="float64")
    assert {w.dtype for w in model.get_weights()} == {np.dtype(np.float64)}
    loaded = gpunn.load_model(model.save(tmp_path / "model.h5"), device="reference")
    assert_equal(loaded.predict(X), model.predict(X))


def test_saved_normalization_keeps_its_statistics(tmp_path: Path) -> None:
    layer = layers.Normalization()
    layer.adapt(5 * X + 3)
    model = gpunn.Sequential([gpunn.Input((4,)), layer, layers.Dense(2)])
    model.compile("sgd", "mse", **SETTINGS)
    loaded = gpunn.load_model(model.save(tmp_path / "model.h5"), device="reference")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def normalized(data: Any = None) -> gpunn.Sequential:
    normalization = layers.Normalization()
    if data is not None:
        normalization.adapt(data)
    return gpunn.Sequential([gpunn.Input((4,)), normalization, layers.Dense(2)])


def test_statistics_that_are_set_outlast_those_learned_before(tmp_path: Path) -> None:
    first, second = normalized(X), normalized(3 * X + 1)
    second.set_weights(first.get_weights())
    np.testing.assert_array_equal(second.predict(X), first.predict(X))
    first.set_weights([w + 1 for w in first.get_weights()])
    first.save(tmp_path / "model.h5")
    loaded = gpunn.load_model(tmp_path / "model.h5")
    np.testing.assert_array_equal(loaded.predict(X), first.predict(X))
    never_adapted = normalized()
    never_adapted.load_weights(tmp_path / "model.h5")
    np.testing.assert_array_equal(never_adapted.predict(X), first.predict(X))
    # Learning anew counts again.
    second.layers[0].spec.adapt(5 * X)
    np.testing.assert_allclose(second.get_weights()[1], (5 * X).var(axis=0), rtol=1e-6)


def test_numpy_numbers_in_a_model_can_be_saved(tmp_path: Path) -> None:
    scale = layers.Rescaling(np.float32(0.1))
    model = gpunn.Sequential([gpunn.Input((4,)), scale, layers.Dense(1)])
    boundaries = np.array([5, 9])
    rate = gpunn.schedules.PiecewiseConstantDecay(boundaries, [0.1, 0.01, 0.001])
    optimizer = gpunn.optimizers.SGD(rate, momentum=np.float32(0.9))
    model.compile(optimizer, gpunn.losses.Huber(np.float64(2.0)), **SETTINGS)
    model.save(tmp_path / "model.h5")
    loaded = gpunn.load_model(tmp_path / "model.h5", device="reference")
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_model_saved_without_compile_loads_without(tmp_path: Path) -> None:
    model = gpunn.Sequential([gpunn.Input((4,)), layers.Dense(2)])
    loaded = gpunn.load_model(model.save(tmp_path / "model.h5"))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    with pytest.raises(gpunn.errors.NotBuiltError, match="not compiled"):
        loaded.fit(X, X[:, :2])


def saved_in(precision: str, folder: Path) -> tuple[Path, gpunn.Sequential]:
    """A model as saved where the device computes in `precision`; and it in float32."""
    model = classifier()
    changed = classifier()
    changed._compiled = dataclasses.replace(changed.compiled, precision=precision)
    return changed.save(folder / "model.h5"), model


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = select.DeviceStatus("cuda", False, "no NVIDIA GPU found")
    monkeypatch.setattr(select, "cuda_status", lambda: missing)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_model_from_a_gpu_is_used_without_one(tmp_path: Path, no_gpu: None, precision: str) -> None:
    path, model = saved_in(precision, tmp_path)
    with pytest.warns(RuntimeWarning) as caught:
        loaded = gpunn.load_model(path)
    (warning,) = caught
    assert warning.filename == __file__
    assert str(warning.message) == (
        f"{path} was saved with precision={precision!r}, but cpu, which device='auto' took, does "
        "not compute in it: the model computes in float32, the type of its weights."
    )
    assert loaded.compiled.precision == "float32"
    assert_equal(loaded.get_weights(), model.get_weights())
    np.testing.assert_allclose(loaded.predict(X), model.predict(X), rtol=1e-5)
    assert loaded.evaluate(X, LABELS) == pytest.approx(model.evaluate(X, LABELS), rel=1e-5)


def test_device_that_is_named_keeps_the_saved_precision_or_refuses(tmp_path: Path) -> None:
    path, model = saved_in("tf32", tmp_path)
    for device in ("cpu", "reference"):
        with pytest.raises(PlanError) as caught:
            gpunn.load_model(path, device=device)
        assert str(caught.value) == (
            f"{path} was saved with precision='tf32'. Device {device!r} does not compute in tf32; "
            "use precision='float32', or for tf32 device='cuda' with a GPU of compute capability "
            "8.0 or later, or device='simulator'."
        )
    loaded = gpunn.load_model(path, device="reference", precision="float32")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_precision_that_is_given_is_kept_to(tmp_path: Path, no_gpu: None) -> None:
    path, model = saved_in("tf32", tmp_path)
    with pytest.raises(PlanError, match=r"device='auto' took cpu .*does not compute in bfloat16"):
        gpunn.load_model(path, precision="bfloat16")
    # No warning: filterwarnings makes it an error.
    for precision in ("float32", "float64"):
        loaded = gpunn.load_model(path, precision=precision)
        assert loaded.compiled.precision == precision
        assert {w.dtype.name for w in loaded.get_weights()} == {precision}
        np.testing.assert_allclose(loaded.predict(X), model.predict(X), rtol=1e-5)
    assert gpunn.load_model(path, compile=False)._compiled is None


def test_float64_model_is_loaded_in_float32_if_asked_for(tmp_path: Path) -> None:
    model = classifier(precision="float64")
    path = model.save(tmp_path / "model.h5")
    assert gpunn.load_model(path, device="reference").compiled.precision == "float64"
    loaded = gpunn.load_model(path, device="reference", precision="float32")
    assert {w.dtype.name for w in loaded.get_weights()} == {"float32"}
    np.testing.assert_allclose(loaded.predict(X), model.predict(X), rtol=1e-5)


class OldGPU(NumpyReference):
    """Has the kernels for tf32, and not the tensor cores."""

    name = "cuda:0"
    precisions = ("float32", "tf32", "bfloat16", "float64")

    def check(self, steps: Iterable[Any], precision: str, models: int) -> None:
        if precision in ("tf32", "bfloat16"):
            raise PlanError(f"precision {precision!r} needs compute capability 8.0 or later.")


def test_model_from_a_newer_gpu_is_used_on_an_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model = saved_in("tf32", tmp_path)
    old = select.Selection(OldGPU(), "a GPU that can be used")
    monkeypatch.setattr(saving, "select_backend", lambda device: old)
    with pytest.warns(RuntimeWarning, match="but cuda:0, which device='auto' took, does not"):
        loaded = gpunn.load_model(path)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    with pytest.raises(PlanError, match=r"precision='tf32'\. precision 'tf32' needs compute"):
        gpunn.load_model(path, device="cuda")


@needs_compiler
@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_precision_is_kept_where_the_device_computes_in_it(tmp_path: Path, precision: str) -> None:
    model = classifier(device="simulator", precision=precision)
    path = model.save(tmp_path / "model.h5")
    loaded = gpunn.load_model(path, device="simulator")
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    exact = gpunn.load_model(path, device="simulator", precision="float32")
    assert differ(exact.predict(X), loaded.predict(X))
    np.testing.assert_allclose(exact.predict(X), loaded.predict(X), rtol=0.05)


def test_training_is_not_resumed_in_another_precision(tmp_path: Path) -> None:
    model, other = classifier(), classifier(precision="float64")
    save = gpunn.callbacks.Checkpoints(tmp_path, save_every=1)
    model.fit(X, LABELS, verbose=0, callbacks=[save])
    with pytest.raises(CheckpointError, match=r"other precision \(float32, not float64\) than"):
        other.fit(X, LABELS, epochs=2, verbose=0, resume=tmp_path)


@pytest.mark.parametrize("precision", ["float32", "float64", "tf32", "bfloat16"])
def test_plan_of_a_saved_model_needs_no_device_that_computes_in_it(
    tmp_path: Path, precision: str
) -> None:
    model = classifier()
    if precision != "float64":
        path = saved_in(precision, tmp_path)[0]
    else:
        path = classifier(precision=precision).save(tmp_path / "model.h5")
    loaded = saving.load_for_inspection(path)
    assert loaded.plan(8).describe().startswith(f"batch size 8, {precision}\n")
    assert loaded.count_params() == model.count_params()
    if precision in ("tf32", "bfloat16"):
        with pytest.raises(PlanError, match=f"does not compute in {precision}"):
            loaded.predict(X)


def test_weights_alone_are_saved_and_loaded(tmp_path: Path) -> None:
    model, other = classifier(), classifier(seed=99)
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    assert differ(model.get_weights(), other.get_weights())
    other.load_weights(path)
    assert_equal(model.get_weights(), other.get_weights())


# Callbacks


class Recorder(gpunn.callbacks.Callback):
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.calls.append("train begin")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.calls.append(("epoch begin", epoch))

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.calls.append(("batch begin", batch))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        assert set(logs) == {"loss"}
        self.calls.append(("batch end", batch))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        assert set(logs) == {"loss", "val_loss"}
        self.calls.append(("epoch end", epoch))

    def on_train_end(self, logs: Any = None) -> None:
        self.calls.append("train end")


def test_hooks_run_in_keras_order() -> None:
    recorder = Recorder()
    model = classifier()
    model.fit(
        X,
        LABELS,
        batch_size=16,
        epochs=2,
        verbose=0,
        callbacks=[recorder],
        validation_data=(X, LABELS),
    )
    epochs = []
    for epoch in range(2):
        batches = [(f"batch {when}", b) for b in range(2) for when in ("begin", "end")]
        epochs += [("epoch begin", epoch), *batches, ("epoch end", epoch)]
    assert recorder.calls == ["train begin", *epochs, "train end"]
    assert recorder.model is model
    assert recorder.params["epochs"] == 2


def test_hooks_do_not_change_the_training() -> None:
    model, other = classifier(), classifier()
    model.fit(X, LABELS, batch_size=5, epochs=2, verbose=0)
    data = (X, LABELS)
    other.fit(
        X, LABELS, batch_size=5, epochs=2, verbose=0, callbacks=[Recorder()], validation_data=data
    )
    assert_equal(model.get_weights(), other.get_weights())


def test_lambda_callback_runs_its_functions() -> None:
    seen: list[Any] = []
    callback = gpunn.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append((epoch, logs["loss"])),
    )
    # One callback may be given without a list.
    history = classifier().fit(X, LABELS, epochs=3, verbose=0, callbacks=callback)
    assert seen == list(enumerate(history.history["loss"]))


@pytest.mark.parametrize(
    ("hook", "function"),
    [
        ("on_train_begin", lambda logs: None),
        ("on_train_end", lambda logs: None),
        ("on_epoch_begin", lambda epoch, logs: None),
        ("on_train_batch_begin", lambda batch, logs: None),
    ],
    ids=["train begin", "train end", "epoch begin", "batch begin"],
)
def test_hooks_without_default_arguments_get_logs(hook: str, function: Any) -> None:
    callback = gpunn.callbacks.LambdaCallback(**{hook: function})
    classifier().fit(X, LABELS, verbose=0, callbacks=[callback])


def test_stop_training_after_an_epoch() -> None:
    model = classifier()

    def stop(epoch: int, logs: Any) -> None:
        model.stop_training = epoch == 1

    callback = gpunn.callbacks.LambdaCallback(on_epoch_end=stop)
    assert model.fit(X, LABELS, epochs=9, verbose=0, callbacks=[callback]).epoch == [0, 1]
    # The next fit starts afresh.
    assert model.fit(X, LABELS, epochs=3, verbose=0).epoch == [0, 1, 2]


def test_stop_training_within_an_epoch() -> None:
    """As in Keras: no further batch, but the epoch's end and the training's end are called."""

    class Stop(Recorder):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            super().on_train_batch_end(batch, logs)
            self.model.stop_training = True

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.calls.append(("epoch end", epoch))

    stop = Stop()
    history = classifier().fit(X, LABELS, batch_size=8, epochs=3, verbose=0, callbacks=[stop])
    assert stop.calls == [
        "train begin",
        ("epoch begin", 0),
        ("batch begin", 0),
        ("batch end", 0),
        ("epoch end", 0),
        "train end",
    ]
    assert len(history.history["loss"]) == 1


# Text written for Keras


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


def test_auto_logs_which_device_and_why(caplog: pytest.LogCaptureFixture) -> None:
    model = gpunn.Sequential([gpunn.Input((2,)), gpunn.layers.Dense(1)])
    with caplog.at_level("INFO", logger="gpunn"):
        model.compile("sgd", "mse", device="auto")
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith(f"device {model.device}: ")
    assert line.removeprefix(f"device {model.device}: ")


def test_looking_at_weights_before_compile_changes_nothing() -> None:
    def model() -> gpunn.Model:
        return gpunn.Sequential([gpunn.Input((3,)), gpunn.layers.Dense(4), gpunn.layers.Dense(1)])

    plain, looked, given = model(), model(), model()
    looked.get_weights()
    given.get_weights()
    given.layers[0].set_weights([np.full((3, 4), 0.5), np.zeros(4)])
    for one in (plain, looked, given):
        one.compile("sgd", "mse", device="reference", seed=42)
    for a, b in zip(plain.get_weights(), looked.get_weights(), strict=True):
        assert np.array_equal(a, b)
    assert (given.get_weights()[0] == 0.5).all()
    assert np.array_equal(given.get_weights()[2], plain.get_weights()[2])
    plain.fit(np.ones((8, 3)), np.ones(8), verbose=0)
    trained = plain.get_weights()
    plain.compile("sgd", "mse", device="reference", seed=7)
    assert all(map(np.array_equal, trained, plain.get_weights()))


def test_set_random_seed_repeats_a_program() -> None:
    def program() -> list[bytes]:
        model = gpunn.Sequential([gpunn.Input((3,)), gpunn.layers.Dense(4), gpunn.layers.Dense(1)])
        model.compile("sgd", "mse", device="reference")
        x = np.random.random((20, 3))  # noqa: NPY002
        model.fit(x, x[:, 0], 7, epochs=2, verbose=0)
        return [w.tobytes() for w in model.get_weights()]

    gpunn.utils.set_random_seed(42)
    first = program(), program()
    gpunn.utils.set_random_seed(42)
    assert (program(), program()) == first
    assert first[0] != first[1]
    gpunn.utils.set_random_seed(43)
    assert program() != first[0]
    with pytest.raises(gpunn.errors.ArgumentError, match="seed must be at least 0"):
        gpunn.utils.set_random_seed(-1)
