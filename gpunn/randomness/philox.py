"""Philox4x32-10 and the values drawn from it, in NumPy.

The layout of key and counter is documented in :mod:`gpunn.randomness`.

References
----------
.. [1] J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel random numbers: as
   easy as 1, 2, 3", SC'11, https://doi.org/10.1145/2063384.2063405. The constants and the
   known answers in the tests are those of the authors' Random123 library.
.. [2] G. E. P. Box and M. E. Muller, "A note on the generation of random normal deviates",
   Annals of Mathematical Statistics 29 (1958), 610-611.
"""

from __future__ import annotations

import operator
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from gpunn.errors import ArgumentError, ArgumentTypeError

UInt32Array: TypeAlias = NDArray[np.uint32]
UInt64Array: TypeAlias = NDArray[np.uint64]

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)  # the golden ratio and sqrt(3) - 1, times 2**32

VALUES_PER_GROUP = 4
MAX_GROUPS = 2**32
MAX_VALUES = VALUES_PER_GROUP * MAX_GROUPS

INDEX_BITS = 24
TRUNCATION = 2.0
_ACCEPTED = 0.9544997361036416  # P(|z| <= TRUNCATION)

_WORD_MASK = 0xFFFFFFFF


class Purpose(IntEnum):
    """The use of random values: the top 8 bits of a stream.

    The numbers are part of the definition of a seed. Append new ones; renumbering would change
    every result, and runs could no longer be resumed exactly.
    """

    SHUFFLE = 1
    DROPOUT = 2
    INITIALIZER = 3


def check_integer(name: str, value: object, low: int, high: int) -> int:
    """Return `value` as an int, or raise unless it is an integer with low <= value < high."""
    try:
        integer = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        kind = type(value).__name__
        raise ArgumentTypeError(f"{name} must be an integer, not {value!r} ({kind}).") from None
    if not low <= integer < high:
        raise ArgumentError(
            f"{name} must be at least {low} and less than {_readable(high)}, not {integer}."
        )
    return integer


def stream_id(purpose: Purpose | int, index: int = 0) -> int:
    """Return the fourth counter word: `purpose` in the top 8 bits, `index` in the low 24.

    Parameters
    ----------
    purpose : Purpose
        What the values are for.
    index : int
        Number of the layer or variable, less than 2**24.

    Raises
    ------
    ArgumentError
        If `purpose` is not a `Purpose`, or `index` does not fit.
    """
    try:
        purpose = Purpose(purpose)
    except ValueError:
        known = ", ".join(f"{p.name} ({p.value})" for p in Purpose)
        raise ArgumentError(f"purpose must be one of {known}, not {purpose!r}.") from None
    return purpose << INDEX_BITS | check_integer("index", index, 0, 2**INDEX_BITS)


def philox4x32(counter: ArrayLike, key: ArrayLike) -> UInt32Array:
    """Encrypt counters with Philox4x32-10 [1]_.

    Parameters
    ----------
    counter : uint32 array, shape (..., 4)
    key : uint32 array, shape (..., 2)
        The leading axes of counter and key broadcast.

    Returns
    -------
    uint32 array, shape (..., 4)

    Raises
    ------
    ArgumentTypeError
        If `counter` or `key` is not of dtype uint32.
    ArgumentError
        If the last axis has the wrong length.
    """
    c0, c1, c2, c3 = _columns("counter", counter, 4)
    k0, k1 = _columns("key", key, 2)
    # Every operand is a word in a uint64: a product of two cannot overflow, nor can the sums
    # of the key schedule, so scalars and arrays alike pass without an overflow warning.
    m0, m1 = (np.uint64(m) for m in MULTIPLIERS)
    w0, w1 = (np.uint64(w) for w in KEY_INCREMENTS)
    mask, half = np.uint64(_WORD_MASK), np.uint64(32)
    for _ in range(ROUNDS):
        p0, p1 = c0 * m0, c2 * m1
        c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ k0, p1 & mask, (p0 >> half) ^ c3 ^ k1, p0 & mask
        k0, k1 = (k0 + w0) & mask, (k1 + w1) & mask
    out = np.empty((*np.shape(c0), 4), np.uint32)
    for i, column in enumerate((c0, c1, c2, c3)):
        out[..., i] = column
    return out


def words(seed: int, step: int, stream: int, count: int, *, first_group: int = 0) -> UInt32Array:
    """Return the random words of one buffer.

    Parameters
    ----------
    seed, step : int
        Less than 2**64.
    stream : int
        See :func:`stream_id`.
    count : int
        How many words. A buffer holds at most 2**34, as many as its 32-bit group index reaches.
    first_group : int
        Begin at this group of four, that is at value ``4 * first_group`` of the buffer.

    Returns
    -------
    uint32 array, shape (count,)

    Raises
    ------
    ArgumentError
        If an argument does not fit its place in the key or the counter.
    """
    seed = check_integer("seed", seed, 0, 2**64)
    step = check_integer("step", step, 0, 2**64)
    stream = check_integer("stream", stream, 0, 2**32)
    first_group = check_integer("first_group", first_group, 0, MAX_GROUPS)
    count = check_integer("count", count, 0, MAX_VALUES + 1)
    groups = -(-count // VALUES_PER_GROUP)
    if first_group + groups > MAX_GROUPS:
        raise ArgumentError(
            f"first_group {first_group} and count {count} reach past the end of the stream: "
            f"the group index has 32 bits, so a buffer holds at most 2**34 values."
        )
    counter = np.empty((groups, 4), np.uint32)
    counter[:, 0] = np.arange(first_group, first_group + groups, dtype=np.uint64)
    counter[:, 1:] = step & _WORD_MASK, step >> 32, stream
    key = np.array([seed & _WORD_MASK, seed >> 32], np.uint32)
    return philox4x32(counter, key).reshape(-1)[:count]


def uniform(words: UInt32Array) -> NDArray[np.float32]:
    """Return each word's top 24 bits as a float32 in [0, 1): exact, so equal on every device."""
    return (_as_words(words) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def drop_threshold(rate: float) -> int:
    """Return floor(float32(rate) * 2**32): words below it are dropped.

    Rounding the rate to float32 first makes the threshold the same where the rate is stored as
    float32, for example in a kernel argument.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        `rate` is not a number in [0, 1), or is 1 when rounded to float32.
    """
    try:
        rate = float(rate)
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"rate must be a number, not {rate!r}.") from None
    rounded = float(np.float32(rate)) if 0.0 <= rate < 1.0 else 1.0
    if rounded == 1.0:
        raise ArgumentError(f"rate must be at least 0 and less than 1 as float32, not {rate!r}.")
    return int(rounded * 2.0**32)


def keep(words: UInt32Array, rate: float) -> NDArray[np.bool_]:
    """Return dropout's mask: True, with probability 1 - `rate`, where a value is kept.

    Parameters
    ----------
    words : uint32 array, any shape
    rate : float
        Share of values to drop, in [0, 1).

    Returns
    -------
    bool array, shape of `words`
    """
    return _as_words(words) >= np.uint32(drop_threshold(rate))


def normal(
    seed: int, step: int, stream: int, count: int, dtype: DTypeLike = np.float64
) -> NDArray[Any]:
    """Return standard normal values, by the Box-Muller transform [2]_.

    Words 2i and 2i + 1 give values 2i and 2i + 1::

        u = (words[2i] + 1/2) / 2**32        angle = 2 pi words[2i + 1] / 2**32
        values[2i], values[2i + 1] = sqrt(-2 ln u) * (cos(angle), sin(angle))

    The magnitude of a value is at most 6.8. Everything is computed in float64 and finally rounded
    to `dtype`. Logarithm, sine and cosine may differ in the last bit between machines and NumPy
    versions, so these values are drawn on the host, never on a device.

    Parameters
    ----------
    seed, step, stream, count : int
        As for :func:`words`.
    dtype : dtype
        Dtype of the result.

    Returns
    -------
    array of `dtype`, shape (count,)
    """
    count = check_integer("count", count, 0, MAX_VALUES + 1)
    groups = -(-count // VALUES_PER_GROUP)
    return _normal_groups(seed, step, stream, 0, groups)[:count].astype(dtype)


def truncated_normal(
    seed: int, step: int, stream: int, count: int, dtype: DTypeLike = np.float64
) -> NDArray[Any]:
    """Return standard normal values between -2 and 2, by rejection.

    Candidate k is value k of :func:`normal` for the same stream; the first `count` candidates
    within bounds are the result, so a shorter result is a prefix of a longer one. Its standard
    deviation is 0.8796, not 1.

    Parameters
    ----------
    seed, step, stream, count : int
        As for :func:`words`.
    dtype : dtype
        Dtype of the result.

    Returns
    -------
    array of `dtype`, shape (count,)
    """
    count = check_integer("count", count, 0, MAX_VALUES + 1)
    values = np.empty(count, dtype)
    filled, group = 0, 0
    while filled < count:
        groups = int((count - filled) / _ACCEPTED / VALUES_PER_GROUP) + 8
        candidates = _normal_groups(seed, step, stream, group, groups)
        accepted = candidates[np.abs(candidates) <= TRUNCATION][: count - filled]
        values[filled : filled + accepted.size] = accepted
        filled += accepted.size
        group += groups
    return values


def _normal_groups(
    seed: int, step: int, stream: int, first_group: int, groups: int
) -> NDArray[np.float64]:
    """Return the normal values of whole groups, shape (4 * groups,)."""
    count = VALUES_PER_GROUP * groups
    pairs = words(seed, step, stream, count, first_group=first_group).reshape(-1, 2)
    radius = np.sqrt(-2.0 * np.log((pairs[:, 0] + 0.5) * 2.0**-32))
    angle = pairs[:, 1] * (2.0 * np.pi * 2.0**-32)
    return np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=1).reshape(-1)


def _columns(name: str, array: ArrayLike, width: int) -> tuple[UInt64Array, ...]:
    """Return the columns of a uint32 array as uint64 arrays, shape (...) each."""
    array = np.asarray(array)
    if array.dtype != np.uint32:
        raise ArgumentTypeError(f"{name} must have dtype uint32, not {array.dtype}.")
    if array.ndim == 0 or array.shape[-1] != width:
        raise ArgumentError(f"{name} must have shape (..., {width}), not {array.shape}.")
    wide = array.astype(np.uint64)
    return tuple(wide[..., i] for i in range(width))


def _as_words(words: UInt32Array) -> UInt32Array:
    """Return `words`; raise an error unless they are uint32."""
    words = np.asarray(words)
    if words.dtype != np.uint32:
        raise ArgumentTypeError(f"words must have dtype uint32, not {words.dtype}.")
    return words


def _readable(bound: int) -> str:
    """Return `bound`, as ``2**k`` if it is a large power of two (or one more)."""
    exponent = bound.bit_length() - 1
    if exponent < 16 or bound - 2**exponent > 1:
        return str(bound)
    return f"2**{exponent}" + (" + 1" if bound > 2**exponent else "")
