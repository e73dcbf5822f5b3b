"""Models as scikit-learn estimators, for its searches, pipelines and cross-validation.

`KerasClassifier` and `KerasRegressor` take a function that builds a compiled model. They are also
in ``gpunn.wrappers.scikit_learn``, where Keras 2 had them.
"""

from __future__ import annotations

from gpunn.estimators.wrappers import scikit_learn
from gpunn.estimators.wrappers.scikit_learn import KerasClassifier, KerasRegressor

__all__ = ["KerasClassifier", "KerasRegressor", "scikit_learn"]
