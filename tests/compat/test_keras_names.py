"""Keras's ways to write what gpunn has: functions of arrays, seeds, dicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunn
from gpunn.errors import ArgumentError, ShapeError

KERAS = dict(
    np.load(Path(__file__).parents[1] / "recordings" / "keras_recordings.npz", allow_pickle=False)
)
# Cross entropies of probabilities are recorded too: as functions of arrays gpunn has them.
LOSSES = sorted({key.split("/")[1] for key in KERAS if key.startswith("loss/")})


def net(*, name: str = "output") -> Any:
    inputs = gpunn.Input((3,), name="features")
    hidden = gpunn.layers.Dense(4, "tanh", name="hidden")(inputs)
    outputs = {
        name: gpunn.layers.Dense(1, name="output")(hidden),
        "more": gpunn.layers.Dense(2, name="more")(hidden),
    }
    return gpunn.Model({"features": inputs}, outputs)


# Losses and metrics as functions


@pytest.mark.parametrize("case", LOSSES)
def test_loss_of_arrays_is_keras_loss(case: str) -> None:
    stored = {k.split("/")[2]: v for k, v in KERAS.items() if k.startswith(f"loss/{case}/")}
    config = json.loads(str(stored["config"]))
    loss = getattr(gpunn.losses, config["class"])(**config["args"])
    value = loss(stored["targets"], stored["predictions"], stored.get("sample_weight"))
    # float64 all through; Keras's own sums differ in order.
    assert value == pytest.approx(stored["value"], rel=1e-12)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (gpunn.losses.mean_squared_error, "MeanSquaredError"),
        (gpunn.losses.mean_absolute_error, "MeanAbsoluteError"),
        (gpunn.losses.huber, "Huber"),
        (gpunn.losses.binary_crossentropy, "BinaryCrossentropy"),
        (gpunn.losses.categorical_crossentropy, "CategoricalCrossentropy"),
        (gpunn.losses.sparse_categorical_crossentropy, "SparseCategoricalCrossentropy"),
    ],
)
def test_a_function_stands_for_its_loss(function: Any, name: str) -> None:
    assert gpunn.losses.get(function) == getattr(gpunn.losses, name)()


def test_functions_give_a_value_per_sample() -> None:
    y_true, y_pred = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.2, 0.8], [0.6, 0.4]])
    np.testing.assert_allclose(gpunn.losses.mean_squared_error(y_true, y_pred), [0.04, 0.16])
    np.testing.assert_allclose(gpunn.metrics.binary_accuracy(y_true, y_pred), [1.0, 1.0])
    np.testing.assert_allclose(
        gpunn.losses.categorical_crossentropy(y_true, y_pred), -np.log([0.8, 0.6])
    )
    np.testing.assert_allclose(
        gpunn.losses.sparse_categorical_crossentropy([1, 0], y_pred), -np.log([0.8, 0.6])
    )
    np.testing.assert_array_equal(
        gpunn.metrics.sparse_categorical_accuracy([[1], [1]], y_pred), [1.0, 0.0]
    )
    np.testing.assert_array_equal(gpunn.metrics.categorical_accuracy(y_true, y_pred), [1.0, 1.0])
    smoothed = gpunn.losses.sparse_categorical_crossentropy([1, 0], y_pred, label_smoothing=0.1)
    np.testing.assert_allclose(
        smoothed,
        gpunn.losses.categorical_crossentropy(y_true, y_pred, label_smoothing=0.1),
    )
    with pytest.raises(ShapeError, match=r"one shape, not \(2, 2\) and \(2, 3\)"):
        gpunn.losses.mean_squared_error(y_true, np.zeros((2, 3)))
    with pytest.raises(ShapeError, match=r"class numbers of shape \(2,\), got \(2, 2\)"):
        gpunn.losses.sparse_categorical_crossentropy(y_true, y_pred)


def test_reduction_is_the_mean() -> None:
    assert gpunn.losses.MeanSquaredError(name="q", reduction="sum_over_batch_size").name == "q"
    with pytest.raises(ArgumentError, match=r"Huber: reduction must be .* not 'sum'"):
        gpunn.losses.Huber(2.0, reduction="sum")


# Initializers


@pytest.mark.parametrize(
    "make",
    [
        gpunn.initializers.HeNormal,
        gpunn.initializers.glorot_uniform,
        gpunn.initializers.RandomNormal,
        gpunn.initializers.RandomUniform,
        gpunn.initializers.TruncatedNormal,
        gpunn.initializers.VarianceScaling,
    ],
)
def test_an_initializer_with_a_seed_draws_the_same_every_time(make: Any) -> None:
    def kernel(initializer: Any, seed: int) -> Any:
        hidden, output = (gpunn.layers.Dense(7, kernel_initializer=initializer) for _ in range(2))
        model = gpunn.Sequential([gpunn.Input((7,)), hidden, output])
        model.compile("sgd", "mse", device="reference", seed=seed)
        first, _, second, _ = model.get_weights()
        assert (first == second).all() == (initializer.seed is not None)
        return first

    np.testing.assert_array_equal(kernel(make(seed=3), 1), kernel(make(seed=3), 2))
    assert (kernel(make(seed=3), 1) != kernel(make(seed=4), 1)).all()
    assert (kernel(make(), 1) != kernel(make(), 2)).all()
    with pytest.raises(ArgumentError, match="seed must be at least 0"):
        make(seed=-1)


# Models


def test_dicts_of_inputs_and_outputs(tmp_path: Path) -> None:
    model = net()
    model.compile("sgd", {"output": "mse", "more": "mae"}, device="reference", seed=1)
    x = np.random.default_rng(0).standard_normal((6, 3))
    model.fit({"features": x}, {"more": np.ones((6, 2)), "output": np.zeros(6)}, verbose=0)
    predicted = model.predict({"features": x})
    assert {name: values.shape for name, values in predicted.items()} == {
        "output": (6, 1),
        "more": (6, 2),
    }
    loaded = gpunn.load_model(model.save(tmp_path / "model.keras"))
    again = loaded.predict({"features": x})
    assert again.keys() == predicted.keys()
    for name, values in predicted.items():
        np.testing.assert_array_equal(values, again[name])


def test_keys_of_a_dict_are_the_layers_names() -> None:
    with pytest.raises(ArgumentError, match="outputs: 'price' must be the name of its layer"):
        net(name="price")


def test_an_optimizer_may_have_a_name() -> None:
    model = gpunn.Sequential([gpunn.Input((3,)), gpunn.layers.Dense(1)])
    model.compile(gpunn.optimizers.SGD(learning_rate=0.1, name="descent"), "mse")
    assert model.optimizer.name == "descent"
