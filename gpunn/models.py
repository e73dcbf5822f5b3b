"""Keras's ``models``: `Sequential`, `Model`, `clone_model`, `load_model` and `save_model`."""

from gpunn.model import Model
from gpunn.saving import clone_model, load_model, save_model
from gpunn.sequential import Sequential

__all__ = ["Model", "Sequential", "clone_model", "load_model", "save_model"]
