// Dense layers: the three matrix products of a layer, each with what follows it.
//
//   dense                  result = dropout(activation(values @ kernel + bias)), pre = its argument
//   dense_input_gradient   input_gradient = (gradient @ kernel.T) * derivative of the activation
//                          and dropout that made the input; its sums over the batch, for the bias
//                          of the layer that did
//   dense_kernel_gradient  kernel_gradient = values.T @ gradient, or, with a learning rate,
//                          kernel -= learning_rate * values.T @ gradient
//
// Shapes: values, input_gradient (batch, inputs); kernel, kernel_gradient (inputs, units); result,
// pre, gradient (batch, units); bias (units,). All row by row, so the three differ in the way the
// reduction runs through their operands.
//
// Launch: one block for each tile of the result (product.cuh), grid x, tiles of a row of tiles next
// to one another; the reduction may be split among blocks along grid y, `split` long each. Then
// block y leaves its sums in partials[y] (M x N values), and dense_finish.cu does the rest. The
// form, the kind of multiplication and the tile are macros: one compiled module holds one of the
// three kernels, for one tile.

#include "product.cuh"

// Values that a thread finishes at once; small tiles have one for each thread.
static const int WIDTH = TILE_M * TILE_N / VECTOR >= PRODUCT_THREADS ? VECTOR : 1;
static const int GROUPS = TILE_N / WIDTH;  // of a row of the tile
// Groups of a thread, rounded up, and whether they are so few that what they need is read early.
static const int PER_THREAD = (TILE_M * GROUPS + PRODUCT_THREADS - 1) / PRODUCT_THREADS;
static const bool EARLY = PER_THREAD <= 2;
typedef Ahead<EARLY ? PER_THREAD : 4, WIDTH> AheadGroups;

// Where this block's tile and its share of the reduction lie.
struct Block {
    int tile_row, row0, column0, k_begin, k_end;

    DEVICE Block(int N, int K, int split)
    {
        const int across = ceil_div(N, TILE_N);
        tile_row = blockIdx.x / across;
        row0 = tile_row * TILE_M;
        column0 = blockIdx.x % across * TILE_N;
        k_begin = blockIdx.y * split;
        k_end = minimum(K, k_begin + split);
    }

    DEVICE Place place(int M, int N) const
    {
        return Place(row0, minimum(M, row0 + TILE_M), column0, minimum(N, column0 + TILE_N),
                     GROUPS, WIDTH, PRODUCT_THREADS);
    }

    // Multiplies, and returns the sums; only where they are not partial there is more to do.
    DEVICE StagedTile multiply(const real *left, const real *right, int M, int N, int K,
                               real *shared) const
    {
        multiply_tile(Left(left, M, K, row0), Right(right, N, K, column0), k_begin, k_end, shared);
        return StagedTile{shared, row0, column0};
    }
};

#if GPUNN_FORM == FORWARD

BOUNDED_KERNEL(PRODUCT_THREADS, GPUNN_BLOCKS)
    dense(const real *values, const real *kernel, const real *bias, real *pre, real *result,
          const uint64 *seed, const int64 *step, const float *rate, uint32 stream, int activation,
          real parameter, real *partials, int M, int N, int K, int split)
{
    SHARED_MEMORY(real, shared);
    wait_for_predecessor();
    const Block block(N, K, split);
    const Place at = block.place(M, N);
    real bias_group[WIDTH];  // read early: its way from memory is hidden behind the product
#pragma unroll
    for (int j = 0; j < WIDTH; ++j)
        bias_group[j] = bias && j < at.count ? bias[at.column + j] : real(0);
    const StagedTile sums = block.multiply(values, kernel, M, N, K, shared);
    if (partials) {
        finish_plain<WIDTH>(sums, partials + (int64)blockIdx.y * M * N, N, at);
        return;
    }
    const Forward forward = {pre,    result,     seed,      step, rate,
                             stream, activation, parameter, N};
    forward.finish(sums, at, bias_group);
}

#elif GPUNN_FORM == INPUT_GRADIENT

BOUNDED_KERNEL(PRODUCT_THREADS, GPUNN_BLOCKS)
    dense_input_gradient(const real *gradient, const real *kernel, const real *value,
                         int value_is_output, real *input_gradient, real *bias_sums, real *bias,
                         const real *learning_rate, const uint64 *seed, const int64 *step,
                         const float *rate, uint32 stream, int activation, real parameter,
                         real *partials, int M, int N, int K, int split)
{
    SHARED_MEMORY(real, shared);
    wait_for_predecessor();
    const Block block(N, K, split);
    const Place at = block.place(M, N);
    const InputGradient finishing = {value,  input_gradient,  seed,       step,      rate,
                                     stream, value_is_output, activation, parameter, N};
    AheadGroups ahead;
    if (EARLY && !partials)
        ahead.read(finishing.factor(), at.row, at, N);
    const BiasGradient sink(bias_sums, partials ? 0 : bias, learning_rate, block.tile_row,
                            block.column0, N);
    const StagedTile sums = block.multiply(gradient, kernel, M, N, K, shared);
    if (partials) {
        finish_plain<WIDTH>(sums, partials + (int64)blockIdx.y * M * N, N, at);
        return;
    }
    real totals[WIDTH];
    finishing.finish<EARLY>(sums, at, ahead, totals);
    sink.finish(totals, at, GROUPS, shared);
}

#else

BOUNDED_KERNEL(PRODUCT_THREADS, GPUNN_BLOCKS)
    dense_kernel_gradient(const real *values, const real *gradient, real *result,
                          const real *learning_rate, real *partials, int M, int N, int K, int split)
{
    SHARED_MEMORY(real, shared);
    wait_for_predecessor();
    const Block block(N, K, split);
    const Place at = block.place(M, N);
    const KernelGradient finishing = {result, learning_rate, N};
    AheadGroups ahead;
    if (EARLY && !partials)
        ahead.read(finishing.old(), at.row, at, N);
    const StagedTile sums = block.multiply(values, gradient, M, N, K, shared);
    if (partials) {
        finish_plain<WIDTH>(sums, partials + (int64)blockIdx.y * M * N, N, at);
        return;
    }
    finishing.finish<EARLY>(sums, at, ahead);
}

#endif
