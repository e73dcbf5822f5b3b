"""TF.Learn's DNNClassifier: a deep neural network in two lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from gpunn.errors import ArgumentError, ArgumentTypeError, DataError, ShapeError
from gpunn.estimators.mlp_classifier import predicted_labels, probabilities
from gpunn.estimators.mlp_data import Array, Classes, check_weights, check_x, check_x_y, on_device
from gpunn.estimators.mlp_settings import check_seed, check_sizes
from gpunn.estimators.workers import limited_threads
from gpunn.models.sequential import Sequential
from gpunn.specs import activations, losses, optimizers
from gpunn.specs.layers import Dense, Dropout, Input
from gpunn.specs.optimizers import Adagrad
from gpunn.specs.registry import check_count, check_number

LARGEST_SEED = 2**31 - 1
# As in TF.Learn.
LEARNING_RATE = 0.05


@dataclass(frozen=True)
class RealValuedColumn:
    """Numeric features.

    Parameters
    ----------
    name : str, default=""
        Name of the column.
    dimension : int, default=1
        Number of features.
    """

    name: str = ""
    dimension: int = 1


def infer_real_valued_columns_from_input(x: Any) -> list[RealValuedColumn]:
    """Return the `feature_columns` of `DNNClassifier`: one column with all features.

    Parameters
    ----------
    x : array-like of shape (n_samples, n_features)
        The data.

    Returns
    -------
    list of RealValuedColumn
        A single column.

    Raises
    ------
    ShapeError
        `x` has not two axes.
    """
    shape = np.shape(x) if not hasattr(x, "shape") else tuple(x.shape)
    if len(shape) != 2:
        raise ShapeError(f"x: expected 2 axes, (rows, features), got shape {shape}.")
    return [RealValuedColumn("", int(shape[1]))]


class DNNClassifier(ClassifierMixin, BaseEstimator):
    """Deep neural network classifier, named as in TensorFlow's TF.Learn.

    Hidden layers, then a softmax (for two classes a sigmoid), trained on the cross-entropy for a
    number of steps. It is also a scikit-learn estimator, for pipelines and searches; for penalties,
    early stopping and other stopping rules use `gpunn.MLPClassifier`.

    Parameters
    ----------
    hidden_units : sequence of int, default=(100,)
        Units of each hidden layer.
    n_classes : int, optional
        Number of classes; labels are then 0 to ``n_classes - 1``, or as many labels of any kind.
        By default as many as `y` has.
    feature_columns : list of RealValuedColumn, optional
        From `gpunn.estimators.infer_real_valued_columns_from_input`. `fit` checks that they are for
        as many features as `x` has; None checks nothing.
    optimizer : str or Optimizer, optional
        Default ``gpunn.optimizers.Adagrad(0.05)``, as in TF.Learn.
    activation_fn : str or ActivationFunction, default="relu"
        Activation of the hidden layers.
    dropout : float, optional
        Probability that an output of a hidden layer is dropped in training.
    batch_size : int, default=128
        Rows per step, at most all; `fit` can override it.
    steps : int, default=10000
        Steps of a `fit`; `fit` can override it.
    random_state : int, RandomState or None, default=None
        Determines initial weights, shuffling and dropout.
    device, precision, threads : as for `gpunn.Model.compile`

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    global_step_ : int
        Steps taken.
    n_features_in_, feature_names_in_ : as in scikit-learn
    model_ : Sequential
        The gpunn model.

    Notes
    -----
    `fit` starts anew, as in scikit-learn; in TF.Learn it continues, as `partial_fit` does here.

    Examples
    --------
    >>> dnn_clf = DNNClassifier(hidden_units=[300, 100], n_classes=10)          # doctest: +SKIP
    >>> dnn_clf.fit(x=X_train, y=y_train, batch_size=50, steps=40000)           # doctest: +SKIP
    >>> dnn_clf.evaluate(X_test, y_test)                                        # doctest: +SKIP
    {'accuracy': 0.9818, 'global_step': 40000, 'loss': 0.0737}
    """

    def __init__(
        self,
        hidden_units: Any = (100,),
        n_classes: int | None = None,
        *,
        feature_columns: Any = None,
        optimizer: Any = None,
        activation_fn: Any = "relu",
        dropout: float | None = None,
        batch_size: int = 128,
        steps: int = 10000,
        random_state: Any = None,
        device: str = "auto",
        precision: str = "float32",
        threads: int | None = None,
    ) -> None:
        self.hidden_units = hidden_units
        self.n_classes = n_classes
        self.feature_columns = feature_columns
        self.optimizer = optimizer
        self.activation_fn = activation_fn
        self.dropout = dropout
        self.batch_size = batch_size
        self.steps = steps
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.threads = threads

    def fit(
        self,
        x: Any,
        y: Any,
        batch_size: int | None = None,
        steps: int | None = None,
        sample_weight: Any = None,
    ) -> DNNClassifier:
        """Train from scratch.

        Parameters
        ----------
        x : array-like, data frame or sparse matrix of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Labels.
        batch_size, steps : int, optional
            Override the parameters of the estimator.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the samples.

        Returns
        -------
        DNNClassifier
            The estimator itself.

        Raises
        ------
        ArgumentError, ArgumentTypeError, DataError, ShapeError
            A parameter is not valid, or the data do not match it.
        """
        return self._train(x, y, batch_size, steps, sample_weight, None, fresh=True)

    def partial_fit(
        self,
        x: Any,
        y: Any,
        batch_size: int | None = None,
        steps: int | None = None,
        sample_weight: Any = None,
        classes: Any = None,
    ) -> DNNClassifier:
        """Continue training.

        Parameters
        ----------
        x, y, batch_size, steps, sample_weight : as for `fit`
        classes : array-like of shape (n_classes,), optional
            All labels that will occur; required at the first call unless `n_classes` is set.

        Returns
        -------
        DNNClassifier
            The estimator itself.

        Raises
        ------
        ArgumentError
            `classes` is missing at the first call.
        """
        fresh = "model_" not in vars(self)
        if fresh and classes is None and self.n_classes is None:
            raise ArgumentError("classes must be passed on the first call to partial_fit.")
        return self._train(x, y, batch_size, steps, sample_weight, classes, fresh=fresh)

    def _train(
        self,
        x: Any,
        y: Any,
        batch_size: int | None,
        steps: int | None,
        sample_weight: Any,
        classes: Any,
        *,
        fresh: bool,
    ) -> DNNClassifier:
        owner = "DNNClassifier"
        batch_size = self.batch_size if batch_size is None else batch_size
        batch_size = check_count(owner, "batch_size", batch_size)
        steps = check_count(owner, "steps", self.steps if steps is None else steps)
        x, y = check_x_y(self, x, y, reset=fresh, y_numeric=False)
        if fresh:
            model = self._new_model(self._classes_of(y, classes))
        targets = self._encode(y)
        weights = check_weights(sample_weight, None, y)
        if fresh:
            self.model_, self.global_step_ = model, 0
        try:
            with limited_threads():
                self.model_.fit(
                    x,
                    targets,
                    batch_size=min(batch_size, len(x)),
                    steps=steps,
                    sample_weight=weights,
                    verbose=0,
                )
        except Exception:
            if fresh:  # no model rather than an untrained one
                del self.model_
            raise
        self.global_step_ += steps
        return self

    def _classes_of(self, y: Array, classes: Any) -> Classes:
        found = Classes.of(y)
        if found.multilabel:
            raise ArgumentError(
                "y: expected one label for each row, (n_samples,); for multilabel classification "
                "use gpunn.MLPClassifier."
            )
        if classes is not None:
            found = Classes(np.unique(classes), False)
        if self.n_classes is None:
            return found
        count = check_count("DNNClassifier", "n_classes", self.n_classes, minimum=2)
        numbers = np.arange(count)
        if np.isin(found.labels, numbers).all():
            return Classes(numbers.astype(found.labels.dtype), False)
        if len(found.labels) != count:
            raise DataError(
                f"y: with n_classes={count} labels are whole numbers from 0 to {count - 1}, or "
                f"{count} labels of another kind; y has {len(found.labels)}: "
                f"{found.labels[:10].tolist()}."
            )
        return found

    def _encode(self, y: Array) -> Array:
        self._classes.check_shape(y)
        unknown = self._classes.unknown(y)
        if unknown.size:
            raise DataError(f"y: has labels that are not in classes_: {unknown[:10].tolist()}.")
        return self._classes.encode(y)

    def _new_model(self, classes: Classes) -> Sequential:
        random = check_seed("DNNClassifier", self.random_state)
        units = check_sizes("DNNClassifier", "hidden_units", self.hidden_units)
        rate = check_number("DNNClassifier", "dropout", self.dropout or 0.0, minimum=0, below=1)
        self._check_columns()
        activation = activations.get(self.activation_fn)
        stack: list[Any] = [Input((self.n_features_in_,))]
        for size in units:
            stack.append(Dense(size, activation))
            if rate:
                stack.append(Dropout(rate))
        several = classes.out_activation == "softmax"
        stack.append(Dense(classes.outputs, "softmax" if several else "sigmoid"))
        optimizer = Adagrad(LEARNING_RATE) if self.optimizer is None else self.optimizer
        model = Sequential(stack)
        model.compile(
            optimizers.get(optimizer),
            losses.SparseCategoricalCrossentropy() if several else losses.BinaryCrossentropy(),
            metrics=["accuracy"],
            device=self.device,
            precision=self.precision,
            threads=self.threads,
            seed=int(random.randint(LARGEST_SEED)),
        )
        self._classes, self.classes_ = classes, classes.labels
        return model

    def _check_columns(self) -> None:
        columns = self.feature_columns
        if columns is None:
            return
        columns = [columns] if isinstance(columns, RealValuedColumn) else columns
        if not isinstance(columns, Sequence) or not all(
            isinstance(column, RealValuedColumn) for column in columns
        ):
            raise ArgumentTypeError(
                f"feature_columns: expected what infer_real_valued_columns_from_input returns, or "
                f"None, not {columns!r}."
            )
        count = sum(column.dimension for column in columns)
        if count != self.n_features_in_:
            raise ShapeError(
                f"feature_columns: they have {count} features, but x has {self.n_features_in_}."
            )

    def _outputs(self, x: Any) -> Any:
        check_is_fitted(self, "model_")
        x = check_x(self, x, reset=False)
        if on_device(x):
            kind = self.model_.session.backend.arrays
            return self.model_.predict(x, verbose=0, output=kind)
        outputs = self.model_.predict(x, verbose=0)
        return outputs if x.dtype == np.float32 else outputs.astype(np.float64)

    def predict(self, x: Any) -> Any:
        """Predict labels.

        Parameters
        ----------
        x : array-like, data frame or sparse matrix of shape (n_samples, n_features)
            The data.

        Returns
        -------
        array of shape (n_samples,)
            Labels; numeric ones of data on a GPU stay there.
        """
        outputs = self._outputs(x)
        return predicted_labels(self.model_, self._classes, outputs)

    def predict_proba(self, x: Any) -> Any:
        """Predict the probabilities of the classes.

        Parameters
        ----------
        x : array-like, data frame or sparse matrix of shape (n_samples, n_features)
            The data.

        Returns
        -------
        array of shape (n_samples, n_classes)
            In the order of `classes_`; for data on a GPU it stays there.
        """
        outputs = self._outputs(x)
        return probabilities(self.model_, self._classes, outputs)

    def evaluate(self, x: Any, y: Any) -> dict[str, float]:
        """Evaluate the model.

        Parameters
        ----------
        x : array-like, data frame or sparse matrix of shape (n_samples, n_features)
            The data.
        y : array-like of shape (n_samples,)
            True labels.

        Returns
        -------
        dict of str to float
            ``accuracy``, ``loss`` (the mean cross-entropy) and ``global_step``.
        """
        check_is_fitted(self, "model_")
        x, y = check_x_y(self, x, y, reset=False, y_numeric=False)
        metrics = self.model_.evaluate(x, self._encode(y), verbose=0, return_dict=True)
        return {
            "accuracy": metrics["accuracy"],
            "global_step": self.global_step_,
            "loss": metrics["loss"],
        }

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
