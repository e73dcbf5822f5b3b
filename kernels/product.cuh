// The tile of a matrix product that one block computes, for dense.cu.
//
//   result[m, n] = sum over k of left[m, k] * right[k, n]        M x N x K
//
// Tiles of both operands travel from global to shared memory through a ring of STAGES stages of
// depth TILE_K, in asynchronous copies: of 16 bytes where rows and addresses are multiples of that,
// else of single values. Edges are filled with zeros.
//
// WARPS_M x WARPS_N x WARPS_K warps share the tile: by rows, by columns, and by slices of each
// stage's depth. Every slice leaves a tile of sums in shared memory; whoever reads the result adds
// them up, in order (StagedTile). How a warp multiplies is in multiply.cuh.
//
// The numbers come from gpunn/backends/cuda/tilings.py, which also says why.

#pragma once

#include "async_copy.cuh"
#include "multiply.cuh"

static const int STAGES = GPUNN_STAGES;
static const int PRODUCT_THREADS = WARP * WARPS_M * WARPS_N * WARPS_K;
static const int STAGE_SIZE = LEFT_SIZE + RIGHT_SIZE;
static const int SUM_SIZE = TILE_M * SUM_STRIDE;

// Copying a tile of OUTER rows of INNER values, starting at (outer, inner); beyond the ends: 0.
template <int WIDTH, int OUTER, int INNER, int STRIDE>
DEVICE void copy_tile(real *tile, const real *matrix, int row_length, int outer, int outer_end,
                      int inner, int inner_end)
{
    const int PER_ROW = INNER / WIDTH, COPIES = OUTER * PER_ROW;
#pragma unroll (WIDTH == 1 ? 4 : 16)
    for (int i = 0; i < (COPIES + PRODUCT_THREADS - 1) / PRODUCT_THREADS; ++i) {
        const int copy = (int)threadIdx.x + i * PRODUCT_THREADS;
        if (COPIES % PRODUCT_THREADS != 0 && copy >= COPIES)
            break;
        const int o = copy / PER_ROW, n = copy % PER_ROW * WIDTH;
        const bool valid = outer + o < outer_end && inner + n < inner_end;
        const real *from = matrix + (valid ? (int64)(outer + o) * row_length + inner + n : 0);
        real *to = tile + o * STRIDE + n;
        if (WIDTH * sizeof(real) == 16)
            copy_async_16(to, from, valid);
        else if (sizeof(real) == 8)
            copy_async_8(to, from, valid);
        else
            copy_async_4(to, from, valid);
    }
}

// An operand: (outer, inner) is (m or n, k) where the reduction runs along the rows, else (k, m
// or n).
template <bool ALONG, int EXTENT, int STRIDE> struct Operand {
    const real *matrix;
    int row_length, start, end;  // of m or n
    bool vectors;

    DEVICE Operand(const real *matrix, int size, int k_size, int start)
        : matrix(matrix), row_length(ALONG ? k_size : size), start(start), end(size),
          vectors(row_length % VECTOR == 0 && is_aligned<VECTOR>(matrix))
    {
    }

    template <int WIDTH> DEVICE void copy_by(real *tile, int k, int k_end) const
    {
        if (ALONG)
            copy_tile<WIDTH, EXTENT, TILE_K, STRIDE>(tile, matrix, row_length, start, end, k,
                                                     k_end);
        else
            copy_tile<WIDTH, TILE_K, EXTENT, STRIDE>(tile, matrix, row_length, k, k_end, start,
                                                     end);
    }

    DEVICE void copy(real *tile, int k, int k_end) const
    {
        if (vectors)
            copy_by<VECTOR>(tile, k, k_end);
        else
            copy_by<1>(tile, k, k_end);
    }
};

typedef Operand<LEFT_ALONG, TILE_M, LEFT_STRIDE> Left;
typedef Operand<RIGHT_ALONG, TILE_N, RIGHT_STRIDE> Right;

// The block's tile of the sums over k_begin <= k < k_end, left in `shared`: see StagedTile.
DEVICE void multiply_tile(const Left &left, const Right &right, int k_begin, int k_end,
                          real *shared)
{
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int row = warp / WARPS_N % WARPS_M * WARP_M, column = warp % WARPS_N * WARP_N;
    const int slice = warp / (WARPS_N * WARPS_M);
    const real *left_part = shared + (LEFT_ALONG ? row * LEFT_STRIDE : row);
    const real *right_part = shared + LEFT_SIZE + (RIGHT_ALONG ? column * RIGHT_STRIDE : column);

#pragma unroll
    for (int stage = 0; stage < STAGES - 1; ++stage) {
        const int k = k_begin + stage * TILE_K;
        if (k < k_end) {
            left.copy(shared + stage * STAGE_SIZE, k, k_end);
            right.copy(shared + stage * STAGE_SIZE + LEFT_SIZE, k, k_end);
        }
        copy_async_commit();
    }
    Sums sums;
    int reading = 0, writing = (STAGES - 1) * STAGE_SIZE;
    for (int k = k_begin; k < k_end; k += TILE_K) {
        copy_async_wait<STAGES - 2>();
        __syncthreads();  // everyone's copies have come in; the stage to be written is read
        const int ahead = k + (STAGES - 1) * TILE_K;
        if (ahead < k_end) {
            left.copy(shared + writing, ahead, k_end);
            right.copy(shared + writing + LEFT_SIZE, ahead, k_end);
        }
        copy_async_commit();
        if (WARPS_K == 1 || k + slice * WARP_K < k_end) {
#pragma unroll
            for (int step = 0; step < WARP_K; step += DEPTH)
                sums.add(left_part + reading, right_part + reading, lane, slice * WARP_K + step);
        }
        reading = reading == (STAGES - 1) * STAGE_SIZE ? 0 : reading + STAGE_SIZE;
        writing = writing == (STAGES - 1) * STAGE_SIZE ? 0 : writing + STAGE_SIZE;
    }
    copy_async_wait<0>();
    __syncthreads();  // before sums take the place of the operands
    sums.write(shared + slice * SUM_SIZE + row * SUM_STRIDE + column, lane);
    __syncthreads();
}

// Reads what multiply_tile left: the sum over the slices, in order.
struct StagedTile {
    const real *tile;
    int row0, column0;

    template <int W> DEVICE void read(int row, int column, int, real (&values)[W]) const
    {
        const real *at = tile + (row - row0) * SUM_STRIDE + column - column0;
#pragma unroll
        for (int slice = 0; slice < WARPS_K; ++slice) {
            const Values<real, W> part = load<W>(at + slice * SUM_SIZE);
#pragma unroll
            for (int j = 0; j < W; ++j)
                values[j] = slice ? values[j] + part.value[j] : part.value[j];
        }
    }
};
