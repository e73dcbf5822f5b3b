# %% imports
import keras
import numpy as np

rng = np.random.default_rng(42)
X_wide, X_deep = rng.standard_normal((320, 5)), rng.standard_normal((320, 6))
y = X_wide[:, 0] - X_deep[:, 1]


# %% a model as a class
class WideAndDeepModel(keras.models.Model):
    def __init__(self, units=30, activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.hidden1 = keras.layers.Dense(units, activation=activation)
        self.hidden2 = keras.layers.Dense(units, activation=activation)
        self.main_output = keras.layers.Dense(1)
        self.aux_output = keras.layers.Dense(1)

    def call(self, inputs):
        input_A, input_B = inputs
        hidden1 = self.hidden1(input_B)
        hidden2 = self.hidden2(hidden1)
        concat = keras.layers.concatenate([input_A, hidden2])
        main_output = self.main_output(concat)
        aux_output = self.aux_output(hidden2)
        return main_output, aux_output


keras.utils.set_random_seed(42)
model = WideAndDeepModel(30, activation="relu", name="my_cool_model")
model.name

# %% its training
model.compile(loss=["mse", "mse"], loss_weights=[0.9, 0.1], optimizer="sgd")
history = model.fit((X_wide, X_deep), (y, y), epochs=4, verbose=0)
history.history["loss"][-1] < history.history["loss"][0]
model.count_params()
len(model.get_weights())

# %% its use
total_loss, main_loss, aux_loss = model.evaluate((X_wide, X_deep), (y, y), verbose=0)
y_pred_main, y_pred_aux = model.predict((X_wide[:3], X_deep[:3]), verbose=0)
y_pred_main.shape, y_pred_aux.shape


# %% with Normalization layers
class NormalizedWideAndDeep(keras.Model):
    def __init__(self, units=30, activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.norm_layer_wide = keras.layers.Normalization()
        self.norm_layer_deep = keras.layers.Normalization()
        self.hidden1 = keras.layers.Dense(units, activation=activation)
        self.hidden2 = keras.layers.Dense(units, activation=activation)
        self.main_output = keras.layers.Dense(1)
        self.aux_output = keras.layers.Dense(1)

    def call(self, inputs):
        input_wide, input_deep = inputs
        norm_wide = self.norm_layer_wide(input_wide)
        norm_deep = self.norm_layer_deep(input_deep)
        hidden1 = self.hidden1(norm_deep)
        hidden2 = self.hidden2(hidden1)
        concat = keras.layers.concatenate([norm_wide, hidden2])
        return self.main_output(concat), self.aux_output(hidden2)


model = NormalizedWideAndDeep(30, activation="relu")
model.norm_layer_wide.adapt(X_wide)
model.norm_layer_deep.adapt(X_deep)
model.compile(
    loss=["mse", "mse"],
    loss_weights=[0.9, 0.1],
    optimizer=keras.optimizers.Adam(learning_rate=1e-3),
    metrics=["RootMeanSquaredError", "RootMeanSquaredError"],
)
history = model.fit((X_wide, X_deep), (y, y), epochs=3, validation_split=0.2, verbose=0)
history.history["loss"][-1] < history.history["loss"][0]
model.evaluate((X_wide, X_deep), (y, y), verbose=0)[0] < history.history["loss"][0]


# %% a loop in call
class Deep(keras.Model):
    def __init__(self, n_hidden, **kwargs):
        super().__init__(**kwargs)
        self.stack = [keras.layers.Dense(10, activation="elu") for _ in range(n_hidden)]
        self.out = keras.layers.Dense(1)

    def call(self, inputs):
        for layer in self.stack:
            inputs = layer(inputs)
        return self.out(inputs)


model = Deep(3)
model.compile(loss="mse", optimizer="sgd")
history = model.fit(X_wide, y, epochs=2, verbose=0)
model.count_params()

# %% its weights in a file
model.save_weights("my_weights.weights.h5")
expected = model.predict(X_wide, verbose=0)
model.fit(X_wide, y, verbose=0)
model.load_weights("my_weights.weights.h5")
abs(model.predict(X_wide, verbose=0) - expected).max() < 1e-6
