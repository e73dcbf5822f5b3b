"""A training run on any device, watched step by step, to compare with the reference's."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np

import gpunn
from gpunn import layers
from gpunn.backends.cuda.backend import CudaBackend
from gpunn.optimizers import SGD, Adam, Optimizer, RMSprop

ROWS, BATCH = 203, 16  # the last batch of an epoch has 11 rows
SHAPE, CLASSES = (5, 5), 4
STEPS = 200
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": SGD(0.1),
    "rmsprop": RMSprop(0.002),
    "adam": Adam(0.005),
}


@dataclass
class Run:
    """What a run left behind.

    Attributes
    ----------
    batches : list of bytes
        The inputs of each step, as gathered.
    masks : list of bytes
        Which units dropout removed in each step.
    losses : list of float
    weights : list of array
    """

    batches: list[bytes] = field(default_factory=list)
    masks: list[bytes] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)


def data() -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 images with classes that can be learned."""
    rng = np.random.default_rng(3)
    y = rng.integers(CLASSES, size=ROWS)
    x = rng.integers(1, 120, size=(ROWS, *SHAPE))
    x[np.arange(ROWS), y] += 100
    return x.astype(np.uint8), y


def model(device: str, optimizer: str, precision: str = "float32") -> gpunn.Model:
    """Return a compiled net with selu, tanh and dropout."""
    net = gpunn.Sequential(
        [
            gpunn.Input(SHAPE),
            layers.Flatten(),
            layers.Rescaling(1 / 255),
            layers.Dense(20, activation="selu"),
            layers.Dense(13, activation="tanh"),
            layers.Dropout(0.2),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    loss = "sparse_categorical_crossentropy"
    chosen = OPTIMIZERS[optimizer]
    net.compile(chosen, loss, ["accuracy"], device=device, precision=precision, seed=11)
    return net


def watched_run(net: gpunn.Model, steps: int = STEPS) -> Run:
    """Train step by step, keeping batches, dropout masks and losses."""
    trainer = gpunn.Trainer(net, *data(), batch_size=BATCH)
    run = Run()
    for _ in range(steps):
        rows = min(BATCH, ROWS - trainer.offset)
        trainer.step()
        bound = trainer.bound
        run.batches.append(bound.read("activations/rescaling")[:rows].tobytes())
        run.masks.append((bound.read("activations/dropout")[:rows] == 0).tobytes())
        run.losses.append(float(bound.read("metrics/loss/batch")[0]))
    run.weights = net.get_weights()
    return run


@cache
def reference_run(optimizer: str) -> Run:
    """Return the run of the reference; computed once."""
    return watched_run(model("reference", optimizer))


def assert_runs_agree(run: Run, reference: Run, tolerance: float) -> None:
    """Check that two runs saw the same batches and masks, and came to the same losses."""
    assert run.batches == reference.batches
    assert run.masks == reference.masks
    assert any(any(mask) for mask in reference.masks)
    np.testing.assert_allclose(run.losses, reference.losses, rtol=tolerance, atol=tolerance)
    for mine, theirs in zip(run.weights, reference.weights, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance)
    assert np.mean(reference.losses[-13:]) < 0.7 * np.mean(reference.losses[:13])


def assert_capture_repeats_steps(device: str, steps: int = 5) -> None:
    """Check that a captured step, repeated, trains as the calls it was made of."""
    eager, captured = (
        gpunn.Trainer(model(device, "adam"), *data(), batch_size=BATCH) for _ in range(2)
    )
    for trainer in (eager, captured):
        trainer.step()
    for _ in range(steps):
        eager.step()
    backend = captured.session.backend
    assert isinstance(backend, CudaBackend)
    graph = backend.driver.capture(captured.bound.calls("train"))
    for _ in range(steps):
        graph()
    weights = (trainer.model.get_weights() for trainer in (eager, captured))
    for one, other in zip(*weights, strict=True):
        assert one.tobytes() == other.tobytes()
