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

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import pytest
from gradient_nets import NETS, NORMALIZATIONS, Net, net
from gradient_runs import BATCH_SIZE, TOLERANCE, H, Run, layer_by_layer, total_loss
from hypothesis import given, settings
from hypothesis import strategies as st
from op_runs import needs_compiler

from gpunn import losses
from gpunn.backends.cpu.backend import NumbaCPU
from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.cuda.simulator.driver import SimulatorDriver
from gpunn.backends.interface import Backend
from gpunn.backends.reference.backend import NumpyReference
from gpunn.layers import (
    Activation,
    Add,
    Concatenate,
    Dense,
    Dropout,
    Input,
    Multiply,
    PReLU,
    Rescaling,
)
from gpunn.optimizers import SGD, Adam
from gpunn.plan.spec import GRADIENTS, PARAMETERS, OutputSpec
from gpunn.specs.graph import build_graph
from gpunn.specs.layers.base import SymbolicTensor

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


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    with on("cpu").threads():
        yield


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

KINDS = ("dense", "shared", "add", "multiply", "join", "act", "drop", "affine", "prelu")
KINDS += tuple(NORMALIZATIONS)
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
        elif kind == "multiply":
            tensors.append(Multiply()([Activation("tanh")(source), draw(pick)]))
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
@settings(max_examples=60)
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
