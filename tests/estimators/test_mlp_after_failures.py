"""What an MLP estimator is after a call that failed, and targets it cannot go on with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.preprocessing import scale

from gpunn import DNNClassifier, MLPClassifier, MLPRegressor
from gpunn.errors import ArgumentError, DataError, ShapeError

IRIS, FLOWERS = scale(load_iris().data), load_iris().target
COLUMNS = np.stack([FLOWERS == 0, FLOWERS == 1, FLOWERS == 2], 1).astype(int)
SETTINGS: dict[str, Any] = {"random_state": 0, "max_iter": 2, "device": "cpu"}
pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")


def too_large(model: Any) -> None:
    model.fit(IRIS * 1e300, FLOWERS)


def too_few(model: Any) -> None:
    model.set_params(early_stopping=True).fit(IRIS[::30], FLOWERS[::30])


def diverging(model: Any) -> None:
    model.set_params(solver="sgd", learning_rate_init=1e200).fit(IRIS, FLOWERS)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("fail", [too_large, too_few, diverging])
def test_a_fit_that_fails_leaves_it_unfitted(kind: Any, fail: Any) -> None:
    model = kind(**SETTINGS)
    with pytest.raises(DataError):
        fail(model)
    with pytest.raises(NotFittedError):
        model.predict(IRIS)
    assert not hasattr(model, "coefs_")
    model.set_params(**kind(**SETTINGS).get_params())
    model.partial_fit(IRIS, FLOWERS)
    again = kind(**SETTINGS).set_params(max_iter=1).fit(IRIS, FLOWERS)
    np.testing.assert_array_equal(model.predict(IRIS), again.predict(IRIS))


def test_a_fit_of_the_dnn_classifier_that_fails_leaves_it_unfitted() -> None:
    model = DNNClassifier([4], steps=2, device="cpu")
    with pytest.raises(DataError, match="too large for float32"):
        too_large(model)
    with pytest.raises(NotFittedError):
        model.predict(IRIS)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_warm_start_after_divergence_starts_anew() -> None:
    model = MLPClassifier(**SETTINGS, warm_start=True)
    with pytest.raises(DataError):
        diverging(model)
    model.set_params(solver="adam", learning_rate_init=0.001).fit(IRIS, FLOWERS)
    expected = MLPClassifier(**SETTINGS).fit(IRIS, FLOWERS)
    np.testing.assert_array_equal(model.predict_proba(IRIS), expected.predict_proba(IRIS))


def test_classes_outlive_a_first_partial_fit_that_fails() -> None:
    model = MLPClassifier(**SETTINGS)
    with pytest.raises(ValueError, match="NaN"):
        model.partial_fit(IRIS * np.nan, FLOWERS, classes=[0, 1, 2])
    model.partial_fit(IRIS[:20], FLOWERS[:20])  # of one class
    assert model.predict_proba(IRIS).shape == (150, 3)


@pytest.mark.parametrize("kind", [MLPClassifier, TheirClassifier])
@pytest.mark.parametrize("targets", [FLOWERS == 1, FLOWERS % 2, FLOWERS.astype(str), FLOWERS + 1])
def test_warm_start_needs_the_same_classes(kind: Any, targets: Any) -> None:
    model = kind(max_iter=2, warm_start=True).fit(IRIS, FLOWERS)
    with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same cl"):
        model.fit(IRIS, targets)
    if kind is TheirClassifier:
        return  # refuses that in partial_fit too
    model.partial_fit(IRIS, FLOWERS % 2)  # in one batch some may be missing
    np.testing.assert_array_equal(model.classes_, [0, 1, 2])


def test_columns_of_labels_and_labels_are_not_mixed() -> None:
    one = MLPClassifier(**SETTINGS).fit(IRIS, FLOWERS)
    several = MLPClassifier(**SETTINGS).fit(IRIS, COLUMNS)
    deep = DNNClassifier([4], steps=2, device="cpu").fit(IRIS, FLOWERS)
    for model in (one, deep):
        with pytest.raises(ShapeError, match=r"one label for each row; expected shape \(150,\), g"):
            model.partial_fit(IRIS, COLUMNS)
    for wrong in (FLOWERS, COLUMNS[:, :2]):
        with pytest.raises(ShapeError, match=r"columns of 0 and 1; expected shape \(150, 3\), got"):
            several.partial_fit(IRIS, wrong)
    with pytest.raises(DataError, match="the same classes"):
        one.set_params(warm_start=True).fit(IRIS, COLUMNS)


def test_early_stopping_needs_rows_held_out() -> None:
    model = MLPClassifier(**SETTINGS, early_stopping=True, validation_fraction=0.0)
    with pytest.raises(ArgumentError, match="validation_fraction must be above 0, or give fit"):
        model.fit(IRIS, FLOWERS)
    model.fit(IRIS, FLOWERS, validation_data=(IRIS, FLOWERS))
    assert len(model.validation_scores_) == 2


@pytest.mark.filterwarnings("default:Stochastic Optimizer")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "Maximum iterations"),
        ({"solver": "lbfgs"}, "lbfgs failed"),
        ({"batch_size": 999}, "batch_size 999"),
    ],
)
def test_warnings_point_to_the_call_of_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.warns(UserWarning) as caught:
        MLPClassifier(**SETTINGS, **changes).fit(IRIS, FLOWERS)
    (found,) = [warning for warning in caught if message in str(warning.message)]
    assert found.filename == __file__
