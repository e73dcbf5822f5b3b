// Scaling between layers (Rescaling, Normalization), and its gradient.
//
//   affine           result[b, f] = values[b, f] * scale + shift
//                    or (values[b, f] - center[f]) * gain[f], where gain is given
//   affine_gradient  input_gradient[b, f] = gradient[b, f] * scale, or * gain[f]
//
// Shapes: values, result, gradients (batch, features); center, gain (features,).
// Launch: a grid-stride loop over the values, 256 threads a block.

#include "prelude.cuh"

// Feature of each value of a grid-stride loop, without a division for each.
struct Feature {
    int f, stride, features;

    DEVICE explicit Feature(int features)
        : f((int)(first_index() % features)), stride((int)(index_stride() % features)),
          features(features)
    {
    }

    DEVICE void advance()
    {
        f += stride - features;  // features may be near 2**31
        if (f < 0)
            f += features;
    }
};

KERNEL(256) affine(const real *values, const real *center, const real *gain, real *result,
                   int64 size, int features, real scale, real shift)
{
    wait_for_predecessor();
    Feature feature(features);
    for (int64 i = first_index(); i < size; i += index_stride(), feature.advance()) {
        const int f = feature.f;
        result[i] = gain ? (values[i] - center[f]) * gain[f] : values[i] * scale + shift;
    }
}

KERNEL(256) affine_gradient(const real *gradient, const real *gain, real *input_gradient,
                            int64 size, int features, real scale)
{
    wait_for_predecessor();
    Feature feature(features);
    for (int64 i = first_index(); i < size; i += index_stride(), feature.advance())
        input_gradient[i] = gradient[i] * (gain ? gain[feature.f] : scale);
}
