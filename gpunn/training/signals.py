"""Ctrl-C and SIGTERM between two steps: a signal sets a flag, the loop looks at it.

Saving inside a signal handler fails at random (h5py and NumPy may be anywhere); so the handler
only notes the signal, and the second one of the same kind gets through as usual.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupt:
    """The signal received, if any."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def raise_again(self) -> None:
        """Raise what the signal would have raised: KeyboardInterrupt, or SystemExit."""
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.number is not None:
            raise SystemExit(128 + self.number)


@contextmanager
def deferred_signals() -> Iterator[Interrupt]:
    """Within the context, SIGINT and SIGTERM are noted instead of raised.

    In another thread than the main one Python cannot set handlers: nothing is deferred there.
    Windows has no SIGTERM from outside; setting its handler does no harm. A signal that the
    process ignores (a shell's background job ignores SIGINT) stays ignored.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    previous: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        interrupt.number = number
        signal.signal(number, previous[number])

    for number in map(int, (signal.SIGINT, signal.SIGTERM)):
        handler = signal.getsignal(number)
        if handler is not signal.SIG_IGN:
            previous[number] = handler
            signal.signal(number, note)
    try:
        yield interrupt
    finally:
        for number, handler in previous.items():
            if handler is not None:
                signal.signal(number, handler)
