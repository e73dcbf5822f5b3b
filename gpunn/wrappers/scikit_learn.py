"""`KerasClassifier` and `KerasRegressor`, where Keras 2 had them."""

from gpunn.estimators.wrappers.scikit_learn import KerasClassifier as KerasClassifier
from gpunn.estimators.wrappers.scikit_learn import KerasRegressor as KerasRegressor
