// Softmax and cross-entropy from logits z: loss, gradient and number of right rows in one pass.
//
//   s = z - max z;  total = sum_k exp(s_k);  mass = sum_k t_k  (1 for class numbers)
//   loss_i        = log(total) * mass - sum_k t_k * s_k        (no term where t_k is 0)
//   gradient_ik   = (exp(s_k) / total * mass - t_k) * loss_weight / B * weights_i
//   where t_k is the target's value times `keep`, plus `spread` (1 and 0 without label smoothing)
//   correct      += rows whose first largest logit is the class (the first largest target)
//   loss_batch    = sum_i weights_i * loss_i / B, and so on: accumulate_loss.cuh
//
// Shapes: predictions, gradient (rows, columns); labels (rows,), or targets (rows, columns), the
// other null; weights (rows,) or null; gradient and correct may be null.
//
// softmax_cross_entropy_4, _16: a row is taken by `lanes` neighbouring lanes of a warp, each with
//   at most 4 or 16 values, which it reads once and keeps in registers. 32 lanes at most.
// softmax_cross_entropy_row: a block per row; it keeps the row in shared memory, if told so.
// One block, or several with `partials` and then softmax_cross_entropy_finish, of one block.

#include "accumulate_loss.cuh"
#include "argmax.cuh"

struct Smoothing {
    real keep, spread;

    DEVICE real operator()(real target) const { return target * keep + spread; }
};

// The target of a column.
DEVICE real target_at(const real *targets, int64 start, int column, int label)
{
    return targets ? targets[start + column] : column == label ? real(1) : real(0);
}

template <int VALUES>
DEVICE void by_lanes(const real *predictions, const int *labels, const real *targets,
                     const real *weights, real *gradient, const LossArrays &to, double *partials,
                     double *scratch, int64 rows, int columns, int lanes, real scale,
                     const Smoothing &smooth)
{
    const int lane = threadIdx.x % lanes;
    double loss = 0, hits = 0;
    for (Rows r(rows, lanes); r.more(); r.next()) {
        const int64 start = r.row * columns;
        const real weight = weights ? weights[r.row] : real(1);
        int label = labels ? labels[r.row] : 0;
        real z[VALUES];
#pragma unroll
        for (int k = 0; k < VALUES; ++k)
            z[k] = lane + k * lanes < columns ? predictions[start + lane + k * lanes] : real(0);
        Best best = {z[0], lane};  // there are no more lanes than columns
#pragma unroll
        for (int k = 1; k < VALUES; ++k)
            if (lane + k * lanes < columns)
                best = better(best, Best{z[k], lane + k * lanes});
        best = warp_best(best, lanes);

        real total = 0, product = 0, mass = 0;
        Best best_target = {targets ? targets[start + lane] : real(0), lane};
#pragma unroll
        for (int k = 0; k < VALUES; ++k) {
            const int column = lane + k * lanes;
            if (column < columns) {
                const real target = target_at(targets, start, column, label);
                const real t = smooth(target), shifted = z[k] - best.value;
                if (t != real(0))  // must not meet an infinite logit
                    product += t * shifted;
                z[k] = exp(shifted);
                total += z[k];
                mass += t;
                best_target = better(best_target, Best{target, column});
            }
        }
        total = warp_sum(total, lanes);
        product = warp_sum(product, lanes);
        if (targets) {
            mass = warp_sum(mass, lanes);
            label = warp_best(best_target, lanes).index;
        } else {
            mass = 1;
        }
        if (r.active && lane == 0) {
            loss += (double)((log(total) * mass - product) * weight);
            hits += best.index == label;
        }
        if (r.active && gradient) {
            const real share = mass / total, factor = scale * weight;
#pragma unroll
            for (int k = 0; k < VALUES; ++k) {
                const int column = lane + k * lanes;
                if (column < columns) {
                    const real t = smooth(target_at(targets, start, column, label));
                    gradient[start + column] = (z[k] * share - t) * factor;
                }
            }
        }
    }
    reduce_loss(to, loss, hits, rows, partials, scratch);
}

#define ARGUMENTS                                                                              \
    const real *predictions, const int *labels, const real *targets, const real *weights,      \
        const int64 *step, real *gradient, double *loss_batch, double *loss_sum,               \
        int64 *nonfinite_step, double *correct, double *partials, int64 rows, int columns,     \
        real scale, real keep, real spread
#define LOSS_ARRAYS LossArrays{step, loss_batch, loss_sum, nonfinite_step, correct}

KERNEL(384) softmax_cross_entropy_4(ARGUMENTS, int lanes)
{
    SHARED_MEMORY(double, scratch);
    wait_for_predecessor();
    by_lanes<4>(predictions, labels, targets, weights, gradient, LOSS_ARRAYS, partials, scratch,
                rows, columns, lanes, scale, Smoothing{keep, spread});
}

KERNEL(384) softmax_cross_entropy_16(ARGUMENTS, int lanes)
{
    SHARED_MEMORY(double, scratch);
    wait_for_predecessor();
    by_lanes<16>(predictions, labels, targets, weights, gradient, LOSS_ARRAYS, partials, scratch,
                 rows, columns, lanes, scale, Smoothing{keep, spread});
}

KERNEL(768) softmax_cross_entropy_row(ARGUMENTS, int keeps)
{
    SHARED_MEMORY(double, scratch);
    wait_for_predecessor();
    Best *best_scratch = reinterpret_cast<Best *>(scratch);
    real *kept = reinterpret_cast<real *>(scratch + 2 * WARP);  // each thread reads only its own
    const Smoothing smooth = {keep, spread};
    double loss = 0, hits = 0;
    for (int64 row = blockIdx.x; row < rows; row += gridDim.x) {
        const int64 start = row * columns;
        const real *z = predictions + start;
        int label = labels ? labels[row] : 0;
        Best best = {z[0], 0};
        Best best_target = {targets ? targets[start] : real(0), 0};
        double mass = 0;
        for (int column = threadIdx.x; column < columns; column += blockDim.x) {
            const real value = z[column];
            if (keeps)
                kept[column] = value;
            best = better(best, Best{value, column});
            if (targets) {
                const real t = targets[start + column];
                best_target = better(best_target, Best{t, column});
                mass += (double)smooth(t);
            }
        }
        best = block_best(best, best_scratch);
        if (targets) {
            label = block_best(best_target, best_scratch).index;
            mass = block_sum(mass, scratch);
        } else {
            mass = 1;
        }

        double total = 0, product = 0;
        for (int column = threadIdx.x; column < columns; column += blockDim.x) {
            const real shifted = (keeps ? kept[column] : z[column]) - best.value;
            const real t = smooth(target_at(targets, start, column, label));
            if (t != real(0))
                product += (double)(t * shifted);
            const real e = exp(shifted);
            if (keeps)
                kept[column] = e;
            total += (double)e;
        }
        block_sums(total, product, scratch);
        const real weight = weights ? weights[row] : real(1);
        if (threadIdx.x == 0) {
            loss += (log(total) * mass - product) * (double)weight;
            hits += best.index == label;
        }
        if (gradient) {
            const real share = (real)(mass / total), factor = scale * weight;
            for (int column = threadIdx.x; column < columns; column += blockDim.x) {
                const real e = keeps ? kept[column] : exp(z[column] - best.value);
                const real t = smooth(target_at(targets, start, column, label));
                gradient[start + column] = (e * share - t) * factor;
            }
        }
    }
    const LossArrays to = LOSS_ARRAYS;
    reduce_loss(to, loss, hits, rows, partials, scratch);
}

KERNEL(256) softmax_cross_entropy_finish(const double *partials, const int64 *step,
                                         double *loss_batch, double *loss_sum,
                                         int64 *nonfinite_step, double *correct, int64 rows,
                                         int count)
{
    SHARED_MEMORY(double, scratch);
    wait_for_predecessor();
    reduce_loss_partials(LOSS_ARRAYS, partials, count, rows, scratch);
}
