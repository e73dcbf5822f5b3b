"""Small graphs, what is asked of their outputs, and plans of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gpunn import losses, metrics
from gpunn.layers import Activation, Dense, Dropout, Flatten, Input, Rescaling
from gpunn.optimizers import SGD, Optimizer
from gpunn.plan.build import build_plan
from gpunn.plan.spec import OutputSpec, Plan
from gpunn.specs.graph import Graph, build_graph

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


def normalized_plan(layer: Any, **options: Any) -> Plan:
    """5 -> 6 -> normalization -> relu -> 2, in batches of 8."""
    inputs = Input((5,))
    hidden = layer(name="norm", **options)(Dense(6, use_bias=False, name="first")(inputs))
    graph = build_graph([inputs], [Dense(2, name="last")(Activation("relu")(hidden))])
    return build_plan(graph, batch_size=8, outputs=[MSE], optimizer=SGD())


def costs(plan: Plan, program: str = "train") -> list[tuple[int, int]]:
    return [plan.step_cost(step) for step in plan.programs[program]]


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
