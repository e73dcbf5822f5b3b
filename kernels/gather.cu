// Rows of a data set, in a given order or as they lie.
//
//   gather       values[i, c] = data[row, c] * scale + shift
//                or (data[row, c] - center[c]) * gain[c], where gain is given
//   gather_rows  values[i, c] = data[row, c], whatever the type
//   with         row = order[offset + i], or offset + i where order is null
//
// Shapes: data (n, columns), uint8 or real; order (n,); offset (1,); values (rows, columns);
// center, gain (columns,).
// Launch: tiles of threads (tiles.cuh), each thread N columns of up to 4 rows at a time; N is 4 in
// `..._by_4`, for columns that are a multiple of 4. gather_rows copies units of 4 bytes, or of 16.

#include "tiles.cuh"

static const int ROWS_AT_ONCE = 4;  // loads under way together: each waits for memory twice

// Calls take(row of the batch, what it holds in the thread's columns), for all rows of the thread.
template <int N, typename T, typename Take>
DEVICE void each_row(const T *data, const int64 *order, int64 start,
                     int64 rows, int64 columns, int64 column, const Tile &tile, Take take)
{
    // Columns are a multiple of N, so every row is aligned where the first is.
    const bool aligned = is_aligned<N>(data);
    const int64 stride = tile.row_stride();
    for (int64 first = tile.row(); first < rows; first += ROWS_AT_ONCE * stride) {
        int64 from[ROWS_AT_ONCE];
        Values<T, N> found[ROWS_AT_ONCE];
#pragma unroll
        for (int u = 0; u < ROWS_AT_ONCE; ++u) {
            const int64 i = minimum(first + u * stride, rows - 1) + start;
            from[u] = order ? order[i] : i;
        }
#pragma unroll
        for (int u = 0; u < ROWS_AT_ONCE; ++u)
            if (first + u * stride < rows)
                found[u] = load<N>(data + from[u] * columns + column, aligned);
#pragma unroll
        for (int u = 0; u < ROWS_AT_ONCE; ++u)
            if (first + u * stride < rows)
                take(first + u * stride, found[u]);
    }
}

template <int N, typename T>
DEVICE void gather(const T *data, const int64 *order, const int64 *offset, const real *center,
                   const real *gain, real *values, int64 rows, int64 columns,
                   int width, real scale, real shift)
{
    const Tile tile(width);
    const int64 column = N * tile.across();
    if (column >= columns)
        return;
    // One formula for both: (value - c) * g + s.
    Values<real, N> c = {}, g;
#pragma unroll
    for (int k = 0; k < N; ++k)
        g.value[k] = scale;
    if (gain) {
        c = load<N>(center + column);
        g = load<N>(gain + column);
        shift = 0;
    }
    each_row<N>(data, order, offset[0], rows, columns, column, tile,
                [&](int64 row, const Values<T, N> &found) {
                    Values<real, N> result;
#pragma unroll
                    for (int k = 0; k < N; ++k)
                        result.value[k]
                            = (real(found.value[k]) - c.value[k]) * g.value[k] + shift;
                    store(values + row * columns + column, result);
                });
}

#define GATHER(name, N, T)                                                                       \
    KERNEL(256) name(const T *data, const int64 *order, const int64 *offset, const real *center, \
                     const real *gain, real *values, int64 rows, int64 columns, int width,       \
                     real scale, real shift)                                                     \
    {                                                                                            \
        wait_for_predecessor();                                                                  \
        gather<N, T>(data, order, offset, center, gain, values, rows, columns, width, scale,     \
                     shift);                                                                     \
    }

GATHER(gather_uint8, 1, uint8)
GATHER(gather_uint8_by_4, 4, uint8)
GATHER(gather_real, 1, real)
GATHER(gather_real_by_4, 4, real)

template <int N>
DEVICE void copy_rows(const uint32 *data, const int64 *order, const int64 *offset,
                      uint32 *values, int64 rows, int64 columns, int width)
{
    const Tile tile(width);
    const int64 column = N * tile.across();
    if (column < columns)
        each_row<N>(data, order, offset[0], rows, columns, column, tile,
                    [&](int64 row, const Values<uint32, N> &found) {
                        store(values + row * columns + column, found);
                    });
}

KERNEL(256) gather_rows(const uint32 *data, const int64 *order, const int64 *offset,
                        uint32 *values, int64 rows, int64 columns, int width)
{
    wait_for_predecessor();
    copy_rows<1>(data, order, offset, values, rows, columns, width);
}

KERNEL(256) gather_rows_by_4(const uint32 *data, const int64 *order, const int64 *offset,
                             uint32 *values, int64 rows, int64 columns, int width)
{
    wait_for_predecessor();
    copy_rows<4>(data, order, offset, values, rows, columns, width);
}
