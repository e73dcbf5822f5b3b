// Gradient of a bias: the sum of a gradient over the batch.
//
//   sums[c] = sum_b gradient[b, c]              or, where `bias` is given,
//   bias[c] -= learning_rate * sum_b gradient[b, c]
//
// Shapes: gradient (rows, columns), sums and bias (columns,), learning_rate (1,).
// Launch: tiles of threads (tiles.cuh), each thread N columns; N is 4 in `..._by_4`, for columns
// that are a multiple of 4. A long batch is divided among gridDim.y block rows, each of which
// writes its part to its row of `sums`, (gridDim.y, columns); a second launch with one block row
// and those parts as `gradient` adds them up. So do products that leave such parts.

#include "bias.cuh"

template <int N>
DEVICE void bias_sums(const real *gradient, real *sums, real *bias, const real *learning_rate,
                      int64 rows, int columns, int width, real *scratch)
{
    const Tile tile(width);
    Values<real, N> sum = {};
    each_row_of_columns<N>(gradient, rows, columns, tile,
                           [&](const Values<real, N> &found) { sum += found; });
    finish_columns(sum, tile, columns, scratch, sums, bias, learning_rate);
}

KERNEL(256) bias_gradient(const real *gradient, real *sums, real *bias, const real *learning_rate,
                          int64 rows, int columns, int width)
{
    SHARED_MEMORY(real, scratch);
    wait_for_predecessor();
    bias_sums<1>(gradient, sums, bias, learning_rate, rows, columns, width, scratch);
}

KERNEL(256) bias_gradient_by_4(const real *gradient, real *sums, real *bias,
                               const real *learning_rate, int64 rows, int columns, int width)
{
    SHARED_MEMORY(real, scratch);
    wait_for_predecessor();
    bias_sums<4>(gradient, sums, bias, learning_rate, rows, columns, width, scratch);
}
