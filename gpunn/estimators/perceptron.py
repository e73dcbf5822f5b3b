"""The perceptron (Rosenblatt 1957): one layer of linear threshold units."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, validate_data

from gpunn.errors import ArgumentError, DataError
from gpunn.estimators.perceptron_checks import (
    Settings,
    check_dense,
    check_sample_weight,
    check_settings,
    check_start,
)
from gpunn.estimators.perceptron_training import (
    LARGEST_SEED,
    Unit,
    train_unit,
    validation_mask,
)

Array = np.ndarray[Any, Any]


class Perceptron(ClassifierMixin, BaseEstimator):
    """Linear classifier of threshold units, trained by Rosenblatt's rule.

    A unit fires for a sample x where ``x @ w + b > 0``. It is shown one sample at a time; where it
    is wrong it becomes ``w + eta0 * t * x`` and ``b + eta0 * t``, t being 1 for samples of its
    class and -1 for others. Two classes take one unit; more take one for each, against all others,
    and the largest ``x @ w + b`` wins.

    Parameters, attributes and results are those of `sklearn.linear_model.Perceptron`: the same
    `random_state` gives the same weights.

    Parameters
    ----------
    penalty : {"l2", "l1", "elasticnet"}, optional
        On the weights, not on the intercept.
    alpha : float, default=0.0001
        Factor of the penalty.
    l1_ratio : float, default=0.15
        Part of l1 in ``"elasticnet"``.
    fit_intercept : bool, default=True
        Whether there is an intercept b.
    max_iter : int, default=1000
        Most passes over the data that `fit` makes.
    tol : float, default=1e-3
        Training ends when the mean loss, penalty included, has not fallen below its best by `tol`
        for `n_iter_no_change` passes; None makes all `max_iter` passes.
    shuffle : bool, default=True
        Whether the samples are shuffled before each pass.
    verbose : int, default=0
        Whether to print figures of each pass.
    eta0 : float, default=1
        Learning rate. Without penalty it scales the weights and changes no prediction.
    n_jobs : int, optional
        Threads that train the units of several classes.
    random_state : int, RandomState or None, default=0
        Gives the shuffling, and the samples for validation.
    early_stopping : bool, default=False
        Whether to hold samples out and to watch the accuracy on them instead of the loss.
    validation_fraction : float, default=0.1
        Part that is held out, of each class.
    n_iter_no_change : int, default=5
        Passes without improvement before training ends.
    class_weight : dict or "balanced", optional
        Factors of the learning rate, by class; ``"balanced"`` makes them inversely proportional to
        the frequency of the classes.
    warm_start : bool, default=False
        Whether `fit` starts where the last one ended.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    coef_ : array of shape (1, n_features) or (n_classes, n_features)
        Weights, in the type of the data: float64, or float32 for float32 data.
    intercept_ : array of shape (1,) or (n_classes,)
    n_iter_ : int
        Passes over the data, of the unit that took most.
    t_ : int
        One more than ``n_iter_ * n_samples``, added up over the calls of `partial_fit`.
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)
        Where X has names for its columns.

    Notes
    -----
    Where a sample lies on the boundary exactly, training takes it for wrong and prediction for the
    first class, as scikit-learn does. The Heaviside function that is 1 at 0 would say the second:
    ``gpunn.activations.step(model.decision_function(X))``.

    Results follow scikit-learn from 1.8 on; before, its training ended by the loss without the
    penalty. They are equal bit for bit on x86-64; for processors whose compilers join products and
    sums, scikit-learn's last digits may differ.

    Examples
    --------
    >>> import gpunn
    >>> from sklearn.datasets import load_iris
    >>> iris = load_iris()
    >>> X, y = iris.data[:, [2, 3]], iris.target == 0  # petal length and width; setosa?
    >>> model = gpunn.Perceptron(random_state=42).fit(X, y)
    >>> model.predict([[2, 0.5]])
    array([ True])
    """

    classes_: Array
    coef_: Any
    intercept_: Array
    n_iter_: int
    t_: int

    def __init__(
        self,
        *,
        penalty: str | None = None,
        alpha: float = 0.0001,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool = True,
        verbose: int = 0,
        eta0: float = 1.0,
        n_jobs: int | None = None,
        random_state: Any = 0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        class_weight: Any = None,
        warm_start: bool = False,
    ) -> None:
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.eta0 = eta0
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.warm_start = warm_start

    def fit(
        self,
        X: Any,
        y: Any,
        coef_init: Any = None,
        intercept_init: Any = None,
        sample_weight: Any = None,
    ) -> Perceptron:
        """Train on all samples, pass by pass.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            float32 and float64 are taken as they are, other types as float64. With sparse data
            the intercept learns at a hundredth of the rate, as in scikit-learn.
        y : array of shape (n_samples,)
            Classes: numbers, strings or bools.
        coef_init : array of shape (n_classes, n_features), or of n_features for two classes
            Weights to start with; 0 by default.
        intercept_init : array of shape (n_classes,), or (1,) for two classes
        sample_weight : array of shape (n_samples,), optional
            Factors of the learning rate, by sample.

        Returns
        -------
        Perceptron
            Itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data cannot be used, or if weights overflow.
        """
        settings = check_settings(self)
        X, y = self._validated(X, y, reset=True)
        check_classification_targets(y)
        if self.warm_start and hasattr(self, "coef_"):
            coef_init = self.coef_ if coef_init is None else coef_init
            intercept_init = self.intercept_ if intercept_init is None else intercept_init
        classes = np.unique(y)
        coef, intercept = check_start(coef_init, intercept_init, classes.size, X)
        self.t_ = 1
        self._train(X, y, classes, coef, intercept, sample_weight, settings)
        if self.tol is not None and self.n_iter_ == settings.max_iter:
            warnings.warn(
                f"Training made all max_iter={settings.max_iter} passes and was still improving: "
                f"a larger max_iter may improve the fit.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> Perceptron:
        """Go on with one pass over these samples.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array of shape (n_classes,)
            All classes that there will be; needed in the first call.

        Returns
        -------
        Perceptron
            Itself.
        """
        settings = replace(check_settings(self), max_iter=1)
        first = not hasattr(self, "classes_")
        if first and settings.early_stopping:
            raise ArgumentError("Perceptron: early_stopping must be False with partial_fit.")
        if first and isinstance(self.class_weight, str):
            raise ArgumentError(
                "Perceptron: class_weight 'balanced' is not supported for partial_fit, which does "
                "not know how many samples of each class will come. Give a dict, for example of "
                "sklearn.utils.class_weight.compute_class_weight('balanced', classes=..., y=...)."
            )
        X, y = self._validated(X, y, reset=first)
        if classes is not None:
            classes = unique_labels(classes)
            if not first and not np.array_equal(classes, self.classes_):
                raise ArgumentError(
                    f"Perceptron: classes={classes.tolist()} is not the same as on last call to "
                    f"partial_fit, was: {self.classes_.tolist()}."
                )
        elif first:
            raise ArgumentError(
                "Perceptron: classes must be passed on the first call to partial_fit."
            )
        else:
            classes = self.classes_
        if first:
            coef, intercept = check_start(None, None, classes.size, X)
            self.t_ = 1
        else:
            X = X.astype(self.coef_.dtype, copy=False)
            coef, intercept = check_dense(self.coef_), self.intercept_
        self._train(X, y, classes, coef, intercept, sample_weight, settings)
        return self

    def decision_function(self, X: Any) -> Array:
        """Return ``X @ w + b``: (n_samples,) for two classes, else (n_samples, n_classes)."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", reset=False)
        scores = safe_sparse_dot(X, self.coef_.T, dense_output=True) + self.intercept_
        return scores.ravel() if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> Array:
        """Return the class of each sample, an array of shape (n_samples,)."""
        scores = self.decision_function(X)
        indices = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_.take(indices)

    def sparsify(self) -> Perceptron:
        """Keep `coef_` as a sparse array: smaller where an l1 penalty made most weights 0."""
        check_is_fitted(self)
        self.coef_ = sparse.csr_array(self.coef_)
        return self

    def densify(self) -> Perceptron:
        """Keep `coef_` as a NumPy array again, as training needs it."""
        check_is_fitted(self)
        if sparse.issparse(self.coef_):
            self.coef_ = self.coef_.toarray()
        return self

    def _validated(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Array]:
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            accept_large_sparse=False,
            dtype=[np.float64, np.float32],
            order="C",
            reset=reset,
        )
        return X, y

    def _train(
        self,
        X: Any,
        y: Array,
        classes: Array,
        coef: Array,
        intercept: Array,
        sample_weight: Any,
        settings: Settings,
    ) -> None:
        """Train from `coef` (units, n_features) and `intercept` (units,), and keep the result."""
        if classes.size < 2:
            raise DataError(
                f"Perceptron: the number of classes has to be greater than one; got "
                f"{classes.size} class."
            )
        weights = compute_class_weight(self.class_weight, classes=classes, y=y)
        samples = check_sample_weight(sample_weight, X, settings.early_stopping)

        def unit(i: int, row: int, negative: float, held_out: Any, random_state: Any) -> Unit:
            targets = np.where(y == classes[i], 1, -1).astype(X.dtype)
            pair = float(weights[i]), negative
            return train_unit(
                X,
                targets,
                samples,
                held_out,
                coef[row],
                float(intercept[row]),
                pair,
                settings,
                random_state,
            )

        if classes.size == 2:
            units = [unit(1, 0, float(weights[0]), None, settings.random_state)]
            # scikit-learn's type: float64 even where the weights are float32.
            self.intercept_ = np.array([units[0].intercept])
        else:
            held_out = validation_mask(y, samples, settings)
            generator = check_random_state(settings.random_state)
            seeds = generator.randint(LARGEST_SEED, size=classes.size)
            units = Parallel(n_jobs=settings.n_jobs, verbose=settings.verbose, require="sharedmem")(
                delayed(unit)(i, i, 1.0, held_out, seed) for i, seed in enumerate(seeds)
            )
            self.intercept_ = np.array([u.intercept for u in units], dtype=X.dtype)
        self.coef_ = np.stack([u.weights for u in units])
        self.classes_ = classes
        self.n_iter_ = max(u.n_iter for u in units)
        self.t_ += self.n_iter_ * X.shape[0]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
