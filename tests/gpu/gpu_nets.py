"""The net that tests on a GPU train."""

from __future__ import annotations

from typing import Any

import gpunn
from gpunn import layers


def net(optimizer: Any = "adam", precision: str = "float32", device: str = "cuda") -> gpunn.Model:
    made = gpunn.Sequential(
        [
            gpunn.Input((784,)),
            layers.Rescaling(1 / 255),
            layers.Dense(300, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(100, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    loss = "sparse_categorical_crossentropy"
    made.compile(optimizer, loss, ["accuracy"], device=device, precision=precision, seed=0)
    return made
