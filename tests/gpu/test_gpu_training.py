"""Training on a GPU: equal to the reference step by step, and to itself bit by bit."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

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
from gpu_nets import net

import gpunn
from gpunn import layers
from gpunn.callbacks import Callback
from gpunn.errors import DeviceError
from gpunn.optimizers import SGD
from gpunn.schedules import ExponentialDecay

TOLERANCE = 2e-5  # as in tests/backends/test_devices.py


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_equals_the_reference_step_by_step(optimizer: str) -> None:
    run = watched_run(model("cuda", optimizer))
    assert_runs_agree(run, reference_run(optimizer), TOLERANCE)


def test_a_captured_step_equals_the_calls_it_was_made_of() -> None:
    assert_capture_repeats_steps("cuda")


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("batch_size", [32, 50, 512])
def test_graphs_of_many_steps_give_the_bits_of_kernels_launched_one_by_one(
    precision: str, batch_size: int
) -> None:
    """With dropout, a rate that changes, ragged ends, validation and a callback between steps."""

    class Watch(Callback):
        every_steps = 7

        def on_steps(self, step: int) -> None:
            seen.append((step, sorted(self.trainer.logs().items())))

    x, y = noise(2011)
    rate = ExponentialDecay(0.05, decay_steps=20, decay_rate=0.9)
    runs = []
    for graphs in (False, True):
        seen: list[Any] = []
        one = net(SGD(rate, momentum=0.9), precision)
        backend: Any = one.session.backend
        backend.graphs = graphs
        history = one.fit(x, y, batch_size, epochs=12, verbose=0, validation_data=(x[:99], y[:99]))
        one.fit(x, y, batch_size, epochs=2, verbose=0, callbacks=[Watch()])
        weights = [w.tobytes() for w in one.get_weights()]
        runs.append((history.history, seen, weights, one.predict(x).tobytes()))
        assert (backend.driver.replays > 0) == graphs
        assert backend.graphs == graphs  # nothing was refused
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("optimizer", "batch_size", "precision"),
    [("sgd", 50, "float32"), ("adam", 128, "float32"), ("adam", 50, "bfloat16")],
)
def test_dependent_launches_give_the_bits_of_ordinary_ones(
    optimizer: str, batch_size: int, precision: str
) -> None:
    """Kernel by kernel and in graphs, with a new order of rows and a ragged end every epoch."""
    x, y = noise(2011)
    runs = []
    for dependent in (False, True):
        for graphs in (False, True):
            one = net(optimizer, precision)
            backend: Any = one.session.backend
            backend.graphs = graphs
            try:
                backend.driver.dependent_launches = dependent
            except DeviceError as error:
                pytest.skip(str(error))  # cuda-bindings is a package of its own
            if dependent and not backend.driver.dependent_launches:
                pytest.skip("needs a GPU of compute capability 9.0 or later")
            try:
                one.fit(x, y, batch_size, steps=200, verbose=0, validation_data=(x[:99], y[:99]))
                predicted = one.predict(x).tobytes()
            finally:
                backend.driver.dependent_launches = False
            runs.append(([w.tobytes() for w in one.get_weights()], predicted))
            assert backend.graphs == graphs  # nothing was refused
    assert all(run == runs[0] for run in runs[1:])


def test_predictions_of_another_thread_while_graphs_are_captured_and_replayed() -> None:
    alone, _ = fitted_beside_predictions(busy=False)
    beside, wrong = fitted_beside_predictions(busy=True)
    assert alone == beside and not wrong


def fitted_beside_predictions(busy: bool) -> tuple[list[bytes], list[str]]:
    """Return the weights after a fit, and what another thread found wrong meanwhile."""
    x, y = noise()
    one, other, done = net(), net(), threading.Event()
    expected, wrong = other.predict(x[:300]), []
    one.predict(x[:300])

    def predict() -> None:
        while not done.is_set():
            one.predict(x[:300])
            if other.predict(x[:300]).tobytes() != expected.tobytes():
                wrong.append("another model's predictions have changed")

    thread = threading.Thread(target=predict)
    if busy:
        thread.start()
    try:
        one.fit(x, y, 50, epochs=20, verbose=0)
    finally:
        done.set()
        if busy:
            thread.join()
    assert one.session.backend.graphs
    return [w.tobytes() for w in one.get_weights()], wrong


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_lower_precision_learns_too(precision: str) -> None:
    """Products of operands with 10 or 7 bits of fraction: same batches, loss close by."""
    run, reference = watched_run(model("cuda", "adam", precision)), reference_run("adam")
    assert run.batches == reference.batches
    assert np.mean(run.losses[-13:]) < np.mean(reference.losses[-13:]) + 0.05


def noise(rows: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(rows, 784), dtype=np.uint8), rng.integers(10, size=rows)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("batch_size", [50, 512])
def test_a_thousand_steps_give_the_same_bits_again(precision: str, batch_size: int) -> None:
    x, y = noise()
    runs = []
    for _ in range(2):
        one = net(precision=precision)
        one.fit(x, y, batch_size, steps=1000, verbose=0)
        runs.append([w.tobytes() for w in one.get_weights()])
    assert runs[0] == runs[1]


def test_cupy_arrays_go_in_and_out_without_a_trip_to_the_host() -> None:
    import cupy

    x, y = noise(500)
    on_host, on_device = net(), net()
    on_host.fit(x, y, 50, epochs=2, verbose=0)
    on_device.fit(cupy.asarray(x), cupy.asarray(y), 50, epochs=2, verbose=0)
    for one, other in zip(on_host.get_weights(), on_device.get_weights(), strict=True):
        assert one.tobytes() == other.tobytes()
    predicted = on_device.predict(cupy.asarray(x), output="cupy")
    assert isinstance(predicted, cupy.ndarray)
    np.testing.assert_array_equal(cupy.asnumpy(predicted), on_host.predict(x))


def test_torch_tensors_on_the_gpu() -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    if not torch.cuda.is_available():
        pytest.skip("needs PyTorch with CUDA")
    x, y = noise(500)
    one, other = net(), net()
    one.fit(x, y, 50, verbose=0)
    other.fit(torch.from_numpy(x).cuda(), torch.from_numpy(y).cuda(), 50, verbose=0)
    for mine, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        assert mine.tobytes() == theirs.tobytes()


def test_a_model_that_does_not_fit_says_how_much_is_free() -> None:
    wide = gpunn.Sequential([gpunn.Input((1,)), layers.Dense(2**16), layers.Dense(1)])
    wide.compile("sgd", "mse", device="cuda", seed=0)
    x = np.ones((2**21, 1), np.float32)
    with pytest.raises(DeviceError, match=r"batch size 2097152 needs [\d,]+ bytes.*free"):
        wide.fit(x, x, batch_size=len(x), verbose=0)


def test_checkpoints_resume_bit_for_bit(tmp_path: Path) -> None:
    from gpunn.callbacks import Checkpoints

    x, y = data()
    whole = model("cuda", "adam")
    whole.fit(x, y, BATCH, epochs=4, verbose=0)
    half = model("cuda", "adam")
    half.fit(x, y, BATCH, epochs=2, verbose=0, callbacks=[Checkpoints(tmp_path)])
    resumed = model("cuda", "adam")
    resumed.fit(x, y, BATCH, epochs=4, verbose=0, resume=tmp_path)
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        assert one.tobytes() == other.tobytes()


def test_mnist_reaches_the_accuracy_of_the_cpu(real_data: Path) -> None:
    (x, y), (x_test, y_test) = gpunn.datasets.mnist.load_data()
    accuracy = {}
    for device in ("cpu", "cuda"):
        one = net(gpunn.optimizers.SGD(0.3), device=device)
        one.fit(x.reshape(-1, 784), y, 128, epochs=5, verbose=0)
        accuracy[device] = one.evaluate(
            x_test.reshape(-1, 784), y_test, verbose=0, return_dict=True
        )["accuracy"]
    # Ten thousand test images: a standard deviation of 0.0014 at 98 %.
    assert abs(accuracy["cpu"] - accuracy["cuda"]) < 0.003
    assert accuracy["cuda"] > 0.975


def test_a_search_for_a_learning_rate_sees_what_the_cpu_sees_and_leaves_no_trace() -> None:
    x, y = noise()
    one, other = net("sgd"), net("sgd", device="cpu")
    before = [w.tobytes() for w in one.get_weights()]
    searches = [gpunn.find_learning_rate(m, x, y, steps=40, maximum=1e-2) for m in (one, other)]
    assert [w.tobytes() for w in one.get_weights()] == before
    np.testing.assert_allclose(searches[0].losses, searches[1].losses, rtol=1e-4)
