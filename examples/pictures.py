"""Pictures of a training, of the model and of its mistakes, as PNG files.

python examples/pictures.py pictures
"""

import sys
from pathlib import Path

import gpunn
from gpunn.plots import (
    ActivationDisplay,
    ConfusionMatrixDisplay,
    LearningCurveDisplay,
    MisclassifiedDisplay,
    WeightsDisplay,
)

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "pictures")
folder.mkdir(parents=True, exist_ok=True)

(x_train, y_train), (x_test, y_test) = gpunn.datasets.digits.load_data()
model = gpunn.Sequential(
    [
        gpunn.Input((8, 8)),
        gpunn.layers.Rescaling(1 / 16),
        gpunn.layers.Flatten(),
        gpunn.layers.Dense(32, activation="relu"),
        gpunn.layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"], seed=1)
history = model.fit(x_train, y_train, epochs=20, validation_split=0.2, verbose=0)

displays = {
    "activations": ActivationDisplay.from_names(["step", "sigmoid", "tanh", "relu"]),
    "learning_curve": LearningCurveDisplay.from_history(history),
    "confusion_matrix": ConfusionMatrixDisplay.from_model(model, x_test, y_test),
    "mistakes": MisclassifiedDisplay.from_model(model, x_test, y_test),
    "weights": WeightsDisplay.from_model(model),
}
for name, display in displays.items():
    file = folder / f"{name}.png"
    display.figure_.savefig(file, dpi=100)
    print(file)
