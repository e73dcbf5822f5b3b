"""Multilayer perceptrons as scikit-learn estimators."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target

from gpunn import losses
from gpunn.errors import ArgumentError, DataError, ShapeError
from gpunn.estimators.mlp_base import MLPBase
from gpunn.estimators.mlp_data import Array, Classes, on_device
from gpunn.estimators.mlp_settings import regression_loss
from gpunn.losses import Loss


def _takes_steps(estimator: MLPBase) -> bool:
    return not (isinstance(estimator.solver, str) and estimator.solver == "lbfgs")


class MLPClassifier(ClassifierMixin, MLPBase):
    """Multilayer perceptron that classifies, trained on the cross entropy.

    PARAMETERS
    class_weight : dict or "balanced", optional
        Weights of the classes, which multiply `sample_weight`.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        The labels, in the order of `predict_proba`'s columns.
    ATTRIBUTES
    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier((30,), max_iter=500, random_state=0).fit(X, y)  # doctest: +SKIP
    >>> model.predict([[5.0, 3.4, 1.5, 0.2]])                                 # doctest: +SKIP
    array([0])
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float = 0.0,
        class_weight: Any = None,
        device: str = "auto",
        precision: str = "float32",
        threads: int | None = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
            dropout=dropout,
            device=device,
            precision=precision,
            threads=threads,
        )
        self.class_weight = class_weight

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None
    ) -> MLPClassifier:
        """Train from the start, or with `warm_start` from where the last fit ended.

        Parameters
        ----------
        X : array, data frame or sparse matrix of shape (n_samples, n_features)
            float32 and uint8 stay what they are. A sparse matrix is made dense.
        y : array of shape (n_samples,), or (n_samples, n_labels) of 0 and 1
            Labels of any kind; columns are labels that may apply together.
        sample_weight : array of shape (n_samples,), optional
        validation_data : tuple, optional
            ``(X, y)`` or ``(X, y, sample_weight)`` for `validation_scores_`, and for early
            stopping in place of rows of X.
        """
        return self._fit(X, y, sample_weight, validation_data)

    @available_if(_takes_steps)
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None
    ) -> MLPClassifier:
        """Train for one epoch over these rows.

        Parameters
        ----------
        X, y, sample_weight : as for `fit`
        classes : array of shape (n_classes,)
            All labels there will be, needed at the first call.
        """
        if isinstance(self.class_weight, str):
            raise ArgumentError(
                "partial_fit: class_weight='balanced' needs all of y; give class_weight as a dict."
            )
        first = _check_partial_fit_first_call(self, classes)
        return self._fit(X, y, sample_weight, classes=classes if first else None, incremental=True)

    def _encode(self, y: Array, classes: Any, first: bool) -> Array:
        if first:
            own = Classes.of(y)
            if classes is not None and not own.multilabel:
                own = Classes(np.unique(classes), False)
            self._classes, self.classes_ = own, own.labels
            self.n_outputs_, self.out_activation_ = own.outputs, own.out_activation
            # As in scikit-learn: with several outputs rows are held out whatever their class.
            self._stratified = own.outputs == 1
            self._mean_weight = float(own.outputs) if own.multilabel else 1.0
        elif type_of_target(y).startswith("continuous"):
            Classes.of(y)  # raises
        unknown = self._classes.unknown(y)
        if unknown.size:
            raise DataError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. "
                f"'y' has {unknown.tolist()} besides."
            )
        return self._classes.encode(y)

    def _loss_and_factor(self, outputs: int) -> tuple[Loss, float]:
        if self.out_activation_ == "softmax":
            return losses.SparseCategoricalCrossentropy(), 1.0
        return losses.BinaryCrossentropy(), float(outputs)

    def _figures(self, outputs: Array, y: Array, weights: Array | None) -> tuple[float, float]:
        chosen = self._classes.chosen(outputs)
        if self.out_activation_ == "softmax":
            right = chosen == y
            each = -np.log(np.clip(outputs[np.arange(len(y)), y], _EPSILON, 1))
        else:
            right = (chosen.reshape(len(y), -1) == y).all(axis=1)
            p = np.clip(outputs, _EPSILON, 1 - _EPSILON)
            each = -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum(axis=1)
        return (
            float(np.average(right, weights=weights)),
            float(np.average(each, weights=weights)),
        )

    def predict(self, X: Any) -> Any:
        """Return the labels, shape (n_samples,), or 0 and 1 for each of several labels.

        Number labels of data on a GPU stay there.
        """
        outputs = self._outputs(X)
        with self.model_._current():
            chosen = self._classes.chosen(outputs)
            if self._classes.multilabel:
                return chosen
            if on_device(chosen) and self.classes_.dtype.kind in "biuf":
                backend = self.model_.session.backend
                return backend.release(backend.upload(self.classes_))[chosen]
        return self.classes_[self._fetched(chosen)]

    def predict_proba(self, X: Any) -> Any:
        """Return probabilities, shape (n_samples, n_classes), in the order of `classes_`."""
        outputs = self._outputs(X)
        with self.model_._current():
            if self._classes.multilabel:
                return outputs
            if self.out_activation_ == "softmax":
                if outputs.dtype != np.float64:
                    return outputs
                # What was computed in float32 sums up to 1 in float64 too.
                return outputs / outputs.sum(axis=1, keepdims=True)
            return np.concatenate([1 - outputs, outputs], axis=1)

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of `predict_proba`; -inf where that is 0."""
        probabilities = self.predict_proba(X)
        with np.errstate(divide="ignore"), self.model_._current():
            return np.log(probabilities)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, MLPBase):
    """Multilayer perceptron that predicts one number or several.

    PARAMETERS
    Attributes
    ----------
    ATTRIBUTES
    """

    _numeric = True
    out_activation_ = "identity"

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float = 0.0,
        device: str = "auto",
        precision: str = "float32",
        threads: int | None = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
            dropout=dropout,
            device=device,
            precision=precision,
            threads=threads,
        )
        self.loss = loss

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None
    ) -> MLPRegressor:
        """Train from the start, or with `warm_start` from where the last fit ended.

        Parameters
        ----------
        X : array, data frame or sparse matrix of shape (n_samples, n_features)
            float32 and uint8 stay what they are. A sparse matrix is made dense.
        y : array of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array of shape (n_samples,), optional
        validation_data : tuple, optional
            ``(X, y)`` or ``(X, y, sample_weight)`` for `validation_scores_`, and for early
            stopping in place of rows of X.
        """
        return self._fit(X, y, sample_weight, validation_data)

    @available_if(_takes_steps)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train for one epoch over these rows; the arguments are those of `fit`."""
        return self._fit(X, y, sample_weight, incremental=True)

    def _encode(self, y: Array, classes: Any, first: bool) -> Array:
        targets = y.reshape(len(y), -1)
        if first:
            regression_loss(self.loss)
            self.n_outputs_ = targets.shape[1]
        elif targets.shape[1] != self.n_outputs_:
            raise ShapeError(
                f"y: has {targets.shape[1]} columns, the model has {self.n_outputs_} outputs; "
                f"training goes on with as many as it began with."
            )
        self._mean_weight = 0.5 if regression_loss(self.loss).op == "squared_error" else 1.0
        return targets

    def _loss_and_factor(self, outputs: int) -> tuple[Loss, float]:
        return regression_loss(self.loss), self._mean_weight * outputs

    def _figures(self, outputs: Array, y: Array, weights: Array | None) -> tuple[float, float]:
        loss = regression_loss(self.loss)
        error = np.abs(outputs - y)
        if loss.op == "squared_error":
            each = error**2 / 2
        elif loss.op == "huber":
            delta = loss.attrs["delta"]
            each = np.where(error <= delta, error**2 / 2, delta * error - delta**2 / 2)
        else:
            each = error
        score = float(r2_score(y, outputs, sample_weight=weights))
        return score, float(np.average(each.mean(axis=1), weights=weights))

    def predict(self, X: Any) -> Any:
        """Return the numbers, shape (n_samples,) or (n_samples, n_outputs).

        They are float32 where training and X were, else float64; those of data on a GPU stay
        there.
        """
        outputs = self._outputs(X)
        with self.model_._current():
            return outputs.ravel() if self.n_outputs_ == 1 else outputs


_EPSILON = np.finfo(np.float64).eps
