"""Nets with batch and layer normalization: the same training on every device, and its numbers."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from op_runs import needs_compiler

import gpunn
from gpunn import layers
from gpunn.backends.cpu.backend import NumbaCPU
from gpunn.backends.interface import Backend
from gpunn.backends.reference.backend import NumpyReference
from gpunn.losses import MeanSquaredError
from gpunn.optimizers import SGD, Adam
from gpunn.plan.bind import BoundPlan
from gpunn.plan.build import build_plan
from gpunn.plan.spec import OutputSpec
from gpunn.specs.graph import Graph, build_graph

ROWS, BATCH, CLASSES = 203, 16, 4  # the last batch of an epoch has 11 rows
STEPS = 60
# 60 steps that each change a loss or weight of size 1 by a few roundings of 1.2e-7.
TOLERANCE = 2e-5
DEVICES = ["cpu", pytest.param("simulator", marks=needs_compiler)]
OPTIMIZERS: dict[str, Any] = {"sgd": SGD(0.05), "adam": Adam(0.005, clipnorm=0.5)}
Weights = list[np.ndarray[Any, Any]]


def data() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return features of very different size, with classes that can be learned."""
    rng = np.random.default_rng(3)
    y = rng.integers(CLASSES, size=ROWS)
    x = rng.normal(size=(ROWS, 6))
    x[np.arange(ROWS), y] += 2
    return (x * [1, 10, 0.1, 1, 1, 3] + [0, 100, 1, -5, 50, 0]).astype(np.float32), y


def model(device: str, optimizer: str, precision: str = "float32") -> gpunn.Model:
    """Return a compiled net.

    Nothing in it has a gradient that is 0 but for rounding, as a bias before batch normalization
    has: Adam would make steps of full size of that.
    """
    net = gpunn.Sequential(
        [
            gpunn.Input((6,)),
            layers.BatchNormalization(center=False),
            layers.Dense(20, use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.Activation("relu"),
            layers.Dropout(0.2),
            layers.Dense(13, activation="tanh"),
            layers.LayerNormalization(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    loss = "sparse_categorical_crossentropy"
    chosen = OPTIMIZERS[optimizer]
    net.compile(chosen, loss, ["accuracy"], device=device, precision=precision, seed=11)
    return net


def trained(device: str, optimizer: str, **options: Any) -> tuple[list[float], Weights]:
    """Return the loss of each step, and all weights with the moving statistics at the end."""
    net = model(device, optimizer, **options)
    trainer = gpunn.Trainer(net, *data(), batch_size=BATCH)
    losses = []
    for _ in range(STEPS):
        trainer.step()
        losses.append(float(trainer.bound.read("metrics/loss/batch")[0]))
    return losses, [*net.get_weights(), net.predict(data()[0])]


@cache
def reference(optimizer: str) -> tuple[list[float], Weights]:
    return trained("reference", optimizer)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("device", DEVICES)
def test_a_run_equals_the_reference(device: str, optimizer: str) -> None:
    """Losses step by step; weights, moving statistics and predictions at the end."""
    losses, weights = trained(device, optimizer)
    expected_losses, expected = reference(optimizer)
    np.testing.assert_allclose(losses, expected_losses, rtol=TOLERANCE, atol=TOLERANCE)
    for mine, theirs in zip(weights, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=TOLERANCE, atol=TOLERANCE)
    assert np.mean(expected_losses[-13:]) < 0.8 * np.mean(expected_losses[:13])


@pytest.mark.parametrize("device", DEVICES)
def test_a_run_is_the_same_run_again(device: str) -> None:
    first, second = (trained(device, "adam") for _ in range(2))
    assert first[0] == second[0]
    for one, other in zip(first[1], second[1], strict=True):
        assert one.tobytes() == other.tobytes()


@needs_compiler
@pytest.mark.parametrize("precision", ["float64", "tf32", "bfloat16"])
def test_every_precision_trains_on_the_simulator(precision: str) -> None:
    losses, weights = trained("simulator", "sgd", precision=precision)
    # Operands of products keep 8 bits in bfloat16, 11 in TF32.
    tolerance = {"float64": 1e-4, "tf32": 0.02, "bfloat16": 0.15}[precision]
    np.testing.assert_allclose(losses, reference("sgd")[0], rtol=tolerance, atol=tolerance)
    assert {w.dtype for w in weights} == {np.dtype("f8" if precision == "float64" else "f4")}


@pytest.mark.parametrize("device", ["reference", *DEVICES])
@pytest.mark.parametrize("rows", [1000, 40])
@pytest.mark.parametrize("units", [6, 8])
def test_a_mean_far_from_zero_loses_no_digits(device: str, rows: int, units: int) -> None:
    """Deviation 1 around 10,000, in float32, against float64."""
    rng = np.random.default_rng(5)
    x = (1e4 + rng.normal(size=(rows, units))).astype(np.float32)
    net = gpunn.Sequential([gpunn.Input((units,)), layers.BatchNormalization(), layers.Dense(1)])
    net.compile(SGD(1e-9), "mse", device=device, seed=0)
    trainer = gpunn.Trainer(net, x, np.zeros((rows, 1)), batch_size=rows, shuffle=False)
    trainer.step()
    exact = x.astype(np.float64)
    _, _, mean, variance = net.layers[0].get_weights()
    # Of variance 1 and its mean 1, one hundredth and 99 parts of 100.
    np.testing.assert_allclose(variance, 0.99 + 0.01 * exact.var(axis=0), rtol=1e-6)
    np.testing.assert_allclose(mean, 0.01 * exact.mean(axis=0), rtol=1e-6)
    normalized = (exact - exact.mean(axis=0)) / np.sqrt(exact.var(axis=0) + 1e-3)
    # The mean is kept in float32, whose values lie 0.001 apart there.
    result = trainer.bound.read("activations/batch_normalization")
    np.testing.assert_allclose(result, normalized, atol=6e-4)


@pytest.mark.parametrize("device", ["reference", *DEVICES])
def test_a_batch_of_one_row_and_a_constant_feature(device: str) -> None:
    """Their variance is 0: the result is beta, and gradients stay finite."""
    net = gpunn.Sequential([gpunn.Input((3,)), layers.BatchNormalization(), layers.Dense(2)])
    net.compile(SGD(0.1), "mse", device=device, seed=0)
    gamma, _, mean, variance, *dense = net.get_weights()
    net.set_weights([gamma, np.array([1, 2, 3]), mean, variance, *dense])
    x = np.array([[5.0, 7, 1], [5, 2, 1], [5, 4, 1]], np.float32)
    trainer = gpunn.Trainer(net, x, np.ones((3, 2)), batch_size=2, shuffle=False)
    trainer.step()
    batch = trainer.bound.read("activations/batch_normalization")
    np.testing.assert_allclose(batch[:, [0, 2]], [[1, 3]] * 2)
    beta = net.layers[0].get_weights()[1]
    trainer.step()
    one = trainer.bound.read("activations/batch_normalization")[0]
    np.testing.assert_allclose(one, beta)
    assert all(np.isfinite(w).all() for w in net.get_weights())


def test_moving_statistics_do_not_become_subnormal() -> None:
    """A processor is slow with these, and a constant feature's variance would stay one."""
    net = gpunn.Sequential([gpunn.Input((2,)), layers.BatchNormalization(), layers.Dense(1)])
    net.compile(SGD(0.1), "mse", device="cpu", seed=0)
    gamma, beta, _, _, *dense = net.get_weights()
    net.set_weights([gamma, beta, np.full(2, -2e-38), np.full(2, 1.3e-38), *dense])
    trainer = gpunn.Trainer(net, np.array([[0.0, 0], [0, 1]]), np.ones((2, 1)), batch_size=2)
    for _ in range(30):
        trainer.step()
    _, _, mean, variance, *_ = net.get_weights()
    assert mean[0] == variance[0] == 0
    moved = 1 - 0.99**30
    np.testing.assert_allclose([mean[1], variance[1]], [moved / 2, moved / 4], rtol=1e-5)


@pytest.mark.parametrize("device", ["reference", *DEVICES])
def test_an_overflow_shows_in_the_variance(device: str) -> None:
    """Also in a batch of one row, whose variance would be 0."""
    net = gpunn.Sequential(
        [gpunn.Input((1,)), layers.Dense(3, use_bias=False), layers.BatchNormalization()]
    )
    net.compile(SGD(0.1), "mse", device=device, seed=0)
    net.set_weights([np.array([[1, 3e38, 2]]), *net.get_weights()[1:]])
    trainer = gpunn.Trainer(net, np.array([[10.0]]), np.ones((1, 3)), batch_size=1)
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning, match="is not finite"):
        trainer.step()
    moving = trainer.bound.read("state/batch_normalization/moving_variance")
    np.testing.assert_array_equal(np.isnan(moving), [False, True, False])


# Plans


def graph() -> Graph:
    x = layers.Input((5,), name="x")
    hidden = layers.BatchNormalization(name="bn")(layers.Dense(7, use_bias=False, name="d")(x))
    hidden = layers.LayerNormalization(name="ln")(layers.Activation("tanh")(hidden))
    return build_graph([x], [layers.Dense(2, name="y")(hidden)])


def run(backend: Backend, models: int, draws: list[dict[str, Any]]) -> dict[str, Any]:
    """Train three steps, the last one short; return what lasts, by name."""
    spec = OutputSpec(MeanSquaredError())
    plan = build_plan(
        graph(),
        batch_size=8,
        precision="float64",
        outputs=[spec],
        optimizer=Adam(global_clipnorm=1.0),
        models=models,
    )
    bound = BoundPlan(plan, backend)
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(24, 5)), rng.normal(size=(24, 2))
    many = (models,) if models > 1 else ()
    order = np.broadcast_to(np.arange(24), (*many, 24)).copy()
    bound.attach({"data/x": x, "targets/y": y, "order": order})
    for name in draws[0]:
        values = np.stack([draw[name] for draw in draws])
        bound.write(name, values if many else values[0])
    bound.write("control/learning_rate", 0.01)
    for rows in (8, 8, 5):
        bound.run("train", rows)
    return {n: bound.read(n) for n in plan.buffers if n.startswith(("parameters/", "state/"))}


def test_three_models_at_once_equal_three_trainings() -> None:
    draws = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        draws.append(
            {
                ("parameters" if v.trainable else "state") + f"/{v.path}": rng.uniform(
                    0.2, 1, v.shape
                )
                for v in graph().variables
            }
        )
    together = run(NumpyReference(), 3, draws)
    for model_number, draw in enumerate(draws):
        for backend in (NumpyReference(), NumbaCPU(threads=1)):
            alone = run(backend, 1, [draw])
            for name, expected in alone.items():
                np.testing.assert_allclose(
                    together[name][model_number], expected, rtol=1e-9, atol=1e-12, err_msg=name
                )
            moved = alone["state/bn/moving_mean"] - draw["state/bn/moving_mean"]
            assert np.abs(moved).min() > 1e-4
