"""Find a learning rate: train with one that grows at every step, and see where the loss falls.

python examples/learning_rate_finder.py pictures
"""

import sys
from pathlib import Path

import gpunn
from gpunn.plots import LearningRateFinderDisplay

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "pictures")
folder.mkdir(parents=True, exist_ok=True)

(x_train, y_train), (x_test, y_test) = gpunn.datasets.digits.load_data()
model = gpunn.Sequential(
    [
        gpunn.Input((8, 8)),
        gpunn.layers.Rescaling(1 / 16),
        gpunn.layers.Flatten(),
        gpunn.layers.Dense(64, activation="relu"),
        gpunn.layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], seed=1)

search = gpunn.find_learning_rate(model, x_train, y_train, steps=300)
print(f"lowest loss at ten times {search.suggestion:.2g}, divergence at {search.divergence:.2g}")
file = folder / "learning_rate_finder.png"
LearningRateFinderDisplay.from_result(search).figure_.savefig(file, dpi=100)
print(file)

# The search has left the model as it was: training starts from its initial weights.
model.optimizer.learning_rate = search.suggestion
model.fit(x_train, y_train, epochs=10, verbose=0)
loss, accuracy = model.evaluate(x_test, y_test)
print(f"test accuracy {accuracy:.3f}")
