// What normalization subtracts and multiplies by, once before the first step.
//
//   center[f] = (mean - shift) / scale
//   gain[f] = scale / max(sqrt(variance), epsilon), both of feature f % features, in double
//
// Shapes: mean, variance (features,); center, gain (size,), a multiple of features.
// Launch: a grid-stride loop.

#include "prelude.cuh"

KERNEL(256) normalization_statistics(const real *mean, const real *variance, real *center,
                                     real *gain, int64 size, int64 features, double scale,
                                     double shift, double epsilon)
{
    wait_for_predecessor();
    for (int64 i = first_index(); i < size; i += index_stride()) {
        const int64 f = i % features;
        const double deviation = maximum(sqrt((double)variance[f]), epsilon);
        center[i] = (real)(((double)mean[f] - shift) / scale);
        gain[i] = (real)(scale / deviation);
    }
}
