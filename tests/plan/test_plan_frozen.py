"""Frozen layers: what a plan leaves out for them, and that the rest is trained as it should be."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pytest
from plan_graphs import MSE, build, mnist_graph, mnist_plan, ops

from gpunn import constraints, regularizers
from gpunn.backends.cpu.backend import NumbaCPU
from gpunn.backends.interface import Backend
from gpunn.backends.reference.backend import NumpyReference
from gpunn.errors import ArgumentError
from gpunn.layers import (
    Activation,
    Add,
    BatchNormalization,
    Dense,
    Dropout,
    Input,
    LayerNormalization,
    PReLU,
)
from gpunn.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from gpunn.plan.bind import BoundPlan
from gpunn.plan.build import build_plan
from gpunn.plan.layout import plan_layout
from gpunn.plan.spec import CONTROL, GRADIENTS, PARAMETERS, Plan
from gpunn.specs.graph import Graph, build_graph

ROWS = 7
Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]


def frozen_plan(graph: Graph, optimizer: Optimizer, frozen: Collection[str]) -> Plan:
    return build_plan(
        graph,
        batch_size=ROWS,
        precision="float64",
        outputs=[MSE],
        optimizer=optimizer,
        frozen=frozen,
    )


def tower(*middle: Any) -> Graph:
    """4 -> below (tanh) -> what is in the middle -> above (tanh) -> last, two outputs."""
    inputs = Input((4,), name="x")
    hidden = Dense(5, "tanh", name="below")(inputs)
    for layer in middle:
        hidden = layer(hidden)
    hidden = Dense(3, "tanh", name="above")(hidden)
    return build_graph([inputs], [Dense(2, name="last")(hidden)])


def outputs_of(plan: Plan, program: str = "train") -> set[str]:
    return {name for step in plan.programs[program] for name in step.outputs.values()}


# Which calls, buffers and slots there are


def test_a_frozen_trunk_costs_its_forward_pass_alone() -> None:
    plan = mnist_plan(Adam(), graph=mnist_graph(0.3), frozen=["hidden300", "hidden100"])
    assert ops(plan) == [
        *("gather", "dense", "dense", "dense", "gather_rows", "softmax_cross_entropy"),
        *("bias_gradient", "dense_kernel_gradient", "adam", "advance"),
    ]
    assert [s.attrs["stream"] for s in plan.programs["train"] if s.op == "dense"] == [0, 1, -1]
    layout, whole = plan_layout(plan), plan_layout(mnist_plan(Adam()))
    for name, offset in whole[PARAMETERS].offsets.items():
        assert name == PARAMETERS or layout[PARAMETERS].offsets[name] == offset
    assert layout[PARAMETERS].nbytes == whole[PARAMETERS].nbytes
    for region in (GRADIENTS, "optimizer/momentum", "optimizer/velocity"):
        names = {n for n in layout[region].offsets if n != region and not plan.buffers[n].start}
        assert names == {f"{region}/digits/kernel", f"{region}/digits/bias"}
    (update,) = (step for step in plan.programs["train"] if step.op == "adam")
    view = plan.buffers[update.outputs["parameters"]]
    assert view.size == plan.buffers[GRADIENTS].size
    digits = layout[PARAMETERS].offsets[f"{PARAMETERS}/digits/kernel"]
    assert layout[PARAMETERS].offsets[view.name] == digits


def test_a_frozen_layer_passes_the_gradient_on_to_what_is_trained_below() -> None:
    plan = mnist_plan(Adam(), frozen=["hidden100"])
    written = outputs_of(plan)
    assert f"{GRADIENTS}/hidden300/kernel" in written
    assert not [name for name in written if name.startswith(f"{GRADIENTS}/hidden100")]
    assert ops(plan).count("dense_input_gradient") == 2
    assert ops(plan).count("adam") == 2  # below and above it
    plan = mnist_plan(Adam(), frozen=["digits"])
    assert "bias_gradient" not in ops(plan)
    assert ops(plan).count("adam") == 1


def test_nothing_frozen_is_the_plan_it_always_was() -> None:
    assert mnist_plan(Adam(), frozen=()) == mnist_plan(Adam())
    assert "not trained" not in mnist_plan(Adam()).describe()
    first = mnist_plan(Adam(), frozen=["digits", "hidden300"]).describe().splitlines()[0]
    assert first == "batch size 32, float32, not trained: hidden300, digits"


def test_plain_sgd_trains_in_place_beside_frozen_layers() -> None:
    """Also where what speaks against it (a shared, a normalizing layer) is frozen."""
    shared = Dense(5, "relu", name="shared")
    graph = tower(shared, shared, LayerNormalization(name="norm"))
    assert GRADIENTS in build(graph, MSE, frozen=["shared"]).regions  # norm is trained
    plan = build(graph, MSE, frozen=["shared", "norm"])
    assert GRADIENTS not in plan.regions
    updated = {name for name in outputs_of(plan) if name.startswith(PARAMETERS)}
    assert updated == {
        f"{PARAMETERS}/{layer}/{kind}"
        for layer in ("below", "above", "last")
        for kind in ("kernel", "bias")
    }


def test_penalties_and_constraints_are_those_of_trained_layers() -> None:
    """Keras 3.15 has no penalty of a frozen layer either, in fit nor in evaluate."""
    options: dict[str, Any] = {
        "kernel_regularizer": regularizers.L2(0.1),
        "kernel_constraint": constraints.MaxNorm(1.0),
    }
    graph = tower(Dense(5, name="one", **options), Dense(5, name="two", **options))
    for frozen, count in (((), 2), (("one",), 1), (("one", "two"), 0)):
        plan = frozen_plan(graph, Adam(), frozen)
        assert ops(plan).count("regularizer_gradient") == count
        assert ops(plan).count("norm_constraint") == count
        assert ops(plan, "evaluate").count("regularizer") == count
        assert ("regularization" in {m.label for m in plan.metrics}) == (count > 0)


def test_frozen_batch_normalization_keeps_its_statistics() -> None:
    graph = tower(BatchNormalization(name="norm"), Activation("relu"))
    plan = frozen_plan(graph, Adam(), ["norm"])
    assert ops(plan) == [
        *("gather", "dense", "batch_normalization_inference", "dense", "dense", "gather_rows"),
        *("squared_error", "bias_gradient", "dense_input_gradient", "dense_kernel_gradient"),
        *("dense_input_gradient", "dense_kernel_gradient", "activation_gradient"),
        *("batch_normalization_inference", "activation_gradient", "dense_kernel_gradient"),
        *("adam", "adam", "advance"),
    ]
    assert not [name for name in outputs_of(plan) if name.startswith("state/")]
    plan = frozen_plan(graph, Adam(), ["norm", "below"])  # nothing below to train
    assert ops(plan).count("batch_normalization_inference") == 1


def test_what_only_the_backward_pass_reads_is_not_kept_below_the_trained_layers() -> None:
    graph = tower(LayerNormalization(name="norm"), Dense(5, "gelu", name="curved"))
    kept = {"activations/curved/pre", "activations/norm/mean"}
    assert kept <= frozen_plan(graph, Adam(), ["curved", "norm"]).buffers.keys()
    plan = frozen_plan(graph, Adam(), ["below", "curved", "norm"])
    assert not kept & plan.buffers.keys()


def test_a_loss_above_frozen_layers_only_has_no_gradient() -> None:
    inputs = Input((4,))
    graph = build_graph([inputs], [Dense(2, name="one")(inputs), Dense(2, name="two")(inputs)])
    plan = build_plan(graph, batch_size=2, outputs=[MSE, MSE], optimizer=SGD(), frozen=["one"])
    losses = [step for step in plan.programs["train"] if step.op == "squared_error"]
    assert ["gradient" in step.outputs for step in losses] == [False, True]


def test_an_unknown_layer_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"frozen: the graph has no layer 'hiden'; it has x, b"):
        frozen_plan(tower(), SGD(), ["hiden"])


# Numbers


class Training:
    """A plan with data and weights, in float64; `evaluate` computes the loss without training."""

    def __init__(
        self, graph: Graph, backend: Backend, optimizer: Optimizer, frozen: Collection[str] = ()
    ) -> None:
        self.bound = BoundPlan(frozen_plan(graph, optimizer, frozen), backend)
        rng = np.random.default_rng(5)
        arrays = {"order": np.arange(ROWS, dtype=np.int64), "data/x": rng.normal(size=(ROWS, 4))}
        arrays["targets/last"] = rng.normal(size=(ROWS, 2))
        self.bound.attach({name: backend.upload(array) for name, array in arrays.items()})
        self.variables = {v.path: v for v in graph.variables}
        self.trained = [p for p, v in self.variables.items() if v.trainable]
        self.trained = [p for p in self.trained if self.variables[p].layer not in frozen]
        for path, v in self.variables.items():
            values = rng.normal(scale=0.5, size=v.shape)
            self.write(path, np.abs(values) + 0.5 if path.endswith("variance") else values)
        self.bound.run("prepare")

    def buffer(self, path: str) -> str:
        return f"{PARAMETERS if self.variables[path].trainable else 'state'}/{path}"

    def write(self, path: str, values: Array) -> None:
        self.bound.write(self.buffer(path), values)

    def weights(self) -> Arrays:
        return {path: self.bound.read(self.buffer(path)) for path in self.variables}

    def run(self, program: str = "train", learning_rate: float = 0.1) -> float:
        self.bound.reset_metrics()
        self.bound.write(f"{CONTROL}/learning_rate", learning_rate)
        self.bound.write(f"{CONTROL}/offset", 0)
        self.bound.run(program)
        return self.bound.figures(ROWS)["loss"]

    def differences(self, h: float = 1e-5) -> Arrays:
        """Return the central differences of `evaluate`'s loss, for every trained weight."""
        result = {}
        for path in self.trained:
            weights = self.bound.read(self.buffer(path))
            result[path] = np.empty_like(weights)
            for index in np.ndindex(weights.shape):
                loss = []
                for step in (h, -h):
                    moved = weights.copy()
                    moved[index] += step
                    self.write(path, moved)
                    loss.append(self.run("evaluate"))
                result[path][index] = (loss[0] - loss[1]) / (2 * h)
            self.write(path, weights)
        return result


BACKENDS: dict[str, Callable[[], Backend]] = {
    "reference": NumpyReference,
    "cpu": lambda: NumbaCPU(threads=1),
}
_shared = Dense(5, "tanh", name="shared")
GRAPHS: dict[str, tuple[Graph, tuple[str, ...]]] = {
    "trunk": (tower(), ("below",)),
    "middle": (tower(Dense(5, "relu", name="one"), Dense(5, "gelu", name="two")), ("one", "two")),
    "every other": (tower(Dense(5, "gelu", name="one")), ("below", "above")),
    "last": (tower(), ("last",)),
    "shared": (tower(_shared, Dense(5, name="one"), _shared), ("shared",)),
    "beside shared": (tower(_shared, Dense(5, name="one"), _shared), ("one", "above")),
    "prelu": (tower(PReLU(name="slopes")), ("slopes",)),
    "batch": (tower(BatchNormalization(name="norm")), ("norm",)),
    "batch, relu": (tower(BatchNormalization(name="norm"), Activation("relu")), ("norm",)),
    "batch, leaky": (
        tower(BatchNormalization(scale=False, name="norm"), Activation("leaky_relu")),
        ("norm", "above"),
    ),
    "batch at the bottom": (tower(BatchNormalization(name="norm")), ("norm", "below")),
    "layer": (tower(LayerNormalization(name="norm"), Activation("relu")), ("norm",)),
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param]()


@pytest.mark.parametrize("name", GRAPHS)
def test_a_step_follows_the_differences_and_leaves_the_rest(name: str, backend: Backend) -> None:
    """With plain SGD, in place or not: a step of 0.1 along gradients that are good to 1e-6."""
    graph, frozen = GRAPHS[name]
    training = Training(graph, backend, SGD(), frozen)
    expected, before = training.differences(), training.weights()
    loss = training.run("evaluate")
    np.testing.assert_allclose(training.run(), loss, rtol=1e-12)
    after = training.weights()
    for path, weights in before.items():
        if path in training.trained:
            moved = (weights - after[path]) / 0.1
            worst = np.abs(moved - expected[path]).max()
            assert worst <= 1e-6 * max(np.abs(expected[path]).max(), 1e-2), path
        else:
            np.testing.assert_array_equal(after[path], weights, err_msg=path)


OPTIMIZERS: dict[str, Optimizer] = {
    "in place": SGD(),
    "momentum": SGD(momentum=0.9, nesterov=True),
    "adagrad": Adagrad(initial_accumulator_value=0.3),
    "rmsprop": RMSprop(momentum=0.5, centered=True),
    "adam": Adam(amsgrad=True),
    "adamw": AdamW(weight_decay=0.1),
    "clipvalue": Adam(clipvalue=0.01),
    "clipnorm": Adam(clipnorm=0.01),
}


@pytest.mark.parametrize("frozen", [("one", "last"), ("below",)], ids=["two runs", "one run"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_trained_weights_move_as_beside_weights_that_are_put_back(
    name: str, frozen: tuple[str, ...], backend: Backend
) -> None:
    """What these optimizers do to a variable depends on that variable alone."""
    graph = tower(Dense(5, "relu", name="one"))
    some = Training(graph, backend, OPTIMIZERS[name], frozen)
    whole = Training(graph, backend, OPTIMIZERS[name])
    start = some.weights()
    for _ in range(3):
        some.run()
        whole.run()
        for path in start.keys() - set(some.trained):
            whole.write(path, start[path])
    for path, weights in whole.weights().items():
        np.testing.assert_allclose(some.weights()[path], weights, rtol=1e-12, err_msg=path)
        assert np.array_equal(weights, start[path]) == (path not in some.trained)
    for slot in OPTIMIZERS[name].slots:
        for path in some.trained:
            buffer = f"optimizer/{slot}/{path}"
            expected = whole.bound.read(buffer)
            np.testing.assert_allclose(some.bound.read(buffer), expected, rtol=1e-12)


@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm"])
def test_norms_are_those_of_the_trained_gradients(clip: str, backend: Backend) -> None:
    graph, frozen = GRAPHS["every other"]
    limit: dict[str, Any] = {clip: 0.02}
    training = Training(graph, backend, SGD(**limit), frozen)
    gradients, before = training.differences(), training.weights()
    training.run()
    total = np.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
    for path, gradient in gradients.items():
        norm = total if clip == "global_clipnorm" else np.sqrt((gradient**2).sum())
        assert norm > 0.02
        expected = before[path] - 0.1 * gradient * 0.02 / norm
        np.testing.assert_allclose(training.weights()[path], expected, rtol=0, atol=1e-9)


def test_dropout_stays_active_in_a_frozen_trunk(backend: Backend) -> None:
    training = Training(tower(Dropout(0.5, name="drop")), backend, SGD(), ("below", "drop"))
    assert len({training.run(learning_rate=0.0) for _ in range(4)}) > 1


def test_a_branch_that_joins_trained_and_frozen(backend: Backend) -> None:
    """The gradient of a sum goes to the trained summand alone."""
    inputs = Input((4,), name="x")
    branches = [Dense(3, "tanh", name=name)(inputs) for name in ("one", "two")]
    graph = build_graph([inputs], [Dense(2, name="last")(Add()(branches))])
    training = Training(graph, backend, SGD(), ("one", "last"))
    expected, before = training.differences(), training.weights()
    training.run()
    for path, weights in training.weights().items():
        moved = (before[path] - weights) / 0.1
        np.testing.assert_allclose(moved, expected.get(path, 0), rtol=0, atol=1e-7, err_msg=path)
