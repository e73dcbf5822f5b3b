// What becomes of the sums of a dense product: shared by dense.cu and dense_finish.cu.
//
// A block finishes an area of the result; each thread takes groups of W neighbouring values of
// a few rows. Where the sums come from is a `Source` with read(row, column, count, values). What is
// needed besides is read ahead: where a thread has few values, before the product is begun.

#pragma once

#include "activations.cuh"
#include "philox.cuh"
#include "tiles.cuh"

static const int VECTOR = 16 / sizeof(real);  // values in the widest access

// W neighbouring values of which `count` exist; with `vectors` all do, and the address is aligned.
template <int W> DEVICE void read_group(real (&values)[W], const real *p, int count, bool vectors)
{
    if (W > 1 && vectors) {
        const Values<real, W> read = load<W>(p);
#pragma unroll
        for (int j = 0; j < W; ++j)
            values[j] = read.value[j];
        return;
    }
#pragma unroll
    for (int j = 0; j < W; ++j)
        values[j] = j < count ? p[j] : real(0);
}

template <int W>
DEVICE void write_group(real *p, const real (&values)[W], int count, bool vectors)
{
    if (W > 1 && vectors) {
        Values<real, W> written;
#pragma unroll
        for (int j = 0; j < W; ++j)
            written.value[j] = values[j];
        store(p, written);
        return;
    }
#pragma unroll
    for (int j = 0; j < W; ++j)
        if (j < count)
            p[j] = values[j];
}

// values[0 .. W-1] move up by one and `last` comes in. A loop that uses values[0] and rotates has
// one copy of its body, and no array index that would put the values into memory.
template <int W> DEVICE void rotate(real (&values)[W], real last)
{
#pragma unroll
    for (int j = 0; j + 1 < W; ++j)
        values[j] = values[j + 1];
    values[W - 1] = last;
}

// The part of an area that one thread finishes: rows row, row + row_step, ... below row_end, and
// `count` columns.
struct Place {
    int row, row_end, row_step, column, count;

    // Each row of the area is `groups` groups of `width` columns, of which those below column_end
    // exist. The block's threads are taken as rows of `groups`.
    DEVICE Place(int first_row, int row_end, int first_column, int column_end, int groups,
                 int width, int threads)
        : row_end(row_end), row_step(threads / groups)
    {
        const int lane = (int)threadIdx.x / groups;
        column = first_column + (int)threadIdx.x % groups * width;
        count = minimum(column_end - column, width);
        row = count > 0 && lane < row_step ? first_row + lane : row_end;
    }
};

// Values of a matrix in the thread's next AT_ONCE rows; a null matrix is not read.
template <int AT_ONCE, int W> struct Ahead {
    real value[AT_ONCE][W];

    DEVICE void read(const real *matrix, int first, const Place &at, int columns)
    {
        const bool vectors = columns % W == 0 && is_aligned<W>(matrix);
#pragma unroll
        for (int i = 0; i < AT_ONCE; ++i) {
            const int row = first + i * at.row_step;
            if (matrix && row < at.row_end)
                read_group(value[i], matrix + (int64)row * columns + at.column, at.count, vectors);
        }
    }
};

// Sums as they are, to a matrix with `columns` columns.
template <int W, typename Source>
DEVICE void finish_plain(const Source &source, real *result, int columns, const Place &at)
{
    const bool vectors = columns % W == 0 && is_aligned<W>(result);
    for (int row = at.row; row < at.row_end; row += at.row_step) {
        real values[W];
        source.read(row, at.column, at.count, values);
        write_group(result + (int64)row * columns + at.column, values, at.count, vectors);
    }
}

// result = dropout(activation(sums + bias)), pre = sums + bias
struct Forward {
    real *pre, *result;
    const uint64 *seed;
    const int64 *step;
    const float *rate;
    uint32 stream;
    int activation;
    real parameter;
    int columns;

    template <int W, typename Source>
    DEVICE void finish(const Source &source, const Place &at, const real (&bias_group)[W]) const
    {
        const bool vectors = columns % W == 0 && is_aligned<W>(result) && is_aligned<W>(pre);
        const bool straight = activation <= RELU && !rate;
        Dropout dropout(seed, step, rate, stream);
        for (int row = at.row; row < at.row_end; row += at.row_step) {
            const int64 index = (int64)row * columns + at.column;
            real values[W];
            source.read(row, at.column, at.count, values);
#pragma unroll
            for (int j = 0; j < W; ++j)
                values[j] += bias_group[j];
            if (pre)
                write_group(pre + index, values, at.count, vectors);
            if (straight) {
#pragma unroll
                for (int j = 0; j < W; ++j)
                    values[j] = activation == RELU ? activate(values[j], RELU, real(0)) : values[j];
            } else {
#pragma unroll 1
                for (int j = 0; j < W; ++j) {
                    const real value = activate(values[0], activation, parameter);
                    rotate(values, dropout.active ? dropout.apply(value, index + j) : value);
                }
            }
            write_group(result + index, values, at.count, vectors);
        }
    }
};

// input_gradient = sums * derivative of dropout and activation of the layer that made the input
// (`value`: that layer's output, or what its activation was applied to), and the sums of it over
// the rows of the area.
struct InputGradient {
    const real *value;
    real *result;
    const uint64 *seed;
    const int64 *step;
    const float *rate;
    uint32 stream;
    int value_is_output;
    int activation;
    real parameter;
    int columns;

    // The matrix that is read ahead, and whether it is to be read at all.
    DEVICE const real *factor() const { return activation == LINEAR ? 0 : value; }

    // With EARLY, `ahead` holds all that the thread needs.
    template <bool EARLY, int AT_ONCE, int W, typename Source>
    DEVICE void finish(const Source &source, const Place &at, Ahead<AT_ONCE, W> &ahead,
                       real (&totals)[W]) const
    {
        const bool vectors = columns % W == 0 && is_aligned<W>(result);
        const bool straight = activation <= RELU && !rate;
        const bool rectified = factor() != 0;
        Dropout dropout(seed, step, rate, stream);
#pragma unroll
        for (int j = 0; j < W; ++j)
            totals[j] = real(0);
        for (int first = at.row; first < at.row_end; first += AT_ONCE * at.row_step) {
            if (!EARLY)
                ahead.read(factor(), first, at, columns);
            real(&y)[AT_ONCE][W] = ahead.value;
#pragma unroll
            for (int i = 0; i < AT_ONCE; ++i) {
                const int row = first + i * at.row_step;
                if (row >= at.row_end)
                    break;
                const int64 index = (int64)row * columns + at.column;
                real values[W];
                source.read(row, at.column, at.count, values);
                if (straight) {
#pragma unroll
                    for (int j = 0; j < W; ++j)
                        values[j] *= !rectified || y[i][j] > real(0) ? real(1) : real(0);
                } else {
                    through(values, y[i], dropout, index);
                }
                write_group(result + index, values, at.count, vectors);
#pragma unroll
                for (int j = 0; j < W; ++j)
                    totals[j] += values[j];
            }
        }
    }

    template <int W>
    DEVICE void through(real (&values)[W], real (&y)[W], Dropout &dropout, int64 index) const
    {
#pragma unroll 1
        for (int j = 0; j < W; ++j) {
            real gradient = values[0], value = y[0];
            if (dropout.active) {
                const bool kept = dropout.keeps(index + j);
                gradient = kept ? gradient * dropout.scale : real(0);
                if (value_is_output)  // from after dropout back to the activation's output
                    value = kept ? value * dropout.keep_share : real(0);
            }
            if (activation != LINEAR)
                gradient *= derivative(value, activation, parameter);
            rotate(values, gradient);
            rotate(y, value);
        }
    }
};

// Where the sums over the batch go: row `block_row` of `sums`, or, where there is but one block
// row and a `bias`, into that, with the factor -learning_rate.
struct BiasGradient {
    real *sums, *bias;
    int block_row, first_column, columns;
    real rate, old;

    // Thread i has the area's column i; there are at least as many threads as columns.
    DEVICE BiasGradient(real *sums, real *bias, const real *learning_rate, int block_row,
                        int first_column, int columns)
        : sums(sums), bias(bias), block_row(block_row), first_column(first_column),
          columns(columns), rate(0), old(0)
    {
        if (bias) {  // read ahead
            rate = learning_rate[0];
            if (first_column + (int)threadIdx.x < columns)
                old = bias[first_column + threadIdx.x];
        }
    }

    // Adds up the threads' totals, always in the same order; `shared` holds W values for each
    // thread. All threads of the block must come here.
    template <int W>
    DEVICE void finish(real (&totals)[W], const Place &at, int groups, real *shared) const
    {
        if (!sums && !bias)
            return;
        const int thread = threadIdx.x, lane = thread % WARP;
        const bool fold = WARP % groups == 0;  // lanes that are below one another come first
        if (fold)
            for (int offset = groups; offset < WARP; offset *= 2)
#pragma unroll
                for (int j = 0; j < W; ++j)
                    totals[j] += __shfl_xor_sync(FULL_MASK, totals[j], offset);
        const int rows = fold ? (int)blockDim.x / WARP : at.row_step;
        const int place = fold ? thread / WARP * groups + lane : thread;
        __syncthreads();  // `shared` may still be read
        if (!fold || lane < groups)
#pragma unroll
            for (int j = 0; j < W; ++j)
                shared[place * W + j] = totals[j];
        __syncthreads();
        const int across = groups * W, column = first_column + thread;
        if (thread >= across || column >= columns)
            return;
        real total = real(0);
#pragma unroll 4
        for (int row = 0; row < rows; ++row)
            total += shared[row * across + thread];
        if (bias)
            bias[column] = old - rate * total;
        else
            sums[(int64)block_row * columns + column] = total;
    }
};

// kernel_gradient = sums, or, with a learning rate, kernel -= learning_rate * sums
struct KernelGradient {
    real *result;
    const real *learning_rate;
    int columns;

    // The matrix that is read ahead, and whether it is to be read at all.
    DEVICE const real *old() const { return learning_rate ? result : 0; }

    // With EARLY, `ahead` holds all that the thread needs.
    template <bool EARLY, int AT_ONCE, int W, typename Source>
    DEVICE void finish(const Source &source, const Place &at, Ahead<AT_ONCE, W> &ahead) const
    {
        if (!learning_rate) {
            finish_plain<W>(source, result, columns, at);
            return;
        }
        const bool vectors = columns % W == 0 && is_aligned<W>(result);
        const real rate = learning_rate[0];
        for (int first = at.row; first < at.row_end; first += AT_ONCE * at.row_step) {
            if (!EARLY)
                ahead.read(old(), first, at, columns);
#pragma unroll
            for (int i = 0; i < AT_ONCE; ++i) {
                const int row = first + i * at.row_step;
                if (row >= at.row_end)
                    break;
                real values[W];
                source.read(row, at.column, at.count, values);
#pragma unroll
                for (int j = 0; j < W; ++j)
                    values[j] = ahead.value[i][j] - rate * values[j];
                write_group(result + (int64)row * columns + at.column, values, at.count, vectors);
            }
        }
    }
};
