"""When the hooks of callbacks run, and what they may do."""

from __future__ import annotations

from typing import Any

import pytest
from small_models import LABELS, X, assert_equal, classifier

import gpunn


class Recorder(gpunn.callbacks.Callback):
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.calls.append("train begin")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.calls.append(("epoch begin", epoch))

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.calls.append(("batch begin", batch))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        assert set(logs) == {"loss"}
        self.calls.append(("batch end", batch))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        assert set(logs) == {"loss", "val_loss"}
        self.calls.append(("epoch end", epoch))

    def on_train_end(self, logs: Any = None) -> None:
        self.calls.append("train end")


def test_hooks_run_in_keras_order() -> None:
    recorder = Recorder()
    model = classifier()
    model.fit(
        X,
        LABELS,
        batch_size=16,
        epochs=2,
        verbose=0,
        callbacks=[recorder],
        validation_data=(X, LABELS),
    )
    epochs = []
    for epoch in range(2):
        batches = [(f"batch {when}", b) for b in range(2) for when in ("begin", "end")]
        epochs += [("epoch begin", epoch), *batches, ("epoch end", epoch)]
    assert recorder.calls == ["train begin", *epochs, "train end"]
    assert recorder.model is model
    assert recorder.params["epochs"] == 2


def test_hooks_do_not_change_the_training() -> None:
    model, other = classifier(), classifier()
    model.fit(X, LABELS, batch_size=5, epochs=2, verbose=0)
    data = (X, LABELS)
    other.fit(
        X, LABELS, batch_size=5, epochs=2, verbose=0, callbacks=[Recorder()], validation_data=data
    )
    assert_equal(model.get_weights(), other.get_weights())


def test_lambda_callback_runs_its_functions() -> None:
    seen: list[Any] = []
    callback = gpunn.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append((epoch, logs["loss"])),
    )
    # One callback may be given without a list.
    history = classifier().fit(X, LABELS, epochs=3, verbose=0, callbacks=callback)
    assert seen == list(enumerate(history.history["loss"]))


@pytest.mark.parametrize(
    ("hook", "function"),
    [
        ("on_train_begin", lambda logs: None),
        ("on_train_end", lambda logs: None),
        ("on_epoch_begin", lambda epoch, logs: None),
        ("on_train_batch_begin", lambda batch, logs: None),
    ],
    ids=["train begin", "train end", "epoch begin", "batch begin"],
)
def test_hooks_without_default_arguments_get_logs(hook: str, function: Any) -> None:
    callback = gpunn.callbacks.LambdaCallback(**{hook: function})
    classifier().fit(X, LABELS, verbose=0, callbacks=[callback])


def test_stop_training_after_an_epoch() -> None:
    model = classifier()

    def stop(epoch: int, logs: Any) -> None:
        model.stop_training = epoch == 1

    callback = gpunn.callbacks.LambdaCallback(on_epoch_end=stop)
    assert model.fit(X, LABELS, epochs=9, verbose=0, callbacks=[callback]).epoch == [0, 1]
    # The next fit starts afresh.
    assert model.fit(X, LABELS, epochs=3, verbose=0).epoch == [0, 1, 2]


def test_stop_training_within_an_epoch() -> None:
    """As in Keras: no further batch, but the epoch's end and the training's end are called."""

    class Stop(Recorder):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            super().on_train_batch_end(batch, logs)
            self.model.stop_training = True

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.calls.append(("epoch end", epoch))

    stop = Stop()
    history = classifier().fit(X, LABELS, batch_size=8, epochs=3, verbose=0, callbacks=[stop])
    assert stop.calls == [
        "train begin",
        ("epoch begin", 0),
        ("batch begin", 0),
        ("batch end", 0),
        ("epoch end", 0),
        "train end",
    ]
    assert len(history.history["loss"]) == 1
