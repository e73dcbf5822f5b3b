// Losses and metrics of the user's, means over the outputs of a row. GPUNN_BODY is the formula:
// statements that compute from x0, the target, and x1, the prediction, the value y0 and, of a
// loss, its derivative y1 with respect to the prediction.
//
//   expression_loss  loss_batch = sum_i weights_i * mean_k y0_ik / B, and so on:
//                    accumulate_loss.cuh; gradient = y1 * scale * weights_i,
//                    scale = loss_weight / (rows * columns)
//   expression_sum   sum += sum_i mean_k y0_ik
//
// Shapes: predictions, targets, gradient (rows, columns); weights (rows,); weights and gradient
// may be null.
// Launch: a grid-stride loop over the values; one block, or several with `partials` and then the
// kernel's _finish, of one block.

#include "accumulate_loss.cuh"
#include "expressions.cuh"

#ifndef GPUNN_BODY
#define GPUNN_BODY y0 = x1 - x0; y1 = real(1);
#endif

struct Result {
    real value, slope;
};

DEVICE Result function(real x0, real x1)
{
    real y0, y1 = real(0);
    GPUNN_BODY
    return {y0, y1};
}

KERNEL(256) expression_loss(const real *predictions, const real *targets, const real *weights,
                            const int64 *step, real *gradient, double *loss_batch,
                            double *loss_sum, int64 *nonfinite_step, double *partials, int64 rows,
                            int columns, real scale)
{
    SHARED_MEMORY(double, scratch);
    wait_for_predecessor();
    const LossArrays to = {step, loss_batch, loss_sum, nonfinite_step, 0};
    double sum = 0;
    for (int64 i = first_index(); i < rows * columns; i += index_stride()) {
        const Result loss = function(targets[i], predictions[i]);
        const real weight = weights ? weights[i / columns] : real(1);
        sum += (double)(loss.value * weight);
        if (gradient)
            gradient[i] = loss.slope * (scale * weight);
    }
    reduce_loss(to, sum / columns, 0.0, rows, partials, scratch);
}

KERNEL(256) expression_loss_finish(const double *partials, const int64 *step, double *loss_batch,
                                   double *loss_sum, int64 *nonfinite_step, int64 rows, int count)
{
    SHARED_MEMORY(double, scratch);
    wait_for_predecessor();
    const LossArrays to = {step, loss_batch, loss_sum, nonfinite_step, 0};
    reduce_loss_partials(to, partials, count, rows, scratch);
}

KERNEL(256) expression_sum(const real *predictions, const real *targets, double *sum,
                           double *partials, int64 rows, int columns)
{
    SHARED_MEMORY(double, scratch);
    wait_for_predecessor();
    const double before = sum[0];
    double total = 0;
    for (int64 i = first_index(); i < rows * columns; i += index_stride())
        total += (double)function(targets[i], predictions[i]).value;
    reduce_sum(total / columns, before, sum, partials, scratch);
}

KERNEL(256) expression_sum_finish(const double *partials, double *sum, int count)
{
    SHARED_MEMORY(double, scratch);
    wait_for_predecessor();
    reduce_sum_partials(partials, count, sum, scratch);
}
