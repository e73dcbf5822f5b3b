"""What a developer relies on: which calls a plan makes, what it says of them, where buffers lie."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpunn import constraints, losses, metrics, regularizers
from gpunn.backends.numpy_reference import NumpyReference
from gpunn.errors import ArgumentError, PlanError
from gpunn.graph import Graph, SymbolicTensor, build_graph
from gpunn.layers import (
    Activation,
    Add,
    BatchNormalization,
    Concatenate,
    Dense,
    Dropout,
    Flatten,
    Input,
    LayerNormalization,
    Normalization,
    PReLU,
    Rescaling,
)
from gpunn.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from gpunn.plan.bind import BoundPlan
from gpunn.plan.build import OutputSpec, build_plan
from gpunn.plan.layout import ALIGNMENT, plan_layout
from gpunn.plan.ops import OPS
from gpunn.plan.spec import (
    CONTROL,
    EXTERNAL,
    GRADIENTS,
    METRICS,
    PARAMETERS,
    STATE,
    Plan,
    Step,
    slot_region,
)

SPARSE = OutputSpec(losses.SparseCategoricalCrossentropy(), (metrics.Accuracy(),))
MSE = OutputSpec(losses.MeanSquaredError())


def mnist_graph(dropout: float | None = None) -> Graph:
    """784-300-100-10, from bytes to a softmax."""
    images = Input((28, 28), name="images")
    hidden = Rescaling(1 / 255, name="scaled")(images)
    hidden = Flatten()(hidden)
    for units in (300, 100):
        hidden = Dense(units, activation="relu", name=f"hidden{units}")(hidden)
        if dropout is not None:
            hidden = Dropout(dropout)(hidden)
    return build_graph([images], [Dense(10, activation="softmax", name="digits")(hidden)])


def mnist_plan(optimizer: Optimizer, batch_size: int = 32, **options: Any) -> Plan:
    options.setdefault("outputs", [SPARSE])
    options.setdefault("input_dtypes", ["uint8"])
    graph = options.pop("graph", None) or mnist_graph()
    return build_plan(graph, batch_size=batch_size, optimizer=optimizer, **options)


def ops(plan: Plan, program: str = "train") -> list[str]:
    return [step.op for step in plan.programs[program]]


# Which calls


def normalized_plan(layer: Any, **options: Any) -> Plan:
    """5 -> 6 -> normalization -> relu -> 2, in batches of 8."""
    inputs = Input((5,))
    hidden = layer(name="norm", **options)(Dense(6, use_bias=False, name="first")(inputs))
    graph = build_graph([inputs], [Dense(2, name="last")(Activation("relu")(hidden))])
    return build_plan(graph, batch_size=8, outputs=[MSE], optimizer=SGD())


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


def test_flops_and_bytes_of_normalization_by_hand() -> None:
    b, c, f = 8, 6, 4  # rows, columns, bytes of a float32
    batch, layer = (
        dict(zip(ops(plan), costs(plan), strict=True))
        for plan in (normalized_plan(BatchNormalization), normalized_plan(LayerNormalization))
    )
    # values and result; gamma, beta; mean and deviation written; moving ones read and written
    assert batch["batch_normalization"] == (8 * b * c, f * (2 * b * c + 2 * c + 2 * c + 4 * c))
    assert layer["layer_normalization"] == (8 * b * c, f * (2 * b * c + 2 * c + 2 * b))
    # values, output, gradient and result; gamma, its gradient, beta's; mean and deviation
    assert batch["batch_normalization_gradient"] == (11 * b * c, f * (4 * b * c + 3 * c + 2 * c))
    assert layer["layer_normalization_gradient"] == (13 * b * c, f * (4 * b * c + 3 * c + 2 * b))


def test_flops_and_bytes_of_prelu_and_constraints_by_hand() -> None:
    b, c, f = 8, 6, 4  # rows, columns, bytes of a float32
    inputs = Input((5,))
    norm = constraints.MaxNorm(1.0)
    hidden = PReLU(alpha_constraint="non_neg")(Dense(c, kernel_constraint=norm)(inputs))
    last = Dense(3, bias_constraint=norm, activation="softmax")(hidden)
    smoothed = OutputSpec(losses.CategoricalCrossentropy(label_smoothing=0.1))
    plan = build_plan(
        build_graph([inputs], [last]), batch_size=b, outputs=[smoothed], optimizer=SGD()
    )
    found = list(zip(ops(plan), costs(plan), strict=True))
    assert dict(found)["prelu"] == (2 * b * c, f * (2 * b * c + c))
    # values, gradient and result; alpha, its gradient
    assert dict(found)["prelu_gradient"] == (4 * b * c, f * (3 * b * c + 2 * c))
    # logits, targets and gradient, step; batch loss; sum and first bad step read and written
    assert dict(found)["softmax_cross_entropy"] == (6 * b * 3, 3 * f * b * 3 + 8 + 8 + 2 * (8 + 8))
    # In the order of the variables, after the update: a kernel, alpha, a bias.
    assert found[-5:-1] == [
        ("sgd", dict(found)["sgd"]),
        ("norm_constraint", (3 * 5 * c, 2 * f * 5 * c)),
        ("non_negative", (c, 2 * f * c)),
        ("norm_constraint", (3 * 3, 2 * f * 3)),
    ]


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


# What it says of them

KERNELS = ((784, 300), (300, 100), (100, 10))


@pytest.mark.parametrize("batch_size", [1, 32, 100])
@pytest.mark.parametrize("optimizer", [SGD(), Adam()])
def test_flops_of_the_products(batch_size: int, optimizer: Optimizer) -> None:
    """2 B I O for each product; the first layer has no input gradient: 1.127 MFLOP a sample."""
    plan = mnist_plan(optimizer, batch_size)
    forward = sum(i * o for i, o in KERNELS)
    assert forward == 266_200
    extra = 2 * (300 + 100 + 10) + 2 * (100 + 300)  # bias and activation, and their derivative
    products = [s for s in plan.programs["train"] if s.op.startswith("dense")]
    counted = sum(plan.step_cost(step)[0] for step in products) - batch_size * extra
    by_hand = 2 * batch_size * (forward + (300 * 100 + 100 * 10) + forward)
    assert counted == by_hand
    assert by_hand == 1_126_800 * batch_size


def test_flops_and_bytes_of_every_call_by_hand() -> None:
    b, f = 32, 4  # rows, bytes of a float32
    hidden = 2 * b * 784 * 300 + 2 * b * 300
    assert costs(mnist_plan(SGD())) == [
        # bytes in, order, offset, floats out
        (2 * b * 784, b * 784 + 8 * b + 8 + f * b * 784),
        (hidden, f * (b * 784 + 784 * 300 + 300 + b * 300)),
        (2 * b * 300 * 100 + 2 * b * 100, f * (b * 300 + 300 * 100 + 100 + b * 100)),
        (2 * b * 100 * 10 + 2 * b * 10, f * (b * 100 + 100 * 10 + 10 + b * 10)),
        (0, 4 * b + 8 * b + 8 + 4 * b),
        # logits, labels, step; batch loss; gradient; sum, first bad step and hits read and written
        (6 * b * 10, f * b * 10 + 4 * b + 8 + 8 + f * b * 10 + 2 * (8 + 8 + 8)),
        (b * 10, f * b * 10 + f + 2 * f * 10),
        # gradient, kernel, outputs, rate; result; bias read and written
        (
            2 * b * 100 * 10 + 2 * b * 100,
            f * (b * 10 + 100 * 10 + b * 100 + 1 + b * 100 + 2 * 100),
        ),
        (2 * b * 100 * 10, f * (b * 100 + b * 10 + 1 + 2 * 100 * 10)),
        (
            2 * b * 300 * 100 + 2 * b * 300,
            f * (b * 100 + 300 * 100 + b * 300 + 1 + b * 300 + 2 * 300),
        ),
        (2 * b * 300 * 100, f * (b * 300 + b * 100 + 1 + 2 * 300 * 100)),
        (2 * b * 784 * 300, f * (b * 784 + b * 300 + 1 + 2 * 784 * 300)),
        (0, 2 * (8 + 8)),
    ]
    # Adam reads gradients, and reads and writes weights and two slots, padded to 256 bytes.
    sizes = [size for i, o in KERNELS for size in (i * o, o)]
    padded = sum(-(-size // 64) * 64 for size in sizes)
    flops, moved = costs(mnist_plan(Adam()))[-2]
    assert moved == 7 * f * padded + f + 8
    assert flops == 12 * padded


def costs(plan: Plan, program: str = "train") -> list[tuple[int, int]]:
    return [plan.step_cost(step) for step in plan.programs[program]]


def test_describe_prints_every_call() -> None:
    plan = mnist_plan(Adam(), graph=mnist_graph(dropout=0.2))
    lines = plan.describe().splitlines()
    assert lines[0] == "batch size 32, float32"
    for program, steps in plan.programs.items():
        if not steps:
            continue
        start = lines.index(f"{program} ({len(steps)} calls)") + 2
        for number, step in enumerate(steps):
            words = lines[start + number].split()
            flops, moved = plan.step_cost(step)
            assert words[:2] == [str(number + 1), step.op]
            assert next(iter(step.outputs.values())) in words
            assert words[-2:] == [f"{flops:,}", f"{moved:,}"]
        total = lines[start + len(steps)].split()
        assert total == ["total", f"{plan.flops(program):,}", f"{plan.bytes(program):,}"]
    table = [line for line in lines if line.startswith("  ")]
    assert len({len(line) for line in table}) == 1  # aligned
    assert plan.flops("train") == sum(flops for flops, _ in costs(plan))
    assert "float64, 3 models" in mnist_plan(SGD(), precision="float64", models=3).describe()


# Where buffers lie


@pytest.mark.parametrize(
    "optimizer", [Adam(amsgrad=True), SGD(momentum=0.9), Adagrad(), RMSprop(0.1, momentum=0.5)]
)
def test_parameters_gradients_and_slots_share_one_layout(optimizer: Optimizer) -> None:
    layout = plan_layout(mnist_plan(optimizer))
    paths = [
        f"{layer}/{kind}"
        for layer in ("hidden300", "hidden100", "digits")
        for kind in ("kernel", "bias")
    ]
    regions = [PARAMETERS, GRADIENTS, *map(slot_region, optimizer.slots)]
    assert len(regions) > 2
    for region in regions:
        offsets = layout[region].offsets
        assert [offsets[f"{region}/{path}"] for path in paths] == [
            layout[PARAMETERS].offsets[f"{PARAMETERS}/{path}"] for path in paths
        ]
        assert offsets[region] == 0  # the flat view
        assert layout[region].nbytes == layout[PARAMETERS].nbytes


def test_slots_start_where_the_optimizer_says() -> None:
    bound = BoundPlan(mnist_plan(Adagrad(initial_accumulator_value=0.3)), NumpyReference())
    assert (bound.read("optimizer/accumulator") == np.float32(0.3)).all()
    assert (bound.read(f"{METRICS}/nonfinite_step") == -1).all()


@st.composite
def random_graphs(draw: st.DrawFn) -> Graph:
    """Dense layers of any width with dropouts, sums, joins, shared layers and fan-out."""
    inputs = Input((draw(st.integers(1, 40)),))
    tensors: list[SymbolicTensor] = [inputs]
    shared: list[Dense] = []
    for _ in range(draw(st.integers(1, 7))):
        source = draw(st.sampled_from(tensors))
        width = source.shape[0]
        kinds = ("dense", "shared", "add", "join", "act", "drop", "affine", "batch", "layer")
        kind = draw(st.sampled_from(kinds))
        if kind == "dense":
            activation = draw(st.sampled_from((None, "relu", "gelu", "softmax")))
            bias = draw(st.booleans())
            tensors.append(Dense(draw(st.integers(1, 70)), activation, bias)(source))
        elif kind == "shared":
            shared = shared or [Dense(7)]
            tensors.append(shared[0](Dense(5)(source)))
        elif kind == "add":
            tensors.append(Add()([source, Dense(width)(draw(st.sampled_from(tensors)))]))
        elif kind == "join":
            tensors.append(Concatenate()([source, draw(st.sampled_from(tensors))]))
        elif kind == "act":
            tensors.append(Activation(draw(st.sampled_from(("tanh", "silu"))))(source))
        elif kind == "drop":
            tensors.append(Dropout(0.5)(source))
        elif kind in ("batch", "layer"):
            options = {name: draw(st.booleans()) for name in ("center", "scale")}
            layer = BatchNormalization if kind == "batch" else LayerNormalization
            tensors.append(layer(**options)(source))
        else:
            tensors.append(draw(st.sampled_from((Rescaling(2.0), Normalization())))(source))
    # Joined, so that every layer has a part in the output.
    joined = Concatenate()([*tensors, tensors[0]])
    return build_graph([inputs], [Dense(draw(st.integers(1, 5)))(joined)])


OPTIMIZERS = st.sampled_from(
    (SGD(), SGD(momentum=0.9), Adam(), AdamW(clipnorm=1.0), RMSprop(centered=True, clipvalue=1.0))
)


@settings(max_examples=80, deadline=None)
@given(random_graphs(), OPTIMIZERS, st.integers(1, 33), st.sampled_from(("float32", "float64")))
def test_no_buffers_overlap(graph: Graph, optimizer: Optimizer, rows: int, dtype: str) -> None:
    plan = build_plan(graph, batch_size=rows, precision=dtype, outputs=[MSE], optimizer=optimizer)
    layout = plan_layout(plan)
    placed = {name for region in layout.values() for name in region.offsets}
    internal = {name for name, b in plan.buffers.items() if b.region != EXTERNAL}
    assert placed == internal
    for region in layout.values():
        end = 0
        for name, offset in sorted(region.offsets.items(), key=lambda item: item[1]):
            spec = plan.buffers[name]
            assert offset % ALIGNMENT == 0
            if name == region.name:
                assert (offset, spec.nbytes) == (0, region.nbytes)
                continue
            assert offset >= end, f"{name} overlaps its neighbour"
            end = offset + spec.nbytes
        assert end <= region.nbytes


@settings(max_examples=80, deadline=None)
@given(random_graphs(), OPTIMIZERS)
def test_nothing_is_read_before_it_is_written(graph: Graph, optimizer: Optimizer) -> None:
    plan = build_plan(graph, batch_size=4, outputs=[MSE], optimizer=optimizer)
    lasting = (PARAMETERS, STATE, CONTROL, METRICS, EXTERNAL)
    given_ = {name for name, b in plan.buffers.items() if b.region in lasting}
    given_ |= {name for name, b in plan.buffers.items() if b.region.startswith("optimizer/")}
    given_ |= {name for step in plan.programs["prepare"] for name in step.outputs.values()}
    for program in ("train", "evaluate", "predict"):
        written = set(given_)
        for step in plan.programs[program]:
            op, roles = OPS[step.op], step.roles
            inputs = {roles[role] for role in op.inputs if role in roles}
            updates = {roles[role] for role in op.updates if role in roles}
            outputs = {roles[role] for role in op.outputs if role in roles}
            for name in (inputs | updates) - {GRADIENTS}:  # the flat view: see below
                assert name in written, f"{program}: {step.op} reads {name}"
            assert not outputs & (inputs | updates), f"{step.op} writes what it reads"
            written |= outputs
        if program == "train" and GRADIENTS in plan.regions:
            gradients = {f"{GRADIENTS}/{v.path}" for v in graph.variables if v.trainable}
            assert gradients <= written


@settings(max_examples=40, deadline=None)
@given(random_graphs(), OPTIMIZERS)
def test_building_is_pure(graph: Graph, optimizer: Optimizer) -> None:
    first, second = (
        build_plan(graph, batch_size=4, outputs=[MSE], optimizer=optimizer) for _ in range(2)
    )
    assert first == second


# Only the steps execute


def toy_graph(dropout: float = 0.4) -> Graph:
    inputs = Input((6,), name="x")
    hidden = Dropout(dropout, name="drop")(Dense(8, activation="relu", name="hidden")(inputs))
    hidden = Dense(5, activation="tanh", name="second")(hidden)
    return build_graph([inputs], [Dense(3, activation="softmax", name="y")(hidden)])


def toy_plan(optimizer: Optimizer, models: int = 1, batch_size: int = 8, **options: Any) -> Plan:
    return build_plan(
        toy_graph(),
        batch_size=batch_size,
        outputs=[replace(SPARSE, weighted=True)],
        optimizer=optimizer,
        models=models,
        programs=("train",),
        **options,
    )


ROWS = 21


def toy_data() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(5)
    return {
        "data/x": rng.normal(size=(ROWS, 6)).astype(np.float32),
        "targets/y": rng.integers(3, size=ROWS).astype(np.int32),
        "weights/y": rng.uniform(0.5, 2, ROWS).astype(np.float32),
    }


def toy_weights(seed: int) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return {v.path: rng.normal(scale=0.5, size=v.shape) for v in toy_graph().variables}


def train(
    plan: Plan, seeds: Sequence[int], rates: Sequence[float], drops: Sequence[float]
) -> dict[str, np.ndarray[Any, Any]]:
    """Train two epochs of three batches, the last one short; return all that lasts.

    Seeds (of weights, order and dropout), learning rates and dropout rates are one per model.
    """
    bound = BoundPlan(plan, NumpyReference())
    shape = (plan.models, 1) if plan.models > 1 else (1,)
    many = (plan.models,) if plan.models > 1 else ()
    bound.attach(toy_data() | {"order": np.zeros((*many, ROWS), np.int64)})
    drawn = [toy_weights(seed) for seed in seeds]
    for path in drawn[0]:
        values = np.stack([weights[path] for weights in drawn])
        bound.write(f"{PARAMETERS}/{path}", values if many else values[0])
    bound.write(f"{CONTROL}/seed", np.array(seeds, np.uint64).reshape(shape))
    bound.write(f"{CONTROL}/learning_rate", np.array(rates).reshape(shape))
    bound.write(f"{CONTROL}/drop/rate", np.array(drops, np.float32).reshape(shape))
    figures = []
    for epoch in range(2):
        bound.write(f"{CONTROL}/epoch", epoch)
        bound.write(f"{CONTROL}/offset", 0)
        bound.reset_metrics()
        bound.run("epoch")
        for start in range(0, ROWS, plan.batch_size):
            bound.run("train", min(plan.batch_size, ROWS - start))
        figures.append({n: bound.read(n) for n, b in plan.buffers.items() if b.region == METRICS})
    lasting = (PARAMETERS, CONTROL)
    result = {
        n: bound.read(n)
        for n, b in plan.buffers.items()
        if b.region in lasting or b.region.startswith("optimizer/")
    }
    for epoch, values in enumerate(figures):
        result |= {f"{name}@{epoch}": value for name, value in values.items()}
    return result | {"order": bound.array("order").copy()}


def train_one(plan: Plan) -> dict[str, np.ndarray[Any, Any]]:
    return train(plan, [7], [0.1], [0.4])


def with_steps(plan: Plan, program: str, steps: Sequence[Step]) -> Plan:
    return replace(plan, programs={**plan.programs, program: tuple(steps)})


def differs(a: dict[str, Any], b: dict[str, Any]) -> bool:
    assert a.keys() == b.keys()
    return any(not np.array_equal(a[name], b[name], equal_nan=True) for name in a)


@pytest.mark.parametrize("optimizer", [SGD(), Adam(global_clipnorm=0.1)])
def test_every_step_counts(optimizer: Optimizer) -> None:
    """Without any one of its steps a plan gives another result; with all, the same again."""
    plan = toy_plan(optimizer)
    expected = train_one(plan)
    assert not differs(expected, train_one(plan))
    for program in ("epoch", "train"):
        steps = plan.programs[program]
        for left_out in range(len(steps)):
            fewer = [step for i, step in enumerate(steps) if i != left_out]
            result = train_one(with_steps(plan, program, fewer))
            assert differs(expected, result), f"{program}: {steps[left_out].op} does nothing"


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("gather", {"scale": 2.0}),
        ("gather", {"shift": 0.5}),
        ("dense", {"activation": "sigmoid"}),
        ("dense", {"stream": 1}),
        ("softmax_cross_entropy", {"loss_weight": 0.5}),
        ("dense_input_gradient", {"activation": "sigmoid"}),
        ("adam", {"beta_1": 0.8}),
        ("adam", {"weight_decay": 0.1}),
    ],
)
def test_a_changed_constant_changes_training(op: str, attrs: dict[str, Any]) -> None:
    plan = toy_plan(Adam())
    steps = list(plan.programs["train"])
    at = next(i for i, step in enumerate(steps) if step.op == op)
    assert set(attrs) <= set(steps[at].attrs)
    steps[at] = replace(steps[at], attrs={**steps[at].attrs, **attrs})
    assert differs(train_one(plan), train_one(with_steps(plan, "train", steps)))


# Several models at once


@pytest.mark.parametrize(
    "optimizer",
    [SGD(), SGD(momentum=0.9, nesterov=True), Adam(global_clipnorm=0.1), RMSprop(clipnorm=0.05)],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_three_models_at_once_equal_three_trainings(optimizer: Optimizer, dtype: str) -> None:
    seeds, rates, drops = [3, 2**64 - 1, 2**40], [0.1, 0.03, 0.2], [0.4, 0.0, 0.7]
    together = train(toy_plan(optimizer, 3, precision=dtype), seeds, rates, drops)
    # Rounding of sums in another order, over six steps.
    rtol = 2e-5 if dtype == "float32" else 1e-13
    for model in range(3):
        one = (seeds[model : model + 1], rates[model : model + 1], drops[model : model + 1])
        alone = train(toy_plan(optimizer, precision=dtype), *one)
        assert alone.keys() == together.keys()
        np.testing.assert_array_equal(together["order"][model], alone["order"])
        for name, expected in alone.items():
            np.testing.assert_allclose(
                together[name][model], expected, rtol, atol=rtol, err_msg=name
            )
    assert not np.array_equal(together["order"][0], together["order"][1])


# What is refused


def head(units: int, activation: str | None) -> Graph:
    inputs = Input((3,))
    return build_graph([inputs], [Dense(units, activation=activation, name="out")(inputs)])


def build(graph: Graph, *outputs: OutputSpec, **options: Any) -> Plan:
    return build_plan(graph, batch_size=2, outputs=outputs, optimizer=SGD(), **options)


def spec(loss: str, *some: str, from_logits: bool | None = None) -> OutputSpec:
    chosen = losses.get(loss)
    if from_logits is not None:
        chosen = replace(chosen, from_logits=from_logits)
    return OutputSpec(chosen, tuple(map(metrics.get, some)))


@pytest.mark.parametrize("name", ["step", "sign"])
def test_training_through_a_jump_is_refused(name: str) -> None:
    inputs = Input((3,))
    fused = Dense(2)(Dense(4, activation=name, name="jumps")(inputs))
    alone = Dense(2)(Activation(name, name="jumps")(Dense(4, activation="relu")(inputs)))
    for output in (fused, alone):
        graph = build_graph([inputs], [output])
        with pytest.raises(PlanError, match=f"'jumps' uses '{name}'"):
            build(graph, MSE)
        build(graph, MSE, programs=("evaluate", "predict"))  # what is not trained may jump
    # Nor is anything trained that lies before the first weights.
    build(build_graph([inputs], [Dense(2)(Activation(name)(inputs))]), MSE)


@pytest.mark.parametrize(
    ("graph", "output", "message"),
    [
        (head(3, None), spec("sparse_categorical_crossentropy"), "does not end with softmax"),
        (head(3, "sigmoid"), spec("categorical_crossentropy"), "does not end with softmax"),
        (head(1, None), spec("binary_crossentropy"), "does not end with sigmoid"),
        (head(2, "softmax"), spec("binary_crossentropy"), "does not end with sigmoid"),
        (
            head(3, "softmax"),
            spec("sparse_categorical_crossentropy", from_logits=True),
            "leave out one of the two",
        ),
        (
            head(1, "sigmoid"),
            spec("binary_crossentropy", from_logits=True),
            "leave out one of the two",
        ),
        (head(1, "softmax"), spec("sparse_categorical_crossentropy"), "at least two outputs"),
        (
            head(1, None),
            spec("categorical_crossentropy", from_logits=True),
            "at least two outputs",
        ),
        (head(1, None), spec("mse", "categorical_accuracy"), "use 'binary_accuracy'"),
        (
            head(3, "softmax"),
            spec("sparse_categorical_crossentropy", "mae"),
            "does not work on class numbers",
        ),
    ],
)
def test_what_does_not_fit_the_output_is_refused(
    graph: Graph, output: OutputSpec, message: str
) -> None:
    with pytest.raises(PlanError, match=message) as error:
        build(graph, output)
    if "crossentropy" not in str(error.value):
        assert "'out'" in str(error.value)


def test_missing_parts_are_refused() -> None:
    with pytest.raises(ArgumentError, match="needs an optimizer"):
        build_plan(head(1, None), batch_size=2, outputs=[MSE])
    with pytest.raises(ArgumentError, match="need a loss"):
        build(head(1, None))
    with pytest.raises(ArgumentError, match="1 outputs need as many specs, not 2"):
        build(head(1, None), MSE, MSE)
    inputs = Input((3,))
    with pytest.raises(PlanError, match="no weights to train"):
        build(build_graph([inputs], [Rescaling(2.0)(inputs)]), MSE)
    images = Input((2, 3))
    with pytest.raises(PlanError, match="softmax expects one axis"):
        build(build_graph([images], [Activation("softmax")(images)]), MSE)


def test_binding_checks_what_it_is_given() -> None:
    bound = BoundPlan(build(head(1, None), MSE), NumpyReference())
    for rows in (0, 3):
        with pytest.raises(PlanError, match="does not fit 2"):
            bound.calls("train", rows)
    with pytest.raises(PlanError, match="No array is attached for 'data/input_layer'"):
        bound.calls("train")
    bigger = build(head(100, None), MSE)
    with pytest.raises(PlanError, match="'parameters' belongs to another graph"):
        BoundPlan(bigger, NumpyReference(), {PARAMETERS: bound.regions[PARAMETERS]})


def test_shared_regions_are_used_not_copied() -> None:
    first = BoundPlan(build(head(2, None), MSE), NumpyReference())
    second = BoundPlan(
        build(head(2, None), MSE), NumpyReference(), {PARAMETERS: first.regions[PARAMETERS]}
    )
    first.write("parameters/out/bias", [1.5, -2.5])
    np.testing.assert_array_equal(second.read("parameters/out/bias"), [1.5, -2.5])


# What it imports

BUILD = """
import sys
from gpunn import losses, optimizers
from gpunn.graph import build_graph
from gpunn.layers import Dense, Dropout, Input
from gpunn.plan.build import OutputSpec, build_plan
x = Input((3,))
graph = build_graph([x], [Dense(2)(Dropout(0.5)(Dense(4, activation="gelu")(x)))])
spec = OutputSpec(losses.MeanSquaredError())
build_plan(graph, batch_size=2, outputs=[spec], optimizer=optimizers.Adam()).describe()
print(sorted({"numba", "cupy", "llvmlite"} & set(sys.modules)))
"""


def test_building_a_plan_needs_no_device() -> None:
    done = subprocess.run([sys.executable, "-c", BUILD], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
