// Groups of threads that take the rows of a matrix in turn, one row each: up to 32 are part of a
// warp, and a block has several; for long rows a block is one group.

#pragma once

#include "reduce.cuh"

// Sums and largest values over the group, in every thread of it.
struct Lanes {
    int threads;
    DEVICE real sum(real value) const { return warp_sum(value, threads); }
    DEVICE real largest(real value) const { return warp_maximum(value, threads); }
};

struct Block {
    real *scratch;
    DEVICE real sum(real value) const { return block_sum(value, scratch); }
    DEVICE real largest(real value) const { return block_maximum(value, scratch); }
};

// Calls take(row, lane, whether there is such a row) for the rows of a group.
// Groups beyond the last row go along with it: they take part in what their warp does together.
template <typename Take>
DEVICE void each_row(int64 rows, int threads, Take take)
{
    const int lane = threadIdx.x % threads, groups = blockDim.x / threads;
    const int64 own = threadIdx.x / threads;
    for (int64 base = (int64)blockIdx.x * groups; base < rows; base += (int64)gridDim.x * groups) {
        const bool active = base + own < rows;
        take(active ? base + own : rows - 1, lane, active);
    }
}
