"""Small models, data for them, and how arrays are compared."""

from __future__ import annotations

from typing import Any

import numpy as np

import gpunn
from gpunn import layers

RNG = np.random.default_rng(7)
X = RNG.normal(0.0, 1.0, (24, 4)).astype(np.float32)
LABELS = np.arange(24) % 3
TARGETS = RNG.normal(0.0, 1.0, (24, 1)).astype(np.float32)
SETTINGS: dict[str, Any] = {"device": "reference", "seed": 3}


def classifier(**settings: Any) -> gpunn.Sequential:
    model = gpunn.Sequential(
        [
            gpunn.Input((4,)),
            layers.Dense(5, "relu", name="hidden"),
            layers.Dense(3, "softmax", name="out"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", **(SETTINGS | settings))
    return model


def wide_and_deep() -> gpunn.Model:
    """The functional API's usual example: two inputs, two outputs."""
    wide, deep = gpunn.Input((3,), name="wide"), gpunn.Input((2,), name="deep")
    hidden = layers.Dense(4, activation="relu", name="hidden")(deep)
    joined = layers.concatenate([wide, hidden])
    outputs = [layers.Dense(1, name="main")(joined), layers.Dense(1, name="aux")(hidden)]
    return gpunn.Model(inputs=[wide, deep], outputs=outputs)


WIDE, DEEP = (RNG.normal(0.0, 1.0, (24, n)).astype(np.float32) for n in (3, 2))
MAIN, AUX = (RNG.normal(0.0, 1.0, (24, 1)).astype(np.float32) for _ in range(2))


def assert_equal(first: Any, second: Any) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def differ(first: Any, second: Any) -> bool:
    return any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))
