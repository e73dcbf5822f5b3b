"""Record what Keras 3 makes of PReLU, activation layers, constraints and label smoothing.

Usage and precision as in ``record_keras.py``, beside it, from which this takes the dtype fix;
writes ``keras_more_layers.npz``. ``README.md`` lists the keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from more_layers_nets import STEPS, constrained_net, layer_nets, named_layers

# Before anything else of JAX: it sets JAX and Keras to float64.
from record_keras import Arrays, as_float64, as_json, check_precision, jax, keras

OUTPUT = Path(__file__).resolve().parent / "keras_more_layers.npz"

CONSTRAINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "max_norm": ("MaxNorm", {"max_value": 0.8}),
    "max_norm_defaults": ("MaxNorm", {}),
    "non_neg": ("NonNeg", {}),
    "unit_norm": ("UnitNorm", {}),
    "min_max_norm": ("MinMaxNorm", {"min_value": 0.9, "max_value": 1.1, "rate": 0.6}),
    "min_max_norm_defaults": ("MinMaxNorm", {}),
}
OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"learning_rate": 0.1}),
    "momentum": ("SGD", {"learning_rate": 0.1, "momentum": 0.9}),
    "adam": ("Adam", {"learning_rate": 0.05}),
}
LOSSES = {
    "categorical": ("CategoricalCrossentropy", 5, 0.1),
    "categorical_strong": ("CategoricalCrossentropy", 5, 0.75),
    "binary": ("BinaryCrossentropy", 1, 0.2),
    "binary_multilabel": ("BinaryCrossentropy", 4, 0.3),
}


def random_weights(model: Any, rng: np.random.Generator) -> None:
    """Weights that are large enough for the bounds of norms to matter."""
    model.set_weights([rng.normal(0.0, 0.5, w.shape) for w in model.weights])


def trained(model: Any, optimizer: Any, x: np.ndarray, y: np.ndarray, loss: str) -> Arrays:
    """STEPS steps of 8 rows; weight i under its number, row 0 of it the initial one."""
    model.compile(optimizer=optimizer, loss=loss)
    weights = [model.get_weights()]
    losses = []
    for step in range(STEPS):
        rows = slice(8 * (step % 2), 8 * (step % 2) + 8)
        losses.append(model.train_on_batch(x[rows], y[rows]))
        weights.append(model.get_weights())
    out = {f"weight{i}": as_float64(values) for i, values in enumerate(zip(*weights, strict=True))}
    return {**out, "loss": as_float64(losses), "predict": as_float64(model.predict(x, verbose=0))}


def make(kind: tuple[str, dict[str, Any]], module: Any) -> Any:
    return getattr(module, kind[0])(**kind[1])


def record_constraints() -> Arrays:
    """A net whose weights are constrained, trained by each of the optimizers."""
    rng = np.random.default_rng(301)
    x, y = rng.normal(size=(16, 7)), rng.normal(0.0, 2.0, (16, 3))
    out: Arrays = {"constraint_data/x": x, "constraint_data/y": y}
    for name, kind in CONSTRAINTS.items():
        for optimizer, arguments in OPTIMIZERS.items():
            model = keras.Sequential(constrained_net(keras, *kind))
            random_weights(model, np.random.default_rng(302))
            found = trained(model, make(arguments, keras.optimizers), x, y, "mse")
            prefix = f"constraint/{name}/{optimizer}"
            config = {"constraint": kind, "optimizer": arguments}
            out |= {f"{prefix}/{key}": value for key, value in found.items()}
            out[f"{prefix}/config"] = as_json(config)
    return out


def record_layers() -> Arrays:
    """Nets of the layers, and the names that Keras gives them."""
    rng = np.random.default_rng(303)
    out: Arrays = {}
    for name, stack in layer_nets(keras).items():
        model = keras.Sequential(stack)
        random_weights(model, rng)
        x = rng.normal(size=(16, *model.input_shape[1:]))
        y = rng.normal(size=(16, 3))
        loss = "mse"
        if name == "activations":
            y, loss = np.eye(3)[rng.integers(3, size=16)], "categorical_crossentropy"
        found = trained(model, keras.optimizers.Adam(0.02), x, y, loss)
        out |= {f"layers/{name}/{key}": value for key, value in found.items()}
        out |= {f"layers/{name}/x": x, f"layers/{name}/y": y}
    keras.backend.clear_session()
    named = [keras.Sequential([layer]).layers[0].name for layer in named_layers(keras)]
    out["layers/names"] = as_json(named)
    return out


def record_losses() -> Arrays:
    """Smoothed losses of logits, and their gradients."""
    out: Arrays = {}
    rng = np.random.default_rng(304)
    for name, (kind, columns, smoothing) in LOSSES.items():
        logits = rng.normal(0.0, 2.0, (12, columns))
        targets = rng.integers(2, size=(12, columns)).astype(np.float64)
        if kind == "CategoricalCrossentropy":
            targets = np.eye(columns)[rng.integers(columns, size=12)]
        loss = getattr(keras.losses, kind)(from_logits=True, label_smoothing=smoothing)
        value, gradient = jax.value_and_grad(lambda z, f=loss, t=targets: f(t, z))(logits)
        found = {"predictions": logits, "targets": targets, "value": value, "gradient": gradient}
        out |= {f"smoothing/{name}/{key}": as_float64(array) for key, array in found.items()}
        out[f"smoothing/{name}/config"] = as_json({"class": kind, "label_smoothing": smoothing})
    return out


def main() -> None:
    """Record everything and write `keras_more_layers.npz`."""
    check_precision()
    out = {**record_constraints(), **record_layers(), **record_losses()}
    out["versions"] = np.array([f"{m.__name__} {m.__version__}" for m in (keras, jax, np)])
    np.savez_compressed(OUTPUT, **out)


if __name__ == "__main__":
    main()
