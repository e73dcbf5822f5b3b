// What follows the update of a weight that is constrained.
//
//   norm_constraint  kernel[r, c] *= (rate * clip(norm_c, minimum, maximum) + (1 - rate) * norm_c)
//                                    / (epsilon + norm_c),  norm_c = sqrt(sum_r kernel[r, c]**2)
//   non_negative     kernel = max(kernel, 0); NaN stays NaN
//
// Shapes: kernel (rows, columns); a bias is one column.
// Launch: norm_constraint: tiles of threads (tiles.cuh), each thread N columns; N is 4 in
// `..._by_4`, for columns that are a multiple of 4. A kernel with many rows is divided among
// gridDim.y block rows: column_squares leaves the sums of each in its row of `parts`, (gridDim.y,
// columns), and every block of norm_constraint adds them up in the same order. With one block row
// `parts` is null, and norm_constraint takes the sums itself. non_negative: a grid-stride loop,
// 16 bytes per thread and turn.

#include "parameters.cuh"
#include "tiles.cuh"

// Of each of a thread's columns: the sum of squares of the values in its rows.
template <int N>
DEVICE Values<real, N> squares(const real *kernel, const Tile &tile, int64 rows, int columns)
{
    Values<real, N> sum = {};
    each_row_of_columns<N>(kernel, rows, columns, tile, [&](const Values<real, N> &found) {
#pragma unroll
        for (int k = 0; k < N; ++k)
            sum.value[k] += found.value[k] * found.value[k];
    });
    return sum;
}

struct Bounds {
    real minimum, maximum, rate, epsilon;
};

template <int N>
DEVICE void constrain(real *kernel, const real *parts, int count, int64 rows, int columns,
                      int width, const Bounds &to, Values<real, N> *scratch)
{
    const Tile tile(width);
    const int64 column = N * tile.across(), stride = tile.row_stride();
    Values<real, N> sum = {};
    if (parts) {
        for (int row = tile.y; row < count && column < columns; row += tile.height)
            sum += load<N>(parts + (int64)row * columns + column);
    } else {
        sum = squares<N>(kernel, tile, rows, columns);
    }
    sum = column_sum(sum, tile, scratch);
    if (tile.y == 0) {
#pragma unroll
        for (int k = 0; k < N; ++k) {
            const real norm = sqrt(sum.value[k]);
            real desired = to.rate * minimum(maximum(norm, to.minimum), to.maximum);
            if (to.rate != real(1))  // 0 * norm is NaN for a norm that overflows
                desired += (real(1) - to.rate) * norm;
            sum.value[k] = desired / (to.epsilon + norm);
        }
        scratch[tile.x] = sum;  // its own: nobody else reads it before
    }
    __syncthreads();
    const Values<real, N> factor = scratch[tile.x];
    for (int64 row = tile.row(); row < rows && column < columns; row += stride) {
        Values<real, N> w = load<N>(kernel + row * columns + column);
#pragma unroll
        for (int k = 0; k < N; ++k)
            w.value[k] *= factor.value[k];
        store(kernel + row * columns + column, w);
    }
}

#define NORM_KERNELS(suffix, N)                                                                   \
    KERNEL(256) column_squares##suffix(const real *kernel, real *parts, int64 rows, int columns,  \
                                       int width)                                                 \
    {                                                                                             \
        SHARED_MEMORY(real, shared);                                                              \
        wait_for_predecessor();                                                                   \
        Values<real, N> *scratch = reinterpret_cast<Values<real, N> *>(shared);                   \
        const Tile tile(width);                                                                   \
        const int64 column = N * tile.across();                                                   \
        const Values<real, N> sum =                                                               \
            column_sum(squares<N>(kernel, tile, rows, columns), tile, scratch);                   \
        if (tile.y == 0 && column < columns)                                                      \
            store(parts + (int64)blockIdx.y * columns + column, sum);                             \
    }                                                                                             \
    KERNEL(256) norm_constraint##suffix(real *kernel, const real *parts, int count, int64 rows,   \
                                        int columns, int width, real minimum, real maximum,       \
                                        real rate, real epsilon)                                  \
    {                                                                                             \
        SHARED_MEMORY(real, shared);                                                              \
        wait_for_predecessor();                                                                   \
        Values<real, N> *scratch = reinterpret_cast<Values<real, N> *>(shared);                   \
        const Bounds to = {minimum, maximum, rate, epsilon};                                      \
        constrain<N>(kernel, parts, count, rows, columns, width, to, scratch);                    \
    }

NORM_KERNELS(, 1)
NORM_KERNELS(_by_4, 4)

struct NonNegative {
    DEVICE void prepare() {}

    DEVICE void operator()(real &w, real, real &, real &, real &) const
    {
        w = maximum(w, real(0));  // a NaN is not smaller
    }
};

KERNEL(256) non_negative(real *kernel, int64 size)
{
    wait_for_predecessor();
    NonNegative rule;
    update_each(rule, kernel, 0, 0, 0, 0, size);
}
