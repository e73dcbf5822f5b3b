"""A net of all layers, constraints, penalties, and functions of one's own, step by step."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import numpy as np
import pytest
from op_runs import needs_compiler

from gpunn import constraints, layers, losses, metrics, ops
from gpunn.backends.cpu.backend import NumbaCPU
from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.cuda.simulator.driver import SimulatorDriver
from gpunn.backends.interface import Backend
from gpunn.backends.reference.backend import NumpyReference
from gpunn.optimizers import Adam
from gpunn.plan.bind import BoundPlan
from gpunn.plan.build import build_plan
from gpunn.plan.spec import METRICS, OutputSpec, Plan
from gpunn.specs.graph import Graph, build_graph

Arrays = dict[str, np.ndarray[Any, Any]]


def log_cosh(y_true: Any, y_pred: Any) -> Any:
    error = y_pred - y_true
    return ops.softplus(-2 * error) + error


def graph(units: int) -> Graph:
    x = layers.Input((6,), name="x")
    # No beta: its gradient would be 0 but for rounding, of which Adam makes full steps.
    first = layers.BatchNormalization(momentum=0.8, center=False)(x)
    hidden = layers.Dense(units, kernel_constraint=constraints.MaxNorm(0.9), use_bias=False)(first)
    shared = layers.BatchNormalization(gamma_regularizer="l2", beta_regularizer="l1")
    left = layers.Dropout(0.2)(layers.Activation("relu")(shared(hidden)))
    right = layers.PReLU(alpha_constraint="non_neg", alpha_regularizer="l1")(shared(left))
    joined = layers.Concatenate()([layers.LeakyReLU()(layers.LayerNormalization()(right)), left])
    joined = layers.Lambda(lambda z: z + z**3 / 9)(joined)
    classes = layers.Dense(3, kernel_constraint="unit_norm", bias_regularizer="l2")(joined)
    values = layers.Dense(2, kernel_constraint=constraints.MinMaxNorm(0.3, 0.8, 0.5))(joined)
    outputs = [layers.Softmax(name="class")(classes), layers.Activation("tanh", name="y")(values)]
    return build_graph([x], outputs)


def plan(
    rows: int,
    units: int,
    models: int = 1,
    precision: str = "float32",
    programs: tuple[str, ...] = ("train",),
) -> Plan:
    smoothed = losses.SparseCategoricalCrossentropy(label_smoothing=0.1)
    return build_plan(
        graph(units),
        batch_size=rows,
        precision=precision,
        outputs=[
            OutputSpec(smoothed, (metrics.Accuracy(),)),
            OutputSpec(losses.get(log_cosh), (metrics.get(log_cosh),), loss_weight=0.5),
        ],
        optimizer=Adam(global_clipnorm=0.5),
        models=models,
        programs=programs,
    )


def bind(backend: Backend, made: Plan, draws: list[Arrays]) -> BoundPlan:
    """Bind a plan to data of two batches and a half, and to weights."""
    bound = BoundPlan(made, backend)
    rng = np.random.default_rng(1)
    rows, many = made.batch_size * 5 // 2, (made.models,) if made.models > 1 else ()
    dtype = "float64" if made.precision == "float64" else "float32"
    data = {
        "data/x": (3 + rng.normal(size=(rows, 6))).astype(dtype),
        "targets/class": rng.integers(3, size=rows).astype(np.int32),
        "targets/y": rng.uniform(-1, 1, (rows, 2)).astype(dtype),
        "order": np.broadcast_to(np.arange(rows), (*many, rows)).copy(),
    }
    bound.attach({name: backend.upload(array) for name, array in data.items()})
    for name in draws[0]:
        values = np.stack([draw[name] for draw in draws])
        bound.write(name, values if many else values[0])
    bound.write("control/learning_rate", 0.02)
    return bound


def draw(units: int, seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        ("parameters" if v.trainable else "state") + f"/{v.path}": rng.uniform(-0.5, 1, v.shape)
        if v.trainable
        else rng.uniform(0.2, 1, v.shape)
        for v in graph(units).variables
    }


def trained(backend: Backend, made: Plan, draws: list[Arrays]) -> Arrays:
    """Train three steps, the last one short; return what lasts, by name."""
    bound = bind(backend, made, draws)
    for rows in (made.batch_size, made.batch_size, made.batch_size // 2):
        bound.run("train", rows)
    kept = ("parameters/", "state/", "optimizer/", METRICS)
    return {name: bound.read(name) for name in made.buffers if name.startswith(kept)}


# With 400 rows the sums over the batch take two launches, and with 8 units four values a thread.
SIZES = [(400, 8), (40, 7)]


@pytest.mark.parametrize(("rows", "units"), SIZES)
@pytest.mark.parametrize("kind", ["cpu", pytest.param("simulator", marks=needs_compiler)])
def test_the_same_bits_again_and_the_reference(kind: str, rows: int, units: int) -> None:
    """On the simulator threads and blocks run in three orders."""
    draws = [draw(units, 0)]
    backends: list[Backend] = [NumbaCPU(), NumbaCPU()]
    if kind == "simulator":
        backends = [CudaBackend(SimulatorDriver(seed=seed)) for seed in (None, 1, 2)]
    first, *others = (trained(backend, plan(rows, units), draws) for backend in backends)
    for other in others:
        for name, values in first.items():
            assert other[name].tobytes() == values.tobytes(), name
    reference = trained(NumpyReference(), plan(rows, units), draws)
    for name, values in reference.items():
        if name.startswith(("parameters/", "state/")):  # three steps, each a few roundings
            np.testing.assert_allclose(first[name], values, rtol=2e-4, atol=2e-5, err_msg=name)


def test_only_training_trains() -> None:
    made = plan(8, 7, programs=("train", "evaluate", "predict"))
    forward = {"gather", "dense", "batch_normalization_inference", "layer_normalization", "prelu"}
    forward |= {"copy_columns", "expression", "advance"}
    figures = {"gather_rows", "softmax_cross_entropy", "expression_loss", "expression_sum"}
    found = {name: {step.op for step in steps} for name, steps in made.programs.items()}
    assert found["predict"] == forward | {"softmax"}
    assert found["evaluate"] == forward | figures | {"regularizer"}
    changed = {"activations", "batch", "control", METRICS}
    for name in ("evaluate", "predict"):
        for step in made.programs[name]:
            assert {made.buffers[buffer].region for buffer in step.outputs.values()} <= changed
            assert "gradient" not in step.outputs


def test_three_models_at_once_equal_three_trainings() -> None:
    draws = [draw(7, seed) for seed in range(3)]
    together = trained(NumpyReference(), plan(8, 7, 3, "float64"), draws)
    for number, own in enumerate(draws):
        alone = trained(NumpyReference(), plan(8, 7, 1, "float64"), [own])
        for name, values in alone.items():
            np.testing.assert_allclose(
                together[name][number], values, rtol=1e-10, atol=1e-13, err_msg=name
            )


@pytest.mark.parametrize("rows", [40, 2000])
def test_a_step_allocates_nothing(rows: int) -> None:
    bound = bind(NumbaCPU(), plan(rows, 8), [draw(8, 0)])
    bound.run("train", rows)  # compiles
    calls = bound.calls("train")

    def peak() -> int:
        bound.write("control/offset", 0)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        for call in calls:
            call()
        return tracemalloc.get_traced_memory()[1] - before

    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(4):
            peak()
        grown = peak()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert grown < 40 * 8 * 4  # numbers that come and go, no block of values
