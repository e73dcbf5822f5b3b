// The shuffled order of rows of one epoch, all of it at once.
//
//   order[i] = the row at position i, for 0 <= i < n: permutation.cuh
//
// Shapes: order (n,); seed, epoch (1,).
// Launch: a grid-stride loop. The first threads of a block draw the round keys for all.

#include "permutation.cuh"

KERNEL(256) keyed_permutation(const uint64 *seed, const int64 *epoch, int64 *order, int64 n)
{
    SHARED_MEMORY(uint64, keys);
    wait_for_predecessor();
    if (threadIdx.x < PERMUTATION_ROUNDS)
        keys[threadIdx.x] = round_key(seed[0], (uint64)epoch[0], (int)threadIdx.x);
    __syncthreads();
    const int bits = permutation_bits(n);
    for (int64 i = first_index(); i < n; i += index_stride())
        order[i] = permuted_row(i, n, bits, keys);
}
