"""Keras's ``callbacks``."""

from typing import Any

from gpunn.training.callbacks.base import Callback, Checkpoints, LambdaCallback
from gpunn.training.callbacks.history import History
from gpunn.training.callbacks.keras import (
    BackupAndRestore,
    CSVLogger,
    LearningRateScheduler,
    TerminateOnNaN,
)
from gpunn.training.callbacks.model_checkpoint import ModelCheckpoint
from gpunn.training.callbacks.monitors import EarlyStopping, ReduceLROnPlateau
from gpunn.training.callbacks.tensorboard import TensorBoard

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "Checkpoints",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
]

# Other callbacks of Keras, and what replaces them.
_ABSENT = {
    "CallbackList": "gpunn.Trainer(model, x, y, callbacks=[...]) calls the callbacks of a loop",
    "OrbaxCheckpoint": "use Checkpoints, which saves the whole state of training",
    "ProgbarLogger": "fit(verbose=1) shows the progress",
    "RemoteMonitor": "send the logs in on_epoch_end of your own callback",
    "SwapEMAWeights": "gpunn's optimizers keep no moving average of the weights",
}


def __getattr__(name: str) -> Any:
    hint = f": {_ABSENT[name]}" if name in _ABSENT else ""
    raise AttributeError(f"module 'gpunn.callbacks' has no {name!r}{hint}.")
