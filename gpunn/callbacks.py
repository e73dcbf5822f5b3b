"""Keras's ``callbacks``: the public names of ``gpunn/training``."""

from gpunn.training.callbacks import Callback, Checkpoints, LambdaCallback
from gpunn.training.history import History

__all__ = ["Callback", "Checkpoints", "History", "LambdaCallback"]
