"""Models with several inputs and outputs: data, losses and metrics go to their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_models import (
    AUX,
    DEEP,
    LABELS,
    MAIN,
    SETTINGS,
    TARGETS,
    WIDE,
    X,
    assert_equal,
    wide_and_deep,
)

import gpunn
from gpunn import layers


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
