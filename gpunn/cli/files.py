"""Files that the commands write: complete, or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any


@contextmanager
def whole_file(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file to write that takes its place when it is complete; errors name `path`.

    What was there before stays if writing fails. What is no regular file, a pipe say, is written
    as it is.
    """
    target = Path(os.path.realpath(path))
    text = {} if "b" in mode else {"newline": "", "encoding": "utf-8"}
    try:
        if target.exists() and not target.is_file():
            with target.open(mode, **text) as file:  # type: ignore[call-overload]
                yield file
            return
        temporary = target.with_name(f".gpunn-{secrets.token_hex(8)}.tmp")
        try:
            with temporary.open(mode.replace("w", "x"), **text) as file:  # type: ignore[call-overload]
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
