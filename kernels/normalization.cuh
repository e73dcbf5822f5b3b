// Sums over the batch, column by column, that normalization and its gradients share.
//
// Blocks are tiles of threads (tiles.cuh), each thread N neighbouring columns. Of a long batch each
// block row takes a share of rows and leaves its sums in `parts`; the blocks of a second launch add
// up the parts of their own columns, in order.

#pragma once

#include "tiles.cuh"

// The rows of a block: as many neighbouring ones for each block row.
struct Share {
    int64 first, end;

    DEVICE Share(int64 rows, int64 share)
        : first(blockIdx.y * share), end(minimum(rows, first + share))
    {
    }
};

// column_sum, in every thread of the column.
template <typename T> DEVICE T column_total(T value, const Tile &tile, T *scratch)
{
    column_sum(value, tile, scratch);
    __syncthreads();
    const T total = scratch[tile.x];
    __syncthreads();  // before anyone writes scratch again
    return total;
}

// An activation of slope 1 above 0 and `slope` below: linear, relu and leaky_relu.
DEVICE real activated(real z, real slope)
{
    return (z > real(0) ? z : z * slope) + real(0);  // + 0 turns the -0 of relu into 0
}

// What comes back to a normalization: the gradient, through the activation where there is one.
struct Gradient {
    const real *gradient, *output;
    real slope;

    template <int N> DEVICE Values<real, N> at(int64 i) const
    {
        Values<real, N> g = load<N>(gradient + i);
        if (output) {
            const Values<real, N> y = load<N>(output + i);
#pragma unroll
            for (int k = 0; k < N; ++k)
                g.value[k] *= y.value[k] > real(0) ? real(1) : slope;
        }
        return g;
    }
};

// Of each column: sum of the gradient, and of the gradient times the normalized value.
template <int N> struct Sums {
    Values<real, N> gradient, product;
};

// take(row, N gradients, N values) for the rows of a thread, in the columns that are its own.
template <int N, typename Take>
DEVICE void each_gradient(const Gradient &gradient, const real *values, int columns, int64 column,
                          const Share &share, const Tile &tile, Take take)
{
    const int AT_ONCE = N == 4 ? 2 : 4;  // rows whose loads are under way together
    const int64 stride = tile.height;
    for (int64 row = share.first + tile.y; row < share.end && column < columns;
         row += AT_ONCE * stride) {
        Values<real, N> g[AT_ONCE] = {}, x[AT_ONCE] = {};
#pragma unroll
        for (int u = 0; u < AT_ONCE; ++u)
            if (row + u * stride < share.end) {
                const int64 i = (row + u * stride) * columns + column;
                g[u] = gradient.at<N>(i);
                x[u] = load<N>(values + i);
            }
#pragma unroll
        for (int u = 0; u < AT_ONCE; ++u)
            if (row + u * stride < share.end)
                take(row + u * stride, g[u], x[u]);
    }
}

// The sums of one thread over its rows; normalized(value, row, k) for column k of the thread's.
template <int N, typename Normalized>
DEVICE Sums<N> gradient_sums(const Gradient &gradient, const real *values, int columns,
                             int64 column, const Share &share, const Tile &tile,
                             Normalized normalized)
{
    Sums<N> sums = {};
    each_gradient<N>(gradient, values, columns, column, share, tile,
                     [&](int64 row, const Values<real, N> &g, const Values<real, N> &x) {
                         sums.gradient += g;
#pragma unroll
                         for (int k = 0; k < N; ++k)
                             sums.product.value[k] +=
                                 g.value[k] * normalized(x.value[k], row, k);
                     });
    return sums;
}

// Where the sums of a block row go: to its two rows of `parts`, (gridDim.y, 2, columns).
template <int N>
DEVICE void store_part(const Sums<N> &sums, real *parts, int columns, int64 column)
{
    real *part = parts + 2 * (int64)blockIdx.y * columns + column;
    store(part, sums.gradient);
    store(part + columns, sums.product);
}

// What a thread finds when the threads of a column share `count` parts.
template <int N>
DEVICE Sums<N> load_parts(const real *parts, int count, int columns, int64 column,
                          const Tile &tile)
{
    Sums<N> sums = {};
    for (int p = tile.y; p < count && column < columns; p += tile.height) {
        const real *part = parts + 2 * (int64)p * columns + column;
        sums.gradient += load<N>(part);
        sums.product += load<N>(part + columns);
    }
    return sums;
}

// The total over the tile's rows of threads, in every thread.
template <int N> DEVICE Sums<N> total(Sums<N> sums, const Tile &tile, Values<real, N> *scratch)
{
    sums.gradient = column_total(sums.gradient, tile, scratch);
    sums.product = column_total(sums.product, tile, scratch);
    return sums;
}

// The gradients of gamma and beta, as far as they are given.
template <int N>
DEVICE void store_gradients(const Sums<N> &sums, real *gamma_gradient, real *beta_gradient,
                            int64 column)
{
    if (gamma_gradient)
        store(gamma_gradient + column, sums.product);
    if (beta_gradient)
        store(beta_gradient + column, sums.gradient);
}

// N neighbouring values of a vector, or `otherwise` for one that is left out.
template <int N>
DEVICE Values<real, N> load_or(const real *vector, int64 column, real otherwise)
{
    if (vector)
        return load<N>(vector + column);
    Values<real, N> values;
#pragma unroll
    for (int k = 0; k < N; ++k)
        values.value[k] = otherwise;
    return values;
}
