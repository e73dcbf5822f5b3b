"""The same training on every device: same batches, same dropout, same losses."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from device_runs import (
    BATCH,
    OPTIMIZERS,
    assert_capture_repeats_steps,
    assert_runs_agree,
    data,
    model,
    reference_run,
    watched_run,
)
from op_runs import needs_compiler

import gpunn
from gpunn import layers
from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.cuda.driver import Launch
from gpunn.backends.cuda.simulator.driver import SimulatorDriver
from gpunn.plan.bind import BoundPlan

# 200 steps that each change a loss or weight of size 1 by about one rounding of 1.2e-7.
TOLERANCE = 2e-5


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("device", ["cpu", pytest.param("simulator", marks=needs_compiler)])
def test_a_run_equals_the_reference_step_by_step(device: str, optimizer: str) -> None:
    run = watched_run(model(device, optimizer))
    assert_runs_agree(run, reference_run(optimizer), TOLERANCE)


@needs_compiler
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_three_epochs_of_fit_on_the_simulator(optimizer: str) -> None:
    """`fit` with validation ends where the reference ends."""
    x, y = data()
    histories, weights = [], []
    for device in ("reference", "simulator"):
        net = model(device, optimizer)
        history = net.fit(x, y, BATCH, epochs=3, verbose=0, validation_data=(x[:50], y[:50]))
        histories.append(history.history)
        weights.append(net.get_weights())
        weights[-1].append(net.predict(x))
    assert histories[0].keys() == histories[1].keys()
    for name, figures in histories[0].items():
        np.testing.assert_allclose(histories[1][name], figures, atol=2e-4, rtol=0)
    for theirs, mine in zip(*weights, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-4, rtol=0)


@needs_compiler
def test_a_run_on_the_simulator_is_the_same_run_again() -> None:
    first, second = (watched_run(model("simulator", "adam"), 30) for _ in range(2))
    assert first.losses == second.losses
    for one, other in zip(first.weights, second.weights, strict=True):
        assert one.tobytes() == other.tobytes()


@needs_compiler
@pytest.mark.parametrize("program", ["train", "evaluate", "predict"])
def test_launches_are_those_of_the_plan(program: str) -> None:
    """Nothing runs that the plan does not say, and nothing is left out."""
    driver = SimulatorDriver(log=True)
    backend = CudaBackend(driver)
    net = model("reference", "adam")
    bound = BoundPlan(net.plan(BATCH, ["uint8"]), backend)
    x, y = data()
    external = {"order": np.arange(len(x)), "targets/dense_2": y.astype(np.int32)}
    external[f"data/{net.graph.input_names()[0]}"] = x.reshape(len(x), -1)
    names = set(bound.plan.buffers)
    bound.attach({k: backend.upload(v) for k, v in external.items() if k in names})
    bound.calls(program)
    assert driver.launches == 0
    bound.run(program)
    assert driver.log is not None
    expected = [
        (launch.symbol, launch.grid, launch.block, launch.shared)
        for step in bound.plan.programs[program]
        for launch in backend.work(
            step.op,
            {role: bound.array(name) for role, name in step.roles.items()},
            step.attrs,
            BATCH,
        )
        if isinstance(launch, Launch)
    ]
    assert [tuple(record) for record in driver.log] == expected
    assert driver.launches == len(expected) >= len(bound.plan.programs[program])


@needs_compiler
def test_a_captured_step_equals_the_calls_it_was_made_of() -> None:
    assert_capture_repeats_steps("simulator")


@pytest.mark.parametrize("device", ["cpu", pytest.param("simulator", marks=needs_compiler)])
def test_predictions_of_another_thread_do_not_change_a_training(device: str) -> None:
    """Ops of several launches share scratch memory on a GPU."""

    def trained(busy: bool) -> list[np.ndarray]:
        net = gpunn.Sequential(
            [gpunn.Input((2000,)), layers.Dense(20, activation="relu"), layers.Dense(3)]
        )
        net.compile("sgd", "mse", device=device, seed=0)
        net.predict(x[:128])
        done = threading.Event()

        def predict() -> None:
            while not done.is_set():
                net.predict(x[:128])

        other = threading.Thread(target=predict)
        if busy:
            other.start()
        try:
            net.fit(x, y, 128, epochs=3, verbose=0)
        finally:
            done.set()
            if busy:
                other.join()
        return net.get_weights()

    rng = np.random.default_rng(0)
    x = rng.normal(size=(512, 2000)).astype(np.float32)
    y = rng.normal(size=(512, 3)).astype(np.float32)
    for alone, beside in zip(trained(False), trained(True), strict=True):
        assert alone.tobytes() == beside.tobytes()
