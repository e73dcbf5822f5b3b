# Exercise 9: a deep MLP on MNIST, with a learning rate that was searched for.
# %% imports
from pathlib import Path
from time import strftime

import keras
import matplotlib.pyplot as plt
import numpy as np

# %% load the data
(X_train_full, y_train_full), (X_test, y_test) = keras.datasets.mnist.load_data()
X_valid, X_train = X_train_full[:5000] / 255.0, X_train_full[5000:] / 255.0
y_valid, y_train = y_train_full[:5000], y_train_full[5000:]
X_test = X_test / 255.0


# %% ExponentialLearningRate
class ExponentialLearningRate(keras.callbacks.Callback):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.rates = []
        self.losses = []

    def on_epoch_begin(self, epoch, logs=None):
        self.sum_of_epoch_losses = 0

    def on_batch_end(self, batch, logs=None):
        mean_epoch_loss = logs["loss"]  # the epoch's mean loss so far
        new_sum_of_epoch_losses = mean_epoch_loss * (batch + 1)
        batch_loss = new_sum_of_epoch_losses - self.sum_of_epoch_losses
        self.sum_of_epoch_losses = new_sum_of_epoch_losses
        lr = self.model.optimizer.learning_rate.numpy()
        self.rates.append(lr)
        self.losses.append(batch_loss)
        self.model.optimizer.learning_rate = lr * self.factor


# %% search for a learning rate
keras.utils.set_random_seed(42)
model = keras.Sequential(
    [
        keras.layers.Input(shape=[28, 28]),
        keras.layers.Flatten(),
        keras.layers.Dense(300, activation="relu"),
        keras.layers.Dense(100, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
optimizer = keras.optimizers.SGD(learning_rate=1e-3)
model.compile(loss="sparse_categorical_crossentropy", optimizer=optimizer, metrics=["accuracy"])
expon_lr = ExponentialLearningRate(factor=1.005)
history = model.fit(
    X_train, y_train, epochs=1, validation_data=(X_valid, y_valid), callbacks=[expon_lr]
)
len(expon_lr.rates), len(expon_lr.losses)
abs(expon_lr.rates[-1] / expon_lr.rates[0] - 1.005 ** (len(expon_lr.rates) - 1)) < 1e-4
np.isfinite(expon_lr.losses).all()

# %% loss against learning rate
plt.plot(expon_lr.rates, expon_lr.losses)
plt.gca().set_xscale("log")
plt.hlines(min(expon_lr.losses), min(expon_lr.rates), max(expon_lr.rates))
plt.axis([min(expon_lr.rates), max(expon_lr.rates), 0, expon_lr.losses[0]])
plt.grid()
plt.xlabel("Learning rate")
plt.ylabel("Loss")
plt.close()

# %% train with it
keras.utils.set_random_seed(42)
model = keras.Sequential(
    [
        keras.layers.Input(shape=[28, 28]),
        keras.layers.Flatten(),
        keras.layers.Dense(300, activation="relu"),
        keras.layers.Dense(100, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
optimizer = keras.optimizers.SGD(learning_rate=3e-2)
model.compile(loss="sparse_categorical_crossentropy", optimizer=optimizer, metrics=["accuracy"])
run_index = 1
run_logdir = Path() / "my_mnist_logs" / f"run_{run_index:03d}" / strftime("%Y")
early_stopping_cb = keras.callbacks.EarlyStopping(patience=20)
checkpoint_cb = keras.callbacks.ModelCheckpoint("my_mnist_model.keras", save_best_only=True)
history = model.fit(
    X_train,
    y_train,
    epochs=5,
    validation_data=(X_valid, y_valid),
    callbacks=[checkpoint_cb, early_stopping_cb],
)
history.history["val_loss"][-1] < history.history["val_loss"][0]

# %% the best model
model = keras.models.load_model("my_mnist_model.keras")
loss, accuracy = model.evaluate(X_test, y_test)
accuracy > 0.8
