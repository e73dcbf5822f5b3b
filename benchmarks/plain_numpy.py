"""A plain NumPy training loop: what one writes by hand in an afternoon, and gpunn's yardstick.

The net is Dense-ReLU layers with a softmax; SGD; uint8 images scaled batch by batch. Written as
a good NumPy programmer would: vectorised, in float32, in place where that is easy.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class PlainNumpyMLP:
    """An MLP with ReLU hidden layers and a softmax output.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, hidden layers, classes.
    learning_rate : float
    seed : int
    """

    def __init__(self, sizes: tuple[int, ...], learning_rate: float, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.learning_rate = np.float32(learning_rate)
        self.kernels: list[Array] = []
        self.biases: list[Array] = []
        for inputs, outputs in itertools.pairwise(sizes):
            limit = np.sqrt(6 / (inputs + outputs))
            self.kernels.append(rng.uniform(-limit, limit, (inputs, outputs)).astype(np.float32))
            self.biases.append(np.zeros(outputs, np.float32))

    def step(self, images: Array, labels: Array) -> float:
        """Train on one batch of uint8 images (batch, inputs); return the loss."""
        values = [images.astype(np.float32) * np.float32(1 / 255)]
        for kernel, bias in zip(self.kernels[:-1], self.biases[:-1], strict=True):
            z = values[-1] @ kernel
            z += bias
            values.append(np.maximum(z, 0, out=z))
        logits = values[-1] @ self.kernels[-1]
        logits += self.biases[-1]
        logits -= logits.max(axis=1, keepdims=True)
        p = np.exp(logits)
        p /= p.sum(axis=1, keepdims=True)
        rows = np.arange(len(labels))
        loss = -np.log(p[rows, labels]).mean()
        p[rows, labels] -= 1
        gradient = p
        gradient /= np.float32(len(labels))
        for i in reversed(range(len(self.kernels))):
            kernel_gradient = values[i].T @ gradient
            bias_gradient = gradient.sum(axis=0)
            if i:
                gradient = gradient @ self.kernels[i].T
                gradient *= values[i] > 0
            kernel_gradient *= self.learning_rate
            self.kernels[i] -= kernel_gradient
            self.biases[i] -= self.learning_rate * bias_gradient
        return float(loss)

    def epoch(self, images: Array, labels: Array, batch_size: int, order: Array) -> float:
        """Train on all full batches of one epoch, in the given order; return the mean loss."""
        steps = len(order) // batch_size
        total = 0.0
        for i in range(steps):
            rows = order[i * batch_size : (i + 1) * batch_size]
            total += self.step(images[rows], labels[rows])
        return total / steps
