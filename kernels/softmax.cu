// Softmax along the rows, and its gradient.
//
//   softmax           result[b, c] = exp(values[b, c] - max_c) / sum_c exp(values[b, c] - max_c)
//   softmax_gradient  input_gradient[b, c] =
//                     output[b, c] * (gradient[b, c] - sum_c gradient[b, c] * output[b, c])
//
// A NaN or an infinity makes its whole row NaN.
// Shapes: (rows, columns) throughout.
// Launch: groups of `threads` per row, a power of two. Up to 32 are part of a warp, and a block
// has several; for long rows, in `..._wide`, a block is one group. Groups take rows in turn.

#include "row_groups.cuh"

template <typename Group>
DEVICE void softmax_rows(const Group &group, const real *values, real *result, int64 rows,
                         int columns, int threads)
{
    each_row(rows, threads, [&](int64 number, int lane, bool active) {
        const int64 row = number * columns;
        const real *z = values + row;
        real *y = result + row;
        real largest = z[minimum(lane, columns - 1)];
        for (int c = lane + threads; c < columns; c += threads)
            largest = maximum(largest, z[c]);
        largest = group.largest(largest);
        real total = 0;
#pragma unroll 1
        for (int c = lane; c < columns; c += threads)
            total += exp(z[c] - largest);
        total = group.sum(total);
#pragma unroll 1
        for (int c = lane; c < columns && active; c += threads)
            y[c] = exp(z[c] - largest) / total;
    });
}

template <typename Group>
DEVICE void gradient_rows(const Group &group, const real *gradient, const real *output,
                          real *input_gradient, int64 rows, int columns, int threads)
{
    each_row(rows, threads, [&](int64 number, int lane, bool active) {
        const int64 row = number * columns;
        const real *g = gradient + row, *y = output + row;
        real dot = 0;
        for (int c = lane; c < columns; c += threads)
            dot += g[c] * y[c];
        dot = group.sum(dot);
        for (int c = lane; c < columns && active; c += threads)
            input_gradient[row + c] = y[c] * (g[c] - dot);
    });
}

KERNEL(256) softmax(const real *values, real *result, int64 rows, int columns, int threads)
{
    wait_for_predecessor();
    softmax_rows(Lanes{threads}, values, result, rows, columns, threads);
}

KERNEL(256) softmax_wide(const real *values, real *result, int64 rows, int columns, int threads)
{
    SHARED_MEMORY(real, scratch);
    wait_for_predecessor();
    softmax_rows(Block{scratch}, values, result, rows, columns, threads);
}

KERNEL(256) softmax_gradient(const real *gradient, const real *output, real *input_gradient,
                             int64 rows, int columns, int threads)
{
    wait_for_predecessor();
    gradient_rows(Lanes{threads}, gradient, output, input_gradient, rows, columns, threads);
}

KERNEL(256) softmax_gradient_wide(const real *gradient, const real *output, real *input_gradient,
                                  int64 rows, int columns, int threads)
{
    SHARED_MEMORY(real, scratch);
    wait_for_predecessor();
    gradient_rows(Block{scratch}, gradient, output, input_gradient, rows, columns, threads);
}
