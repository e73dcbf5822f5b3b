"""Batch and layer normalization against recordings of Keras 3 in float64.

``tests/recordings/README.md`` lists them. Tolerances as in test_keras_parity.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from op_runs import needs_compiler

import gpunn
from gpunn import layers

KERAS = dict(
    np.load(
        Path(__file__).parents[1] / "recordings" / "keras_normalization.npz", allow_pickle=False
    )
)
DEVICES = ["reference", "cpu", pytest.param("simulator", marks=needs_compiler)]
RTOL, ATOL = 1e-10, 1e-12
ROWS = KERAS["layer_data/x"].shape[1]


def cases(kind: str) -> list[str]:
    """Names of the recorded cases of a kind."""
    return list(dict.fromkeys(key.split("/")[1] for key in KERAS if key.startswith(f"{kind}/")))


def config(key: str) -> Any:
    return json.loads(str(KERAS[key]))


def made(name: str) -> layers.Layer:
    spec = config(f"layer/{name}/config")
    layer: layers.Layer = getattr(layers, spec["class"])(**spec["args"])
    return layer


def weights(name: str, step: int) -> list[np.ndarray]:
    return [KERAS[f"layer/{name}/weight{i}"][step] for i in range(len(names(name)))]


def names(name: str) -> list[str]:
    found: list[str] = config(f"layer/{name}/names")
    return found


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", cases("layer"))
def test_layer_computes_what_keras_does(name: str, device: str) -> None:
    """In training with the batch's statistics, which it remembers; then with those."""
    x = KERAS["layer_data/x"]
    features = x.shape[2]
    model = gpunn.Sequential([gpunn.Input((features,)), made(name), layers.Dense(1)])
    model.compile(gpunn.optimizers.SGD(1e-300), "mse", device=device, precision="float64")
    assert [v.name for v in model.graph.variables][:-2] == names(name)
    dense = model.get_weights()[-2:]
    model.set_weights([*weights(name, 0), *dense])
    rows = x.reshape(-1, features)
    trainer = gpunn.Trainer(model, rows, np.zeros((len(rows), 1)), batch_size=ROWS, shuffle=False)
    for step, expected in enumerate(KERAS[f"layer/{name}/training"], 1):
        trainer.step()
        result = trainer.bound.read(f"activations/{model.layers[0].name}")
        np.testing.assert_allclose(result, expected, RTOL, ATOL, err_msg=f"step {step}")
        for ours, keras in zip(model.get_weights(), weights(name, step), strict=False):
            np.testing.assert_allclose(ours, keras, RTOL, ATOL, err_msg=f"step {step}")
    alone = gpunn.Sequential([gpunn.Input((features,)), made(name)])
    alone.compile(device=device, precision="float64")
    alone.set_weights(model.get_weights()[:-2])
    expected = KERAS[f"layer/{name}/inference"]
    np.testing.assert_allclose(alone.predict(x[0]), expected, RTOL, ATOL)


@pytest.mark.parametrize("name", cases("defaults"))
def test_defaults_are_keras(name: str) -> None:
    layer = getattr(layers, name)()
    assert {key: getattr(layer, key) for key in config(f"defaults/{name}")} == config(
        f"defaults/{name}"
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", cases("fit"))
def test_fit_evaluate_and_predict_are_keras(name: str, device: str) -> None:
    """20 rows in batches of 8: the last is ragged, and its statistics count as much."""
    case = config(f"fit/{name}/config")
    penalty = gpunn.regularizers.L1L2(**case["penalty"])
    model = gpunn.Sequential(
        [
            gpunn.Input((6,)),
            layers.Dense(8, use_bias=False),
            layers.BatchNormalization(momentum=0.9, gamma_regularizer=penalty),
            layers.Activation("relu"),
            layers.Dense(5),
            layers.LayerNormalization(beta_regularizer=penalty),
            layers.Activation("tanh"),
            layers.BatchNormalization(momentum=0.9),
            layers.Dense(3, "softmax"),
        ]
    )
    model.compile(
        getattr(gpunn.optimizers, case["class"])(**case["args"]),
        "sparse_categorical_crossentropy",
        ["accuracy"],
        device=device,
        precision="float64",
    )
    count = len(model.get_weights())
    model.set_weights([KERAS[f"fit/{name}/initial/{i}"] for i in range(count)])
    x_val, y_val = KERAS["fit_data/x_val"], KERAS["fit_data/y_val"]
    history = model.fit(
        KERAS["fit_data/x"],
        KERAS["fit_data/y"],
        batch_size=8,
        epochs=4,
        shuffle=False,
        verbose=0,
        validation_data=(x_val, y_val),
    )
    prefix = f"fit/{name}/history/"
    wanted = {k.removeprefix(prefix): v for k, v in KERAS.items() if k.startswith(prefix)}
    assert history.history.keys() == wanted.keys()
    for key, values in wanted.items():
        np.testing.assert_allclose(history.history[key], values, rtol=1e-10, err_msg=key)
    for i, (variable, values) in enumerate(
        zip(model.graph.variables, model.get_weights(), strict=True)
    ):
        keras = KERAS[f"fit/{name}/final/{i}"]
        np.testing.assert_allclose(values, keras, RTOL, 1e-11, err_msg=variable.path)
    np.testing.assert_allclose(
        model.predict(x_val, batch_size=3), KERAS[f"fit/{name}/predict"], rtol=1e-10
    )
