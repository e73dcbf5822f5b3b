"""Checkpoint files: written atomically, pruned only once the new one is durable.

`format` defines the contents of a file, `reader` how it is validated. Mind the warning there:
libhdf5 parses a file before any check of ours can run.

A file appears under its name only when it is complete: it is built in memory, written to a
temporary file in the same directory, flushed to the disk and then renamed. A process that is
killed meanwhile leaves at most a temporary file, ``.gpunn-<16 hex digits>.tmp``.
`CheckpointDirectory` removes those that are an hour old at its next save, so that it cannot
remove one that another process is still writing.
"""

from __future__ import annotations

import errno
import operator
import os
import re
import secrets
import time
import warnings
from contextlib import suppress
from pathlib import Path

from gpunn.checkpoints.format import Checkpoint, Expected, encode
from gpunn.checkpoints.reader import read, read_config
from gpunn.errors import ArgumentError, CheckpointError

__all__ = [
    "Checkpoint",
    "CheckpointDirectory",
    "Expected",
    "read",
    "read_config",
    "resolve",
    "write",
]

STEP_FILE = re.compile(r"step-([0-9]{10,})\.h5")
TEMPORARY_FILE = re.compile(r"\.gpunn-[0-9a-f]{16}\.tmp")
STALE_SECONDS = 3600.0


def write(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically, creating parent directories as needed.

    When this returns, the file survives a power failure, as far as the operating system guarantees
    it.

    Parameters
    ----------
    path : path-like
        The file.
    checkpoint : Checkpoint
        What to save.

    Raises
    ------
    CheckpointError
        The checkpoint cannot be stored or the file cannot be written; an existing file is then
        unchanged. The one exception is a directory that cannot be flushed: the new file is then
        complete and in place, but may not survive a power failure.
    """
    _replace(Path(path), encode(checkpoint))


class CheckpointDirectory:
    """A directory with the latest checkpoints of a training run, and the best one.

    Files are named ``step-0000012345.h5``, by training step, and ``best.h5``. No other files are
    touched, except stale temporary files that this module has left.

    Parameters
    ----------
    path : path-like
        The directory; created at the first save.
    keep_last : int
        Number of ``step-`` files to keep, at least 1.
    """

    def __init__(self, path: str | os.PathLike[str], keep_last: int = 3) -> None:
        if operator.index(keep_last) < 1:
            raise ArgumentError(f"keep_last must be at least 1, not {keep_last}.")
        self.path = Path(path)
        self.keep_last = keep_last

    def save(self, checkpoint: Checkpoint, step: int, best: bool = False) -> Path:
        """Write a checkpoint and, once it is durable, remove those that are no longer needed.

        Only files of earlier steps are removed. Files of later steps, left by a run that was
        resumed from an earlier one, are kept until training passes them; note that `latest` goes by
        step.

        Parameters
        ----------
        checkpoint : Checkpoint
            What to save.
        step : int
            Training step of the checkpoint, at least 0.
        best : bool
            Whether to write it as ``best.h5`` too.

        Returns
        -------
        Path
            The ``step-`` file.

        Raises
        ------
        CheckpointError
            As for `write`. Nothing has been removed then.

        Warns
        -----
        RuntimeWarning
            An old file cannot be removed; the next save tries again.
        """
        if operator.index(step) < 0:
            raise ArgumentError(f"step must be at least 0, not {step}.")
        content = encode(checkpoint)
        path = self._path_of(step)
        _replace(path, content)
        if best:
            _replace(self.path / "best.h5", content)
        self._prune(step)
        return path

    def save_best(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint as ``best.h5`` alone; errors as for `write`."""
        path = self.path / "best.h5"
        write(path, checkpoint)
        return path

    def steps(self) -> list[int]:
        """Return the training steps of the files, in ascending order."""
        try:
            names = [entry.name for entry in self.path.iterdir() if entry.is_file()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CheckpointError(f"Cannot list {self.path}: {_reason(error)}.") from error
        steps = (int(match[1]) for match in map(STEP_FILE.fullmatch, names) if match)
        return sorted(step for step in steps if self._path_of(step).name in names)

    def latest(self) -> Path | None:
        """Return the file of the last step, or None if there is none."""
        steps = self.steps()
        return self._path_of(steps[-1]) if steps else None

    def best(self) -> Path | None:
        """Return ``best.h5``, or None if there is none."""
        path = self.path / "best.h5"
        return path if path.is_file() else None

    def _path_of(self, step: int) -> Path:
        return self.path / f"step-{step:010d}.h5"

    def _prune(self, step: int) -> None:
        up_to_now = [other for other in self.steps() if other <= step]
        unneeded = [self._path_of(other) for other in up_to_now[: -self.keep_last]]
        unneeded += self._stale_temporaries()
        for path in unneeded:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                message = f"Cannot remove old checkpoint {path}: {_reason(error)}."
                warnings.warn(message, RuntimeWarning, stacklevel=3)

    def _stale_temporaries(self) -> list[Path]:
        stale = []
        for path in self.path.iterdir():
            if TEMPORARY_FILE.fullmatch(path.name):
                with suppress(FileNotFoundError):  # its process may have renamed it
                    if time.time() - path.stat().st_mtime > STALE_SECONDS:
                        stale.append(path)
        return stale


def resolve(path: str | os.PathLike[str]) -> Path:
    """Return the checkpoint file for a path.

    Parameters
    ----------
    path : path-like
        A checkpoint file, or a directory: its latest checkpoint is taken or, if it has no ``step-``
        file, its ``best.h5``.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    CheckpointError
        There is no such file or directory, or no checkpoint in the directory.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"There is no checkpoint {path}.")
    directory = CheckpointDirectory(path)
    found = directory.latest() or directory.best()
    if found is None:
        raise CheckpointError(f"There is no checkpoint in {path}: no step-*.h5 and no best.h5.")
    return found


def _replace(path: Path, content: bytes) -> None:
    """Replace `path` by a complete file, or leave it unchanged."""
    temporary = path.parent / f".gpunn-{secrets.token_hex(8)}.tmp"
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a directory")
        _make_directory(path.parent)
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:  # including interrupts: remove the temporary file
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CheckpointError(f"Cannot write checkpoint {path}: {_reason(error)}.") from error
    try:
        _sync_directory(path.parent)
    except OSError as error:
        raise CheckpointError(
            f"Checkpoint {path} is in place, but its directory cannot be flushed to the disk: "
            f"{_reason(error)}. It may not survive a power failure."
        ) from error


def _make_directory(path: Path) -> None:
    """Create a directory and its parents so that they survive a power failure, too."""
    if path.is_dir():
        return
    _make_directory(path.parent)
    path.mkdir(exist_ok=True)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    """Flush the entries of a directory, so that a rename survives a power failure.

    Windows cannot open a directory to flush it, and some network file systems do not support it;
    there the rename is as durable as the system makes it. On macOS, fsync passes data to the drive,
    which may still hold it in its cache.
    """
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
