"""Hyperparameters by scikit-learn: the wrapper makes an estimator of a function that builds a net.

python examples/hyperparameter_search.py
"""

from scipy.stats import reciprocal
from sklearn.datasets import make_regression
from sklearn.model_selection import RandomizedSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import gpunn as keras


def build_model(n_hidden=1, n_neurons=30, learning_rate=3e-3, input_shape=(8,)):
    model = keras.models.Sequential()
    model.add(keras.layers.InputLayer(input_shape=input_shape))
    for _ in range(n_hidden):
        model.add(keras.layers.Dense(n_neurons, activation="relu"))
    model.add(keras.layers.Dense(1))
    optimizer = keras.optimizers.SGD(learning_rate=learning_rate)
    model.compile(loss="mse", optimizer=optimizer)
    return model


# Eight numbers and a value to predict, as for California's houses, but made up: with a bend.
x, y = make_regression(1500, 8, noise=5.0, random_state=42)
y = abs(y) / y.std()
x_full, x_test, y_full, y_test = train_test_split(x, y, random_state=42)
x_train, x_valid, y_train, y_valid = train_test_split(x_full, y_full, random_state=42)

# An estimator like any other. What `fit` is given by name goes to the model's own `fit`.
reg = keras.wrappers.KerasRegressor(build_model, verbose=0, random_state=42)
reg.fit(
    x_train,
    y_train,
    epochs=50,
    validation_data=(x_valid, y_valid),
    callbacks=[keras.callbacks.EarlyStopping(patience=10)],
)
print(f"as it stands: {len(reg.history_['loss'])} epochs, R2 {reg.score(x_valid, y_valid):.3f}")

# The parameters of build_model are those of the estimator.
distributions = {
    "n_hidden": [0, 1, 2, 3],
    "n_neurons": range(1, 100),
    "learning_rate": reciprocal(3e-4, 3e-2),
}
search = RandomizedSearchCV(reg, distributions, n_iter=10, cv=3, random_state=42)
search.fit(
    x_train,
    y_train,
    epochs=50,
    validation_data=(x_valid, y_valid),
    callbacks=[keras.callbacks.EarlyStopping(patience=10)],
)
print("best parameters:", search.best_params_)
print(
    f"R2 {search.best_score_:.3f} in cross-validation, {search.score(x_test, y_test):.3f} in test"
)
search.best_estimator_.model_.summary()

# In a pipeline, inputs are scaled by what was learned from the rows of each fold.
best = keras.wrappers.KerasRegressor(build_model, verbose=0, epochs=30, **search.best_params_)
pipeline = make_pipeline(StandardScaler(), best).fit(x_full, y_full)
print(f"scaled: R2 {pipeline.score(x_test, y_test):.3f} in test")
