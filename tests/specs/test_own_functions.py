"""Functions of the user's in models: training on every device, files, and what is refused."""

from __future__ import annotations

import gc
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from op_runs import needs_compiler

import gpunn
from gpunn import Input, Sequential, callbacks, layers, losses, ops
from gpunn.errors import ArgumentError, ArgumentTypeError, CheckpointError, PlanError
from gpunn.models.saving import model_from_config

DEVICES = ["reference", "cpu", pytest.param("simulator", marks=needs_compiler)]
RNG = np.random.default_rng(4)
X = RNG.normal(size=(150, 5)).astype(np.float32)
Y = np.stack([X[:, 0] ** 2 + X[:, 1], np.abs(X[:, 2])], axis=1).astype(np.float32)


def my_softplus(z: Any) -> Any:
    return ops.log(1.0 + ops.exp(z))


def huber_fn(y_true: Any, y_pred: Any) -> Any:
    error = y_true - y_pred
    is_small_error = ops.abs(error) < 1
    return ops.where(is_small_error, ops.square(error) / 2, ops.abs(error) - 0.5)


def my_mse(y_true: Any, y_pred: Any) -> Any:
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


def make_model(
    loss: Any = huber_fn, activation: Any = my_softplus, device: str = "cpu", **kwargs: Any
) -> Sequential:
    model = Sequential(
        [
            Input((5,)),
            layers.Dense(9, activation=activation, name="first"),
            layers.Dropout(0.1),
            layers.Dense(6, activation="tanh"),
            layers.Lambda(lambda x: x + x**2 / 4),
            layers.Dense(2),
        ]
    )
    options = {"optimizer": "adam", "metrics": ["mae", huber_fn], "seed": 8} | kwargs
    model.compile(loss=loss, device=device, **options)
    return model


def test_every_device_trains_alike() -> None:
    histories, weights = [], []
    for device in ("reference", "cpu"):
        model = make_model(device=device)
        histories.append(model.fit(X, Y, epochs=3, batch_size=32, verbose=0).history)
        weights.append(model.get_weights())
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-5)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-5)
    assert histories[0]["loss"][-1] < histories[0]["loss"][0]
    assert set(histories[0]) == {"loss", "mae", "huber_fn"}


@needs_compiler
def test_the_kernels_train_alike() -> None:
    cpu, simulated = make_model(), make_model(device="simulator")
    histories = [m.fit(X, Y, epochs=2, batch_size=50, verbose=0).history for m in (cpu, simulated)]
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-5)
    np.testing.assert_allclose(simulated.predict(X), cpu.predict(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", ["reference", "cpu"])
@pytest.mark.parametrize(("own", "built_in"), [(huber_fn, "huber"), (my_mse, "mse")])
def test_own_losses_equal_the_built_in_ones_step_for_step(
    own: Any, built_in: str, device: str
) -> None:
    """With sample weights, in float64, from the same seed: to rounding."""
    weights = RNG.uniform(0.2, 2, 150)
    trainers = []
    for loss in (own, built_in):
        model = make_model(loss, device=device, precision="float64", metrics=None)
        trainers.append(gpunn.Trainer(model, X, Y, batch_size=40, sample_weight=weights))
    for _ in range(12):
        logs = [trainer.step() for trainer in trainers]
        np.testing.assert_allclose(logs[0]["loss"], logs[1]["loss"], rtol=1e-11)
    ours, theirs = (trainer.model.get_weights() for trainer in trainers)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


def test_an_own_activation_equals_the_built_in_one() -> None:
    histories = [
        make_model(activation=activation, precision="float64")
        .fit(X, Y, epochs=3, verbose=0)
        .history["loss"]
        for activation in (my_softplus, "softplus")
    ]
    np.testing.assert_allclose(*histories, rtol=1e-11)


def test_evaluation_takes_the_mean_of_the_function() -> None:
    model = make_model(metrics=[huber_fn])
    loss, metric = model.evaluate(X, Y, batch_size=37)
    expected = huber_fn(Y, model.predict(X)).mean()
    np.testing.assert_allclose([loss, metric], expected, rtol=1e-6)


# Files


def test_a_model_is_loaded_without_its_functions(tmp_path: Path) -> None:
    def gone(z: Any) -> Any:
        return ops.where(z > 0, z, 0.3 * ops.expm1(z))

    loss = losses.from_function(
        huber_fn, derivative=lambda t, p: ops.clip(p - t, -1, 1), name="my_huber"
    )
    model = make_model(loss, gone)
    model.fit(X, Y, epochs=2, verbose=0)
    model.save(tmp_path / "model.h5")
    expected, config = model.predict(X), json.loads(json.dumps(model.get_config()))
    scores = model.evaluate(X, Y)
    del model, gone, loss
    loaded = gpunn.load_model(tmp_path / "model.h5", device="cpu")
    np.testing.assert_array_equal(loaded.predict(X), expected)
    assert loaded.evaluate(X, Y) == scores
    assert loaded.get_config() == config
    assert loaded.get_layer("first").activation.name == "gone"
    loss = loaded.compiled.outputs[0].loss
    assert (loss.name, loss.given_derivative is None) == ("my_huber", False)
    loaded.fit(X, Y, epochs=1, verbose=0)


def test_a_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole = make_model()
    whole.fit(X, Y, epochs=4, verbose=0)
    save = callbacks.Checkpoints(tmp_path)
    make_model().fit(X, Y, epochs=2, verbose=0, callbacks=[save])
    resumed = make_model()
    resumed.fit(X, Y, epochs=4, verbose=0, resume=tmp_path)
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    changed = make_model(lambda t, p: 2 * huber_fn(t, p))
    with pytest.raises(CheckpointError, match="other loss or metrics"):
        changed.fit(X, Y, epochs=4, verbose=0, resume=tmp_path)


@pytest.mark.parametrize(
    "code",
    [
        [["argument", 0], ["__import__", 0]],
        [["argument", 1]],
        [["argument", 0], ["exp", 5]],
        "z",
        None,
        {"exp": 0},
    ],
)
def test_a_changed_expression_in_a_file_is_refused(code: Any) -> None:
    config = make_model().get_config()
    activation = config["nodes"][1]["layer"]["config"]["activation"]["config"]
    assert activation["name"] == "my_softplus"
    model_from_config(config)
    activation["expression"]["config"]["code"] = code
    with pytest.raises(ArgumentError):
        model_from_config(config)


# What a step costs


@pytest.mark.parametrize("rows", [40, 2000])
def test_a_step_allocates_nothing(rows: int) -> None:
    x, y = np.tile(X, (rows // 10, 1)), np.tile(Y, (rows // 10, 1))
    trainer = gpunn.Trainer(make_model(), x, y, batch_size=rows)
    trainer.step()
    calls = trainer.bound.calls("train")

    def peak(steps: int) -> int:
        trainer.bound.write("control/offset", 0)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(steps):
            for call in calls:
                call()
        return tracemalloc.get_traced_memory()[1] - before

    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(4):
            peak(8)
        grown = peak(8)
    finally:
        tracemalloc.stop()
        gc.enable()
    # Numbers and contexts that come and go, but no block of values and no truth value of each.
    assert grown < 40 * 9 * 4


def test_the_plan_names_the_functions_and_counts_their_operations() -> None:
    plan = make_model().plan(batch_size=10)
    text = plan.describe()
    for label in ("expression (my_softplus)", "expression_loss (huber_fn)", "expression (lambda)"):
        assert label in text
    by_name = {
        step.attrs["function"]: plan.step_cost(step)[0]
        for step in plan.programs["train"]
        if step.op == "expression"
    }
    assert by_name == {"my_softplus": 1 * 10 * 9, "lambda": 3 * 10 * 6}


# What is refused, and names


def test_layers_that_cannot_be_trained_through() -> None:
    with pytest.raises(PlanError, match="'first' uses 'floor', which has no useful gradient"):
        make_model(activation=ops.floor)
    model = Sequential([Input((5,)), layers.Dense(2, activation=ops.floor)])
    model.compile("sgd", None, device="cpu", seed=1)
    assert set(np.unique(model.predict(X) % 1)) == {0}


def test_own_losses_do_not_take_class_numbers() -> None:
    with pytest.raises(ArgumentError, match="y: expected shape"):
        make_model().fit(X, np.zeros(150, np.int64), verbose=0)
    classifier = Sequential([Input((5,)), layers.Dense(3, activation="softmax")])
    with pytest.raises(PlanError, match=r"'huber_fn'.*does not work on class numbers"):
        classifier.compile("sgd", "sparse_categorical_crossentropy", [huber_fn], device="cpu")


def test_two_lambdas_need_names() -> None:
    two = [lambda t, p: abs(t - p), lambda t, p: (t - p) ** 3]
    with pytest.raises(ArgumentError, match="two figures named 'lambda'; give one another name"):
        make_model(metrics=two)
    named = [gpunn.metrics.from_function(f, name=n) for f, n in zip(two, "ab", strict=True)]
    assert set(make_model(metrics=named).fit(X, Y, verbose=0).history) == {"loss", "a", "b"}


@pytest.mark.parametrize("function", ["relu", None])
def test_lambda_takes_functions(function: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="must be a function of one value"):
        layers.Lambda(function)


def test_a_function_named_like_a_built_in_one_is_still_the_users() -> None:
    def softmax(z: Any) -> Any:
        return ops.sigmoid(3 * z)

    model = Sequential([Input((5,)), layers.Dense(2, activation=softmax)])
    model.compile("sgd", "mse", device="cpu", seed=1)
    kernel, bias = model.get_weights()
    expected = 1 / (1 + np.exp(-3 * (X @ kernel + bias)))
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-5)
    model.fit(X, Y, verbose=0)
    logits = Sequential([Input((5,)), layers.Dense(2, activation=softmax)])
    with pytest.raises(PlanError, match="does not end with softmax"):
        logits.compile("sgd", "categorical_crossentropy", device="cpu")


def test_own_activations_are_drawn_with_their_derivatives() -> None:
    display = gpunn.plots.ActivationDisplay.from_names([my_softplus, "relu", ops.floor])
    assert display.names == ["my_softplus", "relu", "floor"]
    np.testing.assert_allclose(display.values[0], np.log1p(np.exp(display.z)), rtol=1e-12)
    np.testing.assert_allclose(display.derivatives[0], 1 / (1 + np.exp(-display.z)), rtol=1e-12)
    with pytest.warns(RuntimeWarning, match="is -inf in float32"):
        logarithm = gpunn.activations.from_function(lambda z: ops.log(z))
    low, high = gpunn.plots.ActivationDisplay.from_names(logarithm).ax_[0].get_ylim()
    assert -3 < low < high < 3
