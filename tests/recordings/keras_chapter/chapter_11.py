# %% imports
import keras
import numpy as np

rng = np.random.default_rng(42)
X, y = rng.standard_normal((320, 8)).astype(np.float32), rng.integers(0, 3, 320)


def trained(*layers, loss="sparse_categorical_crossentropy", targets=y):
    model = keras.Sequential([keras.layers.Input([8]), *layers])
    model.compile(loss=loss, optimizer="sgd", metrics=["accuracy"])
    history = model.fit(X, targets, epochs=2, verbose=0)
    return model, bool(np.isfinite(history.history["loss"]).all())


# %% BatchNormalization
model, fine = trained(
    keras.layers.BatchNormalization(),
    keras.layers.Dense(10, use_bias=False),
    keras.layers.BatchNormalization(),
    keras.layers.Activation("relu"),
    keras.layers.Dense(3, activation="softmax"),
)
fine
model.summary()
[tuple(w.shape) for w in model.get_weights()]
model.layers[0].count_params()

# %% LayerNormalization
model, fine = trained(
    keras.layers.Dense(10, "elu"),
    keras.layers.LayerNormalization(),
    keras.layers.Dense(3, activation="softmax"),
)
fine
model.count_params()

# %% LeakyReLU and PReLU
model, fine = trained(
    keras.layers.Dense(10, kernel_initializer="he_normal"),
    keras.layers.LeakyReLU(negative_slope=0.2),
    keras.layers.Dense(10),
    keras.layers.PReLU(),
    keras.layers.Dense(3, activation="softmax"),
)
fine
model.count_params()
[layer.name.rstrip("_0123456789") for layer in model.layers]

# %% max-norm
max_norm = keras.constraints.MaxNorm(0.5)
model, fine = trained(
    keras.layers.Dense(10, "elu", kernel_constraint=max_norm),
    keras.layers.Dense(3, activation="softmax"),
)
fine
np.linalg.norm(model.get_weights()[0], axis=0).max() < 0.5001

# %% label smoothing
one_hot = np.eye(3, dtype=np.float32)[y]
loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
trained(keras.layers.Dense(3, activation="softmax"), loss=loss, targets=one_hot)[1]
