"""A classifier that is trained, saved and loaded, and how two of them are compared."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from small_models import LABELS, X

import gpunn
from gpunn import Model, Sequential, layers, optimizers

SPARSE = "sparse_categorical_crossentropy"


def classifier(
    optimizer: Any = None, dropout: float = 0.0, device: str = "reference", **options: Any
) -> Sequential:
    model = Sequential(
        [
            gpunn.Input((4,)),
            layers.Dense(6, "relu", name="hidden"),
            layers.Dropout(dropout),
            layers.Dense(3, "softmax", name="out"),
        ]
    )
    optimizer = optimizers.Adam(0.02) if optimizer is None else optimizer
    model.compile(optimizer, SPARSE, metrics=["accuracy"], device=device, seed=3, **options)
    return model


def train(model: Model, epochs: int = 2, batch_size: int = 10, **options: Any) -> Model:
    model.fit(X, LABELS, batch_size=batch_size, epochs=epochs, verbose=0, **options)
    return model


def reloaded(model: Model, folder: Path, **options: Any) -> Model:
    options = {"device": model.compiled.device} | options
    return gpunn.load_model(model.save(folder / "model.keras"), **options)


def progress(model: Model) -> dict[str, Any]:
    """Return the slots and counts that the model's training goes on from."""
    state = pickle.loads(pickle.dumps(model))._state
    if not (state.begun or state.slots):
        return {}
    counts = {"step": state.step, "epoch": state.epoch}
    return {name: np.ravel(value) for name, value in (counts | state.slots).items()}


def assert_same(one: Model, other: Model) -> None:
    """Weights and the state of training are the same, bit for bit."""
    assert [w.tobytes() for w in one.get_weights()] == [w.tobytes() for w in other.get_weights()]
    mine, its = progress(one), progress(other)
    assert {name: value.tobytes() for name, value in mine.items()} == {
        name: value.astype(mine[name].dtype).tobytes() for name, value in its.items()
    }
    assert one.optimizer.iterations == other.optimizer.iterations
    assert one.optimizer == other.optimizer
