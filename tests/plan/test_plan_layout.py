"""Where the buffers of a plan lie: in one layout, without overlap, written before they are read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_graphs import MSE, mnist_plan

from gpunn.backends.reference.backend import NumpyReference
from gpunn.layers import (
    Activation,
    Add,
    BatchNormalization,
    Concatenate,
    Dense,
    Dropout,
    Input,
    LayerNormalization,
    Normalization,
    Rescaling,
)
from gpunn.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from gpunn.plan.bind import BoundPlan
from gpunn.plan.build import build_plan
from gpunn.plan.layout import ALIGNMENT, plan_layout
from gpunn.plan.ops import OPS
from gpunn.plan.spec import CONTROL, EXTERNAL, GRADIENTS, METRICS, PARAMETERS, STATE, slot_region
from gpunn.specs.graph import Graph, SymbolicTensor, build_graph


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


@settings(max_examples=80)
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


@settings(max_examples=80)
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


@settings(max_examples=40)
@given(random_graphs(), OPTIMIZERS)
def test_building_is_pure(graph: Graph, optimizer: Optimizer) -> None:
    first, second = (
        build_plan(graph, batch_size=4, outputs=[MSE], optimizer=optimizer) for _ in range(2)
    )
    assert first == second
