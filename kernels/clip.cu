// Clipping of gradients, in place.
//
//   clip_by_value  g = min(max(g, -limit), limit); NaN stays NaN
//   clip_by_norm   g *= limit / max(limit, norm), norm = sqrt(sum g**2), in double
//
// Shapes: gradients: flat (size,).
// Launch: grid-stride loops, 16 bytes per thread and turn. The norm of a small array is taken by
// one block, clip_by_norm; that of a large one by sum_of_squares, which leaves the sums of its
// blocks in `partials`, and scale_by_norm, each of whose blocks adds them all, in the same order.

#include "parameters.cuh"
#include "partials.cuh"

struct ClipByValue {
    real limit;

    DEVICE void prepare() {}

    DEVICE void operator()(real &g, real, real &, real &, real &) const
    {
        g = minimum(maximum(g, -limit), limit);  // a NaN is neither smaller nor larger
    }
};

KERNEL(256) clip_by_value(real *gradients, int64 size, real limit)
{
    wait_for_predecessor();
    ClipByValue rule = {limit};
    update_each(rule, gradients, 0, 0, 0, 0, size);
}

struct Squares {
    double sum;

    DEVICE void operator()(real g) { sum += (double)g * (double)g; }
};

struct Scale {
    real factor;

    DEVICE void prepare() {}

    DEVICE void operator()(real &g, real, real &, real &, real &) const { g *= factor; }
};

DEVICE void scale_down(real *gradients, int64 size, double squares, double limit)
{
    const double norm = sqrt(squares);
    if (norm <= limit)  // not so for a NaN, which then is everywhere
        return;
    Scale rule = {(real)(limit / norm)};
    update_each(rule, gradients, 0, 0, 0, 0, size);
}

KERNEL(512) clip_by_norm(real *gradients, int64 size, double limit)
{
    SHARED_MEMORY(double, scratch);
    wait_for_predecessor();
    Squares squares = {0.0};
    visit_each(squares, gradients, size);
    scale_down(gradients, size, block_sum(squares.sum, scratch), limit);
}

KERNEL(256) sum_of_squares(const real *gradients, double *partials, int64 size)
{
    SHARED_MEMORY(double, scratch);
    wait_for_predecessor();
    Squares squares = {0.0};
    visit_each(squares, gradients, size);
    const double sum = block_sum(squares.sum, scratch);
    if (threadIdx.x == 0)
        partials[blockIdx.x] = sum;
}

KERNEL(256) scale_by_norm(real *gradients, const double *partials, int64 size, double limit,
                          int count)
{
    SHARED_MEMORY(double, scratch);
    wait_for_predecessor();
    scale_down(gradients, size, sum_of_partials(partials, count, scratch), limit);
}
