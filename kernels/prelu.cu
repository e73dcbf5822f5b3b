// PReLU: what is below 0 is multiplied by a learned alpha, one for each feature.
//
//   prelu           result[b, c] = max(values[b, c], 0) + alpha[c] * min(values[b, c], 0)
//   prelu_gradient  input_gradient[b, c] = gradient[b, c] * (values[b, c] > 0 ? 1 : alpha[c])
//                   alpha's gradient[c]  = sum_b gradient[b, c] * min(values[b, c], 0)
//
// Shapes: values, result, gradient, input_gradient (rows, columns), the last null where nobody
// wants it; alpha (columns,); sums (gridDim.y, columns).
// Launch: tiles of threads (tiles.cuh), each thread N columns; N is 4 in `..._by_4`, for columns
// that are a multiple of 4. Block rows of a long batch leave partial sums, as in bias_gradient.cu,
// whose kernel adds them up.

#include "bias.cuh"

template <int N>
DEVICE void forward(const real *values, const real *alpha, real *result, int64 rows, int columns,
                    int width)
{
    const Tile tile(width);
    const int64 column = N * tile.across();
    if (column >= columns)
        return;
    const Values<real, N> slope = load<N>(alpha + column);
    for (int64 row = tile.row(); row < rows; row += tile.row_stride()) {
        Values<real, N> x = load<N>(values + row * columns + column);
#pragma unroll
        for (int k = 0; k < N; ++k)
            x.value[k] = x.value[k] > real(0) ? x.value[k] : slope.value[k] * x.value[k];
        store(result + row * columns + column, x);
    }
}

template <int N>
DEVICE void backward(const real *gradient, const real *values, const real *alpha,
                     real *input_gradient, real *sums, int64 rows, int columns, int width,
                     real *scratch)
{
    const int AT_ONCE = N == 4 ? 2 : 4;  // rows whose loads are under way together
    const Tile tile(width);
    const int64 column = N * tile.across(), stride = tile.row_stride();
    Values<real, N> sum = {}, slope = {};
    if (column < columns)
        slope = load<N>(alpha + column);
    for (int64 row = tile.row(); row < rows && column < columns; row += AT_ONCE * stride) {
        Values<real, N> g[AT_ONCE] = {}, x[AT_ONCE] = {};
#pragma unroll
        for (int u = 0; u < AT_ONCE; ++u)
            if (row + u * stride < rows) {
                const int64 i = (row + u * stride) * columns + column;
                g[u] = load<N>(gradient + i);
                x[u] = load<N>(values + i);
            }
#pragma unroll
        for (int u = 0; u < AT_ONCE; ++u)
            if (row + u * stride < rows) {
                Values<real, N> part;
#pragma unroll
                for (int k = 0; k < N; ++k) {
                    const bool above = x[u].value[k] > real(0);
                    part.value[k] = above ? real(0) : g[u].value[k] * x[u].value[k];
                    g[u].value[k] *= above ? real(1) : slope.value[k];
                }
                sum += part;
                if (input_gradient)
                    store(input_gradient + (row + u * stride) * columns + column, g[u]);
            }
    }
    finish_columns(sum, tile, columns, scratch, sums, 0, 0);
}

#define PRELU_KERNELS(suffix, N)                                                                 \
    KERNEL(256) prelu##suffix(const real *values, const real *alpha, real *result, int64 rows,   \
                              int columns, int width)                                            \
    {                                                                                            \
        wait_for_predecessor();                                                                  \
        forward<N>(values, alpha, result, rows, columns, width);                                 \
    }                                                                                            \
    KERNEL(256) prelu_gradient##suffix(const real *gradient, const real *values,                 \
                                       const real *alpha, real *input_gradient, real *sums,      \
                                       int64 rows, int columns, int width)                       \
    {                                                                                            \
        SHARED_MEMORY(real, scratch);                                                            \
        wait_for_predecessor();                                                                  \
        backward<N>(gradient, values, alpha, input_gradient, sums, rows, columns, width,         \
                    scratch);                                                                    \
    }

PRELU_KERNELS(, 1)
PRELU_KERNELS(_by_4, 4)
