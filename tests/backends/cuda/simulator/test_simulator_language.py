"""What kernels are written with means to the simulator what it means to CUDA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from op_runs import needs_compiler
from planted import Run, floats, i32

from gpunn.backends.cuda.simulator.driver import SimulatorDriver
from gpunn.errors import DeviceError

pytestmark = needs_compiler

# What CUDA has built in


@pytest.mark.parametrize("name", ["int", "uint32", "float", "double", "int64", "uint64"])
def test_shuffles(driver: SimulatorDriver, run: Run, name: str) -> None:
    dtype = {"int": "int32", "float": "float32", "double": "float64"}.get(name, name)
    host = (np.random.default_rng(0).normal(size=64) * 2.0**29).astype(np.float64)
    host = np.abs(host).astype(dtype) if name.startswith("u") else host.astype(dtype)
    if dtype.endswith("64"):
        host = host * host.dtype.type(2**20 + 1)
    values = driver.upload(host)
    result = driver.upload(np.zeros((4, 64), dtype))
    lanes = np.arange(64)
    for width in (1, 2, 4, 8, 16, 32):
        segment, within = lanes // width * width, lanes % width
        for by in (0, 1, 3, 16, 31):
            run(f"shuffle_{name}", values, result, i32(by), i32(width), block=64)
            other = lanes % 32 ^ by
            beyond = other > segment % 32 + width - 1
            expected = [
                host[segment + by % width],
                host[np.where(beyond, lanes, lanes // 32 * 32 + other)],
                host[np.where(within + by < width, (lanes + by) % 64, lanes)],
                host[np.where(within >= by, lanes - by, lanes)],
            ]
            assert np.array_equal(result, expected), (width, by)


def test_votes(driver: SimulatorDriver, run: Run) -> None:
    host = np.random.default_rng(0).integers(-1, 2, 64).astype(np.int32)
    host[32:] = 5
    result = driver.upload(np.zeros((4, 64), np.uint32))
    run("votes", driver.upload(host), result, block=64)
    for warp in (0, 32):
        lanes = slice(warp, warp + 32)
        word = sum(int(bool(value)) << lane for lane, value in enumerate(host[lanes]))
        assert (result[0, lanes] == word).all()
        assert (result[1, lanes] == int(word != 0)).all()
        assert (result[2, lanes] == int(word == 0xFFFFFFFF)).all()
        assert (result[3, lanes][1::2] == word & 0xAAAAAAAA).all()
        assert (result[3, lanes][::2] == word & 0x55555555).all()


def test_block_sums(driver: SimulatorDriver, run: Run) -> None:
    host = np.random.default_rng(0).integers(-50, 50, 3 * 224).astype(np.float32)
    result = driver.upload(np.zeros(3 * 224, np.float32))
    run("sums", driver.upload(host), result, grid=3, block=224, shared=128)
    assert np.array_equal(result, np.repeat(3 * host.reshape(3, 224).sum(1), 224))


def test_indices(driver: SimulatorDriver, run: Run) -> None:
    grid, block = (3, 2, 5), (4, 2, 3)
    result = driver.upload(np.zeros((30, 24, 6), np.int32))
    run("indices", result, grid=grid, block=block)
    for b, t in np.ndindex(30, 24):
        thread = t % 4, t // 4 % 2, t // 8
        where = b % 3, b // 3 % 2, b // 6
        assert tuple(result[b, t]) == thread + where


def test_bits(driver: SimulatorDriver, run: Run) -> None:
    words = np.random.default_rng(0).integers(0, 2**32, 32, dtype=np.uint32)
    words[:4] = 0, 1, 2**31, 2**32 - 1
    result = driver.upload(np.zeros((32, 5), np.int32))
    run("bits", driver.upload(words), result)
    for word, row in zip(words.tolist(), result.view(np.uint32).tolist(), strict=True):
        text = f"{word:032b}"
        first = text[::-1].find("1") + 1
        leading = 32 - word.bit_length()
        high = word * 0xD2511F53 >> 32
        assert row == [text.count("1"), leading, first, int(text[::-1], 2), high]


# Tensor cores


def rounded(values: np.ndarray[Any, Any], bits: int, to_even: bool) -> np.ndarray[Any, Any]:
    """Round float32 to `bits` bits of fraction, by arithmetic on the numbers themselves."""
    exponent = np.frexp(values.astype(np.float64))[1]
    lowest = -125  # numbers below have fewer bits
    unit = np.ldexp(1.0, np.maximum(exponent, lowest) - 1 - bits)
    scaled = values.astype(np.float64) / unit
    below = np.floor(np.abs(scaled))
    rest = np.abs(scaled) - below
    up = (rest > 0.5) | ((rest == 0.5) & ((below % 2 == 1) if to_even else True))
    with np.errstate(over="ignore"):
        return (np.copysign(below + up, scaled) * unit).astype(np.float32)


def awkward_floats() -> np.ndarray[Any, Any]:
    """Numbers, and halfway cases, of every size and sign."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**32, 2000, dtype=np.uint32)
    words[:500] = words[:500] & 0xFFFF0000 | 0x8000  # ties for bfloat16
    words[500:1000] = words[500:1000] & 0xFFFFE000 | 0x1000  # ties for TF32
    words[1000:1100] &= 0x807FFFFF  # subnormal
    words[1100:1110] = 0x7F7FFFFF  # rounds to infinity
    values = words.view(np.float32)
    values = values[np.isfinite(values)]
    return values[: len(values) // 2 * 2]


def test_rounding_of_operands(driver: SimulatorDriver, run: Run) -> None:
    host = awkward_floats()
    result = driver.upload(np.zeros((2, host.size), np.uint32))
    run("round_operands", driver.upload(host), result, i32(host.size))
    assert (result[0] & 0x1FFF == 0).all()
    assert np.array_equal(result[0], rounded(host, 10, to_even=False).view(np.uint32))
    halves = rounded(host, 7, to_even=True).view(np.uint32) >> 16
    assert np.array_equal(result[1], halves | halves[::-1] << 16)


def test_rounding_of_infinities_and_nan(driver: SimulatorDriver, run: Run) -> None:
    words = [0x7F800000, 0xFF800000, 0x7FC00000, 0xFF800001, 0x7FFFFFFF, 0x80000000]
    result = driver.upload(np.zeros((2, 6), np.uint32))
    run(
        "round_operands", driver.upload(np.array(words, np.uint32).view(np.float32)), result, i32(6)
    )
    tf32 = result[0].view(np.float32)
    low = (result[1] << 16).view(np.float32)
    high = (result[1] & 0xFFFF0000).view(np.float32)[::-1]
    for values in (tf32, low, high):
        assert np.array_equal(values, [np.inf, -np.inf, np.nan, np.nan, np.nan, 0], equal_nan=True)
        assert np.signbit(values[5])


def fragments_of(matrix: np.ndarray[Any, Any], rows: Any, columns: Any) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(matrix[rows, columns])


def test_products_of_tf32(driver: SimulatorDriver, run: Run) -> None:
    """Layouts as "Matrix Fragments for mma.m16n8k8" of the PTX ISA gives them."""
    group, within = np.arange(32) // 4, np.arange(32) % 4
    a, b, d = (floats(m * n, m + n).reshape(m, n) for m, n in ((16, 8), (8, 8), (16, 8)))
    a_rows = np.stack([group, group + 8, group, group + 8], 1)
    a_columns = np.stack([within, within, within + 4, within + 4], 1)
    b_rows, b_columns = np.stack([within, within + 4], 1), np.stack([group, group], 1)
    d_rows = np.stack([group, group, group + 8, group + 8], 1)
    d_columns = np.stack([2 * within, 2 * within + 1] * 2, 1)
    total = driver.upload(fragments_of(d, d_rows, d_columns))
    words = (driver.upload(m.view(np.uint32)) for m in (a[a_rows, a_columns], b[b_rows, b_columns]))
    run("multiply_tf32", *words, total)
    # The tensor core takes the upper 19 bits of each word.
    low = (m.view(np.uint32) & 0xFFFFE000 for m in (a, b))
    left, right = (m.view(np.float32).astype(np.float64) for m in low)
    expected = (d + left @ right)[d_rows, d_columns]
    np.testing.assert_allclose(total, expected, rtol=0, atol=16 * 2.0**-23)


def test_products_of_bfloat16(driver: SimulatorDriver, run: Run) -> None:
    """Layouts as "Matrix Fragments for mma.m16n8k16 with floating point type" gives them."""
    group, within = np.arange(32)[:, None] // 4, np.arange(32)[:, None] % 4
    a, b = (rounded(floats(m * n, m), 7, True).reshape(m, n) for m, n in ((16, 16), (16, 8)))
    d = floats(128, 3).reshape(16, 8)
    i = np.arange(8)
    a_rows = np.where((i < 2) | ((i >= 4) & (i < 6)), group, group + 8)
    a_columns = 2 * within + i % 2 + np.where(i >= 4, 8, 0)
    i = np.arange(4)
    b_rows, b_columns = 2 * within + i % 2 + np.where(i >= 2, 8, 0), np.broadcast_to(group, (32, 4))
    d_rows, d_columns = np.where(i < 2, group, group + 8), 2 * within + i % 2
    total = driver.upload(np.ascontiguousarray(d[d_rows, d_columns]))
    packed = []
    for values in (a[a_rows, a_columns], b[b_rows, b_columns]):
        halves = values.view(np.uint32) >> 16
        packed.append(driver.upload(halves[:, ::2] | halves[:, 1::2] << 16))
    run("multiply_bf16", *packed, total)
    expected = (d + a.astype(np.float64) @ b)[d_rows, d_columns]
    np.testing.assert_allclose(total, expected, rtol=0, atol=64 * 2.0**-23)


def test_a_product_needs_the_whole_warp(driver: SimulatorDriver, run: Run) -> None:
    words, total = driver.upload(np.zeros(128, np.uint32)), driver.upload(floats(128))
    with pytest.raises(DeviceError, match=r"mma \(planted.cu:\d+\) with mask 0xffffffff names"):
        run("multiply_tf32", words, words, total, block=16)


# Asynchronous copies


def test_asynchronous_copies(driver: SimulatorDriver, run: Run) -> None:
    host = floats(128)
    values, result = driver.upload(host), driver.upload(np.zeros((2, 128), np.float32))
    run("copies", values, result, i32(60), shared=1024)
    assert np.array_equal(result[0], np.where(np.arange(128) < 60, host, 0))
    assert np.array_equal(result[1], np.where(np.arange(128) % 4 == 3, 0, host))


def test_a_copy_that_is_not_waited_for_gives_nan(driver: SimulatorDriver, run: Run) -> None:
    host = floats(128)
    values, result = driver.upload(host), driver.upload(np.zeros((2, 128), np.float32))
    run("copies_unawaited", values, result, i32(128), shared=1024)
    assert np.isnan(result[0]).any()  # not where a thread that waited later came first
    assert np.array_equal(result[1], np.where(np.arange(128) % 4 == 3, 0, host))


def test_copies_to_elsewhere_are_refused(driver: SimulatorDriver, run: Run) -> None:
    values, result = driver.upload(floats(129)), driver.upload(np.zeros((2, 128), np.float32))
    with pytest.raises(DeviceError, match=r"copy_async_16 .* no multiples of 16"):
        run("copies", values[1:], result, i32(128), shared=1024)
    with pytest.raises(DeviceError, match=r"copy_async_4 .* outside shared memory"):
        run("copy_beside", values, shared=256)
