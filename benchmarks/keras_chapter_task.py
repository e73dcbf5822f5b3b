"""One training of ``benchmarks/keras_chapter.py``, in a process of its own.

    python benchmarks/keras_chapter_task.py (gpunn|keras) TASK SEED DATA.npz [--quick]

Everything but the library is the same: the code, the arrays, the initial weights (Glorot's, drawn
by NumPy), the batch size and the number of cores. The last line printed is JSON.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

THREADS = 2
if __name__ == "__main__":
    # Before any library starts its threads: XLA has as many as the process may use cores.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[_name] = str(THREADS)
    os.environ.setdefault("KERAS_BACKEND", "jax")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np  # noqa: E402

keras: Any = None  # the library, under the name that the texts give it
Array = np.ndarray[Any, Any]


class ExponentialLearningRate:
    """Exercise 9's callback; its base class is known when the library is."""

    def __new__(cls, factor: float) -> Any:
        class Search(keras.callbacks.Callback):
            def __init__(self) -> None:
                super().__init__()
                self.rates: list[float] = []
                self.losses: list[float] = []

            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                self.sum_of_losses = 0.0

            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                total = logs["loss"] * (batch + 1)  # the epoch's mean so far
                self.losses.append(float(total - self.sum_of_losses))
                self.sum_of_losses = total
                rate = float(self.model.optimizer.learning_rate)
                self.rates.append(rate)
                self.model.optimizer.learning_rate = rate * factor
                if not self.losses[-1] < 4 * self.losses[0]:
                    # It shoots up. What follows would be differences of huge sums, and look small.
                    self.model.stop_training = True

        return Search()


def initialize(model: Any, seed: int) -> None:
    """Set Glorot's uniform kernels and zero biases, the same ones in both libraries."""
    rng = np.random.default_rng(seed)
    values = []
    for weight in model.get_weights():
        limit = math.sqrt(6 / sum(weight.shape)) if weight.ndim == 2 else 0.0
        values.append(rng.uniform(-limit, limit, weight.shape).astype(np.float32))
    model.set_weights(values)


def compile_model(model: Any, learning_rate: float, **options: Any) -> None:
    """Compile with plain SGD, on the CPU with as many threads as the other library has."""
    if keras.__name__ == "gpunn":
        options |= {"device": "cpu", "threads": THREADS}
    model.compile(optimizer=keras.optimizers.SGD(learning_rate=learning_rate), **options)


def timed_fit(model: Any, *arguments: Any, **options: Any) -> tuple[Any, float]:
    """Fit; return the history and the seconds."""
    began = time.perf_counter()
    history = model.fit(*arguments, batch_size=32, verbose=0, **options)
    return history.history, time.perf_counter() - began


def image_net() -> Any:
    """Return the chapter's 784-300-100-10."""
    return keras.Sequential(
        [
            keras.layers.Input(shape=(28, 28)),
            keras.layers.Flatten(),
            keras.layers.Dense(300, activation="relu"),
            keras.layers.Dense(100, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


CLASSIFICATION: dict[str, Any] = {
    "loss": "sparse_categorical_crossentropy",
    "metrics": ["accuracy"],
}


def fashion_mnist(d: dict[str, Array], seed: int, epochs: int) -> dict[str, float]:
    """300-100 with SGD(0.01)."""
    model = image_net()
    compile_model(model, 0.01, **CLASSIFICATION)
    initialize(model, seed)
    validation = (d["x_valid"], d["y_valid"])
    history, seconds = timed_fit(
        model, d["x_train"], d["y_train"], epochs=epochs, validation_data=validation
    )
    _, accuracy = model.evaluate(d["x_test"], d["y_test"], verbose=0)
    return {"val": history["val_accuracy"][-1], "test": accuracy, "seconds": seconds}


def housing(d: dict[str, Array], seed: int, epochs: int) -> dict[str, float]:
    """30-ReLU-1 with SGD(1e-3)."""
    model = keras.Sequential(
        [
            keras.layers.Input(shape=(8,)),
            keras.layers.Dense(30, activation="relu"),
            keras.layers.Dense(1),
        ]
    )
    compile_model(model, 1e-3, loss="mse")
    initialize(model, seed)
    validation = (d["x_valid"], d["y_valid"])
    history, seconds = timed_fit(
        model, d["x_train"], d["y_train"], epochs=epochs, validation_data=validation
    )
    mse = model.evaluate(d["x_test"], d["y_test"], verbose=0)
    return {"val": history["val_loss"][-1], "test": mse, "seconds": seconds}


def wide_and_deep(
    d: dict[str, Array], seed: int, epochs: int, auxiliary: bool = False
) -> dict[str, float]:
    """Five features past two hidden layers that see six of them; SGD(1e-3)."""
    wide = keras.layers.Input(shape=(5,), name="wide_input")
    deep = keras.layers.Input(shape=(6,), name="deep_input")
    hidden1 = keras.layers.Dense(30, activation="relu")(deep)
    hidden2 = keras.layers.Dense(30, activation="relu")(hidden1)
    concat = keras.layers.concatenate([wide, hidden2])
    outputs = [keras.layers.Dense(1, name="main_output")(concat)]
    if auxiliary:
        outputs.append(keras.layers.Dense(1, name="aux_output")(hidden2))
    model = keras.Model(inputs=[wide, deep], outputs=outputs)
    options: dict[str, Any] = {"loss": "mse"}
    if auxiliary:
        options = {"loss": ["mse", "mse"], "loss_weights": [0.9, 0.1]}
    compile_model(model, 1e-3, **options)
    initialize(model, seed)

    def part(name: str) -> tuple[Any, Any]:
        x, y = d[f"x_{name}"], d[f"y_{name}"]
        return (x[:, :5], x[:, 2:]), ((y, y) if auxiliary else y)

    history, seconds = timed_fit(
        model, *part("train"), epochs=epochs, validation_data=part("valid")
    )
    metrics = model.evaluate(*part("test"), verbose=0, return_dict=True)
    name = "main_output_loss" if auxiliary else "loss"
    return {"val": history[f"val_{name}"][-1], "test": metrics[name], "seconds": seconds}


def auxiliary_output(d: dict[str, Array], seed: int, epochs: int) -> dict[str, float]:
    """`wide_and_deep` with a second output after the hidden layers, weighed 0.1."""
    return wide_and_deep(d, seed, epochs, auxiliary=True)


def exercise_9(d: dict[str, Array], seed: int, epochs: int) -> dict[str, float]:
    """MNIST: a search for the learning rate, early stopping, checkpoints, TensorBoard.

    The figure watched is the validation accuracy, which is what the exercise asks for; the
    validation loss is smallest after a few epochs, long before the accuracy is highest.
    """
    x, y, validation = d["x_train"], d["y_train"], (d["x_valid"], d["y_valid"])
    model = image_net()
    compile_model(model, 1e-3, **CLASSIFICATION)
    initialize(model, seed)
    search = ExponentialLearningRate(factor=1.005)
    _, search_seconds = timed_fit(model, x, y, epochs=1, callbacks=[search])
    smooth = np.convolve(search.losses, np.full(50, 1 / 50), mode="valid")
    # Half the rate at which the loss is smallest, before it shoots up.
    rate = search.rates[int(np.nanargmin(smooth)) + 25] / 2
    model = image_net()
    compile_model(model, rate, **CLASSIFICATION)
    initialize(model, seed)
    with tempfile.TemporaryDirectory() as folder:
        best = str(Path(folder) / "my_mnist_model.keras")
        callbacks = [
            keras.callbacks.EarlyStopping(monitor="val_accuracy", patience=20),
            keras.callbacks.ModelCheckpoint(best, monitor="val_accuracy", save_best_only=True),
        ]
        needed = "tensorboardX" if keras.__name__ == "gpunn" else "tensorflow"
        tensorboard = importlib.util.find_spec(needed) is not None
        if tensorboard:
            callbacks.append(keras.callbacks.TensorBoard(str(Path(folder) / "logs")))
        history, seconds = timed_fit(
            model, x, y, epochs=epochs, validation_data=validation, callbacks=callbacks
        )
        model = keras.models.load_model(best)
    _, accuracy = model.evaluate(d["x_test"], d["y_test"], verbose=0)
    return {
        "val": max(history["val_accuracy"]),
        "test": accuracy,
        "seconds": seconds,
        "search_seconds": search_seconds,
        "learning_rate": rate,
        "epochs": len(history["loss"]),
        "tensorboard": tensorboard,
    }


# The function, epochs, and epochs of a quick run.
TASKS = {
    "fashion_mnist": (fashion_mnist, 30, 2),
    "housing": (housing, 20, 2),
    "wide_and_deep": (wide_and_deep, 20, 2),
    "auxiliary_output": (auxiliary_output, 20, 2),
    "exercise_9": (exercise_9, 100, 2),
}


def main() -> None:
    """Train and print."""
    global keras
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", choices=("gpunn", "keras"))
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("seed", type=int)
    parser.add_argument("data", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    keras = importlib.import_module(options.library)
    with np.load(options.data) as file:
        data = {name: file[name] for name in file.files}
    keras.utils.set_random_seed(options.seed)
    run, epochs, few = TASKS[options.task]
    result = run(data, options.seed, few if options.quick else epochs)
    packages = ("gpunn", "numba") if options.library == "gpunn" else ("keras", "jax")
    result["versions"] = {name: importlib.metadata.version(name) for name in (*packages, "numpy")}
    print(json.dumps({"seed": options.seed, **result}), file=sys.stdout)


if __name__ == "__main__":
    main()
