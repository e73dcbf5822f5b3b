"""How many steps a device is given at once, and which callbacks get a look between them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from gpunn.backends.interface import Backend
from gpunn.training.callbacks.base import Callback, Logs, defines

logger = logging.getLogger("gpunn")

FIRST_STEPS = 16
MOST_STEPS = 1 << 20


class Chunks:
    """Steps that are handed over together: about as many as take `seconds`.

    A device computes while the next chunk is prepared. No more than two are under way, so that the
    time of a turn is that of a chunk, and a signal is soon seen to.

    Parameters
    ----------
    seconds : float
        Between two looks, at most about this long.

    Attributes
    ----------
    steps : int
        Of the next chunk.
    """

    def __init__(self, seconds: float) -> None:
        self.steps = FIRST_STEPS
        self._seconds = seconds
        self._began = 0.0
        # Waits for the steps that a device was given last; None where none are under way.
        self._last: Callable[[], object] | None = None

    def begin(self) -> None:
        """Note when the steps of a chunk are handed over."""
        self._began = time.perf_counter()

    def end(self, mark: Callable[[], object] | None) -> float:
        """Wait for the chunk before, choose the size of the next; return the seconds it took.

        Parameters
        ----------
        mark : callable, optional
            Waits for the steps of this chunk; None where they are done.
        """
        before, self._last = self._last, mark
        if before is not None:
            before()
        seconds = time.perf_counter() - self._began
        # A turn that did not wait says no more than how long it took to hand steps over.
        if seconds < self._seconds / 4 and (before is not None or mark is None):
            self.steps = min(2 * self.steps, MOST_STEPS)
        elif seconds > self._seconds:
            self.steps = max(self.steps // 2, 1)
        return seconds

    def wait(self, backend: Backend) -> float:
        """Wait for all steps that are under way; return the seconds it took."""
        began = time.perf_counter()
        backend.synchronize()
        self._last = None
        return time.perf_counter() - began


class Watchers:
    """The callbacks that look at training between two epochs' ends.

    Parameters
    ----------
    callbacks : sequence of Callback

    Attributes
    ----------
    shortest_interval : float
        Seconds until the first of them wants a look.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._begin = [c for c in callbacks if _defines_batch_hook(c, "begin")]
        self._end = [c for c in callbacks if _defines_batch_hook(c, "end")]
        self._by_steps = [(c, c.every_steps) for c in callbacks if c.every_steps]
        self._timed = [(c, c.interval) for c in callbacks if c.interval is not None]
        self.shortest_interval = min((seconds for _, seconds in self._timed), default=0.5)
        self._looked = {id(c): time.perf_counter() for c, _ in self._timed}
        self._due: list[Callback] = []

    def tell(self) -> bool:
        """Log which callbacks make steps go one by one; return whether there are any."""
        watching = sorted({type(c).__name__ for c in (*self._begin, *self._end)})
        if watching:
            names = ", ".join(watching)
            logger.info("%s looks at every batch: steps are taken one by one", names)
        return bool(watching)

    def at_most(self, steps: int, step: int) -> int:
        """Return how many of `steps` steps may be taken before somebody looks, after `step`."""
        if self._begin or self._end:
            return 1
        return min([steps, *(multiple - step % multiple for _, multiple in self._by_steps)])

    def batch_begin(self, batch: int) -> None:
        """Run what comes before a batch."""
        for callback in self._begin:
            callback.on_train_batch_begin(batch, logs={})

    def look(self, step: int) -> bool:
        """Return whether somebody looks now, after `step` steps in all."""
        now = time.perf_counter()
        self._due = [c for c, seconds in self._timed if now - self._looked[id(c)] >= seconds]
        self._looked.update((id(c), now) for c in self._due)
        due = any(step % multiple == 0 for _, multiple in self._by_steps)
        return bool(self._end or self._due or due)

    def call(self, batch: int, step: int, logs: Callable[[], Logs]) -> None:
        """Run the hooks that `look` has found due, with loss and metrics so far."""
        if self._end:
            known = logs()
            for callback in self._end:
                callback.on_train_batch_end(batch, logs=known)
        for callback, multiple in self._by_steps:
            if step % multiple == 0:
                callback.on_steps(step)
        for callback in self._due:
            callback.on_interval(logs())


def _defines_batch_hook(callback: Callback, when: str) -> bool:
    return any(defines(callback, f"on_{kind}batch_{when}") for kind in ("train_", ""))
