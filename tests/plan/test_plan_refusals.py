"""Plans that cannot be built or bound, and what is said of them."""

from __future__ import annotations

import numpy as np
import pytest
from plan_graphs import MSE, build, head, spec

from gpunn.backends.reference.backend import NumpyReference
from gpunn.errors import ArgumentError, PlanError
from gpunn.layers import Activation, Dense, Input, Rescaling
from gpunn.plan.bind import BoundPlan
from gpunn.plan.build import build_plan
from gpunn.plan.spec import PARAMETERS, OutputSpec
from gpunn.specs.graph import Graph, build_graph


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
