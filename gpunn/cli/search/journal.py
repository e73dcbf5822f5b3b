"""The journal of a search, and locks that a killed process cannot leave behind.

Optuna's own file locks are files: one that a killed process leaves makes the others wait for
half a minute. These are held by the kernel (flock), which frees them when a process ends in
whatever way; so they also tell whether the process that took a trial is still there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

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


class Presence:
    """A locked file that says that this process is there.

    Parameters
    ----------
    folder : Path
        Where the processes of the search have their files.
    name : str
        Different for each process.
    """

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(exist_ok=True)
        self._lock = FileLock(folder / f"{name}.lock")
        self._lock.acquire()

    def end(self) -> None:
        """Take the file away."""
        with suppress(OSError):
            self._lock.path.unlink()
        self._lock.release()


def is_present(folder: Path, name: str) -> bool:
    """Return whether the process of that name is there; if not, clear its file away."""
    path = folder / f"{name}.lock"
    if not path.exists():
        return False
    lock = FileLock(path)
    if not lock.acquire(wait=False):
        return True
    with suppress(OSError):
        path.unlink()
    lock.release()
    return False


class Journal(JournalFileBackend):
    """Optuna's journal, one record a line, which survives a line that was written in part.

    A process that is killed while it writes leaves part of a line. Optuna's readers pass over it
    as long as it is the last one; what is written after it would be part of that line, and lost.
    So it is cut off first: it was never a record.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._own_lock = FileLock(path.with_suffix(".journal-lock"))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write records, whole ones after whole ones."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        try:
            with self._own_lock.held(), self._path.open("r+b") as file:
                file.truncate(file.seek(_end_of_lines(file)))
                file.write(lines.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            error.filename = error.filename or str(self._path)  # not said of a full disk
            raise


def _end_of_lines(file: IO[bytes]) -> int:
    """Return where the last whole line ends; a search from the end, a piece at a time."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
