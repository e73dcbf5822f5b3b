"""Record what Keras 3 computes with BatchNormalization and LayerNormalization.

Used as ``record_keras.py`` is, in the same environment; writes ``keras_normalization.npz`` next to
this file, in float64 (see there).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

# With Keras and JAX from there, which sets them up before it imports them.
from record_keras import Arrays, as_float64, as_json, check_precision, jax, keras, np

OUTPUT = Path(__file__).resolve().parent / "keras_normalization.npz"
MAX_BYTES = 100_000

LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "batch": ("BatchNormalization", {}),
    "batch_constants": ("BatchNormalization", {"momentum": 0.8, "epsilon": 0.05}),
    "batch_no_beta": ("BatchNormalization", {"center": False, "momentum": 0.9}),
    "batch_no_gamma": ("BatchNormalization", {"scale": False, "momentum": 0.9}),
    "batch_plain": ("BatchNormalization", {"center": False, "scale": False}),
    "layer": ("LayerNormalization", {}),
    "layer_constants": ("LayerNormalization", {"epsilon": 0.05}),
    "layer_no_beta": ("LayerNormalization", {"center": False}),
    "layer_no_gamma": ("LayerNormalization", {"scale": False}),
}
OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"learning_rate": 0.1}),
    "adam": ("Adam", {"learning_rate": 0.02}),
    "momentum_clipped": (
        "SGD",
        {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True, "clipnorm": 0.2},
    ),
}
PENALTY = {"l1": 0.004, "l2": 0.01}
STEPS, ROWS, FEATURES = 4, 9, 5


def draw_like(rng: np.random.Generator, layer: keras.Layer) -> list[np.ndarray]:
    """Random weights; variances are positive."""
    return [
        rng.uniform(0.5, 2.0, w.shape) if "variance" in w.name else rng.normal(0.5, 1.0, w.shape)
        for w in layer.weights
    ]


def record_layers() -> Arrays:
    """Outputs in training, step by step, with the weights after each; and in inference."""
    rng = np.random.default_rng(606)
    x = rng.normal(np.linspace(-3.0, 20.0, FEATURES), 2.0, (STEPS, ROWS, FEATURES))
    x[:, :, 3] = 7.0  # a constant feature
    out: Arrays = {"layer_data/x": x}
    for name, (cls, args) in LAYERS.items():
        layer = getattr(keras.layers, cls)(**args)
        layer.build((None, FEATURES))
        layer.set_weights(draw_like(rng, layer))
        prefix = f"layer/{name}"
        out[f"{prefix}/config"] = as_json({"class": cls, "args": args})
        out[f"{prefix}/names"] = as_json([w.name for w in layer.weights])
        weights, outputs = [layer.get_weights()], []
        for batch in x:
            outputs.append(as_float64(layer(batch, training=True)))
            weights.append(layer.get_weights())
        for i, values in enumerate(zip(*weights, strict=True)):
            out[f"{prefix}/weight{i}"] = as_float64(np.stack(values))
        out[f"{prefix}/training"] = np.stack(outputs)
        out[f"{prefix}/inference"] = as_float64(layer(x[0], training=False))
    return out


def record_defaults() -> Arrays:
    """Constructor defaults, as far as they are numbers."""
    out: Arrays = {}
    for cls in ("BatchNormalization", "LayerNormalization"):
        config = getattr(keras.layers, cls)().get_config()
        names = ("axis", "momentum", "epsilon", "center", "scale")
        out[f"defaults/{cls}"] = as_json({name: config[name] for name in names if name in config})
    return out


def record_fit() -> Arrays:
    """Trained weights, histories and predictions of a net with both layers."""
    rng = np.random.default_rng(707)
    x, x_val = rng.normal(1.0, 2.0, (20, 6)), rng.normal(1.0, 2.0, (7, 6))
    teacher = rng.normal(0.0, 1.0, (6, 3))
    y, y_val = (x @ teacher).argmax(axis=1), (x_val @ teacher).argmax(axis=1)
    out: Arrays = {"fit_data/x": x, "fit_data/y": y, "fit_data/x_val": x_val}
    out["fit_data/y_val"] = y_val
    for name, (cls, args) in OPTIMIZERS.items():
        penalty = keras.regularizers.L1L2(**PENALTY)
        model = keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(8, use_bias=False),
                keras.layers.BatchNormalization(momentum=0.9, gamma_regularizer=penalty),
                keras.layers.Activation("relu"),
                keras.layers.Dense(5),
                keras.layers.LayerNormalization(beta_regularizer=penalty),
                keras.layers.Activation("tanh"),
                keras.layers.BatchNormalization(momentum=0.9),
                keras.layers.Dense(3, "softmax"),
            ]
        )
        model.set_weights(draw_like(rng, model))
        model.compile(
            optimizer=getattr(keras.optimizers, cls)(**args),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        prefix = f"fit/{name}"
        out[f"{prefix}/config"] = as_json({"class": cls, "args": args, "penalty": PENALTY})
        for i, values in enumerate(model.get_weights()):
            out[f"{prefix}/initial/{i}"] = as_float64(values)
        history = model.fit(
            x,
            y,
            batch_size=8,
            epochs=4,
            shuffle=False,
            verbose=0,
            validation_data=(x_val, y_val),
        )
        for key, figures in history.history.items():
            out[f"{prefix}/history/{key}"] = as_float64(figures)
        for i, values in enumerate(model.get_weights()):
            out[f"{prefix}/final/{i}"] = as_float64(values)
        out[f"{prefix}/predict"] = as_float64(model.predict(x_val, batch_size=3, verbose=0))
    return out


def main() -> None:
    """Record everything and write `keras_normalization.npz`."""
    check_precision()
    versions = [f"{m.__name__} {m.__version__}" for m in (keras, jax, np)] + ["float64"]
    arrays = {"versions": np.array(versions), **record_layers(), **record_defaults()}
    arrays |= record_fit()
    np.savez_compressed(OUTPUT, **arrays)
    size = OUTPUT.stat().st_size
    assert size < MAX_BYTES, f"{OUTPUT.name} has grown to {size} bytes"
    print(f"{OUTPUT}: {len(arrays)} arrays, {size} bytes, {', '.join(versions)}")


if __name__ == "__main__":
    main()
