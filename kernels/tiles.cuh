// How blocks cover a matrix without a division for each value, and how a thread takes several
// neighbouring values in one access.

#pragma once

#include "prelude.cuh"

// N neighbouring values (1, or a power of two). In memory they are one access of up to 16 bytes.
template <typename T, int N> struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Values {
    T value[N];

    DEVICE Values &operator+=(const Values &other)
    {
#pragma unroll
        for (int k = 0; k < N; ++k)
            value[k] += other.value[k];
        return *this;
    }
};

// Buffers of a plan are aligned to 256 bytes; arrays that belong to the user may lie anywhere.
template <int N, typename T> DEVICE bool is_aligned(const T *address)
{
    return N == 1 || (uint64)address % alignof(Values<T, N>) == 0;
}

template <int N, typename T> DEVICE Values<T, N> load(const T *from, bool aligned = true)
{
    if (aligned)
        return *reinterpret_cast<const Values<T, N> *>(from);
    Values<T, N> values;
#pragma unroll
    for (int k = 0; k < N; ++k)
        values.value[k] = from[k];
    return values;
}

template <typename T, int N> DEVICE void store(T *to, const Values<T, N> &values)
{
    *reinterpret_cast<Values<T, N> *>(to) = values;
}

// The same where only `count` values, perhaps fewer than N, are left: the rest reads as 0.
template <int N, typename T> DEVICE Values<T, N> load_some(const T *from, int64 count)
{
    if (count >= N)
        return load<N>(from);
    Values<T, N> values;
#pragma unroll
    for (int k = 0; k < N; ++k)
        values.value[k] = k < count ? from[k] : T(0);
    return values;
}

template <typename T, int N>
DEVICE void store_some(T *to, const Values<T, N> &values, int64 count)
{
    if (count >= N) {
        store(to, values);
        return;
    }
#pragma unroll
    for (int k = 0; k < N; ++k)
        if (k < count)
            to[k] = values.value[k];
}

// A block as a tile of threads, `width` across and blockDim.x / width down. Blocks lie side by
// side along x; along y they share the rows:
//     for (int64 row = tile.row(); row < rows; row += tile.row_stride())
struct Tile {
    int width, height, x, y;

    DEVICE explicit Tile(int width)
        : width(width), height((int)blockDim.x / width), x((int)threadIdx.x % width),
          y((int)threadIdx.x / width)
    {
    }

    DEVICE int64 across() const { return (int64)blockIdx.x * width + x; }
    DEVICE int64 row() const { return (int64)blockIdx.y * height + y; }
    DEVICE int64 row_stride() const { return (int64)gridDim.y * height; }
};

// take(N values) for the rows of a thread, in order, in the columns that are its own; with zeros
// for a few rows beyond the last one.
template <int N, typename Take>
DEVICE void each_row_of_columns(const real *matrix, int64 rows, int columns, const Tile &tile,
                                Take take)
{
    const int AT_ONCE = N == 4 ? 4 : 8;  // rows whose loads are under way together
    const int64 column = N * tile.across(), stride = tile.row_stride();
    for (int64 row = tile.row(); row < rows && column < columns; row += AT_ONCE * stride) {
        Values<real, N> found[AT_ONCE] = {};
#pragma unroll
        for (int u = 0; u < AT_ONCE; ++u)
            if (row + u * stride < rows)
                found[u] = load<N>(matrix + (row + u * stride) * columns + column);
#pragma unroll
        for (int u = 0; u < AT_ONCE; ++u)
            take(found[u]);
    }
}

// Sum over the threads of a tile that are below one another, valid where tile.y == 0. All threads
// of the block take part; `scratch` is shared memory for one T of each of them.
template <typename T> DEVICE T column_sum(T value, const Tile &tile, T *scratch)
{
    T *own = scratch + threadIdx.x;
    *own = value;
    for (int n = tile.height; n > 1;) {
        const int half = (n + 1) / 2;
        __syncthreads();
        if (tile.y + half < n) {
            value += own[half * tile.width];
            *own = value;
        }
        n = half;
    }
    return value;
}
