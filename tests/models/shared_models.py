"""Small models with shared and with frozen layers, and what tests ask of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn import Input, Model, Sequential, layers

RNG = np.random.default_rng(7)
X, Y, CODES = RNG.normal(size=(64, 4)), RNG.normal(size=(64, 1)), RNG.normal(size=(64, 3))
FIT: dict[str, Any] = {"batch_size": 16, "shuffle": False, "verbose": 0}
DEVICES = ("reference", "cpu")


def stack(**arguments: Any) -> Sequential:
    """Return a net 4 -> 3 -> 1 without activations; `arguments` are those of the first layer."""
    first = layers.Dense(3, name="a", **arguments)
    return Sequential([Input((4,)), first, layers.Dense(1, name="b")])


def with_normalization() -> Sequential:
    a, b = layers.Dense(3, name="a"), layers.Dense(1, name="b")
    return Sequential([Input((4,)), a, layers.BatchNormalization(name="bn"), b])


def compiled(
    model: Any, optimizer: Any = "adam", device: str = "reference", precision: str = "float64"
) -> Any:
    model.compile(optimizer, "mse", device=device, precision=precision, seed=5)
    return model


def moved(model: Model, train: Callable[[], object]) -> list[bool]:
    """Which weights a call changes."""
    before = model.get_weights()
    train()
    pairs = zip(model.get_weights(), before, strict=True)
    return [not np.array_equal(new, old) for new, old in pairs]


def pair(device: str = "reference") -> tuple[Any, Any]:
    """Return two models whose first layer is the same one, ``shared``; both have a head."""
    shared = layers.Dense(3, "tanh", name="shared")
    heads = layers.Dense(1, name="one"), layers.Dense(3, name="other")
    one, other = (Sequential([Input((4,)), shared, head]) for head in heads)
    return compiled(one, device=device), compiled(other, device=device)


def train(model: Any, epochs: int = 1) -> None:
    model.fit(X, Y if model.output_shape == (None, 1) else CODES, epochs=epochs, **FIT)


def equal(first: list[Any], second: list[Any]) -> bool:
    return len(first) == len(second) and all(map(np.array_equal, first, second))


def shared_weights(*models: Any) -> list[Any]:
    """Return the weights of the layer ``shared``, which all of the models agree on."""
    found = [model.get_layer("shared").get_weights() for model in models]
    assert all(equal(found[0], weights) for weights in found[1:])
    return found[0]
