"""Models made of other models' layers; order and identity of layers; copies and files."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunn
from gpunn import layers
from gpunn.errors import ArgumentError, ArgumentTypeError, CheckpointError, ShapeError

X = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
Y = X[:, :1] * 2


def trained(**kwargs: Any) -> gpunn.Sequential:
    model = gpunn.Sequential(
        [
            layers.InputLayer(input_shape=[3]),
            layers.Dense(5, activation="relu"),
            layers.Dense(4, activation="relu"),
            layers.Dense(1),
        ],
        **kwargs,
    )
    model.compile("sgd", "mse", device="reference", seed=3)
    model.fit(X, Y, verbose=0)
    return model


def equal(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


# Order and identity


def wide_and_deep() -> gpunn.Model:
    wide, deep = gpunn.Input((5,), name="wide"), gpunn.Input((6,), name="deep")
    h1 = layers.Dense(3, name="h1")(deep)
    h2 = layers.Dense(3, name="h2")(h1)
    joined = layers.Concatenate(name="c")([wide, h2])
    return gpunn.Model(
        [wide, deep], [layers.Dense(1, name="main")(joined), layers.Dense(1, name="aux")(h2)]
    )


def residual() -> gpunn.Model:
    i = gpunn.Input((4,), name="i")
    p = layers.Dense(3, name="p")(i)
    q = layers.Dense(3, name="q2")(layers.Dense(3, name="q1")(i))
    return gpunn.Model(i, layers.Dense(1, name="o")(layers.Add(name="s")([p, q])))


def two_heads(swapped: bool) -> gpunn.Model:
    i = gpunn.Input((4,), name="i")
    t = layers.Dense(4, name="t")(i)
    u = layers.Dense(2, name="u")(t)
    v = layers.Dense(2, name="v2")(layers.Dense(3, name="v1")(t))
    return gpunn.Model(i, [v, u] if swapped else [u, v])


def shared() -> gpunn.Model:
    a, b = gpunn.Input((4,), name="a"), gpunn.Input((4,), name="b")
    dense = layers.Dense(3, name="sh")
    first, second = dense(a), dense(layers.Dense(4, name="pre")(b))
    joined = layers.Concatenate(name="z")([first, second])
    return gpunn.Model([a, b], layers.Dense(1, name="o")(joined))


def three_branches() -> gpunn.Model:
    a = gpunn.Input((2,), name="a")
    x = [layers.Dense(2, name=f"b{k}")(a) for k in range(3)]
    x[1] = layers.Dense(2, name="b1x")(x[1])
    return gpunn.Model(a, layers.Dense(1, name="o")(layers.Concatenate(name="z")(x[::-1])))


@pytest.mark.parametrize(
    ("model", "keras"),
    [
        (wide_and_deep(), ["deep", "h1", "wide", "h2", "c", "main", "aux"]),
        (residual(), ["i", "q1", "p", "q2", "s", "o"]),
        (two_heads(False), ["i", "t", "v1", "u", "v2"]),
        (two_heads(True), ["i", "t", "v1", "v2", "u"]),
        (shared(), ["b", "a", "pre", "sh", "z", "o"]),
        (three_branches(), ["a", "b1", "b2", "b1x", "b0", "z", "o"]),
    ],
    ids=["wide_and_deep", "residual", "two_heads", "two_heads_swapped", "shared", "three"],
)
def test_order_is_that_of_keras(model: gpunn.Model, keras: list[str], tmp_path: Path) -> None:
    """Names recorded from Keras 3.15; weights are in the order of the layers."""
    assert [layer.name for layer in model.layers] == keras
    assert list(dict.fromkeys(v.layer for v in model.graph.variables)) == [
        name for name in keras if model.get_layer(name).count_params()
    ]
    loaded = gpunn.load_model(model.save(tmp_path / "model.h5"))
    assert [layer.name for layer in loaded.layers] == keras
    assert equal(model.get_weights(), loaded.get_weights())
    assert loaded.input_names == model.input_names
    assert loaded.output_names == model.output_names


def test_files_of_another_order_are_read_by_name() -> None:
    model = wide_and_deep()
    config = model.get_config()
    # As the order was once: inputs first.
    order = [2, 0, 1, 3, 4, 5, 6]
    place = {old: new for new, old in enumerate(order)}
    nodes = [config["nodes"][old] for old in order]
    old = config | {
        "nodes": [node | {"inputs": [place[i] for i in node["inputs"]]} for node in nodes],
        "inputs": [place[i] for i in config["inputs"]],
        "outputs": [place[i] for i in config["outputs"]],
    }
    assert [node["layer"]["config"]["name"] for node in old["nodes"]][:2] == ["wide", "deep"]
    assert gpunn.Model.from_config(old).get_config() == config


def test_unnamed_layers_are_numbered_as_they_were_made() -> None:
    second_made_first = layers.Dense(2)
    model = gpunn.Sequential([gpunn.Input((3,)), layers.Dense(4), second_made_first])
    assert [layer.name for layer in model.layers] == ["dense_1", "dense"]
    assert [layer.units for layer in model.layers] == [4, 2]


def test_layers_are_the_same_objects_each_time() -> None:
    model = trained()
    hidden = model.layers[1]
    assert hidden is model.layers[1] is model.get_layer(hidden.name) is model.get_layer(index=1)
    assert (hidden.name, hidden.units, hidden.activation.name) == ("dense_1", 4, "relu")
    assert (hidden.input_shape, hidden.output_shape) == ((None, 5), (None, 4))
    assert hidden.kernel.shape == (5, 4)
    assert hidden.bias.shape == (4,)
    assert isinstance(hidden, layers.Dense)
    assert not isinstance(hidden, layers.Dropout)
    with pytest.raises(ArgumentError, match="units cannot be set"):
        hidden.units = 7
    with pytest.raises(ArgumentError, match=r"kernel cannot be set.*set_weights"):
        hidden.kernel = np.ones((5, 4))
    plain = gpunn.models.clone_model(model)
    twin = copy.deepcopy(plain.layers[1])
    plain.layers[1].set_weights(hidden.get_weights())
    assert not np.array_equal(twin.kernel, hidden.kernel)
    assert np.array_equal(copy.deepcopy(plain.layers[1]).kernel, hidden.kernel)


# Layers and models of other models


def test_stack_of_trained_layers_shares_their_weights() -> None:
    model_a = trained()
    model_b = gpunn.Sequential(model_a.layers[:-1])
    model_b.add(layers.Dense(1, activation="sigmoid"))
    assert equal(model_b.get_weights()[:4], model_a.get_weights()[:4])
    assert not equal(model_b.get_weights()[4:], model_a.get_weights()[4:])
    assert [layer.name for layer in model_b.layers] == ["dense", "dense_1", "dense_2"]
    before = model_a.get_weights()
    model_b.compile("sgd", "binary_crossentropy", device="reference")
    model_b.fit(X, Y > 0, epochs=2, verbose=0)
    assert not equal(model_b.get_weights()[:4], before[:4])
    assert equal(model_a.get_weights()[:4], model_b.get_weights()[:4])  # they share the layers
    assert equal(model_a.get_weights()[4:], before[4:])


def test_model_as_a_layer() -> None:
    inner = trained(name="inner")
    inputs = gpunn.Input((3,))
    wired = gpunn.Model(inputs, layers.Dense(2)(layers.Concatenate()([inputs, inner(inputs)])))
    assert equal(wired.get_weights()[:6], inner.get_weights())
    wired.get_layer("dense_3").set_weights([np.eye(4, 2), np.zeros(2)])
    assert np.array_equal(wired.predict(X), X[:, :2])
    stack = gpunn.Sequential([inner, layers.Dense(2)])
    assert stack.input_shape == (None, 3)
    stack.layers[-1].set_weights([np.ones((1, 2)), np.zeros(2)])
    np.testing.assert_allclose(stack(X), np.repeat(inner(X), 2, axis=1), rtol=1e-6)
    # A shared model is a shared set of layers.
    other = gpunn.Input((3,))
    twice = gpunn.Model([inputs, other], layers.Add()([inner(inputs), inner(other)]))
    assert twice.count_params() == inner.count_params()
    np.testing.assert_allclose(twice.predict([X, X]), 2 * inner.predict(X), rtol=1e-5)


def test_models_that_are_built_by_the_model_they_are_in() -> None:
    encoder = gpunn.Sequential([layers.Dense(2, activation="relu")])
    decoder = gpunn.Sequential([layers.Dense(3)])
    model = gpunn.Sequential([encoder, decoder])
    model.compile("sgd", "mse", device="reference", seed=1)
    model.fit(X, X, verbose=0)
    assert [layer.units for layer in model.layers] == [2, 3]
    assert model.predict(X).shape == X.shape
    assert not encoder.built


def test_names_of_other_models_layers_give_way() -> None:
    halves = [
        gpunn.Sequential([gpunn.Input((3,)), layers.Dense(3, name="h"), layers.Dense(3)])
        for _ in range(2)
    ]
    model = gpunn.Sequential([*halves, layers.Dense(1, name="h_1")])
    assert [layer.name for layer in model.layers] == ["h", "dense", "h_2", "dense_1", "h_1"]
    with pytest.raises(ArgumentError, match="Two layers are named 'h'"):
        gpunn.Sequential([gpunn.Input((3,)), layers.Dense(1, name="h"), layers.Dense(1, name="h")])


def test_model_of_what_a_layer_puts_out() -> None:
    model = trained()
    features = gpunn.Model(inputs=model.inputs, outputs=model.layers[1].output)
    assert equal(features.get_weights(), model.get_weights()[:4])
    relu = np.maximum(X @ model.layers[0].kernel + model.layers[0].bias, 0)
    relu = np.maximum(relu @ model.layers[1].kernel + model.layers[1].bias, 0)
    np.testing.assert_allclose(features.predict(X), relu, rtol=1e-5, atol=1e-6)
    assert model.input.shape == (3,)
    assert model.output_shape == (None, 1)
    assert [len(t) for t in (wide_and_deep().output, wide_and_deep().input_shape)] == [2, 2]


def test_normalization_goes_along_with_what_it_has_learned() -> None:
    normalization = layers.Normalization()
    model = gpunn.Sequential([gpunn.Input((3,)), normalization, layers.Dense(1)])
    normalization.adapt(X)
    other = gpunn.Sequential(model.layers[:1])
    np.testing.assert_allclose(other.predict(X).std(axis=0), np.ones(3), rtol=1e-5)
    fresh = gpunn.Sequential([gpunn.Input((3,)), layers.Normalization(), layers.Dense(1)])
    fresh.get_weights()
    with pytest.raises(gpunn.errors.NotBuiltError, match="has no statistics"):
        gpunn.Sequential(fresh.layers).predict(X)


def test_saved_with_models_inside(tmp_path: Path) -> None:
    inputs = gpunn.Input((3,))
    branched = gpunn.Model(inputs, layers.Concatenate()([inputs, layers.Dense(2)(inputs)]))
    model = gpunn.Sequential([gpunn.Input((3,)), branched, layers.Dense(1)])
    loaded = gpunn.load_model(model.save(tmp_path / "model.keras"))
    assert np.array_equal(loaded.predict(X), model.predict(X))


def test_mistakes_in_nesting() -> None:
    model = trained()
    with pytest.raises(ShapeError, match=r"its input 'input_layer' has shape \(3,\).*\(4,\)"):
        model(gpunn.Input((4,)))
    with pytest.raises(ArgumentError, match="model 'sequential' is in the list twice"):
        gpunn.Sequential([model, model])
    with pytest.raises(ArgumentError, match=r"'model' has several outputs; use gpunn.Model"):
        gpunn.Sequential([two_heads(False), layers.Dense(1)])
    with pytest.raises(ArgumentTypeError, match=r"is called on 2 symbolic tensor\(s\)"):
        wide_and_deep()(gpunn.Input((5,)))
    with pytest.raises(ArgumentTypeError, match="layers must be a list"):
        gpunn.Sequential(model)


# Copies and files


@pytest.mark.parametrize("make", [trained, wide_and_deep, shared])
def test_clone_model(make: Any) -> None:
    model = make()
    clone = gpunn.models.clone_model(model)
    assert type(clone) is type(model)
    assert [layer.name for layer in clone.layers] == [layer.name for layer in model.layers]
    assert [w.shape for w in clone.get_weights()] == [w.shape for w in model.get_weights()]
    assert not np.array_equal(clone.get_weights()[0], model.get_weights()[0])
    clone.set_weights(model.get_weights())
    x = [np.ones((2, *shape[1:])) for shape in np.atleast_2d(np.asarray(model.input_shape, object))]
    assert np.array_equal(np.asarray(clone.predict(x)), np.asarray(model.predict(x)))
    with pytest.raises(ArgumentTypeError, match="clone_model: expected a model, got int"):
        gpunn.models.clone_model(3)


def test_json_and_back() -> None:
    model = wide_and_deep()
    text = model.to_json(indent=2)
    assert set(json.loads(text)) == {"class_name", "name", "nodes", "inputs", "outputs"}
    again = gpunn.models.model_from_json(text)
    assert again.to_json(indent=2) == text
    assert again.count_params() == model.count_params()
    for wrong in ("{}", "[]", "no json"):
        with pytest.raises(ArgumentError):
            gpunn.models.model_from_json(wrong)


@pytest.mark.parametrize(
    "name", ["model.keras", "model.h5", "model.weights.h5", "my_model", "my_weights.ckpt", "a/b/"]
)
def test_any_name_of_a_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = trained()
    model.save_weights(name)
    other = gpunn.models.clone_model(model)
    other.load_weights(name)
    assert equal(other.get_weights(), model.get_weights())
    model.save(name, save_format="tf")
    loaded = gpunn.models.load_model(name, device="reference")
    assert np.array_equal(loaded.predict(X), model.predict(X))
    with pytest.raises(ArgumentError, match="exists; pass overwrite=True"):
        model.save(name, overwrite=False)
    with pytest.raises(ArgumentError, match="exists; pass overwrite=True"):
        model.save_weights(name, False)
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="it is a directory"):
        model.save("folder")
    with pytest.raises(gpunn.errors.UnknownNameError, match="Unknown save_format 'onnx'"):
        model.save(name, save_format="onnx")
