"""Estimators for scikit-learn's pipelines, searches and metrics.

They follow its conventions: ``__init__`` only stores, ``fit`` validates and trains, and fitted
attributes end in an underscore.
"""

from __future__ import annotations

from gpunn.estimators.dnn_classifier import (
    DNNClassifier,
    RealValuedColumn,
    infer_real_valued_columns_from_input,
)
from gpunn.estimators.mlp_classifier import MLPClassifier
from gpunn.estimators.mlp_regressor import MLPRegressor
from gpunn.estimators.perceptron import Perceptron

__all__ = [
    "DNNClassifier",
    "MLPClassifier",
    "MLPRegressor",
    "Perceptron",
    "RealValuedColumn",
    "infer_real_valued_columns_from_input",
]
