// The shuffled order of rows, as in gpunn/randomness/permutation.py: a keyed bijection.

#pragma once

#include "philox.cuh"

static const int PERMUTATION_ROUNDS = 12;

DEVICE uint64 mix(uint64 z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

// The smallest width, from 4 bits, that holds the rows 0 .. n - 1.
DEVICE int permutation_bits(int64 n)
{
    int bits = 4;
    while (bits < 63 && ((int64)1 << bits) < n)
        ++bits;
    return bits;
}

// Key of round r: words 2r (low half) and 2r + 1 of the stream `shuffle` at step `epoch`.
DEVICE uint64 round_key(uint64 seed, uint64 epoch, int r)
{
    const uint32 shuffle = 1u << 24;
    const Words words = philox_group(seed, epoch, shuffle, (uint32)(r / 2));
    return r % 2 ? words.word[2] | (uint64)words.word[3] << 32
                 : words.word[0] | (uint64)words.word[1] << 32;
}

// The row at `position`; `keys` are the PERMUTATION_ROUNDS round keys.
DEVICE int64 permuted_row(int64 position, int64 n, int bits, const uint64 *keys)
{
    const int right_bits = bits - bits / 2;
    const uint64 left_mask = ((uint64)1 << (bits / 2)) - 1;
    const uint64 right_mask = ((uint64)1 << right_bits) - 1;
    uint64 value = (uint64)position;
    do {  // results beyond the last row are put through again
        uint64 left = value >> right_bits, right = value & right_mask;
        for (int r = 0; r < PERMUTATION_ROUNDS; r += 2) {
            left ^= mix(keys[r] ^ right) & left_mask;
            right ^= mix(keys[r + 1] ^ left) & right_mask;
        }
        value = left << right_bits | right;
    } while (value >= (uint64)n);
    return (int64)value;
}
