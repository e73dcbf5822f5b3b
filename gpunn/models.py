"""Keras's ``models``: `Sequential`, `Model` and `load_model`."""

from gpunn.model import Model, Sequential
from gpunn.saving import load_model

__all__ = ["Model", "Sequential", "load_model"]
