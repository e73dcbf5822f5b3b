"""Timers for calls: the host's clock, or events in the GPU's own stream."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any

from gpunn.backends.interface import Backend


class Timer(ABC):
    """Points in time between calls; `record` costs little and waits for nothing."""

    @abstractmethod
    def record(self) -> None:
        """Record the time behind what was called so far."""

    @abstractmethod
    def seconds(self) -> list[float]:
        """Return the time from each point to the next, and begin anew."""


class HostTimer(Timer):
    """``time.perf_counter``, for synchronous backends."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def record(self) -> None:
        self._times.append(time.perf_counter())

    def seconds(self) -> list[float]:
        times, self._times = self._times, []
        return [later - earlier for earlier, later in pairwise(times)]


class EventTimer(Timer):
    """CUDA events, which the GPU stamps as it comes to them.

    Parameters
    ----------
    driver : CupyDriver
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._events: list[Any] = []
        self._spare: list[Any] = []

    def record(self) -> None:
        driver = self._driver
        with driver.current():
            event = self._spare.pop() if self._spare else driver._cuda.Event()
            event.record(driver._stream)
        self._events.append(event)

    def seconds(self) -> list[float]:
        events, self._events = self._events, []
        self._driver.synchronize()
        elapsed = self._driver._cuda.get_elapsed_time  # milliseconds
        found = [elapsed(earlier, later) / 1e3 for earlier, later in pairwise(events)]
        self._spare += events
        return found


def timer(backend: Backend) -> Timer:
    """Return a timer for `backend`."""
    driver = getattr(backend, "driver", None)
    return EventTimer(driver) if hasattr(driver, "_stream") else HostTimer()
