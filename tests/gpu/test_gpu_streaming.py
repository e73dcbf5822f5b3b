"""Data that do not fit the GPU are streamed to it, and everything comes out as if they did."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from gpu_nets import net

from gpunn.optimizers import SGD
from gpunn.schedules import ExponentialDecay

ROWS, BATCH = 20_011, 50


@pytest.mark.parametrize("eager", [True, False], ids=["eager", "graphs"])
def test_streamed_data_give_the_bits_of_data_on_the_gpu(
    eager: bool, caplog: pytest.LogCaptureFixture
) -> None:
    import cupy

    rng = np.random.default_rng(0)
    x = rng.integers(256, size=(ROWS, 784), dtype=np.uint8)
    y = rng.integers(10, size=ROWS)
    few, held = (x[:99], y[:99]), (x[:8000], y[:8000])
    caplog.set_level(logging.INFO, "gpunn")
    pool, runs = cupy.get_default_memory_pool(), []
    for limited in (False, True):
        rate = ExponentialDecay(0.05, decay_steps=100, decay_rate=0.9)
        one = net(SGD(rate, momentum=0.9), hidden=(100,), eager=eager)
        # What the plans take is not to be counted.
        one.fit(*few, BATCH, steps=1, verbose=0, validation_data=few)
        one.predict(few[0])
        caplog.clear()
        pool.free_all_blocks()
        if limited:
            pool.set_limit(pool.total_bytes() + (8 << 20))
        try:
            history = one.fit(x, y, BATCH, epochs=4, verbose=0, validation_data=held)
            found: list[Any] = [history.history, one.predict(x).tobytes()]
        finally:
            pool.set_limit(0)
        said = [r.getMessage() for r in caplog.records if "streamed in blocks" in r.getMessage()]
        assert len(said) == (3 if limited else 0)
        runs.append([*found, [w.tobytes() for w in one.get_weights()]])
    assert runs[0] == runs[1]


def test_arrays_on_the_gpu_stay_there(caplog: pytest.LogCaptureFixture) -> None:
    import cupy

    x, y = cupy.zeros((ROWS, 784), cupy.uint8), cupy.zeros(ROWS, cupy.int32)
    one = net(eager=False)
    one.fit(x[:99], y[:99], BATCH, verbose=0)
    caplog.set_level(logging.INFO, "gpunn")
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(pool.total_bytes() + (8 << 20))
    try:
        one.fit(x, y, BATCH, verbose=0)
    finally:
        pool.set_limit(0)
    assert not [r for r in caplog.records if "streamed" in r.getMessage()]
