"""How each named data set is trained unless told otherwise: the defaults of the command line.

A recipe was chosen on the training part alone (validation rows held out of it); the test part
had no say in it. (For digits, whose test part is 360 images, its figures for a few variants were
seen on the way; the choice was made by five-fold cross-validation.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gpunn.data.named import Dataset
from gpunn.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from gpunn.models.model import Model
from gpunn.models.sequential import Sequential
from gpunn.specs import optimizers, schedules
from gpunn.specs.layers import Dense, Dropout, Flatten, Input, Normalization, Rescaling
from gpunn.specs.optimizers import Optimizer
from gpunn.specs.registry import check_count, check_number
from gpunn.specs.schedules import LearningRateSchedule

Array = np.ndarray[Any, Any]
Pair = tuple[Array, Array]

SCHEDULES = ("constant", "cosine", "one-cycle")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Net and training of a data set.

    Attributes
    ----------
    dataset : str
        Name of the data set.
    hidden : tuple of int
        Units of the hidden layers.
    activation : str
        Of the hidden layers.
    batch_size : int
    optimizer : str
        By name, with Keras's default values.
    learning_rate : float
        The highest one of the schedule.
    schedule : {'constant', 'cosine', 'one-cycle'}
        The learning rate over all steps of the run.
    epochs, steps : int or None
        Length of the training; one of them.
    dropout : float
        Rate after each hidden layer.
    validation : int or float
        Rows, or the share of rows below 1, held out from the end of the training part; 0: none.
    scale : float or None
        What the inputs are multiplied by; None: standardised by mean and variance of the rows
        that are trained on.
    save_every : int
        Epochs between checkpoints.
    threads : int or None
        Threads of the CPU; None: all. Products of small nets are too short to share, and where
        other work keeps the cores busy, waiting for the second thread costs more than all else.
    """

    dataset: str
    hidden: tuple[int, ...]
    activation: str = "relu"
    batch_size: int
    optimizer: str = "adam"
    learning_rate: float
    schedule: Literal["constant", "cosine", "one-cycle"] = "cosine"
    epochs: int | None = None
    steps: int | None = None
    dropout: float = 0.0
    validation: float = 0
    scale: float | None = None
    save_every: int = 1
    threads: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if (self.epochs is None) == (self.steps is None):
            raise ArgumentError("Give epochs or steps, one of them.")
        check_count(self.dataset, "batch_size", self.batch_size)
        check_number(self.dataset, "learning_rate", self.learning_rate, minimum=0)
        check_number(self.dataset, "dropout", self.dropout, minimum=0, below=1)
        check_count(self.dataset, "save_every", self.save_every)
        for name in ("epochs", "steps"):
            if getattr(self, name) is not None:
                check_count(self.dataset, name, getattr(self, name))
        if self.schedule not in SCHEDULES:
            raise UnknownNameError("schedule", self.schedule, SCHEDULES)

    def total_steps(self, rows: int) -> int:
        """Return the steps of a whole training on `rows` rows."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return self.epochs * -(-rows // self.batch_size)


RECIPES = {
    recipe.dataset: recipe
    for recipe in (
        Recipe(
            dataset="digits",
            hidden=(300, 100),
            batch_size=50,
            learning_rate=3e-3,
            epochs=30,
            dropout=0.2,
            validation=100,
            scale=1 / 16,
            threads=1,
            save_every=10,  # an epoch takes 10 ms, and so does a save
        ),
        Recipe(
            dataset="mnist",
            hidden=(300, 100),
            batch_size=50,
            optimizer="sgd",
            learning_rate=0.3,
            steps=40_000,
            dropout=0.2,
            validation=5000,
            scale=1 / 255,
        ),
        Recipe(
            dataset="fashion-mnist",
            hidden=(300, 100),
            batch_size=50,
            learning_rate=1e-3,
            steps=40_000,
            dropout=0.2,
            validation=5000,
            scale=1 / 255,
        ),
        Recipe(
            dataset="california-housing",
            hidden=(128, 64),
            batch_size=64,
            learning_rate=5e-3,
            epochs=40,
            validation=2000,
            threads=1,
        ),
    )
}


def get(dataset: str) -> Recipe:
    """Return the recipe of a data set; underscores do for hyphens."""
    recipe = RECIPES.get(dataset.replace("_", "-"))
    if recipe is None:
        raise UnknownNameError("dataset", dataset, RECIPES)
    return recipe


def split(recipe: Recipe, dataset: Dataset) -> tuple[Pair, Pair | None]:
    """Return ``(x, y)`` to train on and to validate with: the last rows, None without any."""
    x, y, held = dataset.x_train, dataset.y_train, recipe.validation
    if isinstance(held, bool) or not isinstance(held, int | float):
        raise ArgumentTypeError(f"validation must be a number, not {held!r}.")
    if not 0 <= held < math.inf or (held >= 1 and held != int(held)):
        raise ArgumentError(
            f"validation must be a number of rows, or a share of them below 1, not {held!r}."
        )
    rows = round(len(x) * held) if held < 1 else int(held)
    if rows >= len(x):
        raise ArgumentError(
            f"validation: {rows} of {len(x)} training rows leaves nothing to train on."
        )
    if rows == 0:
        return (x, y), None
    return (x[:-rows], y[:-rows]), (x[-rows:], y[-rows:])


def build_model(recipe: Recipe, dataset: Dataset) -> Model:
    """Build the net: scaling, ``hidden1``, ``hidden2``, ..., ``outputs``; not compiled."""
    shape: Sequence[int] = dataset.x_train.shape[1:]
    layers: list[Any] = [Input(tuple(shape))]
    if len(shape) > 1:
        layers.append(Flatten())
    if recipe.scale is not None:
        layers.append(Rescaling(recipe.scale))
    else:
        normalization = Normalization()
        (x, _), _ = split(recipe, dataset)
        normalization.adapt(x.reshape(len(x), -1))
        layers.append(normalization)
    for number, units in enumerate(recipe.hidden, start=1):
        layers.append(Dense(units, activation=recipe.activation, name=f"hidden{number}"))
        if recipe.dropout:
            layers.append(Dropout(recipe.dropout))
    if dataset.classes is None:
        layers.append(Dense(1, name="outputs"))
    else:
        layers.append(Dense(dataset.classes, activation="softmax", name="outputs"))
    return Sequential(layers, name=recipe.dataset)


def build_optimizer(recipe: Recipe, total_steps: int) -> Optimizer:
    """Return the optimizer, its schedule spread over `total_steps`."""
    peak = float(recipe.learning_rate)
    rate: float | LearningRateSchedule = peak
    if recipe.schedule == "cosine":
        rate = schedules.CosineDecay(peak, total_steps)
    elif recipe.schedule == "one-cycle":
        rate = schedules.OneCycle(peak, total_steps)
    by_name = optimizers.get(recipe.optimizer)
    return type(by_name)(learning_rate=rate)  # type: ignore[call-arg]


def objective(dataset: Dataset) -> dict[str, Any]:
    """Return ``loss`` and ``metrics`` for `Model.compile`."""
    if dataset.task == "classification":
        return {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}
    return {"loss": "mean_squared_error", "metrics": ["rmse"]}
