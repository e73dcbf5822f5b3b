"""``trainable`` in configurations, copies and files, and in runs that are resumed."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shared_models import DEVICES, FIT, X, Y, compiled, moved, stack, with_normalization

import gpunn
from gpunn import Model, Sequential, layers
from gpunn.models import clone_model, model_from_json


def paths(weights: list[Any]) -> list[str]:
    return [weight.path for weight in weights]


def test_argument_and_configuration() -> None:
    layer = layers.Dense(3, trainable=False)
    assert not layer.trainable
    model = stack(trainable=False)
    assert paths(model.trainable_weights) == ["b/kernel", "b/bias"]
    configs = [node["layer"]["config"] for node in model.get_config()["nodes"]]
    assert [config.get("trainable", True) for config in configs[1:]] == [False, True]


def through_a_file(model: Model, tmp_path: Path) -> Model:
    return gpunn.load_model(model.save(tmp_path / "model.keras"), device="reference")


COPIES: dict[str, Callable[[Any, Path], Any]] = {
    "from_config": lambda model, _: type(model).from_config(model.get_config()),
    "to_json": lambda model, _: model_from_json(model.to_json()),
    "clone_model": lambda model, _: clone_model(model),
    "load_model": through_a_file,
    "pickle": lambda model, _: pickle.loads(pickle.dumps(model)),
    "deepcopy": lambda model, _: copy.deepcopy(model),
}


@pytest.mark.parametrize("way", COPIES)
def test_frozen_layers_stay_frozen_in_copies_and_files(way: str, tmp_path: Path) -> None:
    model = compiled(with_normalization())
    model.layers[0].trainable = model.layers[1].trainable = False
    again = COPIES[way](model, tmp_path)
    assert [layer.trainable for layer in again.layers] == [False, False, True]
    compiled(again)
    assert moved(again, lambda: again.fit(X, Y, **FIT)) == [False] * 6 + [True] * 2
    # The copy has layers of its own.
    again.layers[0].trainable = True
    assert not model.layers[0].trainable


@pytest.mark.parametrize("way", COPIES)
def test_frozen_models_stay_frozen_in_copies_and_files(way: str, tmp_path: Path) -> None:
    model = compiled(stack())
    model.trainable = False
    again = COPIES[way](model, tmp_path)
    assert [layer.trainable for layer in again.layers] == [False, False]
    assert again.trainable_weights == []
    again.trainable = True
    assert len(again.trainable_weights) == 4


@pytest.mark.parametrize("way", ["load_model", "pickle", "deepcopy"])
def test_copies_train_on_with_the_slots(way: str, tmp_path: Path) -> None:
    model = compiled(with_normalization())
    model.fit(X, Y, **FIT)
    model.layers[1].trainable = False
    model.fit(X, Y, **FIT)
    again = COPIES[way](model, tmp_path)
    for one in (model, again):
        one.fit(X, Y, initial_epoch=2, epochs=3, **FIT)
    assert all(map(np.array_equal, again.get_weights(), model.get_weights()))


@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
def test_copies_have_the_slots_of_frozen_layers(way: str, tmp_path: Path) -> None:
    """Of a layer that was trained before, and is trained again afterwards."""
    model = compiled(stack())
    model.fit(X, Y, **FIT)
    model.layers[0].trainable = False
    model.fit(X, Y, **FIT)
    again = COPIES[way](model, tmp_path)
    for one in (model, again):
        one.layers[0].trainable = True
        one.fit(X, Y, initial_epoch=2, epochs=3, **FIT)
    assert all(map(np.array_equal, again.get_weights(), model.get_weights()))


@pytest.mark.parametrize("device", DEVICES)
def test_run_with_frozen_layers_is_resumed_bit_for_bit(device: str, tmp_path: Path) -> None:
    def run(**arguments: Any) -> Sequential:
        model = compiled(with_normalization(), "adam", device)
        model.layers[1].trainable = False
        model.fit(X, Y, batch_size=16, verbose=0, **arguments)
        return model

    whole = run(epochs=5)
    checkpoints = gpunn.callbacks.Checkpoints(tmp_path, save_every_steps=3)
    run(steps=10, callbacks=[checkpoints])
    resumed = run(epochs=5, resume=tmp_path)
    assert all(map(np.array_equal, resumed.get_weights(), whole.get_weights()))
    assert resumed.layers[1].get_weights()[0].tolist() == [1.0] * 3
