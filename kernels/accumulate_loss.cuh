// What all losses do with the sum of their rows: the loss of the batch, the sum over the epoch,
// the first step whose loss is not finite, and, for classes, the number of right ones.

#pragma once

#include "partials.cuh"

// The arrays, all of shape (1,). `correct` may be null.
struct LossArrays {
    const int64 *step;
    double *loss_batch, *loss_sum;
    int64 *nonfinite_step;
    double *correct;
};

// Where they stood before.
struct LossTotals {
    int64 step, nonfinite_step;
    double loss_sum, correct;

    DEVICE explicit LossTotals(const LossArrays &to)
        : step(to.step[0]), nonfinite_step(to.nonfinite_step[0]), loss_sum(to.loss_sum[0]),
          correct(to.correct ? to.correct[0] : 0.0)
    {
    }
};

// By one thread: `loss` is the weighted sum over all rows, `hits` the number of right ones.
DEVICE void finish_loss(const LossArrays &to, const LossTotals &before, double loss, double hits,
                        int64 rows)
{
    to.loss_batch[0] = loss / (double)rows;
    to.loss_sum[0] = before.loss_sum + loss;
    if (loss - loss != 0.0 && before.nonfinite_step < 0)  // not finite
        to.nonfinite_step[0] = before.step;
    if (to.correct)
        to.correct[0] = before.correct + hits;
}

// By a block: `loss` and `hits` of its threads go to the results, or to `partials` (first the
// losses of all blocks, then their hits). `scratch` is shared memory for 64 values.
DEVICE void reduce_loss(const LossArrays &to, double loss, double hits, int64 rows,
                        double *partials, double *scratch)
{
    const LossTotals before(to);  // on their way while the block adds up
    block_sums(loss, hits, scratch);
    if (threadIdx.x != 0)
        return;
    if (partials) {
        partials[blockIdx.x] = loss;
        partials[gridDim.x + blockIdx.x] = hits;
    } else {
        finish_loss(to, before, loss, hits, rows);
    }
}

// The second launch: one block adds the parts of `count` blocks.
DEVICE void reduce_loss_partials(const LossArrays &to, const double *partials, int count,
                                 int64 rows, double *scratch)
{
    double loss = 0, hits = 0;
#pragma unroll 1  // there is one turn
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        loss += partials[i];
        hits += partials[count + i];
    }
    reduce_loss(to, loss, hits, rows, 0, scratch);
}
