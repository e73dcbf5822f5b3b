// Losses that are means over the outputs of a row, each with its gradient.
//
//   SIGMOID   max(p, 0) - p * t + log(1 + exp(-|p|))          sigmoid(p) - t
//   SQUARED   e**2                                            2 * e
//   ABSOLUTE  |e|                                             sign(e)
//   HUBER     e**2 / 2 if |e| <= delta,                       e, clipped to +-delta
//             else delta * (|e| - delta / 2)
//
// with e = p - t, and in SIGMOID t * keep + share in place of t;  loss_batch = sum_i weights_i * mean_k loss_ik / B, and so on:
// accumulate_loss.cuh;  gradient = its derivative times loss_weight: scale = loss_weight / (rows *
// columns).
//
// Shapes: predictions, targets, gradient (rows, columns); weights (rows,); weights and gradient
// may be null.
// Launch: a grid-stride loop over the values; one block, or several with `partials` and then
// mean_loss_finish, of one block.

#include "accumulate_loss.cuh"

enum Loss { SIGMOID, SQUARED, ABSOLUTE, HUBER };  // as in gpunn/backends/cuda/ops/losses.py

KERNEL(1024) mean_loss(const real *predictions, const real *targets, const real *weights,
                       const int64 *step, real *gradient, double *loss_batch, double *loss_sum,
                       int64 *nonfinite_step, double *partials, int64 rows, int columns,
                       real scale, int kind, real delta, real keep, real share)
{
    SHARED_MEMORY(double, scratch);
    wait_for_predecessor();
    const LossArrays to = {step, loss_batch, loss_sum, nonfinite_step, 0};
    const real half = real(0.5);
    double sum = 0;
    for (int64 i = first_index(); i < rows * columns; i += index_stride()) {
        const real p = predictions[i], t = targets[i];
        const real weight = weights ? weights[i / columns] : real(1);
        const real e = p - t, size = fabs(e);
        real loss, slope;
        switch (kind) {
        case SIGMOID: {
            const real x = exp(-fabs(p));  // never overflows
            const real smooth = t * keep + share;
            loss = maximum(p, real(0)) - p * smooth + log1p(x);
            slope = (p >= real(0) ? real(1) : x) / (real(1) + x) - smooth;
            break;
        }
        case SQUARED:
            loss = e * e;
            slope = e + e;
            break;
        case ABSOLUTE:
            loss = size;
            slope = e > real(0) ? real(1) : e < real(0) ? real(-1) : e;
            break;
        default:
            loss = size <= delta ? half * e * e : delta * (size - half * delta);
            slope = minimum(maximum(e, -delta), delta);
        }
        sum += (double)(loss * weight);
        if (gradient)
            gradient[i] = slope * (scale * weight);
    }
    reduce_loss(to, sum / columns, 0.0, rows, partials, scratch);
}

KERNEL(256) mean_loss_finish(const double *partials, const int64 *step, double *loss_batch,
                             double *loss_sum, int64 *nonfinite_step, int64 rows, int count)
{
    SHARED_MEMORY(double, scratch);
    wait_for_predecessor();
    const LossArrays to = {step, loss_batch, loss_sum, nonfinite_step, 0};
    reduce_loss_partials(to, partials, count, rows, scratch);
}
