"""Models that are no stack: wide & deep, with two inputs and an auxiliary output.

python examples/wide_and_deep.py                             # scikit-learn's diabetes data: seconds
python examples/wide_and_deep.py --data california-housing   # the chapter's
"""

import argparse

from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import gpunn as keras

parser = argparse.ArgumentParser()
parser.add_argument("--data", choices=("diabetes", "california-housing"), default="diabetes")
options, _ = parser.parse_known_args()

# The data, a quarter of it for testing and a quarter of the rest for validation.

if options.data == "diabetes":
    x, y = load_diabetes(return_X_y=True)
    y = y / 100
else:
    (x, y), _ = keras.datasets.california_housing.load_data(test_split=0.0)
x_train_full, x_test, y_train_full, y_test = train_test_split(x, y, random_state=42)
x_train, x_valid, y_train, y_valid = train_test_split(x_train_full, y_train_full, random_state=42)
scaler = StandardScaler()
x_train = scaler.fit_transform(x_train)
x_valid, x_test = scaler.transform(x_valid), scaler.transform(x_test)

# Every feature goes two ways: straight to the output, and through two hidden layers.

keras.utils.set_random_seed(42)
input_ = keras.layers.Input(shape=x_train.shape[1:])
hidden1 = keras.layers.Dense(30, activation="relu")(input_)
hidden2 = keras.layers.Dense(30, activation="relu")(hidden1)
concat = keras.layers.concatenate([input_, hidden2])
output = keras.layers.Dense(1)(concat)
model = keras.Model(inputs=[input_], outputs=[output])
model.summary()
model.compile(loss="mse", optimizer=keras.optimizers.SGD(learning_rate=1e-3))
model.fit(x_train, y_train, epochs=20, validation_data=(x_valid, y_valid), verbose=0)
print(f"wide & deep: test MSE {model.evaluate(x_test, y_test, verbose=0):.4f}\n")

# Some features the wide way, some the deep way, some both: two inputs. A second output after the
# hidden layers makes them learn something of their own; it weighs a ninth of the main one.

input_wide = keras.layers.Input(shape=[5], name="wide_input")
input_deep = keras.layers.Input(shape=[x_train.shape[1] - 2], name="deep_input")
hidden1 = keras.layers.Dense(30, activation="relu")(input_deep)
hidden2 = keras.layers.Dense(30, activation="relu")(hidden1)
concat = keras.layers.concatenate([input_wide, hidden2])
output = keras.layers.Dense(1, name="main_output")(concat)
aux_output = keras.layers.Dense(1, name="aux_output")(hidden2)
model = keras.Model(inputs=[input_wide, input_deep], outputs=[output, aux_output])
model.compile(
    loss=["mse", "mse"], loss_weights=[0.9, 0.1], optimizer=keras.optimizers.SGD(learning_rate=1e-3)
)


def ways(x):
    """Return the features of the wide way, and those of the deep way."""
    return x[:, :5], x[:, 2:]


history = model.fit(
    ways(x_train),
    (y_train, y_train),
    epochs=20,
    validation_data=(ways(x_valid), (y_valid, y_valid)),
    verbose=0,
)
print("two inputs, two outputs:", ", ".join(history.history))
total_loss, main_loss, aux_loss = model.evaluate(ways(x_test), (y_test, y_test), verbose=0)
print(f"test MSE: main {main_loss:.4f}, auxiliary {aux_loss:.4f}, weighed sum {total_loss:.4f}")
y_main, y_aux = model.predict(ways(x_test[:3]), verbose=0)
print("first predictions:", y_main.ravel().round(2), "of", y_test[:3].round(2))
