"""A plain NumPy training loop: what one writes by hand in an afternoon, and gpunn's yardstick.

The net is Dense-ReLU layers with a softmax. Written as a good NumPy programmer would: vectorised,
in float32, in place where that is easy. Images in uint8 are scaled batch by batch.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
BATCH = 1024  # rows per call of predict


class PlainNumpyMLP:
    """An MLP with ReLU hidden layers and a softmax output.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, hidden layers, classes.
    learning_rate : float
    seed : int
    optimizer : {"sgd", "momentum", "adam"}
    """

    def __init__(
        self, sizes: tuple[int, ...], learning_rate: float, seed: int = 0, optimizer: str = "sgd"
    ) -> None:
        rng = np.random.default_rng(seed)
        self.learning_rate, self.optimizer, self.steps = learning_rate, optimizer, 0
        self.kernels: list[Array] = []
        self.biases: list[Array] = []
        for inputs, outputs in itertools.pairwise(sizes):
            limit = np.sqrt(6 / (inputs + outputs))
            self.kernels.append(rng.uniform(-limit, limit, (inputs, outputs)).astype(np.float32))
            self.biases.append(np.zeros(outputs, np.float32))
        slots = {"sgd": 0, "momentum": 1, "adam": 2}[optimizer]
        self.state: list[dict[int, Array]] = [{} for _ in range(slots)]

    def forward(self, images: Array) -> list[Array]:
        """Return the values of every layer, the probabilities last."""
        if images.dtype == np.uint8:
            images = images.astype(np.float32) * np.float32(1 / 255)
        values = [images]
        for kernel, bias in zip(self.kernels[:-1], self.biases[:-1], strict=True):
            z = values[-1] @ kernel
            z += bias
            values.append(np.maximum(z, 0, out=z))
        logits = values[-1] @ self.kernels[-1]
        logits += self.biases[-1]
        logits -= logits.max(axis=1, keepdims=True)
        p = np.exp(logits)
        p /= p.sum(axis=1, keepdims=True)
        return [*values, p]

    def step(self, images: Array, labels: Array) -> float:
        """Train on one batch of images (batch, inputs); return the loss."""
        *values, p = self.forward(images)
        rows = np.arange(len(labels))
        loss = -np.log(p[rows, labels]).mean()
        p[rows, labels] -= 1
        gradient = p
        gradient /= len(labels)
        self.steps += 1
        for i in reversed(range(len(self.kernels))):
            kernel_gradient = values[i].T @ gradient
            bias_gradient = gradient.sum(axis=0)
            if i:
                gradient = gradient @ self.kernels[i].T
                gradient *= values[i] > 0
            self.update(self.kernels[i], kernel_gradient, i)
            self.update(self.biases[i], bias_gradient, len(self.kernels) + i)
        return float(loss)

    def update(self, parameter: Array, gradient: Array, at: int) -> None:
        """Move a parameter; `gradient` is overwritten, `at` is its place in the state."""
        rate = self.learning_rate
        for slot in self.state:
            slot.setdefault(at, np.zeros_like(parameter))
        if self.optimizer == "sgd":
            gradient *= rate
            parameter -= gradient
        elif self.optimizer == "momentum":
            velocity = self.state[0][at]
            velocity *= 0.9
            velocity += gradient
            parameter -= rate * velocity
        else:
            first, second = self.state[0][at], self.state[1][at]
            first += (gradient - first) * 0.1
            np.square(gradient, out=gradient)
            gradient -= second
            gradient *= 0.001
            second += gradient
            rate *= math.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
            divisor = np.sqrt(second)
            divisor += 1e-7
            np.divide(first, divisor, out=divisor)
            divisor *= rate
            parameter -= divisor

    def epoch(self, images: Array, labels: Array, batch_size: int, order: Array) -> float:
        """Train on all full batches of one epoch, in the given order; return the mean loss."""
        steps = len(order) // batch_size
        total = 0.0
        for i in range(steps):
            rows = order[i * batch_size : (i + 1) * batch_size]
            total += self.step(images[rows], labels[rows])
        return total / steps


class Peer:
    """See the package's docstring."""

    def __init__(
        self, images: Any, labels: Any, weights: list[Any], threads: int, device: str
    ) -> None:
        # The number of threads is set by the environment, before NumPy is imported.
        if device != "cpu":
            raise ValueError("NumPy does not compute on a GPU")
        self.images, self.labels, self.weights = images, labels, weights
        self.versions = {"numpy": str(np.__version__)}
        self.rng = np.random.default_rng(0)

    def setup(
        self, batch_size: int, optimizer: str, rate: float, dropout: float, precision: str
    ) -> None:
        """Make the net and give it the weights."""
        if dropout:
            raise ValueError("the plain NumPy net has no dropout")
        if precision not in ("float32", "float64"):
            raise ValueError(f"NumPy does not compute in {precision}")
        self.images = self.images.astype(precision, copy=False)
        sizes = (len(self.weights[0]), *(len(bias) for bias in self.weights[1::2]))
        self.net = PlainNumpyMLP(sizes, rate, optimizer=optimizer)
        self.net.kernels = [kernel.astype(precision) for kernel in self.weights[::2]]
        self.net.biases = [bias.astype(precision) for bias in self.weights[1::2]]
        self.batch_size = batch_size

    def epoch(self, steps: int, shuffle: bool) -> float:
        """Train `steps` steps; return the mean loss."""
        rows = steps * self.batch_size
        order = self.rng.permutation(rows) if shuffle else np.arange(rows)
        return self.net.epoch(self.images, self.labels, self.batch_size, order)

    def predict(self, rows: int, start: int = 0) -> Any:
        """Return probabilities."""
        end = start + rows
        parts = [
            self.net.forward(self.images[at : min(at + BATCH, end)])[-1]
            for at in range(start, end, BATCH)
        ]
        return np.concatenate(parts)
