"""Multilayer perceptron classifier, as a scikit-learn estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target

from gpunn.backends.interface import host_array
from gpunn.errors import ArgumentError, DataError
from gpunn.estimators.mlp_base import MLPBase, uses_batches
from gpunn.estimators.mlp_data import Array, Classes, on_device
from gpunn.models.model import Model
from gpunn.specs import losses
from gpunn.specs.losses import Loss

# Probabilities are clipped to at least this before the logarithm, as in scikit-learn.
_EPSILON = np.finfo(np.float64).eps


def predicted_labels(model: Model, classes: Classes, outputs: Any) -> Any:
    """Return the labels for a model's outputs; numeric labels stay on the outputs' GPU."""
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
            # Makes the sums of float32 probabilities 1 in float64, too.
            return outputs / outputs.sum(axis=1, keepdims=True)
        return np.concatenate([1 - outputs, outputs], axis=1)


class MLPClassifier(ClassifierMixin, MLPBase):
    """Multilayer perceptron classifier, trained on the cross-entropy.

    Parameters, attributes, stopping rules and results are those of
    `sklearn.neural_network.MLPClassifier` where they have the same name. With the same
    `random_state` the initial weights are the same, and so are the rows held out for early
    stopping; batches are drawn in another order. With ``shuffle=False`` training equals
    scikit-learn's up to rounding (see Notes for differences).

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(100,)
        Units of each hidden layer.
    activation : str or ActivationFunction, default="relu"
        Activation of the hidden layers: "identity", "logistic", "tanh", "relu", or any
        other of `gpunn.activations`.
    solver : {"adam", "sgd", "lbfgs"}, another optimizer's name, or Optimizer, default="adam"
        An object of `gpunn.optimizers` has its own learning rate, or schedule. "lbfgs" is SciPy's
        L-BFGS-B on all rows at once.
    alpha : float, default=0.0001
        L2 penalty on the kernels: ``alpha / 2 * sum(W**2)``, divided by the rows of the batch.
    batch_size : int or "auto", default="auto"
        "auto" is ``min(200, n_samples)``.
    learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
        For solver="sgd": "invscaling" is ``learning_rate_init / (t_ + 1)**power_t`` after each
        epoch; "adaptive" divides the rate by 5 where training would stop, down to 1e-6.
    learning_rate_init : float, default=0.001
        Initial learning rate.
    power_t : float, default=0.5
        Exponent of "invscaling".
    max_iter : int, default=200
        Epochs; for lbfgs iterations.
    shuffle : bool, default=True
        Whether the rows are shuffled before each epoch.
    random_state : int, RandomState or None, default=None
        Determines initial weights, held-out rows, shuffling and dropout.
    tol : float, default=1e-4
        Smallest decrease of the loss (or increase of the validation score) that counts as an
        improvement; for lbfgs, the largest component of the gradient at which to stop.
    verbose : bool, default=False
        Whether to print the loss of each epoch.
    warm_start : bool, default=False
        Whether `fit` starts from the weights of the previous one.
    momentum : float, default=0.9
        For solver="sgd".
    nesterovs_momentum : bool, default=True
        For solver="sgd".
    early_stopping : bool, default=False
        Whether to stop by the score on held-out rows; the best weights are restored at the end.
    validation_fraction : float, default=0.1
        Fraction of rows held out for early stopping.
    beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
        For solver="adam".
    n_iter_no_change : int, default=10
        Training ends after more than this many consecutive epochs without an improvement.
    max_fun : int, default=15000
        For lbfgs: largest number of evaluations of the loss.
    dropout : float, default=0.0
        Probability that an output of a hidden layer is dropped in training.
    class_weight : dict or "balanced", optional
        Weights of the classes, which multiply `sample_weight`.
    device : str, default="auto"
        "cpu", "cuda" and others, as for `gpunn.Model.compile`.
    precision : {"float32", "float64", "tf32", "bfloat16"}, optional
        Precision of the computation; by default float64 if X is, or for lbfgs, else float32.
    threads : int, optional
        CPU threads; default: that of the BLAS, or the share of a worker process.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        The labels, in the order of `predict_proba`'s columns.
    model_ : Sequential
        The gpunn model, for example for `gpunn.Model.save` and `gpunn.plots`.
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
    As in scikit-learn, computations on float64 data use float64. float32 takes half the time on a
    CPU, far less on most GPUs, and gives about six correct digits: pass float32 data, or
    ``precision="float32"``. uint8 data are kept as uint8 and converted batch by batch. The line
    searches of lbfgs need float64.

    Sample weights are scaled to a mean of 1 over all rows; scikit-learn divides by the sum of the
    weights of each batch. The penalty is scaled accordingly.

    A sparse X is converted to a dense array, which must fit into memory. Arrays on a GPU (CuPy's,
    PyTorch's) are used in place if the model runs there, and `predict` then returns its result
    there.

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
        """Train from scratch, or with `warm_start` continue from the last fit.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
            Training data; float32 and uint8 are kept. A sparse matrix is converted to a dense
            array.
        y : array-like of shape (n_samples,), or (n_samples, n_labels) of 0 and 1
            Labels of any kind; or, for multilabel classification, one column per label.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the samples.
        validation_data : tuple, optional
            ``(X, y)`` or ``(X, y, sample_weight)`` for `validation_scores_`, and for early stopping
            instead of held-out rows of X.

        Returns
        -------
        MLPClassifier
            The estimator itself.

        Raises
        ------
        ArgumentError, ArgumentTypeError, DataError, ShapeError
            A parameter is not valid, or the data do not match it.
        """
        return self._fit(X, y, sample_weight, validation_data)

    @available_if(uses_batches)
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None
    ) -> MLPClassifier:
        """Train for one epoch on these rows.

        Parameters
        ----------
        X, y, sample_weight : as for `fit`
        classes : array-like of shape (n_classes,), optional
            All labels that will occur; required at the first call.

        Returns
        -------
        MLPClassifier
            The estimator itself.

        Raises
        ------
        ArgumentError
            `class_weight` is "balanced", or `early_stopping` is True.
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
                f"call to fit. Previously got {self.classes_}, `y` has {own.labels}. To continue "
                f"with some of the classes, use partial_fit."
            )

    def _encode(self, y: Array, classes: Any, first: bool) -> Array:
        if first:
            own = Classes.of(y)
            if classes is not None and not own.multilabel:
                own = Classes(np.unique(classes), False)
            self._classes, self.classes_ = own, own.labels
            self.n_outputs_, self.out_activation_ = own.outputs, own.out_activation
            # As in scikit-learn, which does not stratify with several outputs.
            self._stratified = own.outputs == 1
            self._mean_weight = float(own.outputs) if own.multilabel else 1.0
        elif type_of_target(y).startswith("continuous"):
            Classes.of(y)  # raises
        self._classes.check_shape(y)
        unknown = self._classes.unknown(y)
        if unknown.size:
            raise DataError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. "
                f"`y` also has {unknown.tolist()}."
            )
        return self._classes.encode(y)

    def _loss_and_factor(self, outputs: int) -> tuple[Loss, float]:
        if self.out_activation_ == "softmax":
            return losses.SparseCategoricalCrossentropy(), 1.0
        return losses.BinaryCrossentropy(), float(outputs)

    def _score_and_loss(
        self, outputs: Array, y: Array, weights: Array | None
    ) -> tuple[float, float]:
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
        """Predict labels.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
            The data.

        Returns
        -------
        array of shape (n_samples,), or (n_samples, n_labels) of 0 and 1
            Labels; numeric ones of data on a GPU stay there.
        """
        outputs = self._outputs(X)
        return predicted_labels(self.model_, self._classes, outputs)

    def predict_proba(self, X: Any) -> Any:
        """Predict the probabilities of the classes.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
            The data.

        Returns
        -------
        array of shape (n_samples, n_classes)
            In the order of `classes_`; for data on a GPU it stays there.
        """
        outputs = self._outputs(X)
        return probabilities(self.model_, self._classes, outputs)

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of `predict_proba`.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
            The data.

        Returns
        -------
        array of shape (n_samples, n_classes)
            Log probabilities; -inf where the probability is 0.
        """
        probabilities = self.predict_proba(X)
        with np.errstate(divide="ignore"), self.model_._current():
            return np.log(probabilities)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
