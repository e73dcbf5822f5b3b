"""JAX: a whole epoch is one compiled program, `lax.scan` over the batches.

The data set is on the device; the order of the rows is drawn there, in the same program. Weights
and optimizer state are given away to each call, so that they are updated in place.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

BATCH = 1024  # rows per call of predict
MATMUL = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}
# On a GPU "bfloat16" means the default, which is TF32: there the algorithms are named.
MATMUL_CUDA = MATMUL | {"tf32": "TF32_TF32_F32", "bfloat16": "BF16_BF16_F32"}


class Peer:
    """See the package's docstring."""

    def __init__(
        self, images: Any, labels: Any, weights: list[Any], threads: int, device: str
    ) -> None:
        if not device.startswith("cuda"):
            os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # others use the GPU too
        import jax
        import jaxlib

        self.jax = jax
        if device.startswith("cuda") and jax.default_backend() != "gpu":
            raise RuntimeError("this JAX finds no GPU")
        self.images, self.labels = jax.device_put(images), jax.device_put(labels)
        self.weights = weights
        self.matmul = MATMUL_CUDA if device.startswith("cuda") else MATMUL
        self.versions = {"jax": str(jax.__version__), "jaxlib": str(jaxlib.__version__)}

    def setup(
        self, batch_size: int, optimizer: str, rate: float, dropout: float, precision: str
    ) -> None:
        """Make parameters, optimizer state and the compiled programs."""
        jax, np = self.jax, self.jax.numpy
        jax.config.update("jax_enable_x64", precision == "float64")
        dtype = np.float64 if precision == "float64" else np.float32
        jax.config.update("jax_default_matmul_precision", self.matmul.get(precision, "highest"))
        self.images = self.images.astype(dtype)
        self.parameters = [np.array(w, dtype) for w in self.weights]
        zeros = partial(jax.tree.map, np.zeros_like)
        slots = {"sgd": 0, "momentum": 1, "adam": 2}[optimizer]
        self.state = [zeros(self.parameters) for _ in range(slots)]
        self.count, self.key = np.zeros((), np.int32), jax.random.key(0)

        def logits(parameters: Any, x: Any, key: Any = None) -> Any:
            last = len(parameters) // 2 - 1
            for i in range(last + 1):
                x = x @ parameters[2 * i] + parameters[2 * i + 1]
                if i < last:
                    x = jax.nn.relu(x)
                    if dropout and key is not None:
                        key, mine = jax.random.split(key)
                        kept = jax.random.bernoulli(mine, 1 - dropout, x.shape)
                        x = np.where(kept, x / dtype(1 - dropout), dtype(0))
            return x

        def loss_of(parameters: Any, x: Any, y: Any, key: Any) -> Any:
            chosen = jax.nn.log_softmax(logits(parameters, x, key))
            return -np.take_along_axis(chosen, y[:, None], 1).mean()

        def update(parameters: Any, state: Any, gradients: Any, count: Any) -> Any:
            tree = jax.tree.map
            if optimizer == "sgd":
                return tree(lambda p, g: p - dtype(rate) * g, parameters, gradients), state
            if optimizer == "momentum":
                velocity = tree(lambda v, g: dtype(0.9) * v + g, state[0], gradients)
                moved = tree(lambda p, v: p - dtype(rate) * v, parameters, velocity)
                return moved, [velocity]
            power = count.astype(dtype)
            scale = dtype(rate) * np.sqrt(1 - dtype(0.999) ** power) / (1 - dtype(0.9) ** power)
            first = tree(lambda m, g: m + (g - m) * dtype(0.1), state[0], gradients)
            second = tree(lambda v, g: v + (g * g - v) * dtype(0.001), state[1], gradients)
            moved = tree(
                lambda p, m, v: p - scale * m / (np.sqrt(v) + dtype(1e-7)),
                *(parameters, first, second),
            )
            return moved, [first, second]

        @partial(jax.jit, static_argnums=(2, 3), donate_argnums=(0,))
        def epoch(carry: Any, data: Any, steps: int, shuffle: bool) -> Any:
            (parameters, state, count, key), (images, labels) = carry, data
            rows, (key, mine) = np.arange(steps * batch_size), jax.random.split(key)
            order = jax.random.permutation(mine, rows) if shuffle else rows

            def step(carry: Any, batch: Any) -> Any:
                parameters, state, count, key = carry
                key, mine = jax.random.split(key)
                loss, gradients = jax.value_and_grad(loss_of)(
                    parameters, images[batch], labels[batch], mine
                )
                parameters, state = update(parameters, state, gradients, count + 1)
                return (parameters, state, count + 1, key), loss

            carry = (parameters, state, count, key)
            carry, losses = jax.lax.scan(step, carry, order.reshape(steps, batch_size))
            return *carry, losses.mean()

        self._epoch = epoch
        self._probabilities = jax.jit(lambda parameters, x: jax.nn.softmax(logits(parameters, x)))

    def epoch(self, steps: int, shuffle: bool) -> float:
        """Train `steps` steps; return the mean loss."""
        carry = (self.parameters, self.state, self.count, self.key)
        *carry, loss = self._epoch(carry, (self.images, self.labels), steps, shuffle)
        self.parameters, self.state, self.count, self.key = carry
        return float(loss)

    def predict(self, rows: int, start: int = 0) -> Any:
        """Return probabilities."""
        import numpy

        end = start + rows
        parts = [
            self._probabilities(self.parameters, self.images[at : min(at + BATCH, end)])
            for at in range(start, end, BATCH)
        ]
        return numpy.concatenate([numpy.asarray(part) for part in parts])
