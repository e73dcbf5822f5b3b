"""The shuffled order: a bijection for every n, and as good as random where it is looked at.

Seeds are fixed, so a statistical test here passes always or never. `LEAST_P` is the smallest
p-value accepted. The same statistics are then shown a weak network, which they must refuse.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gpunn.errors import ArgumentError, ArgumentTypeError
from gpunn.randomness import permutation, philox
from gpunn.randomness.permutation import KeyedPermutation
from gpunn.randomness.philox import Purpose

LEAST_P = 1e-4

LONG = st.integers(0, 2**64 - 1)
BEYOND_32_BITS = [2**32 + 1, 2**33, 10**12 + 39, 2**61 + 1, 2**62]


def row_in_plain_python(position: int, n: int, keys: list[int]) -> int:
    """Return the row at `position`: the definition again, in integers without a width."""
    bits = max(4, (n - 1).bit_length())
    width = bits - bits // 2
    x = position
    while True:
        left, right = divmod(x, 2**width)
        for i, key in enumerate(keys):
            z = key ^ (left if i % 2 else right)
            z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
            z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
            z ^= z >> 31
            if i % 2:
                right ^= z % 2**width
            else:
                left ^= z % 2 ** (bits // 2)
        x = left * 2**width + right
        if x < n:
            return x


# A bijection


def test_every_row_once_for_all_small_n() -> None:
    for n in range(1, 301):
        order = KeyedPermutation(n, seed=n, epoch=3).order()
        assert order.dtype == np.int64
        assert np.array_equal(np.sort(order), np.arange(n))


@settings(max_examples=50)
@given(n=st.integers(1, 20_000), seed=LONG, epoch=LONG)
def test_every_row_once(n: int, seed: int, epoch: int) -> None:
    order = KeyedPermutation(n, seed, epoch).order()
    assert np.array_equal(np.sort(order), np.arange(n))


@pytest.mark.parametrize("n", BEYOND_32_BITS)
def test_rows_beyond_32_bits_are_distinct_and_in_range(n: int) -> None:
    sample = np.random.default_rng(0).integers(0, n, 20_000)
    ends = np.arange(1000)
    positions = np.unique(np.concatenate([ends, n - 1 - ends, sample]))
    rows = KeyedPermutation(n, seed=1, epoch=2).rows(positions)
    assert np.unique(rows).size == positions.size
    assert rows.min() >= 0
    assert rows.max() < n


@settings(max_examples=50)
@given(data=st.data(), n=st.integers(1, 2**62) | st.integers(1, 40), seed=LONG, epoch=LONG)
def test_rows_follow_the_definition(data: st.DataObject, n: int, seed: int, epoch: int) -> None:
    position = data.draw(st.integers(0, n - 1))
    permutation = KeyedPermutation(n, seed, epoch)
    expected = row_in_plain_python(position, n, permutation.round_keys.tolist())
    assert permutation.rows(position) == expected


def test_round_keys_are_pairs_of_shuffle_words() -> None:
    seed, epoch = 2**63 + 5, 2**32 + 9
    words = philox.words(seed, epoch, philox.stream_id(Purpose.SHUFFLE), 24).tolist()
    keys = KeyedPermutation(10, seed, epoch).round_keys
    assert keys.dtype == np.uint64
    assert keys.tolist() == [words[2 * r] + words[2 * r + 1] * 2**32 for r in range(12)]


def test_an_order_is_pinned() -> None:
    """A change here changes every training run and breaks the resuming of every checkpoint."""
    assert KeyedPermutation(10, 0, 0).order().tolist() == [4, 6, 9, 2, 7, 1, 8, 3, 5, 0]


# Arguments


def test_positions_of_any_shape() -> None:
    shuffled = KeyedPermutation(1000, seed=4, epoch=0)
    order = shuffled.order()
    positions = np.array([[0, 999, 3], [5, 5, 17]], np.int16)
    assert np.array_equal(shuffled.rows(positions), order[positions])
    assert np.array_equal(shuffled.rows([7, 8]), order[7:9])
    assert shuffled.rows(np.uint64(7)) == order[7]
    assert shuffled.rows([]).shape == (0,)


def test_positions_are_left_as_they_are() -> None:
    positions = np.arange(5, dtype=np.uint64)
    KeyedPermutation(5, seed=4, epoch=0).rows(positions)
    assert positions.tolist() == [0, 1, 2, 3, 4]


def test_impossible_positions_are_refused() -> None:
    shuffled = KeyedPermutation(10, seed=4, epoch=0)
    with pytest.raises(ArgumentError, match="positions must be from 0 to 9 for 10 rows"):
        shuffled.rows([10])
    with pytest.raises(ArgumentError, match="not from -1 to 3"):
        shuffled.rows([3, -1])
    with pytest.raises(ArgumentTypeError, match="positions must be integers, not float64"):
        shuffled.rows([1.0])


@pytest.mark.parametrize(
    ("n", "seed", "epoch", "message"),
    [
        (0, 0, 0, "n must be at least 1"),
        (2**62 + 1, 0, 0, r"n must be .* less than 2\*\*62 \+ 1"),
        (5, -1, 0, "seed must be at least 0"),
        (5, 2**64, 0, r"seed must be .* less than 2\*\*64"),
        (5, 0, -1, "epoch must be at least 0"),
    ],
)
def test_arguments_are_checked(n: int, seed: int, epoch: int, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        KeyedPermutation(n, seed, epoch)


def test_repr() -> None:
    assert repr(KeyedPermutation(5, 1, 2)) == "KeyedPermutation(n=5, seed=1, epoch=2)"


# As good as random


def orders(n: int, count: int) -> np.ndarray:
    """Return the orders of `count` epochs, shape (count, n)."""
    return np.stack([KeyedPermutation(n, 2024, epoch).order() for epoch in range(count)])


def p_of_positions(orders: np.ndarray) -> float:
    """Return the p-value of: every row is equally likely at every position.

    In the table of counts (position, row), rows and columns have fixed sums. For random
    permutations (n - 1) / n times Pearson's statistic then has (n - 1)**2 degrees of freedom.
    """
    count, n = orders.shape
    table = np.stack([np.bincount(column, minlength=n) for column in orders.T])
    statistic = ((table - count / n) ** 2).sum() / (count / n)
    return float(stats.chi2.sf(statistic * (n - 1) / n, (n - 1) ** 2))


def p_of_neighbours(orders: np.ndarray) -> float:
    """Return the p-value of: every pair of rows is equally likely at two positions in a row.

    The least over all positions, times the number of positions.
    """
    _, n = orders.shape
    different = ~np.eye(n, dtype=bool).ravel()
    pairs = orders[:, :-1] * n + orders[:, 1:]
    p = [
        stats.chisquare(np.bincount(column, minlength=n * n)[different]).pvalue
        for column in pairs.T
    ]
    return min(1.0, min(p) * len(p))


def p_of_differences(orders: np.ndarray) -> float:
    """Return the p-value of: the difference of neighbouring rows, modulo n, is uniform."""
    _, n = orders.shape
    differences = (orders[:, 1:] - orders[:, :-1]) % n
    return float(stats.chisquare(np.bincount(differences.ravel(), minlength=n)[1:]).pvalue)


def correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the correlation of each pair of orders, in standard errors, for shape (count, n)."""
    _, n = first.shape
    middle, variance = (n - 1) / 2, (n * n - 1) / 12
    return ((first - middle) * (second - middle)).mean(axis=1) / variance * np.sqrt(n - 1)


def p_of_independence(first: np.ndarray, second: np.ndarray) -> float:
    """Return the p-value of: paired orders, shape (count, n), are unrelated.

    The lesser of two, doubled: they are uncorrelated, and the same row is at the same place as
    often as in random orders, where that number has mean and variance 1.
    """
    count = len(first)
    z = ((first == second).sum() - count) / np.sqrt(count)
    squares = (correlations(first, second) ** 2).sum()
    return 2 * float(min(2 * stats.norm.sf(abs(z)), stats.chi2.sf(squares, count)))


@pytest.mark.parametrize("n", [2, 3, 4, 7, 9, 16, 17])
def test_rows_and_neighbours_over_epochs(n: int) -> None:
    epochs = orders(n, 1000)
    assert p_of_positions(epochs) > LEAST_P
    if n > 2:
        assert p_of_neighbours(epochs) > LEAST_P
        assert p_of_differences(epochs) > LEAST_P


def test_rows_differences_and_successive_epochs() -> None:
    epochs = orders(100, 2000)
    assert p_of_positions(epochs) > LEAST_P
    assert p_of_differences(epochs) > LEAST_P
    assert p_of_independence(epochs[:-1], epochs[1:]) > LEAST_P


def test_seeds_one_bit_apart() -> None:
    seed, n = 0x0123456789ABCDEF, 1000
    plain = KeyedPermutation(n, seed, 0).order()
    flipped = np.stack([KeyedPermutation(n, seed ^ 1 << bit, 0).order() for bit in range(64)])
    assert p_of_independence(np.broadcast_to(plain, flipped.shape), flipped) > LEAST_P
    assert p_of_independence(flipped[:-1], flipped[1:]) > LEAST_P


@pytest.mark.parametrize("n", [60_000, 65_537, *BEYOND_32_BITS])
def test_neighbours_within_a_large_order(n: int) -> None:
    shuffled = KeyedPermutation(n, seed=8, epoch=1)
    rows = shuffled.rows(np.arange(50_000))
    for step in (1, 2, 256):
        # In floating point: 53 bits are plenty for 64 cells, and nothing overflows.
        where = rows / n
        shift = (where[step:] - where[:-step]) % 1.0
        assert stats.chisquare(np.histogram(where, 64, (0, 1))[0]).pvalue > LEAST_P
        assert stats.chisquare(np.histogram(shift, 64, (0, 1))[0]).pvalue > LEAST_P


# The statistics can fail


@pytest.mark.parametrize("n", [16, 17, 100])
def test_too_few_rounds_are_noticed(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    full = permutation.round_keys
    monkeypatch.setattr(permutation, "round_keys", lambda seed, epoch: full(seed, epoch)[:4])
    assert p_of_differences(orders(n, 1000)) < 1e-8


def test_weak_mixing_is_noticed_even_after_24_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    full = permutation.round_keys
    monkeypatch.setattr(permutation, "mix", lambda z: z * np.uint64(0x9E3779B97F4A7C15))
    monkeypatch.setattr(
        permutation, "round_keys", lambda seed, e: np.append(full(seed, e), full(~seed % 2**64, e))
    )
    epochs = orders(17, 1000)
    assert p_of_positions(epochs) < 1e-12
    assert p_of_neighbours(epochs) < 1e-12
    assert p_of_differences(epochs) < 1e-12


def test_related_epochs_are_noticed() -> None:
    """Round keys of which successive epochs share the first ten give related orders."""
    first, second = [], []
    for epoch in range(0, 400, 2):
        pair = KeyedPermutation(1000, 1, epoch), KeyedPermutation(1000, 1, epoch + 1)
        pair[1].round_keys[:10] = pair[0].round_keys[:10]
        first.append(pair[0].order())
        second.append(pair[1].order())
    assert p_of_independence(np.stack(first), np.stack(second)) < 1e-12
