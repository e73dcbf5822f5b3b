// Dropout, forward and backward: the mask is drawn anew, not kept.
//
//   result[i] = values[i] / (1 - rate) where word i of the stream is at least
//               floor(rate * 2**32), else 0
//
// In the backward pass `values` is the gradient of the result, `result` that of the values.
// Shapes: values, result (size,); seed, step, rate (1,).
// Launch: a grid-stride loop, 4 values a thread: one group of random words.

#include "philox.cuh"

KERNEL(256) dropout(const real *values, real *result, int64 size, const uint64 *seed,
                    const int64 *step, const float *rate, uint32 stream)
{
    wait_for_predecessor();
    const Dropout dropout(seed, step, rate, stream);
    for (int64 i = 4 * first_index(); i < size; i += 4 * index_stride()) {
        Values<real, 4> four = load_some<4>(values + i, size - i);
        const Values<bool, 4> kept = dropout.keeps<4>(i, true);
#pragma unroll
        for (int k = 0; k < 4; ++k)
            four.value[k] = kept.value[k] ? four.value[k] * dropout.scale : real(0);
        store_some(result + i, four, size - i);
    }
}
