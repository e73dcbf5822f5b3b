// Sums over a warp and over a block, in an order that depends on nothing but the launch shape.

#pragma once

#include "prelude.cuh"

// Sum of the values of `width` neighbouring lanes (a power of two), in every one of them.
template <typename T> DEVICE T warp_sum(T value, int width = WARP)
{
    for (int offset = width / 2; offset > 0; offset /= 2)
        value += __shfl_xor_sync(FULL_MASK, value, offset, width);
    return value;
}

template <typename T> DEVICE T warp_maximum(T value, int width = WARP)
{
    for (int offset = width / 2; offset > 0; offset /= 2)
        value = maximum(value, __shfl_xor_sync(FULL_MASK, value, offset, width));
    return value;
}

// Sum over a block whose size is a multiple of 32, in every thread. `scratch` is shared memory
// for 32 values of T; the block may use it again after the call.
template <typename T> DEVICE T block_sum(T value, T *scratch)
{
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    value = warp_sum(value);
    if (lane == 0)
        scratch[warp] = value;
    __syncthreads();
    const int warps = blockDim.x / WARP;
    value = lane < warps ? scratch[lane] : T(0);
    value = warp_sum(value);
    __syncthreads();  // before anyone writes scratch again
    return value;
}

// The largest value; a NaN may be passed over. `scratch` as above.
template <typename T> DEVICE T block_maximum(T value, T *scratch)
{
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    value = warp_maximum(value);
    if (lane == 0)
        scratch[warp] = value;
    __syncthreads();
    const int warps = blockDim.x / WARP;
    value = warp_maximum(scratch[lane < warps ? lane : 0]);
    __syncthreads();
    return value;
}
