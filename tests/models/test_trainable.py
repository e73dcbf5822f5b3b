"""Frozen layers and models: what is listed, counted, planned, trained, saved and resumed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import TARGETS as Y
from small_models import X

import gpunn
from gpunn import Sequential, layers
from gpunn.callbacks import Checkpoints
from gpunn.models import clone_model, model_from_json


def stack(**options: Any) -> Sequential:
    return Sequential(
        [
            gpunn.Input((4,)),
            layers.Dense(5, "relu", name="a"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(3, "tanh", name="b", **options),
            layers.Dense(1, name="c"),
        ]
    )


def compiled(model: Any, optimizer: Any = "adam", **options: Any) -> Any:
    model.compile(optimizer, "mse", device="reference", seed=3, **options)
    return model


def fit(model: Any, epochs: int = 1) -> Any:
    model.fit(X, Y, epochs=epochs, batch_size=10, verbose=0)
    return model


def moved(model: Any, before: list[Any]) -> set[str]:
    """Return the layers that have other weights than before."""
    pairs = zip(model.weights, before, strict=True)
    return {w.path.partition("/")[0] for w, old in pairs if not np.array_equal(w.numpy(), old)}


def paths(weights: Any) -> list[str]:
    return [weight.path for weight in weights]


# What is listed


def test_a_frozen_layer_is_listed_with_what_is_not_trained() -> None:
    model = stack()
    order = paths(model.weights)
    model.get_layer("a").trainable = False
    assert paths(model.weights) == order  # as in Keras: get_weights keeps its order
    assert paths(model.trainable_weights)[:2] == ["norm/gamma", "norm/beta"]
    assert paths(model.non_trainable_weights) == [
        *("a/kernel", "a/bias"),
        *("norm/moving_mean", "norm/moving_variance"),
    ]
    assert model.layers[0].trainable_weights == []
    assert len(model.layers[0].non_trainable_weights) == 2
    assert model.count_params() == 67
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    assert lines[-1].splitlines()[-3:] == [
        "Total params: 67",
        "Trainable params: 32",
        "Non-trainable params: 35",
    ]


def test_a_model_that_is_frozen_freezes_its_layers_and_counts_before_them() -> None:
    inner = Sequential([gpunn.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2, name="b")])
    outer = Sequential([gpunn.Input((4,)), inner, layers.Dense(1, name="c")])
    inner.trainable = False
    assert [layer.trainable for layer in inner.layers] == [False, False]
    assert paths(outer.trainable_weights) == ["c/kernel", "c/bias"]
    inner.layers[0].trainable = True
    assert inner.trainable_weights == []  # the model itself is frozen still
    assert paths(outer.trainable_weights) == ["a/kernel", "a/bias", "c/kernel", "c/bias"]
    outer.trainable = True
    assert inner.trainable and len(outer.trainable_weights) == 6


def test_the_argument_of_a_layer() -> None:
    model = compiled(stack(trainable=False))
    before = model.get_weights()
    assert moved(fit(model), before) == {"a", "norm", "c"}


# What is trained


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    "frozen",
    [("a",), ("b",), ("c",), ("norm",), ("a", "b"), ("a", "norm", "b"), ("norm", "b", "c")],
)
def test_frozen_layers_stay_and_the_others_move(frozen: tuple[str, ...], optimizer: str) -> None:
    model = compiled(stack(), optimizer)
    for name in frozen:
        model.get_layer(name).trainable = False
    before = model.get_weights()
    assert moved(fit(model), before) == {"a", "norm", "b", "c"} - set(frozen)


def test_nothing_to_train_reports_the_loss_and_moves_nothing() -> None:
    model = compiled(stack(), "sgd")
    model.trainable = False
    before = model.get_weights()
    history = model.fit(X, Y, batch_size=len(X), verbose=0)
    assert moved(model, before) == set()
    assert history.history["loss"] == [pytest.approx(model.evaluate(X, Y, verbose=0), rel=1e-5)]


def test_it_holds_from_the_next_call_that_trains() -> None:
    """Keras, where another set of weights was trained before, raises an error here."""
    model = fit(compiled(stack()))
    model.get_layer("b").trainable = False
    before = model.get_weights()
    assert "b" not in moved(fit(model), before)
    model.get_layer("b").trainable = True
    before = model.get_weights()
    assert "b" in moved(fit(model), before)
    assert model.optimizer.iterations == 3 * -(-len(X) // 10)


def test_slots_of_the_optimizer_go_on_when_another_layer_is_frozen() -> None:
    """Momentum that was gathered is not lost: two steps, with a frozen layer's in between."""
    gathered = fit(compiled(stack(), gpunn.optimizers.SGD(0.05, momentum=0.9)))
    slots = gathered._slots()
    gathered.get_layer("c").trainable = False
    fit(gathered)
    gathered.get_layer("c").trainable = True
    gathered.fit(X, Y, epochs=0, batch_size=10, verbose=0)
    for name, values in gathered._slots().items():
        assert np.array_equal(values, slots[name]) == name.endswith(("c/kernel", "c/bias"))


def test_the_plan_has_nothing_of_a_frozen_layer() -> None:
    model = compiled(stack())
    for name in ("a", "norm", "b"):
        model.get_layer(name).trainable = False
    plan = model.plan(10)
    steps = plan.programs["train"]
    read = {name for step in steps for name in step.outputs.values()}
    assert not [name for name in read if "/a/" in name or ("/b/" in name and "gradient" in name)]
    assert [step.op for step in steps].count("dense_kernel_gradient") == 1
    assert "batch_normalization" not in {step.op for step in steps}
    whole = compiled(stack()).plan(10)
    assert plan.flops("train") < whole.flops("train")
    assert not [
        n for n in plan.buffers if n.startswith(("gradients/a", "optimizer/")) and "/a/" in n
    ]


# What keeps it


def test_copies_and_files_keep_it(tmp_path: Path) -> None:
    model = compiled(stack())
    model.get_layer("a").trainable = False
    fit(model)
    for other in (
        clone_model(model),
        model_from_json(model.to_json()),
        pickle.loads(pickle.dumps(model)),
        gpunn.load_model(model.save(tmp_path / "model.h5"), device="reference"),
    ):
        assert [layer.trainable for layer in other.layers] == [False, True, True, True]


def test_a_saved_model_trains_on_as_if_it_had_not_been_saved(tmp_path: Path) -> None:
    model = compiled(stack())
    model.get_layer("b").trainable = False
    loaded = gpunn.load_model(fit(model).save(tmp_path / "model.h5"), device="reference")
    for one, other in zip(fit(model).get_weights(), fit(loaded).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_with_frozen_layers_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    def run(epochs: int, folder: Path, **options: Any) -> Sequential:
        model = compiled(stack())
        model.get_layer("a").trainable = model.get_layer("norm").trainable = False
        saver = Checkpoints(folder)
        model.fit(X, Y, epochs=epochs, batch_size=10, verbose=0, callbacks=[saver], **options)
        return model

    whole = run(4, tmp_path / "whole")
    run(2, tmp_path / "parts")
    resumed = run(4, tmp_path / "parts", resume=tmp_path / "parts")
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
