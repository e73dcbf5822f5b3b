// Metrics: each adds to `sum` (a double) what the rows of a batch give.
//
//   categorical_accuracy  rows whose first largest prediction is the target's class
//   top_k_accuracy        rows with fewer than k predictions larger than that of the class
//   mean_metric           mean over the outputs, summed over the rows, of
//                         BINARY (p > threshold) == (t > 0.5), ABSOLUTE |p - t|,
//                         SQUARED (p - t)**2
//
// Shapes: predictions (rows, columns); labels (rows,), or targets (rows, columns), the other null;
// the class of a row of targets is its first largest.
// Launch: `lanes` neighbouring lanes of a warp per row, or a grid-stride loop over the values; one
// block, or several with `partials` and then metric_finish, of one block.

#include "argmax.cuh"
#include "partials.cuh"

enum Metric { BINARY, ABSOLUTE, SQUARED };  // as in gpunn/backends/cuda/ops/losses.py

BOUNDED_KERNEL(512, 1)
    categorical_accuracy(const real *predictions, const int *labels, const real *targets,
                         double *sum, double *partials, int64 rows, int columns, int lanes)
{
    SHARED_MEMORY(double, scratch);
    wait_for_predecessor();
    const double before = sum[0];
    const bool leads = threadIdx.x % lanes == 0;
    int hits = 0;
    for (Rows r(rows, lanes); r.more(); r.next()) {
        const int64 start = r.row * columns;
        const int label =
            labels ? labels[r.row] : row_best(targets + start, columns, lanes).index;
        const int best = row_best(predictions + start, columns, lanes).index;
        hits += leads && r.active && best == label;
    }
    reduce_sum(hits, before, sum, partials, scratch);
}

BOUNDED_KERNEL(512, 1)
    top_k_accuracy(const real *predictions, const int *labels, const real *targets, double *sum,
                   double *partials, int64 rows, int columns, int lanes, int k)
{
    SHARED_MEMORY(double, scratch);
    wait_for_predecessor();
    const double before = sum[0];
    const int lane = threadIdx.x % lanes;
    int hits = 0;
    for (Rows r(rows, lanes); r.more(); r.next()) {
        const int64 start = r.row * columns;
        const int label =
            labels ? labels[r.row] : row_best(targets + start, columns, lanes).index;
        const real own = predictions[start + label];
        int larger = 0;
#pragma unroll 1
        for (int column = lane; column < columns; column += lanes)
            larger += predictions[start + column] > own;
        larger = warp_sum(larger, lanes);
        hits += lane == 0 && r.active && larger < k;
    }
    reduce_sum(hits, before, sum, partials, scratch);
}

BOUNDED_KERNEL(512, 1)
    mean_metric(const real *predictions, const real *targets, double *sum, double *partials,
                int64 rows, int columns, int kind, real threshold)
{
    SHARED_MEMORY(double, scratch);
    wait_for_predecessor();
    const double before = sum[0];
    double total = 0;
    for (int64 i = first_index(); i < rows * columns; i += index_stride()) {
        const real p = predictions[i], t = targets[i], e = p - t;
        if (kind == BINARY)
            total += (p > threshold) == (t > real(0.5));
        else
            total += (double)(kind == ABSOLUTE ? fabs(e) : e * e);
    }
    reduce_sum(total / columns, before, sum, partials, scratch);
}

KERNEL(256) metric_finish(const double *partials, double *sum, int count)
{
    SHARED_MEMORY(double, scratch);
    wait_for_predecessor();
    reduce_sum_partials(partials, count, sum, scratch);
}
