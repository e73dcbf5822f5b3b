// Batch normalization, with the statistics of the batch in training and given ones in inference.
//
//   batch_normalization            of each column c, over the batch:
//                                  mean[c], and var the mean of (values[b, c] - mean[c])**2
//                                  inverse_deviation[c] = 1 / sqrt(var + epsilon)
//                                  result = activation((values - mean) * inverse_deviation * gamma
//                                  + beta)
//                                  moving = moving * momentum + batch * (1 - momentum), of mean
//                                  and variance
//   batch_normalization_inference  result = activation((values - mean) / sqrt(variance + epsilon)
//                                  * gamma + beta)
//   batch_normalization_gradient   with n = (values - mean) * inverse_deviation, and gradient times
//                                  the activation's derivative, which is slope where output <= 0:
//                                  beta_gradient[c] = sum_b gradient[b, c]
//                                  gamma_gradient[c] = sum_b gradient[b, c] * n[b, c]
//                                  input_gradient = gamma * inverse_deviation *
//                                  (gradient - (beta_gradient + n * gamma_gradient) / rows)
//
// activation(z) = z above 0, slope * z below.
//
// Shapes: values, result, output, gradient, input_gradient (rows, columns); the others (columns,).
// gamma, beta, output and the gradients may be null: 1, 0, no activation, nobody wants them.
// share_of_batch is 1 - momentum.
// Launch: tiles of threads (tiles.cuh), each thread N columns; N is 4 in `..._by_4`, for columns
// that are a multiple of 4. A short batch is done in one launch of one block row, which reads the
// values twice, the second time from its cache. A long one takes two, with `share` rows to a block
// row: `..._parts` leaves what each block row has found, and in `..._finish` each block adds that
// up for its columns and goes through its rows.
//
// A thread adds up differences from its first value, and what threads and blocks have found is put
// together as differences from the first row. So float does for columns with a mean much larger
// than their deviation: all that is added up is of the size of the deviation.

#include "normalization.cuh"

// Number of values, mean of their differences from the first row, and the sum of squared
// differences from that mean, by column.
template <int N> struct Moments {
    real count;
    Values<real, N> mean, squares;
};

// The moments of one thread; `origin` is its part of the first row.
template <int N>
DEVICE Moments<N> moments(const real *values, const Values<real, N> &origin, int columns,
                          int64 column, const Share &share, const Tile &tile)
{
    const int AT_ONCE = 4;  // rows whose loads are under way together
    const int64 stride = tile.height, start = share.first + tile.y;
    Moments<N> found = {};
    if (column >= columns || start >= share.end)
        return found;
    const Values<real, N> first = load<N>(values + start * columns + column);
    Values<real, N> sum = {}, squares = {};
    for (int64 row = start + stride; row < share.end; row += AT_ONCE * stride) {
        Values<real, N> x[AT_ONCE];
#pragma unroll
        for (int u = 0; u < AT_ONCE; ++u) {
            const int64 there = row + u * stride;
            x[u] = there < share.end ? load<N>(values + there * columns + column) : first;
        }
#pragma unroll
        for (int u = 0; u < AT_ONCE; ++u)
#pragma unroll
            for (int k = 0; k < N; ++k) {
                const real d = x[u].value[k] - first.value[k];
                sum.value[k] += d;
                squares.value[k] += d * d;
            }
    }
    found.count = (real)((share.end - start + stride - 1) / stride);
    const real each = real(1) / found.count;
#pragma unroll
    for (int k = 0; k < N; ++k) {
        const real shift = sum.value[k] * each;
        found.mean.value[k] = first.value[k] - origin.value[k] + shift;
        found.squares.value[k] = maximum(squares.value[k] - shift * sum.value[k], real(0));
    }
    return found;
}

// Moments of `count` values, from all that the threads of a column have: each(visit) calls visit
// on those of a thread.
template <int N, typename Each>
DEVICE Moments<N> together(int64 count, const Tile &tile, real *shared, Each each)
{
    Values<real, N> *scratch = reinterpret_cast<Values<real, N> *>(shared);
    Values<real, N> sum = {};
    each([&](const Moments<N> &own) {
#pragma unroll
        for (int k = 0; k < N; ++k)
            sum.value[k] += own.count * own.mean.value[k];
    });
    Moments<N> all;
    all.count = (real)count;
    all.mean = column_total(sum, tile, scratch);
#pragma unroll
    for (int k = 0; k < N; ++k)
        all.mean.value[k] /= all.count;
    Values<real, N> squares = {};
    each([&](const Moments<N> &own) {
#pragma unroll
        for (int k = 0; k < N; ++k) {
            const real d = own.mean.value[k] - all.mean.value[k];
            squares.value[k] += own.squares.value[k] + own.count * d * d;
        }
    });
    all.squares = column_total(squares, tile, scratch);
    return all;
}

// A thread's part of the first row.
template <int N>
DEVICE Values<real, N> first_row(const real *values, int columns, int64 column)
{
    const Values<real, N> none = {};
    return column < columns ? load<N>(values + column) : none;
}

template <int N>
DEVICE Moments<N> block_moments(const real *values, int columns, int64 column, const Share &share,
                                const Tile &tile, real *shared)
{
    const Values<real, N> origin = first_row<N>(values, columns, column);
    const Moments<N> own = moments<N>(values, origin, columns, column, share, tile);
    return together<N>(share.end - share.first, tile, shared, [&](auto visit) { visit(own); });
}

// result = activation((values - mean) * factor + beta), for a block's share of rows.
template <int N>
DEVICE void normalize(const real *values, const Values<real, N> &mean,
                      const Values<real, N> &factor, const real *beta, real slope, real *result,
                      int columns, int64 column, const Share &share, const Tile &tile)
{
    if (column >= columns)
        return;
    const Values<real, N> shift = load_or<N>(beta, column, real(0));
    const int AT_ONCE = N == 4 ? 2 : 4;
    const int64 stride = tile.height;
    for (int64 row = share.first + tile.y; row < share.end; row += AT_ONCE * stride) {
        Values<real, N> x[AT_ONCE] = {};
#pragma unroll
        for (int u = 0; u < AT_ONCE; ++u)
            if (row + u * stride < share.end)
                x[u] = load<N>(values + (row + u * stride) * columns + column);
#pragma unroll
        for (int u = 0; u < AT_ONCE; ++u)
            if (row + u * stride < share.end) {
#pragma unroll
                for (int k = 0; k < N; ++k)
                    x[u].value[k] = activated(
                        (x[u].value[k] - mean.value[k]) * factor.value[k] + shift.value[k], slope);
                store(result + (row + u * stride) * columns + column, x[u]);
            }
    }
}

// What follows once the moments of the whole batch are known.
template <int N>
DEVICE void normalize_batch(const Moments<N> &batch, const real *values, const real *gamma,
                            const real *beta, real *result, real *mean, real *inverse_deviation,
                            real *moving_mean, real *moving_variance, int columns, int64 column,
                            const Share &share, const Tile &tile, real momentum,
                            real share_of_batch, real epsilon, real slope)
{
    if (column >= columns)
        return;
    const bool writes = blockIdx.y == 0 && tile.y == 0;
    const Values<real, N> origin = load<N>(values + column);
    Values<real, N> center, inverse, factor = load_or<N>(gamma, column, real(1));
#pragma unroll
    for (int k = 0; k < N; ++k) {
        const real variance = batch.squares.value[k] / batch.count;
        center.value[k] = origin.value[k] + batch.mean.value[k];
        inverse.value[k] = real(1) / sqrt(variance + epsilon);
        factor.value[k] *= inverse.value[k];
        if (writes) {
            const int64 c = column + k;
            moving_mean[c] = moving_mean[c] * momentum + center.value[k] * share_of_batch;
            moving_variance[c] = moving_variance[c] * momentum + variance * share_of_batch;
        }
    }
    if (writes) {
        store(mean + column, center);
        store(inverse_deviation + column, inverse);
    }
    normalize(values, center, factor, beta, slope, result, columns, column, share, tile);
}

#define FORWARD_KERNELS(suffix, N)                                                                \
    KERNEL(256) batch_normalization##suffix(                                                      \
        const real *values, const real *gamma, const real *beta, real *result, real *mean,        \
        real *inverse_deviation, real *moving_mean, real *moving_variance, int64 rows,            \
        int columns, int width, real momentum, real share_of_batch, real epsilon, real slope)     \
    {                                                                                             \
        SHARED_MEMORY(real, shared);                                                              \
        wait_for_predecessor();                                                                   \
        const Tile tile(width);                                                                   \
        const int64 column = N * tile.across();                                                   \
        const Share share(rows, rows);                                                            \
        const Moments<N> batch =                                                                  \
            block_moments<N>(values, columns, column, share, tile, shared);                       \
        normalize_batch(batch, values, gamma, beta, result, mean, inverse_deviation, moving_mean, \
                        moving_variance, columns, column, share, tile, momentum, share_of_batch,  \
                        epsilon, slope);                                                          \
    }                                                                                             \
                                                                                                  \
    KERNEL(256) batch_normalization_parts##suffix(const real *values, real *parts, int64 rows,    \
                                                  int columns, int width, int64 per_block)        \
    {                                                                                             \
        SHARED_MEMORY(real, shared);                                                              \
        wait_for_predecessor();                                                                   \
        const Tile tile(width);                                                                   \
        const int64 column = N * tile.across();                                                   \
        const Moments<N> found = block_moments<N>(values, columns, column,                        \
                                                  Share(rows, per_block), tile, shared);          \
        if (tile.y > 0 || column >= columns)                                                      \
            return;                                                                               \
        real *part = parts + 2 * (int64)blockIdx.y * columns + column;                            \
        store(part, found.mean);                                                                  \
        store(part + columns, found.squares);                                                     \
    }                                                                                             \
                                                                                                  \
    KERNEL(256) batch_normalization_finish##suffix(                                               \
        const real *parts, const real *values, const real *gamma, const real *beta, real *result, \
        real *mean, real *inverse_deviation, real *moving_mean, real *moving_variance,            \
        int64 rows, int columns, int width, int64 per_block, real momentum,                       \
        real share_of_batch, real epsilon, real slope)                                            \
    {                                                                                             \
        SHARED_MEMORY(real, shared);                                                              \
        wait_for_predecessor();                                                                   \
        const Tile tile(width);                                                                   \
        const int64 column = N * tile.across();                                                   \
        const Moments<N> batch = together<N>(rows, tile, shared, [&](auto visit) {                \
            for (int p = tile.y; p < (int)gridDim.y && column < columns; p += tile.height) {      \
                const real *part = parts + 2 * (int64)p * columns + column;                       \
                const int64 left = rows - p * per_block;                                          \
                visit(Moments<N>{(real)minimum(left, per_block), load<N>(part),                   \
                                 load<N>(part + columns)});                                       \
            }                                                                                     \
        });                                                                                       \
        normalize_batch(batch, values, gamma, beta, result, mean, inverse_deviation, moving_mean, \
                        moving_variance, columns, column, Share(rows, per_block), tile, momentum, \
                        share_of_batch, epsilon, slope);                                          \
    }                                                                                             \
                                                                                                  \
    KERNEL(256) batch_normalization_inference##suffix(                                            \
        const real *values, const real *mean, const real *variance, const real *gamma,            \
        const real *beta, real *result, int64 rows, int columns, int width, int64 per_block,      \
        real epsilon, real slope)                                                                 \
    {                                                                                             \
        wait_for_predecessor();                                                                   \
        const Tile tile(width);                                                                   \
        const int64 column = N * tile.across();                                                   \
        if (column >= columns)                                                                    \
            return;                                                                               \
        Values<real, N> factor = load_or<N>(gamma, column, real(1));                              \
        const Values<real, N> spread = load<N>(variance + column);                                \
        for (int k = 0; k < N; ++k)                                                               \
            factor.value[k] *= real(1) / sqrt(spread.value[k] + epsilon);                         \
        normalize(values, load<N>(mean + column), factor, beta, slope, result, columns, column,   \
                  Share(rows, per_block), tile);                                                  \
    }

FORWARD_KERNELS(, 1)
FORWARD_KERNELS(_by_4, 4)

// The gradients, where the sums over the whole batch are known.
template <int N>
DEVICE void batch_gradients(const Sums<N> &batch, const real *values, const Gradient &gradient,
                            const real *mean, const real *inverse_deviation, const real *gamma,
                            real *input_gradient, real *gamma_gradient, real *beta_gradient,
                            int64 rows, int columns, int64 column, const Share &share,
                            const Tile &tile)
{
    if (column >= columns)
        return;
    if (blockIdx.y == 0 && tile.y == 0)
        store_gradients(batch, gamma_gradient, beta_gradient, column);
    if (!input_gradient)
        return;
    const Values<real, N> center = load<N>(mean + column);
    const Values<real, N> inverse = load<N>(inverse_deviation + column);
    Values<real, N> factor = load_or<N>(gamma, column, real(1));
    Values<real, N> constant, slope;  // what is subtracted: constant + slope * (value - mean)
#pragma unroll
    for (int k = 0; k < N; ++k) {
        factor.value[k] *= inverse.value[k];
        constant.value[k] = batch.gradient.value[k] / (real)rows;
        slope.value[k] = batch.product.value[k] / (real)rows * inverse.value[k];
    }
    each_gradient<N>(gradient, values, columns, column, share, tile,
                     [&](int64 row, Values<real, N> &g, const Values<real, N> &x) {
#pragma unroll
                         for (int k = 0; k < N; ++k) {
                             const real common = constant.value[k] +
                                                 slope.value[k] * (x.value[k] - center.value[k]);
                             g.value[k] = factor.value[k] * (g.value[k] - common);
                         }
                         store(input_gradient + row * columns + column, g);
                     });
}

// The sums of a block over its share of rows, in every thread of a column.
template <int N>
DEVICE Sums<N> block_sums_of_gradient(const real *values, const Gradient &gradient,
                                      const real *mean, const real *inverse_deviation,
                                      int columns, int64 column, const Share &share,
                                      const Tile &tile, real *shared)
{
    Values<real, N> center = {}, inverse = {};
    if (column < columns) {
        center = load<N>(mean + column);
        inverse = load<N>(inverse_deviation + column);
    }
    const Sums<N> own = gradient_sums<N>(
        gradient, values, columns, column, share, tile, [&](real value, int64, int k) {
            return (value - center.value[k]) * inverse.value[k];
        });
    return total(own, tile, reinterpret_cast<Values<real, N> *>(shared));
}

#define BACKWARD_KERNELS(suffix, N)                                                               \
    BOUNDED_KERNEL(256, 2) batch_normalization_gradient##suffix(                                  \
        const real *values, const real *gradient, const real *output, real slope,                 \
        const real *mean, const real *inverse_deviation, const real *gamma,                       \
        real *input_gradient, real *gamma_gradient, real *beta_gradient, int64 rows, int columns, \
        int width)                                                                                \
    {                                                                                             \
        SHARED_MEMORY(real, shared);                                                              \
        wait_for_predecessor();                                                                   \
        const Tile tile(width);                                                                   \
        const int64 column = N * tile.across();                                                   \
        const Share share(rows, rows);                                                            \
        const Gradient incoming = {gradient, output, slope};                                      \
        const Sums<N> batch =                                                                     \
            block_sums_of_gradient<N>(values, incoming, mean, inverse_deviation, columns, column, \
                                      share, tile, shared);                                       \
        batch_gradients(batch, values, incoming, mean, inverse_deviation, gamma, input_gradient,  \
                        gamma_gradient, beta_gradient, rows, columns, column, share, tile);       \
    }                                                                                             \
                                                                                                  \
    BOUNDED_KERNEL(256, 2) batch_normalization_gradient_parts##suffix(                            \
        const real *values, const real *gradient, const real *output, real slope,                 \
        const real *mean, const real *inverse_deviation, real *parts, int64 rows, int columns,    \
        int width, int64 per_block)                                                               \
    {                                                                                             \
        SHARED_MEMORY(real, shared);                                                              \
        wait_for_predecessor();                                                                   \
        const Tile tile(width);                                                                   \
        const int64 column = N * tile.across();                                                   \
        const Gradient incoming = {gradient, output, slope};                                      \
        const Sums<N> found =                                                                     \
            block_sums_of_gradient<N>(values, incoming, mean, inverse_deviation, columns, column, \
                                      Share(rows, per_block), tile, shared);                      \
        if (tile.y == 0 && column < columns)                                                      \
            store_part(found, parts, columns, column);                                            \
    }                                                                                             \
                                                                                                  \
    BOUNDED_KERNEL(256, 2) batch_normalization_gradient_finish##suffix(                           \
        const real *parts, int count, const real *values, const real *gradient,                   \
        const real *output, real slope, const real *mean, const real *inverse_deviation,          \
        const real *gamma, real *input_gradient, real *gamma_gradient, real *beta_gradient,       \
        int64 rows, int columns, int width, int64 per_block)                                      \
    {                                                                                             \
        SHARED_MEMORY(real, shared);                                                              \
        wait_for_predecessor();                                                                   \
        const Tile tile(width);                                                                   \
        const int64 column = N * tile.across();                                                   \
        const Gradient incoming = {gradient, output, slope};                                      \
        const Sums<N> batch = total(load_parts<N>(parts, count, columns, column, tile), tile,     \
                                    reinterpret_cast<Values<real, N> *>(shared));                 \
        batch_gradients(batch, values, incoming, mean, inverse_deviation, gamma, input_gradient,  \
                        gamma_gradient, beta_gradient, rows, columns, column,                     \
                        Share(rows, per_block), tile);                                            \
    }

BACKWARD_KERNELS(, 1)
BACKWARD_KERNELS(_by_4, 4)
