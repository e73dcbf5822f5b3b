"""The search for a learning rate: what it sees, that it leaves no trace, the book's own way."""

from __future__ import annotations

import math
import os
import signal
from typing import Any

import matplotlib
import matplotlib.pyplot
import numpy as np
import pytest

import gpunn
from gpunn import find_learning_rate
from gpunn.errors import ArgumentError, ArgumentTypeError, DataError, NotBuiltError, ShapeError
from gpunn.plots import LearningRateFinderDisplay
from gpunn.training.learning_rate_finder import LearningRateSearch

matplotlib.use("agg")

ROWS = 70
RNG = np.random.default_rng(8)
X = RNG.normal(size=(ROWS, 5)).astype(np.float32)
Y = (X[:, 0] + 0.1 * RNG.normal(size=ROWS) > 0).astype(np.int64)
FIT: dict[str, Any] = {"batch_size": 10, "verbose": 0}
SCHEDULE = gpunn.schedules.ExponentialDecay(0.05, 10, 0.5)


def make_model(optimizer: Any = "sgd", device: str = "cpu", dropout: float = 0.2) -> gpunn.Model:
    layers = gpunn.layers
    stack = [gpunn.Input((5,)), layers.Dense(6, activation="tanh"), layers.Dropout(dropout)]
    head = layers.Dense(2, activation="softmax", kernel_regularizer=gpunn.regularizers.L2(0.01))
    model = gpunn.Sequential([*stack, head])
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, metrics=["accuracy"], device=device, seed=4)
    return model


class ExponentialLearningRate(gpunn.callbacks.Callback):
    """The callback of the exercise in Geron's "Hands-On Machine Learning", chapter 10."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.rates: list[float] = []
        self.losses: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.sum_of_epoch_losses = 0.0

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        mean_epoch_loss = logs["loss"]
        new_sum_of_epoch_losses = mean_epoch_loss * (batch + 1)
        batch_loss = new_sum_of_epoch_losses - self.sum_of_epoch_losses
        self.sum_of_epoch_losses = new_sum_of_epoch_losses
        self.rates.append(float(self.model.optimizer.learning_rate.numpy()))
        self.losses.append(batch_loss)
        rate = self.model.optimizer.learning_rate
        self.model.optimizer.learning_rate = rate * self.factor


@pytest.mark.parametrize(
    ("device", "name"),
    [("cpu", "sgd"), ("cpu", "adam"), ("reference", "sgd"), ("simulator", "adam")],
)
def test_it_sees_what_the_callback_of_the_book_sees(device: str, name: str) -> None:
    model, by_hand = make_model(name, device), make_model(name, device)
    search = find_learning_rate(
        model, X, Y, minimum=1e-4, maximum=1.0, epochs=6, batch_size=10, stop_factor=1e9
    )
    assert len(search.losses) == 42 and search.divergence is None
    callback = ExponentialLearningRate((1.0 / 1e-4) ** (1 / 41))
    by_hand.optimizer.learning_rate = 1e-4
    by_hand.fit(X, Y, epochs=6, callbacks=[callback], **FIT)
    np.testing.assert_allclose(search.learning_rates, callback.rates, rtol=1e-5)
    np.testing.assert_allclose(search.losses, callback.losses, rtol=1e-4)
    # They saw the loss fall, and the callback has changed the model.
    assert search.losses[-10:].mean() < search.losses[:10].mean()
    assert not np.array_equal(model.get_weights()[0], by_hand.get_weights()[0])


def everything(trainer: gpunn.Trainer) -> dict[str, Any]:
    saved = trainer.state_dict()
    return {
        "weights": {path: values.tobytes() for path, values in saved["weights"].items()},
        "optimizer": {path: values.tobytes() for path, values in saved["optimizer"].items()},
        "metrics": {path: values.tobytes() for path, values in saved["metrics"].items()},
        "training": saved["training"],
        "iterations": trainer.model.optimizer.iterations,
        "learning_rate": float(trainer.model.optimizer.learning_rate),
    }


@pytest.mark.parametrize(
    ("device", "optimizer"),
    [
        *((device, name) for device in ("cpu", "reference") for name in ("sgd", "adam")),
        ("cpu", gpunn.optimizers.Adam(SCHEDULE)),
        ("simulator", "adam"),
    ],
    ids=str,
)
def test_it_leaves_no_trace(optimizer: Any, device: str) -> None:
    model, other = make_model(optimizer, device), make_model(optimizer, device)
    trainer, same = (gpunn.Trainer(m, X, Y, batch_size=10) for m in (model, other))
    for one in (trainer, same):
        one.epoch()
        one.step()  # in the middle of an epoch
    before = everything(trainer)
    for options in ({"batch_size": 10, "steps": 9}, {"maximum": 1e8, "steps": 20}):
        find_learning_rate(model, X, Y, **options)
        assert everything(trainer) == before
    # Training goes on as if there had been no search.
    trainer.epoch()
    same.epoch()
    after, expected = everything(trainer), everything(same)
    for part in (after, expected):
        for entry in part["training"].pop("callbacks"):
            assert entry["state"].pop("seconds")
        del part["training"]["epoch_seconds"]
    assert after == expected


def test_a_model_that_has_not_been_trained_stays_so() -> None:
    model, same = make_model("adam"), make_model("adam")
    model.optimizer.learning_rate = same.optimizer.learning_rate = 0.02
    find_learning_rate(model, X, Y)
    assert all(map(np.array_equal, model.get_weights(), same.get_weights()))
    for one in (model, same):
        one.fit(X, Y, epochs=2, **FIT)
    assert all(map(np.array_equal, model.get_weights(), same.get_weights()))


def test_rates_grow_exponentially_and_losses_are_smoothed() -> None:
    search = find_learning_rate(
        make_model(), X, Y, minimum=1e-3, maximum=1e-1, steps=20, smoothing=0.5
    )
    np.testing.assert_allclose(search.learning_rates, np.geomspace(1e-3, 1e-1, 20))
    for i in range(20):
        weights = 0.5 ** np.arange(i, -1, -1)
        expected = np.average(search.losses[: i + 1], weights=weights)
        assert search.smoothed[i] == pytest.approx(expected)
    lowest = search.learning_rates[search.smoothed.argmin()]
    assert search.suggestion == pytest.approx(lowest / 10)
    plain = find_learning_rate(make_model(), X, Y, steps=5, smoothing=0.0)
    np.testing.assert_allclose(plain.smoothed, plain.losses)


def test_it_stops_where_the_loss_diverges() -> None:
    y = X.sum(axis=1) + np.random.default_rng(1).normal(size=ROWS)
    model = gpunn.Sequential([gpunn.Input((5,)), gpunn.layers.Dense(1)])
    model.compile("sgd", "mse", device="cpu", seed=2)
    # Gradient descent on all rows: it diverges above 2 / the largest eigenvalue of the Hessian.
    design = np.hstack([X, np.ones((ROWS, 1))])
    limit = 2 / np.linalg.eigvalsh(2 * design.T @ design / ROWS).max()
    search = find_learning_rate(model, X, y, batch_size=ROWS, steps=400)
    assert len(search.losses) < 400 and search.divergence == search.learning_rates[-1]
    # A few steps go by before the growing error shows.
    assert limit < search.divergence < math.sqrt(10) * limit
    assert search.suggestion is not None and limit / 100 < search.suggestion < limit
    risen = search.smoothed > 4 * np.minimum.accumulate(search.smoothed)
    assert risen[-1] and not risen[:-1].any()


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_losses_that_are_not_finite_do_not_raise(device: str) -> None:
    model = gpunn.Sequential([gpunn.Input((5,)), gpunn.layers.Dense(1)])
    model.compile("sgd", "mse", device=device, seed=2)
    options: dict[str, Any] = {"minimum": 1.0, "maximum": 1e30, "stop_factor": 1e300}
    search = find_learning_rate(model, X, X.sum(axis=1), **options)
    assert not math.isfinite(search.losses[-1]) and np.isfinite(search.losses[:-1]).all()
    assert np.isnan(search.smoothed[-1]) and search.divergence == search.learning_rates[-1]
    assert all(np.isfinite(w).all() for w in model.get_weights())
    display = LearningRateFinderDisplay.from_result(search)
    assert np.isfinite(display.ax_.get_ylim()).all()
    matplotlib.pyplot.close(display.figure_)
    model.set_weights([w * np.float32(np.nan) for w in model.get_weights()])
    broken = find_learning_rate(model, X, X.sum(axis=1))
    assert len(broken.losses) == 1 and broken.suggestion is None
    assert broken.divergence == pytest.approx(1e-6)
    with pytest.raises(DataError, match="no finite value"):
        LearningRateFinderDisplay.from_result(broken)


def test_models_with_several_outputs_and_weights() -> None:
    inputs = gpunn.Input((5,))
    hidden = gpunn.layers.Dense(4, activation="relu")(inputs)
    outputs = [gpunn.layers.Dense(1, name=name)(hidden) for name in ("a", "b")]
    model = gpunn.Model(inputs, outputs)
    model.compile("sgd", "mse", loss_weights=[1.0, 3.0], device="cpu", seed=1)
    targets, weights = [X[:, :1], X[:, 1:2]], np.linspace(0, 1, ROWS)
    search = find_learning_rate(
        *(model, X, targets), sample_weight=[weights, weights], batch_size=ROWS, steps=3
    )
    expected = model.evaluate(X, targets, sample_weight=[weights, weights])
    assert search.losses[0] == pytest.approx(expected[0], rel=1e-5)


def test_a_model_without_an_input_shape_is_built() -> None:
    model = gpunn.Sequential([gpunn.layers.Dense(1)])
    model.compile("sgd", "mse", device="cpu", seed=1)
    assert len(find_learning_rate(model, X[:7], X[:7, 0], steps=4).losses) == 4
    assert model.built


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"minimum": 0}, ArgumentError, "minimum must be a number above 0"),
        ({"maximum": "high"}, ArgumentTypeError, "maximum must be a number above 0"),
        ({"minimum": 1, "maximum": 0.1}, ArgumentError, "maximum must be above minimum"),
        ({"steps": 1}, ArgumentError, "steps must be at least 2"),
        ({"epochs": 0}, ArgumentError, "epochs must be at least 1"),
        ({"steps": 5, "epochs": 1}, ArgumentError, "give steps or epochs, not both"),
        ({"smoothing": 1.0}, ArgumentError, "smoothing must be a number .*below 1"),
        ({"stop_factor": 1}, ArgumentError, "stop_factor must be a number above 1"),
        ({"batch_size": ROWS + 1}, ArgumentError, "batch_size 71 is larger than the data"),
        ({"y": None}, ArgumentTypeError, "y is missing"),
    ],
)
def test_bad_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        find_learning_rate(make_model(), X, **{"y": Y, **options})


def test_models_that_cannot_be_searched() -> None:
    model = gpunn.Sequential([gpunn.Input((5,)), gpunn.layers.Dense(1)])
    with pytest.raises(NotBuiltError, match="not compiled"):
        find_learning_rate(model, X, Y)
    model.compile("sgd", device="cpu")
    with pytest.raises(ArgumentError, match="needs a loss"):
        find_learning_rate(model, X, Y)


def test_the_picture_has_the_losses_and_the_suggestion() -> None:
    display = LearningRateFinderDisplay.from_model(make_model(), X, Y, steps=50, maximum=100.0)
    axes = display.ax_
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "learning rate"
    np.testing.assert_array_equal(
        display.points_.get_data(), [display.learning_rates, display.losses]
    )
    np.testing.assert_array_equal(display.line_.get_ydata(), display.smoothed)
    assert display.suggestion_.get_xdata()[0] == display.suggestion
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert f"suggestion: {display.suggestion:.2g}" in texts
    _, other = matplotlib.pyplot.subplots()
    assert display.plot(other).ax_ is other
    matplotlib.pyplot.close("all")


def test_pictures_of_what_is_no_result() -> None:
    with pytest.raises(ArgumentTypeError, match="result must be what find_learning_rate returned"):
        LearningRateFinderDisplay.from_result([1, 2])  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"losses has shape \(2,\), but learning_rates has \(3,\)"):
        LearningRateFinderDisplay([1, 2, 3], [1, 2], [1, 2])
    # Nothing fell: no suggestion is marked.
    flat = LearningRateSearch(np.array([1.0, 2.0]), np.ones(2), np.ones(2), None, None)
    display = LearningRateFinderDisplay.from_result(flat)
    assert display.suggestion_ is None and display.divergence_ is None
    matplotlib.pyplot.close(display.figure_)


def test_a_search_that_is_interrupted_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    model, trainer_class = make_model("adam"), gpunn.Trainer
    before = model.get_weights()
    take, taken = trainer_class._take_steps, []

    def interrupted(self: Any, count: int) -> None:
        take(self, count)
        taken.append(count)
        if len(taken) == 20:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(trainer_class, "_take_steps", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find_learning_rate(model, X, Y, steps=60)
    assert len(taken) == 20 and model.optimizer.iterations == 0
    assert all(map(np.array_equal, model.get_weights(), before))
