"""``trainable`` of layers and models: what is trained, listed and planned.

What Keras 3.15 does with the same models was looked at for each test that says so; how weights and
losses move is compared with it in test_keras_sharing.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from shared_models import DEVICES, FIT, X, Y, compiled, moved, stack, with_normalization

import gpunn
from gpunn import Input, Model, Sequential, layers
from gpunn.errors import ArgumentTypeError, TrainingError
from gpunn.models import clone_model


def paths(weights: list[Any]) -> list[str]:
    return [weight.path for weight in weights]


def counts(model: Model) -> list[str]:
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    return "\n".join(lines).splitlines()[-3:]


# Lists and counts: as those of Keras


def test_lists_of_a_model_with_a_frozen_layer() -> None:
    model = stack()
    model.layers[0].trainable = False
    assert paths(model.trainable_weights) == ["b/kernel", "b/bias"]
    assert paths(model.non_trainable_weights) == ["a/kernel", "a/bias"]
    assert paths(model.weights) == ["a/kernel", "a/bias", "b/kernel", "b/bias"]
    assert [weight.trainable for weight in model.weights] == [False, False, True, True]
    assert paths(model.trainable_variables) == ["b/kernel", "b/bias"]
    assert paths(model.layers[0].trainable_weights) == []
    assert paths(model.layers[0].non_trainable_weights) == ["a/kernel", "a/bias"]
    assert [w.shape for w in model.get_weights()] == [(4, 3), (3,), (3, 1), (1,)]
    assert model.count_params() == 19
    totals = ["Total params: 19", "Trainable params: 4", "Non-trainable params: 15"]
    assert counts(model) == totals


def test_order_of_weights_does_not_depend_on_what_is_frozen() -> None:
    model = with_normalization()
    order = paths(model.weights)
    statistics = ["bn/moving_mean", "bn/moving_variance"]
    assert order == ["a/kernel", "a/bias", "bn/gamma", "bn/beta", *statistics, "b/kernel", "b/bias"]
    model.layers[0].trainable = False
    assert paths(model.weights) == order
    assert paths(model.trainable_weights) == ["bn/gamma", "bn/beta", "b/kernel", "b/bias"]
    assert paths(model.non_trainable_weights) == ["a/kernel", "a/bias", *statistics]
    model.trainable = False
    assert paths(model.trainable_weights) == []
    assert paths(model.non_trainable_weights) == order
    assert counts(model)[1:] == ["Trainable params: 0", "Non-trainable params: 31"]


def test_model_that_is_frozen_freezes_its_layers() -> None:
    model = stack()
    model.trainable = False
    assert [layer.trainable for layer in model.layers] == [False, False]
    # As in Keras, a layer alone does not take the model back.
    model.layers[1].trainable = True
    assert [layer.trainable for layer in model.layers] == [False, True]
    assert not model.trainable
    assert model.trainable_weights == []
    model.trainable = True
    assert [layer.trainable for layer in model.layers] == [True, True]
    assert len(model.trainable_weights) == 4


def test_nested_models() -> None:
    inner = stack()
    outer = Sequential([Input((4,)), inner, layers.Dense(1, name="c")])
    inner.trainable = False
    assert paths(outer.trainable_weights) == ["c/kernel", "c/bias"]
    assert paths(outer.weights)[:4] == ["a/kernel", "a/bias", "b/kernel", "b/bias"]
    inner.layers[0].trainable = True
    assert paths(outer.trainable_weights) == ["a/kernel", "a/bias", "c/kernel", "c/bias"]
    assert inner.trainable_weights == []
    outer.trainable = False
    assert not inner.trainable
    assert not any(layer.trainable for layer in inner.layers)
    outer.trainable = True
    assert inner.trainable
    assert len(inner.trainable_weights) == 4


def test_functional_model_with_a_model_inside() -> None:
    inner, inputs = stack(), Input((4,))
    outer = Model(inputs, layers.Dense(1, name="c")(inner(inputs)))
    inner.trainable = False
    assert paths(outer.trainable_weights) == ["c/kernel", "c/bias"]
    assert moved(compiled(outer), lambda: outer.fit(X, Y, **FIT)) == [False] * 4 + [True] * 2
    outer.trainable = False
    assert not inner.trainable
    inner.trainable = True
    assert outer.trainable_weights == []
    inner.trainable = False
    outer.trainable = True
    assert len(inner.trainable_weights) == len(inner.weights) == 4


class Two(Model):
    """A subclass with a layer and a model as attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = stack()
        self.last = layers.Dense(1, name="last")

    def call(self, inputs: Any) -> Any:
        return self.last(self.inner(inputs))


def test_subclass_of_model() -> None:
    model = Two()
    model.inner.trainable = False
    model.build((None, 4))
    assert moved(compiled(model), lambda: model.fit(X, Y, **FIT)) == [False] * 4 + [True] * 2
    model.trainable = False
    assert not model.last.trainable
    assert model.trainable_weights == []
    model.trainable = True
    assert len(model.inner.trainable_weights) == 4
    assert all(moved(model, lambda: model.fit(X, Y, **FIT)))


@pytest.mark.parametrize("value", [0, 1, "no", None, np.array([True])])
def test_only_true_and_false(value: object) -> None:
    model = stack()
    match = "Dense: trainable must be True or False, not "
    with pytest.raises(ArgumentTypeError, match=match):
        layers.Dense(3, trainable=value)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match=match):
        model.layers[0].trainable = value  # type: ignore[assignment]
    with pytest.raises(ArgumentTypeError, match="Sequential: trainable must be True or False"):
        model.trainable = value  # type: ignore[assignment]
    assert len(model.trainable_weights) == 4


# Training


@pytest.mark.parametrize("device", DEVICES)
def test_flag_holds_from_the_next_call_that_trains(device: str) -> None:
    model = compiled(stack(), device=device)
    model.layers[0].trainable = False  # after compile, before fit: as in Keras
    assert moved(model, lambda: model.fit(X, Y, **FIT)) == [False, False, True, True]
    # After fit Keras raises an error about the variables of the optimizer.
    model.layers[0].trainable = True
    assert moved(model, lambda: model.fit(X, Y, **FIT)) == [True] * 4
    model.layers[1].trainable = False
    assert moved(model, lambda: model.train_on_batch(X, Y)) == [True, True, False, False]
    model.layers[1].trainable, model.layers[0].trainable = True, False
    assert moved(model, lambda: model.train_on_batch(X, Y)) == [False, False, True, True]
    model.trainable = True
    assert moved(model, lambda: model.fit(X, Y, **FIT)) == [True] * 4
    assert int(model.optimizer.iterations) == 4 + 4 + 1 + 1 + 4


def test_flag_after_another_compile() -> None:
    model = compiled(stack())
    model.fit(X, Y, **FIT)
    model.layers[0].trainable = False
    compiled(model)
    assert moved(model, lambda: model.fit(X, Y, **FIT)) == [False, False, True, True]
    assert int(model.optimizer.iterations) == 4


def adam_steps(
    weights: list[Any], slots: list[Any], first: int, trained: list[bool]
) -> tuple[list[Any], list[Any]]:
    """Return weights and slots after 4 steps of Adam (Kingma and Ba, 2015, algorithm 1)."""
    (w1, b1, w2, b2), slots = weights, list(slots)
    for step in range(4):
        x, y = X[16 * step : 16 * step + 16], Y[16 * step : 16 * step + 16]
        hidden = x @ w1 + b1
        error = 2 * (hidden @ w2 + b2 - y) / len(x)
        below = error @ w2.T
        gradients = [x.T @ below, below.sum(axis=0), hidden.T @ error, error.sum(axis=0)]
        new = [w1, b1, w2, b2]
        t = first + step + 1
        for i, gradient in enumerate(gradients):
            if trained[i]:
                m, v = slots[i]
                m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
                slots[i] = m, v
                rate = 0.02 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
                new[i] = new[i] - rate * m / (np.sqrt(v) + 1e-7)
        w1, b1, w2, b2 = new
    return [w1, b1, w2, b2], slots


@pytest.mark.parametrize("device", DEVICES)
def test_slots_go_on_where_a_layer_is_frozen_and_back(device: str) -> None:
    """Those of the frozen layer wait for it; the count of steps goes on for all."""
    model = compiled(stack(), gpunn.optimizers.Adam(0.02), device)
    weights = model.get_weights()
    slots = [(np.zeros_like(w), np.zeros_like(w)) for w in weights]
    for phase, trained in enumerate(([True] * 4, [False, False, True, True], [True] * 4)):
        model.layers[0].trainable = trained[0]
        model.fit(X, Y, **FIT)
        weights, slots = adam_steps(weights, slots, 4 * phase, trained)
        for found, expected in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_flag_set_in_a_callback_holds_from_the_next_call() -> None:
    class Freezes(gpunn.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.layers[0].trainable = False

    model, plain = compiled(stack()), compiled(stack())
    model.fit(X, Y, epochs=3, callbacks=[Freezes()], **FIT)
    plain.fit(X, Y, epochs=3, **FIT)
    assert all(map(np.array_equal, model.get_weights(), plain.get_weights()))
    assert moved(model, lambda: model.fit(X, Y, **FIT)) == [False, False, True, True]


def test_a_trainer_that_was_made_before_is_refused() -> None:
    model = compiled(stack())
    trainer = gpunn.Trainer(model, X, Y, batch_size=16, shuffle=False)
    trainer.step()
    model.layers[0].trainable = False
    with pytest.raises(TrainingError, match="trainable has changed"):
        trainer.step()
    model.layers[0].trainable = True
    trainer.step()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_nothing_trainable(device: str, optimizer: str) -> None:
    """The loss is reported, as in Keras, and nothing moves: no moving statistics either."""
    model = compiled(with_normalization(), optimizer, device)
    model.trainable = False
    before = model.get_weights()
    history = model.fit(X, Y, epochs=2, **FIT).history
    assert all(map(np.array_equal, model.get_weights(), before))
    expected = np.mean((model.predict(X) - Y) ** 2)
    np.testing.assert_allclose(history["loss"], [expected] * 2, rtol=1e-12)
    assert model.train_on_batch(X, Y) == pytest.approx(expected, rel=1e-12)
    model.trainable = True
    assert all(moved(model, lambda: model.fit(X, Y, **FIT)))


def test_gradient_clipping_by_global_norm_leaves_frozen_layers_out() -> None:
    """With one layer frozen the norm is that of the other one's gradients."""
    model = compiled(stack(), gpunn.optimizers.SGD(1.0, global_clipnorm=0.01))
    model.layers[0].trainable = False
    before = model.get_weights()
    model.train_on_batch(X, Y)
    pairs = zip(model.get_weights(), before, strict=True)
    step = np.concatenate([(new - old).ravel() for new, old in pairs])
    assert np.linalg.norm(step) == pytest.approx(0.01, rel=1e-10)


def test_weight_decay_and_constraints_leave_frozen_layers_alone() -> None:
    model = stack(kernel_constraint=gpunn.constraints.MaxNorm(0.01))
    model.layers[0].trainable = False
    compiled(model, gpunn.optimizers.AdamW(0.1, weight_decay=0.5))
    assert moved(model, lambda: model.fit(X, Y, **FIT)) == [False, False, True, True]


def test_search_for_a_learning_rate_leaves_slots_of_frozen_layers() -> None:
    model, plain = compiled(stack()), compiled(stack())
    for one in (model, plain):
        one.fit(X, Y, **FIT)
    model.layers[0].trainable = False
    gpunn.find_learning_rate(model, X, Y, batch_size=16, steps=10)
    model.layers[0].trainable = True
    for one in (model, plain):
        one.fit(X, Y, **FIT)
    assert all(map(np.array_equal, model.get_weights(), plain.get_weights()))


# The plan


def test_plan_has_no_gradient_or_update_of_frozen_layers() -> None:
    model = compiled(with_normalization())
    whole = model.plan()
    model.layers[0].trainable = False
    plan = model.plan()
    buffers = {
        name
        for step in plan.programs["train"]
        for name in (*step.inputs.values(), *step.outputs.values())
    }
    written = {name for step in plan.programs["train"] for name in step.outputs.values()}
    assert {"gradients/b/kernel", "gradients/bn/gamma", "parameters/a/kernel"} <= buffers
    assert not [name for name in plan.buffers if name.startswith("gradients/a")]
    assert not [name for name in written if name.startswith(("parameters/a", "scratch/d/a"))]
    assert "gradients/a" not in plan.describe()
    assert "gradients/a" in whole.describe()
    slots = [name for name in plan.buffers if name.startswith("slot") and "/a/" in name]
    assert not slots
    assert plan.flops("train") < whole.flops("train")
    for program in ("evaluate", "predict"):
        assert plan.programs[program] == whole.programs[program]


def test_plan_goes_no_deeper_than_the_lowest_trained_layer() -> None:
    model = compiled(with_normalization())
    model.layers[0].trainable = model.layers[1].trainable = False
    ops = [step.op for step in model.plan().programs["train"]]
    assert "batch_normalization_inference" in ops
    assert not {"batch_normalization", "batch_normalization_gradient"} & set(ops)
    assert "dense_input_gradient" not in ops
    model.trainable = False
    assert not [op for op in (s.op for s in model.plan().programs["train"]) if "gradient" in op]


def test_a_model_made_frozen_trains_nothing_and_others_train_its_layers() -> None:
    """As in Keras: the argument is the model's own flag, and its layers keep theirs."""
    inner = Sequential([Input((4,)), layers.Dense(3)], trainable=False)
    assert not inner.trainable and inner.layers[0].trainable
    assert inner.trainable_weights == []
    outer = compiled(Sequential([inner, layers.Dense(2)]))
    assert len(outer.trainable_weights) == 4
    assert not clone_model(inner).trainable
    with pytest.raises(ArgumentTypeError, match="trainable must be True or False, not 1"):
        Model(inner.input, inner.output, trainable=1)  # type: ignore[arg-type]
