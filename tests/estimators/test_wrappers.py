"""Models as scikit-learn's estimators: parameters, searches, labels, keywords of fit."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from scipy.stats import loguniform, reciprocal
from sklearn.base import clone
from sklearn.datasets import load_iris, make_regression
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import (
    GridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import gpunn as keras
from gpunn.errors import ArgumentError, ArgumentTypeError, DataError, ShapeError
from gpunn.wrappers import KerasClassifier, KerasRegressor


def build_model(n_hidden=1, n_neurons=30, learning_rate=3e-3, input_shape=[8]):  # noqa: B006
    model = keras.models.Sequential()
    model.add(keras.layers.InputLayer(input_shape=input_shape))
    for _ in range(n_hidden):
        model.add(keras.layers.Dense(n_neurons, activation="relu"))
    model.add(keras.layers.Dense(1))
    model.compile(loss="mse", optimizer=keras.optimizers.SGD(learning_rate=learning_rate))
    return model


def build_classifier(meta: dict[str, Any], n_neurons: int = 8, loss: str = "") -> Any:
    outputs = meta["n_outputs_expected_"]
    model = keras.Sequential([keras.Input((meta["n_features_in_"],))])
    model.add(keras.layers.Dense(n_neurons, activation="tanh"))
    model.add(keras.layers.Dense(outputs, activation="sigmoid" if outputs == 1 else "softmax"))
    loss = loss or ("binary_crossentropy" if outputs == 1 else "sparse_categorical_crossentropy")
    model.compile(keras.optimizers.Adam(0.02), loss, metrics=["accuracy"])
    return model


def build_regressor(meta: dict[str, Any]) -> Any:
    model = keras.Sequential([keras.Input((meta["n_features_in_"],))])
    model.add(keras.layers.Dense(20, activation="relu"))
    model.add(keras.layers.Dense(meta["n_outputs_expected_"]))
    model.compile(keras.optimizers.Adam(0.02), "mse", precision="float64", device="cpu")
    return model


@pytest.fixture(scope="module")
def regression() -> tuple[np.ndarray, np.ndarray]:
    x, y = make_regression(300, 8, n_informative=5, noise=1.0, random_state=3)
    return x, (y - y.mean()) / y.std()


@pytest.fixture(scope="module")
def iris() -> tuple[np.ndarray, np.ndarray]:
    data = load_iris()
    return StandardScaler().fit_transform(data.data), data.target_names[data.target]


def test_fit_hands_keywords_to_the_model(regression: Any) -> None:
    x, y = regression
    reg = keras.wrappers.scikit_learn.KerasRegressor(build_model)
    stop = keras.callbacks.EarlyStopping(patience=2, min_delta=0.01)
    assert (
        reg.fit(
            x[:200],
            y[:200],
            epochs=60,
            batch_size=16,
            verbose=0,
            validation_data=(x[200:], y[200:]),
            callbacks=[stop],
        )
        is reg
    )
    assert 0 < stop.stopped_epoch < 59
    assert len(reg.history_["val_loss"]) == stop.stopped_epoch + 1
    assert reg.model_.history.history == reg.history_
    assert reg.predict(x).shape == (300,)
    assert reg.score(x, y) == r2_score(y, reg.predict(x)) > 0.8
    with pytest.raises(ArgumentTypeError, match=r"no argument 'epoch'; those .* epochs"):
        reg.fit(x, y, epoch=3)
    with pytest.raises(ArgumentTypeError, match=r"no argument 'batch'; .* batch_size"):
        reg.predict(x, batch=3)


def test_it_trains_as_the_model_does(regression: Any) -> None:
    x, y = regression
    reg = KerasRegressor(build_model, epochs=3, batch_size=25, verbose=0, n_hidden=2)
    keras.utils.set_random_seed(5)
    reg.fit(x, y)
    keras.utils.set_random_seed(5)
    model = build_model(n_hidden=2)
    history = model.fit(x, y, epochs=3, batch_size=25, verbose=0)
    assert reg.history_ == history.history
    np.testing.assert_array_equal(reg.predict(x), model.predict(x)[:, 0])


def test_parameters_are_those_of_the_function() -> None:
    reg = KerasRegressor(build_model, n_hidden=2, epochs=7)
    params = reg.get_params()
    assert params["n_hidden"] == 2
    assert (params["n_neurons"], params["learning_rate"], params["input_shape"]) == (30, 3e-3, [8])
    assert (params["epochs"], params["model"]) == (7, build_model)
    assert reg.set_params(n_neurons=5, batch_size=9) is reg
    copy = clone(reg)
    assert copy.get_params() == reg.get_params()
    assert "n_hidden=2" in repr(copy)
    copy.set_params(n_hidden=1)  # back to the default
    assert copy.get_params()["n_hidden"] == 1


def test_another_function_brings_its_own_defaults() -> None:
    def linear(learning_rate: float = 0.5) -> Any:
        return build_model(n_hidden=0, learning_rate=learning_rate)

    reg = clone(KerasRegressor(build_model, epochs=2)).set_params(model=linear)
    assert reg.get_params()["learning_rate"] == 0.5
    assert "n_neurons" not in reg.get_params()


@pytest.mark.parametrize("name", ["n_neuron", "layers"])
def test_unknown_parameters_are_listed(name: str) -> None:
    for give in (
        lambda: KerasRegressor(build_model, **{name: 1}),
        lambda: KerasRegressor(build_model).set_params(**{name: 1}),
    ):
        with pytest.raises(
            ArgumentError, match=rf"'{name}': build_model takes n_hidden, n_neurons, learning_rate"
        ):
            give()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model__layers", r"'layers'.*n_hidden, n_neurons"),
        ("fit__epoch", r"'epoch'; did you mean 'epochs'"),
        ("layers__n", r"prefix of parameter 'layers__n': 'layers'.*fit, model"),
    ],
)
def test_unknown_routed_parameters_are_listed(name: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        KerasRegressor(build_model).set_params(**{name: 1})


def test_routed_parameters(regression: Any) -> None:
    x, y = regression
    reg = KerasRegressor(
        build_model,
        epochs=9,
        verbose=0,
        model__n_neurons=4,
        fit__epochs=2,
        optimizer__learning_rate=0.25,
        optimizer__momentum=0.5,
    )
    reg.fit(x, y)
    assert reg.model_.layers[0].units == 4
    assert len(reg.history_["loss"]) == 2
    assert float(reg.model_.optimizer.learning_rate) == 0.25
    assert reg.model_.optimizer.momentum == 0.5
    assert "n_neurons" not in reg.get_params()
    assert clone(reg).get_params() == reg.get_params()
    with pytest.raises(ArgumentError, match=r"parameter of SGD 'beta_1'.*learning_rate, momentum"):
        KerasRegressor(build_model, optimizer__beta_1=0.1).fit(x, y)


def test_a_random_state_gives_the_same_model(regression: Any) -> None:
    x, y = regression

    def fitted(seed: int) -> np.ndarray:
        reg = KerasRegressor(build_model, random_state=seed, verbose=0, epochs=2)
        return reg.fit(x, y).predict(x)

    np.testing.assert_array_equal(fitted(1), fitted(1))
    assert not np.array_equal(fitted(1), fitted(2))


@pytest.mark.parametrize("loss", ["", "categorical_crossentropy"])
def test_labels_are_texts(iris: Any, loss: str) -> None:
    x, labels = iris
    clf = KerasClassifier(build_classifier, loss=loss, epochs=30, verbose=0, random_state=0)
    clf.fit(x[::2], labels[::2], validation_data=(x[1::2], labels[1::2]))
    assert clf.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    probabilities = clf.predict_proba(x)
    assert probabilities.shape == (150, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(
        clf.predict(x), clf.classes_[clf.model_.predict(x).argmax(axis=1)]
    )
    assert clf.score(x, labels) == accuracy_score(labels, clf.predict(x)) > 0.9
    assert clf.score(x[1::2], labels[1::2]) == pytest.approx(clf.history_["val_accuracy"][-1])
    with pytest.raises(DataError, match=r"validation y has label .*'rose'.*'setosa'"):
        clf.fit(x, labels, validation_data=(x[:1], ["rose"]))


def test_two_classes_and_one_unit(iris: Any) -> None:
    x, labels = iris
    labels = np.where(labels == "setosa", "yes", "no")
    clf = KerasClassifier(build_classifier, epochs=30, verbose=0, random_state=0).fit(x, labels)
    assert clf.model_.output_shape == (None, 1)
    assert clf.classes_.tolist() == ["no", "yes"]
    np.testing.assert_allclose(clf.predict_proba(x)[:, 1:], clf.model_.predict(x))
    assert clf.score(x, labels) == 1


def test_one_hot_rows_and_class_weights(iris: Any) -> None:
    x, labels = iris
    numbers = np.unique(labels, return_inverse=True)[1]
    clf = KerasClassifier(build_classifier, epochs=20, verbose=0, random_state=0)
    assert clf.fit(x, np.eye(3)[numbers]).score(x, numbers) > 0.9
    weights = {"virginica": 1.0, "setosa": 5.0, "versicolor": 0.5}
    by_class = clf.fit(x, labels, class_weight=weights).predict_proba(x)
    by_row = clf.fit(x, labels, sample_weight=[weights[name] for name in labels]).predict_proba(x)
    np.testing.assert_allclose(by_class, by_row, rtol=1e-5)
    plain = clf.fit(x, labels).predict_proba(x)
    assert by_class[:, 0].sum() > plain[:, 0].sum() + 1
    balanced = clf.fit(x, labels, class_weight="balanced").predict_proba(x)  # as they are
    np.testing.assert_allclose(balanced, plain, rtol=1e-5)


def test_randomized_search_as_in_the_book(regression: Any) -> None:
    x, y = regression
    distributions = {
        "n_hidden": [0, 1, 2],
        "n_neurons": np.arange(1, 40),
        "learning_rate": reciprocal(3e-4, 3e-2),
    }
    reg = KerasRegressor(build_model, verbose=0)
    search = RandomizedSearchCV(reg, distributions, n_iter=4, cv=3, random_state=1)
    search.fit(
        x[:200],
        y[:200],
        epochs=8,
        validation_data=(x[200:], y[200:]),
        callbacks=[keras.callbacks.EarlyStopping(patience=3)],
    )
    best = search.best_estimator_
    assert set(search.best_params_) == set(distributions)
    assert len(best.model_.layers) == search.best_params_["n_hidden"] + 1
    assert "val_loss" in best.history_
    assert len(set(search.cv_results_["mean_test_score"])) == 4


def test_grid_and_halving_search(regression: Any) -> None:
    x, y = regression
    reg = KerasRegressor(build_model, verbose=0, random_state=0, batch_size=16)
    grid = GridSearchCV(reg, {"model__n_neurons": [1, 20], "epochs": [1, 12]}, cv=2).fit(x, y)
    assert grid.best_params_["epochs"] == 12
    halving = HalvingRandomSearchCV(
        reg,
        {"learning_rate": loguniform(1e-3, 3e-2), "n_neurons": [4, 16]},
        resource="epochs",
        min_resources=1,
        max_resources=9,
        n_candidates=4,
        cv=2,
        random_state=0,
    ).fit(x, y)
    assert len(halving.best_estimator_.history_["loss"]) > 1


def test_pipelines_and_cross_validation(regression: Any) -> None:
    x, y = regression
    reg = KerasRegressor(build_model, verbose=0, epochs=30, learning_rate=0.02, random_state=0)
    pipeline = make_pipeline(StandardScaler(), reg)
    scores = cross_val_score(pipeline, x * 100 + 7, y, cv=3)
    assert scores.shape == (3,)
    assert scores.min() > 0.5
    pipeline.fit(x, y, kerasregressor__epochs=2)
    assert len(pipeline[-1].history_["loss"]) == 2


def test_two_processes_find_what_one_does(regression: Any) -> None:
    x, y = regression
    reg = KerasRegressor(build_model, verbose=0, epochs=2, random_state=0)
    alone = cross_val_score(reg, x, y, cv=2)
    np.testing.assert_array_equal(cross_val_score(reg, x, y, cv=2, n_jobs=2), alone)


def test_a_fitted_wrapper_is_pickled_and_cloned(regression: Any) -> None:
    x, y = regression
    reg = KerasRegressor(build_model, verbose=0, epochs=2).fit(x, y)
    again = pickle.loads(pickle.dumps(reg))
    np.testing.assert_array_equal(again.predict(x), reg.predict(x))
    assert again.history_ == reg.history_
    assert not hasattr(clone(reg), "model_")


def test_callbacks_given_as_a_parameter_stay_as_they_are(regression: Any) -> None:
    x, y = regression
    stop = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=10)
    reg = KerasRegressor(build_model, verbose=0, epochs=20, callbacks=[stop]).fit(x, y)
    assert len(reg.history_["loss"]) == 2
    assert (stop.wait, stop.best) == (0, None)
    assert len(clone(reg).fit(x, y).history_["loss"]) == 2
    alone = KerasRegressor(build_model, verbose=0, epochs=20, callbacks=stop).fit(x, y)
    assert len(alone.history_["loss"]) == 2


def test_folds_may_have_fewer_rows_than_a_batch(regression: Any) -> None:
    x, y = regression
    for size in (250, np.int64(250)):  # a search draws numbers of NumPy's
        reg = KerasRegressor(build_model, verbose=0, batch_size=size, validation_split=0.1)
        assert np.isfinite(cross_val_score(reg, x, y, cv=2)).all()


def test_several_targets(regression: Any) -> None:
    x, y = regression

    def build(meta: dict[str, Any]) -> Any:
        model = keras.Sequential(
            [keras.Input((8,)), keras.layers.Dense(meta["n_outputs_expected_"])]
        )
        model.compile("sgd", "mse")
        return model

    both = np.column_stack([y, -y])
    reg = KerasRegressor(build, verbose=0, epochs=20).fit(x, both)
    assert reg.predict(x).shape == (300, 2)
    assert reg.score(x, both) > 0.5


# Checks of scikit-learn's that do not hold, and why.
EXPECTED = {
    "check_do_not_raise_errors_in_init_or_set_params",  # model and build_fn together
    "check_sample_weight_equivalence_on_dense_data",  # batches are other ones
    "check_supervised_y_2d",  # a column of targets is what the net gives: no warning
}


@pytest.mark.parametrize("kind", [KerasRegressor, KerasClassifier])
def test_scikit_learn_finds_an_estimator_in_order(kind: Any) -> None:
    build = build_classifier if kind is KerasClassifier else build_regressor
    estimator = kind(build, verbose=0, epochs=60, random_state=0)
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    failed = {entry["check_name"] for entry in results if entry["status"] == "failed"}
    assert failed == EXPECTED
    assert len(results) > 50


@pytest.mark.parametrize("weights", ["equal", 3, [1, 2]])
def test_class_weights_of_a_wrong_kind(iris: Any, weights: Any) -> None:
    clf = KerasClassifier(build_classifier, verbose=0, fit__class_weight=weights)
    with pytest.raises(ArgumentTypeError, match="class_weight must be 'balanced' or a dict from l"):
        clf.fit(*iris)


def test_mistakes(regression: Any, iris: Any) -> None:
    x, y = regression
    with pytest.raises(ArgumentError, match="validation_split must be"):
        KerasRegressor(build_model, batch_size=8, validation_split="some").fit(x, y)
    with pytest.raises(ArgumentTypeError, match=r"model must be a function that returns a compile"):
        KerasRegressor(build_model()).fit(x, y)
    with pytest.raises(
        ArgumentTypeError, match=r"lambda> must return a compiled gpunn model, not 3"
    ):
        KerasRegressor(lambda: 3).fit(x, y)
    with pytest.raises(ArgumentTypeError, match="not one that is not compiled"):
        KerasRegressor(lambda: keras.Sequential([keras.layers.Dense(1)])).fit(x, y)
    with pytest.raises(ArgumentError, match="model or build_fn"):
        KerasRegressor(build_model, build_fn=build_model)
    with pytest.raises(ShapeError, match="y has 299 rows, but X has 300"):
        KerasRegressor(build_model).fit(x, y[1:])
    with pytest.raises(DataError, match="Unknown label type: continuous"):
        KerasClassifier(build_classifier).fit(x, y)
    with pytest.raises(ShapeError, match=r"labels \(rows,\), or one-hot rows"):
        KerasClassifier(build_classifier).fit(x, np.ones((300, 3)))
    with pytest.raises(ValueError, match="not fitted"):
        KerasRegressor(build_model).predict(x)
