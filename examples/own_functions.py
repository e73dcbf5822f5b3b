"""An activation, a loss and a metric of your own: plain functions, on every device.

They are written with gpunn.ops and Python's operators, called once when the model is made, and
saved with it as data: a model is loaded without them.

python examples/own_functions.py [FOLDER]
"""

import sys
from pathlib import Path

import numpy as np

import gpunn
from gpunn import layers, ops


def mish(z):  # Misra 2019
    return z * ops.tanh(ops.softplus(z))


def huber_fn(y_true, y_pred):
    error = y_true - y_pred
    is_small_error = ops.abs(error) < 1
    return ops.where(is_small_error, ops.square(error) / 2, ops.abs(error) - 0.5)


def within_a_tenth(y_true, y_pred):
    return ops.abs(y_pred - y_true) <= 0.1 * ops.abs(y_true)


# House prices, say: smooth in what is known of a house, and now and then far off.
rng = np.random.default_rng(0)
x = rng.normal(size=(6000, 8)).astype(np.float32)
y = 3 + np.tanh(x[:, 0] * x[:, 1]) + 0.5 * np.sin(2 * x[:, 2]) + 0.05 * rng.standard_t(2, 6000)
x_train, y_train, x_test, y_test = x[:5000], y[:5000], x[5000:], y[5000:]

print("mish at -1, 0 and 1:", mish(np.array([-1.0, 0.0, 1.0])).round(3))  # functions can be tried

model = gpunn.Sequential(
    [
        gpunn.Input((8,)),
        layers.Dense(64, activation=mish),
        layers.Dense(32, activation=mish),
        layers.Dense(1),
    ]
)
close = gpunn.metrics.from_function(within_a_tenth, higher_is_better=True)
model.compile(optimizer="adam", loss=huber_fn, metrics=["mae", close], seed=1)
model.fit(x_train, y_train, epochs=20, batch_size=50, verbose=0)
loss, mae, share = model.evaluate(x_test, y_test)
print(f"test: huber {loss:.4f}, mae {mae:.4f}, within a tenth {share:.1%}")

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "own_functions")
folder.mkdir(parents=True, exist_ok=True)
model.save(folder / "model.h5")
same = gpunn.load_model(folder / "model.h5").predict(x_test) == model.predict(x_test)
print("loaded without the functions, predicts the same:", bool(same.all()))

# Derivatives are derived. One that you give is checked, and a mistake is shown:
try:
    gpunn.activations.from_function(lambda z: z**3, derivative=lambda z: 3 * z, name="cubic")
except gpunn.errors.ArgumentError as error:
    print(error)
