"""Exercise 9: a deep MLP with all the bells and whistles.

A learning rate that was searched for, early stopping, checkpoints of the best model, learning
curves in TensorBoard::

    python examples/exercise_9.py                # scikit-learn's digits: seconds
    python examples/exercise_9.py --data mnist   # the exercise: above 98 % in a few minutes

What it writes goes into a folder that may be given, default ``exercise_9``; then
``tensorboard --logdir exercise_9`` shows the curves.
"""

import argparse
import importlib.util
from pathlib import Path

import numpy as np

import gpunn as keras

parser = argparse.ArgumentParser()
parser.add_argument("folder", nargs="?", type=Path, default=Path("exercise_9"))
parser.add_argument("--data", choices=("digits", "mnist", "fashion-mnist"), default="digits")
parser.add_argument("--seed", type=int, default=42)
options = parser.parse_args()
steps, epochs, patience = (300, 20, 5) if options.data == "digits" else (1000, 100, 20)
options.folder.mkdir(parents=True, exist_ok=True)

dataset = getattr(keras.datasets, options.data.replace("-", "_"))
(x_train_full, y_train_full), (x_test, y_test) = dataset.load_data()
held_out = len(x_train_full) // 12  # 5,000 of 60,000
brightest = x_train_full.max()
x_valid, x_train = x_train_full[:held_out] / brightest, x_train_full[held_out:] / brightest
y_valid, y_train = y_train_full[:held_out], y_train_full[held_out:]
x_test = x_test / brightest


def build_model(learning_rate):
    """Return 300-100 with plain SGD; the same seed gives the same initial weights."""
    keras.utils.set_random_seed(options.seed)
    model = keras.Sequential(
        [
            keras.layers.Input(shape=x_train.shape[1:]),
            keras.layers.Flatten(),
            keras.layers.Dense(300, activation="relu"),
            keras.layers.Dense(100, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        loss="sparse_categorical_crossentropy",
        optimizer=keras.optimizers.SGD(learning_rate=learning_rate),
        metrics=["accuracy"],
    )
    return model


# The learning rate grows with every step, until the loss shoots up. logs["loss"] is the mean of
# the epoch so far, from which the loss of each batch follows.


class ExponentialLearningRate(keras.callbacks.Callback):
    """Multiplies the learning rate by `factor` after each step, and notes the losses."""

    def __init__(self, factor):
        self.factor = factor
        self.rates, self.losses = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.sum_of_losses = 0.0

    def on_batch_end(self, batch, logs=None):
        total = logs["loss"] * (batch + 1)
        self.losses.append(total - self.sum_of_losses)
        self.sum_of_losses = total
        rate = self.model.optimizer.learning_rate.numpy()
        self.rates.append(rate)
        self.model.optimizer.learning_rate = rate * self.factor
        if not self.losses[-1] < 4 * self.losses[0]:
            self.model.stop_training = True  # what follows would drown in the sum


steps_per_epoch = -(-len(x_train) // 32)
model = build_model(learning_rate=1e-3)
search = ExponentialLearningRate(factor=5000 ** (1 / steps))  # from 0.001 to about 5
model.fit(x_train, y_train, epochs=-(-steps // steps_per_epoch), callbacks=[search], verbose=0)

# Half the rate at which the loss, smoothed, is smallest.

window = steps // 20
smooth = np.convolve(search.losses, np.full(window, 1 / window), mode="valid")
learning_rate = float(search.rates[int(np.nanargmin(smooth)) + window // 2]) / 2
print(f"the loss is smallest at a learning rate of {2 * learning_rate:.3f}: half of that is taken")
if importlib.util.find_spec("matplotlib"):
    import matplotlib.pyplot as plt

    plt.plot(search.rates[window // 2 : window // 2 + len(smooth)], smooth)
    plt.gca().set_xscale("log")
    plt.gca().set_ylim(0, 1.2 * search.losses[0])
    plt.xlabel("Learning rate")
    plt.ylabel("Loss")
    plt.grid()
    plt.savefig(options.folder / "learning_rate.png")
    plt.close()

# Training with it until the validation accuracy has not risen for some epochs; the best is kept.
# The validation loss would stop earlier: it is smallest long before the accuracy is highest.

callbacks = [
    keras.callbacks.EarlyStopping(monitor="val_accuracy", patience=patience),
    keras.callbacks.ModelCheckpoint(
        options.folder / "my_model.keras", monitor="val_accuracy", save_best_only=True
    ),
]
if importlib.util.find_spec("tensorboardX"):
    runs = options.folder / "logs"
    run = runs / f"run_{len(list(runs.glob('run_*'))) + 1:03d}"
    callbacks.append(keras.callbacks.TensorBoard(run))
model = build_model(learning_rate)
history = model.fit(
    x_train,
    y_train,
    epochs=epochs,
    validation_data=(x_valid, y_valid),
    callbacks=callbacks,
    verbose=0,
)
best = int(np.argmax(history.history["val_accuracy"]))
print(f"stopped after {len(history.epoch)} epochs; epoch {best + 1} was the best")

model = keras.models.load_model(options.folder / "my_model.keras")
loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"test accuracy of the best model: {accuracy:.4f}")
