"""The MLP estimators on a GPU, with CuPy arrays in and out."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale

from gpunn import MLPClassifier, MLPRegressor

IRIS, FLOWERS = scale(load_iris().data).astype(np.float32), load_iris().target
NAMES = load_iris().target_names[FLOWERS]
SETTINGS: dict[str, Any] = {"random_state": 0, "max_iter": 20, "device": "cuda"}


@pytest.fixture(autouse=True)
def _few_iterations() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@pytest.mark.parametrize("kwargs", [{}, {"early_stopping": True}, {"solver": "lbfgs"}])
def test_cupy_arrays_go_in_and_come_out(kwargs: dict[str, Any]) -> None:
    import cupy

    x = cupy.asarray(IRIS)
    for y in (FLOWERS, FLOWERS == 1):
        expected = MLPClassifier(**SETTINGS, **kwargs).fit(IRIS, y)
        model = MLPClassifier(**SETTINGS, **kwargs).fit(x, cupy.asarray(y))
        found = model.predict(x)
        assert isinstance(found, cupy.ndarray)
        np.testing.assert_array_equal(found.get(), expected.predict(IRIS))
        probabilities = model.predict_proba(x)
        assert isinstance(probabilities, cupy.ndarray)
        np.testing.assert_array_equal(probabilities.get(), expected.predict_proba(IRIS))
    named = MLPClassifier(**SETTINGS, **kwargs).fit(x, NAMES)
    assert set(named.predict(x)) <= set(NAMES)
    regressor = MLPRegressor(**SETTINGS, **kwargs).fit(x, FLOWERS)
    assert isinstance(regressor.predict(x), cupy.ndarray)


def test_a_pickled_estimator_trains_on() -> None:
    model = MLPClassifier(**SETTINGS).fit(IRIS, FLOWERS)
    other = pickle.loads(pickle.dumps(model))
    for one in (model, other):
        one.partial_fit(IRIS, FLOWERS)
    for mine, its in zip(model.coefs_, other.coefs_, strict=True):
        np.testing.assert_array_equal(mine, its)
