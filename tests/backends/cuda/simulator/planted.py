"""Kernels with faults planted in them, and how they are run.

A fault is a macro or an argument away from the right version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn.backends.cuda.driver import KernelSource, Launch
from gpunn.backends.cuda.simulator.driver import SimulatorDriver

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


def runner(source: KernelSource, driver: SimulatorDriver) -> Run:
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
