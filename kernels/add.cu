// result = left + right, for arrays of one shape; result may be one of the two (accumulate).
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
