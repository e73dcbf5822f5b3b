// Neighbouring columns of one matrix, copied into another.
//
//   result[row, result_start + c] = source[row, source_start + c] for c < columns
//
// Shapes: source (rows, source_stride), result (rows, result_stride).
// Launch: tiles of threads (tiles.cuh). `..._by_4` copies units of 4 values and counts in them:
// columns, first columns and strides are multiples of 4.

#include "tiles.cuh"

template <typename T>
DEVICE void copy(const T *source, T *result, int64 rows, int64 columns, int64 source_start,
                 int64 source_stride, int64 result_start, int64 result_stride, int width)
{
    const Tile tile(width);
    const int64 column = tile.across();
    if (column >= columns)
        return;
#pragma unroll 1
    for (int64 row = tile.row(); row < rows; row += tile.row_stride())
        result[row * result_stride + result_start + column]
            = source[row * source_stride + source_start + column];
}

KERNEL(256) copy_columns(const real *source, real *result, int64 rows, int64 columns,
                         int64 source_start, int64 source_stride, int64 result_start,
                         int64 result_stride, int width)
{
    wait_for_predecessor();
    copy(source, result, rows, columns, source_start, source_stride, result_start, result_stride,
         width);
}

KERNEL(256) copy_columns_by_4(const Values<real, 4> *source, Values<real, 4> *result, int64 rows,
                              int64 columns, int64 source_start, int64 source_stride,
                              int64 result_start, int64 result_stride, int width)
{
    wait_for_predecessor();
    copy(source, result, rows, columns, source_start, source_stride, result_start, result_stride,
         width);
}
