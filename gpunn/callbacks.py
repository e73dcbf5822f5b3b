"""Keras's ``callbacks``: the public names of ``gpunn/training``."""

from gpunn.training.callbacks import Callback, Checkpoints, LambdaCallback
from gpunn.training.history import History
from gpunn.training.keras_callbacks import (
    BackupAndRestore,
    CSVLogger,
    LearningRateScheduler,
    TerminateOnNaN,
)
from gpunn.training.model_checkpoint import ModelCheckpoint
from gpunn.training.monitors import EarlyStopping, ReduceLROnPlateau
from gpunn.training.tensorboard import TensorBoard

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
