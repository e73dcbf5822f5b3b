// How the warps of a block multiply tiles that lie in shared memory, for product.cuh.
//
// GPUNN_FORM says which product of a dense layer it is, and so how operands lie in memory, and in
// the tiles as well: with the reduction along the rows ([m][k], [n][k]) or across them ([k][m],
// [k][n]).
//
//   FORWARD          values @ kernel       [m][k]  [k][n]
//   INPUT_GRADIENT   gradient @ kernel.T   [m][k]  [n][k]
//   KERNEL_GRADIENT  values.T @ gradient   [k][m]  [k][n]
//
// GPUNN_PRODUCT says how it is multiplied:
//
//   IEEE      fused multiply-adds of `real`, 8 x 4 threads a warp
//   TF32      mma.m16n8k8 on operands rounded to TF32 as they are read from shared memory
//   BFLOAT16  mma.m16n8k16 on operands rounded to bfloat16 likewise; both add up in float

#pragma once

#include "epilogue.cuh"

#define IEEE 0
#define TF32 1
#define BFLOAT16 2

#define FORWARD 0
#define INPUT_GRADIENT 1
#define KERNEL_GRADIENT 2

#ifndef GPUNN_PRODUCT
#define GPUNN_PRODUCT IEEE
#endif
#ifndef GPUNN_FORM
#define GPUNN_FORM FORWARD
#endif
#ifndef GPUNN_TILE_M
#define GPUNN_TILE_M 64
#define GPUNN_TILE_N 64
#define GPUNN_TILE_K 16
#define GPUNN_WARPS_M 2
#define GPUNN_WARPS_N 2
#define GPUNN_WARPS_K 1
#define GPUNN_STAGES 3
#define GPUNN_BLOCKS 1
#endif

#if GPUNN_PRODUCT != IEEE
#include "mma.cuh"
#endif

static const int TILE_M = GPUNN_TILE_M, TILE_N = GPUNN_TILE_N, TILE_K = GPUNN_TILE_K;
static const int WARPS_M = GPUNN_WARPS_M, WARPS_N = GPUNN_WARPS_N, WARPS_K = GPUNN_WARPS_K;
static const int WARP_M = TILE_M / WARPS_M, WARP_N = TILE_N / WARPS_N, WARP_K = TILE_K / WARPS_K;

// Whether the reduction runs along the rows in memory.
static const bool LEFT_ALONG = GPUNN_FORM != KERNEL_GRADIENT;
static const bool RIGHT_ALONG = GPUNN_FORM == INPUT_GRADIENT;

// Rows are padded so that the lanes of a warp read from different banks of shared memory.
static const int PAD_ALONG = GPUNN_PRODUCT == IEEE ? VECTOR : 8;
static const int PAD_ACROSS = GPUNN_PRODUCT == IEEE ? 0 : 4;
static const int LEFT_STRIDE = LEFT_ALONG ? TILE_K + PAD_ALONG : TILE_M + PAD_ACROSS;
static const int RIGHT_STRIDE = RIGHT_ALONG ? TILE_K + PAD_ALONG : TILE_N + PAD_ACROSS;
static const int LEFT_SIZE = (LEFT_ALONG ? TILE_M : TILE_K) * LEFT_STRIDE;
static const int RIGHT_SIZE = (RIGHT_ALONG ? TILE_N : TILE_K) * RIGHT_STRIDE;
static const int SUM_STRIDE = TILE_N + VECTOR;

#if GPUNN_PRODUCT == IEEE

static const int LANES_M = 8, LANES_N = 4;
static const int THREAD_M = WARP_M / LANES_M, THREAD_N = WARP_N / LANES_N;
static const int DEPTH = VECTOR;  // of k: one 16-byte read of a row that runs along k

// A lane's place among the 8 x 4. Neighbours in bit 0 share rows and neighbours in bit 1 share
// columns: then shared memory serves a read of 16 bytes a lane in two passes instead of four.
DEVICE int lane_m(int lane) { return (lane >> 1 & 1) | (lane >> 2 & 6); }
DEVICE int lane_n(int lane) { return (lane & 1) | (lane >> 1 & 2); }

// Where the values of a lane lie: one by one across the lanes where k runs along the rows, else
// in groups that one read of at most 16 bytes brings in.
template <bool ALONG, int COUNT, int LANES> struct Spread {
    static const int GROUP = ALONG ? 1 : COUNT < VECTOR ? COUNT : VECTOR;

    static DEVICE int index(int lane, int i)
    {
        return (lane + LANES * (i / GROUP)) * GROUP + i % GROUP;
    }
};

typedef Spread<LEFT_ALONG, THREAD_M, LANES_M> Rows;
typedef Spread<RIGHT_ALONG, THREAD_N, LANES_N> Columns;

// values[s][i] = the operand at k + s and the lane's i-th row or column
template <bool ALONG, int COUNT, int LANES, int STRIDE>
DEVICE void read_values(real (&values)[DEPTH][COUNT], const real *tile, int lane, int k)
{
    typedef Spread<ALONG, COUNT, LANES> At;
    if (ALONG) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            const Values<real, DEPTH> read = load<DEPTH>(tile + At::index(lane, i) * STRIDE + k);
#pragma unroll
            for (int s = 0; s < DEPTH; ++s)
                values[s][i] = read.value[s];
        }
    } else {
#pragma unroll
        for (int s = 0; s < DEPTH; ++s)
#pragma unroll
            for (int i = 0; i < COUNT; i += At::GROUP) {
                const Values<real, At::GROUP> read =
                    load<At::GROUP>(tile + (k + s) * STRIDE + At::index(lane, i));
#pragma unroll
                for (int j = 0; j < At::GROUP; ++j)
                    values[s][i + j] = read.value[j];
            }
    }
}

// The sums of one thread.
struct Sums {
    real sum[THREAD_M][THREAD_N];

    DEVICE Sums()
    {
#pragma unroll
        for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
            for (int j = 0; j < THREAD_N; ++j)
                sum[i][j] = real(0);
    }

    // Adds k .. k + DEPTH - 1; the tiles start at the warp's first row and column.
    DEVICE void add(const real *left, const real *right, int lane, int k)
    {
        real a[DEPTH][THREAD_M], b[DEPTH][THREAD_N];
        read_values<LEFT_ALONG, THREAD_M, LANES_M, LEFT_STRIDE>(a, left, lane_m(lane), k);
        read_values<RIGHT_ALONG, THREAD_N, LANES_N, RIGHT_STRIDE>(b, right, lane_n(lane), k);
#pragma unroll
        for (int s = 0; s < DEPTH; ++s)
#pragma unroll
            for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
                for (int j = 0; j < THREAD_N; ++j)
                    sum[i][j] += a[s][i] * b[s][j];
    }

    DEVICE void write(real *tile, int lane) const
    {
#pragma unroll
        for (int i = 0; i < THREAD_M; ++i) {
            real *row = tile + Rows::index(lane_m(lane), i) * SUM_STRIDE;
#pragma unroll
            for (int j = 0; j < THREAD_N; j += Columns::GROUP) {
                Values<real, Columns::GROUP> group;
#pragma unroll
                for (int g = 0; g < Columns::GROUP; ++g)
                    group.value[g] = sum[i][j + g];
                store(row + Columns::index(lane_n(lane), j), group);
            }
        }
    }
};

#else

static const int BLOCKS_M = WARP_M / 16, BLOCKS_N = WARP_N / 8;
static const int DEPTH = 16;  // of k: two TF32 instructions, or one of bfloat16

// The operand at (i, k) and (i, k + 1).
template <bool ALONG, int STRIDE> DEVICE Values<real, 2> read_pair(const real *tile, int i, int k)
{
    if (ALONG)
        return load<2>(tile + i * STRIDE + k);
    Values<real, 2> pair;
    pair.value[0] = tile[k * STRIDE + i];
    pair.value[1] = tile[(k + 1) * STRIDE + i];
    return pair;
}

// The sums of one thread: for each 16 x 8 block of its warp, values (lane / 4, lane % 4 * 2 + 0
// and 1) and those 8 rows below.
struct Sums {
    float sum[BLOCKS_M][BLOCKS_N][4];

    DEVICE Sums()
    {
#pragma unroll
        for (int i = 0; i < BLOCKS_M; ++i)
#pragma unroll
            for (int j = 0; j < BLOCKS_N; ++j)
#pragma unroll
                for (int c = 0; c < 4; ++c)
                    sum[i][j][c] = 0;
    }

    // Adds k .. k + 15; the tiles start at the warp's first row and column. A lane reads the
    // pairs at k + 2p and k + 8 + 2p, p = lane % 4. That is what bfloat16 wants; a TF32
    // instruction wants p and p + 4, but any order of k will do that is the same on both sides.
    DEVICE void add(const real *left, const real *right, int lane, int k)
    {
        const int g = lane / 4, p = k + lane % 4 * 2;
#if GPUNN_PRODUCT == TF32
#pragma unroll
        for (int half = 0; half < DEPTH; half += 8) {
            uint32 a[BLOCKS_M][4], b[BLOCKS_N][2];
#pragma unroll
            for (int i = 0; i < BLOCKS_M; ++i)
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    const Values<real, 2> x =
                        read_pair<LEFT_ALONG, LEFT_STRIDE>(left, 16 * i + 8 * r + g, p + half);
                    a[i][r] = to_tf32(x.value[0]);
                    a[i][r + 2] = to_tf32(x.value[1]);
                }
#pragma unroll
            for (int j = 0; j < BLOCKS_N; ++j) {
                const Values<real, 2> x =
                    read_pair<RIGHT_ALONG, RIGHT_STRIDE>(right, 8 * j + g, p + half);
                b[j][0] = to_tf32(x.value[0]);
                b[j][1] = to_tf32(x.value[1]);
            }
#pragma unroll
            for (int i = 0; i < BLOCKS_M; ++i)
#pragma unroll
                for (int j = 0; j < BLOCKS_N; ++j)
                    mma_tf32_16x8x8(sum[i][j], a[i], b[j]);
        }
#else
        uint32 a[BLOCKS_M][4], b[BLOCKS_N][2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
#pragma unroll
            for (int i = 0; i < BLOCKS_M; ++i)
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    const Values<real, 2> x = read_pair<LEFT_ALONG, LEFT_STRIDE>(
                        left, 16 * i + 8 * r + g, p + 8 * half);
                    a[i][2 * half + r] = to_bf16x2(x.value[0], x.value[1]);
                }
#pragma unroll
            for (int j = 0; j < BLOCKS_N; ++j) {
                const Values<real, 2> x =
                    read_pair<RIGHT_ALONG, RIGHT_STRIDE>(right, 8 * j + g, p + 8 * half);
                b[j][half] = to_bf16x2(x.value[0], x.value[1]);
            }
        }
#pragma unroll
        for (int i = 0; i < BLOCKS_M; ++i)
#pragma unroll
            for (int j = 0; j < BLOCKS_N; ++j)
                mma_bf16_16x8x16(sum[i][j], a[i], b[j]);
#endif
    }

    DEVICE void write(real *tile, int lane) const
    {
#pragma unroll
        for (int i = 0; i < BLOCKS_M; ++i)
#pragma unroll
            for (int j = 0; j < BLOCKS_N; ++j)
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    Values<real, 2> pair;
                    pair.value[0] = sum[i][j][2 * r];
                    pair.value[1] = sum[i][j][2 * r + 1];
                    const int row = 16 * i + 8 * r + lane / 4, column = 8 * j + lane % 4 * 2;
                    store(tile + row * SUM_STRIDE + column, pair);
                }
    }
};

#endif
