"""Keras 3 on JAX: `compile`, `fit`, `predict`."""

from __future__ import annotations

import os
from typing import Any

BATCH = 1024  # rows per call of predict
MATMUL = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}


class Peer:
    """See the package's docstring."""

    def __init__(
        self, images: Any, labels: Any, weights: list[Any], threads: int, device: str
    ) -> None:
        os.environ["KERAS_BACKEND"] = "jax"
        if not device.startswith("cuda"):
            os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # others use the GPU too
        import jax
        import keras

        if device.startswith("cuda") and jax.default_backend() != "gpu":
            raise RuntimeError("this JAX finds no GPU")
        self.jax, self.keras = jax, keras
        self.images, self.labels, self.weights = images, labels, weights
        self.versions = {"keras": str(keras.__version__), "jax": str(jax.__version__)}

    def setup(
        self, batch_size: int, optimizer: str, rate: float, dropout: float, precision: str
    ) -> None:
        """Make and compile the model."""
        keras = self.keras
        if precision == "float64":
            raise ValueError("Keras on JAX computes in float32")
        self.jax.config.update("jax_default_matmul_precision", MATMUL[precision])
        layers: list[Any] = [keras.Input((self.images.shape[1],))]
        for bias in self.weights[1:-1:2]:
            layers.append(keras.layers.Dense(len(bias), activation="relu"))
            layers += [keras.layers.Dropout(dropout)] if dropout else []
        layers.append(keras.layers.Dense(len(self.weights[-1]), activation="softmax"))
        self.net = keras.Sequential(layers)
        self.net.set_weights(self.weights)
        make = {
            "sgd": lambda: keras.optimizers.SGD(rate),
            "momentum": lambda: keras.optimizers.SGD(rate, momentum=0.9),
            "adam": lambda: keras.optimizers.Adam(rate),
        }
        self.net.compile(make[optimizer](), "sparse_categorical_crossentropy")
        self.batch_size = batch_size

    def epoch(self, steps: int, shuffle: bool) -> float:
        """Train `steps` steps; return the mean loss."""
        rows, options = steps * self.batch_size, {"epochs": 1, "verbose": 0, "shuffle": shuffle}
        history = self.net.fit(
            self.images[:rows], self.labels[:rows], batch_size=self.batch_size, **options
        )
        return float(history.history["loss"][0])

    def predict(self, rows: int, start: int = 0) -> Any:
        """Return probabilities."""
        if rows == 1:  # the quick way for a few rows
            return self.net.predict_on_batch(self.images[start : start + 1])
        images = self.images[start : start + rows]
        return self.net.predict(images, batch_size=min(BATCH, rows), verbose=0)
