"""What a perceptron is given, checked: parameters, weights to start with, weights of samples."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import check_array, check_random_state

from gpunn.errors import ArgumentError, ArgumentTypeError, DataError, ShapeError, UnknownNameError
from gpunn.specs.registry import check_count, check_number

PENALTIES = ("l1", "l2", "elasticnet")

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Settings:
    """Parameters of the estimator, checked; those of its constructor that training needs."""

    penalty: str | None
    alpha: float
    l1_ratio: float
    fit_intercept: bool
    max_iter: int
    tol: float | None
    shuffle: bool
    verbose: int
    eta0: float
    n_jobs: int | None
    random_state: Any
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int


def check_settings(estimator: Any) -> Settings:
    """Return the parameters of a Perceptron, checked."""
    for name in ("fit_intercept", "shuffle", "early_stopping", "warm_start"):
        if not isinstance(value := getattr(estimator, name), bool | np.bool_):
            raise ArgumentTypeError(f"Perceptron: {name} must be a bool, not {value!r}.")
    if estimator.penalty not in (None, *PENALTIES):
        raise UnknownNameError("penalty", estimator.penalty, PENALTIES)
    weights = estimator.class_weight
    balanced = isinstance(weights, str) and weights == "balanced"
    if not (weights is None or isinstance(weights, dict) or balanced):
        raise ArgumentError(
            f"Perceptron: class_weight must be a dict, 'balanced' or None, not {weights!r}."
        )
    if estimator.n_jobs is not None and not isinstance(estimator.n_jobs, numbers.Integral):
        raise ArgumentTypeError(
            f"Perceptron: n_jobs must be a whole number or None, not {estimator.n_jobs!r}."
        )
    try:
        check_random_state(estimator.random_state)
    except ValueError as error:
        raise ArgumentError(
            f"Perceptron: random_state must be an int from 0 to 2**32 - 1, a "
            f"numpy.random.RandomState or None, not {estimator.random_state!r}."
        ) from error
    owner = "Perceptron"
    verbose = estimator.verbose
    if not isinstance(verbose, bool | np.bool_):
        verbose = check_count(owner, "verbose", verbose, minimum=0)
    return Settings(
        penalty=estimator.penalty,
        alpha=check_number(owner, "alpha", estimator.alpha, minimum=0),
        l1_ratio=check_number(owner, "l1_ratio", estimator.l1_ratio, minimum=0, maximum=1),
        fit_intercept=bool(estimator.fit_intercept),
        max_iter=check_count(owner, "max_iter", estimator.max_iter),
        tol=None if estimator.tol is None else check_number(owner, "tol", estimator.tol, minimum=0),
        shuffle=bool(estimator.shuffle),
        verbose=int(verbose),
        eta0=check_number(owner, "eta0", estimator.eta0, above=0),
        n_jobs=None if estimator.n_jobs is None else int(estimator.n_jobs),
        random_state=estimator.random_state,
        early_stopping=bool(estimator.early_stopping),
        validation_fraction=check_number(
            owner, "validation_fraction", estimator.validation_fraction, above=0, below=1
        ),
        n_iter_no_change=check_count(owner, "n_iter_no_change", estimator.n_iter_no_change),
    )


def check_dense(coef: Any) -> Any:
    """Return `coef`, which must not be sparse."""
    if sparse.issparse(coef):
        raise ArgumentTypeError("Perceptron: training needs dense weights; call densify() first.")
    return coef


def check_start(coef: Any, intercept: Any, n_classes: int, X: Any) -> tuple[Array, Array]:
    """Return the first weights (units, n_features) and intercepts (units,), 0 where not given."""
    units, n_features = n_classes if n_classes > 2 else 1, X.shape[1]
    if coef is None:
        coef = np.zeros((units, n_features), X.dtype)
    coef = np.asarray(check_dense(coef), dtype=X.dtype)
    if units == 1 and coef.size == n_features:
        coef = coef.reshape(1, -1)
    if coef.shape != (units, n_features):
        raise ShapeError(
            f"Perceptron: the weights to start with (coef_init, or coef_ with warm_start) have "
            f"shape {coef.shape}; {n_classes} classes and {n_features} features need "
            f"{(units, n_features)}."
        )
    intercept = np.asarray(np.zeros(units) if intercept is None else intercept, dtype=X.dtype)
    if units == 1 and intercept.shape == ():
        intercept = intercept.reshape(1)
    if intercept.shape != (units,):
        raise ShapeError(
            f"Perceptron: the intercepts to start with (intercept_init, or intercept_ with "
            f"warm_start) have shape {intercept.shape}; {n_classes} classes need {(units,)}."
        )
    return coef, intercept


def check_sample_weight(sample_weight: Any, X: Any, zeros: bool) -> Array:
    """Return the weights of the samples in X's type, (n_samples,); all 0 only where `zeros`."""
    rows = X.shape[0]
    if sample_weight is None:
        return np.ones(rows, dtype=X.dtype)
    if isinstance(sample_weight, numbers.Number):
        sample_weight = np.full(rows, sample_weight)
    weights = check_array(
        sample_weight, ensure_2d=False, dtype=X.dtype, order="C", input_name="sample_weight"
    )
    if weights.ndim != 1:
        raise ShapeError(f"Sample weights must be 1D array or scalar, got {weights.ndim}D array.")
    if weights.shape != (rows,):
        raise ShapeError(f"sample_weight.shape == {weights.shape}, expected {(rows,)}!")
    if not zeros and not weights.any():
        raise DataError("Sample weights must contain at least one non-zero number.")
    return weights
