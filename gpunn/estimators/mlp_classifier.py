"""Multilayer perceptron that classifies, as a scikit-learn estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target

from gpunn.backends.interface import host_array
from gpunn.errors import ArgumentError, DataError
from gpunn.estimators.mlp_base import MLPBase, takes_steps
from gpunn.estimators.mlp_data import Array, Classes, on_device
from gpunn.models.model import Model
from gpunn.specs import losses
from gpunn.specs.losses import Loss

# Probabilities are kept this far from 0 before their logarithm is taken, as in scikit-learn.
_EPSILON = np.finfo(np.float64).eps


def predicted_labels(model: Model, classes: Classes, outputs: Any) -> Any:
    """Return the labels for a model's outputs; numbers stay on the GPU that outputs are on."""
    with model._current():
        chosen = classes.chosen(outputs)
        if classes.multilabel:
            return chosen
        if on_device(chosen):
            backend = model.session.backend
            if classes.labels.dtype.kind in "biuf":
                return backend.release(backend.upload(classes.labels))[chosen]
            chosen = host_array(chosen)
    return classes.labels[chosen]


def probabilities(model: Model, classes: Classes, outputs: Any) -> Any:
    """Return the probability of each class from a model's outputs."""
    with model._current():
        if classes.multilabel:
            return outputs
        if classes.out_activation == "softmax":
            if outputs.dtype != np.float64:
                return outputs
            # What was computed in float32 sums up to 1 in float64 too.
            return outputs / outputs.sum(axis=1, keepdims=True)
        return np.concatenate([1 - outputs, outputs], axis=1)


class MLPClassifier(ClassifierMixin, MLPBase):
    """Multilayer perceptron that classifies, trained on the cross entropy.

    Parameters, attributes, rules of stopping and results are those of
    `sklearn.neural_network.MLPClassifier` where they have the same name. With the same
    `random_state` the first weights are the same and so are the rows held out by early stopping;
    batches are drawn in another order. With ``shuffle=False`` training is scikit-learn's but for
    rounding (see Notes for what differs).

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(100,)
        Units of each hidden layer.
    activation : str or ActivationFunction, default="relu"
        Of the hidden layers: "identity", "logistic", "tanh", "relu", or any other of
        `gpunn.activations`.
    solver : {"adam", "sgd", "lbfgs"}, another optimizer's name, or Optimizer, default="adam"
        An object of `gpunn.optimizers` brings its own learning rate, or schedule. "lbfgs" is
        SciPy's L-BFGS-B over all rows at once.
    alpha : float, default=0.0001
        L2 penalty on the kernels: ``alpha / 2 * sum(W**2)`` over the rows of the batch.
    batch_size : int or "auto", default="auto"
        "auto" is ``min(200, n_samples)``.
    learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
        For solver="sgd": "invscaling" is ``learning_rate_init / (t_ + 1)**power_t`` after each
        epoch; "adaptive" divides the rate by 5 where training would stop, down to 1e-6.
    learning_rate_init : float, default=0.001
    power_t : float, default=0.5
    max_iter : int, default=200
        Epochs; for lbfgs iterations.
    shuffle : bool, default=True
        Whether the rows are shuffled before each epoch.
    random_state : int, RandomState or None
        Of first weights, rows held out, shuffling and dropout.
    tol : float, default=1e-4
        An epoch is an improvement if it betters the loss (or validation score) by this much; for
        lbfgs the size of the gradient to stop at.
    verbose : bool, default=False
    warm_start : bool, default=False
        Whether `fit` starts from the weights of the last one.
    momentum : float, default=0.9
        For solver="sgd".
    nesterovs_momentum : bool, default=True
        For solver="sgd".
    early_stopping : bool, default=False
        Whether the score on rows held out decides; the best weights are put back at the end.
    validation_fraction : float, default=0.1
        Share of rows held out.
    beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
        For solver="adam".
    n_iter_no_change : int, default=10
        Training ends after more than so many epochs in a row without an improvement.
    max_fun : int, default=15000
        For lbfgs: how often the loss is computed at most.
    dropout : float, default=0.0
        Probability that an output of a hidden layer is left out in training.
    class_weight : dict or "balanced", optional
        Weights of the classes, which multiply `sample_weight`.
    device : str, default="auto"
        "cpu", "cuda" and others, as for `gpunn.Model.compile`.
    precision : {"float32", "float64", "tf32", "bfloat16"}, optional
        Of the computation; by default float64 for X of that type, and for lbfgs, else float32.
    threads : int, optional
        Threads of the CPU; default: what the BLAS finds, or a worker process's share.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        The labels, in the order of `predict_proba`'s columns.
    model_ : Sequential
        The gpunn model: for `gpunn.Model.save`, `gpunn.plots` and all else.
    loss_, best_loss_ : float
        Loss of the last and of the best epoch; the latter is None with early stopping.
    loss_curve_, validation_scores_, validation_loss_curve_ : list of float
        One value per epoch; the last two without the penalty, and None without validation.
    best_validation_score_ : float or None
    coefs_, intercepts_ : list of array
        Copies of kernels (inputs, outputs) and biases.
    n_iter_ : int
        Epochs of the last fit, or iterations of lbfgs.
    t_ : int
        Rows seen in training.
    n_features_in_, feature_names_in_, n_layers_, n_outputs_, out_activation_ : as in scikit-learn

    Notes
    -----
    As in scikit-learn, float64 data are computed with in float64. float32 takes half the time on
    a CPU, a small part of it on most GPUs, and about six digits of the results are right: give
    float32 data, or ``precision="float32"``. uint8 data stay uint8 until they are needed. The line
    searches of lbfgs need float64.

    Sample weights are scaled to a mean of 1; scikit-learn divides by the sum of each batch's, which
    is the same over all rows. The penalty is in proportion.

    A sparse X is made dense, for which there must be room. Arrays on a GPU (CuPy's, PyTorch's) are
    taken as they are where the model computes there, and `predict` then leaves its result there.

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
        precision: str | None = None,
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

    @available_if(takes_steps)
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
        _check_partial_fit_first_call(self, classes)
        return self._fit(X, y, sample_weight, classes=self.classes_, incremental=True)

    def _check_same_targets(self, y: Array) -> None:
        own = Classes.of(y)
        same = own.multilabel == self._classes.multilabel
        if not same or set(own.labels) != set(self._classes.labels):
            raise DataError(
                f"warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {self.classes_}, `y` has {own.labels}. To go on with "
                f"some of the classes, use partial_fit."
            )

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
        self._classes.check_shape(y)
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
        return predicted_labels(self.model_, self._classes, outputs)

    def predict_proba(self, X: Any) -> Any:
        """Return probabilities, shape (n_samples, n_classes), in the order of `classes_`."""
        outputs = self._outputs(X)
        return probabilities(self.model_, self._classes, outputs)

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of `predict_proba`; -inf where that is 0."""
        probabilities = self.predict_proba(X)
        with np.errstate(divide="ignore"), self.model_._current():
            return np.log(probabilities)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
