"""IDX files, the format of MNIST: a header of big-endian sizes, then the values.

Format (Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database"): two zero bytes, a byte for the
type of the values, a byte for the number of dimensions, a uint32 for the size of each dimension,
then the values in C order. Files are not trusted: the header must agree with the number of bytes
before it is used.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunn.errors import DatasetError

_DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_DIMENSIONS = 64  # NumPy's limit
_CHUNK = 1 << 20
DEFAULT_MAX_BYTES = 1 << 30


def read_content(path: str | os.PathLike[str], max_bytes: int = DEFAULT_MAX_BYTES) -> bytearray:
    """Read a whole file, decompressing it if it is a gzip file.

    A gzip file is recognized by its first two bytes, not by its name.

    Parameters
    ----------
    path : str or path-like
        The file.
    max_bytes : int
        Largest size of the decompressed content. It is checked while reading, so a decompression
        bomb is stopped early.

    Returns
    -------
    bytearray
        The content.

    Raises
    ------
    DatasetError
        The file cannot be read, is a damaged or truncated gzip file, or exceeds `max_bytes`.
    """
    content = bytearray()
    try:
        with Path(path).open("rb") as raw:
            zipped = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) if zipped else raw as stream:
                while chunk := stream.read(_CHUNK):
                    content += chunk
                    if len(content) > max_bytes:
                        raise DatasetError(
                            f"{os.fspath(path)}: holds more than the {max_bytes:,} bytes allowed"
                        )
    except DatasetError:
        raise
    except EOFError as error:
        raise DatasetError(f"{os.fspath(path)}: the gzip file is truncated") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"{os.fspath(path)}: the gzip file is damaged: {error}") from error
    except OSError as error:
        reason = error.strerror or error
        raise DatasetError(f"{os.fspath(path)}: cannot be read: {reason}") from error
    return content


def read_verified(path: str | os.PathLike[str], sha256: str, max_bytes: int) -> bytearray:
    """Read a file like `read_content` and verify the checksum of the content.

    Parameters
    ----------
    path : str or path-like
        The file, plain or gzip.
    sha256 : str
        SHA-256 of the decompressed content, in lower-case hex digits.
    max_bytes : int
        Largest size of the decompressed content.

    Returns
    -------
    bytearray
        The content.

    Raises
    ------
    DatasetError
        As `read_content` does, or if the checksums differ; the message has both.
    """
    content = read_content(path, max_bytes)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DatasetError(
            f"{os.fspath(path)}: the content is not the expected one: sha256 {found}, "
            f"expected {sha256}. Replace the file, or remove it so that it is searched elsewhere."
        )
    return content


def parse_idx(content: bytes | bytearray, source: str = "IDX data") -> NDArray[Any]:
    """Convert the bytes of an IDX file to an array.

    Parameters
    ----------
    content : bytes or bytearray
        The whole file, decompressed.
    source : str
        How error messages refer to it, for example by its path.

    Returns
    -------
    ndarray
        The values in native byte order, in the shape of the header. Values of one byte share the
        memory of `content` (and are read-only if that is ``bytes``).

    Raises
    ------
    DatasetError
        The header is not that of an IDX file, or does not match the size of the file.
    """
    if len(content) < 4 or content[0] or content[1]:
        magic = bytes(content[:4]).hex(" ") or "nothing"
        raise DatasetError(f"{source}: not an IDX file: starts with {magic}, not with 00 00")
    code, ndim = content[2], content[3]
    if code not in _DTYPES:
        known = ", ".join(f"0x{known:02x}" for known in _DTYPES)
        raise DatasetError(f"{source}: unknown IDX data type 0x{code:02x}; known: {known}")
    if not 1 <= ndim <= _MAX_DIMENSIONS:
        raise DatasetError(f"{source}: {ndim} dimensions; 1 to {_MAX_DIMENSIONS} can be read")

    offset = 4 + 4 * ndim
    if len(content) < offset:
        raise DatasetError(
            f"{source}: truncated: {len(content):,} bytes, but the header of {ndim} dimensions "
            f"alone takes {offset:,}"
        )
    shape = struct.unpack_from(f">{ndim}I", content, 4)
    if 0 in shape:
        raise DatasetError(f"{source}: holds no values: its header gives the shape {shape}")
    dtype = _DTYPES[code]
    # Python integers, so that huge sizes cannot wrap around to the expected one.
    expected = offset + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        what = "truncated" if len(content) < expected else "too long"
        raise DatasetError(
            f"{source}: {what}: {len(content):,} bytes, but a header of {dtype.name} and shape "
            f"{shape} means {expected:,}"
        )
    values = np.frombuffer(content, dtype, offset=offset).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def read_idx(path: str | os.PathLike[str], max_bytes: int = DEFAULT_MAX_BYTES) -> NDArray[Any]:
    """Read an IDX file, plain or gzip.

    Parameters
    ----------
    path : str or path-like
        The file.
    max_bytes : int
        Largest size of the decompressed file.

    Returns
    -------
    ndarray
        The values in native byte order, in the shape of the header; writable.

    Raises
    ------
    DatasetError
        The file cannot be read or is not exactly one IDX array. The message starts with the path.

    Examples
    --------
    >>> read_idx("train-images-idx3-ubyte.gz").shape  # doctest: +SKIP
    (60000, 28, 28)
    """
    return parse_idx(read_content(path, max_bytes), os.fspath(path))
