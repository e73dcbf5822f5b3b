// Activation functions, and the way back through activation and dropout.
//
//   activation           result[i] = activation(values[i])
//   activation_gradient  input_gradient[b, c] = gradient[b, c] * derivative of dropout and activation
//                        at value[b, c]: the output after dropout, or the activation's input where
//                        the derivative is taken from that; and its sums over b, which go where
//                        those of bias_gradient.cu go
//
// Shapes: gradient, value, input_gradient (rows, columns); sums (gridDim.y, columns), bias
// (columns,); learning_rate, seed, step, rate (1,), the last three null where there is no dropout.
// Launch: activation is a grid-stride loop, 4 values a thread. activation_gradient: as in
// bias_gradient.cu.

#include "activations.cuh"
#include "bias.cuh"
#include "philox.cuh"

KERNEL(256) activation(const real *values, real *result, int64 size, int function, real parameter)
{
    wait_for_predecessor();
    for (int64 i = 4 * first_index(); i < size; i += 4 * index_stride()) {
        Values<real, 4> four = load_some<4>(values + i, size - i);
#pragma unroll
        for (int k = 0; k < 4; ++k)
            four.value[k] = activate(four.value[k], function, parameter);
        store_some(result + i, four, size - i);
    }
}

// The gradient of one value; `kept`: whether dropout kept it.
DEVICE real through_activation(real gradient, real value, bool kept, const Dropout &dropout,
                               int activation, real parameter)
{
    if (!kept)
        return real(0);
    if (!derivative_reads_input(activation))
        value *= dropout.keep_share;  // back to the activation's own output
    return gradient * dropout.scale * derivative(value, activation, parameter);
}

template <int N>
DEVICE void gradient_and_sums(const real *gradient, const real *value, real *input_gradient,
                              real *sums, real *bias, const real *learning_rate, int64 rows,
                              int columns, int width, int function, real parameter,
                              const Dropout &dropout, real *scratch)
{
    const int AT_ONCE = N == 4 ? 2 : 4;  // rows whose loads are under way together
    const Tile tile(width);
    const int64 column = N * tile.across(), stride = tile.row_stride();
    // What was dropped is 0, and so is relu's derivative there: no need to draw the mask again.
    const bool draws = dropout.active && function != RELU;
    Values<real, N> sum = {};
    for (int64 row = tile.row(); row < rows && column < columns; row += AT_ONCE * stride) {
        Values<real, N> g[AT_ONCE] = {}, v[AT_ONCE] = {};
#pragma unroll
        for (int u = 0; u < AT_ONCE; ++u)
            if (row + u * stride < rows) {
                const int64 i = (row + u * stride) * columns + column;
                g[u] = load<N>(gradient + i);
                if (value)
                    v[u] = load<N>(value + i);
            }
#pragma unroll
        for (int u = 0; u < AT_ONCE; ++u)
            if (row + u * stride < rows) {
                const int64 i = (row + u * stride) * columns + column;
                const Values<bool, N> kept = dropout.keeps<N>(i, draws);
#pragma unroll
                for (int k = 0; k < N; ++k)
                    g[u].value[k] = through_activation(g[u].value[k], v[u].value[k], kept.value[k],
                                                       dropout, function, parameter);
                store(input_gradient + i, g[u]);
                sum += g[u];
            }
    }
    finish_columns(sum, tile, columns, scratch, sums, bias, learning_rate);
}

#define GRADIENT_KERNEL(name, N)                                                                \
    KERNEL(256) name(const real *gradient, const real *value, real *input_gradient, real *sums, \
                     real *bias, const real *learning_rate, int64 rows, int columns, int width, \
                     int function, real parameter, const uint64 *seed, const int64 *step,       \
                     const float *rate, uint32 stream)                                          \
    {                                                                                           \
        SHARED_MEMORY(real, scratch);                                                           \
        wait_for_predecessor();                                                                 \
        const Dropout dropout(seed, step, rate, stream);                                        \
        gradient_and_sums<N>(gradient, value, input_gradient, sums, bias, learning_rate, rows,  \
                             columns, width, function, parameter, dropout, scratch);            \
    }

GRADIENT_KERNEL(activation_gradient, 1)
GRADIENT_KERNEL(activation_gradient_by_4, 4)
