"""Trains models of Keras or of gpunn, and keeps what comes of it: for ``sharing_nets.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Recorder:
    """Trains models of `keras` (or gpunn) on drawn data, and keeps what comes of it.

    Parameters
    ----------
    keras : module
    **compiling
        Further arguments of `compile`.

    Attributes
    ----------
    found : dict of str to array
        What was kept, by the wiring's names.
    """

    def __init__(self, keras: Any, **compiling: Any) -> None:
        self.keras, self.layers, self._compiling = keras, keras.layers, compiling
        self.found: dict[str, Array] = {}
        self._rng = np.random.default_rng(501)

    def draw(self, *shape: int) -> Array:
        return self._rng.normal(size=shape)

    def start(self, *models: Any) -> None:
        """Set weights that are the same in both libraries; variances are positive."""
        for model in models:
            weights = [self._rng.normal(0.0, 0.5, np.shape(w)) for w in model.get_weights()]
            model.set_weights(weights)

    def start_layer(self, layer: Any) -> None:
        """As `start`; all positive, for the moving variance of a BatchNormalization."""
        weights = [self._rng.uniform(0.5, 1.5, np.shape(w)) for w in layer.get_weights()]
        layer.set_weights(weights)

    def compile(self, optimizer: Any, *models: Any, loss: str = "mse") -> None:
        """Compile each of the models with an optimizer of its own, ``("Adam", {...})``."""
        kind, arguments = optimizer
        for model in models:
            made = getattr(self.keras.optimizers, kind)(**arguments)
            model.compile(optimizer=made, loss=loss, **self._compiling)

    def fit(self, name: str, model: Any, x: Any, y: Any, epochs: int = 2) -> None:
        history = model.fit(x, y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
        self.keep(f"{name}/history", history.history["loss"])

    def note(self, name: str, *models: Any) -> None:
        """Keep the weights of the models."""
        for number, model in enumerate(models):
            for i, values in enumerate(model.get_weights()):
                self.keep(f"{name}/{number}/{i}", values)

    def predict(self, name: str, model: Any, x: Any) -> None:
        self.keep(f"{name}/predict", model.predict(x, verbose=0))

    def evaluate(self, name: str, model: Any, x: Any, y: Any) -> None:
        self.keep(f"{name}/evaluate", model.evaluate(x, y, verbose=0))

    def keep(self, name: str, values: Any) -> None:
        assert name not in self.found, name
        self.found[name] = np.asarray(values, dtype=np.float64)

    def dense(self, units: int, activation: str | None = "tanh", **arguments: Any) -> Any:
        return self.layers.Dense(units, activation=activation, **arguments)

    def sequential(self, width: int, layers: Sequence[Any]) -> Any:
        return self.keras.Sequential([self.keras.Input((width,)), *layers])
