// add:      result = left + right, for arrays of one shape; result may be one of the two
//           (accumulate).
// multiply: result = left * right, likewise.
//
// Launch: a grid-stride loop, 4 values a thread.

#include "tiles.cuh"

KERNEL(256) add(const real *left, const real *right, real *result, int64 size)
{
    wait_for_predecessor();
    for (int64 i = 4 * first_index(); i < size; i += 4 * index_stride()) {
        Values<real, 4> sum = load_some<4>(left + i, size - i);
        sum += load_some<4>(right + i, size - i);
        store_some(result + i, sum, size - i);
    }
}

KERNEL(256) multiply(const real *left, const real *right, real *result, int64 size)
{
    wait_for_predecessor();
    for (int64 i = 4 * first_index(); i < size; i += 4 * index_stride()) {
        Values<real, 4> product = load_some<4>(left + i, size - i);
        const Values<real, 4> factor = load_some<4>(right + i, size - i);
#pragma unroll
        for (int k = 0; k < 4; ++k)
            product.value[k] *= factor.value[k];
        store_some(result + i, product, size - i);
    }
}
