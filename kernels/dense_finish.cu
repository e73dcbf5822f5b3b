// What follows a matrix product, where the product itself is made elsewhere: by several blocks that
// each took a part of the reduction (dense.cu), or by the device's library.
//
//   sums = partials[0] + partials[1] + ..., in that order; partials (count, M, N)
//   finish_dense                  result = dropout(activation(sums + bias)), pre = sums + bias
//   finish_dense_input_gradient   input_gradient = sums * derivative of activation and dropout;
//                                 its sums over the rows
//   finish_dense_kernel_gradient  kernel_gradient = sums, or kernel -= learning_rate * sums
//
// Shapes as in dense.cu. The result may be the partial sum itself, where there is one.
//
// Launch: 256 threads take `groups` (a power of two) groups of VECTOR values across, of which the
// last may reach beyond the last column, and 256 / groups rows at a time; blocks along grid x lie
// side by side, along grid y they take `rows` rows each.

#include "epilogue.cuh"

static const int FINISH_THREADS = 256;

// Reads the sum of the partials.
struct Partials {
    const real *partials;
    int count;
    int64 size;  // of one
    int columns;
    bool vectors;

    DEVICE Partials(const real *partials, int count, int M, int N)
        : partials(partials), count(count), size((int64)M * N), columns(N),
          vectors(N % VECTOR == 0 && is_aligned<VECTOR>(partials))
    {
    }

    template <int W> DEVICE void read(int row, int column, int width, real (&values)[W]) const
    {
        const real *at = partials + (int64)row * columns + column;
        read_group(values, at, width, vectors);
#pragma unroll 4
        for (int i = 1; i < count; ++i) {
            real part[W];
            read_group(part, at + i * size, width, vectors);
#pragma unroll
            for (int j = 0; j < W; ++j)
                values[j] += part[j];
        }
    }
};

DEVICE int first_column(int groups) { return blockIdx.x * groups * VECTOR; }

DEVICE Place finish_place(int M, int N, int groups, int rows)
{
    const int row = blockIdx.y * rows;
    return Place(row, minimum(M, row + rows), first_column(groups), N, groups, VECTOR,
                 FINISH_THREADS);
}

BOUNDED_KERNEL(FINISH_THREADS, 2)
    finish_dense(const real *partials, int count, const real *bias, real *pre, real *result,
                 const uint64 *seed, const int64 *step, const float *rate, uint32 stream,
                 int activation, real parameter, int M, int N, int groups, int rows)
{
    wait_for_predecessor();
    const Place at = finish_place(M, N, groups, rows);
    real bias_group[VECTOR];
#pragma unroll
    for (int j = 0; j < VECTOR; ++j)
        bias_group[j] = bias && j < at.count ? bias[at.column + j] : real(0);
    const Forward forward = {pre,    result,     seed,      step, rate,
                             stream, activation, parameter, N};
    forward.finish(Partials(partials, count, M, N), at, bias_group);
}

BOUNDED_KERNEL(FINISH_THREADS, 2)
    finish_dense_input_gradient(const real *partials, int count, const real *value,
                                int value_is_output, real *input_gradient, real *bias_sums,
                                real *bias, const real *learning_rate, const uint64 *seed,
                                const int64 *step, const float *rate, uint32 stream, int activation,
                                real parameter, int M, int N, int groups, int rows)
{
    SHARED_MEMORY(real, shared);
    wait_for_predecessor();
    const Place at = finish_place(M, N, groups, rows);
    const InputGradient finishing = {value,  input_gradient,  seed,       step,      rate,
                                     stream, value_is_output, activation, parameter, N};
    const BiasGradient sink(bias_sums, bias, learning_rate, blockIdx.y, first_column(groups), N);
    Ahead<1, VECTOR> ahead;
    real totals[VECTOR];
    finishing.finish<false>(Partials(partials, count, M, N), at, ahead, totals);
    sink.finish(totals, at, groups, shared);
}

BOUNDED_KERNEL(FINISH_THREADS, 2)
    finish_dense_kernel_gradient(const real *partials, int count, real *result,
                                 const real *learning_rate, int M, int N, int groups, int rows)
{
    wait_for_predecessor();
    const Place at = finish_place(M, N, groups, rows);
    const KernelGradient finishing = {result, learning_rate, N};
    Ahead<1, VECTOR> ahead;
    finishing.finish<false>(Partials(partials, count, M, N), at, ahead);
}
