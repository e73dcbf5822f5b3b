"""The perceptron: scikit-learn's weights, converges as proved, fails on XOR."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import linear_model
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris

import gpunn

IRIS = load_iris()
PETALS, SETOSA = IRIS.data[:, [2, 3]], IRIS.target == 0


def test_has_the_weights_of_scikit_learn() -> None:
    X, y = load_digits(return_X_y=True)
    options = {"penalty": "l2", "eta0": 0.1, "max_iter": 20, "tol": None, "random_state": 7}
    ours, theirs = gpunn.Perceptron(**options), linear_model.Perceptron(**options)
    assert ours.get_params() == theirs.get_params()
    np.testing.assert_array_equal(ours.fit(X, y).coef_, theirs.fit(X, y).coef_)
    np.testing.assert_array_equal(ours.intercept_, theirs.intercept_)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


def test_is_cloned_and_pickled() -> None:
    model = gpunn.Perceptron(random_state=42).fit(PETALS, SETOSA)
    for again in (clone(model).fit(PETALS, SETOSA), pickle.loads(pickle.dumps(model))):
        assert type(again) is gpunn.Perceptron
        np.testing.assert_array_equal(again.coef_, model.coef_)


def test_a_parameter_that_cannot_be_is_named() -> None:
    with pytest.raises(ValueError, match="'eta0' parameter of Perceptron must be"):
        gpunn.Perceptron(eta0=0).fit(PETALS, SETOSA)


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
    model = gpunn.Perceptron(random_state=42).fit(PETALS, SETOSA)
    assert model.score(PETALS, SETOSA) == 1.0
    assert model.predict([[2, 0.5]]).tolist() == [True]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_samples=st.integers(2, 60),
    n_features=st.integers(1, 8),
    margin=st.floats(0.05, 0.5),
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


@settings(deadline=None, max_examples=30)
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
