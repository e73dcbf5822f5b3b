"""Where kernel sources are, what they include, and where what was compiled from them is kept."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path

import gpunn
from gpunn.backends.cuda.driver import Source
from gpunn.errors import DeviceError

logger = logging.getLogger("gpunn")

_HASH_BYTES = hashlib.sha256().digest_size
_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


@lru_cache(maxsize=1)
def kernels_folder() -> Path:
    """Return the folder of the kernels: in the installed package, or beside it in a checkout."""
    package = Path(gpunn.__file__).parent
    for folder in (package / "kernels", package.parent / "kernels"):
        if (folder / "prelude.cuh").is_file():
            return folder
    raise DeviceError(
        f"The kernel sources are missing from {package / 'kernels'}; install gpunn again."
    )


@cache
def texts(file: str) -> dict[str, str]:
    """Return the text of `file` and of everything it includes, by name, `file` first."""
    found: dict[str, str] = {}
    waiting = [file]
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = (kernels_folder() / name).read_text(encoding="utf-8")
            waiting += _INCLUDE.findall(found[name])
    return found


def digest(source: Source, *options: str) -> str:
    """Return a hash of the sources, the macros and whatever else decides what is compiled."""
    state = hashlib.sha256()
    for name, text in sorted(texts(source.file).items()):
        state.update(f"{name}\0{text}\0".encode())
    state.update("\0".join((source.file, *source.defines, "", *options)).encode())
    return state.hexdigest()[:32]


def cache_folder(kind: str) -> Path:
    """Return the user's folder for compiled kernels of a kind ("cubin", "simulator"); made."""
    import platformdirs

    folder = Path(platformdirs.user_cache_dir("gpunn")) / "kernels" / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cached(kind: str, name: str, make: Callable[[], bytes]) -> bytes:
    """Return what `make` returns, from the user's folder if it is kept there unharmed.

    In the file a SHA-256 precedes the contents, so that a damaged file is made anew. Where the
    folder cannot be used nothing is kept; the log says so once.
    """
    try:
        file = cache_folder(kind) / name
    except OSError as error:
        _warn_of_cache(error.filename, error.strerror)
        return make()
    try:
        kept = file.read_bytes()
    except OSError:  # there is none, most of the time
        kept = b""
    checksum, contents = kept[:_HASH_BYTES], kept[_HASH_BYTES:]
    if hashlib.sha256(contents).digest() == checksum:
        return contents
    contents = make()
    try:
        _replace(file, hashlib.sha256(contents).digest() + contents)
    except OSError as error:
        _warn_of_cache(str(file.parent), error.strerror)
    return contents


def _replace(file: Path, contents: bytes) -> None:
    """Write a file such that another process sees it whole or not at all."""
    handle, name = tempfile.mkstemp(prefix=".", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as temporary:
            temporary.write(contents)
        Path(name).replace(file)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


@cache
def _warn_of_cache(folder: str | None, reason: str | None) -> None:
    logger.warning(
        "compiled kernels cannot be kept in %s (%s), so every process compiles them", folder, reason
    )
