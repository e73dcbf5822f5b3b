"""The net that tests on a GPU train."""

from __future__ import annotations

from typing import Any

import gpunn
from gpunn import layers


def net(
    optimizer: Any = "adam",
    precision: str = "float32",
    device: str = "cuda",
    hidden: tuple[int, ...] = (300, 100),
    eager: bool = False,
) -> gpunn.Model:
    first, *others = (layers.Dense(units, activation="relu") for units in hidden)
    made = gpunn.Sequential(
        [
            gpunn.Input((784,)),
            layers.Rescaling(1 / 255),
            first,
            layers.Dropout(0.2),
            *others,
            layers.Dense(10, activation="softmax"),
        ]
    )
    kinds = {"device": device, "precision": precision, "run_eagerly": eager}
    made.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"], seed=0, **kinds)
    return made
