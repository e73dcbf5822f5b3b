"""Marks in time between calls: the host's clock, or events in the GPU's own stream."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any

from gpunn.backends.interface import Backend


class Marks(ABC):
    """A row of marks; `mark` costs little and waits for nothing."""

    @abstractmethod
    def mark(self) -> None:
        """Set a mark behind what was called so far."""

    @abstractmethod
    def seconds(self) -> list[float]:
        """Return the time from each mark to the next, and begin anew."""


class HostMarks(Marks):
    """Marks on ``time.perf_counter``: for backends that compute as they are called."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def mark(self) -> None:
        self._times.append(time.perf_counter())

    def seconds(self) -> list[float]:
        times, self._times = self._times, []
        return [later - earlier for earlier, later in pairwise(times)]


class EventMarks(Marks):
    """CUDA events, which the GPU stamps as it comes to them.

    Parameters
    ----------
    driver : CupyDriver
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._events: list[Any] = []
        self._spare: list[Any] = []

    def mark(self) -> None:
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


def marks(backend: Backend) -> Marks:
    """Return marks for `backend`."""
    driver = getattr(backend, "driver", None)
    return EventMarks(driver) if hasattr(driver, "_stream") else HostMarks()
