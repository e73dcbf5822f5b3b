// Elementwise functions of the user's. GPUNN_BODY is their formula: statements that compute y0 from
// x0, as gpunn/backends/cuda/ops/expressions.py writes them.
//
//   expression           result[i] = f(values[i])
//   expression_gradient  input_gradient[i] = gradient[i] * f(values[i]), f being the derivative
//
// Launch: a grid-stride loop, 4 values a thread.

#include "expressions.cuh"
#include "tiles.cuh"

#ifndef GPUNN_BODY
#define GPUNN_BODY y0 = x0;
#endif

DEVICE real function(real x0)
{
    real y0;
    GPUNN_BODY
    return y0;
}

KERNEL(256) expression(const real *values, real *result, int64 size)
{
    wait_for_predecessor();
    for (int64 i = 4 * first_index(); i < size; i += 4 * index_stride()) {
        Values<real, 4> four = load_some<4>(values + i, size - i);
#pragma unroll
        for (int k = 0; k < 4; ++k)
            four.value[k] = function(four.value[k]);
        store_some(result + i, four, size - i);
    }
}

KERNEL(256) expression_gradient(const real *gradient, const real *values, real *input_gradient,
                                int64 size)
{
    wait_for_predecessor();
    for (int64 i = 4 * first_index(); i < size; i += 4 * index_stride()) {
        const Values<real, 4> x = load_some<4>(values + i, size - i);
        Values<real, 4> four = load_some<4>(gradient + i, size - i);
#pragma unroll
        for (int k = 0; k < 4; ++k)
            four.value[k] *= function(x.value[k]);
        store_some(input_gradient + i, four, size - i);
    }
}
