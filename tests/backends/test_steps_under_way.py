"""A device that computes while Python goes on: how many steps the trainer lets it have at once.

The simulator computes at once; here it says that it needs some time for each step, and the clock
that the trainer looks at goes on only while somebody waits.
"""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from op_runs import needs_compiler

import gpunn
from gpunn import layers
from gpunn.backends.cuda.simulator.driver import SimulatorDriver
from gpunn.callbacks import Callback
from gpunn.training import chunks

pytestmark = needs_compiler
STEPS, COST = 3000, 0.002  # seconds a step


class Device:
    """Virtual time.

    Attributes
    ----------
    now, busy_until : float
        The clock of the host; when the device will be done.
    chunks : list of int
        Steps that were handed over at once.
    most : int
        Most chunks that were under way at a time.
    """

    def __init__(self) -> None:
        self.now = self.busy_until = 0.0
        self.trainer: Any = None
        self.chunks: list[int] = []
        self.most = self.under_way = 0
        self.interrupt_at: float | None = None

    def mark(self, driver: Any) -> Any:
        steps = self.trainer.step_count - sum(self.chunks)
        self.chunks.append(steps)
        self.busy_until = end = max(self.now, self.busy_until) + steps * COST
        self.under_way += 1
        self.most = max(self.most, self.under_way)

        def wait() -> None:
            self.under_way -= 1
            self.wait_until(end)

        return wait

    def wait_until(self, end: float) -> None:
        self.now = max(self.now, end)
        if self.interrupt_at is not None and self.now >= self.interrupt_at:
            self.interrupt_at = None
            signal.raise_signal(signal.SIGINT)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Device()
    clock = SimpleNamespace(perf_counter=lambda: device.now)
    monkeypatch.setattr(chunks, "time", clock)
    monkeypatch.setattr(SimulatorDriver, "mark", lambda driver: device.mark(driver))
    monkeypatch.setattr(
        SimulatorDriver, "synchronize", lambda driver: device.wait_until(device.busy_until)
    )
    return device


def trainer(device: Device, callbacks: list[Callback]) -> gpunn.Trainer:
    net = gpunn.Sequential([gpunn.Input((2,)), layers.Dense(1)])
    net.compile("sgd", "mse", device="simulator", seed=0)
    x = np.ones((STEPS, 2), np.float32)
    made = gpunn.Trainer(net, x, x[:, :1], batch_size=1, callbacks=callbacks)
    device.trainer, device.now, device.busy_until = made, 0.0, 0.0
    return made


class Ticks(Callback):
    """Notes when it is called."""

    def __init__(self, device: Device, interval: float) -> None:
        self.device, self.interval = device, interval
        self.times: list[float] = []

    def on_interval(self, logs: Any) -> None:
        assert self.device.now == self.device.busy_until  # the figures are those of all steps
        self.times.append(self.device.now)


def test_an_epoch_takes_the_time_of_the_device_and_chunks_stay_short(device: Device) -> None:
    made = trainer(device, [])
    made.epoch()
    assert made.epoch_seconds == pytest.approx(STEPS * COST)
    assert sum(device.chunks) == STEPS
    assert device.most == 2
    # They grow to more than an eighth of a second, and stay below half a second.
    assert 0.125 < max(device.chunks) * COST < 0.5


@pytest.mark.parametrize("interval", [0.1, 1.0])
def test_a_callback_by_the_clock_is_called_in_time(device: Device, interval: float) -> None:
    ticks = Ticks(device, interval)
    trainer(device, [ticks]).epoch()
    assert max(device.chunks) * COST < interval
    gaps = np.diff([0.0, *ticks.times])
    assert len(gaps) >= 3 and gaps.min() >= interval and gaps.max() < 3 * interval


def test_a_signal_is_seen_to_within_two_chunks(device: Device) -> None:
    made = trainer(device, [])
    device.interrupt_at = 2.0
    with pytest.raises(KeyboardInterrupt):
        made.fit(5)
    assert 2.0 <= device.now < 2.0 + 2 * 0.5
    assert device.now == device.busy_until and made.step_count == sum(device.chunks)
