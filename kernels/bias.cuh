// The last step of a bias gradient: what happens to the column sums of a block.

#pragma once

#include "tiles.cuh"

// Adds `sum` over the tile's rows of threads. With `bias`: bias[c] -= learning_rate * sum[c];
// else row blockIdx.y of `sums`, (gridDim.y, columns), gets it. Neither given: nothing to do.
// `scratch`: shared memory for N values of each thread of the block.
template <int N>
DEVICE void finish_columns(Values<real, N> sum, const Tile &tile, int columns, real *scratch,
                           real *sums, real *bias, const real *learning_rate)
{
    if (!sums && !bias)
        return;
    sum = column_sum(sum, tile, reinterpret_cast<Values<real, N> *>(scratch));
    const int64 column = N * tile.across();
    if (tile.y > 0 || column >= columns)
        return;
#pragma unroll
    for (int k = 0; k < N; ++k) {
        if (bias)
            bias[column + k] -= learning_rate[0] * sum.value[k];
        else
            sums[(int64)blockIdx.y * columns + column + k] = sum.value[k];
    }
}
