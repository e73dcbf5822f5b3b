"""PReLU, activation layers, constraints and label smoothing against recordings of Keras 3.

``tests/recordings/record_keras_more_layers.py`` made them, in float64, of the nets in
``more_layers_nets.py`` beside it; as in ``test_keras_parity.py`` six steps leave the two a few
roundings apart.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from more_layers_nets import STEPS, constrained_net, layer_nets, named_layers

import gpunn
from gpunn import layers
from gpunn.specs.constraints import constraints

RECORDED = dict(
    np.load(Path(__file__).parents[1] / "recordings" / "keras_more_layers.npz", allow_pickle=False)
)
DEVICES = ("reference", "cpu")
RTOL, ATOL = 1e-10, 1e-12


def cases(kind: str, depth: int) -> list[str]:
    """Names of the recorded cases of a kind: `depth` parts of the key after it."""
    keys = (key.split("/") for key in RECORDED if key.startswith(f"{kind}/"))
    return list(
        dict.fromkeys("/".join(parts[1 : 1 + depth]) for parts in keys if parts[1:][depth:])
    )


def check_training(model: Any, prefix: str, x: Any, y: Any) -> None:
    """Take the recorded steps; compare losses, all weights after each, and a prediction."""
    count = len(model.get_weights())
    assert f"{prefix}/weight{count}" not in RECORDED
    history = [RECORDED[f"{prefix}/weight{i}"] for i in range(count)]
    model.set_weights([values[0] for values in history])
    for step in range(STEPS):
        rows = slice(8 * (step % 2), 8 * (step % 2) + 8)
        loss = model.evaluate(x[rows], y[rows], verbose=0)
        assert loss == pytest.approx(RECORDED[f"{prefix}/loss"][step], rel=RTOL)
        model.fit(x[rows], y[rows], batch_size=8, shuffle=False, verbose=0)
        for i, values in enumerate(model.get_weights()):
            message = f"weight {i} after step {step}"
            np.testing.assert_allclose(values, history[i][step + 1], RTOL, ATOL, err_msg=message)
    np.testing.assert_allclose(model.predict(x), RECORDED[f"{prefix}/predict"], RTOL, ATOL)


# Constraints


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", cases("constraint", 2))
def test_constrained_training_is_keras(name: str, device: str) -> None:
    config = json.loads(str(RECORDED[f"constraint/{name}/config"]))
    (kind, arguments), (optimizer, settings) = config["constraint"], config["optimizer"]
    model = gpunn.Sequential(constrained_net(gpunn, kind, arguments))
    optimizer = getattr(gpunn.optimizers, optimizer)(**settings)
    model.compile(optimizer, "mse", device=device, precision="float64", seed=0)
    data = RECORDED["constraint_data/x"], RECORDED["constraint_data/y"]
    check_training(model, f"constraint/{name}", *data)


def test_no_constraint_is_unrecorded() -> None:
    recorded = {
        json.loads(str(RECORDED[f"constraint/{name}/config"]))["constraint"][0]
        for name in cases("constraint", 2)
    }
    assert recorded == set(constraints._classes)


# Layers


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", cases("layers", 1))
def test_training_with_these_layers_is_keras(name: str, device: str) -> None:
    model = gpunn.Sequential(layer_nets(gpunn)[name])
    loss = "categorical_crossentropy" if name == "activations" else "mse"
    adam = gpunn.optimizers.Adam(0.02)
    model.compile(adam, loss, device=device, precision="float64", seed=0)
    prefix = f"layers/{name}"
    check_training(model, prefix, RECORDED[f"{prefix}/x"], RECORDED[f"{prefix}/y"])


def test_layers_have_keras_names() -> None:
    model = gpunn.Sequential([gpunn.Input((4,)), *named_layers(gpunn)])
    assert [layer.name for layer in model.layers] == json.loads(str(RECORDED["layers/names"]))


# Label smoothing


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", cases("smoothing", 1))
def test_smoothed_losses_are_keras(name: str, device: str) -> None:
    case = {key: RECORDED[f"smoothing/{name}/{key}"] for key in ("predictions", "targets")}
    config = json.loads(str(RECORDED[f"smoothing/{name}/config"]))
    make = getattr(gpunn.losses, config["class"])
    check_loss(make(True, label_smoothing=config["label_smoothing"]), name, device, **case)


@pytest.mark.parametrize("device", DEVICES)
def test_smoothed_class_numbers_are_smoothed_one_hot_targets(device: str) -> None:
    """Keras smooths no class numbers: they are compared with its one-hot targets."""
    case = {key: RECORDED[f"smoothing/categorical/{key}"] for key in ("predictions", "targets")}
    case["targets"] = case["targets"].argmax(axis=1)
    loss = gpunn.losses.SparseCategoricalCrossentropy(True, label_smoothing=0.1)
    check_loss(loss, "categorical", device, **case)


def check_loss(loss: Any, name: str, device: str, predictions: Any, targets: Any) -> None:
    """Value and gradient of a loss of logits, which are the kernel of a net on one-hot inputs."""
    rows, columns = predictions.shape
    stack = [gpunn.Input((rows,)), layers.Dense(columns, use_bias=False)]
    model = gpunn.Sequential(stack)
    rate = gpunn.optimizers.SGD(1.0)
    model.compile(rate, loss, metrics=["accuracy"], device=device, precision="float64", seed=0)
    model.set_weights([predictions])
    value, accuracy = model.evaluate(np.eye(rows), targets, verbose=0)
    assert value == pytest.approx(float(RECORDED[f"smoothing/{name}/value"]), rel=1e-12)
    if columns == 1:
        hits = (predictions > 0.0) == (targets > 0.5)
    elif loss.head == "sigmoid":
        hits = None
    else:
        labels = targets if loss.sparse else targets.argmax(axis=1)
        hits = predictions.argmax(axis=1) == labels
    if hits is not None:  # the targets as they are given
        assert accuracy == pytest.approx(hits.mean())
    model.fit(np.eye(rows), targets, batch_size=rows, shuffle=False, verbose=0)
    gradient = predictions - model.get_weights()[0]
    # A difference of numbers of size 2, of which a gradient of 1/12 and less is left.
    expected = RECORDED[f"smoothing/{name}/gradient"]
    np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-14)
