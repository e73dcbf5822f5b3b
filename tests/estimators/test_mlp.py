"""MLPClassifier and MLPRegressor, beside scikit-learn's own."""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import numpy as np
import pytest
from scipy import optimize, sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.preprocessing import scale

import gpunn
from gpunn import MLPClassifier, MLPRegressor, optimizers
from gpunn.errors import ArgumentError, ArgumentTypeError, DataError, GpunnError, UnknownNameError

ORDER = np.random.default_rng(0).permutation(150)
IRIS, FLOWERS = scale(load_iris().data)[ORDER], load_iris().target[ORDER]
NAMES = load_iris().target_names[FLOWERS]
DIABETES, PROGRESS = load_diabetes(return_X_y=True)
PROGRESS = scale(PROGRESS)
WEIGHTS = np.random.default_rng(1).uniform(0.5, 1.5, 150)
# The same rows in the same order, so that nothing is left but rounding.
SAME: dict[str, Any] = {
    "hidden_layer_sizes": (7, 5),
    "alpha": 0.1,
    "shuffle": False,
    "random_state": 0,
    "max_iter": 30,
    "batch_size": 32,
}
WIDE: dict[str, Any] = {"precision": "float64", "device": "cpu"}
TARGETS = {
    "three classes": FLOWERS,
    "two classes": FLOWERS == 1,
    "strings": NAMES,
    "labels": np.stack([FLOWERS == 0, FLOWERS > 0, FLOWERS < 2], 1).astype(int),
}
SOLVERS: dict[str, dict[str, Any]] = {
    "adam": {"solver": "adam"},
    "adam, betas": {"solver": "adam", "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.1},
    "sgd, no momentum": {"solver": "sgd", "learning_rate_init": 0.1, "momentum": 0.0},
    "sgd, not Nesterov's": {
        "solver": "sgd",
        "learning_rate_init": 0.1,
        "nesterovs_momentum": False,
    },
    "invscaling": {
        "solver": "sgd",
        "learning_rate": "invscaling",
        "learning_rate_init": 0.1,
        "power_t": 0.3,
    },
    "adaptive": {
        "solver": "sgd",
        "learning_rate": "adaptive",
        "learning_rate_init": 0.3,
        "tol": 1e-2,
        "n_iter_no_change": 3,
    },
    "no penalty": {"solver": "adam", "alpha": 0.0},
    "early stopping": {"solver": "adam", "early_stopping": True, "n_iter_no_change": 3},
    "a linear model": {"hidden_layer_sizes": ()},
    "one size": {"hidden_layer_sizes": 9, "activation": "tanh"},
    "logistic": {"activation": "logistic", "solver": "sgd", "learning_rate_init": 0.1},
    "identity": {"activation": "identity"},
}


@pytest.fixture(autouse=True)
def _few_iterations() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def assert_same(ours: Any, theirs: Any, tolerance: float = 1e-10) -> None:
    """Compare weights and everything that was counted on the way."""
    for name in ("coefs_", "intercepts_"):
        for mine, its in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            np.testing.assert_allclose(mine, its, rtol=0, atol=tolerance)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("loss_", "best_loss_", "best_validation_score_"):
        if hasattr(theirs, name):
            mine, its = getattr(ours, name), getattr(theirs, name)
            assert mine == pytest.approx(its, abs=tolerance) if its is not None else mine is None
    for name in ("loss_curve_", "validation_scores_"):
        if getattr(theirs, name, None) is not None:
            np.testing.assert_allclose(
                getattr(ours, name), getattr(theirs, name), rtol=0, atol=tolerance
            )


# Beside scikit-learn


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_classifier_trains_as_scikit_learns(solver: str, targets: str) -> None:
    settings, y = SAME | SOLVERS[solver], TARGETS[targets]
    theirs = TheirClassifier(**settings).fit(IRIS, y)
    ours = MLPClassifier(**settings, **WIDE).fit(IRIS, y)
    assert_same(ours, theirs)
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    np.testing.assert_array_equal(ours.predict(IRIS), theirs.predict(IRIS))
    for name in ("predict_proba", "predict_log_proba"):
        np.testing.assert_allclose(
            getattr(ours, name)(IRIS), getattr(theirs, name)(IRIS), atol=1e-8
        )
    assert ours.score(IRIS, y) == theirs.score(IRIS, y)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("outputs", [1, 2])
def test_regressor_trains_as_scikit_learns(solver: str, outputs: int) -> None:
    settings = SAME | SOLVERS[solver]
    y = PROGRESS if outputs == 1 else np.stack([PROGRESS, -(PROGRESS**2)], axis=1)
    theirs = TheirRegressor(**settings).fit(DIABETES, y)
    ours = MLPRegressor(**settings, **WIDE).fit(DIABETES, y)
    assert_same(ours, theirs)
    assert ours.predict(DIABETES).shape == y.shape
    np.testing.assert_allclose(ours.predict(DIABETES), theirs.predict(DIABETES), atol=1e-9)
    assert ours.score(DIABETES, y) == pytest.approx(theirs.score(DIABETES, y))


@pytest.mark.parametrize("targets", TARGETS)
def test_lbfgs_reaches_the_minimum(targets: str) -> None:
    """Without a hidden layer and with a penalty there is but one, whatever roundings do.

    Each search ends where an iteration gains less than 2e-9 of the loss (SciPy's ``ftol``).
    """
    settings = SAME | {"solver": "lbfgs", "max_iter": 2000, "hidden_layer_sizes": (), "alpha": 1.0}
    theirs = TheirClassifier(**settings).fit(IRIS, TARGETS[targets])
    ours = MLPClassifier(**settings, **WIDE).fit(IRIS, TARGETS[targets])
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-6)
    np.testing.assert_array_equal(ours.predict(IRIS), theirs.predict(IRIS))


@pytest.mark.parametrize("targets", TARGETS)
def test_lbfgs_begins_as_scikit_learns(targets: str) -> None:
    """A few iterations: later ones of a loss with many minima may lead to another of them."""
    settings = SAME | {"solver": "lbfgs", "max_iter": 5, "activation": "tanh"}
    theirs = TheirClassifier(**settings).fit(IRIS, TARGETS[targets], sample_weight=WEIGHTS)
    ours = MLPClassifier(**settings, **WIDE).fit(IRIS, TARGETS[targets], sample_weight=WEIGHTS)
    assert ours.n_iter_ == theirs.n_iter_
    assert_same(ours, theirs)


def test_lbfgs_for_regression() -> None:
    settings = SAME | {"solver": "lbfgs", "max_iter": 5}
    theirs = TheirRegressor(**settings).fit(DIABETES, PROGRESS)
    assert_same(MLPRegressor(**settings, **WIDE).fit(DIABETES, PROGRESS), theirs)


def test_sample_weights_over_all_rows() -> None:
    # One batch: there the sum of its weights is that of all.
    settings = SAME | {"batch_size": 150, "solver": "sgd", "learning_rate_init": 0.1}
    theirs = TheirClassifier(**settings).fit(IRIS, FLOWERS, sample_weight=3 * WEIGHTS)
    ours = MLPClassifier(**settings, **WIDE).fit(IRIS, FLOWERS, sample_weight=3 * WEIGHTS)
    assert_same(ours, theirs)


def test_partial_fit_and_warm_start() -> None:
    settings = SAME | {"solver": "adam", "max_iter": 4}
    ours, theirs = MLPClassifier(**settings, **WIDE), TheirClassifier(**settings)
    for model in (ours, theirs):
        model.partial_fit(IRIS[:40], NAMES[:40], classes=np.unique(NAMES))
        for start in range(40, 150, 37):  # the last one is shorter
            model.partial_fit(IRIS[start : start + 37], NAMES[start : start + 37])
    assert_same(ours, theirs)
    ours, theirs = (m.set_params(warm_start=True) for m in (clone(ours), clone(theirs)))
    for model in (ours, theirs):
        for _ in range(3):
            model.fit(IRIS, NAMES)
    assert_same(ours, theirs)
    assert len(ours.loss_curve_) == 12


def test_partial_fit_of_a_regressor() -> None:
    settings = SAME | {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1}
    ours, theirs = MLPRegressor(**settings, **WIDE), TheirRegressor(**settings)
    for model in (ours, theirs):
        for start in range(0, 400, 100):
            model.partial_fit(DIABETES[start : start + 100], PROGRESS[start : start + 100])
    assert_same(ours, theirs)


@pytest.mark.parametrize("device", ["reference", "simulator", "cpu"])
def test_devices_agree(device: str) -> None:
    settings = {"hidden_layer_sizes": (6,), "max_iter": 3, "random_state": 0, "batch_size": 40}
    expected = MLPClassifier(**settings, device="reference").fit(IRIS, FLOWERS)
    ours = MLPClassifier(**settings, device=device).fit(IRIS, FLOWERS)
    np.testing.assert_allclose(ours.predict_proba(IRIS), expected.predict_proba(IRIS), atol=1e-5)
    lbfgs = MLPClassifier(**settings, device=device, solver="lbfgs").fit(IRIS, FLOWERS)
    expected = MLPClassifier(**settings, device="reference", solver="lbfgs").fit(IRIS, FLOWERS)
    assert lbfgs.loss_ == pytest.approx(expected.loss_, rel=1e-4)
    for share in (0.1, 0.4):  # few rows and many are predicted in different ways
        settings |= {"early_stopping": True, "validation_fraction": share}
        expected = MLPClassifier(**settings, device="reference").fit(IRIS, FLOWERS)
        ours = MLPClassifier(**settings, device=device).fit(IRIS, FLOWERS)
        np.testing.assert_allclose(
            ours.validation_loss_curve_, expected.validation_loss_curve_, rtol=1e-5
        )


def test_shuffled_in_float32_it_is_as_good() -> None:
    x, y = load_digits(return_X_y=True)
    x = x / 16
    settings = {"hidden_layer_sizes": (50,), "max_iter": 40, "random_state": 0}
    theirs = TheirClassifier(**settings).fit(x[:1200], y[:1200]).score(x[1200:], y[1200:])
    for precision, given in (("float32", x), (None, x.astype(np.float32))):
        ours = MLPClassifier(**settings, device="cpu", precision=precision)
        ours.fit(given[:1200], y[:1200])
        assert ours.score(given[1200:], y[1200:]) == pytest.approx(theirs, abs=0.015)
        assert ours.coefs_[0].dtype == np.float32


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_computing_is_in_the_type_of_the_data(kind: str) -> None:
    for estimator in (MLPClassifier, MLPRegressor):
        model = estimator(max_iter=1, device="cpu").fit(IRIS.astype(kind), FLOWERS)
        assert model.coefs_[0].dtype == kind


def test_warm_start_with_other_parameters() -> None:
    model = MLPClassifier(**(SAME | WIDE | {"max_iter": 3, "warm_start": True}))
    for change in (
        {"early_stopping": True},
        {"early_stopping": False},
        {"solver": "lbfgs"},
        {"solver": "sgd", "precision": "float32"},
        {"dropout": 0.1, "alpha": 0.0},
    ):
        model.set_params(**change).fit(IRIS, NAMES)
    assert len(model.loss_curve_) == 12
    assert model.score(IRIS, NAMES) > 0.5


def test_lbfgs_computes_in_float64_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MLPClassifier((4,), solver="lbfgs", device="cpu", random_state=0).fit(IRIS, FLOWERS)
    assert model.coefs_[0].dtype == np.float64
    small = clone(model).set_params(precision="float32").fit(IRIS, FLOWERS)
    assert small.coefs_[0].dtype == np.float32

    def ended_by_rounding(loss_and_gradient: Any, start: Any, **kwargs: Any) -> Any:
        return optimize.OptimizeResult(x=start, status=2, nit=3, message="ABNORMAL:")

    monkeypatch.setattr(optimize, "minimize", ended_by_rounding)
    for estimator, advice in (
        (small, "Rounding in float32 ended the search; use precision='float64'"),
        (model, "Scale the data, or increase"),
    ):
        with pytest.warns(ConvergenceWarning, match=f"after 3 iteration.*ABNORMAL: {advice}"):
            estimator.fit(IRIS, FLOWERS)


# What scikit-learn has not


def test_dropout_and_other_optimizers_and_activations() -> None:
    settings = {"max_iter": 200, "random_state": 0, "device": "cpu"}
    for kwargs in (
        {"dropout": 0.3},
        {"solver": "rmsprop", "learning_rate_init": 0.01},
        {"solver": optimizers.AdamW(0.01)},
        {"activation": "gelu"},
        {"activation": gpunn.activations.ActivationFunction("elu", 0.5)},
    ):
        model = MLPClassifier(**settings, **kwargs).fit(IRIS, FLOWERS)
        assert model.score(IRIS, FLOWERS) > 0.9, kwargs
    dry = MLPClassifier(**settings).fit(IRIS, FLOWERS)
    wet = MLPClassifier(**settings, dropout=0.3).fit(IRIS, FLOWERS)
    assert wet.loss_ > dry.loss_


@pytest.mark.parametrize(
    ("loss", "minimum"), [("absolute_error", np.median), ("squared_error", np.mean)]
)
def test_losses_have_their_minimum(loss: str, minimum: Any) -> None:
    y = np.array([0.0, 0.1, 0.2, 0.3, 4.0])
    settings = {
        "hidden_layer_sizes": (),
        "alpha": 0,
        "learning_rate_init": 0.01,
        "max_iter": 1000,
        "n_iter_no_change": 1000,
    }
    model = MLPRegressor(loss, **settings, random_state=0, device="cpu").fit(np.zeros((5, 1)), y)
    assert model.predict([[0.0]])[0] == pytest.approx(minimum(y), abs=0.02)


def test_huber_loss_is_between_them() -> None:
    settings = SAME | {"max_iter": 3, "device": "cpu", "random_state": 0}
    for loss in ("huber", gpunn.losses.Huber(0.5), gpunn.losses.Huber):
        model = MLPRegressor(loss, **settings)
        model.fit(DIABETES, PROGRESS, validation_data=(DIABETES, PROGRESS))
        error = np.abs(model.predict(DIABETES) - PROGRESS)
        delta = 0.5 if loss == gpunn.losses.Huber(0.5) else 1.0
        each = np.where(error <= delta, error**2 / 2, delta * error - delta**2 / 2)
        assert model.validation_loss_curve_[-1] == pytest.approx(each.mean(), rel=1e-5)


def test_class_weights_are_sample_weights() -> None:
    settings = SAME | WIDE
    weight = {"setosa": 2.0, "virginica": 0.5}
    by_class = MLPClassifier(**settings, class_weight=weight).fit(IRIS, NAMES)
    each = np.select([name == NAMES for name in weight], list(weight.values()), 1.0)
    by_row = MLPClassifier(**settings).fit(IRIS, NAMES, sample_weight=each)
    for mine, its in zip(by_class.coefs_, by_row.coefs_, strict=True):
        np.testing.assert_array_equal(mine, its)
    few = NAMES != "setosa"
    few[:20] = True
    plain = MLPClassifier(max_iter=5, random_state=0, device="cpu").fit(IRIS[few], NAMES[few])
    fair = clone(plain).set_params(class_weight="balanced").fit(IRIS[few], NAMES[few])
    setosa = IRIS[NAMES == "setosa"]
    assert fair.predict_proba(setosa)[:, 0].mean() > plain.predict_proba(setosa)[:, 0].mean()


def test_validation_data() -> None:
    model = MLPClassifier(**(SAME | WIDE | {"max_iter": 8}))
    model.fit(IRIS[:100], NAMES[:100], validation_data=(IRIS[100:], NAMES[100:]))
    assert len(model.validation_scores_) == len(model.loss_curve_) == 8
    assert model.validation_scores_[-1] == model.score(IRIS[100:], NAMES[100:])
    loss = log_loss(NAMES[100:], model.predict_proba(IRIS[100:]))
    assert model.validation_loss_curve_[-1] == pytest.approx(loss)
    assert model.best_validation_score_ == max(model.validation_scores_)
    weighted = (IRIS[100:], NAMES[100:], WEIGHTS[100:])
    model.fit(IRIS[:100], NAMES[:100], validation_data=weighted)
    score = model.score(IRIS[100:], NAMES[100:], WEIGHTS[100:])
    assert model.validation_scores_[-1] == pytest.approx(score)
    model.fit(IRIS, NAMES)
    assert model.validation_scores_ is None


def test_early_stopping_takes_the_validation_data_that_is_given() -> None:
    model = MLPRegressor(
        hidden_layer_sizes=(20,),
        early_stopping=True,
        max_iter=300,
        random_state=0,
        device="cpu",
        alpha=0,
    )
    held = DIABETES[300:], PROGRESS[300:]
    model.fit(DIABETES[:300], PROGRESS[:300], validation_data=held)
    # The best weights are back.
    assert model.score(*held) == pytest.approx(model.best_validation_score_, abs=1e-6)
    assert model.t_ == 300 * model.n_iter_


# Data


@pytest.mark.parametrize(
    ("kind", "fitted", "given", "result"),
    [
        ("c", "float32", "float32", "float32"),
        ("c", "float64", "float64", "float64"),
        ("c", "float64", "float32", "float64"),
        ("c", "uint8", "uint8", "float64"),
        ("r", "float32", "float32", "float32"),
        ("r", "float32", "float64", "float64"),
        ("r", "int64", "int64", "float64"),
    ],
)
def test_types_are_scikit_learns(kind: str, fitted: str, given: str, result: str) -> None:
    x = (IRIS * 10 + 50).astype(np.uint8)
    ours, theirs = (
        (MLPClassifier(max_iter=2, device="cpu"), TheirClassifier(max_iter=2))
        if kind == "c"
        else (MLPRegressor(max_iter=2, device="cpu"), TheirRegressor(max_iter=2))
    )
    for model in (ours, theirs):
        model.fit(x.astype(fitted), FLOWERS.astype("float32") if kind == "r" else FLOWERS)
        predict = model.predict_proba if kind == "c" else model.predict
        assert predict(x.astype(given)).dtype == result


def test_uint8_stays_uint8_and_gives_the_same() -> None:
    x = (IRIS * 10 + 50).astype(np.uint8)
    settings = {"max_iter": 5, "random_state": 0, "device": "cpu"}
    small = MLPClassifier(**settings).fit(x, FLOWERS)
    wide = MLPClassifier(**settings).fit(x.astype(np.float32), FLOWERS)
    np.testing.assert_array_equal(small.coefs_[0], wide.coefs_[0])
    assert any("uint8" in str(key) for key in small.model_.session._plans)


def test_probabilities_of_float64_data_sum_up_to_one_in_float64() -> None:
    model = MLPClassifier(max_iter=20, random_state=0, device="cpu").fit(IRIS, FLOWERS)
    probabilities = model.predict_proba(IRIS)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-15)
    log_loss(FLOWERS, probabilities)  # warns where they do not


def test_log_probabilities_of_what_is_impossible() -> None:
    model = MLPClassifier(max_iter=20, random_state=0, device="cpu").fit(IRIS, FLOWERS)
    assert model.predict_log_proba(1e6 * IRIS).min() == -np.inf


def test_sparse_data() -> None:
    x = np.where(IRIS > 0, IRIS, 0).astype(np.float32)
    settings = {"max_iter": 3, "random_state": 0, "device": "cpu"}
    expected = MLPClassifier(**settings).fit(x, FLOWERS)
    for make in (sparse.csr_matrix, sparse.csc_array):
        model = MLPClassifier(**settings).fit(make(x), FLOWERS)
        np.testing.assert_array_equal(model.predict_proba(make(x)), expected.predict_proba(x))


def test_sparse_data_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MLPClassifier(max_iter=1, device="reference")
    with pytest.raises(DataError, match=r"with shape \(150, 1000000000\) that is 1,117\.6 GiB"):
        model.fit(sparse.csr_matrix((150, 10**9)), FLOWERS)
    monkeypatch.setattr("gpunn.estimators.mlp_data.available_memory", lambda: 4 * 150 * 8 - 1)
    with pytest.raises(DataError, match=r"do not fit into memory.*partial_fit"):
        model.fit(sparse.csr_matrix((150, 4)), FLOWERS)
    model.fit(sparse.csr_matrix((150, 4), dtype=np.float32), FLOWERS)


def test_one_class_only() -> None:
    model = MLPClassifier(max_iter=2, device="cpu").fit(IRIS, ["setosa"] * 150)
    assert set(model.predict(IRIS)) == {"setosa"}


def test_random_state() -> None:
    def weights(state: Any) -> np.ndarray:
        model = MLPClassifier((4,), max_iter=2, random_state=state, device="reference")
        return model.fit(IRIS, FLOWERS).coefs_[0]

    np.testing.assert_array_equal(weights(3), weights(3))
    np.testing.assert_array_equal(weights(3), weights(np.random.RandomState(3)))
    assert not np.array_equal(weights(None), weights(None))
    assert not np.array_equal(weights(3), weights(4))


def test_verbose_says_how_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"verbose": True, "random_state": 0, "device": "reference"}
    MLPClassifier(max_iter=2, **settings).fit(IRIS, FLOWERS)
    assert "Iteration 2, loss = " in capsys.readouterr().out
    MLPClassifier(early_stopping=True, n_iter_no_change=1, tol=1.0, **settings).fit(IRIS, FLOWERS)
    said = capsys.readouterr().out
    assert "Validation score: " in said
    assert "did not improve more than tol=1.000000 for 1 consecutive epochs. Stopping." in said
    slow = {"solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 1, "tol": 10.0}
    MLPClassifier(**slow, **settings).fit(IRIS, FLOWERS)
    said = capsys.readouterr().out
    assert "Setting learning rate to 0.000200" in said
    assert "Learning rate too small. Stopping." in said
    MLPClassifier(solver="lbfgs", max_iter=2, **settings).fit(IRIS, FLOWERS)
    assert "L-BFGS: 2 iterations" in capsys.readouterr().out


def test_interrupted_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpunn.estimators.mlp_training import EpochEnd

    def interrupt(self: EpochEnd, epoch: int, logs: Any = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(EpochEnd, "on_epoch_end", interrupt)
    with pytest.warns(UserWarning, match="interrupted by user"):
        model = MLPClassifier(device="cpu").fit(IRIS, FLOWERS)
    assert model.predict(IRIS).shape == (150,)


# Warnings and errors


def test_warnings() -> None:
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
        MLPClassifier(max_iter=2, device="cpu").fit(IRIS, FLOWERS)
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge"):
        MLPClassifier(solver="lbfgs", max_iter=2, device="cpu").fit(IRIS, FLOWERS)
    with pytest.warns(UserWarning, match=r"batch_size 500 is larger than the data \(150 rows\)"):
        MLPClassifier(batch_size=500, max_iter=1, device="cpu").fit(IRIS, FLOWERS)


def test_a_broken_model_is_an_error() -> None:
    model = MLPRegressor(solver="sgd", learning_rate_init=1e6, device="cpu", random_state=0)
    with warnings.catch_warnings(), pytest.raises(DataError, match="non-finite parameter weights"):
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's and ours say it too
        model.fit(DIABETES, 1e6 * PROGRESS)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"hidden_layer_sizes": (5, 0)}, ArgumentError, "hidden_layer_sizes must be > 0"),
    ({"hidden_layer_sizes": "5"}, ArgumentTypeError, "hidden_layer_sizes"),
    ({"activation": "rleu"}, UnknownNameError, "activation 'rleu'; did you mean 'relu'"),
    ({"solver": "adm"}, UnknownNameError, "solver 'adm'; did you mean 'adam'"),
    ({"solver": 3}, ArgumentTypeError, "solver must be a name"),
    ({"alpha": -1}, ArgumentError, "alpha must be a number at least 0"),
    ({"batch_size": "all"}, ArgumentError, "batch_size must be a whole number or 'auto'"),
    ({"batch_size": 0}, ArgumentError, "batch_size must be at least 1"),
    ({"learning_rate": "fast"}, UnknownNameError, "learning_rate 'fast'"),
    ({"learning_rate_init": 0}, ArgumentError, "learning_rate_init must be a number above 0"),
    ({"max_iter": 0}, ArgumentError, "max_iter must be at least 1"),
    ({"shuffle": 1}, ArgumentTypeError, "shuffle must be a bool"),
    ({"random_state": "x"}, ArgumentError, "random_state must be an int"),
    ({"momentum": 2}, ArgumentError, "momentum must be"),
    ({"beta_1": 1}, ArgumentError, "beta_1 must be"),
    ({"epsilon": 0}, ArgumentError, "epsilon must be"),
    ({"n_iter_no_change": 0}, ArgumentError, "n_iter_no_change must be at least 1"),
    ({"validation_fraction": 1.0}, ArgumentError, "validation_fraction must be"),
    ({"dropout": 1.0}, ArgumentError, "dropout must be"),
    ({"solver": "lbfgs", "dropout": 0.1}, ArgumentError, "cannot be used with dropout"),
    ({"precision": "float16"}, UnknownNameError, "precision 'float16'"),
    ({"device": "gpu"}, UnknownNameError, "did you mean 'cuda'"),
    ({"threads": 0}, ArgumentError, "threads must be a whole number"),
    ({"tol": -1}, ArgumentError, "tol must be"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), BAD, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_wrong_parameters(kind: Any, wrong: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        kind(**wrong).fit(IRIS, FLOWERS)
    assert isinstance(caught.value, GpunnError)


def test_wrong_losses() -> None:
    with pytest.raises(UnknownNameError, match="loss 'poisson'"):
        MLPRegressor("poisson").fit(IRIS, FLOWERS)
    with pytest.raises(ArgumentError, match="not for regression"):
        MLPRegressor(gpunn.losses.BinaryCrossentropy()).fit(IRIS, FLOWERS)


def test_wrong_data() -> None:
    model = MLPClassifier(max_iter=2, device="cpu")
    with pytest.raises(NotFittedError):
        model.predict(IRIS)
    with pytest.raises(AttributeError, match="not fitted"):
        _ = model.coefs_
    with pytest.raises(ValueError, match="Unknown label type"):
        model.fit(IRIS, IRIS[:, 0])
    with pytest.raises(ArgumentTypeError, match="validation_data must be"):
        model.fit(IRIS, FLOWERS, validation_data=IRIS)
    with pytest.raises(DataError, match="`y` has classes not in"):
        model.fit(IRIS, FLOWERS, validation_data=(IRIS, FLOWERS + 1))
    with pytest.raises(DataError, match="must not be negative"):
        model.fit(IRIS, FLOWERS, sample_weight=-WEIGHTS)
    with pytest.raises(ValueError, match="at least one non-zero"):
        model.fit(IRIS, FLOWERS, sample_weight=0 * WEIGHTS)
    with pytest.raises(DataError, match="validation set is too small"):
        MLPRegressor(early_stopping=True).fit(IRIS[:9], FLOWERS[:9])
    model.fit(IRIS, FLOWERS)
    with pytest.raises(ValueError, match="expecting 4 features"):
        model.predict(IRIS[:, :3])


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({0: -5}, "class_weight: the weight of class 0 must be a number at least 0, not -5"),
        ({1: math.nan}, "class_weight: the weight of class 1 must be a number at least 0, not nan"),
        ("balance", "class_weight must be a dict or 'balanced', not 'balance'"),
    ],
)
def test_wrong_class_weights(class_weight: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(message)):
        MLPClassifier(class_weight=class_weight, device="cpu").fit(IRIS, FLOWERS)


def test_lbfgs_has_nothing_to_validate() -> None:
    with pytest.raises(ArgumentError, match="solver='lbfgs' has no epochs after which to validate"):
        MLPClassifier(solver="lbfgs").fit(IRIS, FLOWERS, validation_data=(IRIS, FLOWERS))


def test_wrong_uses_of_partial_fit_and_warm_start() -> None:
    with pytest.raises(AttributeError, match="partial_fit"):
        _ = MLPClassifier(solver="lbfgs").partial_fit
    with pytest.raises(ValueError, match="classes must be passed"):
        MLPClassifier(device="cpu").partial_fit(IRIS, FLOWERS)
    with pytest.raises(ArgumentError, match="does not support early_stopping"):
        MLPRegressor(early_stopping=True).partial_fit(IRIS, FLOWERS)
    with pytest.raises(ArgumentError, match="needs all of y"):
        MLPClassifier(class_weight="balanced").partial_fit(IRIS, FLOWERS, classes=[0, 1, 2])
    model = MLPClassifier((5,), warm_start=True, max_iter=1, device="cpu").fit(IRIS, FLOWERS)
    with pytest.raises(ArgumentError, match="warm_start: the layers have the shapes"):
        model.set_params(hidden_layer_sizes=(6,)).fit(IRIS, FLOWERS)
    with pytest.raises(ArgumentError, match="has 2 columns, but the model has 1 outputs"):
        MLPRegressor(device="cpu").partial_fit(IRIS, FLOWERS).partial_fit(IRIS, IRIS[:, :2])
