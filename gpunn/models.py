"""Keras's ``models``: `Sequential`, `Model` and `load_model`."""

from gpunn.model import Model
from gpunn.saving import load_model
from gpunn.sequential import Sequential

__all__ = ["Model", "Sequential", "load_model"]
