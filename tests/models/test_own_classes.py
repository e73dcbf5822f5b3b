"""What users of Keras write themselves: what gpunn takes, and what it refuses by name."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunn
from gpunn import Input, Model, Sequential, constraints, initializers, layers, regularizers
from gpunn.errors import ArgumentError, ArgumentTypeError, GpunnError, NotBuiltError

Dense = layers.Dense
X = np.random.default_rng(0).normal(0.0, 1.0, (40, 4)).astype(np.float32)
Y = X[:, :1] - 2 * X[:, 1:2]


class OwnModel(Model):
    """Wires what its `wire` says."""

    def __init__(self, wire: Callable[[OwnModel, Any], Any]) -> None:
        super().__init__()
        self.wire = wire
        self.dense = Dense(1)

    def call(self, inputs: Any) -> Any:
        return self.wire(self, inputs)


def fit(model: Model, x: Any = X, y: Any = Y) -> Model:
    model.compile("sgd", "mse", device="reference", seed=1)
    model.fit(x, y, verbose=0)
    return model


def small() -> Sequential:
    return Sequential([Input((4,)), Dense(3, name="hidden"), Dense(1)])


class OwnLoss(gpunn.losses.Loss):
    pass


class OwnMetric(gpunn.metrics.Metric):
    pass


class OwnOptimizer(gpunn.optimizers.Optimizer):
    pass


def fit_with(**settings: Any) -> None:
    model = small()
    model.compile(**({"optimizer": "sgd", "loss": "mse", "device": "reference"} | settings))
    model.fit(X, Y, verbose=0)


def own_layer() -> None:
    class AlwaysDropout(layers.Dropout):  # its call would never run
        def call(self, inputs: Any) -> Any:
            return inputs


def own_initializer_class() -> None:
    class Own(initializers.Initializer):
        def __call__(self, shape: Any, dtype: Any = None) -> Any:  # type: ignore[override]
            return np.ones(shape)

    Dense(3, kernel_initializer=Own())


def own_constraint_class() -> None:
    class Own(constraints.Constraint):
        def __call__(self, weights: Any) -> Any:
            return weights

    Dense(3, kernel_constraint=Own())


def own_regularizer_class() -> None:
    class Own(regularizers.Regularizer):
        def __call__(self, weights: Any) -> Any:
            return 0

    Dense(3, kernel_regularizer=Own())


def super_forgotten() -> None:
    class Forgets(Model):
        def __init__(self) -> None:
            self.units = 3

        def call(self, inputs: Any) -> Any:
            return inputs

    fit(Forgets())


def name_taken() -> None:
    class Taken(Model):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [Dense(3), Dense(1)]  # type: ignore[misc]

        def call(self, inputs: Any) -> Any:
            return inputs

    Taken()


def call_with_two_arguments() -> None:
    class Two(Model):
        def call(self, inputs: Any, mask: Any) -> Any:
            return inputs

    fit(Two())


def model_in_itself() -> None:
    model = small()
    model.add(model)


def call_that_asks_for_training() -> None:
    class Asks(Model):
        def __init__(self) -> None:
            super().__init__()
            self.dropout, self.out = layers.Dropout(0.5), Dense(1)

        def call(self, inputs: Any, training: Any = None) -> Any:
            if training:  # with None there would never be dropout
                inputs = self.dropout(inputs)
            return self.out(inputs)

    fit(Asks())


def freeze(thing: Any, value: Any) -> None:
    thing.trainable = value


def no_such_schedule() -> None:
    scheduler = gpunn.callbacks.LearningRateScheduler(lambda: 0.1)
    model = small()
    model.compile("sgd", "mse", device="reference")
    model.fit(X, Y, callbacks=[scheduler], verbose=0)


Case = tuple[Callable[[], Any], type[GpunnError], str]
TRAINABLE = "trainable must be True or False, not "
CASES: dict[str, Case] = {
    "layer": (own_layer, ArgumentTypeError, "AlwaysDropout: user-defined layers are not supported"),
    "initializer, class": (
        own_initializer_class,
        ArgumentTypeError,
        "such as Own, are not supported; pass weights",
    ),
    "initializer, function": (
        lambda: Dense(3, kernel_initializer=lambda shape, dtype=None: np.ones(shape)),
        ArgumentTypeError,
        "User-defined initializers, such as <lambda>, are not supported",
    ),
    "constraint, class": (own_constraint_class, ArgumentTypeError, "User-defined constraints"),
    "constraint, function": (
        lambda: Dense(3, kernel_constraint=lambda weights: weights),
        ArgumentTypeError,
        "use one of gpunn.constraints",
    ),
    "regularizer, class": (own_regularizer_class, ArgumentTypeError, "User-defined regularizers"),
    "regularizer, function": (
        lambda: Dense(3, kernel_regularizer=lambda weights: weights),
        ArgumentTypeError,
        "use L1, L2 or L1L2",
    ),
    "activation, class of layer": (
        lambda: Dense(3, activation=layers.ReLU),
        ArgumentTypeError,
        "add ReLU after this layer",
    ),
    "activation, layer with weights": (
        lambda: Dense(3, activation=layers.PReLU()),
        ArgumentTypeError,
        "add PReLU after this layer",
    ),
    "super forgotten": (super_forgotten, NotBuiltError, "Forgets.__init__: call super()"),
    "name taken": (name_taken, ArgumentError, "Taken.layers cannot be set: all models have it"),
    "call, arguments": (call_with_two_arguments, ArgumentTypeError, "Two.call must take (self, in"),
    "call, if training": (call_that_asks_for_training, ArgumentTypeError, "Call Dropout and Batch"),
    "Dropout, training=True": (
        lambda: layers.Dropout(0.5)(Input((4,)), training=True),
        ArgumentTypeError,
        "training=True is not supported in a call",
    ),
    "BatchNormalization, training=False": (
        lambda: small().layers[0](Input((4,)), training=False),
        ArgumentTypeError,
        "training=False is not supported in a call",
    ),
    "loss without call": (
        lambda: fit_with(loss=OwnLoss()),
        ArgumentTypeError,
        "OwnLoss: a user-defined loss needs",
    ),
    "metric, class": (
        lambda: fit_with(metrics=[OwnMetric()]),
        ArgumentTypeError,
        "OwnMetric: a user-defined metric is a function",
    ),
    "metric, class with a state": (
        lambda: OwnMetric().add_weight(name="total"),
        ArgumentError,
        "OwnMetric keeps state (update_state)",
    ),
    "optimizer, class": (
        lambda: fit_with(optimizer=OwnOptimizer()),
        ArgumentTypeError,
        "OwnOptimizer: user-defined optimizers are not",
    ),
    "model in itself": (model_in_itself, ArgumentError, "cannot be a layer of itself"),
    "trainable, keyword": (
        lambda: Dense(3, trainable="no"),  # type: ignore[arg-type]
        ArgumentTypeError,
        f"Dense: {TRAINABLE}'no'",
    ),
    "trainable, layer": (lambda: freeze(Dense(3), 0), ArgumentTypeError, f"Dense: {TRAINABLE}0"),
    "trainable, layer of a model": (
        lambda: freeze(small().layers[0], None),
        ArgumentTypeError,
        f"Dense: {TRAINABLE}None",
    ),
    "trainable, model": (
        lambda: freeze(small(), "no"),
        ArgumentTypeError,
        f"Sequential: {TRAINABLE}'no'",
    ),
    "layer, attribute": (
        lambda: setattr(Dense(3), "units", 4),
        ArgumentError,
        "Dense: units cannot be set",
    ),
    "set_weights, number": (
        lambda: small().set_weights(3),  # type: ignore[arg-type]
        ArgumentTypeError,
        "set_weights: weights must be a list of arrays",
    ),
    "set_weights, None": (
        lambda: small().layers[0].set_weights(None),  # type: ignore[arg-type]
        ArgumentTypeError,
        "layer 'hidden': weights must be a list of arrays",
    ),
    "get_layer, index": (
        lambda: small().get_layer(index="hidden"),  # type: ignore[arg-type]
        ArgumentTypeError,
        "get_layer: index must be a whole number",
    ),
    "from_config, list": (
        lambda: Sequential.from_config([]),  # type: ignore[arg-type]
        ArgumentError,
        "lists no layers",
    ),
    "schedule without an epoch": (no_such_schedule, ArgumentTypeError, "schedule must be a func"),
}


@pytest.mark.parametrize("name", CASES)
def test_mistake_is_named(name: str) -> None:
    act, kind, message = CASES[name]
    with pytest.raises(kind) as caught:
        act()
    assert message in str(caught.value)


def test_optimizers_that_there_are_none_of() -> None:
    with pytest.raises(AttributeError, match=r"no 'Adamax'; its optimizers are Adagrad, Adam, "):
        _ = gpunn.optimizers.Adamax


def test_targets_left_out_are_missed_by_name() -> None:
    model = small()
    model.compile("sgd", "mse", device="reference")
    for use in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(ArgumentTypeError, match="y: is missing"):
            use(X)


def test_an_error_in_call_says_what_it_was_called_with() -> None:
    with pytest.raises(KeyError) as caught:
        fit(OwnModel(lambda model, x: model.dense(x["deep"])), {"wide": X})
    assert "dict of inputs with the keys ['wide']" in caught.value.__notes__[0]

    def unpack(model: OwnModel, inputs: Any) -> Any:
        wide, _deep = inputs
        return model.dense(wide)

    with pytest.raises(ValueError, match="too many values") as unpacked:
        fit(OwnModel(unpack), (X, X, X))
    assert "a tuple of 3 inputs" in unpacked.value.__notes__[0]


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (layers.LeakyReLU(negative_slope=0.1), None),
        (layers.ReLU(), "relu"),
        (layers.ELU(), "elu"),
        (layers.Activation("tanh"), "tanh"),
    ],
)
def test_layer_as_an_activation(layer: Any, name: str | None) -> None:
    """As in Keras a layer that is nothing but a function stands for it."""
    within = Sequential([Input((4,)), Dense(3, activation=layer, kernel_initializer="ones")])
    z = X @ np.ones((4, 3), np.float32)
    behind = Sequential([Input((3,)), layers.Activation(name) if name else layers.LeakyReLU(0.1)])
    np.testing.assert_allclose(within.predict(X), behind.predict(z), rtol=1e-5, atol=1e-6)


def test_custom_objects_are_taken_as_keras_programs_give_them(tmp_path: Any) -> None:
    @gpunn.utils.register_keras_serializable()
    def own_loss(y_true: Any, y_pred: Any) -> Any:
        return (y_true - y_pred) ** 2

    model = small()
    model.compile("sgd", own_loss, device="reference")
    path = model.save(tmp_path / "model.h5")
    again = gpunn.load_model(path, custom_objects={"own_loss": own_loss}, device="reference")
    assert np.array_equal(again.predict(X), model.predict(X))
    assert again.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_trained_model_is_copied_with_its_weights(copied: Callable[[Any], Any]) -> None:
    model = fit(Sequential([Input((4,)), Dense(3), layers.BatchNormalization(), Dense(1)]))
    twin = copied(model)
    before = model.predict(X)
    assert np.array_equal(twin.predict(X), before)
    assert twin.history.history == model.history.history  # type: ignore[union-attr]
    twin.fit(X, Y, verbose=0)
    assert not np.array_equal(twin.predict(X), before)
    assert np.array_equal(model.predict(X), before)


@pytest.mark.parametrize("kind", [layers.BatchNormalization, layers.LayerNormalization])
@pytest.mark.parametrize("device", ["reference", "cpu"])
def test_normalization_with_constraints(kind: Any, device: str) -> None:
    layer = kind(beta_constraint="non_neg", gamma_constraint=constraints.MaxNorm(0.5))
    model = Sequential([Input((4,)), layer])
    model.compile("sgd", "mse", device=device)
    model.fit(X, X - 3, verbose=0)  # asks for a negative beta
    gamma, beta = model.get_weights()[:2]
    assert np.array_equal(beta, np.zeros(4))
    assert np.linalg.norm(gamma) == pytest.approx(0.5)
    config = model.get_config()
    assert Sequential.from_config(config).get_config()["nodes"] == config["nodes"]


def test_weights_are_listed_by_name() -> None:
    """As in Keras: what a layer learns, what it only keeps, and the values of each."""
    model = fit(
        Sequential(
            [Input((4,)), Dense(3, name="d"), layers.BatchNormalization(name="bn"), Dense(1)]
        )
    )
    norm = model.get_layer("bn")
    assert [(v.name, v.trainable) for v in norm.variables] == [
        ("gamma", True),
        ("beta", True),
        ("moving_mean", False),
        ("moving_variance", False),
    ]
    assert [v.path for v in norm.non_trainable_weights] == ["bn/moving_mean", "bn/moving_variance"]
    assert np.array_equal(norm.moving_mean, norm.get_weights()[2])
    assert [v.path for v in model.trainable_variables][:3] == ["d/kernel", "d/bias", "bn/gamma"]
    for view, values in zip(model.weights, model.get_weights(), strict=True):
        assert view.shape == values.shape
        assert np.array_equal(view.numpy(), values)
        assert np.array_equal(np.asarray(view), values)
    model.weights[0].assign(np.ones((4, 3)))
    assert np.array_equal(model.get_layer("d").kernel, np.ones((4, 3)))
    with pytest.raises(ArgumentError, match="d/kernel has shape"):
        model.weights[0].assign(np.ones(3))


class TwoHeads(Model):
    """Returns a dict, with the names of its layers or with others."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.main, self.aux = Dense(1, name="main"), Dense(1, name="aux")

    def call(self, inputs: Any) -> Any:
        return {self.key: self.main(inputs), "aux": self.aux(inputs)}


def test_call_may_return_a_dict() -> None:
    model = TwoHeads("main")
    losses = {"main": "mse", "aux": "mae"}
    model.compile("sgd", losses, loss_weights={"aux": 0.5}, device="reference", seed=1)
    history = model.fit(X, {"main": Y, "aux": Y}, verbose=0)
    assert {"main_loss", "aux_loss"} < set(history.history)
    predictions = model.predict(X)
    assert list(predictions) == ["main", "aux"]
    expected = X @ model.main.kernel + model.main.bias
    np.testing.assert_allclose(predictions["main"], expected, atol=1e-6)
    with pytest.raises(ArgumentError, match=r"call: 'other' must be the name of its layer.*'main'"):
        TwoHeads("other").predict(X)


def test_loss_of_a_class_computes_on_arrays() -> None:
    class Scaled(gpunn.losses.Loss):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def call(self, y_true: Any, y_pred: Any) -> Any:
            return self.factor * gpunn.ops.square(y_true - y_pred)

    weights = np.linspace(0, 2, len(Y))
    assert Scaled(3.0)(Y, Y + 2) == pytest.approx(12)
    assert Scaled(3.0)(Y, Y + 2, weights) == pytest.approx(12 * weights.mean())
