"""The public names of `gpunn.estimators.wrappers`, and its `scikit_learn` as Keras 2 had it."""

from gpunn.estimators.wrappers import *
