# %% imports
import keras
import matplotlib.pyplot as plt
import numpy as np

# %% load the data
(X_train_full, y_train_full), (X_test, y_test) = keras.datasets.fashion_mnist.load_data()
X_train_full.shape
X_train_full.dtype.name
X_valid, X_train = X_train_full[:5000] / 255.0, X_train_full[5000:] / 255.0
y_valid, y_train = y_train_full[:5000], y_train_full[5000:]
X_test = X_test / 255.0

# %% class names
class_names = [
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
]
class_names[y_train[0]]

# %% a Sequential model layer by layer, input_shape on the first
model = keras.models.Sequential()
model.add(keras.layers.Flatten(input_shape=[28, 28]))
model.add(keras.layers.Dense(300, activation="relu"))
model.add(keras.layers.Dense(100, activation="relu"))
model.add(keras.layers.Dense(10, activation="softmax"))
model.count_params()

# %% a Sequential model layer by layer, with an Input
keras.utils.set_random_seed(42)
model = keras.Sequential()
model.add(keras.layers.Input(shape=[28, 28]))
model.add(keras.layers.Flatten())
model.add(keras.layers.Dense(300, activation="relu"))
model.add(keras.layers.Dense(100, activation="relu"))
model.add(keras.layers.Dense(10, activation="softmax"))
model.count_params()

# %% an InputLayer in front
model = keras.Sequential()
model.add(keras.layers.InputLayer(shape=[28, 28]))
model.add(keras.layers.Flatten())
model.add(keras.layers.Dense(10, activation=keras.activations.softmax))
model.output_shape

# %% a Sequential model as a list
keras.utils.set_random_seed(42)
model = keras.Sequential(
    [
        keras.layers.Input(shape=(28, 28)),
        keras.layers.Flatten(),
        keras.layers.Dense(300, activation="relu", name="hidden1"),
        keras.layers.Dense(100, activation=keras.activations.relu, name="hidden2"),
        keras.layers.Dense(10, activation="softmax", name="outputs"),
    ]
)

# %% summary
model.summary()

# %% layers
model.layers[1:]
[layer.name for layer in model.layers[1:]]
hidden1 = model.layers[1]
hidden1.name
hidden1.units
model.input_shape
model.output_shape

# %% get_layer
model.get_layer("hidden1").name
model.get_layer(index=2).name
model.get_layer("hidden1") is hidden1

# %% weights
weights, biases = hidden1.get_weights()
weights
weights.shape
biases
biases.shape
(biases == 0).all()
abs(weights).max() <= np.sqrt(6 / (784 + 300))
len(model.get_weights())
[w.shape for w in model.get_weights()]

# %% set_weights
hidden1.set_weights([weights, biases + 0.5])
(hidden1.get_weights()[1] == 0.5).all()
hidden1.set_weights([weights, biases])

# %% compile with strings
model.compile(loss="sparse_categorical_crossentropy", optimizer="sgd", metrics=["accuracy"])

# %% compile with functions and objects
model.compile(
    loss=keras.losses.sparse_categorical_crossentropy,
    optimizer=keras.optimizers.SGD(),
    metrics=[keras.metrics.sparse_categorical_accuracy],
)
history = model.fit(X_train, y_train, verbose=0)
sorted(history.history)

# %% compile with classes
model.compile(
    loss=keras.losses.SparseCategoricalCrossentropy(),
    optimizer=keras.optimizers.SGD(learning_rate=0.01),
    metrics=[keras.metrics.SparseCategoricalAccuracy(name="share")],
)
history = model.fit(X_train, y_train, verbose=0)
sorted(history.history)

# %% fit
model.compile(loss="sparse_categorical_crossentropy", optimizer="sgd", metrics=["accuracy"])
history = model.fit(X_train, y_train, epochs=5, validation_data=(X_valid, y_valid))
history.params["epochs"], history.params["steps"]
history.epoch
sorted(history.history)
history.history
history.history["val_loss"][-1] < history.history["val_loss"][0]
history.history["val_accuracy"][-1] > 0.5
model.history is history

# %% learning curves
for name, values in history.history.items():
    plt.plot(history.epoch, values, label=name)
plt.legend()
plt.grid(True)
plt.gca().set_ylim(0, 1)
plt.close()

# %% fit goes on where it was
before = history.history["loss"][-1]
history = model.fit(X_train, y_train, epochs=1, validation_split=0.1, verbose=2)
sorted(history.history)
history.history["loss"][0] < before

# %% class_weight
history = model.fit(X_train, y_train, class_weight={0: 2.0, 9: 0.5}, batch_size=64)
history.params["steps"]

# %% sample_weight
sample_weight = np.where(y_train == 3, 4.0, 1.0)
validation_data = (X_valid, y_valid, np.ones(len(y_valid)))
history = model.fit(X_train, y_train, sample_weight=sample_weight, validation_data=validation_data)
sorted(history.history)

# %% evaluate
model.evaluate(X_test, y_test)
loss, accuracy = model.evaluate(X_test, y_test, batch_size=100, verbose=0)
accuracy > 0.5
model.evaluate(X_test, y_test, return_dict=True, verbose=0)

# %% predict
X_new = X_test[:3]
y_proba = model.predict(X_new)
y_proba.round(2)
y_proba.shape
abs(y_proba.sum(axis=1) - 1).max() < 1e-5

# %% classes
y_pred = y_proba.argmax(axis=-1)
y_pred.shape
np.array(class_names)[y_pred].shape
y_new = y_test[:3]
(np.argmax(model.predict(X_test, verbose=0), axis=-1) == y_test).mean() > 0.5

# %% calling the model
y_called = model(X_new)
y_called.shape
abs(np.array(y_called) - y_proba).max() < 1e-5

# %% one-hot labels
model.compile(loss="categorical_crossentropy", optimizer="sgd", metrics=["accuracy"])
y_one_hot = keras.utils.to_categorical(y_train, 10)
y_one_hot
history = model.fit(X_train, y_one_hot, verbose=0)
sorted(history.history)
