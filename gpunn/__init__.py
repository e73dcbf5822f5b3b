"""gpunn: multilayer perceptrons, trained as fast as the hardware allows.

``import gpunn as keras`` and go on typing: names and behaviour are Keras's. Submodules and
names are imported when first used, so that ``import gpunn`` costs little more than NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULES = (
    "activations",
    "backend",
    "callbacks",
    "constraints",
    "datasets",
    "errors",
    "estimators",
    "initializers",
    "layers",
    "logic",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "plots",
    "regularizers",
    "schedules",
    "symbolic",
    "utils",
    "wrappers",
)
_NAMES = {
    "DNNClassifier": "gpunn.estimators.dnn_classifier",
    "Input": "gpunn.layers",
    "MLPClassifier": "gpunn.estimators.mlp_classifier",
    "MLPRegressor": "gpunn.estimators.mlp_regressor",
    "Model": "gpunn.models.model",
    "Perceptron": "gpunn.estimators.perceptron",
    "Sequential": "gpunn.models.sequential",
    "Trainer": "gpunn.training.trainer",
    "find_learning_rate": "gpunn.training.learning_rate_finder",
    "load_model": "gpunn.models.saving",
}

__all__ = ["__version__", *_MODULES, *_NAMES]

if TYPE_CHECKING:
    from gpunn.estimators.dnn_classifier import DNNClassifier as DNNClassifier
    from gpunn.estimators.mlp_classifier import MLPClassifier as MLPClassifier
    from gpunn.estimators.mlp_regressor import MLPRegressor as MLPRegressor
    from gpunn.estimators.perceptron import Perceptron as Perceptron
    from gpunn.models.model import Model as Model
    from gpunn.models.saving import load_model as load_model
    from gpunn.models.sequential import Sequential as Sequential
    from gpunn.specs.layers import Input as Input
    from gpunn.training.learning_rate_finder import find_learning_rate as find_learning_rate
    from gpunn.training.trainer import Trainer as Trainer


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"gpunn.{name}")
    if name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'gpunn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
