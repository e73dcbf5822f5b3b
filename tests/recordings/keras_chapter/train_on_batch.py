# %% imports
import keras
import numpy as np

rng = np.random.default_rng(42)
X, y = rng.standard_normal((320, 8)).astype(np.float32), rng.integers(0, 3, 320)
model = keras.Sequential(
    [keras.layers.Input([8]), keras.layers.Dense(10, "relu"), keras.layers.Dense(3, "softmax")]
)
model.compile(loss="sparse_categorical_crossentropy", optimizer="sgd", metrics=["accuracy"])

# %% a loop over batches
losses = []
for epoch in range(3):
    for start in range(0, 320, 32):
        loss, accuracy = model.train_on_batch(X[start : start + 32], y[start : start + 32])
    losses.append(loss)
losses
losses[-1] < losses[0]

# %% as a dict
model.train_on_batch(X[:32], y[:32], return_dict=True)

# %% test_on_batch and predict_on_batch
model.test_on_batch(X[:32], y[:32])
model.predict_on_batch(X[:32])
