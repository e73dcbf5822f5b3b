"""Only a plan's steps execute: each counts, with its constants, for one model and for several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from plan_graphs import SPARSE

from gpunn.backends.reference.backend import NumpyReference
from gpunn.layers import Dense, Dropout, Input
from gpunn.optimizers import SGD, Adam, Optimizer, RMSprop
from gpunn.plan.bind import BoundPlan
from gpunn.plan.build import build_plan
from gpunn.plan.spec import CONTROL, METRICS, PARAMETERS, Plan, Step
from gpunn.specs.graph import Graph, build_graph


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
