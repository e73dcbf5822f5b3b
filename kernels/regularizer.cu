// Penalties on weights, and with their gradient.
//
//   regularizer           sum += B * (l1 * sum|w| + l2 * sum w**2), in double
//   regularizer_gradient  gradient += l1 * sign(w) + 2 * l2 * w, and the same sum
//
// Shapes: kernel, gradient: flat (size,); sum (1,), a double.
// Launch: a grid-stride loop, 16 bytes of each array per thread and turn. The sum is taken by one
// block, or by several with `partials` and then regularizer_finish, of one block.

#include "parameters.cuh"
#include "partials.cuh"

struct Penalty {
    double absolute, squared;

    DEVICE void operator()(real w)
    {
        absolute += (double)fabs(w);
        squared += (double)w * (double)w;
    }

    DEVICE double total(double l1, double l2) const { return l1 * absolute + l2 * squared; }
};

// rows_l1, rows_l2: times the number of rows B.
KERNEL(512) regularizer(const real *kernel, double *sum, double *partials, int64 size,
                        double rows_l1, double rows_l2)
{
    SHARED_MEMORY(double, scratch);
    wait_for_predecessor();
    const double before = sum[0];
    Penalty penalty = {0.0, 0.0};
    visit_each(penalty, kernel, size);
    reduce_sum(penalty.total(rows_l1, rows_l2), before, sum, partials, scratch);
}

KERNEL(256) regularizer_finish(const double *partials, double *sum, int count)
{
    SHARED_MEMORY(double, scratch);
    wait_for_predecessor();
    reduce_sum_partials(partials, count, sum, scratch);
}

struct PenaltyGradient {
    real l1, twice_l2;
    Penalty penalty;

    DEVICE void prepare() {}

    DEVICE void operator()(real &gradient, real w, real &, real &, real &)
    {
        const real sign = w > real(0) ? real(1) : w < real(0) ? real(-1) : w;
        gradient += l1 * sign + twice_l2 * w;
        penalty(w);
    }
};

KERNEL(256) regularizer_gradient(const real *kernel, double *sum, double *partials, int64 size,
                                 double rows_l1, double rows_l2, real *gradient, real l1,
                                 real twice_l2)
{
    SHARED_MEMORY(double, scratch);
    wait_for_predecessor();
    const double before = sum[0];
    PenaltyGradient rule = {l1, twice_l2, {0.0, 0.0}};
    update_each(rule, gradient, kernel, 0, 0, 0, size);
    reduce_sum(rule.penalty.total(rows_l1, rows_l2), before, sum, partials, scratch);
}
