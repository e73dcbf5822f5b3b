"""The simulator itself: that faults planted in kernels are caught, and right kernels pass.

The kernels are written here; a fault is a macro or an argument away from the right version.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from op_runs import needs_compiler

from gpunn.backends.cuda import host_compiler, kernel_loader
from gpunn.backends.cuda.driver import Launch, Product, Source
from gpunn.backends.cuda.simulator import SimulatorDriver
from gpunn.errors import DeviceError

pytestmark = needs_compiler

KERNELS = """
#include "reduce.cuh"
#include "grid.cuh"
#include "mma.cuh"
#include "async_copy.cuh"

KERNEL(64) put(real *to, int64 index, real value) { to[index] = value; }

KERNEL(64) put_shared(real *to, int index, int seen)
{
    SHARED_MEMORY(real, shared);
    if (threadIdx.x == 0)
        shared[index] = real(1);
    __syncthreads();
    to[threadIdx.x] = shared[seen];
}

KERNEL(64) doubled(const real *from, real *to, int n)
{
    for (int64 i = first_index(); i < n; i += index_stride())
        to[i] = from[i] + from[i];
}

// Every thread passes its value to another warp and to its neighbour.
template <bool waits> DEVICE void reverse_block(const real *from, real *to)
{
    SHARED_MEMORY(real, shared);
    const int t = threadIdx.x, n = blockDim.x;
    shared[t] = from[t];
    __syncthreads();
    const real other = shared[n - 1 - t];
    if (waits)
        __syncthreads();
    shared[t] = other;
    __syncthreads();
    to[t] = shared[t ^ 1];
}
KERNEL(128) reverse(const real *from, real *to) { reverse_block<true>(from, to); }
KERNEL(128) reverse_unguarded(const real *from, real *to) { reverse_block<false>(from, to); }

// Only threads of later blocks or lower numbers may not be waited for: no barrier here at all.
KERNEL(128) pass_on(const real *from, real *to)
{
    SHARED_MEMORY(real, shared);
    const int t = threadIdx.x;
    shared[t] = from[t];
    to[t] = t ? shared[t - 1] : real(0);
}

KERNEL(128) two_barriers(int *to)
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads(), to[threadIdx.x] = 1;
}
#define SAME_LINE_BARRIER(first) if (threadIdx.x < first) __syncthreads(); else return
KERNEL(128) some_leave(int first) { SAME_LINE_BARRIER(first); }
KERNEL(128) some_leave_early(int first)
{
    if ((int)threadIdx.x < first)
        return;
    __syncthreads();
}
KERNEL(128) one_barrier_more() { for (int i = 0; i < 2 + (threadIdx.x == 5); ++i) __syncthreads(); }
KERNEL(128) lanes_left(float *to)
{
    if (threadIdx.x % 32 == 9)
        return;
    to[threadIdx.x] = __shfl_xor_sync(FULL_MASK, to[threadIdx.x], 1);
}
KERNEL(128) wrong_mask(float *to) { to[threadIdx.x] = __shfl_sync(0x00ff00ffu, 1.0f, 0); }
KERNEL(128) reads_outside_mask(float *to)
{
    if (threadIdx.x < 16)
        to[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 20);
}
KERNEL(128) mixed(float *to)
{
    if (threadIdx.x < 7)
        __syncwarp();
    else
        to[threadIdx.x] = __shfl_sync(FULL_MASK, 1.0f, 0);
}

template <typename T> DEVICE void shuffle_all(const T *from, T *to, int by, int width)
{
    const int t = threadIdx.x, n = blockDim.x;
    const T value = from[t];
    to[t] = __shfl_sync(FULL_MASK, value, by, width);
    to[n + t] = __shfl_xor_sync(FULL_MASK, value, by, width);
    to[2 * n + t] = __shfl_down_sync(FULL_MASK, value, by, width);
    to[3 * n + t] = __shfl_up_sync(FULL_MASK, value, by, width);
}
#define SHUFFLES(name, T) \\
    KERNEL(128) name(const T *from, T *to, int by, int width) { shuffle_all(from, to, by, width); }
SHUFFLES(shuffle_int, int)
SHUFFLES(shuffle_uint32, uint32)
SHUFFLES(shuffle_float, float)
SHUFFLES(shuffle_double, double)
SHUFFLES(shuffle_int64, int64)
SHUFFLES(shuffle_uint64, uint64)

KERNEL(64) votes(const int *from, uint32 *to)
{
    const int t = threadIdx.x;
    to[t] = __ballot_sync(FULL_MASK, from[t]);
    to[64 + t] = (uint32)__any_sync(FULL_MASK, from[t]);
    to[128 + t] = (uint32)__all_sync(FULL_MASK, from[t]);
    if (t % 2)  // halves of a warp vote apart
        to[192 + t] = __ballot_sync(0xaaaaaaaau, from[t]);
    else
        to[192 + t] = __ballot_sync(0x55555555u, from[t]);
}

KERNEL(256) sums(const real *from, real *to)
{
    SHARED_MEMORY(real, scratch);
    const int t = blockIdx.x * blockDim.x + threadIdx.x;
    const real sum = block_sum(from[t], scratch);
    to[t] = sum + block_sum(from[t] * real(2), scratch);
}

KERNEL(64) indices(int *to)
{
    const int t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    const int b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    int *mine = to + 6 * (b * (int)(blockDim.x * blockDim.y * blockDim.z) + t);
    mine[0] = threadIdx.x, mine[1] = threadIdx.y, mine[2] = threadIdx.z;
    mine[3] = blockIdx.x, mine[4] = blockIdx.y, mine[5] = blockIdx.z;
}

KERNEL(64) bits(const uint32 *from, int *to)
{
    const uint32 x = from[threadIdx.x];
    int *mine = to + 5 * threadIdx.x;
    mine[0] = __popc(x), mine[1] = __clz(x), mine[2] = __ffs(x), mine[3] = (int)__brev(x);
    mine[4] = (int)__umulhi(x, 0xD2511F53u);
}

KERNEL(32) round_operands(const float *from, uint32 *to, int n)
{
    for (int i = threadIdx.x; i < n; i += 32) {
        to[i] = to_tf32(from[i]);
        to[n + i] = to_bf16x2(from[i], from[n - 1 - i]);
    }
}

#define LOAD_FRAGMENTS                                      \\
    uint32 fa[4], fb[2];                                    \\
    float fd[4];                                            \\
    const int lane = threadIdx.x;                           \\
    for (int i = 0; i < 4; ++i)                             \\
        fa[i] = a[4 * lane + i], fd[i] = d[4 * lane + i];   \\
    for (int i = 0; i < 2; ++i)                             \\
        fb[i] = b[2 * lane + i]
KERNEL(32) multiply_tf32(const uint32 *a, const uint32 *b, float *d)
{
    LOAD_FRAGMENTS;
    mma_tf32_16x8x8(fd, fa, fb);
    for (int i = 0; i < 4; ++i)
        d[4 * lane + i] = fd[i];
}
KERNEL(32) multiply_bf16(const uint32 *a, const uint32 *b, float *d)
{
    LOAD_FRAGMENTS;
    mma_bf16_16x8x16(fd, fa, fb);
    for (int i = 0; i < 4; ++i)
        d[4 * lane + i] = fd[i];
}

// Two stages: the second copy is under way while the first is read.
template <int first_wait> DEVICE void copy_stages(const float *from, float *to, int n)
{
    SHARED_MEMORY(float, shared);
    const int t = threadIdx.x, width = 4 * blockDim.x;
    copy_async_16(shared + 4 * t, from + 4 * t, 4 * t < n);
    copy_async_commit();
    copy_async_8(shared + width + 4 * t, from + 4 * t, true);
    copy_async_4(shared + width + 4 * t + 2, from + 4 * t + 2, true);
    copy_async_4(shared + width + 4 * t + 3, 0, false);
    copy_async_commit();
    copy_async_wait<first_wait>();
    __syncthreads();
    for (int i = t; i < width; i += blockDim.x)
        to[i] = shared[i];
    copy_async_wait<0>();
    __syncthreads();
    for (int i = t; i < width; i += blockDim.x)
        to[width + i] = shared[width + i];
}
KERNEL(32) copies(const float *from, float *to, int n) { copy_stages<1>(from, to, n); }
KERNEL(32) copies_unawaited(const float *from, float *to, int n) { copy_stages<2>(from, to, n); }
KERNEL(32) copy_beside(const float *from)
{
    SHARED_MEMORY(float, shared);
    copy_async_4(shared + 64, from, true);
}

// A running sum over blocks, one round after the other.
KERNEL(64) rounds(int *values, uint32 *state, int n)
{
    const int i = (int)first_index(), size = (int)index_stride();
    for (int round = 0; round < n; ++round) {
        const int left = values[(i + size - 1) % size];
        grid_barrier(state);
        values[i] += left;
        grid_barrier(state);
    }
}
KERNEL(64) leaves_the_grid(uint32 *state) { if (blockIdx.x != 2) grid_barrier(state); }

KERNEL(32) types(real r, float f, double d, int i, uint32 u, int64 l, uint64 w, uint8 c, bool b,
                 const void *any, const float4 *vector, const uint8 *bytes, int64 *longs)
{
}
KERNEL(32) large_frame(int *to)
{
    volatile char local[70000];
    for (int i = 0; i < 70000; ++i)
        local[i] = 1;
    to[0] = local[5];
}
KERNEL(32) quotient(int *to, int by) { to[threadIdx.x] = 7 / by; }
KERNEL(32) vector_load(const float *from, float *to, int at)
{
    const float4 value = *(const float4 *)(from + at);
    to[threadIdx.x] = value.y;
}
"""

Run = Callable[..., None]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    """The kernels above, compiled into a folder of their own."""
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "planted.cu").write_text(KERNELS, encoding="utf-8")
    patch = pytest.MonkeyPatch()
    patch.setattr(kernel_loader, "cache_folder", lambda kind: folder)
    yield Source(str(folder / "planted.cu"))
    patch.undo()


@pytest.fixture(params=[None, 1, 2], ids=["in-order", "seed-1", "seed-2"])
def driver(request: pytest.FixtureRequest) -> SimulatorDriver:
    return SimulatorDriver(request.param)


@pytest.fixture
def run(source: Source, driver: SimulatorDriver) -> Run:
    """``run(symbol, *arguments, grid=1, block=32, shared=0, cooperative=False)``."""
    return runner(source, driver)


def runner(source: Source, driver: SimulatorDriver) -> Run:
    def run(
        symbol: str,
        *arguments: Any,
        grid: Any = 1,
        block: Any = 32,
        shared: int = 0,
        cooperative: bool = False,
    ) -> None:
        shape = [
            (*one, 1, 1)[:3] if isinstance(one, tuple) else (one, 1, 1) for one in (grid, block)
        ]
        driver.prepare(
            Launch(source, symbol, shape[0], shape[1], arguments, shared, cooperative)  # type: ignore[arg-type]
        )()

    return run


def i32(value: int) -> np.int32:
    return np.int32(value)


def floats(n: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=n).astype(np.float32)


# Memory


@pytest.mark.parametrize(
    ("index", "where"),
    [
        (24, "0 bytes behind"),
        (25, "4 bytes behind"),
        (-1, "4 bytes before"),
        (100, "304 bytes behind"),
    ],
)
def test_a_write_beside_an_allocation(
    driver: SimulatorDriver, run: Run, index: int, where: str
) -> None:
    other, array = driver.upload(floats(8)), driver.upload(floats(24))
    message = rf"put.*wrote {where} the memory of arguments\[0\] \(96 bytes\)"
    with pytest.raises(DeviceError, match=message):
        run("put", array, np.int64(index), np.float32(3))
    run("put", array, np.int64(23), np.float32(3))  # the guards are whole again
    assert array[23] == 3
    # Also through a view that starts elsewhere in the allocation.
    with pytest.raises(DeviceError, match=where):
        run("put", array[4:8], np.int64(index - 4), np.float32(3))
    assert np.array_equal(other, floats(8))


def test_what_is_read_behind_and_written_behind_shows(driver: SimulatorDriver, run: Run) -> None:
    """Both are NaN, and yet the write is seen."""
    values, result = driver.upload(floats(30)), driver.upload(np.zeros(30, np.float32))
    with pytest.raises(DeviceError, match=r"wrote 0 bytes behind the memory of arguments\[1\]"):
        run("doubled", values, result, i32(31))
    run("doubled", values, result, i32(30))


@pytest.mark.parametrize(
    ("index", "where"), [(16, "0 bytes behind"), (19, "12 bytes behind"), (-2, "8 bytes before")]
)
def test_a_write_beside_shared_memory(
    driver: SimulatorDriver, run: Run, index: int, where: str
) -> None:
    array = driver.upload(floats(32))
    with pytest.raises(DeviceError, match=rf"wrote {where} its shared memory \(64 bytes\)"):
        run("put_shared", array, i32(index), i32(0), shared=64)
    run("put_shared", array, i32(15), i32(15), shared=64)
    assert (array == 1).all()
    with pytest.raises(DeviceError, match=r"wrote 0 bytes behind its shared memory \(0 bytes\)"):
        run("put_shared", array, i32(0), i32(0))


def test_memory_that_was_never_written_is_nan(driver: SimulatorDriver, run: Run) -> None:
    fresh = driver.allocate(13 * 4, zeroed=False).view(np.float32)
    assert np.isnan(driver.allocate(16, zeroed=False).view(np.float64)).all()
    assert (driver.allocate(13) == 0).all()
    result = driver.upload(np.zeros(13, np.float32))
    fresh[:12] = 1
    run("doubled", fresh, result, i32(13), grid=2)
    assert (result[:12] == 2).all()
    assert np.isnan(result[12])


def test_shared_memory_that_was_never_written_is_nan(driver: SimulatorDriver, run: Run) -> None:
    array = driver.upload(floats(32))
    run("put_shared", array, i32(3), i32(4), shared=64)
    assert np.isnan(array).all()
    run("put_shared", array, i32(4), i32(4), shared=64)
    assert (array == 1).all()
    run("put_shared", array, i32(3), i32(4), shared=64)  # nothing is left from before
    assert np.isnan(array).all()


def test_running_out_of_memory() -> None:
    driver = SimulatorDriver(memory=10_000)
    first = driver.allocate(6_000)
    assert driver.free_bytes() == 4_000
    with pytest.raises(
        DeviceError, match=r"cannot allocate 5,000 bytes: 4,000 .* smaller batch_size"
    ):
        driver.allocate(5_000)
    view = first[:10]
    del first
    assert driver.free_bytes() == 4_000  # the view keeps it
    del view
    assert driver.free_bytes() == 10_000
    assert SimulatorDriver().free_bytes() > 2**20


def test_upload_write_and_download(driver: SimulatorDriver) -> None:
    host = np.asfortranarray(floats(12).reshape(3, 4))
    array = driver.upload(host)
    assert array is not host
    assert array.flags.c_contiguous
    assert array.ctypes.data % 256 == 0
    assert driver.upload(array[1:]) is not None
    view = array[1:]
    assert driver.upload(view) is view
    assert driver.upload(array[:, 1:]) is not array
    driver.write(array, 3)
    copy = driver.download(array)
    driver.write(array, np.arange(4))
    assert (copy == 3).all()
    assert (array == np.arange(4)).all()
    assert (host == floats(12).reshape(3, 4)).all()
    for shape in ((), (0, 3), (1,)):
        assert driver.upload(np.zeros(shape)).shape == shape


# Barriers


def test_a_missing_barrier_shows(source: Source) -> None:
    host = floats(96)
    right = host[::-1].reshape(-1, 2)[:, ::-1].ravel()
    wrong = 0
    for seed in (None, *range(5)):
        driver = SimulatorDriver(seed)
        values, result = driver.upload(host), driver.upload(np.zeros(96, np.float32))
        runner(source, driver)("reverse", values, result, block=96, shared=384)
        assert np.array_equal(result, right)
        runner(source, driver)("reverse_unguarded", values, result, block=96, shared=384)
        wrong += not np.array_equal(result, right)
    assert wrong >= 5


def test_another_order_shows_what_running_in_order_hides(source: Source) -> None:
    host = floats(96)
    right = np.concatenate([[0], host[:-1]]).astype(np.float32)
    results = []
    for seed in (None, 0, 1):
        driver = SimulatorDriver(seed)
        values, result = driver.upload(host), driver.upload(np.zeros(96, np.float32))
        runner(source, driver)("pass_on", values, result, block=96, shared=384)
        results.append(result.tobytes() == right.tobytes())
    assert results == [True, False, False]


@pytest.mark.parametrize(
    ("symbol", "arguments", "message"),
    [
        (
            "two_barriers",
            1,
            r"divergent __syncthreads: \d+ threads wait at planted.cu:\d+, another",
        ),
        ("some_leave", i32(40), r"__syncthreads"),
        ("some_leave_early", i32(1), r"__syncthreads"),
        ("one_barrier_more", (), r"__syncthreads"),
        (
            "lanes_left",
            2,
            r"lane 9 returned while others wait|names lanes that have left or never were: 0x0+200",
        ),
        (
            "wrong_mask",
            2,
            r"lane \d+ calls a shuffle \(planted.cu:\d+\) with mask 0x00ff00ff, which",
        ),
        ("reads_outside_mask", 2, "with mask 0x0000ffff reads lane 20"),
        ("mixed", 2, r"no thread can go on: |returned while"),
    ],
)
def test_waiting_that_cannot_end_is_reported(
    driver: SimulatorDriver, run: Run, symbol: str, arguments: Any, message: str
) -> None:
    arrays = {1: driver.upload(np.zeros(128, np.int32)), 2: driver.upload(floats(128))}
    given = (arguments,) if isinstance(arguments, np.generic) else ()
    given = (arrays[arguments],) if arguments in (1, 2) and not given else given
    with pytest.raises(
        DeviceError,
        match=rf"kernel {symbol} \(planted.cu\): block \([01], 0, 0\): "
        rf".*({message})",
    ):
        run(symbol, *given, grid=2, block=96)
    values = driver.upload(floats(96))  # the next launch is as good as new
    run("reverse", values, arrays[2][:96], block=96, shared=384)


def test_a_deadlock_says_who_waits_where(source: Source) -> None:
    driver = SimulatorDriver()
    array = driver.upload(floats(32))
    with pytest.raises(
        DeviceError, match=r"7 at __syncwarp \(planted.cu:\d+\), 25 at a shuffle \(planted.cu:\d+\)"
    ):
        runner(source, driver)("mixed", array)


def test_a_partial_warp_has_no_lanes_beyond_it(driver: SimulatorDriver, run: Run) -> None:
    array = driver.upload(floats(128))
    with pytest.raises(DeviceError, match="never were: 0xfff00000"):
        run("shuffle_float", array[:20], array[20:100], i32(1), i32(32), block=20)


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


# Cooperative launches


def test_grid_barriers(driver: SimulatorDriver, run: Run) -> None:
    host = np.random.default_rng(0).integers(0, 9, 5 * 48).astype(np.int32)
    values, state = driver.upload(host), driver.upload(np.zeros(1, np.uint32))
    expected = host
    for _ in range(2):  # the state is not reset between launches
        run("rounds", values, state, i32(3), grid=5, block=48, cooperative=True)
        for _ in range(3):
            expected = expected + np.roll(expected, 1)
        assert np.array_equal(values, expected)


def test_grid_barriers_that_cannot_end(driver: SimulatorDriver, run: Run) -> None:
    values, state = driver.upload(np.zeros(64, np.int32)), driver.upload(np.zeros(1, np.uint32))
    with pytest.raises(DeviceError, match="a launch that is not cooperative"):
        run("rounds", values, state, i32(1), grid=2)
    with pytest.raises(DeviceError, match="grid_barrier"):
        run("leaves_the_grid", state, grid=4, cooperative=True)
    driver.write(state, 7)
    with pytest.raises(DeviceError, match="state must be 0 at first"):
        run("rounds", values, state, i32(1), grid=2, cooperative=True)
    with pytest.raises(DeviceError, match="8449 blocks wait for one another, and 4224 run at once"):
        run("rounds", values, state, i32(1), grid=8449, cooperative=True)


# What is refused before the launch


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"block": 65}, "a block of 65 threads exceeds its 64"),
        ({"block": 1025}, r"block \(1025, 1, 1\) exceeds"),
        ({"block": (1, 1, 65)}, r"block \(1, 1, 65\) exceeds"),
        ({"grid": (1, 65536)}, r"grid \(1, 65536, 1\) exceeds"),
        ({"grid": 2**31}, "exceeds"),
        ({"grid": 0}, "must be 1 or more"),
        ({"block": (4, 0)}, "must be 1 or more"),
        ({"shared": 232449}, "232449 bytes of shared memory exceed 232448"),
    ],
)
def test_launches_that_cuda_refuses(source: Source, shape: Any, message: str) -> None:
    driver = SimulatorDriver()
    array = driver.upload(floats(8))
    with pytest.raises(
        DeviceError, match=rf"kernel put \(planted.cu\) cannot be launched: .*{message}"
    ):
        runner(source, driver)("put", array, np.int64(0), np.float32(0), **shape)
    assert driver.launches == 0


def test_limits_of_another_gpu(source: Source, tmp_path: Path) -> None:
    file = tmp_path / "architecture.cu"
    file.write_text(
        '#include "prelude.cuh"\nKERNEL(64) architecture(int *to) { to[0] = __CUDA_ARCH__; }\n'
    )
    driver = SimulatorDriver(architecture=75, multiprocessors=4, shared_memory=65536)
    assert driver.limits.multiprocessors == 4
    assert "7.5 with 4" in driver.describe()
    result = driver.upload(np.zeros(1, np.int32))
    run = runner(Source(str(file)), driver)
    run("architecture", result)
    assert result[0] == 750
    with pytest.raises(DeviceError, match="65540 bytes of shared memory exceed 65536"):
        run("architecture", result, shared=65540)
    with pytest.raises(DeviceError, match="65 blocks wait for one another, and 64 run at once"):
        run("architecture", result, grid=65, block=64, cooperative=True)


def test_arguments_are_checked(source: Source) -> None:
    driver = SimulatorDriver()
    run = runner(source, driver)
    real = driver.upload(floats(8))
    longs, bytes_ = driver.upload(np.zeros(8, np.int64)), driver.upload(np.zeros(8, np.uint8))
    right = [
        *(np.float32(0), np.float32(0), np.float64(0), np.int32(0), np.uint32(0), np.int64(0)),
        *(np.uint64(0), np.uint8(0), np.bool_(False), longs, real, bytes_, longs),
    ]
    run("types", *right)
    run("types", *right[:9], None, None, None, None)
    run("types", *right[:9], bytes_, *right[10:])
    wrong: dict[int, tuple[Any, str]] = {
        0: (np.float64(0), "is float64, and the kernel takes float32"),
        1: (0.0, "is float, and the kernel takes float32"),
        2: (np.float32(0), "is float32, and the kernel takes float64"),
        3: (np.int64(0), "is int64, and the kernel takes int32"),
        4: (np.int32(0), "is int32, and the kernel takes uint32"),
        5: (np.int32(0), "is int32, and the kernel takes int64"),
        6: (np.int64(0), "is int64, and the kernel takes uint64"),
        7: (np.bool_(0), "is bool, and the kernel takes uint8"),
        8: (None, "is NoneType, and the kernel takes bool8"),
        9: (3, "is int, and the kernel takes a pointer to anything"),
        10: (longs, "is an array of int64, and the kernel takes a pointer to float32"),
        11: (np.zeros(8, np.uint8), "is an array that this device did not allocate"),
        12: (longs[::2], "is an array that is not C-contiguous"),
    }
    assert len(wrong) == len(right)
    for index, (value, message) in wrong.items():
        arguments = [*right]
        arguments[index] = value
        with pytest.raises(DeviceError, match=rf"arguments\[{index}\] {message}"):
            run("types", *arguments)
    with pytest.raises(DeviceError, match="12 arguments for 13 parameters"):
        run("types", *right[:-1])
    with pytest.raises(DeviceError, match=r"kernel typos .* does not exist; the file has: put, "):
        run("typos")


def test_what_would_end_the_process(driver: SimulatorDriver, run: Run) -> None:
    values, result = driver.upload(floats(40)), driver.upload(np.zeros(32, np.float32))
    run("vector_load", values, result, i32(4))
    assert (result == values[5]).all()
    with pytest.raises(DeviceError, match=r"no multiple of 16 \(planted.cu:\d+\)"):
        run("vector_load", values, result, i32(3))
    with pytest.raises(DeviceError, match=r"a null pointer is used \(planted.cu:\d+\)"):
        run("vector_load", None, result, i32(0))
    with pytest.raises(DeviceError, match="a thread's stack has overflown"):
        run("large_frame", result.view(np.int32), block=1)
    with pytest.raises(DeviceError, match=r"an integer is divided by 0 \(planted.cu:\d+\)"):
        run("quotient", result.view(np.int32), i32(0))


# Calls


def test_a_capture_makes_all_calls(source: Source, driver: SimulatorDriver) -> None:
    first, second = driver.upload(floats(50)), driver.upload(np.zeros(50, np.float32))

    def launch(a: Any, b: Any) -> Callable[[], None]:
        arguments = (a, b, i32(50))
        return driver.prepare(Launch(source, "doubled", (2, 1, 1), (32, 1, 1), arguments))

    calls = [launch(first, second), launch(second, first)]
    captured = driver.capture(calls)
    assert driver.launches == 0
    captured()
    captured()
    driver.synchronize()
    assert driver.launches == 4
    assert np.array_equal(first, 16 * floats(50))


def test_the_log(source: Source) -> None:
    driver = SimulatorDriver(log=True)
    array = driver.upload(floats(32))
    runner(source, driver)("put_shared", array, i32(0), i32(0), block=(8, 2), shared=64)
    assert driver.log == [("put_shared", (1, 1, 1), (8, 2, 1), 64)]
    assert SimulatorDriver().log is None


def test_a_seed_gives_the_same_order_again(source: Source) -> None:
    def wrong_result(seed: int) -> bytes:
        driver = SimulatorDriver(seed)
        values, result = driver.upload(floats(128)), driver.upload(np.zeros(128, np.float32))
        for _ in range(2):
            runner(source, driver)("reverse_unguarded", values, result, block=128, shared=512)
        return result.tobytes()

    assert wrong_result(3) == wrong_result(3)
    assert len({wrong_result(seed) for seed in range(8)}) > 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_library_products(driver: SimulatorDriver, dtype: Any) -> None:
    left, right = floats(15).reshape(3, 5).astype(dtype), floats(10).reshape(5, 2).astype(dtype)
    result = driver.upload(np.zeros((3, 2), dtype))
    for flags in ((False, False), (True, True)):
        arrays = [
            driver.upload(m.T if flag else m) for m, flag in zip((left, right), flags, strict=True)
        ]
        driver.write(result, 0)
        driver.prepare_product(Product(*arrays, result, *flags))()
        np.testing.assert_allclose(result, left @ right, rtol=1e-5)
    assert driver.launches == 2
    with pytest.raises(DeviceError, match="left is an array that this device did not allocate"):
        driver.prepare_product(Product(left, arrays[1], result))


def test_library_products_in_lower_precision(driver: SimulatorDriver) -> None:
    one = np.array([[1 + 2.0**-11, 1 + 2.0**-8, np.inf]], np.float32)  # both halfway
    unit = driver.upload(np.eye(3, dtype=np.float32))
    result = driver.upload(np.zeros((1, 3), np.float32))
    with np.errstate(invalid="ignore"):  # infinity times 0
        for precision, expected in (("tf32", [1 + 2.0**-10, 1 + 2.0**-8]), ("bfloat16", [1, 1])):
            factor = driver.upload(one[:, :2].copy())
            small = driver.upload(np.eye(2, dtype=np.float32))
            two = driver.upload(np.zeros((1, 2), np.float32))
            driver.prepare_product(Product(factor, small, two, precision=precision))()
            assert two.tolist() == [expected]
        driver.prepare_product(Product(driver.upload(one), unit, result, precision="tf32"))()
    assert result[0, 2] == np.inf
    half = driver.upload(np.array([[0x3F80, 0x4000]], np.uint16))  # 1 and 2
    total = driver.upload(np.zeros((1, 1), np.float32))
    product = Product(half, half, total, transpose_right=True, precision="bfloat16")
    driver.prepare_product(product)()
    assert total.tolist() == [[5.0]]


# The compiler


def test_an_error_of_the_compiler_is_shown(source: Source, tmp_path: Path) -> None:
    file = tmp_path / "broken.cu"
    file.write_text('#include "prelude.cuh"\nKERNEL(32) broken(int *to) { to[0] = nothing; }\n')
    with pytest.raises(DeviceError, match=r"broken.cu:2:.*error.*nothing"):
        host_compiler.load(Source(str(file)), 90)
    empty = tmp_path / "empty.cu"
    empty.write_text('#include "prelude.cuh"\n')
    with pytest.raises(DeviceError, match="holds no KERNEL"):
        host_compiler.load(Source(str(empty)), 90)


def test_macros_choose_and_name_kernels(source: Source, tmp_path: Path) -> None:
    file = tmp_path / "macros.cu"
    file.write_text(
        '#include "prelude.cuh"\n'
        "#define FILL(name, n) KERNEL(8 * (n)) fill_##name(int *to) { to[0] = VALUE; }\n"
        "FILL(first, 4)\n#ifdef SECOND\nFILL(second, 1)\n#endif\n"
    )
    sources = [Source(str(file), defines) for defines in (("VALUE=1",), ("VALUE=2", "SECOND"))]
    libraries = [host_compiler.load(one, 90) for one in sources]
    assert [list(one.kernels) for one in libraries] == [
        ["fill_first"],
        ["fill_first", "fill_second"],
    ]
    assert libraries[1].kernels["fill_second"].threads == 8
    driver = SimulatorDriver()
    result = driver.upload(np.zeros(1, np.int32))
    for value, one in enumerate(sources, start=1):
        runner(one, driver)("fill_first", result)
        assert result[0] == value


def put_one(file: Path, value: int = 1) -> Source:
    """Write a file with one kernel, which gives `value`."""
    file.write_text(
        f'#include "prelude.cuh"\nKERNEL(32) give(int *to) {{ to[0] = {value}; }}\n',
        encoding="utf-8",
    )
    return Source(str(file))


def given(source: Source) -> int:
    """Return what a kernel `give` gives."""
    driver = SimulatorDriver()
    result = driver.upload(np.zeros(1, np.int32))
    runner(source, driver)("give", result)
    return int(result[0])


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, for a process that has loaded nothing."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr(kernel_loader, "cache_folder", lambda kind: folder)
    monkeypatch.setattr(kernel_loader, "_SPARE", {})
    host_compiler._load.cache_clear()
    return folder


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is compiled from now on: "runtime" and "kernels"."""
    names: list[str] = []
    made = host_compiler._made

    def counted(compile_to: Callable[[str], None]) -> bytes:
        names.append(compile_to.__name__.removeprefix("compile_"))
        return made(compile_to)

    monkeypatch.setattr(host_compiler, "_made", counted)
    return names


def test_compiled_files_are_found_again(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = put_one(tmp_path / "found.cu")
    host_compiler.load(source, 90)
    assert sorted(path.name.partition("-")[0] for path in kept.iterdir()) == [
        *("found", "found", "runtime", "runtime"),
    ]
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("compiled again"))
    host_compiler._load.cache_clear()
    host_compiler.load(source, 90)
    with pytest.raises(pytest.fail.Exception, match="compiled again"):
        host_compiler.load(Source(source.file, ("GPUNN_REAL=double",)), 90)


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "folder", "checksum"])
@pytest.mark.parametrize("suffix", ["so", "o"])
def test_damaged_files_are_compiled_anew(
    damage: str, suffix: str, kept: Path, compiled: list[str], tmp_path: Path
) -> None:
    source = put_one(tmp_path / "damaged.cu")
    assert given(source) == 1
    assert compiled == ["kernels", "runtime"]
    (file,) = kept.glob(f"*.{suffix}")
    contents = file.read_bytes()
    if damage == "checksum":
        file = file.with_name(f"{file.name}.sha256")
        contents = file.read_bytes()
    file.unlink()  # what is loaded must not change under the process
    if damage == "folder":
        file.mkdir()
    else:
        changed = contents[:-1] + bytes([contents[-1] ^ 1])
        file.write_bytes({"cut": contents[:-1], "changed": changed}.get(damage, b""))
    host_compiler._load.cache_clear()
    if suffix == "o":  # linked to the next file
        source = put_one(tmp_path / "next.cu", 2)
    assert given(source) == (2 if suffix == "o" else 1)
    assert compiled[2:] == (["kernels"] if suffix == "so" else ["kernels", "runtime"])
    if damage != "folder":
        assert file.read_bytes() == contents


@pytest.mark.parametrize("fault", ["no folder", "full"])
def test_where_nothing_can_be_kept_every_process_compiles(
    fault: str,
    kept: Path,
    compiled: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(kernel_loader, "_temporary_folder", lambda: temporary)
    kernel_loader._warn_of_cache.cache_clear()
    replace = kernel_loader._replace

    def no_folder(kind: str) -> Path:
        raise NotADirectoryError(20, "Not a directory", "/dev/null/x")

    def full(file: Path, contents: bytes) -> None:
        if file.parent == kept:
            raise OSError(28, "No space left on device")
        replace(file, contents)

    if fault == "full":
        monkeypatch.setattr(kernel_loader, "_replace", full)
    else:
        monkeypatch.setattr(kernel_loader, "cache_folder", no_folder)
    source = put_one(tmp_path / "unkept.cu")
    for _ in range(2):
        assert given(source) == 1
        assert given(put_one(tmp_path / "other.cu", 2)) == 2
    assert compiled == ["kernels", "runtime", "kernels"]
    (record,) = caplog.records
    assert "cannot be kept in" in record.message
    assert ("No space left" if fault == "full" else "/dev/null/x") in record.message
    monkeypatch.setattr(kernel_loader, "_temporary_folder", lambda: tmp_path / "none")
    with pytest.raises(DeviceError, match="cannot be written anywhere"):
        given(put_one(tmp_path / "third.cu"))


def test_the_temporary_folder_goes_with_the_process() -> None:
    code = (
        "from gpunn.backends.cuda import kernel_loader; folder = kernel_loader._temporary_folder();"
        "(folder / 'file').touch(); print(folder)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not Path(done.stdout.strip()).exists()


# Kernel files elsewhere


def test_an_edited_file_is_compiled_anew(kept: Path, tmp_path: Path) -> None:
    file, header = tmp_path / "edited.cu", tmp_path / "value.cuh"
    for value in (1, 2, 1):
        assert given(put_one(file, value)) == value
    file.write_text('#include "value.cuh"\nKERNEL(32) give(int *to) { to[0] = VALUE; }\n')
    for value in (3, 4):
        header.write_text(f'#include "prelude.cuh"\n#define VALUE {value}\n')
        assert given(Source(str(file))) == value


def test_a_file_beside_the_including_one_comes_first(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "reduce.cuh").write_text('#include "prelude.cuh"\n#define VALUE 5\n')
    (tmp_path / "own.cu").write_text(
        '#include "reduce.cuh"\nKERNEL(32) give(int *to) { to[0] = VALUE; }\n'
    )
    assert given(Source(str(tmp_path / "own.cu"))) == 5
    texts = kernel_loader.texts(str(tmp_path / "own.cu"))
    assert "VALUE 5" in texts["reduce.cuh"]
    assert texts["prelude.cuh"] == kernel_loader.texts("prelude.cuh")["prelude.cuh"]
    (tmp_path / "own.cu").write_text('#include "reduce.cuh"\n#include "partials.cuh"\n')
    with pytest.raises(DeviceError, match=r"both included as 'reduce.cuh'; rename one"):
        kernel_loader.texts(str(tmp_path / "own.cu"))


def test_the_working_directory_has_no_say(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_one(tmp_path / "affine.cu")
    monkeypatch.chdir(tmp_path)
    library = host_compiler.load(Source("affine.cu", ("GPUNN_REAL=float",)), 90)
    assert "affine" in library.kernels


def test_files_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = kernel_loader.kernels_folder()
    put_one(tmp_path / "here.cu")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeviceError, match=f"no kernel file 'here.cu' in {folder}; .* full path"):
        host_compiler.load(Source("here.cu"), 90)
    with pytest.raises(DeviceError, match=f"no kernel file {tmp_path}/gone.cu"):
        host_compiler.load(Source(f"{tmp_path}/gone.cu"), 90)
    (tmp_path / "here.cu").write_text('#include "gone.cuh"\n')
    with pytest.raises(
        DeviceError, match=f"here.cu includes 'gone.cuh', which is not beside it nor in {folder}"
    ):
        host_compiler.load(Source(f"{tmp_path}/here.cu"), 90)
    (tmp_path / "here.cu").write_bytes(b"\xff")
    with pytest.raises(DeviceError, match=r"here.cu cannot be read: .*utf-8"):
        host_compiler.load(Source(f"{tmp_path}/here.cu"), 90)


# Which compiler


def test_a_missing_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(
        DeviceError, match=r"no C\+\+ compiler is found: `sudo apt install g\+\+` a"
    ):
        SimulatorDriver()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(DeviceError, match=r"`xcode-select --install` adds one, and .* CXX names"):
        SimulatorDriver()
    script(tmp_path / "c++", "echo no tools were found >&2; exit 1")
    with pytest.raises(DeviceError, match=r"; c\+\+ does not work: no tools were found"):
        SimulatorDriver()
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(DeviceError, match="no simulator on Windows"):
        SimulatorDriver()


def script(file: Path, commands: str) -> str:
    """Write a shell script; return its path."""
    file.write_text(f"#!/bin/sh\n{commands}\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("/nowhere/g++", "'/nowhere/g\\+\\+' is not found"),
        ("g++ 'x", "No closing quotation"),
        ("''", "'' is not found"),
        ("true", "it does not answer as one"),
        ("false", "it does not answer as one"),
        ("cat", "option|usage"),
    ],
)
def test_a_compiler_that_is_none(value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", value)
    with pytest.raises(DeviceError, match=rf"^CXX=.* is no C\+\+17 compiler: .*{message}.*$"):
        SimulatorDriver()


def test_a_compiler_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "compiler"
    file.write_bytes(b"\0")
    file.chmod(0o755)
    monkeypatch.setenv("CXX", str(file))
    with pytest.raises(DeviceError, match=r"compiler' cannot be started \(Exec format error\)"):
        SimulatorDriver()


def test_the_compiler_that_is_named(
    kept: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    (compiler,) = host_compiler.find_compiler()
    monkeypatch.setenv("CXX", " ")
    assert host_compiler.find_compiler() == (compiler,)
    named = script(tmp_path / "my compiler", f'touch "{tmp_path}/used"\nexec {compiler} "$@"')
    monkeypatch.setenv("CXX", f"'{named}' -DUNUSED")
    assert given(put_one(tmp_path / "named.cu")) == 1
    assert (tmp_path / "used").exists()


def test_causes_that_are_no_error_in_a_file_are_shown(
    kept: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    (compiler,) = host_compiler.find_compiler()
    linker = "ld: final link failed: No space left on device\ncollect2: error: ld returned 1"
    commands = f'case "$*" in *-shared*) echo "{linker}" >&2; exit 1;; esac\nexec {compiler} "$@"'
    monkeypatch.setenv("CXX", script(tmp_path / "unlinking", commands))
    with pytest.raises(DeviceError, match=r"failed:\n.*No space left on device\n.*returned 1$"):
        given(put_one(tmp_path / "unlinked.cu"))
    silent = f'case "$*" in *-shared*) exit 3;; esac\nexec {compiler} "$@"'
    monkeypatch.setenv("CXX", script(tmp_path / "silent", silent))
    with pytest.raises(DeviceError, match=r"failed:\nexit status 3$"):
        given(put_one(tmp_path / "unlinked.cu"))


def test_a_library_that_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "none.so").touch()
    with pytest.raises(DeviceError, match=r"cannot be loaded: .*none.so"):
        host_compiler._open(tmp_path / "none.so")
