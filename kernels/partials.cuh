// Sums over more values than one block should take: every block leaves its part in `partials`, and
// a second launch, of one block, adds the parts. Their order, and so the result, depends on the
// launch shape alone. One block by itself has no `partials` (null) and finishes at once.

#pragma once

#include "reduce.cuh"

// Two sums over a block whose size is a multiple of 32, in every thread, for the barriers of one.
// `scratch` is shared memory for 64 values; the block may use it again after the call.
DEVICE void block_sums(double &first, double &second, double *scratch)
{
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    first = warp_sum(first);
    second = warp_sum(second);
    if (lane == 0) {
        scratch[warp] = first;
        scratch[WARP + warp] = second;
    }
    __syncthreads();
    const bool used = lane < (int)blockDim.x / WARP;
    first = warp_sum(used ? scratch[lane] : 0.0);
    second = warp_sum(used ? scratch[WARP + lane] : 0.0);
    __syncthreads();  // before anyone writes scratch again
}

// What the blocks of the launch before left, added up: the sum in every thread of a block.
DEVICE double sum_of_partials(const double *partials, int count, double *scratch)
{
    double sum = 0;
#pragma unroll 1  // there is one turn
    for (int i = threadIdx.x; i < count; i += blockDim.x)
        sum += partials[i];
    return block_sum(sum, scratch);
}

// By a block: `value` of all its threads goes to `partials`, or is added to what stood in `sum`
// `before` (read early by the caller, so that the end does not wait for it).
DEVICE void reduce_sum(double value, double before, double *sum, double *partials, double *scratch)
{
    value = block_sum(value, scratch);
    if (threadIdx.x != 0)
        return;
    if (partials)
        partials[blockIdx.x] = value;
    else
        sum[0] = before + value;
}

// The second launch: one block adds the parts of `count` blocks.
DEVICE void reduce_sum_partials(const double *partials, int count, double *sum, double *scratch)
{
    const double before = sum[0];
    const double total = sum_of_partials(partials, count, scratch);
    if (threadIdx.x == 0)
        sum[0] = before + total;
}

// The groups of `lanes` neighbouring lanes (a power of two, at most 32) that take one row each.
// All lanes of a warp stay in the loop together, as they exchange values:
//
//     for (Rows r(rows, lanes); r.more(); r.next())   with r.row, and r.active if it is a row
struct Rows {
    int64 base, row, rows;
    int per_warp, group;
    bool active;

    DEVICE Rows(int64 count, int lanes) : rows(count), per_warp(WARP / lanes)
    {
        group = threadIdx.x % WARP / lanes;
        base = first_index() / WARP * per_warp;
        place();
    }

    DEVICE void place()
    {
        active = base + group < rows;
        row = active ? base + group : rows - 1;
    }

    DEVICE bool more() const { return base < rows; }

    DEVICE void next()
    {
        base += index_stride() / WARP * per_warp;
        place();
    }
};
