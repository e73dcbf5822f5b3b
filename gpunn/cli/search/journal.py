"""Locks of a search that a killed process cannot leave behind, for Optuna's journal too.

Optuna's own file locks are files: one that a killed process leaves makes the others wait for
half a minute. These are held by the kernel (flock), which frees them when a process ends in
whatever way; so they also tell whether the process that took a trial is still there.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend

from gpunn.errors import ArgumentError

try:
    import fcntl
except ImportError as error:  # on Windows
    raise ArgumentError(
        "gpunn search needs the file locks of Linux or macOS, which this system does not have."
    ) from error


class FileLock:
    """A lock on a file, which is made if it is not there.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock; without `wait`, return False where another process has it."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock within the context."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def remove(self) -> None:
        """Take the file away, and give the lock back."""
        with suppress(OSError):
            self.path.unlink()
        self.release()


class JournalLock(FileLock):
    """The lock that Optuna takes before it writes records to `journal`, one a line.

    A process that is killed while it writes leaves part of a line. Optuna's readers pass over it
    as long as it is the last one; what is written after it would be part of that line, and lost.
    So it is cut off first: it was never a record.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(journal.with_suffix(".journal-lock"))
        self._journal = journal

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock, and cut off a last line that is not whole."""
        if not super().acquire(wait=wait):
            return False
        with self._journal.open("r+b") as file:
            if size := file.seek(0, os.SEEK_END):
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    whole = content.rfind(b"\n") + 1
                if whole < size:
                    file.truncate(whole)
        return True


class Journal(JournalFileBackend):
    """Optuna's journal with a `JournalLock`; says which file it is that cannot be written."""

    def __init__(self, path: Path) -> None:
        lock: Any = JournalLock(path)  # all that Optuna calls is acquire and release
        super().__init__(str(path), lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write records."""
        try:
            super().append_logs(logs)
        except OSError as error:
            error.filename = error.filename or self._file_path  # not said of a full disk
            raise
