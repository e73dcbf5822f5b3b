"""Record what Keras 3 in float32 computes for the chapter's nets: outputs, losses, gradients.

Usage, in an environment with Keras and JAX::

    python tests/recordings/record_keras_nets.py

writes ``keras_nets.npz`` next to this file. Data and weights are drawn by NumPy from fixed seeds,
here and in the test (`nets`, `weights`, `data`), so that the file holds results only: per net
``outputs/<i>``, ``losses`` (the total, then each output's where there are several) and, for each
weight in Keras's order, ``gradient/<i>`` (of large kernels every 28th row) and
``gradient_sums/<i>`` (the float64 sums along both axes, which every element is part of). The
gradients are those of the total loss by ``jax.grad``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

OUTPUT = Path(__file__).parent / "keras_nets.npz"
ROWS = 32
NETS = ("fashion_mnist", "housing", "wide_and_deep", "gated")
LOSS_WEIGHTS = [0.9, 0.1]
Array = np.ndarray[Any, Any]


def net(name: str, keras: Any) -> tuple[Any, dict[str, Any]]:
    """Return a net of the chapter, made by `keras` (or gpunn), and its arguments of compile."""
    layers = keras.layers
    if name == "fashion_mnist":
        stack = [layers.Input((28, 28)), layers.Flatten(), layers.Dense(300, activation="relu")]
        stack += [layers.Dense(100, activation="relu"), layers.Dense(10, activation="softmax")]
        return keras.Sequential(stack), {"loss": "sparse_categorical_crossentropy"}
    if name == "housing":
        stack = [layers.Input((8,)), layers.Dense(30, activation="relu"), layers.Dense(1)]
        return keras.Sequential(stack), {"loss": "mse"}
    if name == "gated":
        x = layers.Input((8,))
        gate = layers.Dense(8, activation="sigmoid")(x)
        product = layers.multiply([x, gate, layers.Dense(8, activation="tanh")(x)])
        mean = layers.average([product, gate, x])
        return keras.Model(x, layers.Dense(1)(mean)), {"loss": "mse"}
    wide, deep = layers.Input((5,), name="wide_input"), layers.Input((6,), name="deep_input")
    hidden1 = layers.Dense(30, activation="relu", name="hidden1")(deep)
    hidden2 = layers.Dense(30, activation="relu", name="hidden2")(hidden1)
    both = layers.concatenate([wide, hidden2])
    outputs = [
        layers.Dense(1, name="main_output")(both),
        layers.Dense(1, name="aux_output")(hidden2),
    ]
    model = keras.Model([wide, deep], outputs)
    return model, {"loss": ["mse", "mse"], "loss_weights": LOSS_WEIGHTS}


def weights(name: str) -> list[Array]:
    """Return weights for the net, float32, in the order of its layers."""
    sizes = {
        "fashion_mnist": [(784, 300), (300, 100), (100, 10)],
        "housing": [(8, 30), (30, 1)],
        "wide_and_deep": [(6, 30), (30, 30), (35, 1), (30, 1)],
        "gated": [(8, 8), (8, 8), (8, 1)],
    }
    rng = np.random.default_rng(NETS.index(name))
    drawn = []
    for fan_in, fan_out in sizes[name]:
        drawn.append(rng.standard_normal((fan_in, fan_out)) * (2 / fan_in) ** 0.5)
        drawn.append(rng.standard_normal(fan_out) * 0.1)
    return [values.astype(np.float32) for values in drawn]


def data(name: str) -> tuple[list[Array], list[Array]]:
    """Return one batch: the inputs, and the targets of each output."""
    rng = np.random.default_rng(100 + NETS.index(name))
    if name == "fashion_mnist":
        images = rng.integers(0, 256, (ROWS, 28, 28)).astype(np.float32) / np.float32(255)
        return [images], [rng.integers(0, 10, ROWS).astype(np.int32)]
    x = rng.standard_normal((ROWS, 8)).astype(np.float32)
    y = rng.standard_normal((ROWS, 1)).astype(np.float32)
    return ([x], [y]) if name in ("housing", "gated") else ([x[:, :5], x[:, 2:]], [y, y])


def stored(gradient: Array) -> tuple[Array, Array]:
    """Return what is kept of a gradient: some rows, and the sums along both axes."""
    wide = gradient.astype(np.float64)
    sums = np.concatenate([wide.sum(axis=axis).ravel() for axis in range(gradient.ndim)])
    return (gradient[::28] if gradient.size > 100_000 else gradient), sums


def record(name: str) -> dict[str, Array]:
    """Compute a net with Keras."""
    import jax
    import keras

    model, compiling = net(name, keras)
    model.set_weights(weights(name))
    xs, ys = data(name)
    factors = compiling.get("loss_weights", [1.0])
    given = compiling["loss"] if isinstance(compiling["loss"], list) else [compiling["loss"]]
    losses = [keras.losses.get(loss) for loss in given]

    def total(trainable: Any) -> Any:
        outputs, _ = model.stateless_call(trainable, [], xs if len(xs) > 1 else xs[0])
        outputs = outputs if isinstance(outputs, list) else [outputs]
        parts = [
            keras.ops.mean(loss(y, output))
            for loss, y, output in zip(losses, ys, outputs, strict=True)
        ]
        return sum(f * p for f, p in zip(factors, parts, strict=True)), (parts, outputs)

    trainable = [v.value for v in model.trainable_variables]
    (value, (parts, outputs)), gradients = jax.value_and_grad(total, has_aux=True)(trainable)
    found = {f"{name}/outputs/{i}": np.asarray(output) for i, output in enumerate(outputs)}
    found[f"{name}/losses"] = np.asarray([value, *(parts if len(parts) > 1 else [])])
    for i, gradient in enumerate(gradients):
        kept, sums = stored(np.asarray(gradient))
        found[f"{name}/gradient/{i}"], found[f"{name}/gradient_sums/{i}"] = kept, sums
    return found


def main() -> None:
    """Record all nets."""
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import keras

    found: dict[str, Array] = {}
    for name in NETS:
        found |= record(name)
    versions = {"keras": keras.__version__, "jax": jax.__version__, "numpy": np.__version__}
    found["versions"] = np.array(str(versions))
    np.savez_compressed(OUTPUT, **found)
    print(f"{OUTPUT}: {OUTPUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
