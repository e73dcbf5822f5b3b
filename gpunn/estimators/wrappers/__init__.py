"""Models as estimators of scikit-learn, for its searches, pipelines and cross-validation.

`KerasClassifier` and `KerasRegressor` take a function that builds a compiled model; they are in
``gpunn.wrappers.scikit_learn`` too, where Keras 2 had them.
"""

from __future__ import annotations

from gpunn.estimators.wrappers import scikit_learn
from gpunn.estimators.wrappers.scikit_learn import KerasClassifier, KerasRegressor

__all__ = ["KerasClassifier", "KerasRegressor", "scikit_learn"]
