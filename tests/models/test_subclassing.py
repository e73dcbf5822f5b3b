"""Models with a call of their own: traced once, then like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunn
from gpunn import layers
from gpunn.errors import ArgumentError, ArgumentTypeError, NotBuiltError, ShapeError

RNG = np.random.default_rng(5)
WIDE = RNG.normal(size=(60, 5)).astype(np.float32)
DEEP = RNG.normal(3, 2, size=(60, 6)).astype(np.float32)
Y = (WIDE[:, :1] + DEEP[:, :1]).astype(np.float32)


class WideAndDeepModel(gpunn.Model):
    """The one of "Hands-On Machine Learning", chapter 10."""

    def __init__(self, units: int = 30, activation: str = "relu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.norm_layer_wide = layers.Normalization()
        self.norm_layer_deep = layers.Normalization()
        self.hidden1 = layers.Dense(units, activation=activation)
        self.hidden2 = layers.Dense(units, activation=activation)
        self.main_output = layers.Dense(1)
        self.aux_output = layers.Dense(1)

    def call(self, inputs: Any) -> Any:
        input_wide, input_deep = inputs
        norm_wide = self.norm_layer_wide(input_wide)
        norm_deep = self.norm_layer_deep(input_deep)
        hidden1 = self.hidden1(norm_deep)
        hidden2 = self.hidden2(hidden1)
        concat = layers.concatenate([norm_wide, hidden2])
        output = self.main_output(concat)
        aux_output = self.aux_output(hidden2)
        return output, aux_output


def functional(units: int) -> gpunn.Model:
    wide, deep = gpunn.Input((5,)), gpunn.Input((6,))
    norm_wide = layers.Normalization(name="norm_wide")
    norm_deep = layers.Normalization(name="norm_deep")
    norm_wide.adapt(WIDE)
    norm_deep.adapt(DEEP)
    hidden = layers.Dense(units, activation="relu", name="h1")(norm_deep(deep))
    hidden = layers.Dense(units, activation="relu", name="h2")(hidden)
    joined = layers.Concatenate()([norm_wide(wide), hidden])
    main, aux = layers.Dense(1, name="main")(joined), layers.Dense(1, name="aux")(hidden)
    return gpunn.Model([wide, deep], [main, aux])


def compiled(model: Any, **kwargs: Any) -> Any:
    model.compile(
        loss=["mse", "mse"],
        loss_weights=[0.9, 0.1],
        optimizer=gpunn.optimizers.Adam(learning_rate=1e-2),
        metrics=["RootMeanSquaredError"],
        device="reference",
        **kwargs,
    )
    return model


def test_book_program() -> None:
    model = compiled(WideAndDeepModel(30, activation="relu", name="my_cool_model"))
    model.norm_layer_wide.adapt(WIDE)
    model.norm_layer_deep.adapt(DEEP)
    history = model.fit(
        (WIDE, DEEP), (Y, Y), epochs=4, validation_data=((WIDE, DEEP), (Y, Y)), verbose=0
    )
    assert history.history["val_loss"][-1] < history.history["val_loss"][0]
    results = dict(zip(model.metrics_names, model.evaluate((WIDE, DEEP), (Y, Y)), strict=True))
    assert list(results) == [
        "loss",
        "dense_2_loss",
        "dense_3_loss",
        "dense_2_RootMeanSquaredError",
        "dense_3_RootMeanSquaredError",
    ]
    assert results["loss"] == pytest.approx(history.history["val_loss"][-1])
    main, aux = model.predict((WIDE[:3], DEEP[:3]))
    assert main.shape == aux.shape == (3, 1)
    assert model.name == "my_cool_model"
    assert WideAndDeepModel().name == "wide_and_deep_model"


def test_names_and_order_are_those_of_keras() -> None:
    """Layers as Keras 3.15 lists and numbers them: by attribute, whatever call does."""

    class Net(gpunn.Model):
        def __init__(self) -> None:
            super().__init__()
            self.last = layers.Dense(1)
            self.hidden: list[Any] = []
            for _ in range(2):
                self.hidden.append(layers.Dense(4, activation="relu"))
            self.heads = {"extra": layers.Dense(3)}

        def call(self, inputs: Any) -> Any:
            for layer in self.hidden:
                inputs = layer(inputs)
            return self.last(self.heads["extra"](inputs))

    net = Net()
    net.build((None, 7))
    assert [layer.name for layer in net.layers] == ["dense", "dense_1", "dense_2", "dense_3"]
    shapes = [(3, 1), (1,), (7, 4), (4,), (4, 4), (4,), (4, 3), (3,)]
    assert [w.shape for w in net.get_weights()] == shapes
    assert net.hidden[1] is net.layers[2] is net.get_layer("dense_2")
    assert isinstance(net.last, layers.Dense)
    assert net.last.output_shape == (None, 1)
    assert net.last.input_shape == (None, 3)
    net.last.set_weights([np.full((3, 1), 2.0), np.ones(1)])
    assert np.array_equal(net.layers[0].kernel, np.full((3, 1), 2, np.float32))


def test_equals_the_functional_model() -> None:
    subclassed, plain = compiled(WideAndDeepModel(8), seed=1), compiled(functional(8), seed=1)
    subclassed.norm_layer_wide.adapt(WIDE)
    subclassed.norm_layer_deep.adapt(DEEP)
    subclassed.build([(None, 5), (None, 6)])
    names = {
        "norm_wide": "norm_layer_wide",
        "norm_deep": "norm_layer_deep",
        "h1": "hidden1",
        "h2": "hidden2",
        "main": "main_output",
        "aux": "aux_output",
    }

    def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
        return [
            (a, b)
            for name, attribute in names.items()
            for a, b in zip(
                plain.get_layer(name).get_weights(),
                getattr(subclassed, attribute).get_weights(),
                strict=True,
            )
        ]

    for name, attribute in names.items():
        getattr(subclassed, attribute).set_weights(plain.get_layer(name).get_weights())
    x, y = (WIDE, DEEP), (Y, 2 * Y)
    for a, b in zip(plain.predict(x), subclassed.predict(x), strict=True):
        assert np.array_equal(a, b)
    before = plain.get_layer("h1").get_weights()[0]
    one = plain.fit(x, y, epochs=3, batch_size=16, verbose=0).history["loss"]
    other = subclassed.fit(x, y, epochs=3, batch_size=16, verbose=0).history["loss"]
    assert one == other
    assert len(pairs()) == 12
    for a, b in pairs():
        assert np.array_equal(a, b)
    assert not np.array_equal(before, plain.get_layer("h1").get_weights()[0])


def test_saved_as_the_graph_it_is(tmp_path: Path) -> None:
    model = compiled(WideAndDeepModel(4))
    model.norm_layer_wide.adapt(WIDE)
    model.norm_layer_deep.adapt(DEEP)
    model.fit((WIDE, DEEP), (Y, Y), verbose=0)
    loaded = gpunn.load_model(model.save(tmp_path / "model.keras"), device="reference")
    assert type(loaded) is gpunn.Model
    for a, b in zip(model.predict((WIDE, DEEP)), loaded.predict((WIDE, DEEP)), strict=True):
        assert np.array_equal(a, b)
    other = compiled(WideAndDeepModel(4))
    other.build([(None, 5), (None, 6)])
    other.load_weights(tmp_path / "model.keras")
    assert np.array_equal(other.predict((WIDE, DEEP))[0], model.predict((WIDE, DEEP))[0])


def test_get_config_of_its_own(tmp_path: Path) -> None:
    class Net(gpunn.Model):
        def __init__(self, units: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.units = units
            self.dense = layers.Dense(units)

        def call(self, inputs: Any) -> Any:
            return self.dense(inputs)

        def get_config(self) -> dict[str, Any]:
            return {"units": self.units, "name": self.name}

    net = Net(3, name="mine")
    again = Net.from_config(net.get_config())
    assert (type(again), again.units, again.name) == (Net, 3, "mine")
    net.build((None, 2))
    assert gpunn.load_model(net.save(tmp_path / "net.h5")).count_params() == 9


@pytest.mark.parametrize(
    "training", [False, True], ids=["call(inputs)", "call(inputs, training=None)"]
)
def test_dropout_of_itself_knows_training(training: bool) -> None:
    class Net(gpunn.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dropout, self.out = layers.Dropout(0.5), layers.Dense(1, use_bias=False)
            self.seen: list[Any] = []

    class WithTraining(Net):
        def call(self, inputs: Any, training: bool | None = None) -> Any:
            self.seen.append(training)
            return self.out(self.dropout(inputs, training=training))

    class Without(Net):
        def call(self, inputs: Any) -> Any:
            self.seen.append(None)
            return self.out(self.dropout(inputs))

    net = WithTraining() if training else Without()
    net.compile("sgd", "mse", device="reference", seed=3)
    x = np.ones((40, 6))
    net.build((None, 6))
    net.out.set_weights([np.ones((6, 1))])
    assert np.array_equal(net.predict(x), np.full((40, 1), 6))
    loss = net.train_on_batch(x, np.full((40, 1), 6))
    assert loss > 0.5  # units were dropped
    assert len(net.seen) == 1
    with pytest.raises(ArgumentTypeError, match="training=True is not supported"):
        net(x, training=True)


def test_inputs_as_a_dict_and_residual_sum() -> None:
    class Net(gpunn.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(5)

        def call(self, inputs: Any) -> Any:
            assert inputs["a"].shape == (5,)
            return self.dense(inputs["b"]) + inputs["a"]

    net = Net()
    net.compile("sgd", "mse", device="reference")
    result = net.predict({"a": WIDE, "b": DEEP})
    assert net.input_names == ["a", "b"]
    kernel, bias = net.dense.get_weights()
    np.testing.assert_allclose(result, DEEP @ kernel + bias + WIDE, rtol=1e-5, atol=1e-5)


def test_models_and_other_models_layers_as_attributes() -> None:
    trained = gpunn.Sequential([gpunn.Input((5,)), layers.Dense(3), layers.Dense(2)])

    class Net(gpunn.Model):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = gpunn.Sequential([layers.Dense(4), layers.Dense(5)])
            self.first = trained.layers[0]
            self.rest = gpunn.Sequential([trained.layers[1]])

        def call(self, inputs: Any) -> Any:
            return self.rest(self.first(self.encoder(inputs)))

    expected = trained.get_weights()
    net = Net()
    net.build((None, 6))
    assert [w.shape for w in net.get_weights()[:4]] == [(6, 4), (4,), (4, 5), (5,)]
    for a, b in zip(net.get_weights()[4:], expected, strict=True):
        assert np.array_equal(a, b)
    assert np.array_equal(net.first.get_weights()[0], expected[0])


# What cannot be traced

WHY = r"Net\.call is traced once, with symbolic inputs"


def untraceable(call: Callable[[Any, Any], Any]) -> gpunn.Model:
    class Net(gpunn.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(1)

        def call(self, inputs: Any) -> Any:
            return call(self, inputs)

    return Net()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net, x: net.dense(x) if x > 0 else x, rf"Comparing needs values.*{WHY}"),
        (lambda net, x: net.dense(x) if x == 0 else x, rf"'==' needs values.*{WHY}"),
        (lambda net, x: net.dense(x) if x else x, rf"'if'.* needs values.*{WHY}"),
        (lambda net, x: net.dense(np.tanh(x)), rf"A NumPy function.*only layers compute.*{WHY}"),
        (lambda net, x: np.concatenate([x, x]), rf"A NumPy function needs values.*{WHY}"),
        (lambda net, x: np.float32(2) * x, rf"A NumPy function needs values.*{WHY}"),
        (lambda net, x: np.asarray(x), rf"Conversion to a NumPy array needs values.*{WHY}"),
        (lambda net, x: net.dense(2 * x), rf"'\*' needs values.*{WHY}"),
        (lambda net, x: net.dense(x) + 1, rf"'\+' adds tensors, not a tensor and int.*{WHY}"),
        (lambda net, x: float(x), rf"float\(\) needs values.*{WHY}"),
        (lambda net, x: list(x), rf"Iterating over a tensor needs values.*{WHY}"),
        (lambda net, x: x[:, 0], rf"Indexing a tensor needs values.*{WHY}"),
        (lambda net, x: net.dense(x.numpy()), rf"a symbolic tensor has no 'numpy'.*{WHY}"),
        (lambda net, x: None, rf"must return what a layer returned.* not NoneType.*{WHY}"),
        (lambda net, x: {"y": 3.0}, rf".* or a tuple or dict of such, not float.*{WHY}"),
    ],
)
def test_values_in_call(call: Callable[[Any, Any], Any], message: str) -> None:
    net = untraceable(call)
    net.compile("sgd", "mse", device="reference")
    with pytest.raises(ArgumentTypeError, match=rf"Net\.call: {message}"):
        net.fit(WIDE, Y, verbose=0)
    assert not net.built


def test_other_mistakes() -> None:
    with pytest.raises(ArgumentError, match=r"Net\.call makes Layer Dense, which has weights"):
        untraceable(lambda net, x: layers.Dense(2)(x)).build((None, 3))
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'densse'"):
        untraceable(lambda net, x: net.densse(x)).build((None, 3))
    net = untraceable(lambda net, x: net.dense(x))
    with pytest.raises(NotBuiltError, match=r"Call fit, predict or build\(input_shape\) first"):
        net.get_weights()
    with pytest.raises(ShapeError, match=r"x\[:, np.newaxis\]"):
        net.predict(np.ones(4))
    with pytest.raises(ArgumentTypeError, match="input_shape must be a tuple"):
        net.build(3)
    with pytest.raises(ArgumentTypeError, match=r"T\.train_step: gpunn's training step is planned"):
        type("T", (gpunn.Model,), {"train_step": lambda self, data: None})

    class Early(gpunn.Model):
        def __init__(self) -> None:
            self.dense = layers.Dense(1)
            super().__init__()

        def call(self, inputs: Any) -> Any:
            return self.dense(inputs)

    with pytest.raises(NotBuiltError, match=r"call super\(\).__init__\(\*\*kwargs\) before"):
        Early()
    with pytest.raises(ArgumentError, match=r"Model needs inputs and outputs, or Empty a call"):
        type("Empty", (gpunn.Model,), {})()


def test_compile_that_does_not_fit_is_said_when_shapes_are_known() -> None:
    net = untraceable(lambda net, x: net.dense(x))
    net.compile("sgd", ["mse", "mse"], device="reference")
    for _ in range(2):  # and said again: nothing is half built
        with pytest.raises(ArgumentError, match="loss: expected 1 entries"):
            net.fit(WIDE, Y, verbose=0)
    net.compile("sgd", ["mse"], device="reference")
    net.optimizer.learning_rate = 0.5
    net.fit(WIDE, Y, verbose=0)
    assert net.optimizer.learning_rate == 0.5


def test_unused_layer_says_so() -> None:
    class Net(gpunn.Model):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = layers.Dense(1), layers.Dense(2, name="spare")

        def call(self, inputs: Any) -> Any:
            return self.used(inputs)

    net = Net()
    net.build((None, 2))
    with pytest.raises(NotBuiltError, match=r"'spare' .*is not used in model 'net'"):
        net.unused.get_weights()
