"""`KerasClassifier` and `KerasRegressor`: a model-building function as an estimator."""

from __future__ import annotations

import copy
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import assert_all_finite, check_array, check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from gpunn.errors import ArgumentError, ArgumentTypeError, DataError, ShapeError
from gpunn.estimators.wrappers.parameters import FIT, PREDICT, ParameterRouting
from gpunn.models.model import Model
from gpunn.randomness.seeds import seeded
from gpunn.specs.activations import sigmoid, softmax
from gpunn.specs.losses import CategoricalCrossentropy
from gpunn.training.hooks import check_callbacks

Array = np.ndarray[Any, Any]

_PARAMETERS = """
    Parameters
    ----------
    model : callable
        Returns a compiled model. Its parameters are also parameters of the estimator, with the
        function's defaults, for ``get_params``, ``set_params`` and searches.
        A parameter called ``meta`` receives a dict that describes the data given to `fit`:
        ``n_features_in_``, ``X_shape_``, ``n_outputs_expected_``, ``target_type_`` and, for a
        classifier, ``classes_`` and ``n_classes_``; one called ``params`` receives `get_params`.
    build_fn : callable, optional
        Keras 2's name of `model`.
    random_state : int, RandomState or None
        Seed of the model, unless the function passes its own seed to ``compile``.
    batch_size, epochs, verbose, callbacks, validation_split, shuffle : as for `Model.fit`
        Callbacks given here are copied for each fit; those given to `fit` itself are used as they
        are.
    **params : object
        Parameters of `model`. Those with a prefix are routed: ``model__x`` is always ``x`` of the
        function, ``fit__x`` and ``predict__x`` are arguments of `Model.fit` and `Model.predict`,
        ``optimizer__x`` is ``x`` of the model's optimizer.

    Attributes
    ----------
    model_ : Model
    history_ : dict of str to list of float
        Loss and metrics by epoch; ``model_.history`` has more.
    n_features_in_ : int
    feature_names_in_ : array of str
        Only if X has column names."""


class _Wrapper(ParameterRouting, ABC):
    """What both estimators share."""

    def __init__(
        self,
        model: Callable[..., Model] | None = None,
        *,
        build_fn: Callable[..., Model] | None = None,
        random_state: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        shuffle: bool = True,
        **params: Any,
    ) -> None:
        if model is not None and build_fn is not None:
            raise ArgumentError("Give model or build_fn, its earlier name, not both.")
        self.model = build_fn if model is None else model
        self.random_state = random_state
        self.batch_size = batch_size
        self.epochs = epochs
        self.verbose = verbose
        self.callbacks = callbacks
        self.validation_split = validation_split
        self.shuffle = shuffle
        super().__init__(**params)

    @classmethod
    def _get_param_names(cls) -> list[str]:
        # scikit-learn would refuse the **params of the constructor.
        names = ("batch_size", "callbacks", "epochs", "model", "random_state", "shuffle")
        return [*names, "validation_split", "verbose"]

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    # Methods in which the two differ

    @abstractmethod
    def _learn_targets(self, y: Any) -> tuple[Any, dict[str, Any]]:
        """Record properties of `y`; return it as numbers, with the entries of ``meta`` about it."""

    @abstractmethod
    def _encode(self, y: Any, argument: str) -> Any:
        """Return targets as the model takes them."""

    def _class_weight(self, class_weight: Any, y: Array) -> Any:
        return class_weight

    # Use

    def fit(self, X: Any, y: Any, sample_weight: Any = None, **kwargs: Any) -> Any:
        """Build a new model and train it.

        Parameters
        ----------
        X : array-like of shape (rows, features), or with more axes
            Training data.
        y : array-like of shape (rows,) or (rows, outputs)
            Targets.
        sample_weight : array-like of shape (rows,), optional
            Weights of the samples.
        **kwargs : object
            Arguments of `Model.fit`, which override those of the constructor: ``epochs=100``,
            ``validation_data=(X_valid, y_valid)``, ``callbacks=[...]``.

        Returns
        -------
        KerasClassifier or KerasRegressor
            The estimator itself.

        Raises
        ------
        ArgumentError, ArgumentTypeError, DataError, ShapeError
            A parameter is not valid, or the data do not match it or the model.
        """
        for name in kwargs:
            if name not in FIT:
                raise ArgumentTypeError(
                    f"{type(self).__name__}.fit has no argument {name!r}; those of the model's "
                    f"fit are {', '.join(FIT)}."
                )
        if y is None:
            raise ArgumentError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        X = validate_data(self, X, allow_nd=True)
        y, about = self._learn_targets(y)
        if len(X) != len(y):
            raise ShapeError(f"y has {len(y)} rows, but X has {len(X)}: give one for each.")
        meta = {"n_features_in_": X.shape[1], "X_shape_": X.shape, **about}
        seed = None
        if self.random_state is not None:
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with seeded(seed):
            model = self._build(meta)
        arguments = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "verbose": self.verbose,
            "validation_split": self.validation_split,
            "shuffle": self.shuffle,
            "callbacks": [*map(copy.copy, check_callbacks(self.callbacks))],
            **self._routed("fit"),
            **kwargs,
        }
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight)
            if not sample_weight.any():
                raise DataError(
                    "sample_weight: all weights are zero; one at least must be positive."
                )
            arguments["sample_weight"] = sample_weight
        split = arguments["validation_split"]
        if isinstance(arguments["batch_size"], numbers.Integral) and isinstance(split, int | float):
            # The folds of a search may have fewer rows; Keras uses what there is.
            rows = int(len(X) * (1 - split))
            arguments["batch_size"] = min(arguments["batch_size"], max(rows, 1))
        if arguments.get("class_weight") is not None:
            arguments["class_weight"] = self._class_weight(arguments["class_weight"], y)
        self.model_ = model  # its loss determines how targets are encoded
        if arguments.get("validation_data") is not None:
            arguments["validation_data"] = self._held_out(arguments["validation_data"])
        history = model.fit(X, self._encode(y, "y"), **arguments)
        self.history_ = {name: list(values) for name, values in history.history.items()}
        return self

    def _held_out(self, data: Any) -> tuple[Any, ...]:
        if not isinstance(data, tuple | list) or len(data) not in (2, 3):
            raise ArgumentTypeError(
                "validation_data must be (X, y) or (X, y, sample_weight), not "
                f"{type(data).__name__}."
            )
        X, y, *weights = data
        X = check_array(X, allow_nd=True, input_name="validation X")
        return (X, self._encode(np.asarray(y), "validation y"), *weights)

    def _outputs(self, X: Any, kwargs: Mapping[str, Any]) -> Array:
        """Return what the model predicts, (rows, outputs)."""
        check_is_fitted(self)
        for name in kwargs:
            if name not in PREDICT:
                raise ArgumentTypeError(
                    f"{type(self).__name__}.predict has no argument {name!r}; those of the "
                    f"model's predict are {', '.join(PREDICT)}."
                )
        X = validate_data(self, X, allow_nd=True, reset=False)
        outputs = self.model_.predict(X, **self._routed("predict") | dict(kwargs))
        if isinstance(outputs, list):
            raise ArgumentError(f"{type(self).__name__}: the model must have one output.")
        return np.asarray(outputs)


class KerasClassifier(ClassifierMixin, _Wrapper):
    __doc__ = f"""A model-building function as a scikit-learn classifier.

    Labels may be of any kind, including strings; the model is given class numbers, or one-hot rows
    if it was compiled with `CategoricalCrossentropy`. It must end with one unit and sigmoid for
    two classes, or with one unit per class. `score` is the accuracy, as in scikit-learn and
    SciKeras.

    {_PARAMETERS.strip()}
    classes_ : array of shape (n_classes,)
    n_classes_ : int
    """

    def _learn_targets(self, y: Any) -> tuple[Any, dict[str, Any]]:
        y = np.asarray(y)
        if y.dtype.kind == "f":
            assert_all_finite(y, input_name="y")
        type_of_target(y, input_name="y", raise_unknown=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim == 2:
            if not (np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()):
                raise ShapeError(
                    f"KerasClassifier: y has shape {y.shape}; give labels (rows,), or one-hot rows."
                )
            self.classes_ = np.arange(y.shape[1])
            y = y.argmax(axis=1)
        else:
            self.classes_ = np.unique(y)
        kind = type_of_target(y, input_name="y")
        if kind not in ("binary", "multiclass"):
            raise DataError(f"Unknown label type: {kind}. KerasClassifier needs class labels.")
        self.n_classes_ = len(self.classes_)
        return y, {
            "target_type_": kind,
            "classes_": self.classes_,
            "n_classes_": self.n_classes_,
            "n_outputs_expected_": 1 if self.n_classes_ <= 2 else self.n_classes_,
        }

    def _numbers(self, y: Any, argument: str) -> Array:
        numbers = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        wrong = self.classes_[numbers] != y
        if np.any(wrong):
            raise DataError(
                f"KerasClassifier: {argument} has label {y[wrong].tolist()[0]!r}, which is not "
                f"among the classes of fit: {', '.join(map(repr, self.classes_.tolist()))}."
            )
        return numbers

    def _encode(self, y: Any, argument: str) -> Any:
        if y.ndim == 2:
            y = y[:, 0] if y.shape[1] == 1 else self.classes_[y.argmax(axis=1)]
        numbers = self._numbers(y, argument)
        if isinstance(self.model_.compiled.outputs[0].loss, CategoricalCrossentropy):
            return np.eye(self.n_classes_, dtype=np.float32)[numbers]
        return numbers

    def _class_weight(self, class_weight: Any, y: Array) -> dict[int, float]:
        """Return weights by class number, from weights by label or "balanced"."""
        if isinstance(class_weight, str) and class_weight == "balanced":
            weights = compute_class_weight("balanced", classes=self.classes_, y=y)
            return dict(enumerate(weights.tolist()))
        if not isinstance(class_weight, Mapping):
            raise ArgumentTypeError(
                f"KerasClassifier: class_weight must be 'balanced' or a dict from label to weight, "
                f"not {class_weight!r}."
            )
        labels = np.asarray(list(class_weight))
        numbers = self._numbers(labels, "class_weight").tolist()
        return dict(zip(numbers, class_weight.values(), strict=True))

    def predict_proba(self, X: Any, **kwargs: Any) -> Array:
        """Predict the probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (rows, features), or with more axes
            The data.
        **kwargs : object
            Arguments of `Model.predict`.

        Returns
        -------
        ndarray of shape (rows, n_classes)
            In the order of `classes_`.

        Raises
        ------
        ShapeError
            The model has fewer outputs than there are classes.
        """
        outputs = self._outputs(X, kwargs)
        outputs = outputs.reshape(len(outputs), -1)
        one = outputs.shape[1] == 1
        if getattr(self.model_.compiled.outputs[0].loss, "from_logits", False):
            outputs = (sigmoid if one else softmax)(outputs)
        outputs = np.hstack([1 - outputs, outputs]) if one else outputs
        if outputs.shape[1] < self.n_classes_:
            raise ShapeError(
                f"KerasClassifier: the model has {outputs.shape[1]} outputs for "
                f"{self.n_classes_} classes."
            )
        return outputs[:, : self.n_classes_]

    def predict(self, X: Any, **kwargs: Any) -> Array:
        """Predict labels.

        Parameters
        ----------
        X : array-like of shape (rows, features), or with more axes
            The data.
        **kwargs : object
            Arguments of `Model.predict`.

        Returns
        -------
        ndarray of shape (rows,)
            The most probable labels.
        """
        likeliest = self.predict_proba(X, **kwargs).argmax(axis=1)
        return self.classes_[likeliest]


class KerasRegressor(RegressorMixin, _Wrapper):
    __doc__ = f"""A model-building function as a scikit-learn regressor.

    `score` is the coefficient of determination R2, as in scikit-learn and SciKeras; the wrapper of
    Keras 2 returned the negated loss.

    {_PARAMETERS.strip()}
    """

    def _learn_targets(self, y: Any) -> tuple[Any, dict[str, Any]]:
        y = check_array(y, ensure_2d=False, allow_nd=True, input_name="y", dtype="numeric")
        self._y_axes = y.ndim
        outputs = 1 if y.ndim == 1 else y.shape[1]
        return y, {
            "target_type_": "continuous" if outputs == 1 else "continuous-multioutput",
            "n_outputs_expected_": outputs,
        }

    def _encode(self, y: Any, argument: str) -> Any:
        return y

    def predict(self, X: Any, **kwargs: Any) -> Array:
        """Predict the targets.

        Parameters
        ----------
        X : array-like of shape (rows, features), or with more axes
            The data.
        **kwargs : object
            Arguments of `Model.predict`.

        Returns
        -------
        ndarray of shape (rows,) or (rows, outputs)
            Predictions in the shape of the targets of `fit`.
        """
        outputs = self._outputs(X, kwargs)
        if self._y_axes == 1 and outputs.ndim == 2 and outputs.shape[1] == 1:
            return outputs[:, 0]
        return outputs
