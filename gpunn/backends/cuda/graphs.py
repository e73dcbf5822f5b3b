"""Steps captured once into CUDA graphs and replayed, so that an epoch is a handful of launches.

A launch costs the host some microseconds, as long as a small kernel runs; a graph of many launches
costs it about as much as one. What changes from step to step (offset, step, learning rate) is read
from device memory, so that a graph holds for every step.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from gpunn.backends.cuda.driver import Driver
from gpunn.backends.interface import Call
from gpunn.errors import DeviceError

logger = logging.getLogger("gpunn")

# Steps of the graphs, the largest first. Sixty-four steps of a small net are a millisecond, beside
# which a launch is nothing; more would only make the capture longer and the graph larger.
GRAPH_SIZES = (64, 8, 1)
# To capture and instantiate a graph costs about as much as to launch these steps one by one.
WARMUP_STEPS = 8
MAX_CACHED = 32  # lists of calls that keep graphs, at most one for each entry of `GRAPH_SIZES`


class Graphs:
    """The CUDA graphs of a backend.

    Parameters
    ----------
    driver : Driver
    launch_lock : re-entrant lock
        Held by those whose launches other threads' must not come between.
    steps : int, optional
        Of the largest graph, where that has been measured.

    Attributes
    ----------
    enabled : bool
        Whether to make graphs; otherwise all kernels are launched one by one.
    """

    def __init__(
        self, driver: Driver, launch_lock: AbstractContextManager[Any], steps: int | None = None
    ) -> None:
        self.driver, self.launch_lock, self.enabled = driver, launch_lock, True
        most = steps or GRAPH_SIZES[0]
        self.sizes = (most, *(size for size in GRAPH_SIZES if size < most))
        self._recent: dict[int, weakref.ref[Repeated]] = {}

    def repeated(self, calls: Sequence[Call]) -> Repeated:
        """Return what runs `calls` as often as it is told."""
        return Repeated(self, calls)

    def note_use(self, repeated: Repeated) -> None:
        """Note that these graphs were used last; let go of those that have been longest unused."""
        number, recent = id(repeated), self._recent
        reference = recent.pop(number, None)
        recent[number] = reference or weakref.ref(repeated, lambda _: recent.pop(number, None))
        while len(recent) > MAX_CACHED:
            oldest = recent.pop(next(iter(recent)), lambda: None)()
            if oldest is not None:
                oldest.forget()

    def disable(self, error: DeviceError) -> None:
        """Go on without graphs."""
        self.enabled = False
        logger.warning("no CUDA graphs: kernels are launched one by one (%s)", error)


class Repeated:
    """Calls that are made many times over.

    Those of the first steps are made one by one: what is used a few times is not worth a capture.
    A graph of n steps is captured when n steps, and no fewer than `WARMUP_STEPS`, have been taken.

    Parameters
    ----------
    graphs : Graphs
    calls : sequence of Call
        One step. Their kernels are loaded and their arrays stay where they are.
    """

    def __init__(self, graphs: Graphs, calls: Sequence[Call]) -> None:
        self._graphs, self._calls = graphs, tuple(calls)
        self._captured: dict[int, Call] = {}
        self._taken = 0

    def __call__(self, count: int) -> None:
        """Take `count` steps."""
        while count:
            size, graph = self._largest(count)
            if graph is None:
                for call in self._calls:
                    call()
            else:
                # Ops of several launches hand on values in memory that all share.
                with self._graphs.launch_lock:
                    self._graphs.note_use(self)
                    graph()
            self._taken += size
            count -= size

    def _largest(self, count: int) -> tuple[int, Call | None]:
        """Return steps and call of the largest graph that fits, captured if it is time."""
        if self._graphs.enabled:
            for size in self._graphs.sizes:
                graph = self._captured.get(size)
                if size <= count and (graph or self._taken >= max(size, WARMUP_STEPS)):
                    return (size, graph) if graph else self._capture(size)
        return 1, None

    def _capture(self, size: int) -> tuple[int, Call | None]:
        try:
            graph = self._captured[size] = self._graphs.driver.capture(self._calls * size)
        except DeviceError as error:
            self._graphs.disable(error)
            return 1, None
        return size, graph

    def forget(self) -> None:
        """Let go of the graphs, until they are worth a capture again."""
        self._captured.clear()
        self._taken = 0
