"""Whole training plans, fused as they are: their gradients against finite differences, their
values and losses against the same net computed layer by layer.

Each net is built from the public layers, planned with Adam at learning rate 0 (so the gradients
fill a region of their own and the weights stay), and bound in float64. The central difference of
the total loss, as the train program accumulates it, is taken for every single weight.

With loss L of order 1 and step h = 1e-5 the difference quotient is off by h**2 * L''' / 6 (some
1e-11) plus eps * L / h (some 1e-11): an error of 1e-6 relative to the largest gradient of the
same weights (0.01 and more) is a wrong formula, not rounding. Nets and seeds are fixed, and no
weight brings a unit within h of a corner of relu or of an absolute value.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from op_runs import needs_compiler

from gpunn import activations, losses, ops, regularizers
from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.cuda.simulator import SimulatorDriver
from gpunn.backends.interface import Backend
from gpunn.backends.numba_cpu import NumbaCPU
from gpunn.backends.numpy_reference import NumpyReference
from gpunn.graph import Graph, SymbolicTensor, build_graph
from gpunn.layers import (
    ACTIVATION_LAYERS,
    ELU,
    Activation,
    Add,
    BatchNormalization,
    Concatenate,
    Dense,
    Dropout,
    Flatten,
    Input,
    InputLayer,
    Lambda,
    LayerNormalization,
    LeakyReLU,
    Normalization,
    PReLU,
    ReLU,
    Rescaling,
    Softmax,
)
from gpunn.optimizers import SGD, Adam, Optimizer
from gpunn.plan.bind import BoundPlan
from gpunn.plan.build import OutputSpec, build_plan
from gpunn.plan.ops import OPS
from gpunn.plan.spec import ACTIVATIONS, BATCH, CONTROL, GRADIENTS, PARAMETERS, SCRATCH
from gpunn.randomness import philox

# One thread: products this small gain nothing from more, and beside other work on the machine
# each would wait for a thread that is not scheduled.
MAKERS: dict[str, Callable[[], Backend]] = {
    "reference": NumpyReference,
    "cpu": lambda: NumbaCPU(threads=1),
    "simulator": lambda: CudaBackend(SimulatorDriver()),
}
DEVICES = ["reference", "cpu", pytest.param("simulator", marks=needs_compiler)]


@cache
def on(name: str) -> Backend:
    """Return the backend of a name; all tests share it."""
    return MAKERS[name]()


BATCH_SIZE = 5
H = 1e-5
TOLERANCE = 1e-6
SEED, STEP = 2**63 + 12345, 2**33 + 6  # of dropout: both halves of the words count

Array = np.ndarray[Any, Any]
Tensors = SymbolicTensor | Sequence[SymbolicTensor]


@dataclass(frozen=True)
class Net:
    """A net to check: layers, one loss per output, the type of its data."""

    inputs: list[SymbolicTensor]
    outputs: list[SymbolicTensor]
    specs: tuple[OutputSpec, ...]
    input_dtype: str = "float64"


NETS: dict[str, Callable[[], Net]] = {}


def case(name: str) -> Callable[[Callable[[], Net]], Callable[[], Net]]:
    def add(build: Callable[[], Net]) -> Callable[[], Net]:
        assert name not in NETS
        NETS[name] = build
        return build

    return add


def net(inputs: Tensors, outputs: Tensors, loss: Any = None, **options: Any) -> Net:
    """Wire a net; `loss` is one for each output, mse by default."""
    ins = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    outs = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
    given = loss if isinstance(loss, list) else [loss] * len(outs)
    specs = tuple(
        spec if isinstance(spec, OutputSpec) else OutputSpec(losses.get(spec or "mse"))
        for spec in given
    )
    return Net(ins, outs, specs, **options)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    with on("cpu").threads():
        yield


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
    """The loss of each row, from the formulas in gpunn/losses.py."""
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


# Nets: activations

TRAINABLE = [
    activations.ActivationFunction(name)
    for name in (
        "linear",
        "relu",
        "leaky_relu",
        "elu",
        "selu",
        "sigmoid",
        "tanh",
        "softplus",
        "gelu",
        "silu",
        "softmax",
    )
]
TRAINABLE += [
    activations.ActivationFunction("leaky_relu", 0.01),
    activations.ActivationFunction("elu", 0.6),
]


def _activation_nets(function: activations.ActivationFunction) -> None:
    label = function.name + (f"{function.parameter:g}" if function.parameter else "")

    @case(f"dense-{label}")
    def dense() -> Net:
        x = Input((3,))
        hidden = Dense(4, activation=function)(Dense(4, activation=function)(x))
        return net(x, Dense(2, activation=function)(hidden))

    @case(f"activation-{label}")
    def layer() -> Net:
        """As a layer: joined to a dense layer, after an input, and on its own in a fan-out."""
        x = Input((3,))
        first = Dense(4)(x)
        joined = Activation(function)(Dense(4, use_bias=False)(first))
        alone = Activation(function)(first)
        after_input = Dense(4)(Activation(function)(x))
        return net(x, Dense(2)(Add()([joined, alone, after_input])))

    @case(f"dropout-{label}")
    def dropout() -> Net:
        x = Input((3,))
        hidden = Dropout(0.3)(Dense(6, activation=function)(x))
        hidden = Dropout(0.4)(Dense(6, activation=function)(hidden))
        return net(x, Dense(2)(hidden))


for _function in TRAINABLE:
    _activation_nets(_function)


# Nets: losses

LOSSES: dict[str, tuple[losses.Loss, str | None, int]] = {
    "sparse": (losses.SparseCategoricalCrossentropy(), "softmax", 4),
    "sparse-logits": (losses.SparseCategoricalCrossentropy(from_logits=True), None, 4),
    "categorical": (losses.CategoricalCrossentropy(), "softmax", 4),
    "categorical-logits": (losses.CategoricalCrossentropy(from_logits=True), None, 4),
    "binary": (losses.BinaryCrossentropy(), "sigmoid", 1),
    "binary-logits": (losses.BinaryCrossentropy(from_logits=True), None, 1),
    "multilabel": (losses.BinaryCrossentropy(), "sigmoid", 3),
    "multilabel-logits": (losses.BinaryCrossentropy(from_logits=True), None, 3),
    "sparse-smooth": (losses.SparseCategoricalCrossentropy(label_smoothing=0.2), "softmax", 4),
    "categorical-smooth": (losses.CategoricalCrossentropy(label_smoothing=0.6), "softmax", 3),
    "multilabel-smooth": (losses.BinaryCrossentropy(label_smoothing=0.3), "sigmoid", 3),
    "mse": (losses.MeanSquaredError(), None, 3),
    "mse-sigmoid": (losses.MeanSquaredError(), "sigmoid", 1),
    "mae": (losses.MeanAbsoluteError(), None, 3),
    "huber": (losses.Huber(), None, 3),
    "huber0.5": (losses.Huber(0.5), None, 2),
}


def _loss_nets(label: str, loss: losses.Loss, head: str | None, units: int) -> None:
    for weighted in (False, True):

        @case(f"loss-{label}" + "-weights" * weighted)
        def plain(weighted: bool = weighted) -> Net:
            x = Input((3,))
            hidden = Dense(4, activation="tanh")(x)
            spec = OutputSpec(loss, loss_weight=1.7 if weighted else 1.0, weighted=weighted)
            return net(x, Dense(units, activation=head)(hidden), [spec])

    if head is not None:

        @case(f"loss-{label}-activation-layer")
        def layer() -> Net:
            x = Input((3,))
            z = Dense(units)(Dense(4, activation="tanh")(x))
            return net(x, Activation(head)(z), [OutputSpec(loss)])

        @case(f"loss-{label}-head-read-twice")
        def read_twice() -> Net:
            """The head's activation feeds a second output: logits get two contributions."""
            x = Input((3,))
            first = Dense(units, activation=head)(Dense(4, activation="tanh")(x))
            second = Dense(2)(first)
            return net(x, [first, second], [OutputSpec(loss), OutputSpec(losses.Huber())])


for _label, _entry in LOSSES.items():
    _loss_nets(_label, *_entry)


# Nets: structure


@case("deep")
def _deep() -> Net:
    x = Input((4,))
    hidden = x
    for units, name in ((5, "relu"), (3, "tanh"), (4, "gelu"), (3, "elu"), (5, None)):
        hidden = Dense(units, activation=name)(hidden)
    return net(x, Dense(3, activation="softmax")(hidden), "sparse_categorical_crossentropy")


@case("one-layer")
def _one_layer() -> Net:
    x = Input((4,))
    return net(x, Dense(1)(x))


@case("no-bias")
def _no_bias() -> Net:
    x = Input((3,))
    hidden = Dense(4, activation="tanh", use_bias=False)(x)
    return net(x, Dense(2, use_bias=False)(Dense(4, activation="relu", use_bias=False)(hidden)))


@case("flatten-uint8-rescaling")
def _flatten() -> Net:
    x = Input((2, 3))
    hidden = Dense(4, activation="relu")(Flatten()(Rescaling(1 / 255, -0.5)(x)))
    return net(x, Dense(2)(hidden), input_dtype="uint8")


@case("flatten-mid-graph")
def _flatten_mid() -> Net:
    x = Input((3,))
    hidden = Flatten()(Dense(4, activation="tanh")(x))
    return net(x, Dense(2)(Flatten()(hidden)))


@case("normalization-input")
def _normalization_input() -> Net:
    x = Input((3,))
    return net(x, Dense(2)(Dense(4, activation="tanh")(Normalization()(x))))


@case("rescaling-then-normalization-uint8")
def _both_uint8() -> Net:
    x = Input((2, 3))
    hidden = Flatten()(Normalization()(Rescaling(0.5, 0.25)(Rescaling(1 / 64, -1.0)(x))))
    return net(x, Dense(2)(Dense(4, activation="tanh")(hidden)), input_dtype="uint8")


@case("affine-mid-graph")
def _affine_mid() -> Net:
    x = Input((3,))
    hidden = Rescaling(0.3, -0.1)(Dense(4, activation="tanh")(x))
    hidden = Normalization()(Dense(4, activation="tanh")(hidden))
    hidden = Rescaling(-1.5)(Dense(4, activation="tanh")(hidden))
    return net(x, Rescaling(2.0, 1.0)(Normalization()(Dense(2)(hidden))))


@case("normalization-twice-and-fan-out")
def _normalization_fan_out() -> Net:
    x = Input((4,))
    normalized = Normalization()(x)
    twice = Rescaling(0.5)(Normalization()(normalized))
    return net(x, Add()([Dense(3)(normalized), Dense(3)(twice), Dense(3)(x)]))


@case("dropout-standalone")
def _dropout_standalone() -> Net:
    x = Input((6,))
    hidden = Dropout(0.3)(Dense(6)(Dropout(0.25)(x)))
    branch = Dropout(0.5)(hidden)  # hidden is read twice
    twice = Dropout(0.2)(Dropout(0.4)(Dense(6)(branch)))
    return net(x, Dense(2)(Add()([hidden, twice])))


@case("dropout-rate-0-and-after-concatenate")
def _dropout_joined() -> Net:
    x = Input((4,))
    joined = Concatenate()([Dropout(0.0)(Dense(3)(x)), Dropout(0.3)(Dense(4)(x))])
    return net(x, Dense(2)(Dropout(0.4)(joined)))


@case("dropout-between-dense-and-activation")
def _dropout_then_activation() -> Net:
    x = Input((4,))
    hidden = Activation("tanh")(Dropout(0.3)(Dense(6)(x)))
    return net(x, Dense(2)(Activation("sigmoid")(Activation("relu")(Dense(4)(hidden)))))


@case("dropout-output")
def _dropout_output() -> Net:
    x = Input((4,))
    return net(x, Dropout(0.4)(Dense(3, activation="tanh")(x)))


@case("wide-and-deep")
def _wide_and_deep() -> Net:
    wide, deep = Input((2,), name="wide"), Input((3,), name="deep")
    normalized = Normalization()(deep)
    hidden = Dense(4, activation="relu")(Dense(4, activation="relu")(normalized))
    joined = Concatenate()([Normalization()(wide), hidden])
    main, auxiliary = Dense(1, name="main")(joined), Dense(1, name="auxiliary")(hidden)
    specs = [
        OutputSpec(losses.MeanSquaredError(), loss_weight=0.9, weighted=True),
        OutputSpec(losses.Huber(), loss_weight=0.1),
    ]
    return net([wide, deep], [main, auxiliary], specs)


@case("three-outputs-of-one-layer")
def _three_outputs() -> Net:
    x = Input((4,))
    hidden = Dense(5, activation="selu")(x)
    outputs = [
        Dense(3, activation="softmax")(hidden),
        Dense(2, activation="sigmoid")(hidden),
        Dense(1)(hidden),
    ]
    specs = [
        OutputSpec(losses.SparseCategoricalCrossentropy(), loss_weight=0.5),
        OutputSpec(losses.BinaryCrossentropy(), loss_weight=2.0, weighted=True),
        OutputSpec(losses.MeanAbsoluteError(), loss_weight=0.3),
    ]
    return net(x, outputs, specs)


@case("hidden-layer-is-an-output")
def _hidden_output() -> Net:
    x = Input((4,))
    hidden = Dense(3, activation="relu")(x)
    activated = Activation("tanh")(hidden)
    return net(x, [Dense(2)(activated), hidden, activated])


@case("outputs-that-would-be-fused-away")
def _kept_outputs() -> Net:
    """What the user sees keeps its value, whatever follows it."""
    x = Input((4,))
    scaled = Rescaling(0.5, name="scaled")(x)
    linear = Dense(3)(Rescaling(2.0, 1.0)(scaled))
    activated = Activation("tanh")(linear)
    return net(x, [scaled, linear, activated, Dense(2)(Dropout(0.4)(activated))])


@case("output-is-an-input")
def _output_is_input() -> Net:
    x = Input((3,))
    return net(x, [Dense(2)(x), x])


@case("add-one-input-thrice")
def _add_twice() -> Net:
    x = Input((3,))
    hidden = Dense(4, activation="tanh")(x)
    return net(x, Dense(2)(Add()([hidden, hidden, hidden])))


@case("add-chain")
def _add_chain() -> Net:
    x = Input((3,))
    a = Dense(4, activation="tanh")(x)
    b = Add()([a, Dense(4, activation="relu")(a)])
    c = Add()([b, a, Dense(4)(b)])
    return net(x, Add()([c, b]))


@case("add-then-activation")
def _add_activation() -> Net:
    x = Input((3,))
    added = Add()([Dense(4)(x), Dense(4)(x)])
    return net(x, Dense(2)(Dropout(0.2)(Activation("softplus")(added))))


@case("concatenate-fan-out")
def _concatenate() -> Net:
    x = Input((3,))
    a, b = Dense(2, activation="tanh")(x), Dense(3, activation="relu")(x)
    joined = Concatenate()([a, x, b, a])
    both = Add()([Dense(2)(joined), a])
    return net(x, Concatenate()([both, Dense(1)(joined)]))


@case("shared-dense")
def _shared() -> Net:
    a, b = Input((3,)), Input((3,))
    shared = Dense(4, activation="tanh")
    return net([a, b], Dense(2)(Concatenate()([shared(a), shared(b)])))


@case("shared-dense-in-a-row")
def _shared_row() -> Net:
    x = Input((4,))
    shared = Dense(4, activation="gelu", kernel_regularizer=regularizers.L2(0.05))
    hidden = x
    for _ in range(4):
        hidden = shared(hidden)
    return net(x, Add()([hidden, shared(x)]))


@case("shared-linear-dense-with-dropout")
def _shared_linear() -> Net:
    x = Input((4,))
    shared = Dense(4)
    dropped = Dropout(0.3)(shared(Dropout(0.3)(shared(x))))
    return net(x, Dense(2)(Add()([dropped, shared(dropped)])))


@case("shared-activation-layer")
def _shared_activation() -> Net:
    x = Input((3,))
    tanh = Activation("tanh")
    return net(x, Dense(2)(tanh(Dense(4)(tanh(Dense(4)(x))))))


@case("activation-layers")
def _activation_layers() -> Net:
    """Joined to a dense layer, and on their own behind one that another layer reads, too."""
    x = Input((3,))
    first = Dense(4)(x)
    kinds = (LeakyReLU, ELU, ReLU, Softmax)
    layers = [kind()(Dense(4)(first)) for kind in kinds] + [kind()(first) for kind in kinds]
    return net(x, ReLU(negative_slope=0.4)(Dense(2)(Add()(layers))))


@case("prelu")
def _prelu() -> Net:
    """Behind a dense layer, an input, a dropout; where the loss is, and two in a row."""
    x = Input((2, 3))
    hidden = Dense(5)(Flatten()(PReLU()(Rescaling(0.7, 0.2)(x))))
    hidden = Dropout(0.3)(PReLU(alpha_regularizer=regularizers.L1L2(0.02, 0.03))(hidden))
    return net(x, PReLU()(PReLU()(Dense(4)(hidden))))


@case("prelu-fan-out")
def _prelu_fan_out() -> Net:
    x = Input((4,))
    first = Dense(4)(x)
    curved = PReLU()(first)
    return net(x, [Dense(2)(Add()([curved, first])), Activation("tanh")(curved)])


@case("shared-prelu")
def _shared_prelu() -> Net:
    x = Input((4,))
    shared = PReLU()
    hidden = shared(Dense(4)(shared(x)))
    return net(x, Add()([shared(hidden), hidden]))


@case("regularized-bias")
def _regularized_bias() -> Net:
    x = Input((3,))
    hidden = Dense(4, activation="tanh", bias_regularizer=regularizers.L1L2(0.05, 0.1))(x)
    return net(x, Dense(2)(hidden))


@case("softmax-hidden-fan-out")
def _softmax_hidden() -> Net:
    x = Input((3,))
    attention = Dense(4, activation="softmax")(x)
    return net(x, Dense(2)(Add()([attention, Dense(4)(attention)])))


@case("regularizers")
def _regularizers() -> Net:
    x = Input((3,))
    hidden = Dense(4, activation="tanh", kernel_regularizer=regularizers.L1(0.05))(x)
    hidden = Dense(4, activation="relu", kernel_regularizer=regularizers.L2(0.1))(hidden)
    both = Dense(2, kernel_regularizer=regularizers.L1L2(0.02, 0.03))
    spec = OutputSpec(losses.MeanSquaredError(), loss_weight=0.5, weighted=True)
    return net(x, both(hidden), [spec])


@case("output-without-a-loss")
def _unreached() -> Net:
    x = Input((3,))
    hidden = Dense(4, activation="tanh")(x)
    return net(
        x,
        [Dense(2)(hidden), Dense(3)(Dense(3, activation="relu")(hidden))],
        [OutputSpec(losses.MeanSquaredError()), OutputSpec()],
    )


@case("output-without-a-loss-regularized")
def _unreached_regularized() -> Net:
    x = Input((3,))
    hidden = Dense(4, activation="tanh")(x)
    lost = Dense(3, kernel_regularizer=regularizers.L1L2(0.1, 0.2))(hidden)
    return net(x, [Dense(2)(hidden), lost], [OutputSpec(losses.MeanSquaredError()), OutputSpec()])


# Nets: batch and layer normalization

NORMALIZATIONS = {"batch": BatchNormalization, "layer": LayerNormalization}


def _normalization_nets(kind: str) -> None:
    """No dense layer before them has a bias: batch normalization would make its gradient 0."""
    layer = NORMALIZATIONS[kind]

    @case(f"{kind}-normalization")
    def hidden() -> Net:
        x, linear = Input((3,)), Dense(4, use_bias=False)
        first = Activation("relu")(layer()(Dense(6, use_bias=False)(x)))
        second = Dense(5, activation="tanh")(Dropout(0.2)(first))
        return net(x, Dense(2)(layer(scale=False)(linear(layer(center=False)(second)))))

    @case(f"{kind}-normalization-of-inputs")
    def of_inputs() -> Net:
        """Nobody wants the gradient of what the first ones read."""
        x, y = Input((4,)), Input((3,))
        plain = layer(center=False, scale=False)
        return net([x, y], Dense(2)(Concatenate()([layer()(x), plain(y), Dense(3)(plain(y))])))

    @case(f"{kind}-normalization-fan-out")
    def fan_out() -> Net:
        x = Input((3,))
        hidden = Dense(4, use_bias=False)(x)
        normal = layer(epsilon=0.1, center=False)(hidden)
        joined = Add()([hidden, Dense(4, use_bias=False)(normal), normal])
        return net(x, [Dense(2)(layer(center=False, scale=False)(joined)), layer()(joined)])

    @case(f"{kind}-normalization-shared")
    def shared() -> Net:
        x, y = Input((4,)), Input((4,))
        both = layer(
            gamma_regularizer=regularizers.L1L2(0.02, 0.03), beta_regularizer=regularizers.L2(0.05)
        )
        hidden = both(Dense(4, activation="tanh")(both(x)))
        slope = activations.ActivationFunction("leaky_relu", 0.3)
        last = Activation(slope)(both(y))
        return net([x, y], Dense(2)(Concatenate()([hidden, Activation("tanh")(last)])))

    @case(f"{kind}-normalization-of-classes")
    def of_classes() -> Net:
        x = Input((3,))
        logits = layer()(Dense(3, use_bias=False)(x))
        return net(x, Activation("softmax")(logits), "sparse_categorical_crossentropy")


for _kind in NORMALIZATIONS:
    _normalization_nets(_kind)


# Functions of the user's


def _bump(z: Any) -> Any:
    return z * ops.exp(-ops.square(z) / 2) + ops.where(z > 0.3, 0.2 * z - 0.06, 0.0)


def _pinball(y_true: Any, y_pred: Any) -> Any:
    error = y_true - y_pred
    return ops.mean(ops.maximum(0.8 * error, -0.2 * error), axis=-1)


def _log_cosh(y_true: Any, y_pred: Any) -> Any:
    return ops.log(ops.cosh(y_pred - y_true))


def _pinball_elementwise(y_true: Array, y_pred: Array) -> Array:
    return np.maximum(0.8 * (y_true - y_pred), 0.2 * (y_pred - y_true))


OWN_LOSSES = {"_pinball": _pinball_elementwise, "_log_cosh": _log_cosh}


@case("own-activations")
def _own_activations() -> Net:
    x = Input((3,))
    hidden = Dropout(0.3)(Dense(4, activation=_bump)(x))
    hidden = Activation(_bump)(Dense(3)(hidden))
    return net(x, Dense(2)(Lambda(lambda z: z**3 - 1)(Add()([hidden, Dense(3)(x)]))))


@case("own-activation-of-an-output")
def _own_output() -> Net:
    x = Input((3,))
    return net(x, Dense(2, activation=_bump)(Dense(4, activation="relu")(x)), _log_cosh)


@case("own-losses")
def _own_losses() -> Net:
    x = Input((3,))
    hidden = Dense(4, activation="tanh")(x)
    both = [Dense(2)(hidden), Dense(1, activation="sigmoid")(hidden)]
    pinball = OutputSpec(losses.get(_pinball), weighted=True, loss_weight=0.6)
    return net(x, both, [pinball, OutputSpec(losses.get(_log_cosh))])


# Tests


@pytest.mark.parametrize("backend", DEVICES)
@pytest.mark.parametrize("name", NETS)
def test_outputs_and_losses_equal_layer_by_layer(name: str, backend: str) -> None:
    """Gradients of the wrong net would pass for right: first, is it the right one?"""
    made = NETS[name]()
    run = Run(name, made, on(backend), Adam())
    rows = run.arrays["order"][2 : 2 + BATCH_SIZE]
    outputs = layer_by_layer(run, rows, training=True)
    np.testing.assert_allclose(run.train(), total_loss(run, made, outputs, rows), rtol=1e-12)
    rows = np.arange(2, 2 + BATCH_SIZE)  # without an order
    outputs = layer_by_layer(run, rows, training=False)
    np.testing.assert_allclose(
        run.run("evaluate"), total_loss(run, made, outputs, rows), rtol=1e-12
    )
    run.run("predict")
    for buffer, expected in zip(run.bound.plan.outputs, outputs, strict=True):
        np.testing.assert_allclose(run.bound.read(buffer), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("backend", DEVICES[:2])  # the simulator: test_backends_agree_...
@pytest.mark.parametrize("name", NETS)
def test_gradients_equal_finite_differences(name: str, backend: str) -> None:
    run = Run(name, NETS[name](), on(backend), Adam())
    before = run.weights()
    run.train()
    loss = run.train()  # twice: nothing may be left from the step before
    gradients = run.gradients()
    assert np.isfinite(loss)
    for path, gradient in gradients.items():
        np.testing.assert_array_equal(run.weights()[path], before[path])
        expected = run.differences(path, BATCH_SIZE)
        worst = np.abs(gradient - expected).max()
        assert worst <= TOLERANCE * np.abs(expected).max(), f"{path}:\n{gradient}\n{expected}"


SHORT = ["wide-and-deep", "dropout-standalone", "regularizers"]
SHORT += ["batch-normalization", "layer-normalization-shared"]


@pytest.mark.parametrize("backend", DEVICES)
@pytest.mark.parametrize("name", SHORT)
def test_gradients_of_a_short_batch(name: str, backend: str) -> None:
    """A ragged last batch divides by its own number of rows and leaves the others alone."""
    run = Run(name, NETS[name](), on(backend), Adam())
    run.train()  # rows 3 and 4 hold what a full batch left
    run.train(rows=3)
    for path, gradient in run.gradients().items():
        expected = run.differences(path, 3)
        assert np.abs(gradient - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("backend", DEVICES[1:])
@pytest.mark.parametrize("name", NETS)
def test_backends_agree_on_the_whole_step(name: str, backend: str) -> None:
    """Loss and gradients, to rounding: 1e-12 in float64."""
    runs = [Run(name, NETS[name](), on(device), Adam()) for device in ("reference", backend)]
    values = []
    for run in runs:
        values.append(({"loss": np.array(run.train())}, run.gradients()))
    for reference, other in zip(*values, strict=True):
        for path, expected in reference.items():
            np.testing.assert_allclose(other[path], expected, rtol=1e-12, atol=1e-12, err_msg=path)


def in_place(name: str) -> bool:
    """Whether plain SGD may update in place: dense layers only, called once, not penalized."""
    made = NETS[name]()
    graph = build_graph(made.inputs, made.outputs)
    dense = [node.layer_name for node in graph.nodes if isinstance(node.layer, Dense)]
    alone = all(v.layer in dense for v in graph.variables if v.trainable)
    unpenalized = all(v.regularizer is None for v in graph.variables)
    return alone and len(set(dense)) == len(dense) and unpenalized


@pytest.mark.parametrize("backend", DEVICES)
@pytest.mark.parametrize("name", NETS)
def test_sgd_in_place_equals_sgd_through_gradients(name: str, backend: str) -> None:
    straight = Run(name, NETS[name](), on(backend), SGD())
    # A limit that is never reached makes the plan keep gradients.
    around = Run(name, NETS[name](), on(backend), SGD(clipvalue=1e30))
    assert (GRADIENTS in straight.bound.plan.regions) is not in_place(name)
    assert GRADIENTS in around.bound.plan.regions
    start = straight.weights()
    for run in (straight, around):
        for rows in (BATCH_SIZE, 3, BATCH_SIZE):
            run.train(learning_rate=0.002, rows=rows)
    expected = around.weights()
    moved = [np.abs(start[path] - expected[path]).max() for path in start]
    assert 1e-4 < max(moved) < 1  # trained, and did not diverge
    for path, weights in straight.weights().items():
        np.testing.assert_allclose(weights, expected[path], rtol=1e-12, atol=1e-13, err_msg=path)


# Random graphs: one directional derivative each

KINDS = ("dense", "shared", "add", "join", "act", "drop", "affine", "prelu", *NORMALIZATIONS)
SMOOTH = (None, "tanh", "sigmoid", "softplus", "silu", "gelu", "softmax")


@st.composite
def random_nets(draw: st.DrawFn) -> Net:
    """Layers of 3 features wired at random, some shared, some outputs inside the graph."""
    inputs = [Input((3,)) for _ in range(draw(st.integers(1, 2)))]
    tensors = [Dense(3)(x) for x in inputs]
    shared = Dense(3, activation=draw(st.sampled_from(SMOOTH)))
    curved = PReLU()
    for _ in range(draw(st.integers(1, 6))):
        pick = st.sampled_from(tensors)
        kind = draw(st.sampled_from(KINDS))
        source = draw(pick)
        if kind == "dense":
            tensors.append(Dense(3, activation=draw(st.sampled_from(SMOOTH)))(source))
        elif kind == "shared":
            tensors.append(shared(source))
        elif kind == "add":
            tensors.append(Add()([source, *draw(st.lists(pick, min_size=1, max_size=2))]))
        elif kind == "join":
            tensors.append(Dense(3)(Concatenate()([source, draw(pick)])))
        elif kind == "act":
            tensors.append(Activation(draw(st.sampled_from(SMOOTH[1:])))(source))
        elif kind == "prelu":
            tensors.append(curved(source))
        elif kind == "drop":
            tensors.append(Dropout(draw(st.sampled_from((0.0, 0.3))))(source))
        elif kind in NORMALIZATIONS:
            tensors.append(NORMALIZATIONS[kind]()(source))
        else:
            tensors.append(Rescaling(-0.7, 0.2)(source))
    outputs = [Dense(2)(tensors[-1])]
    if draw(st.booleans()):
        outputs.append(draw(st.sampled_from(tensors)))
    # What no output depends on does not belong to the graph.
    needed = {id(t) for t in _ancestors(outputs)}
    used = [x for x in inputs if id(x) in needed]
    return net(used, outputs, [OutputSpec(losses.MeanSquaredError()) for _ in outputs])


def _ancestors(tensors: Sequence[SymbolicTensor]) -> list[SymbolicTensor]:
    found, stack = [], list(tensors)
    while stack:
        tensor = stack.pop()
        found.append(tensor)
        stack.extend(tensor.inputs)
    return found


@pytest.mark.parametrize("backend", DEVICES)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(made=random_nets())
def test_random_graphs(backend: str, made: Net) -> None:
    run = Run("random", made, on(backend), Adam())
    run.train()
    start, gradients = run.weights(), run.gradients()
    directions = {path: run.rng.normal(size=w.shape) for path, w in start.items()}
    slope = sum((gradients[path] * directions[path]).sum() for path in start)
    size = sum((np.abs(gradients[path] * directions[path])).sum() for path in start)
    loss = []
    for h in (H, -H):
        for path, weights in start.items():
            run.bound.write(f"{PARAMETERS}/{path}", weights + h * directions[path])
        loss.append(run.train())
    expected = (loss[0] - loss[1]) / (2 * H)
    # Relative to the sum of sizes: the terms may cancel.
    assert abs(slope - expected) <= TOLERANCE * size + 1e-9
