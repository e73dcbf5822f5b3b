"""Philox words and shuffled orders for the CPU, compiled by numba.

Equal bit for bit to :mod:`gpunn.randomness.philox` and :mod:`gpunn.randomness.permutation`,
where formulas and sources are given. All functions can be called from other compiled functions.

Numba compiles once per combination of argument types, and types a Python int by its value.
Callers from Python keep to one version, and one compilation, by passing seeds and steps as
``np.uint64``. Nothing here checks its arguments.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpunn.backends.cpu.loops.compile import kernel, threaded
from gpunn.randomness import permutation, philox

# Typed constants, and a cast around each 32-bit result: numba widens what is done to two uint32
# to uint64, to uint32 and int64 to int64, and a sum of uint64 and int64 to float64.
_M0, _M1 = (np.uint64(m) for m in philox.MULTIPLIERS)
_W0, _W1 = (np.uint32(w) for w in philox.KEY_INCREMENTS)
_HALF = np.uint64(32)
_PHILOX_ROUNDS = philox.ROUNDS

_S0, _S1, _S2 = (np.uint64(s) for s in permutation.MIX_SHIFTS)
_A, _B = (np.uint64(m) for m in permutation.MIX_MULTIPLIERS)
_ONE = np.uint64(1)
_MIN_BITS = permutation.MIN_BITS

SCRATCH_SHAPE = (2, 1024)  # for fill_order: 16 KiB, within a first-level cache


@kernel
def philox4x32_10(
    c0: np.uint32, c1: np.uint32, c2: np.uint32, c3: np.uint32, k0: np.uint32, k1: np.uint32
) -> tuple[np.uint32, np.uint32, np.uint32, np.uint32]:
    """Return the four words of one counter; see :func:`gpunn.randomness.philox.philox4x32`.

    Free of branches and wider types, so LLVM turns a loop over counters into vector code.
    """
    for _ in range(_PHILOX_ROUNDS):
        p0 = _M0 * np.uint64(c0)
        p1 = _M1 * np.uint64(c2)
        c0 = np.uint32((p1 >> _HALF) ^ c1 ^ k0)
        c1 = np.uint32(p1)
        c2 = np.uint32((p0 >> _HALF) ^ c3 ^ k1)
        c3 = np.uint32(p0)
        k0 = np.uint32(k0 + _W0)
        k1 = np.uint32(k1 + _W1)
    return c0, c1, c2, c3


@kernel
def philox_words(
    out: NDArray[np.uint32], seed: np.uint64, step: np.uint64, stream: np.uint64
) -> None:
    """Fill `out` with the words of a buffer; see :func:`gpunn.randomness.philox.words`.

    Parameters
    ----------
    out : uint32 array, shape (count,), contiguous
    seed, step : uint64
    stream : uint64
        Less than 2**32.
    """
    k0, k1 = np.uint32(seed), np.uint32(np.uint64(seed) >> _HALF)
    c1, c2 = np.uint32(step), np.uint32(np.uint64(step) >> _HALF)
    c3 = np.uint32(stream)
    groups = out.size // 4
    for g in range(groups):
        w0, w1, w2, w3 = philox4x32_10(np.uint32(g), c1, c2, c3, k0, k1)
        out[4 * g] = w0
        out[4 * g + 1] = w1
        out[4 * g + 2] = w2
        out[4 * g + 3] = w3
    if 4 * groups < out.size:
        last = philox4x32_10(np.uint32(groups), c1, c2, c3, k0, k1)
        for i in range(4 * groups, out.size):
            out[i] = last[i - 4 * groups]


@kernel
def _mix(z: np.uint64) -> np.uint64:
    """Return the finaliser of SplitMix64; see :func:`gpunn.randomness.permutation.mix`."""
    z = (z ^ (z >> _S0)) * _A
    z = (z ^ (z >> _S1)) * _B
    return z ^ (z >> _S2)


@threaded  # threads of a gather share an order
def fill_order(
    order: NDArray[np.int64] | NDArray[np.int32],
    n: int,
    round_keys: NDArray[np.uint64],
    first: int,
    scratch: NDArray[np.uint64],
) -> None:
    """Write the rows at positions ``first, first + 1, ...`` of an epoch's order to `order`.

    Parameters
    ----------
    order : int64 or int32 array, shape (m,), contiguous
        Its dtype must hold n - 1, and first + m be at most n.
    n : int
        Number of rows.
    round_keys : uint64 array, shape (rounds,), contiguous
        Of a :class:`gpunn.randomness.permutation.KeyedPermutation`; an even number.
    first : int
        Position in the epoch of ``order[0]``.
    scratch : uint64 array, shape (2, block), contiguous
        Working space, of shape `SCRATCH_SHAPE` for example. (An argument, as ``np.empty`` here
        would add 0.1 s to the compilation.)
    """
    bits = _MIN_BITS
    while 1 << bits < n:
        bits += 1
    right_bits = np.uint64(bits - bits // 2)
    right_mask = (_ONE << right_bits) - _ONE
    left_mask = (_ONE << np.uint64(bits // 2)) - _ONE

    # Round by round over a block, not row by row: the inner loop becomes vector code, where a
    # row at a time waits for 24 products, each needing the one before. Values that are not yet
    # rows are moved together and go on.
    block = scratch.shape[1]
    values = scratch[0]
    places = scratch[1]
    for start in range(0, order.size, block):
        m = order.size - start
        if m > block:
            m = block
        for i in range(m):
            values[i] = np.uint64(first + start + i)
            places[i] = np.uint64(start + i)
        while m > 0:
            for r in range(0, round_keys.size, 2):
                left_key = round_keys[r]
                right_key = round_keys[r + 1]
                for i in range(m):
                    right = values[i] & right_mask
                    left = (values[i] >> right_bits) ^ (_mix(left_key ^ right) & left_mask)
                    right ^= _mix(right_key ^ left) & right_mask
                    values[i] = left << right_bits | right
            beyond = 0
            for i in range(m):
                if values[i] < np.uint64(n):
                    order[places[i]] = values[i]
                else:
                    values[beyond] = values[i]
                    places[beyond] = places[i]
                    beyond += 1
            m = beyond
