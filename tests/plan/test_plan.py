"""What a developer relies on: which calls a plan makes, and that building it needs no device."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from plan_graphs import MSE, build, head, mnist_graph, mnist_plan, normalized_plan, ops, spec

from gpunn import losses, metrics, regularizers
from gpunn.layers import (
    Activation,
    Add,
    BatchNormalization,
    Dense,
    Dropout,
    Input,
    LayerNormalization,
    Normalization,
    Rescaling,
)
from gpunn.optimizers import SGD, Adam, Optimizer, RMSprop
from gpunn.plan.build import build_plan
from gpunn.plan.spec import GRADIENTS, PARAMETERS, STATE, OutputSpec, Step
from gpunn.specs.graph import build_graph


@pytest.mark.parametrize("layer", [BatchNormalization, LayerNormalization])
def test_calls_of_normalization(layer: Any) -> None:
    """One call forward, one backward, with relu; only moving statistics are updated in place."""
    plan = normalized_plan(layer)
    op = "batch_normalization" if layer is BatchNormalization else "layer_normalization"
    assert ops(plan) == [
        *("gather", "dense", op, "dense", "gather_rows", "squared_error"),
        *("bias_gradient", "dense_input_gradient", "dense_kernel_gradient"),
        *(f"{op}_gradient", "dense_kernel_gradient", "sgd", "advance"),
    ]
    inference = op + "_inference" * (layer is BatchNormalization)
    assert ops(plan, "predict") == ["gather", "dense", inference, "dense", "advance"]
    assert not {"mean", "moving_mean"} & set(plan.programs["predict"][2].outputs)
    state = {name for name, buffer in plan.buffers.items() if buffer.region == STATE}
    moving = {f"{STATE}/norm/moving_{name}" for name in ("mean", "variance")}
    assert state == (moving if layer is BatchNormalization else set())
    forward, backward = (
        next(s for s in plan.programs["train"] if s.op == o) for o in (op, f"{op}_gradient")
    )
    assert forward.inputs["gamma"] == backward.inputs["gamma"] == "parameters/norm/gamma"
    assert forward.outputs["mean"] == backward.inputs["mean"]
    assert backward.outputs["beta_gradient"] == "gradients/norm/beta"
    assert forward.attrs["slope"] == backward.attrs["slope"] == 0
    assert forward.outputs["result"] == backward.inputs["output"] == "activations/activation"


@pytest.mark.parametrize(
    ("name", "slope"), [("relu", 0.0), ("leaky_relu", 0.2), ("tanh", None), ("gelu", None)]
)
def test_straight_activations_join_normalization(name: str, slope: float | None) -> None:
    inputs = Input((3,))
    activated = Dropout(0.2)(Activation(name)(BatchNormalization()(inputs)))
    graph = build_graph([inputs], [Dense(1)(activated)])
    plan = build_plan(graph, batch_size=2, outputs=[MSE], optimizer=SGD())
    assert ("activation" in ops(plan)) is (slope is None)
    assert "dropout" in ops(plan)
    forward = next(s for s in plan.programs["train"] if s.op == "batch_normalization")
    assert forward.attrs["slope"] == (1.0 if slope is None else slope)


def test_a_normalization_that_others_read_keeps_its_value() -> None:
    inputs = Input((3,))
    normalized = LayerNormalization()(inputs)
    both = Add()([normalized, Activation("relu")(normalized)])
    plan = build_plan(
        build_graph([inputs], [Dense(1)(both)]), batch_size=2, outputs=[MSE], optimizer=SGD()
    )
    assert Counter(ops(plan))["activation"] == 1


def test_what_normalization_does_not_have_is_not_computed() -> None:
    plan = normalized_plan(BatchNormalization, center=False)
    (forward,) = (s for s in plan.programs["train"] if s.op == "batch_normalization")
    (backward,) = (s for s in plan.programs["train"] if s.op == "batch_normalization_gradient")
    assert "beta" not in forward.inputs
    assert set(backward.outputs) == {"input_gradient", "gamma_gradient"}
    inputs = Input((3,))
    graph = build_graph([inputs], [Dense(1)(BatchNormalization()(inputs))])
    plan = build_plan(graph, batch_size=2, outputs=[MSE], optimizer=Adam())
    (backward,) = (s for s in plan.programs["train"] if s.op == "batch_normalization_gradient")
    assert set(backward.outputs) == {"gamma_gradient", "beta_gradient"}


def test_calls_of_plain_sgd() -> None:
    plan = mnist_plan(SGD())
    assert [(step.op, next(iter(step.outputs.values()))) for step in plan.programs["train"]] == [
        ("gather", "activations/scaled"),
        ("dense", "activations/hidden300"),
        ("dense", "activations/hidden100"),
        ("dense", "activations/digits/logits"),
        ("gather_rows", "batch/digits/targets"),
        ("softmax_cross_entropy", "metrics/loss/batch"),
        ("bias_gradient", "parameters/digits/bias"),
        ("dense_input_gradient", "scratch/dz/hidden100"),
        ("dense_kernel_update", "parameters/digits/kernel"),
        ("dense_input_gradient", "scratch/dz/hidden300"),
        ("dense_kernel_update", "parameters/hidden100/kernel"),
        ("dense_kernel_update", "parameters/hidden300/kernel"),
        ("advance", "control/step"),
    ]
    assert GRADIENTS not in plan.regions


def test_calls_of_adam() -> None:
    plan = mnist_plan(Adam())
    assert ops(plan) == [
        "gather",
        "dense",
        "dense",
        "dense",
        "gather_rows",
        "softmax_cross_entropy",
        "bias_gradient",
        "dense_input_gradient",
        "dense_kernel_gradient",
        "dense_input_gradient",
        "dense_kernel_gradient",
        "dense_kernel_gradient",
        "adam",
        "advance",
    ]
    update = plan.programs["train"][-2]
    assert update.inputs["gradients"] == GRADIENTS
    assert update.outputs["parameters"] == PARAMETERS


def test_other_programs_do_no_more_than_they_must() -> None:
    plan = mnist_plan(Adam(), graph=mnist_graph(dropout=0.2))
    forward = ["gather", "dense", "dense", "dense"]
    assert ops(plan, "evaluate") == [*forward, "gather_rows", "softmax_cross_entropy", "advance"]
    assert ops(plan, "predict") == [*forward, "softmax", "advance"]
    assert ops(plan, "epoch") == ["keyed_permutation"]
    for program in ("evaluate", "predict"):
        for step in plan.programs[program]:
            assert not {"order", "seed", "rate", "gradient", "pre"} & set(step.roles)
    for step in plan.programs["evaluate"]:
        assert step.attrs.get("stream", -1) == -1


def test_flatten_rescaling_and_gather_are_one_call() -> None:
    (gather,) = (s for s in mnist_plan(SGD()).programs["train"] if s.op == "gather")
    assert gather.inputs["data"] == "data/images"
    assert gather.attrs["scale"] == 1 / 255
    assert gather.attrs["shift"] == 0


def test_chained_affine_layers_of_an_input_are_one_call() -> None:
    inputs = Input((3,))
    hidden = Normalization(name="norm")(Rescaling(4.0, 1.0)(Rescaling(0.5, -3.0)(inputs)))
    plan = build_plan(
        build_graph([inputs], [Dense(1)(hidden)]), batch_size=2, outputs=[MSE], optimizer=SGD()
    )
    assert ops(plan)[:2] == ["gather", "dense"]
    (statistics,) = plan.programs["prepare"]
    assert (statistics.attrs["scale"], statistics.attrs["shift"]) == (2.0, -11.0)
    assert statistics.inputs["mean"] == "state/norm/mean"


def test_dropout_and_activation_layers_join_the_dense_layer() -> None:
    plan = mnist_plan(SGD(), graph=mnist_graph(dropout=0.2))
    assert Counter(ops(plan)) == Counter(ops(mnist_plan(SGD())))
    inputs = Input((3,))
    joined = Dropout(0.5)(Activation("tanh")(Dense(4)(inputs)))
    plan = build_plan(
        build_graph([inputs], [Dense(1)(joined)]), batch_size=2, outputs=[MSE], optimizer=SGD()
    )
    first = next(step for step in plan.programs["train"] if step.op == "dense")
    assert first.attrs["activation"] == "tanh"
    assert first.inputs["rate"] == "control/dropout/rate"
    assert not {"activation", "dropout", "dropout_gradient"} & set(ops(plan))


def test_what_others_read_too_is_not_fused() -> None:
    inputs = Input((3,))
    hidden = Dense(4)(inputs)
    branch = Activation("relu")(hidden)
    plan = build_plan(
        build_graph([inputs], [Dense(1)(Add()([hidden, branch]))]),
        batch_size=2,
        outputs=[MSE],
        optimizer=SGD(),
    )
    assert Counter(ops(plan))["activation"] == 1
    assert Counter(ops(plan))["accumulate"] == 1


def test_dropout_streams_are_distinct() -> None:
    plan = mnist_plan(Adam(), graph=mnist_graph(dropout=0.2))
    forward = [s.attrs["stream"] for s in plan.programs["train"] if s.op == "dense"]
    backward = [
        s.attrs["stream"]
        for s in plan.programs["train"]
        if "stream" in s.attrs and "gradient" in s.op
    ]
    assert forward == [0, 1, -1]
    assert backward == [1, 0]


def test_only_an_activation_that_needs_its_input_keeps_it() -> None:
    for activation, kept in (("relu", False), ("elu", False), ("gelu", True), ("silu", True)):
        inputs = Input((3,))
        graph = build_graph([inputs], [Dense(1)(Dense(4, activation=activation)(inputs))])
        plan = build_plan(graph, batch_size=2, outputs=[MSE], optimizer=SGD())
        assert any(name.endswith("/pre") for name in plan.buffers) == kept, activation


@pytest.mark.parametrize(
    ("optimizer", "in_place"),
    [
        (SGD(), True),
        (SGD(momentum=0.9), False),
        (SGD(clipnorm=1.0), False),
        (SGD(clipvalue=1.0), False),
        (SGD(global_clipnorm=1.0), False),
        (SGD(weight_decay=0.1), False),
        (Adam(), False),
        (RMSprop(), False),
    ],
)
def test_only_plain_sgd_needs_no_gradients(optimizer: Optimizer, in_place: bool) -> None:
    plan = mnist_plan(optimizer)
    assert (GRADIENTS not in plan.regions) == in_place
    assert ("dense_kernel_update" in ops(plan)) == in_place


def test_shared_or_penalized_weights_need_gradients() -> None:
    inputs = Input((3,))
    shared = Dense(3)
    penalized = Dense(3, kernel_regularizer=regularizers.L2(0.1))
    for output, more in (
        (shared(shared(inputs)), "accumulate"),
        (penalized(inputs), "regularizer_gradient"),
    ):
        graph = build_graph([inputs], [output])
        plan = build_plan(graph, batch_size=2, outputs=[MSE], optimizer=SGD())
        assert GRADIENTS in plan.regions
        assert more in ops(plan)
        assert ops(plan)[-2:] == ["sgd", "advance"]


def test_kernel_is_read_before_it_is_updated_in_place() -> None:
    """The gradient of a layer's inputs is of the weights of the forward pass."""
    seen: set[str] = set()
    for step in mnist_plan(SGD()).programs["train"]:
        assert not seen & set(step.inputs.values())
        if step.op == "dense_kernel_update":
            seen.add(step.outputs["kernel"])
    assert len(seen) == 3


def evaluate_steps(activation: str | None, units: int, output: OutputSpec) -> dict[str, Step]:
    plan = build(head(units, activation), output, programs=("evaluate",))
    return {step.op: step for step in plan.programs["evaluate"]}


def test_metrics_read_what_is_at_hand() -> None:
    """Logits where the loss reads them; a threshold then moves with them."""
    narrow = (metrics.BinaryAccuracy(threshold=0.3), metrics.MeanAbsoluteError())
    steps = evaluate_steps("sigmoid", 2, OutputSpec(losses.BinaryCrossentropy(), narrow))
    binary, error = steps["binary_accuracy"], steps["absolute_error_sum"]
    assert binary.inputs["predictions"] == "activations/out/logits"
    assert binary.attrs["threshold"] == pytest.approx(np.log(0.3 / 0.7))
    assert error.inputs["predictions"] == "activations/out"
    steps = evaluate_steps("sigmoid", 2, OutputSpec(losses.MeanSquaredError(), narrow))
    binary = steps["binary_accuracy"]
    assert binary.inputs["predictions"] == "activations/out"
    assert binary.attrs["threshold"] == 0.3
    # Keras: "accuracy" of one output is that of a threshold.
    assert "binary_accuracy" in evaluate_steps(
        "sigmoid", 1, spec("binary_crossentropy", "accuracy")
    )


def test_the_loss_counts_hits_itself() -> None:
    top = metrics.SparseTopKCategoricalAccuracy(k=2)
    chosen = OutputSpec(losses.SparseCategoricalCrossentropy(), (metrics.Accuracy(), top))
    steps = evaluate_steps("softmax", 4, chosen)
    assert steps["softmax_cross_entropy"].outputs["correct"] == "metrics/accuracy"
    assert "categorical_accuracy" not in steps
    assert "softmax" not in steps  # nothing reads the probabilities
    assert steps["top_k_accuracy"].attrs == {"k": 2, "sparse": True}


BUILD = """
import sys
from gpunn import losses, optimizers
from gpunn.specs.graph import build_graph
from gpunn.layers import Dense, Dropout, Input
from gpunn.plan.build import build_plan
from gpunn.plan.spec import OutputSpec
x = Input((3,))
graph = build_graph([x], [Dense(2)(Dropout(0.5)(Dense(4, activation="gelu")(x)))])
spec = OutputSpec(losses.MeanSquaredError())
build_plan(graph, batch_size=2, outputs=[spec], optimizer=optimizers.Adam()).describe()
print(sorted({"numba", "cupy", "llvmlite"} & set(sys.modules)))
"""


def test_building_a_plan_needs_no_device() -> None:
    done = subprocess.run([sys.executable, "-c", BUILD], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
