# %% imports
from pathlib import Path

import keras
import numpy as np

rng = np.random.default_rng(42)
X_train, X_valid = rng.standard_normal((640, 8)), rng.standard_normal((200, 8))
y_train, y_valid = X_train[:, 0] * X_train[:, 1], X_valid[:, 0] * X_valid[:, 1]
X_new = X_valid[:3]


def build():
    model = keras.models.Sequential(
        [
            keras.layers.Input(shape=[8]),
            keras.layers.Dense(30, activation="relu"),
            keras.layers.Dense(30, activation="relu"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(loss="mse", optimizer=keras.optimizers.SGD(learning_rate=1e-2))
    return model


# %% save
keras.utils.set_random_seed(42)
model = build()
history = model.fit(X_train, y_train, epochs=2, validation_data=(X_valid, y_valid))
mse_valid = model.evaluate(X_valid, y_valid)
model.save("my_keras_model.keras")
Path("my_keras_model.keras").is_file()

# %% load
loaded = keras.models.load_model("my_keras_model.keras")
abs(loaded.predict(X_new) - model.predict(X_new)).max() < 1e-6
abs(loaded.evaluate(X_valid, y_valid) - mse_valid) < 1e-5
sorted(loaded.fit(X_train, y_train, verbose=0).history)

# %% save in the older format
model.save("my_keras_model.h5")
loaded = keras.models.load_model("my_keras_model.h5", compile=False)
abs(loaded.predict(X_new) - model.predict(X_new)).max() < 1e-6

# %% weights
model.save_weights("my_keras_weights.weights.h5")
other = build()
other.load_weights("my_keras_weights.weights.h5")
abs(other.predict(X_new) - model.predict(X_new)).max() < 1e-6

# %% config and clone
copy = keras.models.clone_model(model)
copy.set_weights(model.get_weights())
copy.count_params()
abs(copy.predict(X_new) - model.predict(X_new)).max() < 1e-6

# %% ModelCheckpoint
checkpoint_cb = keras.callbacks.ModelCheckpoint("my_keras_model.keras", save_best_only=True)
history = model.fit(
    X_train, y_train, epochs=4, validation_data=(X_valid, y_valid), callbacks=[checkpoint_cb]
)
model = keras.models.load_model("my_keras_model.keras")  # roll back to the best
abs(model.evaluate(X_valid, y_valid) - min(history.history["val_loss"])) < 1e-5

# %% ModelCheckpoint of weights
checkpoint_cb = keras.callbacks.ModelCheckpoint("ckpt.weights.h5", save_weights_only=True)
history = model.fit(X_train, y_train, epochs=2, callbacks=[checkpoint_cb])
expected = model.predict(X_new)
model.load_weights("ckpt.weights.h5")
abs(model.predict(X_new) - expected).max() < 1e-6

# %% EarlyStopping
model = build()
early_stopping_cb = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
history = model.fit(
    X_train,
    y_train,
    epochs=100,
    validation_data=(X_valid, y_valid + 5.0 * np.arange(200) / 200),
    callbacks=[checkpoint_cb, early_stopping_cb],
)
len(history.epoch) < 100
mse_valid = model.evaluate(X_valid, y_valid + 5.0 * np.arange(200) / 200)
abs(mse_valid - min(history.history["val_loss"])) < 1e-4


# %% a callback of one's own
class PrintValTrainRatioCallback(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs):
        ratio = logs["val_loss"] / logs["loss"]
        print(f"Epoch={epoch}, val/train={ratio:.2f}")


val_train_ratio_cb = PrintValTrainRatioCallback()
history = model.fit(
    X_train,
    y_train,
    epochs=1,
    validation_data=(X_valid, y_valid),
    callbacks=[val_train_ratio_cb],
    verbose=0,
)
val_train_ratio_cb.model is model
val_train_ratio_cb.params["epochs"]
hooks_run = []


# %% all hooks
class Hooks(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        hooks_run.append("train begin")

    def on_epoch_begin(self, epoch, logs=None):
        hooks_run.append(f"epoch begin {epoch}")

    def on_train_batch_begin(self, batch, logs=None):
        hooks_run.append(f"batch begin {batch}")

    def on_train_batch_end(self, batch, logs=None):
        hooks_run.append(f"batch end {batch} {sorted(logs)}")

    def on_test_begin(self, logs=None):
        hooks_run.append("test begin")

    def on_test_end(self, logs=None):
        hooks_run.append("test end")

    def on_epoch_end(self, epoch, logs=None):
        hooks_run.append(f"epoch end {epoch} {sorted(logs)}")

    def on_train_end(self, logs=None):
        hooks_run.append("train end")


model.fit(
    X_train,
    y_train,
    epochs=2,
    batch_size=320,
    validation_data=(X_valid, y_valid),
    callbacks=[Hooks()],
    verbose=0,
).epoch
hooks_run

# %% LearningRateScheduler and ReduceLROnPlateau
lr_scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 * 0.1**epoch)
history = model.fit(X_train, y_train, epochs=2, callbacks=[lr_scheduler], verbose=0)
sorted(history.history)
lr_scheduler = keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=5)
history = model.fit(
    X_train,
    y_train,
    epochs=2,
    validation_data=(X_valid, y_valid),
    callbacks=[lr_scheduler, keras.callbacks.TerminateOnNaN()],
    verbose=0,
)
sorted(history.history)

# %% LambdaCallback and CSVLogger
epochs_seen = []
callbacks = [
    keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs_seen.append(epoch)),
    keras.callbacks.CSVLogger("log.csv"),
]
history = model.fit(X_train, y_train, epochs=3, initial_epoch=1, callbacks=callbacks, verbose=0)
epochs_seen
history.epoch
Path("log.csv").read_text().splitlines()[0]
