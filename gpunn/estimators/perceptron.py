"""The perceptron (Rosenblatt 1957): one layer of linear threshold units."""

from __future__ import annotations

from sklearn import linear_model


class Perceptron(linear_model.Perceptron):
    """Linear classifier of threshold units, trained by Rosenblatt's rule.

    A unit fires for a sample x where ``x @ w + b > 0``. It is shown one sample at a time; where it
    is wrong it becomes ``w + eta0 * t * x`` and ``b + eta0 * t``, t being 1 for samples of its
    class and -1 for others. Two classes take one unit; more take one for each, against all others,
    and the largest ``x @ w + b`` wins.

    It is `sklearn.linear_model.Perceptron`, trained on the CPU, with the
    same parameters, methods, errors and weights, beside gpunn's activations and networks.

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
    first class. The Heaviside function that is 1 at 0 would say the second:
    ``gpunn.activations.step(model.decision_function(X))``.

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
