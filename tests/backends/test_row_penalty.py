"""Penalties over the rows of a batch, and plans that leave the gradient alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunn
from gpunn import Input, Sequential, layers, optimizers, regularizers
from gpunn.plan.build import build_plan
from gpunn.plan.spec import GRADIENTS, PARAMETERS

RNG = np.random.default_rng(0)
X = RNG.normal(size=(25, 4))
Y = RNG.normal(size=(25, 2))
PENALTY = regularizers.L1L2PerRow(l1=0.03, l2=0.2)
DEVICES = ("reference", "cpu", "simulator")


def model(device: str, penalty: Any, optimizer: Any = "sgd") -> Sequential:
    made = Sequential(
        [Input((4,)), layers.Dense(3, "tanh", kernel_regularizer=penalty), layers.Dense(2)]
    )
    made.compile(optimizer, "mse", device=device, precision="float64", seed=1)
    return made


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("rows", [10, 5])
def test_a_step_divides_it_by_the_rows(device: str, rows: int) -> None:
    fixed = regularizers.L1L2(PENALTY.l1 / rows, PENALTY.l2 / rows)
    found, expected = (model(device, penalty) for penalty in (PENALTY, fixed))
    figures = [m.train_on_batch(X[:rows], Y[:rows]) for m in (found, expected)]
    assert figures[0] == pytest.approx(figures[1], rel=1e-12)
    for mine, its in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(mine, its, rtol=0, atol=1e-14)


@pytest.mark.parametrize("device", DEVICES)
def test_the_shorter_last_batch_has_its_own_rows(device: str) -> None:
    found = model(device, PENALTY)
    found.fit(X, Y, batch_size=10, shuffle=False, verbose=0)
    expected = model(device, PENALTY)
    for start in (0, 10, 20):
        expected.train_on_batch(X[start : start + 10], Y[start : start + 10])
    for mine, its in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(mine, its, rtol=0, atol=1e-14)


def test_it_is_saved_with_the_model(tmp_path: Path) -> None:
    model("reference", PENALTY).save(tmp_path / "model.h5")
    assert gpunn.load_model(tmp_path / "model.h5").layers[0].kernel_regularizer == PENALTY


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("penalty", [None, PENALTY])
def test_the_gradient_alone_is_that_of_a_step(device: str, penalty: Any) -> None:
    stepped = model(device, penalty, optimizers.SGD(1.0))
    before = stepped.get_weights()
    data = stepped.prepare(X, Y)
    session = stepped.session
    plan = build_plan(
        stepped.graph,
        batch_size=len(X),
        precision="float64",
        outputs=stepped.compiled.outputs,
        programs=("gradient",),
    )
    bound = session.bind(plan)
    order = session.backend.upload(np.arange(len(X)))
    bound.attach(session.on_device(data) | {"order": order})
    bound.run("gradient")
    gradients = [bound.read(f"{GRADIENTS}/{v.path}") for v in stepped.graph.variables]
    for mine, was in zip(stepped.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, was)
    assert bound.read(GRADIENTS).shape == bound.read(PARAMETERS).shape
    bound.detach()
    stepped.train_on_batch(X, Y)
    for mine, was, gradient in zip(stepped.get_weights(), before, gradients, strict=True):
        np.testing.assert_allclose(was - mine, gradient, rtol=0, atol=1e-13)
