"""Where kernel sources are, what they include, and where what was compiled from them is kept."""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path

import gpunn
from gpunn.backends.cuda.driver import KernelSource
from gpunn.cache_folder import user_cache
from gpunn.errors import DeviceError

logger = logging.getLogger("gpunn")

_HASH_BYTES = hashlib.sha256().digest_size
_SPARE: dict[str, Path] = {}  # files in the temporary folder
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


def texts(file: str) -> dict[str, str]:
    """Return the text of `file` and of everything it includes, by name, `file` first.

    The files of the kernels folder are read once. One that is named by its full path may be
    edited while the process runs: it is read at every call, and what it includes.

    Raises
    ------
    DeviceError
        One of them cannot be read.
    """
    return _read(file) if Path(file).is_absolute() else _read_once(file)


def _read(file: str) -> dict[str, str]:
    paths: dict[str, Path] = {}
    found: dict[str, str] = {}
    waiting: list[tuple[str, Path | None]] = [(file, None)]
    while waiting:
        name, including = waiting.pop(0)
        path = _locate(name, including)
        if name not in paths:
            try:
                found[name] = path.read_text(encoding="utf-8")
            except (OSError, UnicodeError) as error:
                raise DeviceError(f"the kernel file {path} cannot be read: {error}") from error
            paths[name] = path
            waiting += [(one, path) for one in _INCLUDE.findall(found[name])]
        elif not path.samefile(paths[name]):
            # NVRTC knows them by the name alone.
            raise DeviceError(
                f"{paths[name]} and {path} are both included as {name!r}; rename one of them"
            )
    return found


_read_once = cache(_read)


def _locate(name: str, including: Path | None) -> Path:
    """Return the path of a file as compilers find it: beside the including one comes first."""
    folder = kernels_folder()
    for place in (folder,) if including is None else (including.parent, folder):
        if (place / name).is_file():
            return place / name
    if including is not None:
        raise DeviceError(f"{including} includes {name!r}, which is not beside it nor in {folder}")
    if Path(name).is_absolute():
        raise DeviceError(f"there is no kernel file {name}")
    raise DeviceError(
        f"there is no kernel file {name!r} in {folder}; one elsewhere is named by its full path"
    )


def digest(source: KernelSource, *options: str) -> str:
    """Return a hash of the sources, the macros and whatever else decides what is compiled."""
    state = hashlib.sha256()
    for name, text in sorted(texts(source.file).items()):
        state.update(f"{name}\0{text}\0".encode())
    state.update("\0".join((source.file, *source.defines, "", *options)).encode())
    return state.hexdigest()[:32]


def cache_folder(kind: str) -> Path:
    """Return the user's folder for compiled kernels of a kind ("cubin", "simulator"); made."""
    folder = user_cache() / "kernels" / kind
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
        replace(file, hashlib.sha256(contents).digest() + contents)
    except OSError as error:
        _warn_of_cache(str(file.parent), error.strerror)
    return contents


def cached_file(kind: str, name: str, make: Callable[[], bytes]) -> Path:
    """Return a file of what `make` returns, from the user's folder if it is kept there unharmed.

    Beside it lies its SHA-256, so that a damaged file is made anew. Where the folder cannot be
    used the file lies in a temporary one, for this process; the log says so once.

    Raises
    ------
    DeviceError
        It can be written nowhere.
    """
    if name in _SPARE and _is_whole(_SPARE[name]):
        return _SPARE[name]
    contents = None
    folder = None
    try:
        folder = cache_folder(kind).absolute()
        if _is_whole(folder / name):
            return folder / name
        contents = make()
        return _keep(folder / name, contents)
    except OSError as error:
        _warn_of_cache(str(folder or error.filename), error.strerror)
    try:
        file = _temporary_folder() / name
        _SPARE[name] = _keep(file, make() if contents is None else contents)
        return file
    except OSError as error:
        raise DeviceError(f"compiled kernels cannot be written anywhere: {error}") from error


def _checksum_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def _is_whole(file: Path) -> bool:
    try:
        checksum = hashlib.sha256(file.read_bytes()).hexdigest()
        return _checksum_file(file).read_bytes() == checksum.encode()
    except OSError:  # there is none, most of the time
        return False


def _keep(file: Path, contents: bytes) -> Path:
    replace(file, contents)
    replace(_checksum_file(file), hashlib.sha256(contents).hexdigest().encode())
    return file


@cache
def _temporary_folder() -> Path:
    """Return a folder that goes when the process ends."""
    folder = tempfile.mkdtemp(prefix="gpunn-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def replace(file: Path, contents: bytes) -> None:
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
