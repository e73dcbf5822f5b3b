"""What a user of Keras relies on: names, shapes, orders and return values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_models import (
    LABELS,
    RNG,
    SETTINGS,
    TARGETS,
    X,
    assert_equal,
    classifier,
    differ,
    wide_and_deep,
)

import gpunn
from gpunn import layers

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
