"""Data and models that mistakes are made with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn import Input, Model, Sequential, layers
from gpunn.errors import GpunnError

Dense = layers.Dense
X = np.random.default_rng(0).normal(0.0, 1.0, (20, 4))
Y = np.arange(20) % 3
ONE_HOT = np.eye(3)[Y]
SPARSE = "sparse_categorical_crossentropy"


def with_value(value: float) -> np.ndarray:
    """X with `value` in row 3, column 1."""
    x = X.copy()
    x[3, 1] = value
    return x


NAN, INF, HUGE = map(with_value, (np.nan, np.inf, 1e300))
Y_NAN, Y_HUGE = (np.where(np.arange(20) == 7, value, 0.5) for value in (np.nan, 1e300))


def model(
    loss: Any = SPARSE, activation: str | None = "softmax", units: int = 3, **kwargs: Any
) -> Sequential:
    made = Sequential([Input((4,)), Dense(5, "relu", name="first"), Dense(units, activation)])
    made.compile(kwargs.pop("optimizer", "sgd"), loss, **({"device": "reference"} | kwargs))
    return made


def regression(units: int = 1, loss: str = "mse") -> Sequential:
    return model(loss, None, units)


def stack(*rest: Any, loss: Any = None, metrics: Any = None) -> Sequential:
    """Compile layers after an input of 4 features."""
    made = Sequential([Input((4,)), *rest])
    made.compile("sgd", loss, metrics, device="reference")
    return made


def fit(x: Any = X, y: Any = Y, **kwargs: Any) -> Any:
    return model().fit(x, y, **({"verbose": 0, "batch_size": 5} | kwargs))


def two() -> Model:
    a, b = Input((3,), name="a"), Input((2,), name="b")
    hidden = Dense(4, name="h")(a)
    joined = layers.Concatenate()([hidden, b])
    return Model([a, b], [Dense(1, name="main")(joined), Dense(1, name="aux")(hidden)])


def two_compiled(loss: Any = "mse", metrics: Any = None, loss_weights: Any = None) -> Model:
    made = two()
    made.compile("sgd", loss, metrics, loss_weights=loss_weights, device="reference")
    return made


XX, YY = [np.zeros((10, 3)), np.zeros((10, 2))], [np.zeros(10), np.zeros(10)]


def deferred() -> Sequential:
    made = Sequential([Dense(5, "relu"), Dense(3, "softmax")])
    made.compile("sgd", SPARSE, device="reference")
    return made


def adapted(features: int) -> Any:
    layer = layers.Normalization(name="norm")
    layer.adapt(np.random.default_rng(0).normal(0.0, 1.0, (9, features)))
    return layer


def adapted_late() -> Any:
    layer = layers.Normalization(name="norm")
    made = Sequential([Input((3,)), layer, Dense(1)])
    layer.adapt(X)
    return made.predict(X[:, :3])


def add_twice() -> None:
    made = Sequential([Input((4,)), Dense(3, name="same")])
    made.add(Dense(2, name="same"))


def shared_layer() -> Model:
    a, b, shared = Input((3,)), Input((4,)), Dense(3, name="shared")
    return Model([a, b], [shared(a), shared(b)])


def unused_input() -> Model:
    x = Input((3,))
    return Model([Input((3,), name="unused"), x], Dense(1)(x))


def not_an_input() -> Model:
    hidden = Dense(3)(Input((4,)))
    return Model(hidden, Dense(1)(hidden))


def twice_in_a_list() -> Sequential:
    layer = Dense(3, name="d")
    return Sequential([layer, layer])


def stack_one() -> Sequential:
    made = Sequential([Input((1,)), Dense(1)])
    made.compile("sgd", "mse", device="reference")
    return made


def empty() -> Sequential:
    made = Sequential()
    made.compile("sgd", "mse", device="reference")
    return made


def softmax_missing_late() -> None:
    made = Sequential([Dense(3)])
    made.compile("sgd", SPARSE, device="reference")
    made.fit(X, Y, verbose=0)


# What is done, the error's class, and what its message must say, in order, between the "...".
Case = tuple[Callable[[], Any], type[GpunnError], str]
