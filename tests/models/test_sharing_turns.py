"""Models that have layers in common train in turns within one call, and in threads."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from shared_models import CODES, DEVICES, FIT, X, Y, equal, pair, shared_weights, train

import gpunn

# Training in turns within a call


def by_hand(device: str, turns: list[tuple[int, int]]) -> list[Any]:
    """Return the weights after single steps: of which model, on which of four batches."""
    models = pair(device)
    for index, batch in turns:
        rows = slice(16 * batch, 16 * batch + 16)
        models[index].train_on_batch(X[rows], (Y, CODES)[index][rows])
    return [w for model in models for w in model.get_weights()]


@pytest.mark.parametrize("device", DEVICES)
def test_callback_trains_another_model(device: str) -> None:
    one, other = pair(device)

    class Between(gpunn.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            other.train_on_batch(X[:16], CODES[:16])

    one.fit(X, Y, epochs=2, callbacks=[Between()], **FIT)
    turns = [turn for batch in (0, 1, 2, 3) * 2 for turn in ((0, batch), (1, 0))]
    assert equal(one.get_weights() + other.get_weights(), by_hand(device, turns))


@pytest.mark.parametrize("device", DEVICES)
def test_trainers_of_two_models_take_turns(device: str) -> None:
    models = pair(device)
    trainers = [
        gpunn.Trainer(model, X, y, batch_size=16, shuffle=False)
        for model, y in zip(models, (Y, CODES), strict=True)
    ]
    for _ in range(8):
        for trainer in trainers:
            trainer.step()
    turns = [turn for batch in (0, 1, 2, 3) * 2 for turn in ((0, batch), (1, batch))]
    found = [w for model in models for w in model.get_weights()]
    assert equal(found, by_hand(device, turns))


@pytest.mark.parametrize("device", DEVICES)
def test_search_for_a_learning_rate_puts_the_newest_weights_back(device: str) -> None:
    one, other = pair(device)
    one.predict(X)  # has the first weights on its device
    train(other)
    before = other.get_weights()
    gpunn.find_learning_rate(one, X, Y, batch_size=16, steps=10)
    assert equal(shared_weights(one, other), before[:2])
    assert equal(other.get_weights(), before)


def test_best_weights_are_put_back_for_both() -> None:
    one, other = pair()
    stopping = gpunn.callbacks.EarlyStopping(
        monitor="loss", mode="max", patience=2, restore_best_weights=True
    )
    one.fit(X, Y, epochs=8, callbacks=[stopping], **FIT)
    best, _ = pair()
    train(best)
    assert equal(shared_weights(one, other), best.get_weights()[:2])


# Threads


def test_models_that_share_nothing_train_in_threads() -> None:
    def run(models: list[Any], together: bool) -> list[list[Any]]:
        threads = [threading.Thread(target=train, args=(model, 20)) for model in models]
        for thread in threads:
            thread.start()
            if not together:
                thread.join()
        for thread in threads:
            thread.join()
        return [model.get_weights() for model in models]

    alone = run([pair("cpu")[0], pair("cpu")[1]], together=False)
    together = run([pair("cpu")[0], pair("cpu")[1]], together=True)
    assert all(map(equal, alone, together))


def test_prediction_in_a_thread_does_not_disturb_training() -> None:
    one, other = pair("cpu")
    done, outputs = threading.Event(), []

    def predict() -> None:
        while not done.is_set() or not outputs:
            outputs.append(other.predict(X))

    thread = threading.Thread(target=predict)
    thread.start()
    train(one, 20)
    done.set()
    thread.join()
    alone, _ = pair("cpu")
    train(alone, 20)
    assert equal(one.get_weights(), alone.get_weights())
    assert all(np.isfinite(values).all() for values in outputs)
