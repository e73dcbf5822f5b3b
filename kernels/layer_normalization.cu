// Layer normalization: each row by its own mean and deviation; and its gradients.
//
//   layer_normalization           mean[b], and var the mean of (values[b, c] - mean[b])**2 over c
//                                 inverse_deviation[b] = 1 / sqrt(var + epsilon)
//                                 result = activation((values - mean) * inverse_deviation * gamma
//                                 + beta)
//   layer_normalization_gradient  with n = (values - mean) * inverse_deviation, gradient times the
//                                 activation's derivative, which is slope where output <= 0, g =
//                                 gradient * gamma, and mean_c the mean of a row:
//                                 input_gradient = inverse_deviation *
//                                 (g - mean_c(g) - n * mean_c(g * n))
//   layer_normalization_sums      gamma_gradient[c] = sum_b gradient[b, c] * n[b, c]
//                                 beta_gradient[c] = sum_b gradient[b, c]
//
// activation(z) = z above 0, slope * z below.
//
// Shapes: values, result, output, gradient, input_gradient (rows, columns); mean,
// inverse_deviation (rows,); the others (columns,). gamma, beta, output, mean, inverse_deviation
// (of the forward pass) and the gradients may be null: 1, 0, no activation, nobody wants them.
// Launch: groups of threads that take a row each (row_groups.cuh), each thread N neighbouring
// columns at a time; N is 4 in `..._by_4`, for columns that are a multiple of 4. A group goes
// through its row three times, after the first time from its cache. layer_normalization_sums: tiles
// as in batch_normalization.cu; of a long batch it leaves parts, for
// batch_normalization_gradient_finish to add up.
//
// The second pass corrects the mean for what the first has lost by rounding, so float does for
// rows with a mean much larger than their deviation.

#include "normalization.cuh"
#include "row_groups.cuh"

template <int N, typename Group>
DEVICE void forward_rows(const Group &group, const real *values, const real *gamma,
                         const real *beta, real *result, real *mean, real *inverse_deviation,
                         int64 rows, int columns, int threads, real epsilon, real slope)
{
    each_row(rows, threads, [&](int64 number, int lane, bool active) {
        const int64 row = number * columns;
        const real *x = values + row;
        const int start = N * lane, step = N * threads;
        const real first = x[0], share = real(1) / (real)columns;
        real sum = 0;
        for (int c = start; c < columns; c += step) {
            const Values<real, N> found = load<N>(x + c);
#pragma unroll
            for (int k = 0; k < N; ++k)
                sum += found.value[k] - first;
        }
        real center = first + group.sum(sum) * share;
        real left = 0, squares = 0;
        for (int c = start; c < columns; c += step) {
            const Values<real, N> found = load<N>(x + c);
#pragma unroll
            for (int k = 0; k < N; ++k) {
                const real d = found.value[k] - center;
                left += d;
                squares += d * d;
            }
        }
        left = group.sum(left) * share;
        squares = group.sum(squares) * share;
        center += left;
        const real inverse = real(1) / sqrt(maximum(squares - left * left, real(0)) + epsilon);
        if (!active)
            return;
        if (lane == 0 && mean)
            mean[number] = center;
        if (lane == 0 && inverse_deviation)
            inverse_deviation[number] = inverse;
        for (int c = start; c < columns; c += step) {
            Values<real, N> found = load<N>(x + c);
            const Values<real, N> factor = load_or<N>(gamma, c, real(1));
            const Values<real, N> shift = load_or<N>(beta, c, real(0));
#pragma unroll
            for (int k = 0; k < N; ++k)
                found.value[k] = activated(
                    (found.value[k] - center) * inverse * factor.value[k] + shift.value[k], slope);
            store(result + row + c, found);
        }
    });
}

template <int N, typename Group>
DEVICE void gradient_rows(const Group &group, const real *values, const Gradient &gradient,
                          const real *mean, const real *inverse_deviation, const real *gamma,
                          real *input_gradient, int64 rows, int columns, int threads)
{
    each_row(rows, threads, [&](int64 number, int lane, bool active) {
        const int64 row = number * columns;
        const real center = mean[number], inverse = inverse_deviation[number];
        const int start = N * lane, step = N * threads;
        real sum = 0, along = 0;
        for (int c = start; c < columns; c += step) {
            const Values<real, N> x = load<N>(values + row + c), g = gradient.at<N>(row + c);
            const Values<real, N> factor = load_or<N>(gamma, c, real(1));
#pragma unroll
            for (int k = 0; k < N; ++k) {
                const real scaled = g.value[k] * factor.value[k];
                sum += scaled;
                along += scaled * ((x.value[k] - center) * inverse);
            }
        }
        sum = group.sum(sum) / (real)columns;
        along = group.sum(along) / (real)columns;
        for (int c = start; c < columns && active; c += step) {
            const Values<real, N> x = load<N>(values + row + c);
            Values<real, N> g = gradient.at<N>(row + c);
            const Values<real, N> factor = load_or<N>(gamma, c, real(1));
#pragma unroll
            for (int k = 0; k < N; ++k) {
                const real normalized = (x.value[k] - center) * inverse;
                g.value[k] =
                    inverse * (g.value[k] * factor.value[k] - sum - normalized * along);
            }
            store(input_gradient + row + c, g);
        }
    });
}

#define ROW_KERNELS(suffix, N)                                                                    \
    BOUNDED_KERNEL(256, 2) layer_normalization##suffix(                                           \
        const real *values, const real *gamma, const real *beta, real *result, real *mean,        \
        real *inverse_deviation, int64 rows, int columns, int threads, real epsilon, real slope)  \
    {                                                                                             \
        wait_for_predecessor();                                                                   \
        forward_rows<N>(Lanes{threads}, values, gamma, beta, result, mean, inverse_deviation,     \
                        rows, columns, threads, epsilon, slope);                                  \
    }                                                                                             \
                                                                                                  \
    BOUNDED_KERNEL(256, 2) layer_normalization_wide##suffix(                                      \
        const real *values, const real *gamma, const real *beta, real *result, real *mean,        \
        real *inverse_deviation, int64 rows, int columns, int threads, real epsilon, real slope)  \
    {                                                                                             \
        SHARED_MEMORY(real, scratch);                                                             \
        wait_for_predecessor();                                                                   \
        forward_rows<N>(Block{scratch}, values, gamma, beta, result, mean, inverse_deviation,     \
                        rows, columns, threads, epsilon, slope);                                  \
    }                                                                                             \
                                                                                                  \
    BOUNDED_KERNEL(256, 2) layer_normalization_gradient##suffix(                                  \
        const real *values, const real *gradient, const real *output, real slope,                 \
        const real *mean, const real *inverse_deviation, const real *gamma,                       \
        real *input_gradient, int64 rows, int columns, int threads)                               \
    {                                                                                             \
        wait_for_predecessor();                                                                   \
        gradient_rows<N>(Lanes{threads}, values, Gradient{gradient, output, slope}, mean,         \
                         inverse_deviation, gamma, input_gradient, rows, columns, threads);       \
    }                                                                                             \
                                                                                                  \
    BOUNDED_KERNEL(256, 2) layer_normalization_gradient_wide##suffix(                             \
        const real *values, const real *gradient, const real *output, real slope,                 \
        const real *mean, const real *inverse_deviation, const real *gamma,                       \
        real *input_gradient, int64 rows, int columns, int threads)                               \
    {                                                                                             \
        SHARED_MEMORY(real, scratch);                                                             \
        wait_for_predecessor();                                                                   \
        gradient_rows<N>(Block{scratch}, values, Gradient{gradient, output, slope}, mean,         \
                         inverse_deviation, gamma, input_gradient, rows, columns, threads);       \
    }                                                                                             \
                                                                                                  \
    KERNEL(256) layer_normalization_sums##suffix(                                                 \
        const real *values, const real *gradient, const real *output, real slope,                 \
        const real *mean, const real *inverse_deviation, real *parts, real *gamma_gradient,       \
        real *beta_gradient, int64 rows, int columns, int width, int64 per_block)                 \
    {                                                                                             \
        SHARED_MEMORY(real, scratch);                                                             \
        wait_for_predecessor();                                                                   \
        const Tile tile(width);                                                                   \
        const int64 column = N * tile.across();                                                   \
        const Sums<N> own = gradient_sums<N>(                                                     \
            Gradient{gradient, output, slope}, values, columns, column, Share(rows, per_block),   \
            tile, [&](real value, int64 row, int) {                                               \
                return (value - mean[row]) * inverse_deviation[row];                              \
            });                                                                                   \
        const Sums<N> sums = total(own, tile, reinterpret_cast<Values<real, N> *>(scratch));      \
        if (tile.y > 0 || column >= columns)                                                      \
            return;                                                                               \
        if (parts)                                                                                \
            store_part(sums, parts, columns, column);                                             \
        else                                                                                      \
            store_gradients(sums, gamma_gradient, beta_gradient, column);                         \
    }

ROW_KERNELS(, 1)
ROW_KERNELS(_by_4, 4)
