# %% imports
import keras
import numpy as np
from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

# %% housing
housing = datasets.fetch_california_housing()
X_train_full, X_test, y_train_full, y_test = train_test_split(
    housing.data, housing.target, random_state=42
)
X_train, X_valid, y_train, y_valid = train_test_split(X_train_full, y_train_full, random_state=42)

# %% with a Normalization layer
keras.utils.set_random_seed(42)
norm_layer = keras.layers.Normalization(input_shape=X_train.shape[1:])
model = keras.Sequential(
    [
        norm_layer,
        keras.layers.Dense(50, activation="relu"),
        keras.layers.Dense(50, activation="relu"),
        keras.layers.Dense(50, activation="relu"),
        keras.layers.Dense(1),
    ]
)
optimizer = keras.optimizers.Adam(learning_rate=1e-3)
model.compile(loss="mse", optimizer=optimizer, metrics=["RootMeanSquaredError"])
norm_layer.adapt(X_train)
history = model.fit(X_train, y_train, epochs=6, validation_data=(X_valid, y_valid))
sorted(history.history)
history.history["val_loss"][-1] < history.history["val_loss"][0]

# %% its evaluation
mse_test, rmse_test = model.evaluate(X_test, y_test)
abs(rmse_test**2 - mse_test) < 1e-3
X_new = X_test[:3]
y_pred = model.predict(X_new)
y_pred.shape

# %% its summary
model.count_params()
model.summary()
[tuple(w.shape) for w in model.get_weights()]

# %% a Normalization layer in front of everything
norm_layer = keras.layers.Normalization()
norm_layer.adapt(X_train)
model = keras.Sequential([keras.layers.Input(X_train.shape[1:]), norm_layer, keras.layers.Dense(1)])
model.compile(loss="mse", optimizer="sgd")
model.evaluate(X_test, y_test, verbose=0)

# %% with StandardScaler
scaler = StandardScaler()
X_train = scaler.fit_transform(X_train)
X_valid = scaler.transform(X_valid)
X_test = scaler.transform(X_test)
X_train.dtype.name

# %% 30-ReLU-1
keras.utils.set_random_seed(42)
model = keras.models.Sequential(
    [
        keras.layers.Dense(30, activation="relu", input_shape=X_train.shape[1:]),
        keras.layers.Dense(1),
    ]
)
model.compile(loss="mean_squared_error", optimizer=keras.optimizers.SGD(learning_rate=1e-3))
history = model.fit(X_train, y_train, epochs=6, validation_data=(X_valid, y_valid))
mse_test = model.evaluate(X_test, y_test)
mse_test
sorted(history.history)
history.history["val_loss"][-1] < history.history["val_loss"][0]
X_new = X_test[:3]
y_pred = model.predict(X_new)
y_pred
np.isfinite(y_pred).all()

# %% not built before it sees data
model = keras.models.Sequential([keras.layers.Dense(30, activation="relu"), keras.layers.Dense(1)])
model.compile(loss="mse", optimizer="sgd")
model.built
model.fit(X_train, y_train, verbose=0).epoch
model.built
model.count_params()
