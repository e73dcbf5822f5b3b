# %% imports
import keras
import numpy as np
from sklearn import datasets
from sklearn.model_selection import train_test_split

# %% housing
housing = datasets.fetch_california_housing()
X_train_full, X_test, y_train_full, y_test = train_test_split(
    housing.data, housing.target, random_state=42
)
X_train, X_valid, y_train, y_valid = train_test_split(X_train_full, y_train_full, random_state=42)
mean, std = X_train.mean(axis=0), X_train.std(axis=0)
X_train, X_valid, X_test = (X_train - mean) / std, (X_valid - mean) / std, (X_test - mean) / std

# %% wide and deep
keras.utils.set_random_seed(42)
input_ = keras.layers.Input(shape=X_train.shape[1:])
hidden1 = keras.layers.Dense(30, activation="relu")(input_)
hidden2 = keras.layers.Dense(30, activation="relu")(hidden1)
concat = keras.layers.concatenate([input_, hidden2])
output = keras.layers.Dense(1)(concat)
model = keras.models.Model(inputs=[input_], outputs=[output])
model.count_params()
model.summary()
model.compile(loss="mean_squared_error", optimizer=keras.optimizers.SGD(learning_rate=1e-3))
history = model.fit(X_train, y_train, epochs=4, validation_data=(X_valid, y_valid))
history.history["val_loss"][-1] < history.history["val_loss"][0]
mse_test = model.evaluate(X_test, y_test)
y_pred = model.predict(X_test[:3])
y_pred

# %% wide and deep with layers made first
normalization_layer = keras.layers.Normalization()
hidden_layer1 = keras.layers.Dense(30, activation="relu")
hidden_layer2 = keras.layers.Dense(30, activation="relu")
concat_layer = keras.layers.Concatenate()
output_layer = keras.layers.Dense(1)

input_ = keras.layers.Input(shape=X_train.shape[1:])
normalized = normalization_layer(input_)
hidden1 = hidden_layer1(normalized)
hidden2 = hidden_layer2(hidden1)
concat = concat_layer([normalized, hidden2])
output = output_layer(concat)

model = keras.Model(inputs=[input_], outputs=[output])
optimizer = keras.optimizers.Adam(learning_rate=1e-3)
model.compile(loss="mse", optimizer=optimizer, metrics=["RootMeanSquaredError"])
normalization_layer.adapt(X_train)
history = model.fit(X_train, y_train, epochs=2, validation_data=(X_valid, y_valid))
sorted(history.history)
mse_test, rmse_test = model.evaluate(X_test, y_test)
model.predict(X_test[:3]).shape

# %% two inputs
keras.utils.set_random_seed(42)
input_A = keras.layers.Input(shape=[5], name="wide_input")
input_B = keras.layers.Input(shape=[6], name="deep_input")
hidden1 = keras.layers.Dense(30, activation="relu")(input_B)
hidden2 = keras.layers.Dense(30, activation="relu")(hidden1)
concat = keras.layers.concatenate([input_A, hidden2])
output = keras.layers.Dense(1, name="output")(concat)
model = keras.models.Model(inputs=[input_A, input_B], outputs=[output])
model.compile(loss="mse", optimizer=keras.optimizers.SGD(learning_rate=1e-3))
X_train_A, X_train_B = X_train[:, :5], X_train[:, 2:]
X_valid_A, X_valid_B = X_valid[:, :5], X_valid[:, 2:]
X_test_A, X_test_B = X_test[:, :5], X_test[:, 2:]
X_new_A, X_new_B = X_test_A[:3], X_test_B[:3]
history = model.fit(
    (X_train_A, X_train_B),
    y_train,
    epochs=4,
    validation_data=((X_valid_A, X_valid_B), y_valid),
)
history.history["val_loss"][-1] < history.history["val_loss"][0]
mse_test = model.evaluate((X_test_A, X_test_B), y_test)
y_pred = model.predict((X_new_A, X_new_B))
y_pred.shape
model.predict([X_new_A, X_new_B], verbose=0).shape

# %% two inputs by name
X_by_name = {"wide_input": X_train_A, "deep_input": X_train_B}
history = model.fit(X_by_name, y_train, epochs=1, validation_split=0.2)
sorted(history.history)
model.predict({"wide_input": X_new_A, "deep_input": X_new_B}, verbose=0).shape

# %% two inputs with Normalization layers
input_wide = keras.layers.Input(shape=[5])
input_deep = keras.layers.Input(shape=[6])
norm_layer_wide = keras.layers.Normalization()
norm_layer_deep = keras.layers.Normalization()
norm_wide = norm_layer_wide(input_wide)
norm_deep = norm_layer_deep(input_deep)
hidden1 = keras.layers.Dense(30, activation="relu")(norm_deep)
hidden2 = keras.layers.Dense(30, activation="relu")(hidden1)
concat = keras.layers.concatenate([norm_wide, hidden2])
output = keras.layers.Dense(1)(concat)
model = keras.Model(inputs=[input_wide, input_deep], outputs=[output])
optimizer = keras.optimizers.Adam(learning_rate=1e-3)
model.compile(loss="mse", optimizer=optimizer, metrics=["RootMeanSquaredError"])
norm_layer_wide.adapt(X_train_A)
norm_layer_deep.adapt(X_train_B)
history = model.fit(
    (X_train_A, X_train_B), y_train, epochs=2, validation_data=((X_valid_A, X_valid_B), y_valid)
)
sorted(history.history)
mse_test, rmse_test = model.evaluate((X_test_A, X_test_B), y_test)

# %% an auxiliary output
keras.utils.set_random_seed(42)
input_A = keras.layers.Input(shape=[5], name="wide_input")
input_B = keras.layers.Input(shape=[6], name="deep_input")
hidden1 = keras.layers.Dense(30, activation="relu")(input_B)
hidden2 = keras.layers.Dense(30, activation="relu")(hidden1)
concat = keras.layers.concatenate([input_A, hidden2])
output = keras.layers.Dense(1, name="main_output")(concat)
aux_output = keras.layers.Dense(1, name="aux_output")(hidden2)
model = keras.models.Model(inputs=[input_A, input_B], outputs=[output, aux_output])
model.output_names
sorted(layer.name for layer in model.layers if layer.name.endswith("put"))

# %% loss weights
model.compile(
    loss=["mse", "mse"], loss_weights=[0.9, 0.1], optimizer=keras.optimizers.SGD(learning_rate=1e-3)
)
history = model.fit(
    [X_train_A, X_train_B],
    [y_train, y_train],
    epochs=4,
    validation_data=([X_valid_A, X_valid_B], [y_valid, y_valid]),
)
sorted(history.history)
history.history["val_loss"][-1] < history.history["val_loss"][0]

# %% evaluate two outputs
total_loss, main_loss, aux_loss = model.evaluate([X_test_A, X_test_B], [y_test, y_test])
abs(0.9 * main_loss + 0.1 * aux_loss - total_loss) < 1e-4
y_pred_main, y_pred_aux = model.predict([X_new_A, X_new_B])
y_pred_main.shape, y_pred_aux.shape

# %% loss weights in tuples, metrics for each output
optimizer = keras.optimizers.Adam(learning_rate=1e-3)
model.compile(
    loss=("mse", "mse"),
    loss_weights=(0.9, 0.1),
    optimizer=optimizer,
    metrics=["RootMeanSquaredError", "RootMeanSquaredError"],
)
history = model.fit(
    (X_train_A, X_train_B),
    (y_train, y_train),
    epochs=2,
    validation_data=((X_valid_A, X_valid_B), (y_valid, y_valid)),
)
sorted(history.history)
eval_results = model.evaluate((X_test_A, X_test_B), (y_test, y_test))
len(eval_results)
figures = model.evaluate((X_test_A, X_test_B), (y_test, y_test), return_dict=True)
sorted(figures)
abs(figures["main_output_RootMeanSquaredError"] ** 2 - figures["main_output_loss"]) < 1e-3
y_pred_tuple = model.predict((X_new_A, X_new_B))
y_pred = dict(zip(model.output_names, y_pred_tuple, strict=True))
y_pred

# %% losses, weights, metrics and targets by name
model.compile(
    loss={"main_output": "mse", "aux_output": "mae"},
    loss_weights={"main_output": 0.9, "aux_output": 0.1},
    optimizer="sgd",
    metrics={"main_output": ["mae"]},
)
history = model.fit(
    {"wide_input": X_train_A, "deep_input": X_train_B},
    {"main_output": y_train, "aux_output": y_train},
)
sorted(history.history)
model.evaluate(
    {"wide_input": X_test_A, "deep_input": X_test_B},
    {"main_output": y_test, "aux_output": y_test},
    return_dict=True,
)

# %% one loss for all outputs
model = keras.Model(inputs=[input_A, input_B], outputs=[output, aux_output])
model.compile(loss="mse", optimizer="sgd")
sorted(model.fit((X_train_A, X_train_B), (y_train, y_train), verbose=0).history)

# %% inputs and outputs in dicts
model = keras.Model(
    inputs={"wide_input": input_A, "deep_input": input_B},
    outputs={"main_output": output, "aux_output": aux_output},
)
model.compile(loss={"main_output": "mse", "aux_output": "mse"}, optimizer="sgd")
history = model.fit(
    {"wide_input": X_train_A, "deep_input": X_train_B},
    {"main_output": y_train, "aux_output": y_train},
)
sorted(history.history)
y_pred = model.predict({"wide_input": X_new_A, "deep_input": X_new_B}, verbose=0)
y_pred

# %% layers shared
shared = keras.layers.Dense(8, activation="tanh")
left, right = keras.layers.Input([5]), keras.layers.Input([5])
together = keras.layers.add([shared(left), shared(right)])
model = keras.Model([left, right], keras.layers.Dense(1)(together))
model.count_params()
model.compile(loss="mse", optimizer="sgd")
np.isfinite(model.fit([X_train_A, X_train_A], y_train, verbose=0).history["loss"]).all()
