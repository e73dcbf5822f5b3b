# %% imports
import keras
import numpy as np

rng = np.random.default_rng(42)
X_train, X_valid = rng.standard_normal((320, 8)), rng.standard_normal((100, 8))
y_train, y_valid = X_train[:, 0] + X_train[:, 1], X_valid[:, 0] + X_valid[:, 1]


# %% build_model
def build_model(n_hidden=1, n_neurons=30, learning_rate=3e-3, input_shape=(8,)):
    model = keras.models.Sequential()
    model.add(keras.layers.Input(shape=input_shape))
    for _layer in range(n_hidden):
        model.add(keras.layers.Dense(n_neurons, activation="relu"))
    model.add(keras.layers.Dense(1))
    optimizer = keras.optimizers.SGD(learning_rate=learning_rate)
    model.compile(loss="mse", optimizer=optimizer)
    return model


[build_model(n_hidden=n).count_params() for n in range(4)]

# %% a random search
trials = []
for _trial in range(4):
    options = {
        "n_hidden": int(rng.integers(0, 4)),
        "n_neurons": int(rng.integers(1, 100)),
        "learning_rate": 10 ** rng.uniform(-3.5, -1.5),
    }
    model = build_model(**options)
    early_stopping_cb = keras.callbacks.EarlyStopping(patience=10)
    history = model.fit(
        X_train,
        y_train,
        epochs=3,
        validation_data=(X_valid, y_valid),
        callbacks=[early_stopping_cb],
        verbose=0,
    )
    trials.append((min(history.history["val_loss"]), options))
best_loss, best_options = min(trials, key=lambda trial: trial[0])
sorted(best_options)
np.isfinite(best_loss)

# %% early stopping with a monitor
model = build_model(learning_rate=0.0)
stop = keras.callbacks.EarlyStopping(monitor="loss", patience=3, min_delta=1e-3, mode="min")
len(model.fit(X_train, y_train, epochs=50, callbacks=[stop], verbose=0).epoch)
stop.stopped_epoch
