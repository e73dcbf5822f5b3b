"""Multilayer perceptron regressor, as a scikit-learn estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.metaestimators import available_if

from gpunn.errors import ShapeError
from gpunn.estimators.mlp_base import MLPBase, uses_batches
from gpunn.estimators.mlp_data import Array
from gpunn.estimators.mlp_settings import regression_loss
from gpunn.specs.losses import Loss


class MLPRegressor(RegressorMixin, MLPBase):
    """Multilayer perceptron regressor for one output or several.

    Parameters, attributes, stopping rules and results are those of
    `sklearn.neural_network.MLPRegressor` where they have the same name. With the same
    `random_state` the initial weights are the same, and so are the rows held out for early
    stopping; batches are drawn in another order. With ``shuffle=False`` training equals
    scikit-learn's up to rounding (see Notes for differences).

    Parameters
    ----------
    loss : {"squared_error", "absolute_error", "huber"} or Loss, default="squared_error"
        Squared errors are halved. "huber" is for errors of about 1; ``gpunn.losses.Huber(delta)``
        for others.
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
    device : str, default="auto"
        "cpu", "cuda" and others, as for `gpunn.Model.compile`.
    precision : {"float32", "float64", "tf32", "bfloat16"}, optional
        Precision of the computation; by default float64 if X is, or for lbfgs, else float32.
    threads : int, optional
        CPU threads; default: that of the BLAS, or the share of a worker process.

    Attributes
    ----------
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
        self.loss = loss

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None
    ) -> MLPRegressor:
        """Train from scratch, or with `warm_start` continue from the last fit.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
            Training data; float32 and uint8 are kept. A sparse matrix is converted to a dense
            array.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the samples.
        validation_data : tuple, optional
            ``(X, y)`` or ``(X, y, sample_weight)`` for `validation_scores_`, and for early stopping
            instead of held-out rows of X.

        Returns
        -------
        MLPRegressor
            The estimator itself.

        Raises
        ------
        ArgumentError, ArgumentTypeError, DataError, ShapeError
            A parameter is not valid, or the data do not match it.
        """
        return self._fit(X, y, sample_weight, validation_data)

    @available_if(uses_batches)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Train for one epoch on these rows.

        Parameters
        ----------
        X, y, sample_weight : as for `fit`

        Returns
        -------
        MLPRegressor
            The estimator itself.

        Raises
        ------
        ArgumentError
            `early_stopping` is True.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def _encode(self, y: Array, classes: Any, first: bool) -> Array:
        targets = y.reshape(len(y), -1)
        if first:
            regression_loss(self.loss)
            self.n_outputs_ = targets.shape[1]
        elif targets.shape[1] != self.n_outputs_:
            raise ShapeError(
                f"y: has {targets.shape[1]} columns, but the model has {self.n_outputs_} outputs; "
                f"training can only continue with as many."
            )
        self._mean_weight = 0.5 if regression_loss(self.loss).op == "squared_error" else 1.0
        return targets

    def _loss_and_factor(self, outputs: int) -> tuple[Loss, float]:
        return regression_loss(self.loss), self._mean_weight * outputs

    def _score_and_loss(
        self, outputs: Array, y: Array, weights: Array | None
    ) -> tuple[float, float]:
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
        """Predict the targets.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
            The data.

        Returns
        -------
        array of shape (n_samples,) or (n_samples, n_outputs)
            float32 if both the training data and X are, else float64; for data on a GPU it stays
            there.
        """
        outputs = self._outputs(X)
        with self.model_._current():
            return outputs.ravel() if self.n_outputs_ == 1 else outputs
