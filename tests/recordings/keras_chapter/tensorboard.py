# Not in Keras 3 without TensorFlow: its TensorBoard callback imports it.
# %% imports
from pathlib import Path
from time import strftime

import keras
import numpy as np

rng = np.random.default_rng(42)
X_train, y_train = rng.standard_normal((320, 8)), rng.standard_normal(320)


# %% run dirs
def get_run_logdir(root_logdir="my_logs"):
    return Path(root_logdir) / strftime("run_%Y_%m_%d_%H_%M_%S")


run_logdir = get_run_logdir()

# %% TensorBoard
model = keras.Sequential([keras.layers.Input([8]), keras.layers.Dense(30), keras.layers.Dense(1)])
model.compile(loss="mse", optimizer="sgd")
tensorboard_cb = keras.callbacks.TensorBoard(run_logdir)
history = model.fit(
    X_train, y_train, epochs=2, validation_split=0.2, callbacks=[tensorboard_cb], verbose=0
)
assert {folder.name for folder in run_logdir.iterdir()} == {"train", "validation"}
assert all(any(folder.iterdir()) for folder in run_logdir.iterdir())

# %% a second run beside it
second = keras.callbacks.TensorBoard(str(run_logdir) + "_learning_rate_0.05", histogram_freq=1)
model.fit(X_train, y_train, validation_split=0.2, callbacks=[second], verbose=0)
assert len(list(Path("my_logs").iterdir())) == 2
