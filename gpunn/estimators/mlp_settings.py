"""Validation of the MLP estimators' parameters."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from gpunn.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from gpunn.specs import activations, losses, optimizers
from gpunn.specs.activations import AnyActivation
from gpunn.specs.losses import Loss
from gpunn.specs.optimizers import SGD, Adam, Optimizer
from gpunn.specs.registry import check_count, check_number

LEARNING_RATES = ("constant", "invscaling", "adaptive")
# Losses: scikit-learn's names and gpunn's.
LOSSES = {
    "squared_error": "mean_squared_error",
    "absolute_error": "mean_absolute_error",
    "huber": "huber",
}
# Losses that a regressor can have: those that do not expect probabilities.
REGRESSION_OPS = ("squared_error", "absolute_error", "huber")
FLAGS = ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping")


@dataclass(frozen=True)
class Settings:
    """Validated parameters of an estimator; `optimizer` is None for lbfgs."""

    hidden: tuple[int, ...]
    activation: AnyActivation
    optimizer: Optimizer | None
    alpha: float
    batch_size: int | None
    learning_rate: str
    learning_rate_init: float
    power_t: float
    max_iter: int
    shuffle: bool
    tol: float
    verbose: int
    warm_start: bool
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: float
    max_fun: int
    dropout: float
    device: str
    precision: str | None
    threads: int | None


def check_settings(estimator: Any) -> Settings:
    """Return the validated parameters of an MLPClassifier or MLPRegressor."""
    owner = type(estimator).__name__
    for name in FLAGS:
        if not isinstance(value := getattr(estimator, name), bool | np.bool_):
            raise ArgumentTypeError(f"{owner}: {name} must be a bool, not {value!r}.")
    if estimator.learning_rate not in LEARNING_RATES:
        raise UnknownNameError("learning_rate", estimator.learning_rate, LEARNING_RATES)
    check_seed(owner, estimator.random_state)
    patience: Any = estimator.n_iter_no_change
    if not (isinstance(patience, float) and patience == math.inf):
        patience = check_count(owner, "n_iter_no_change", patience)
    batch = estimator.batch_size
    if isinstance(batch, str) and batch != "auto":
        raise ArgumentError(f"{owner}: batch_size must be a whole number or 'auto', not {batch!r}.")
    verbose = estimator.verbose
    if not isinstance(verbose, bool | np.bool_):
        verbose = check_count(owner, "verbose", verbose, minimum=0)
    optimizer = _solver(estimator, owner)
    precision = estimator.precision
    if precision is None and optimizer is None:
        precision = "float64"
    settings = Settings(
        hidden=check_sizes(owner, "hidden_layer_sizes", estimator.hidden_layer_sizes),
        activation=activations.get(estimator.activation),
        optimizer=optimizer,
        alpha=check_number(owner, "alpha", estimator.alpha, minimum=0),
        batch_size=None if isinstance(batch, str) else check_count(owner, "batch_size", batch),
        learning_rate=estimator.learning_rate,
        learning_rate_init=check_number(
            owner, "learning_rate_init", estimator.learning_rate_init, above=0
        ),
        power_t=check_number(owner, "power_t", estimator.power_t, minimum=0),
        max_iter=check_count(owner, "max_iter", estimator.max_iter),
        shuffle=bool(estimator.shuffle),
        tol=check_number(owner, "tol", estimator.tol, minimum=0),
        verbose=int(verbose),
        warm_start=bool(estimator.warm_start),
        early_stopping=bool(estimator.early_stopping),
        validation_fraction=check_number(
            owner, "validation_fraction", estimator.validation_fraction, minimum=0, below=1
        ),
        n_iter_no_change=patience,
        max_fun=check_count(owner, "max_fun", estimator.max_fun),
        dropout=check_number(owner, "dropout", estimator.dropout, minimum=0, below=1),
        device=estimator.device,
        precision=precision,
        threads=estimator.threads,
    )
    if settings.optimizer is None and settings.dropout:
        raise ArgumentError(
            f"{owner}: solver='lbfgs' needs a deterministic loss, so it cannot be used with "
            f"dropout; set dropout=0, or use solver='adam'."
        )
    return settings


def check_sizes(owner: str, argument: str, sizes: Any) -> tuple[int, ...]:
    """Return sizes of hidden layers, given as a whole number or a sequence of them."""
    if isinstance(sizes, numbers.Integral) and not isinstance(sizes, bool):
        sizes = (sizes,)
    if isinstance(sizes, str) or not isinstance(sizes, Sequence | np.ndarray):
        raise ArgumentTypeError(
            f"{owner}: {argument} must be a whole number or a sequence of them, not {sizes!r}."
        )
    try:
        return tuple(check_count(owner, argument, size) for size in sizes)
    except ArgumentError as error:
        raise ArgumentError(f"{owner}: {argument} must be > 0, got {list(sizes)}.") from error


def check_seed(owner: str, random_state: Any) -> np.random.RandomState:
    """Return the random generator for `random_state`."""
    try:
        return check_random_state(random_state)
    except ValueError as error:
        raise ArgumentError(
            f"{owner}: random_state must be an int from 0 to 2**32 - 1, a "
            f"numpy.random.RandomState or None, not {random_state!r}."
        ) from error


def regression_loss(identifier: Any) -> Loss:
    """Return the loss of a regressor."""
    if isinstance(identifier, str):
        known = {*LOSSES, *LOSSES.values(), "mse", "mae"}
        if identifier not in known:
            raise UnknownNameError("loss", identifier, LOSSES)
        identifier = LOSSES.get(identifier, identifier)
    loss = losses.get(identifier)
    if loss.op not in REGRESSION_OPS:
        raise ArgumentError(
            f"loss: {type(loss).__name__} is not for regression; use one of "
            f"{', '.join(map(repr, LOSSES))}."
        )
    return loss


def _solver(estimator: Any, owner: str) -> Optimizer | None:
    solver, rate = estimator.solver, estimator.learning_rate_init
    rate = check_number(owner, "learning_rate_init", rate, above=0)
    momentum = check_number(owner, "momentum", estimator.momentum, minimum=0, maximum=1)
    beta_1 = check_number(owner, "beta_1", estimator.beta_1, minimum=0, below=1)
    beta_2 = check_number(owner, "beta_2", estimator.beta_2, minimum=0, below=1)
    epsilon = check_number(owner, "epsilon", estimator.epsilon, above=0)
    if isinstance(solver, Optimizer):
        return solver
    if not isinstance(solver, str):
        raise ArgumentTypeError(
            f"{owner}: solver must be a name or an optimizer of gpunn.optimizers, not {solver!r}."
        )
    if solver == "lbfgs":
        return None
    if solver == "sgd":
        return SGD(rate, momentum, bool(estimator.nesterovs_momentum) and momentum > 0)
    if solver == "adam":
        return Adam(rate, beta_1, beta_2, epsilon)
    if solver not in (names := (*optimizers.optimizers.names(), "lbfgs")):
        raise UnknownNameError("solver", solver, names)
    return replace(optimizers.get(solver), learning_rate=rate)  # type: ignore[call-arg]
