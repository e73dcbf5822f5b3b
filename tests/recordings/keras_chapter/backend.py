# Not in Keras 3: the chapter's second edition reads and sets variables through keras.backend.
# %% imports
import keras
import numpy as np

K = keras.backend
X, y = np.random.default_rng(42).standard_normal((320, 8)), np.arange(320) % 2

# %% get_value and set_value
model = keras.Sequential([keras.layers.Input([8]), keras.layers.Dense(1)])
model.compile(loss="mse", optimizer=keras.optimizers.SGD(learning_rate=1e-3))
assert np.isclose(K.get_value(model.optimizer.learning_rate), 1e-3)
K.set_value(model.optimizer.learning_rate, 0.02)
assert np.isclose(K.get_value(model.optimizer.learning_rate), 0.02)


# %% ExponentialLearningRate
class ExponentialLearningRate(keras.callbacks.Callback):
    def __init__(self, factor):
        self.factor = factor
        self.rates = []
        self.losses = []

    def on_batch_end(self, batch, logs):
        self.rates.append(K.get_value(self.model.optimizer.learning_rate))
        self.losses.append(logs["loss"])
        K.set_value(
            self.model.optimizer.learning_rate, self.model.optimizer.learning_rate * self.factor
        )


K.clear_session()
expon_lr = ExponentialLearningRate(factor=1.005)
model.fit(X, y, epochs=1, callbacks=[expon_lr], verbose=0)
assert len(expon_lr.rates) == len(expon_lr.losses) == 10
assert np.isclose(expon_lr.rates[-1], 0.02 * 1.005**9)
