"""An image classifier with the Sequential API: build, look at, compile, train, evaluate, predict.

python examples/fashion_mnist_sequential.py                        # scikit-learn's digits: seconds
python examples/fashion_mnist_sequential.py --data fashion-mnist   # the chapter's: a minute
"""

import argparse

import numpy as np

import gpunn as keras

parser = argparse.ArgumentParser()
parser.add_argument("--data", choices=("digits", "fashion-mnist", "mnist"), default="digits")
options, _ = parser.parse_known_args()

# The data: images and class numbers. The last rows of the training set are kept for validation.

dataset = getattr(keras.datasets, options.data.replace("-", "_"))
(x_train_full, y_train_full), (x_test, y_test) = dataset.load_data()
held_out = len(x_train_full) // 12  # 5,000 of 60,000
brightest = x_train_full.max()
x_train, y_train = x_train_full[:-held_out] / brightest, y_train_full[:-held_out]
x_valid, y_valid = x_train_full[-held_out:] / brightest, y_train_full[-held_out:]
x_test = x_test / brightest
class_names = [str(digit) for digit in range(10)]
if options.data == "fashion-mnist":
    class_names = [
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ]
print(f"{x_train.shape[0]} images of {x_train.shape[1:]}; the first is {class_names[y_train[0]]}")

# The model: a stack of layers.

keras.utils.set_random_seed(42)
model = keras.Sequential(
    [
        keras.layers.Input(shape=x_train.shape[1:]),
        keras.layers.Flatten(),
        keras.layers.Dense(300, activation="relu"),
        keras.layers.Dense(100, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.summary()

# Its layers and their weights: kernels are drawn at random, biases begin at zero.

hidden1 = model.layers[1]
weights, biases = hidden1.get_weights()
print(
    f"{hidden1.name}: weights {weights.shape}, biases {biases.shape}, all zero: {not biases.any()}"
)

# Training: a loss, an optimizer, and what to measure besides the loss.

model.compile(
    loss="sparse_categorical_crossentropy",
    optimizer=keras.optimizers.SGD(learning_rate=0.01),
    metrics=["accuracy"],
)
history = model.fit(x_train, y_train, epochs=30, validation_data=(x_valid, y_valid), verbose=0)
print(f"after {len(history.epoch)} epochs of {history.params['steps']} steps:")
for name, values in history.history.items():
    print(f"  {name}: {values[0]:.4f} in the first epoch, {values[-1]:.4f} in the last")

# Its use: what it says of images that it has not seen.

loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"test accuracy: {accuracy:.4f}")
x_new = x_test[:3]
y_proba = model.predict(x_new, verbose=0)
print(y_proba.round(2))
y_pred = y_proba.argmax(axis=-1)
print(
    f"predicted {np.array(class_names)[y_pred]}, and they are {np.array(class_names)[y_test[:3]]}"
)
