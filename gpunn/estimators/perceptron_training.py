"""Training of one linear threshold unit: passes over the data until nothing improves."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg.blas import get_blas_funcs
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.utils import check_random_state
from sklearn.utils.extmath import safe_sparse_dot

from gpunn.backends.cpu.loops import perceptron as kernels
from gpunn.errors import DataError
from gpunn.estimators.perceptron_checks import Settings

Array = np.ndarray[Any, Any]

PENALTIES = {
    None: kernels.NO_PENALTY,
    "l1": kernels.L1,
    "l2": kernels.L2,
    "elasticnet": kernels.ELASTICNET,
}
LARGEST_SEED = 2**31 - 1
# Sparse features are mostly 0, so the intercept would learn faster than they do.
SPARSE_INTERCEPT_DECAY = 0.01


@dataclass(frozen=True)
class Unit:
    """What was learned: weights (n_features,) in the type of the data, and how long it took."""

    weights: Array
    intercept: float
    n_iter: int


def validation_mask(y: Array, sample_weight: Array, settings: Settings) -> Array:
    """Return which samples validate: the same part of each class, none without early stopping."""
    mask = np.zeros(y.shape[0], dtype=np.bool_)
    if not settings.early_stopping:
        return mask
    splitter = StratifiedShuffleSplit(
        test_size=settings.validation_fraction, random_state=settings.random_state
    )
    _, held_out = next(splitter.split(np.zeros((y.shape[0], 1)), y))
    if not np.any(sample_weight[held_out] > 0):
        raise DataError(
            "The sample weights for validation set are all zero; use a different random_state, or "
            "early_stopping=False."
        )
    mask[held_out] = True
    return mask


def train_unit(
    X: Any,
    targets: Array,
    sample_weight: Array,
    held_out: Array | None,
    weights: Array,
    intercept: float,
    class_weights: tuple[float, float],
    settings: Settings,
    random_state: Any,
) -> Unit:
    """Train one unit.

    Parameters
    ----------
    X : array or CSR matrix of shape (n_samples, n_features)
        float32 or float64; the other arrays have its type.
    targets : array of shape (n_samples,)
        1 and -1.
    sample_weight : array of shape (n_samples,)
    held_out : bool array of shape (n_samples,), optional
        Samples for validation; by default drawn here, after the first number of `random_state`.
    weights : array of shape (n_features,)
        Where to start; left as it is.
    intercept : float
    class_weights : tuple of float
        Weight of the positive and of the negative class.
    settings : Settings
    random_state : int, RandomState or None
        Gives the seed of the shuffling.

    Raises
    ------
    DataError
        If weights become infinite or NaN.
    """
    generator = check_random_state(random_state)
    # scikit-learn draws one number for sampling with replacement, which nobody does here.
    generator.randint(1, LARGEST_SEED)
    if held_out is None:
        held_out = validation_mask(targets, sample_weight, settings)
    seed = np.uint32(generator.randint(LARGEST_SEED))

    training = _Training(X, targets, sample_weight, held_out, weights, intercept, settings)
    n_iter = training.run(seed, class_weights)
    return Unit(training.weights, float(training.state[kernels.INTERCEPT]), n_iter)


class _Training:
    """One unit on its way: its arrays, as the kernels take them."""

    def __init__(
        self,
        X: Any,
        targets: Array,
        sample_weight: Array,
        held_out: Array,
        weights: Array,
        intercept: float,
        settings: Settings,
    ) -> None:
        self.settings = settings
        self.targets, self.sample_weight, self.held_out = targets, sample_weight, held_out
        self.trained = targets.size - int(np.count_nonzero(held_out))
        self.weights = weights.copy()
        self.penalty = PENALTIES[settings.penalty]
        self.l1_ratio = {"l1": 1.0, "l2": 0.0}.get(str(settings.penalty), settings.l1_ratio)
        has_l1 = self.penalty in (kernels.L1, kernels.ELASTICNET)
        self.given = np.zeros(weights.size if has_l1 else 0, dtype=weights.dtype)
        self.order = np.arange(targets.size, dtype=np.int32)

        if sparse.issparse(X):
            self.data, self.columns, self.starts = X.data, X.indices, X.indptr
            self.intercept_decay = SPARSE_INTERCEPT_DECAY
        else:
            self.data = np.ascontiguousarray(X).ravel()
            self.columns = np.arange(weights.size, dtype=np.int32)
            self.starts = np.empty(0, dtype=np.int32)
            self.intercept_decay = 1.0
        if settings.early_stopping:
            self.validation = X[held_out], targets[held_out], sample_weight[held_out]

        dot, asum = get_blas_funcs(("dot", "asum"), (self.weights,))
        self.state = np.zeros(kernels.STATE_SIZE)
        self.state[kernels.INTERCEPT] = intercept
        self.state[kernels.SCALE] = 1.0
        self.state[kernels.SQUARED_NORM] = dot(self.weights, self.weights)
        self.state[kernels.L1_NORM] = asum(self.weights)

    def run(self, seed: np.uint32, class_weights: tuple[float, float]) -> int:
        """Make passes until `tol` or `max_iter` says so, and return how many."""
        settings = self.settings
        started = time.perf_counter()
        tol = -math.inf if settings.tol is None else settings.tol
        # Of the objective, or of the negative validation score: the smaller, the better.
        best = math.inf
        without_improvement = 0
        for n_iter in range(1, settings.max_iter + 1):
            if settings.verbose:
                print(f"-- Epoch {n_iter}")
            if settings.shuffle:
                # The same seed each time, on the order that the last pass left.
                kernels.shuffle(self.order, seed)
            loss, objective = self._pass(class_weights)
            if not (
                math.isfinite(self.state[kernels.INTERCEPT]) and np.isfinite(self.weights).all()
            ):
                raise DataError(
                    f"Floating-point under-/overflow occurred at epoch #{n_iter}. Scaling input "
                    f"data with StandardScaler or MinMaxScaler might help."
                )
            score = self._validation_score() if settings.early_stopping else None
            if settings.verbose:
                self._report(n_iter, loss, objective, score, started)
            figure = objective / self.trained if score is None else -score
            if tol > -math.inf and figure > best - tol:
                without_improvement += 1
            else:
                without_improvement = 0
            best = min(best, figure)
            if without_improvement >= settings.n_iter_no_change:
                if settings.verbose:
                    seconds = time.perf_counter() - started
                    print(f"Convergence after {n_iter} epochs took {seconds:.2f} seconds")
                break
        kernels.finish(self.weights, self.state)
        return n_iter

    def _pass(self, class_weights: tuple[float, float]) -> tuple[float, float]:
        settings = self.settings
        number = self.weights.dtype.type
        loss, objective = kernels.run_pass(
            self.data,
            self.columns,
            self.starts,
            self.order,
            self.held_out,
            self.targets,
            self.sample_weight,
            self.weights,
            self.given,
            self.state,
            self.penalty,
            settings.alpha,
            self.l1_ratio,
            settings.eta0,
            settings.fit_intercept,
            self.intercept_decay,
            number(class_weights[0]),
            number(class_weights[1]),
            1e-6 if number is np.float32 else 1e-9,
            bool(settings.verbose) or not settings.early_stopping,
        )
        return loss, objective

    def _validation_score(self) -> float:
        """Accuracy on the samples held out.

        As in scikit-learn the weights are without their scale, which an l2 penalty shrinks: then
        the intercept counts for less than it does in the weights that come out.
        """
        X, targets, sample_weight = self.validation
        scores = safe_sparse_dot(X, self.weights.reshape(1, -1).T, dense_output=True)
        positive = (scores + np.atleast_1d(self.state[kernels.INTERCEPT])).ravel() > 0
        return float(np.average(positive == (targets > 0), weights=sample_weight))

    def _report(
        self, n_iter: int, loss: float, objective: float, score: float | None, started: float
    ) -> None:
        norm = math.sqrt(self.state[kernels.SQUARED_NORM])
        line = (
            f"Norm: {norm:.2f}, NNZs: {np.count_nonzero(self.weights)}, "
            f"Bias: {self.state[kernels.INTERCEPT]:.6f}, T: {n_iter * self.trained}, "
            f"Avg. loss: {loss / self.trained:f}, Objective: {objective / self.trained:f}"
        )
        print(line if score is None else f"{line}, Validation score: {score:f}")
        print(f"Total training time: {time.perf_counter() - started:.2f} seconds.")
