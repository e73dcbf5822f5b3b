# The typical architectures of tables 10-1 and 10-2, and what can be chosen in them.
# %% imports
import keras
import numpy as np

rng = np.random.default_rng(42)
X = rng.standard_normal((320, 6)).astype(np.float32)
score = X @ rng.standard_normal((6, 3)).astype(np.float32)
shapes_seen = []


def net(*, hidden=32, outputs=1, activation=None, **options):
    return keras.Sequential(
        [
            keras.layers.Input(shape=(6,)),
            keras.layers.Dense(hidden, activation="relu", **options),
            keras.layers.Dense(hidden, activation="relu", **options),
            keras.layers.Dense(outputs, activation=activation),
        ]
    )


def fallen(history):
    return history.history["loss"][-1] < history.history["loss"][0]


# %% regression
model = net()
model.compile(loss="mean_squared_error", optimizer="adam", metrics=["mae"])
history = model.fit(X, score[:, 0], epochs=4, verbose=0)
sorted(history.history)
fallen(history)
model.predict(X, verbose=0).shape

# %% regression of several values
model = net(outputs=3)
model.compile(loss="mse", optimizer="sgd", metrics=["RootMeanSquaredError"])
history = model.fit(X, score, epochs=4, verbose=0)
sorted(history.history)
fallen(history)

# %% regression of positive values
model = net(activation="softplus")
model.compile(loss=keras.losses.Huber(), optimizer="adam")
fallen(model.fit(X, score[:, :1] ** 2, epochs=4, verbose=0))

# %% regression of bounded values
model = net(activation="sigmoid")
model.compile(loss="mean_absolute_error", optimizer=keras.optimizers.RMSprop(rho=0.9))
fallen(model.fit(X, np.tanh(score[:, 0]) / 2 + 0.5, epochs=4, verbose=0))
model = net(activation="tanh")
model.compile(loss="huber", optimizer="rmsprop")
fallen(model.fit(X, np.tanh(score[:, 0]), epochs=4, verbose=0))

# %% binary classification
model = net(activation="sigmoid")
model.compile(loss="binary_crossentropy", optimizer="adam", metrics=["accuracy"])
history = model.fit(X, score[:, 0] > 0, epochs=4, validation_split=0.2, verbose=0)
sorted(history.history)
fallen(history)
y_pred = (model.predict(X, verbose=0) > 0.5).astype(int)
y_pred.shape

# %% multilabel classification
model = net(outputs=3, activation="sigmoid")
model.compile(
    loss=keras.losses.BinaryCrossentropy(),
    optimizer=keras.optimizers.Adam(learning_rate=0.01, beta_1=0.9, beta_2=0.999),
    metrics=[keras.metrics.BinaryAccuracy()],
)
history = model.fit(X, (score > 0).astype(np.float32), epochs=4, verbose=0)
sorted(history.history)
fallen(history)

# %% multiclass classification
model = net(outputs=3, activation="softmax")
model.compile(loss="sparse_categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
history = model.fit(X, score.argmax(axis=1), epochs=4, verbose=0)
fallen(history)
history.history["accuracy"][-1] > 0.4
labels = np.eye(3)[score.argmax(axis=1)]
model.compile(
    loss="categorical_crossentropy",
    optimizer="adam",
    metrics=["accuracy", keras.metrics.TopKCategoricalAccuracy(k=2)],
)
sorted(model.fit(X, labels, verbose=0).history)

# %% logits
model = net(outputs=3)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(loss=loss, optimizer="adam", metrics=["accuracy"])
fallen(model.fit(X, score.argmax(axis=1), epochs=4, verbose=0))

# %% losses by function
for loss in (
    keras.losses.mean_squared_error,
    keras.losses.mean_absolute_error,
    keras.losses.huber,
):
    model = net()
    model.compile(loss=loss, optimizer="sgd")
    fallen(model.fit(X, score[:, 0], epochs=2, verbose=0))

# %% loss functions on arrays
float(np.array(keras.losses.mean_squared_error([[0.0, 1.0]], [[1.0, 1.0]]))[0]) == 0.5
float(np.array(keras.losses.MeanSquaredError()(np.zeros((2, 1)), np.ones((2, 1))))) == 1.0

# %% metrics by function
model = net()
model.compile(
    loss="mse",
    optimizer="sgd",
    metrics=[keras.metrics.mean_absolute_error, keras.metrics.mean_squared_error],
)
sorted(model.fit(X, score[:, 0], verbose=0).history)

# %% activations
for activation in ("relu", "sigmoid", "tanh", "elu", "selu", "gelu", "swish", "leaky_relu"):
    model = net(activation=activation)
    model.compile(loss="mse", optimizer="sgd")
    shapes_seen.append(model.predict(X[:2], verbose=0).shape)
shapes_seen
layer = keras.layers.Dense(4, activation=keras.activations.softplus)
np.array(keras.activations.relu(np.array([-1.0, 2.0], dtype=np.float32))).tolist() == [0.0, 2.0]

# %% initializers
he_avg_init = keras.initializers.VarianceScaling(scale=2.0, mode="fan_avg", distribution="uniform")
for initializer in (
    *("he_normal", "he_uniform", "lecun_normal", "glorot_uniform", "zeros", "ones"),
    *(keras.initializers.HeNormal(), keras.initializers.GlorotNormal(seed=42), he_avg_init),
    *(keras.initializers.RandomNormal(mean=0.0, stddev=0.01), keras.initializers.Constant(0.1)),
):
    model = net(kernel_initializer=initializer, bias_initializer="zeros")
    shapes_seen.append(model.layers[0].get_weights()[0].shape)
len(shapes_seen)

# %% regularizers and dropout
for regularizer in ("l2", keras.regularizers.l2(0.01), keras.regularizers.L1L2(l1=0.01, l2=0.01)):
    model = net(kernel_regularizer=regularizer)
    model.compile(loss="mse", optimizer="adam", metrics=["mse"])
    history = model.fit(X, score[:, 0], verbose=0)
    history.history["loss"][0] > history.history["mse"][0]
model = keras.Sequential(
    [
        keras.layers.Input(shape=[6]),
        keras.layers.Dropout(rate=0.2),
        keras.layers.Dense(30, "elu", kernel_initializer="he_normal"),
        keras.layers.Dropout(0.2),
        keras.layers.Dense(1),
    ]
)
model.compile("adam", "mse")
fallen(model.fit(X, score[:, 0], epochs=4, verbose=0))

# %% optimizers
for optimizer in (
    *("sgd", keras.optimizers.SGD(momentum=0.9, nesterov=True)),
    *("adagrad", keras.optimizers.Adagrad(learning_rate=0.001), "rmsprop", "adam"),
    *(keras.optimizers.AdamW(weight_decay=0.01), keras.optimizers.SGD(clipvalue=1.0)),
    keras.optimizers.SGD(learning_rate=0.01, clipnorm=1.0),
):
    model = net()
    model.compile(loss="mse", optimizer=optimizer)
    fallen(model.fit(X, score[:, 0], epochs=3, verbose=0))
float(model.optimizer.learning_rate)

# %% learning rate schedules
schedule = keras.optimizers.schedules.ExponentialDecay(0.01, decay_steps=20, decay_rate=0.1)
model = net()
model.compile(loss="mse", optimizer=keras.optimizers.SGD(learning_rate=schedule))
fallen(model.fit(X, score[:, 0], epochs=3, verbose=0))

# %% optimizer's old argument forms
model.compile(loss="mse", optimizer=keras.optimizers.SGD(1e-3, 0.9))
abs(float(model.optimizer.learning_rate) - 1e-3) < 1e-9
