"""Wide & deep as a class: the layers are made in ``__init__`` and called in ``call``.

python examples/wide_and_deep_subclassing.py
"""

from sklearn.datasets import load_diabetes
from sklearn.preprocessing import StandardScaler

import gpunn as keras


class WideAndDeepModel(keras.Model):
    """Two inputs, two outputs."""

    def __init__(self, units=30, activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.hidden1 = keras.layers.Dense(units, activation=activation)
        self.hidden2 = keras.layers.Dense(units, activation=activation)
        self.main_output = keras.layers.Dense(1)
        self.aux_output = keras.layers.Dense(1)

    def call(self, inputs):
        input_wide, input_deep = inputs
        hidden1 = self.hidden1(input_deep)
        hidden2 = self.hidden2(hidden1)
        concat = keras.layers.concatenate([input_wide, hidden2])
        return self.main_output(concat), self.aux_output(hidden2)


x, y = load_diabetes(return_X_y=True)
x, y = StandardScaler().fit_transform(x), y / 100
wide, deep = x[:, :5], x[:, 2:]

keras.utils.set_random_seed(42)
model = WideAndDeepModel(30, activation="relu", name="my_cool_model")
model.compile(
    loss=["mse", "mse"],
    loss_weights=[0.9, 0.1],
    optimizer=keras.optimizers.Adam(learning_rate=1e-3),
    metrics=["RootMeanSquaredError", "RootMeanSquaredError"],
)
history = model.fit((wide, deep), (y, y), epochs=20, validation_split=0.2, verbose=0)
for name, values in history.history.items():
    print(f"{name}: {values[0]:.4f} in the first epoch, {values[-1]:.4f} in the last")
y_main, y_aux = model.predict((wide[:3], deep[:3]), verbose=0)
print("first predictions:", y_main.ravel().round(2), "of", y[:3].round(2))
