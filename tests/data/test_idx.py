"""IDX files: what can be written comes back, and anything else is an error that says why."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gpunn.data.idx import parse_idx, read_content, read_idx, read_verified
from gpunn.errors import DatasetError

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array: np.ndarray) -> bytes:
    code = CODES[array.dtype.str[1:]]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def header(code: int, *shape: int) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape)


IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@given(
    st.sampled_from(sorted(CODES)).flatmap(
        lambda code: hnp.arrays(np.dtype(code), hnp.array_shapes(max_dims=4, max_side=4))
    )
)
def test_values_come_back(array: np.ndarray) -> None:
    parsed = parse_idx(idx_bytes(array))
    assert parsed.dtype == array.dtype and parsed.dtype.isnative
    np.testing.assert_array_equal(parsed, array)


@given(st.binary(max_size=64) | st.binary(max_size=64).map(lambda tail: b"\0\0\x08" + tail))
def test_arbitrary_bytes_are_an_array_of_just_these_bytes_or_an_error(content: bytes) -> None:
    try:
        parsed = parse_idx(content)
    except DatasetError:
        return
    assert idx_bytes(parsed)[: 4 + 4 * parsed.ndim] == content[: 4 + 4 * parsed.ndim]
    assert 4 + 4 * parsed.ndim + parsed.nbytes == len(content)


@pytest.mark.parametrize(
    ("name", "compress"),
    [("a-idx3-ubyte", bytes), ("a-idx3-ubyte.gz", gzip.compress), ("misnamed.gz", bytes)],
)
def test_files_plain_or_gzip(tmp_path: Path, name: str, compress: Callable[[bytes], bytes]) -> None:
    path = tmp_path / name
    path.write_bytes(compress(idx_bytes(IMAGES)))
    images = read_idx(path)
    np.testing.assert_array_equal(images, IMAGES)
    images += 1  # writable: some scale in place


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file: starts with nothing"),
        (b"\0\0\x08", "not an IDX file: starts with 00 00 08"),
        (b"PK\3\4", "not an IDX file: starts with 50 4b 03 04"),
        (header(0x0A, 1), "unknown IDX data type 0x0a; known: 0x08, 0x09"),
        (header(0x08), "0 dimensions; 1 to 64"),
        (header(0x08, *[1] * 65) + b"x", "65 dimensions; 1 to 64"),
        (header(0x08, 2, 3)[:-1], "truncated: 11 bytes, but the header of 2 dimensions alone"),
        (header(0x08, 0, 28, 28), r"holds no values: .* shape \(0, 28, 28\)"),
        (header(0x08, 2, 3) + b"12345", r"truncated: 17 bytes, .* uint8 and shape \(2, 3\) .* 18"),
        (header(0x0B, 2) + b"12345", r"too long: 13 bytes, .* int16 and shape \(2,\) means 12"),
        (header(0x0E, *[2**32 - 1] * 64), "truncated"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=message) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_sizes_that_wrap_round_in_64_bits_are_not_believed() -> None:
    # 2**16 ** 4 values are 0 modulo 2**64: as many as there are here.
    with pytest.raises(DatasetError, match=r"truncated: 20 bytes, .* means 18,446,744,073,709,551"):
        parse_idx(header(0x08, *[2**16] * 4))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda zipped: zipped[:-9], "the gzip file is truncated"),
        (lambda zipped: zipped[:-8] + b"\0" * 8, "the gzip file is damaged: CRC"),
        (lambda zipped: zipped[:10] + b"\xff" * 9 + zipped[19:], "the gzip file is damaged"),
        (lambda zipped: zipped + b"more", "the gzip file is damaged: Not a gzipped file"),
    ],
)
def test_damaged_gzip(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(damage(gzip.compress(idx_bytes(IMAGES))))
    with pytest.raises(DatasetError, match=message) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_gzip_file_without_end_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(50_000_000), compresslevel=1))
    with pytest.raises(DatasetError, match=r"bomb\.gz: holds more than the 1,000 bytes allowed"):
        read_content(path, max_bytes=1000)
    path.write_bytes(gzip.compress(bytes(1000)))
    assert len(read_content(path, max_bytes=1000)) == 1000


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nothing: cannot be read: No such file"):
        read_idx(tmp_path / "nothing")


def test_both_checksums_are_named(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    assert read_verified(path, abc, 3) == b"abc"
    with pytest.raises(DatasetError, match=f"abc: .* sha256 {abc}, expected {'0' * 64}"):
        read_verified(path, "0" * 64, 3)
