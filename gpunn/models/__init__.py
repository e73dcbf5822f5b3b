"""Keras's ``models``: `Sequential`, `Model`, and what copies and loads them."""

from gpunn.models.model import Model
from gpunn.models.saving import clone_model, load_model, model_from_json
from gpunn.models.sequential import Sequential

__all__ = ["Model", "Sequential", "clone_model", "load_model", "model_from_json"]
