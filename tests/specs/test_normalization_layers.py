"""BatchNormalization and LayerNormalization as a user of models meets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunn
from gpunn import layers, regularizers
from gpunn.callbacks import Checkpoints
from gpunn.errors import ArgumentError, ArgumentTypeError, ShapeError, UnknownNameError

RNG = np.random.default_rng(0)
X = RNG.normal(5.0, 3.0, (60, 4)).astype(np.float32)
Y = (X[:, 0] > X[:, 1]).astype(np.int32)
FIT: dict[str, Any] = {"batch_size": 16, "verbose": 0}
KINDS = [layers.BatchNormalization, layers.LayerNormalization]


def make_model(device: str = "cpu", **options: Any) -> gpunn.Sequential:
    model = gpunn.Sequential(
        [
            gpunn.Input((4,)),
            layers.Dense(8, use_bias=False),
            layers.BatchNormalization(**options),
            layers.Activation("relu"),
            layers.LayerNormalization(center=False),
            layers.Dropout(0.2),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"], device=device, seed=3)
    return model


def assert_same_bits(first: gpunn.Model, second: gpunn.Model) -> None:
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        assert one.tobytes() == other.tobytes()


def test_weights_are_keras_in_number_order_and_first_values() -> None:
    model = make_model()
    batch, layer = model.layers[1], model.layers[3]
    gamma, beta, mean, variance = batch.get_weights()
    for ones in (gamma, variance, *layer.get_weights()):
        np.testing.assert_array_equal(ones, 1)
    for zeros in (beta, mean):
        np.testing.assert_array_equal(zeros, np.zeros(8))
    assert [v.name for v in model.graph.variables] == [
        *("kernel", "gamma", "beta", "moving_mean", "moving_variance"),
        *("gamma", "kernel", "bias"),
    ]


def test_summary_counts_moving_statistics_as_not_trainable() -> None:
    lines: list[str] = []
    make_model().summary(lines.append)
    text = "\n".join(lines)
    dense, batch, layer, last = 4 * 8, 4 * 8, 8, 8 * 2 + 2
    assert f"Total params: {dense + batch + layer + last:,}" in text
    assert f"Trainable params: {dense + 16 + layer + last:,}" in text
    assert "Non-trainable params: 16" in text
    (row,) = (line for line in text.splitlines() if "batch_normalization" in line)
    assert row.split() == [
        *("batch_normalization", "(BatchNormalization)"),
        *("(None,", "8)", "32"),
    ]


def test_only_training_moves_the_statistics() -> None:
    model = make_model()
    model.fit(X, Y, epochs=2, **FIT)
    before = model.get_weights()
    assert (before[3] != 0).all() and (before[4] != 1).all()
    model.evaluate(X, Y)
    first = model.predict(X[:5])
    # Whatever rows are beside them; a BLAS may add up the products of more rows in another order.
    np.testing.assert_allclose(model.predict(X)[:5], first, rtol=1e-5)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_statistics_move_also_where_no_loss_depends_on_them(device: str) -> None:
    """As in Keras, whose training step computes all outputs."""
    x = gpunn.Input((4,))
    free = layers.Dense(3)(layers.BatchNormalization(momentum=0.5, name="norm")(x))
    model = gpunn.Model(x, [layers.Dense(1)(x), free])
    model.compile("sgd", ["mse", None], device=device)
    model.fit(X, [X[:, :1], np.zeros((len(X), 3))], batch_size=len(X), epochs=1, verbose=0)
    gamma, _, mean, variance = model.get_layer("norm").get_weights()
    np.testing.assert_allclose(mean, 0.5 * X.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(variance, 0.5 + 0.5 * X.var(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(gamma, 1)


def test_evaluate_and_predict_use_the_statistics_as_they_are_now() -> None:
    model = gpunn.Sequential([gpunn.Input((4,)), layers.BatchNormalization(epsilon=0.0)])
    model.compile(device="cpu", loss="mse")
    np.testing.assert_allclose(model.predict(X), X, rtol=1e-6)
    gamma, beta, _, _ = model.get_weights()
    model.set_weights([2 * gamma, beta + 1, X.mean(axis=0), X.var(axis=0)])
    expected = 1 + 2 * (X - X.mean(axis=0)) / X.std(axis=0)
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-4, atol=1e-5)
    assert model.evaluate(X, expected, verbose=0) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_save_and_load_keep_everything(tmp_path: Path, device: str) -> None:
    options = {
        "momentum": 0.7,
        "epsilon": 0.01,
        "moving_mean_initializer": "ones",
        "gamma_regularizer": regularizers.L2(0.02),
    }
    model = make_model(device, **options)
    model.fit(X, Y, epochs=2, **FIT)
    model.save(tmp_path / "a.h5")
    loaded = gpunn.load_model(tmp_path / "a.h5", device=device)
    assert_same_bits(model, loaded)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    spec = loaded.layers[1].spec
    assert {name: getattr(spec, name) for name in ("momentum", "epsilon")} == {
        name: options[name] for name in ("momentum", "epsilon")
    }


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, device: str) -> None:
    whole = make_model(device)
    whole.fit(X, Y, epochs=6, **FIT)
    make_model(device).fit(X, Y, epochs=3, callbacks=[Checkpoints(tmp_path)], **FIT)
    resumed = make_model(device)
    resumed.fit(X, Y, epochs=6, callbacks=[Checkpoints(tmp_path)], resume=tmp_path, **FIT)
    assert_same_bits(whole, resumed)


def test_a_run_resumed_within_an_epoch_is_the_uninterrupted_one() -> None:
    whole, first, second = (gpunn.Trainer(make_model(), X, Y, batch_size=16) for _ in range(3))
    for _ in range(7):
        whole.step()
    for _ in range(3):
        first.step()
    second.load_state_dict(first.state_dict())
    for _ in range(4):
        second.step()
    assert_same_bits(whole.model, second.model)


def test_best_weights_take_the_statistics_along() -> None:
    """Early stopping puts back weights and statistics of one and the same epoch."""
    model = make_model()
    seen: list[list[np.ndarray]] = []
    record = gpunn.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(model.get_weights())
    )
    stop = gpunn.callbacks.EarlyStopping(
        "val_loss", mode="max", patience=1, restore_best_weights=True
    )
    model.fit(X, Y, epochs=8, callbacks=[record, stop], validation_data=(X, Y), **FIT)
    best = seen[stop.best_epoch]
    for one, other in zip(model.get_weights(), best, strict=True):
        np.testing.assert_array_equal(one, other)


def test_penalties_of_gamma_and_beta_are_in_the_loss() -> None:
    model = make_model(gamma_regularizer="l2", beta_regularizer=regularizers.L1(0.5))
    weights = model.get_weights()
    without = make_model()
    weights[1], weights[2] = np.full(8, 3.0), np.full(8, -2.0)
    model.set_weights(weights)
    without.set_weights(weights)
    difference = model.evaluate(X, Y, verbose=0)[0] - without.evaluate(X, Y, verbose=0)[0]
    assert difference == pytest.approx(0.01 * 8 * 9 + 0.5 * 8 * 2, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_as_the_first_layer(kind: Any) -> None:
    model = gpunn.Sequential([kind(input_shape=[4]), layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", device="cpu", seed=0)
    history = model.fit(X, Y, epochs=5, **FIT).history["loss"]
    assert history[-1] < history[0]


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_one_axis_is_refused(kind: Any) -> None:
    with pytest.raises(ShapeError, match=r"Layer 'norm'.*add a Flatten layer before it.*\(2, 3\)"):
        kind(name="norm")(gpunn.Input((2, 3)))
    with pytest.raises(ShapeError, match="takes one input, not 2"):
        kind()([gpunn.Input((2,)), gpunn.Input((2,))])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"axis": 0}, ArgumentError, r"axis must be -1 \(the last one\), not 0"),
        ({"axis": [1, 2]}, ArgumentError, "axis must be -1"),
        ({"epsilon": -1e-3}, ArgumentError, "epsilon must be a number at least 0, not -0.001"),
        ({"epsilon": "small"}, ArgumentTypeError, "epsilon must be a number at least 0"),
        ({"center": 1}, ArgumentTypeError, "center must be True or False, not 1"),
        ({"scale": None}, ArgumentTypeError, "scale must be True or False, not None"),
        ({"gamma_initializer": "onse"}, UnknownNameError, "Unknown initializer 'onse'"),
        ({"beta_regularizer": "l3"}, UnknownNameError, "regularizer 'l3'"),
    ],
)
def test_bad_arguments_are_named(
    kind: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        kind(**options)


@pytest.mark.parametrize("momentum", [-0.1, 1.5, float("nan")])
def test_momentum_is_between_0_and_1(momentum: float) -> None:
    with pytest.raises(ArgumentError, match="BatchNormalization: momentum must be a number"):
        layers.BatchNormalization(momentum=momentum)
