"""Nets bound to a backend, and the same nets computed layer by layer."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from gradient_nets import OWN_LOSSES, Net

from gpunn import activations, losses
from gpunn.backends.interface import Backend
from gpunn.layers import (
    Add,
    Average,
    BatchNormalization,
    Concatenate,
    Dense,
    Dropout,
    Flatten,
    InputLayer,
    Lambda,
    LayerNormalization,
    Multiply,
    Normalization,
    PReLU,
    Rescaling,
)
from gpunn.optimizers import Optimizer
from gpunn.plan.bind import BoundPlan
from gpunn.plan.build import build_plan
from gpunn.plan.ops import OPS
from gpunn.plan.spec import ACTIVATIONS, BATCH, CONTROL, GRADIENTS, PARAMETERS, SCRATCH
from gpunn.randomness import philox
from gpunn.specs.graph import Graph, build_graph
from gpunn.specs.layers import ACTIVATION_LAYERS

BATCH_SIZE = 5
H = 1e-5
TOLERANCE = 1e-6
SEED, STEP = 2**63 + 12345, 2**33 + 6  # of dropout: both halves of the words count

Array = np.ndarray[Any, Any]


class Run:
    """A net bound to a backend, with data and weights drawn from its name."""

    def __init__(self, name: str, made: Net, backend: Backend, optimizer: Optimizer) -> None:
        self.graph: Graph = build_graph(made.inputs, made.outputs)
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        plan = build_plan(
            self.graph,
            batch_size=BATCH_SIZE,
            precision="float64",
            outputs=made.specs,
            optimizer=optimizer,
            input_dtypes=[made.input_dtype] * len(made.inputs),
        )
        self.bound = BoundPlan(plan, backend)
        self.paths = [v.path for v in self.graph.variables if v.trainable]
        self._attach(made)
        self._draw_weights()
        self._spoil()
        self.bound.run("prepare")

    def _attach(self, made: Net) -> None:
        rng, rows = self.rng, BATCH_SIZE + 3
        arrays: dict[str, Array] = {"order": rng.permutation(rows).astype(np.int64)}
        for node in self.graph.inputs:
            name, features = self.graph.nodes[node].name, int(np.prod(self.graph.nodes[node].shape))
            values = rng.normal(size=(rows, features))
            if made.input_dtype == "uint8":
                values = rng.integers(0, 256, (rows, features))
            arrays[f"data/{name}"] = values.astype(made.input_dtype)
        for node, spec in zip(self.graph.outputs, made.specs, strict=True):
            name, features = self.graph.nodes[node].name, int(np.prod(self.graph.nodes[node].shape))
            if spec.loss is None:
                continue
            if spec.loss.sparse:
                targets = rng.integers(features, size=rows).astype(np.int32)
            elif spec.loss.op == "softmax_cross_entropy":
                targets = np.eye(features)[rng.integers(features, size=rows)]
            elif spec.loss.op == "sigmoid_cross_entropy":
                targets = rng.integers(2, size=(rows, features)).astype(np.float64)
            else:
                targets = 2 * rng.normal(size=(rows, features))
            arrays[f"targets/{name}"] = targets
            if spec.weighted:
                arrays[f"weights/{name}"] = rng.uniform(0.2, 3, rows)
        upload = self.bound.backend.upload
        self.arrays = arrays
        self.bound.attach({name: upload(array) for name, array in arrays.items()})

    def _draw_weights(self) -> None:
        for variable in self.graph.variables:
            region = PARAMETERS if variable.trainable else "state"
            values = self.rng.normal(scale=0.7, size=variable.shape)
            if variable.name.endswith("variance"):
                values = self.rng.uniform(0.5, 2, variable.shape)
            self.bound.write(f"{region}/{variable.path}", values)
        self.bound.write(f"{CONTROL}/seed", np.uint64(SEED))

    def _spoil(self) -> None:
        """Fill what the program must write before it reads with NaN."""
        steps = self.bound.plan.programs["train"]
        written = {
            name for s in steps for role, name in s.outputs.items() if role in OPS[s.op].outputs
        }
        for name, spec in self.bound.plan.buffers.items():
            # Gradients of what no loss depends on are not written: they stay 0.
            spoilt = spec.region in (ACTIVATIONS, SCRATCH, BATCH)
            if spoilt or (spec.region == GRADIENTS and name in written):
                self.bound.write(name, np.nan if np.dtype(spec.dtype).kind == "f" else -1)

    def train(self, learning_rate: float = 0.0, rows: int = BATCH_SIZE) -> float:
        """Run one step from the same position; return the total loss."""
        self.bound.reset_metrics()
        self.bound.write(f"{CONTROL}/learning_rate", learning_rate)
        self.bound.write(f"{CONTROL}/step", STEP)
        self.bound.write(f"{CONTROL}/offset", 2)
        self.bound.run("train", rows)
        return self.bound.figures(rows)["loss"]

    def run(self, program: str) -> float:
        """Run `evaluate` or `predict` on the same rows, unshuffled; return the total loss."""
        self.bound.reset_metrics()
        self.bound.write(f"{CONTROL}/offset", 2)
        self.bound.run(program)
        return self.bound.figures(BATCH_SIZE)["loss"]

    def gradients(self) -> dict[str, Array]:
        return {path: self.bound.read(f"{GRADIENTS}/{path}") for path in self.paths}

    def weights(self) -> dict[str, Array]:
        return {path: self.bound.read(f"{PARAMETERS}/{path}") for path in self.paths}

    def differences(self, path: str, rows: int) -> Array:
        """Return the central difference for each weight of `path`."""
        weights = self.bound.read(f"{PARAMETERS}/{path}")
        result = np.empty_like(weights)
        for index in np.ndindex(weights.shape):
            loss = []
            for h in (H, -H):
                moved = weights.copy()
                moved[index] += h
                self.bound.write(f"{PARAMETERS}/{path}", moved)
                loss.append(self.train(rows=rows))
            result[index] = (loss[0] - loss[1]) / (2 * H)
        self.bound.write(f"{PARAMETERS}/{path}", weights)
        return result


# The same net layer by layer, as the layers' documentation has it


def layer_by_layer(run: Run, rows: Array, training: bool) -> list[Array]:
    """Return the outputs for these rows of the data, one layer at a time."""
    graph, values = run.graph, []
    drops = 0
    for node in graph.nodes:
        layer, sources = node.layer, [values[i] for i in node.inputs]
        if isinstance(layer, InputLayer):
            result = run.arrays[f"data/{node.name}"][rows].astype(np.float64)
            result = result.reshape(len(rows), *node.shape)
        elif isinstance(layer, Flatten):
            result = sources[0].reshape(len(rows), -1)
        elif isinstance(layer, Rescaling):
            result = sources[0] * layer.scale + layer.offset
        elif isinstance(layer, Normalization):
            mean, variance = (
                run.bound.read(f"state/{node.layer_name}/{name}") for name in ("mean", "variance")
            )
            result = (sources[0] - mean) / np.sqrt(variance)
        elif isinstance(layer, BatchNormalization | LayerNormalization):
            result = normalized(run, layer, node.layer_name, sources[0], training)
        elif isinstance(layer, Dense):
            result = sources[0] @ run.bound.read(f"{PARAMETERS}/{node.layer_name}/kernel")
            if layer.use_bias:
                result = result + run.bound.read(f"{PARAMETERS}/{node.layer_name}/bias")
            result = layer.activation(result)
        elif isinstance(layer, ACTIVATION_LAYERS):
            result = layer.activation(sources[0])
        elif isinstance(layer, PReLU):
            alpha = run.bound.read(f"{PARAMETERS}/{node.layer_name}/alpha")
            result = np.where(sources[0] > 0, sources[0], alpha * sources[0])
        elif isinstance(layer, Lambda):
            result = layer.function(sources[0])
        elif isinstance(layer, Dropout):
            result = sources[0]
            if training:
                stream = philox.stream_id(philox.Purpose.DROPOUT, drops)
                words = philox.words(SEED, STEP, stream, result.size).reshape(result.shape)
                # The rate is kept as a float32.
                scale = 1 - float(np.float32(layer.rate))
                result = np.where(philox.keep(words, layer.rate), result / scale, 0)
            drops += 1
        elif isinstance(layer, Add):
            result = sum(sources[1:], sources[0])
        elif isinstance(layer, Average):
            result = np.mean(sources, axis=0)
        elif isinstance(layer, Multiply):
            result = np.prod(sources, axis=0)
        else:
            assert isinstance(layer, Concatenate)
            result = np.concatenate(sources, axis=-1)
        values.append(result)
    return [values[i].reshape(len(rows), -1) for i in graph.outputs]


def normalized(
    run: Run, layer: BatchNormalization | LayerNormalization, scope: str, x: Array, training: bool
) -> Array:
    """Batch or layer normalization; in inference, by the moving statistics as they are now."""
    if isinstance(layer, LayerNormalization):
        mean, variance = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
    elif training:
        mean, variance = x.mean(axis=0), x.var(axis=0)
    else:
        names = ("moving_mean", "moving_variance")
        mean, variance = (run.bound.read(f"state/{scope}/{name}") for name in names)
    result = (x - mean) / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        result = result * run.bound.read(f"{PARAMETERS}/{scope}/gamma")
    return result + run.bound.read(f"{PARAMETERS}/{scope}/beta") if layer.center else result


def textbook_loss(loss: losses.Loss, y: Array, t: Array) -> Array:
    """The loss of each row, from the formulas in gpunn/specs/losses.py."""
    if loss.op == "softmax_cross_entropy":
        p = activations.softmax(y) if getattr(loss, "from_logits", False) else y
        one_hot = np.eye(y.shape[1])[t] if loss.sparse else t
        smoothing = loss.label_smoothing  # type: ignore[attr-defined]
        one_hot = one_hot * (1 - smoothing) + smoothing / y.shape[1]
        return -(one_hot * np.log(p)).sum(axis=-1)
    if loss.op == "sigmoid_cross_entropy":
        p = activations.sigmoid(y) if getattr(loss, "from_logits", False) else y
        t = t + loss.label_smoothing * (0.5 - t)  # type: ignore[attr-defined]
        return -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(axis=-1)
    if loss.op == "squared_error":
        return ((y - t) ** 2).mean(axis=-1)
    if isinstance(loss, losses.ExpressionLoss):
        return OWN_LOSSES[loss.name](t, y).mean(axis=-1)  # the function itself, called on arrays
    error = np.abs(y - t)
    if isinstance(loss, losses.Huber):
        inside = error <= loss.delta
        error = np.where(inside, error**2 / 2, loss.delta * error - loss.delta**2 / 2)
    return error.mean(axis=-1)


def total_loss(run: Run, made: Net, outputs: list[Array], rows: Array) -> float:
    """Weighted sum of the outputs' losses, and the penalties."""
    total = 0.0
    for node, spec, y in zip(run.graph.outputs, made.specs, outputs, strict=True):
        if spec.loss is not None:
            name = run.graph.nodes[node].name
            each = textbook_loss(spec.loss, y, run.arrays[f"targets/{name}"][rows])
            weights = run.arrays[f"weights/{name}"][rows] if spec.weighted else 1.0
            total += spec.loss_weight * float((weights * each).mean())
    for v in run.graph.variables:
        if v.regularizer is not None:
            kernel = run.bound.read(f"{PARAMETERS}/{v.path}")
            total += v.regularizer.l1 * np.abs(kernel).sum()
            total += v.regularizer.l2 * (kernel**2).sum()
    return total
