"""What a plan says of its calls: FLOPs and bytes, by hand and in its table."""

from __future__ import annotations

import pytest
from plan_graphs import costs, mnist_graph, mnist_plan, normalized_plan, ops

from gpunn import constraints, losses
from gpunn.layers import BatchNormalization, Dense, Input, LayerNormalization, PReLU
from gpunn.optimizers import SGD, Adam, Optimizer
from gpunn.plan.build import build_plan
from gpunn.plan.spec import OutputSpec
from gpunn.specs.graph import build_graph

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
