// The largest of many values and where it is, as NumPy's argmax has it: of equal values the first
// counts, and a NaN is larger than any number.

#pragma once

#include "reduce.cuh"

struct Best {
    real value;
    int index;
};

DEVICE Best better(Best a, Best b)
{
    const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
    const bool first = b.index < a.index;
    const bool takes = b_nan ? !a_nan || first
                             : !a_nan && (a.value < b.value || (a.value == b.value && first));
    return takes ? b : a;
}

// The best of `width` neighbouring lanes (a power of two), in every one of them.
DEVICE Best warp_best(Best best, int width = WARP)
{
    for (int offset = width / 2; offset > 0; offset /= 2) {
        Best other;
        other.value = __shfl_xor_sync(FULL_MASK, best.value, offset, width);
        other.index = __shfl_xor_sync(FULL_MASK, best.index, offset, width);
        best = better(best, other);
    }
    return best;
}

// The best of a block whose size is a multiple of 32, in every thread. `scratch` is shared memory
// for 32 values; the block may use it again after the call.
DEVICE Best block_best(Best best, Best *scratch)
{
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    best = warp_best(best);
    if (lane == 0)
        scratch[warp] = best;
    __syncthreads();
    const int warps = blockDim.x / WARP;
    best = warp_best(scratch[lane < warps ? lane : 0]);
    __syncthreads();  // before anyone writes scratch again
    return best;
}

// The best of a row of `columns` values, by `lanes` <= columns neighbouring lanes.
DEVICE Best row_best(const real *values, int columns, int lanes)
{
    const int lane = threadIdx.x % lanes;
    Best best = {values[lane], lane};
    for (int column = lane + lanes; column < columns; column += lanes)
        best = better(best, Best{values[column], column});
    return warp_best(best, lanes);
}
