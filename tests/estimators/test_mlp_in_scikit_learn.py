"""The MLP estimators in scikit-learn's machinery: checks, pipelines, searches, frames, pickles."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, scale
from sklearn.utils.estimator_checks import check_estimator

import gpunn
from gpunn import DNNClassifier, MLPClassifier, MLPRegressor
from gpunn.backends.cpu.products import blas

IRIS, FLOWERS = scale(load_iris().data), load_iris().target
NAMES = load_iris().target_names[FLOWERS]
SETTINGS: dict[str, Any] = {"random_state": 0, "max_iter": 5, "device": "cpu"}
# Batches are drawn by row: with rows repeated they are others.
BATCHES = {
    f"check_sample_weight_equivalence_on_{kind}_data": "batches of 128 rows out of others"
    for kind in ("dense", "sparse")
}
CHECKED = {
    "classifier": (MLPClassifier(max_iter=100, device="cpu"), {}),
    "regressor": (MLPRegressor(max_iter=100, device="cpu"), {}),
    "regressor, lbfgs": (MLPRegressor(solver="lbfgs", device="cpu"), {}),
    "DNN": (DNNClassifier(steps=300, device="cpu", precision="float64"), BATCHES),
}


@pytest.fixture(autouse=True)
def _few_iterations() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@pytest.mark.parametrize("name", CHECKED)
def test_check_estimator(name: str) -> None:
    estimator, expected = CHECKED[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, expected_failed_checks=expected, on_skip=None)
    counted = {result["status"] for result in results}
    assert "failed" not in counted
    assert len([r for r in results if r["status"] == "passed"]) > 50


# Frames


def frame(kind: Any) -> Any:
    names = ["sepal length", "sepal width", "petal length", "petal width"]
    return kind(dict(zip(names, IRIS.T, strict=True)))


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame])
def test_frames_have_names(kind: Any) -> None:
    table = frame(kind)
    expected = MLPClassifier(**SETTINGS).fit(IRIS, NAMES)
    model = MLPClassifier(**SETTINGS).fit(table, kind({"y": NAMES})["y"])
    assert list(model.feature_names_in_) == list(table.columns)
    np.testing.assert_array_equal(model.predict_proba(table), expected.predict_proba(IRIS))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(table[list(table.columns)[::-1]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(IRIS)


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame])
def test_pipeline_with_columns(kind: Any) -> None:
    rng = np.random.default_rng(0)
    town = rng.choice(["sea", "hill", "plain"], 300)
    rooms = rng.normal(5, 2, 300)
    price = rooms + 3.0 * (town == "sea")
    table = kind({"rooms": rooms, "town": town})
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), ["rooms"]), ("words", OneHotEncoder(), ["town"])]
    )
    regressor = MLPRegressor(
        hidden_layer_sizes=(20,), learning_rate_init=0.02, random_state=0, device="cpu"
    )
    model = make_pipeline(columns, regressor).fit(table, price)
    assert model.score(table, price) > 0.95
    assert "MLPRegressor" in model._repr_html_()


# Copies


ESTIMATORS = {
    "classifier": lambda: MLPClassifier((8,), **SETTINGS),
    "regressor": lambda: MLPRegressor(hidden_layer_sizes=(8,), **SETTINGS),
    "sgd": lambda: MLPClassifier((8,), solver="sgd", **SETTINGS),
    "lbfgs": lambda: MLPClassifier((8,), solver="lbfgs", **SETTINGS),
    "DNN": lambda: DNNClassifier([8], steps=20, random_state=0, device="cpu"),
}


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("way", ["pickle", "joblib", "deepcopy"])
def test_copies_predict_alike_and_train_on_alike(kind: str, way: str, tmp_path: Path) -> None:
    model = ESTIMATORS[kind]().fit(IRIS, FLOWERS)
    if way == "pickle":
        other = pickle.loads(pickle.dumps(model))
    elif way == "joblib":
        joblib.dump(model, tmp_path / "model")
        other = joblib.load(tmp_path / "model")
    else:
        other = copy.deepcopy(model)
    np.testing.assert_array_equal(other.predict(IRIS), model.predict(IRIS))
    assert other.get_params() == model.get_params()
    if hasattr(model, "partial_fit"):
        for one in (model, other):
            one.partial_fit(IRIS, FLOWERS)
        for mine, its in zip(model.model_.get_weights(), other.model_.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_clone_is_not_fitted(kind: str) -> None:
    model = ESTIMATORS[kind]().fit(IRIS, FLOWERS)
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    assert not hasattr(fresh, "model_")


def test_objects_as_parameters_are_cloned() -> None:
    solver, loss = gpunn.optimizers.AdamW(0.01), gpunn.losses.Huber(0.5)
    elu = gpunn.activations.ActivationFunction("elu", 0.5)
    model = MLPRegressor(loss, (4,), elu, solver=solver, **SETTINGS)
    assert clone(model).get_params() == model.get_params()
    again = pickle.loads(pickle.dumps(clone(model).fit(IRIS, FLOWERS)))
    assert again.get_params() == model.get_params()


def test_set_params_and_fit_again() -> None:
    model = MLPClassifier((8,), **SETTINGS).fit(IRIS, FLOWERS)
    model.set_params(hidden_layer_sizes=(5, 5), alpha=0.1).fit(IRIS[:, :2], FLOWERS == 0)
    assert [w.shape for w in model.coefs_] == [(2, 5), (5, 5), (5, 1)]


def test_the_model_can_be_saved(tmp_path: Path) -> None:
    model = MLPClassifier((8,), **SETTINGS).fit(IRIS, FLOWERS)
    model.model_.save(tmp_path / "iris.h5")
    again = gpunn.load_model(tmp_path / "iris.h5")
    np.testing.assert_allclose(again.predict(IRIS, verbose=0), model.predict_proba(IRIS), atol=1e-6)


# Searches in several processes


class Counting(ClassifierMixin, BaseEstimator):
    """An MLP that notes how many threads the BLAS had while it trained."""

    def __init__(self, folder: str = "", alpha: float = 0.0) -> None:
        self.folder, self.alpha = folder, alpha

    def fit(self, X: Any, y: Any) -> Counting:
        from gpunn.estimators import mlp_training

        before = mlp_training.train

        def train(*arguments: Any) -> None:
            counts = f"{os.getpid()} {blas.thread_count()}\n"
            (Path(self.folder) / f"{os.getpid()}-{self.alpha}").write_text(counts)
            before(*arguments)

        mlp_training.train = train
        try:
            self.model_ = MLPClassifier((8,), alpha=self.alpha, **SETTINGS).fit(X, y)
        finally:
            mlp_training.train = before
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X: Any) -> Any:
        return self.model_.predict(X)


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_workers_share_the_cores(backend: str, tmp_path: Path) -> None:
    if backend not in joblib.parallel.BACKENDS or (
        backend == "multiprocessing" and "fork" not in multiprocessing.get_all_start_methods()
    ):
        backend = "loky"
    search = GridSearchCV(Counting(str(tmp_path)), {"alpha": [0.0, 1.0, 2.0]}, cv=2, refit=False)
    with joblib.parallel_config(backend, n_jobs=2):
        search.fit(IRIS, FLOWERS)
    counts = [file.read_text().split() for file in tmp_path.iterdir()]
    assert len(counts) >= 3
    assert str(os.getpid()) not in {pid for pid, _ in counts}
    share = max((os.cpu_count() or 1) // 2, 1)
    assert all(int(threads) <= share for _, threads in counts)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_a_search_in_parallel_finds_the_same(backend: str) -> None:
    model = make_pipeline(StandardScaler(), MLPClassifier((8,), **SETTINGS))
    grid = {"mlpclassifier__alpha": [0.0, 1.0], "mlpclassifier__solver": ["adam", "lbfgs"]}
    scores = []
    for jobs in (1, 2):
        with joblib.parallel_config(backend):
            search = GridSearchCV(model, grid, cv=3, n_jobs=jobs).fit(IRIS, NAMES)
        scores.append(search.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(*scores)


def test_cross_validation_of_the_dnn_classifier() -> None:
    model = DNNClassifier([10], steps=300, batch_size=20, random_state=0, device="cpu")
    assert cross_val_score(model, IRIS, NAMES, cv=3).min() > 0.8  # a fold of 50 has 0.94 or more
