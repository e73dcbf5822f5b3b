"""What the MLP estimators share: building the model, preparing the data, training, prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_is_fitted

from gpunn.backends.interface import host_array
from gpunn.backends.select import select_backend
from gpunn.errors import ArgumentError, ArgumentTypeError, DataError, ShapeError
from gpunn.estimators import mlp_training
from gpunn.estimators.mlp_data import Array, check_weights, check_x, check_x_y, on_device
from gpunn.estimators.mlp_settings import Settings, check_seed, check_settings
from gpunn.estimators.workers import limited_threads
from gpunn.models.sequential import Sequential
from gpunn.specs.layers import Dense, Dropout, Input
from gpunn.specs.losses import Loss
from gpunn.specs.optimizers import SGD
from gpunn.specs.regularizers import L1L2PerRow

LARGEST_SEED = 2**31 - 1


class MLPBase(BaseEstimator, ABC):
    """Base class of `MLPClassifier` and `MLPRegressor`."""

    # Whether y is numeric; whether validation rows are stratified by class.
    _numeric = False
    _stratified = False
    # Factor by which the plan's loss, a mean over outputs, is reported.
    _mean_weight: float
    model_: Sequential
    n_outputs_: int
    out_activation_: str

    def __init__(
        self,
        hidden_layer_sizes: Any,
        activation: Any,
        *,
        solver: Any,
        alpha: float,
        batch_size: Any,
        learning_rate: str,
        learning_rate_init: float,
        power_t: float,
        max_iter: int,
        shuffle: bool,
        random_state: Any,
        tol: float,
        verbose: Any,
        warm_start: bool,
        momentum: float,
        nesterovs_momentum: bool,
        early_stopping: bool,
        validation_fraction: float,
        beta_1: float,
        beta_2: float,
        epsilon: float,
        n_iter_no_change: float,
        max_fun: int,
        dropout: float,
        device: str,
        precision: str | None,
        threads: int | None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dropout = dropout
        self.device = device
        self.precision = precision
        self.threads = threads

    # Targets, which the subclasses define

    @abstractmethod
    def _encode(self, y: Array, classes: Any, first: bool) -> Array:
        """Return targets for the model; on the first fit, sets attributes that describe them."""

    def _check_same_targets(self, y: Array) -> None:
        """Raise `DataError` if `warm_start` cannot continue with these targets."""

    @abstractmethod
    def _loss_and_factor(self, outputs: int) -> tuple[Loss, float]:
        """Return the plan's loss and the factor that makes its gradient equal to scikit-learn's."""

    @abstractmethod
    def _score_and_loss(
        self, outputs: Array, y: Array, weights: Array | None
    ) -> tuple[float, float]:
        """Return the score and the loss of outputs."""

    # Training

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation_data: Any = None,
        classes: Any = None,
        incremental: bool = False,
    ) -> Any:
        settings = check_settings(self)
        continues = hasattr(self, "model_") and (settings.warm_start or incremental)
        if incremental and settings.early_stopping:
            raise ArgumentError("partial_fit does not support early_stopping=True")
        X, y = check_x_y(self, X, y, reset=not continues, y_numeric=self._numeric)
        if settings.precision is None:
            own = "float64" if X.dtype == np.float64 else "float32"
            settings = replace(settings, precision=own)
        if continues and not incremental:
            self._check_same_targets(y)
        try:
            self._fit_checked(
                settings, X, y, sample_weight, validation_data, classes, continues, incremental
            )
        except BaseException:
            if not continues:  # no model rather than an untrained one
                self.__dict__.pop("model_", None)
            raise
        return self

    def _fit_checked(
        self,
        settings: Settings,
        X: Any,
        y: Array,
        sample_weight: Any,
        validation_data: Any,
        classes: Any,
        continues: bool,
        incremental: bool,
    ) -> None:
        targets = self._encode(y, classes, not continues)
        weights = check_weights(sample_weight, getattr(self, "class_weight", None), y)
        mean_weight = 1.0 if weights is None else float(weights.mean())
        random = check_seed(type(self).__name__, self.random_state)
        if not continues:
            self._start(settings)
        if not (continues and incremental):
            self._build(settings, random, continues, mean_weight)
        if validation_data is not None and settings.optimizer is None:
            raise ArgumentError(
                f"{type(self).__name__}: solver='lbfgs' has no epochs after which to validate; "
                f"omit validation_data, or use solver='adam'."
            )
        held_out = self._held_out(validation_data)
        if settings.early_stopping and held_out is None and settings.optimizer is not None:
            train, test = self._split(y, settings, random)
            held_out = (
                _rows(self, X, test),
                targets[test],
                None if weights is None else weights[test],
            )
            X, targets = _rows(self, X, train), targets[train]
            weights = None if weights is None else weights[train]
        if not (continues and incremental):
            self._compile(settings, random)
        if weights is not None:
            if not weights.any():
                raise DataError("sample_weight: is 0 for all training rows.")
            weights = weights / weights.mean()
        with limited_threads():
            if settings.optimizer is None:
                mlp_training.minimize(self, settings, self.model_, X, targets, weights)
            else:
                self._begin_curves(settings, held_out)
                validation = None
                if held_out is not None:
                    data, session = self.model_.prepare(held_out[0]), self.model_.session
                    # Uploaded once, not in each epoch.
                    arrays = tuple(map(session.backend.upload, data.inputs))
                    validation = (replace(data, inputs=arrays), *held_out[1:])
                mlp_training.train(
                    self, settings, self.model_, X, targets, weights, validation, incremental
                )
        mlp_training.check_weights_finite(self.model_)
        if not (continues and incremental):
            self._single = X.dtype == np.float32

    def _start(self, settings: Settings) -> None:
        self.n_iter_ = 0
        self.t_ = 0
        self.n_layers_ = len(settings.hidden) + 2
        self._no_improvement_count = 0
        for name in ("loss_curve_", "best_loss_", "validation_scores_", "validation_loss_curve_"):
            if name in vars(self):
                delattr(self, name)

    def _begin_curves(self, settings: Settings, held_out: Any) -> None:
        if not hasattr(self, "loss_curve_"):
            self.loss_curve_: list[float] = []
        if settings.early_stopping:
            self.best_loss_ = None
        elif getattr(self, "best_loss_", None) is None:
            self.best_loss_ = np.inf
        if held_out is not None and getattr(self, "validation_scores_", None) is None:
            self.validation_scores_: list[float] | None = []
            self.validation_loss_curve_: list[float] | None = []
            self.best_validation_score_: float | None = -np.inf
        elif held_out is None and not hasattr(self, "validation_scores_"):
            self.validation_scores_ = self.validation_loss_curve_ = None
            self.best_validation_score_ = None

    def _build(self, settings: Settings, random: Any, continues: bool, mean_weight: float) -> None:
        """Make the model, with scikit-learn's initial weights or those of the previous fit."""
        sizes = (self.n_features_in_, *settings.hidden, self.n_outputs_)
        # scikit-learn divides the penalty by the sum of the batch's sample weights, which are
        # scaled to a mean of 1 here.
        penalty = L1L2PerRow(l2=settings.alpha / 2 / mean_weight) if settings.alpha else None
        stack: list[Any] = [Input((self.n_features_in_,))]
        for units in settings.hidden:
            stack.append(Dense(units, settings.activation, kernel_regularizer=penalty))
            if settings.dropout:
                stack.append(Dropout(settings.dropout))
        last = {"logistic": "sigmoid", "identity": "linear"}.get(
            self.out_activation_, self.out_activation_
        )
        stack.append(Dense(sizes[-1], last, kernel_regularizer=penalty))
        model = Sequential(stack)
        if continues:
            weights = self.model_.get_weights()
            shapes = [w.shape for w in weights[::2]]
            if shapes != list(pairwise(sizes)):
                raise ShapeError(
                    f"warm_start: the layers have the shapes {shapes}, which do not match the "
                    f"sizes {sizes}. Use warm_start=False, or the same hidden_layer_sizes."
                )
        else:
            weights = _first_weights(sizes, settings.activation.name, random)
        model.set_weights(weights)
        self.model_ = model

    def _compile(self, settings: Settings, random: Any) -> None:
        loss, factor = self._loss_and_factor(self.n_outputs_)
        self.model_.compile(
            settings.optimizer or SGD(),
            loss,
            loss_weights=factor,
            device=settings.device,
            precision=settings.precision or "float32",
            threads=settings.threads,
            seed=int(random.randint(LARGEST_SEED)),
        )

    def _split(self, y: Array, settings: Settings, random: Any) -> tuple[Array, Array]:
        """Return the training and validation rows, chosen as in scikit-learn."""
        if not settings.validation_fraction:
            raise ArgumentError(
                f"{type(self).__name__}: early_stopping needs validation rows; "
                f"validation_fraction must be above 0, or give fit validation_data."
            )
        stratify = y if self._stratified else None
        train, test = train_test_split(
            np.arange(len(y)),
            random_state=random,
            test_size=settings.validation_fraction,
            stratify=stratify,
        )
        if len(test) < 2:
            raise DataError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        return train, test

    def _held_out(self, validation_data: Any) -> tuple[Any, Array, Array | None] | None:
        if validation_data is None:
            return None
        if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
            raise ArgumentTypeError("validation_data must be (X, y) or (X, y, sample_weight).")
        X, y = check_x_y(self, *validation_data[:2], reset=False, y_numeric=self._numeric)
        weights = validation_data[2] if len(validation_data) == 3 else None
        return X, self._encode(y, None, False), check_weights(weights, None, y)

    # Prediction

    def _outputs(self, X: Any) -> Any:
        """Return the model's outputs: on the GPU for data there, else in scikit-learn's dtype."""
        check_is_fitted(self, "model_")
        X = check_x(self, X, reset=False)
        if on_device(X):
            kind = self.model_.session.backend.arrays
            return self.model_.predict(X, verbose=0, output=kind)
        outputs = self.model_.predict(X, verbose=0)
        return outputs if self._single and X.dtype == np.float32 else outputs.astype(np.float64)

    @property
    def coefs_(self) -> list[Array]:
        """Copies of the kernels, shape (inputs, outputs), by layer."""
        return self._weights("coefs_")[0::2]

    @property
    def intercepts_(self) -> list[Array]:
        """Copies of the biases, shape (outputs,), by layer."""
        return self._weights("intercepts_")[1::2]

    def _weights(self, name: str) -> list[Array]:
        if "model_" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} is not fitted: it has no {name!r}.")
        return self.model_.get_weights()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _rows(estimator: MLPBase, X: Any, index: Array) -> Any:
    if not on_device(X):
        return X[index]
    backend = select_backend(estimator.device).backend
    if backend.arrays == "numpy":
        return host_array(X)[index]
    with backend.current():
        return X[backend.release(backend.upload(index))]


def _first_weights(sizes: tuple[int, ...], activation: str, random: Any) -> list[Array]:
    """Draw weights and biases as scikit-learn does: Glorot and Bengio's uniform distribution."""
    factor = 2.0 if activation == "sigmoid" else 6.0
    weights = []
    for inputs, outputs in pairwise(sizes):
        bound = np.sqrt(factor / (inputs + outputs))
        weights.append(random.uniform(-bound, bound, (inputs, outputs)))
        weights.append(random.uniform(-bound, bound, outputs))
    return weights


def uses_batches(estimator: MLPBase) -> bool:
    """Return whether training consists of steps on batches, so that there is a `partial_fit`."""
    return not (isinstance(estimator.solver, str) and estimator.solver == "lbfgs")
