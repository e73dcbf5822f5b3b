"""The perceptron: equal to scikit-learn's bit for bit, converges as proved, fails on XOR."""

from __future__ import annotations

import contextlib
import io
import platform
import re
import warnings
from typing import Any

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn import linear_model
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import estimator_checks
from sklearn.utils.fixes import parse_version

import gpunn
from gpunn.errors import ArgumentError, ArgumentTypeError, DataError, ShapeError, UnknownNameError

# Where there is a fused multiply-add in the basic instructions, scikit-learn's compiler uses it.
FUSED = platform.machine().lower() not in ("x86_64", "amd64")

IRIS = load_iris()
DIGITS = load_digits()
NOISE = np.random.RandomState(0)
ROWS = NOISE.randn(150, 7)
LABELS = NOISE.randint(0, 4, 150)
WEIGHTS = NOISE.rand(150) * (NOISE.rand(150) > 0.1)

DATA: dict[str, tuple[Any, Any]] = {
    "setosa": (IRIS.data[:, [2, 3]], IRIS.target == 0),
    "iris": (IRIS.data, IRIS.target),
    "digits": (DIGITS.data[:300], DIGITS.target[:300]),
    "two classes": (ROWS, LABELS % 2),
    "strings": (ROWS, np.array(["a", "b", "c", "d"])[LABELS]),
}

# scikit-learn before 1.8 watches the loss without the penalty, so that with a penalty it may stop
# at another pass; there those cases are compared after a fixed number of passes.
OBJECTIVE = parse_version(sklearn.__version__) >= parse_version("1.8")
FIXED: dict[str, Any] = {} if OBJECTIVE else {"tol": None, "max_iter": 12}
PARAMETERS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "seed": {"random_state": 7},
    "generator": {"random_state": np.random.RandomState},
    "in order": {"shuffle": False},
    "no intercept": {"fit_intercept": False},
    "rate": {"eta0": 0.1, "n_jobs": 2},
    "l1": {"penalty": "l1", **FIXED},
    "l2": {"penalty": "l2", **FIXED},
    "l2 beyond 0": {"penalty": "l2", "alpha": 3.0, "max_iter": 20, **FIXED},
    "elasticnet": {"penalty": "elasticnet", "alpha": 0.003, "l1_ratio": 0.7, "eta0": 0.3, **FIXED},
    "all passes": {"tol": None, "max_iter": 12},
    "impatient": {"tol": 0.1, "n_iter_no_change": 2},
    "too few passes": {"max_iter": 3},
    "early stopping": {"early_stopping": True},
    "early stopping, l2": {"early_stopping": True, "penalty": "l2", "validation_fraction": 0.3},
    "early stopping, generator": {"early_stopping": True, "random_state": np.random.RandomState},
    "balanced": {"class_weight": "balanced"},
}


def pair(**parameters: Any) -> tuple[gpunn.Perceptron, Any]:
    """Return gpunn's and scikit-learn's; a generator is one for each."""
    made = []
    for kind in (gpunn.Perceptron, linear_model.Perceptron):
        own = dict(parameters)
        if own.get("random_state") is np.random.RandomState:
            own["random_state"] = np.random.RandomState(3)
        made.append(kind(**own))
    return made[0], made[1]


def fit(model: Any, *data: Any, **more: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(*data, **more)


def same(ours: Any, theirs: Any) -> None:
    """Exactly; where products are fused (not on x86), to what the last digits can do."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.dtype == theirs.dtype
    if FUSED:
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    else:
        np.testing.assert_array_equal(ours, theirs)


def assert_equal(ours: gpunn.Perceptron, theirs: Any, X: Any) -> None:
    same(ours.coef_, theirs.coef_)
    same(ours.intercept_, theirs.intercept_)
    assert ours.classes_.tolist() == theirs.classes_.tolist()
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.t_ == theirs.t_
    same(ours.decision_function(X), theirs.decision_function(X))
    assert ours.predict(X).tolist() == theirs.predict(X).tolist()


@pytest.mark.parametrize("parameters", PARAMETERS.values(), ids=PARAMETERS)
@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
def test_equals_scikit_learn(
    parameters: dict[str, Any], name: str, dtype: Any, container: Any
) -> None:
    X, y = DATA[name]
    X = container(X.astype(dtype))
    ours, theirs = pair(**parameters)
    fit(ours, X, y)
    fit(theirs, X, y)
    assert_equal(ours, theirs, X)


@pytest.mark.parametrize("penalty", [None, "l1", "l2", "elasticnet"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 4])
class TestGoingOn:
    def test_from_given_weights_with_weights_of_samples(
        self, penalty: str | None, dtype: Any, classes: int
    ) -> None:
        X, y = ROWS.astype(dtype), LABELS % classes
        ours, theirs = pair(penalty=penalty, **FIXED)
        units = classes if classes > 2 else 1
        coef, intercept = NOISE.randn(units, 7).astype(dtype), NOISE.randn(units).astype(dtype)
        kept = coef.copy()
        fit(ours, X, y, coef_init=coef, intercept_init=intercept, sample_weight=WEIGHTS)
        same(coef, kept)
        fit(theirs, X, y, coef_init=coef, intercept_init=intercept, sample_weight=WEIGHTS)
        assert_equal(ours, theirs, X)

    def test_with_warm_start(self, penalty: str | None, dtype: Any, classes: int) -> None:
        X, y = ROWS.astype(dtype), LABELS % classes
        ours, theirs = pair(penalty=penalty, warm_start=True, max_iter=3)
        for _ in range(3):
            fit(ours, X, y)
            fit(theirs, X, y)
            assert_equal(ours, theirs, X)

    def test_with_partial_fit(self, penalty: str | None, dtype: Any, classes: int) -> None:
        X, y = ROWS.astype(dtype), LABELS % classes
        ours, theirs = pair(penalty=penalty, class_weight={0: 2.5, 1: 0.3}, **FIXED)
        every = np.arange(classes)
        for start in range(0, 150, 50):
            part = slice(start, start + 50)
            for model in (ours, theirs):
                model.partial_fit(X[part], y[part], every, sample_weight=WEIGHTS[part])
            assert_equal(ours, theirs, X)
        for model in (ours, theirs):
            fit(model, X, y)
            model.partial_fit(X[:30], y[:30])
        assert_equal(ours, theirs, X)


@pytest.mark.parametrize("name", ["l2", "early stopping"])
def test_verbose_prints_what_scikit_learn_prints(name: str) -> None:
    printed = []
    for model in pair(verbose=1, **PARAMETERS[name]):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            fit(model, ROWS, LABELS % 2)
        printed.append(re.sub(r"\d+\.\d+ seconds", "some seconds", out.getvalue()))
    ours, theirs = printed
    if not OBJECTIVE:  # scikit-learn did not print it, nor the score
        ours = re.sub(r", (Objective|Validation score): [\d.]+", "", ours)
    assert "-- Epoch 1\nNorm: " in ours
    assert ours == theirs


def test_is_stochastic_gradient_descent_on_the_perceptron_loss() -> None:
    X, y = DATA["digits"]
    descent = linear_model.SGDClassifier(
        loss="perceptron", learning_rate="constant", eta0=1, penalty=None, random_state=5
    )
    fit(descent, X, y)
    assert_equal(gpunn.Perceptron(random_state=5).fit(X, y), descent, X)


def test_a_sample_on_the_boundary_is_wrong_in_training_and_of_the_first_class_after() -> None:
    X = np.array([[1.0], [2.0]])
    # Weights of 0 put both samples on the boundary: each moves the weights once.
    model = gpunn.Perceptron(max_iter=1, tol=None, shuffle=False, fit_intercept=False)
    model.fit(X, [0, 1])
    assert model.coef_.tolist() == [[-1.0 + 2.0]]
    assert model.decision_function([[0.0]]).tolist() == [0.0]
    assert model.predict([[0.0]]).tolist() == [0]
    assert gpunn.activations.step(model.decision_function([[0.0]])).tolist() == [1.0]


def test_tells_setosa_from_the_other_irises_by_their_petals() -> None:
    model = gpunn.Perceptron(random_state=42).fit(*DATA["setosa"])
    assert model.score(*DATA["setosa"]) == 1.0
    assert model.predict([[2, 0.5]]).tolist() == [True]


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_samples=st.integers(2, 40),
    n_features=st.integers(1, 8),
    margin=st.floats(0.1, 0.5),
)
def test_convergence_theorem(seed: int, n_samples: int, n_features: int, margin: float) -> None:
    """Separable data: at most (R / gamma)**2 mistakes, then none (Novikoff 1962)."""
    generator = np.random.default_rng(seed)
    normal = generator.normal(size=n_features)
    normal /= np.linalg.norm(normal)
    X = generator.normal(size=(n_samples, n_features))
    distance = X @ normal
    y = distance > 0
    y[0], y[1] = True, False  # both classes
    side = np.where(y, 1.0, -1.0)
    # Move each sample along the normal to at least the margin, on the side of its class.
    X += np.outer(np.where(side * distance < margin, side * margin - distance, 0.0), normal)
    bound = (np.linalg.norm(X, axis=1).max() / (side * (X @ normal)).min()) ** 2

    model = gpunn.Perceptron(fit_intercept=False, shuffle=False, max_iter=1)
    mistakes = 0
    for _ in range(int(bound) + 2):  # every pass but the last has a mistake
        in_pass = 0
        for x, label in zip(X, y, strict=True):
            before = model.coef_.copy() if hasattr(model, "coef_") else np.zeros((1, n_features))
            model.partial_fit(x[None], [label], classes=[False, True])
            in_pass += not np.array_equal(model.coef_, before)
        mistakes += in_pass
        if in_pass == 0:
            break
    assert in_pass == 0
    assert 1 <= mistakes <= bound * (1 + 1e-9)
    assert model.score(X, y) == 1.0

    whole = gpunn.Perceptron(fit_intercept=False, shuffle=False, tol=None, max_iter=int(bound) + 2)
    whole.fit(X, y)
    np.testing.assert_array_equal(whole.coef_, model.coef_)


XOR = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
EITHER = np.array([0, 1, 1, 0])


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), passes=st.integers(1, 300))
def test_a_perceptron_never_separates_xor(seed: int, passes: int) -> None:
    model = gpunn.Perceptron(random_state=seed, tol=None, max_iter=passes)
    assert model.fit(XOR, EITHER).score(XOR, EITHER) < 1.0


def test_an_mlp_learns_xor() -> None:
    model = gpunn.Sequential(
        [
            gpunn.Input((2,)),
            gpunn.layers.Dense(8, activation="tanh"),
            gpunn.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(gpunn.optimizers.Adam(0.05), "binary_crossentropy", seed=3)
    model.fit(XOR, EITHER[:, None].astype(np.float32), epochs=200, batch_size=4, verbose=0)
    np.testing.assert_array_equal(model.predict(XOR).ravel() > 0.5, EITHER)


# As for scikit-learn's own: which sample moves the weights depends on their order, so that a
# weight of 2 is not the same as a sample that comes twice.
EXPECTED_FAILURES = {
    f"check_sample_weight_equivalence_on_{kind}_data": "the order of samples matters"
    for kind in ("dense", "sparse")
}
# These are about pandas, where it is not installed, and about other libraries' arrays.
NOT_RUN = {
    "check_sample_weights_pandas_series",
    "check_classifier_data_not_an_array",
    "check_array_api_input",
}


def test_scikit_learns_checks() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = estimator_checks.check_estimator(
            gpunn.Perceptron(max_iter=5), expected_failed_checks=EXPECTED_FAILURES, on_skip=None
        )
    names: dict[str, set[str]] = {}
    for result in results:
        names.setdefault(result["status"], set()).add(result["check_name"])
    assert len(names["passed"]) > 40
    assert set(names) <= {"passed", "skipped", "xfail"}
    assert names.get("skipped", set()) <= NOT_RUN
    assert names["xfail"] <= set(EXPECTED_FAILURES)


def test_balanced_classes_as_scikit_learn_checks_its_own_linear_models() -> None:
    estimator_checks.check_class_weight_balanced_linear_classifier(
        "Perceptron", gpunn.Perceptron(max_iter=1000, tol=None)
    )


def test_sparse_weights() -> None:
    X, y = DATA["digits"]
    model = gpunn.Perceptron(penalty="l1", warm_start=True).fit(X, y)
    dense, expected = model.coef_.copy(), model.predict(X)
    model.sparsify()
    assert sparse.issparse(model.coef_)
    np.testing.assert_array_equal(model.predict(X), expected)
    for go_on in (model.fit, model.partial_fit):
        with pytest.raises(ArgumentTypeError, match=re.escape("call densify() first")):
            go_on(X, y)
    np.testing.assert_array_equal(model.densify().coef_, dense)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"penalty": "l3"}, UnknownNameError, "Unknown penalty 'l3'.*elasticnet, l1, l2"),
        ({"alpha": -1}, ArgumentError, "alpha must be a number at least 0"),
        ({"l1_ratio": 1.5}, ArgumentError, "l1_ratio must be .* at most 1"),
        ({"fit_intercept": 1}, ArgumentTypeError, "fit_intercept must be a bool, not 1"),
        ({"max_iter": 0}, ArgumentError, "max_iter must be at least 1"),
        ({"tol": "small"}, ArgumentTypeError, "tol must be a number"),
        ({"verbose": "yes"}, ArgumentTypeError, "verbose must be a whole number"),
        ({"eta0": 0}, ArgumentError, "eta0 must be a number above 0"),
        ({"n_jobs": 1.5}, ArgumentTypeError, "n_jobs must be a whole number or None"),
        ({"random_state": -1}, ArgumentError, "random_state must be an int from 0"),
        ({"validation_fraction": 1}, ArgumentError, "validation_fraction must be .* below 1"),
        ({"n_iter_no_change": 0}, ArgumentError, "n_iter_no_change must be at least 1"),
        ({"class_weight": "even"}, ArgumentError, "class_weight must be a dict, 'balanced'"),
    ],
)
def test_parameters_are_checked(
    parameters: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gpunn.Perceptron(**parameters).fit(ROWS, LABELS)


def test_data_are_checked() -> None:
    model = gpunn.Perceptron()
    with pytest.raises(DataError, match="greater than one; got 1 class"):
        model.fit(ROWS, np.zeros(150))
    with pytest.raises(ShapeError, match=r"coef_init.* have shape \(1, 3\).* need \(4, 7\)"):
        model.fit(ROWS, LABELS, coef_init=np.zeros((1, 3)))
    with pytest.raises(ShapeError, match=r"intercept_init.* have shape \(2,\)"):
        model.fit(ROWS, LABELS, intercept_init=np.zeros(2))
    with pytest.raises(ShapeError, match=r"expected \(150,\)"):
        model.fit(ROWS, LABELS, sample_weight=WEIGHTS[:10])
    with pytest.raises(ShapeError, match="1D array or scalar, got 2D"):
        model.fit(ROWS, LABELS, sample_weight=WEIGHTS[:, None])
    with pytest.raises(DataError, match="at least one non-zero"):
        model.fit(ROWS, LABELS, sample_weight=0.0)
    with pytest.raises(DataError, match=r"under-/overflow occurred at epoch #1"):
        gpunn.Perceptron(eta0=1e308).fit(ROWS, LABELS % 2)
    with pytest.raises(DataError, match="weights for validation set are all zero"):
        gpunn.Perceptron(early_stopping=True).fit(ROWS, LABELS, sample_weight=np.zeros(150))


def test_partial_fit_is_told_the_classes() -> None:
    with pytest.raises(ArgumentError, match="classes must be passed on the first call"):
        gpunn.Perceptron().partial_fit(ROWS, LABELS)
    with pytest.raises(ArgumentError, match="early_stopping must be False"):
        gpunn.Perceptron(early_stopping=True).partial_fit(ROWS, LABELS, [0, 1, 2, 3])
    with pytest.raises(ArgumentError, match="'balanced' is not supported for partial_fit"):
        gpunn.Perceptron(class_weight="balanced").partial_fit(ROWS, LABELS, [0, 1, 2, 3])
    model = gpunn.Perceptron().partial_fit(ROWS, LABELS, [0, 1, 2, 3, 4])
    assert model.coef_.shape == (5, 7)
    with pytest.raises(ArgumentError, match="is not the same as on last call"):
        model.partial_fit(ROWS, LABELS, [0, 1, 2, 3])
    with pytest.raises(ValueError, match="classes should include all valid labels"):
        model.partial_fit(ROWS, LABELS + 3)


def test_training_goes_on_in_the_type_it_began_with() -> None:
    model = gpunn.Perceptron().partial_fit(ROWS.astype(np.float32), LABELS, np.unique(LABELS))
    again = gpunn.Perceptron().partial_fit(ROWS.astype(np.float32), LABELS, np.unique(LABELS))
    model.partial_fit(ROWS.astype(np.float32), LABELS)
    again.partial_fit(ROWS, LABELS)
    assert again.coef_.dtype == np.float32
    np.testing.assert_array_equal(again.coef_, model.coef_)


def test_ending_by_max_iter_is_a_warning() -> None:
    with pytest.warns(ConvergenceWarning, match="max_iter=2 passes"):
        gpunn.Perceptron(max_iter=2).fit(ROWS, LABELS)
