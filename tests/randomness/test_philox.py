"""Philox words against the published answers; the values made of them against their laws.

Seeds are fixed, so a statistical test here passes always or never. `LEAST_P` is the smallest
p-value accepted; the faults planted on purpose lie many orders of magnitude below it.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gpunn.errors import ArgumentError, ArgumentTypeError
from gpunn.randomness import philox
from gpunn.randomness.philox import Purpose

LEAST_P = 1e-4

WORD = st.integers(0, 2**32 - 1)
LONG = st.integers(0, 2**64 - 1)

# Random123, tests/kat_vectors, "philox4x32 10"
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def from_hex(text: str) -> np.ndarray:
    return np.array([int(word, 16) for word in text.split()], np.uint32)


# The generator


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers(counter: str, key: str, answer: str) -> None:
    words = philox.philox4x32(from_hex(counter), from_hex(key))
    assert words.dtype == np.uint32
    assert words.tolist() == from_hex(answer).tolist()


def test_leading_axes_broadcast() -> None:
    counters = np.stack([from_hex(counter) for counter, _, _ in KNOWN_ANSWERS])
    keys = np.stack([from_hex(key) for _, key, _ in KNOWN_ANSWERS])
    table = philox.philox4x32(counters[:, None], keys[None])
    assert table.shape == (3, 3, 4)
    for i, (_, _, answer) in enumerate(KNOWN_ANSWERS):
        assert table[i, i].tolist() == from_hex(answer).tolist()
    assert philox.philox4x32(counters[:0], keys[0]).shape == (0, 4)


def test_wrong_arrays_are_refused() -> None:
    counter, key = np.zeros(4, np.uint32), np.zeros(2, np.uint32)
    with pytest.raises(ArgumentTypeError, match="counter must have dtype uint32, not int64"):
        philox.philox4x32(np.zeros(4, np.int64), key)
    with pytest.raises(ArgumentError, match=r"key must have shape \(\.\.\., 2\)"):
        philox.philox4x32(counter, counter)
    with pytest.raises(ArgumentError, match="counter must have shape"):
        philox.philox4x32(np.uint32(1), key)


def changed_bits(rounds: int, monkeypatch: pytest.MonkeyPatch) -> float:
    """Return the p-value of: flipping one bit of counter or key flips half of all output bits."""
    monkeypatch.setattr(philox, "ROUNDS", rounds)
    inputs = np.random.default_rng(0).integers(0, 2**32, (100, 1, 6), dtype=np.uint32)
    flips = np.zeros((192, 6), np.uint32)
    for bit in range(192):
        flips[bit, bit // 32] = 1 << bit % 32
    plain = philox.philox4x32(inputs[..., :4], inputs[..., 4:])
    changed = inputs ^ flips
    differences = plain ^ philox.philox4x32(changed[..., :4], changed[..., 4:])
    ones = np.bitwise_count(differences).astype(np.int64)
    counts = ones.sum(axis=(0, 2))  # of 100 * 128 bits, per flipped bit
    z = (counts - 6400) / np.sqrt(3200)
    return float(stats.chi2.sf((z**2).sum(), z.size))


def test_every_input_bit_changes_half_of_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    assert changed_bits(10, monkeypatch) > LEAST_P


def test_that_test_notices_too_few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert changed_bits(4, monkeypatch) < 1e-12


# Key and counter


@settings(max_examples=50)
@given(seed=LONG, step=LONG, stream=WORD, count=st.integers(0, 30))
def test_layout_of_key_and_counter(seed: int, step: int, stream: int, count: int) -> None:
    words = philox.words(seed, step, stream, count)
    assert words.shape == (count,)
    key = np.array([seed % 2**32, seed // 2**32], np.uint32)
    for i, word in enumerate(words):
        counter = np.array([i // 4, step % 2**32, step // 2**32, stream], np.uint32)
        assert word == philox.philox4x32(counter, key)[i % 4]


def test_words_are_pinned() -> None:
    """A change here changes every result and breaks the resuming of every checkpoint."""
    stream = philox.stream_id(Purpose.DROPOUT, 2)
    pinned = [1146707673, 1751000449, 2177679856, 264691457, 3894047801]
    assert philox.words(2**40 + 1, 2**33 + 7, stream, 5).tolist() == pinned


def test_a_stream_can_be_entered_anywhere() -> None:
    whole = philox.words(1, 2, 3, 100)
    assert np.array_equal(philox.words(1, 2, 3, 60, first_group=10), whole[40:])
    last = philox.words(1, 2, 3, 4, first_group=2**32 - 1)
    counter = np.array([2**32 - 1, 2, 0, 3], np.uint32)
    assert np.array_equal(last, philox.philox4x32(counter, np.array([1, 0], np.uint32)))


def test_a_buffer_ends_at_two_to_the_34() -> None:
    with pytest.raises(ArgumentError, match=r"count must be .* less than 2\*\*34 \+ 1"):
        philox.words(0, 0, 0, 2**34 + 1)
    with pytest.raises(ArgumentError, match=r"at most 2\*\*34 values"):
        philox.words(0, 0, 0, 5, first_group=2**32 - 1)


@pytest.mark.parametrize("name", ["seed", "step", "stream", "count"])
def test_arguments_are_checked(name: str) -> None:
    arguments = {"seed": 0, "step": 0, "stream": 0, "count": 1}
    with pytest.raises(ArgumentError, match=f"{name} must be at least 0"):
        philox.words(**{**arguments, name: -1})
    with pytest.raises(ArgumentError, match=f"{name} must be .* less than"):
        philox.words(**{**arguments, name: 2**64})
    with pytest.raises(ArgumentTypeError, match=f"{name} must be an integer, not 1.0"):
        philox.words(**{**arguments, name: 1.0})  # type: ignore[arg-type]


def test_numpy_integers_are_integers() -> None:
    seed, step = np.uint64(2**64 - 1), np.int32(7)
    assert np.array_equal(
        philox.words(seed, step, np.uint32(1), np.int64(9)),  # type: ignore[arg-type]
        philox.words(2**64 - 1, 7, 1, 9),
    )


def test_stream_ids() -> None:
    assert philox.stream_id(Purpose.SHUFFLE) == 0x01000000
    assert philox.stream_id(Purpose.DROPOUT, 0xABCDEF) == 0x02ABCDEF
    assert philox.stream_id(3, 5) == 0x03000005
    with pytest.raises(ArgumentError, match="index must be at least 0 and less than 2"):
        philox.stream_id(Purpose.DROPOUT, 2**24)
    with pytest.raises(ArgumentError, match="index must be at least 0"):
        philox.stream_id(Purpose.DROPOUT, -1)
    with pytest.raises(ArgumentError, match="purpose must be one of SHUFFLE"):
        philox.stream_id(77)
    assert max(Purpose) < 2**8


# Uniform values and dropout


def test_uniform_is_the_top_24_bits() -> None:
    words = np.array([0, 255, 256, 2**31, 2**32 - 1], np.uint32)
    values = philox.uniform(words)
    assert values.dtype == np.float32
    assert values.tolist() == [0.0, 0.0, 2.0**-24, 0.5, 1.0 - 2.0**-24]


def test_uniform_is_uniform() -> None:
    values = philox.uniform(philox.words(11, 0, 1, 100_000))
    assert stats.kstest(values, "uniform").pvalue > LEAST_P
    cells = np.histogram2d(values[:-1], values[1:], bins=16, range=[(0, 1), (0, 1)])[0]
    assert stats.chisquare(cells.ravel()).pvalue > LEAST_P


@pytest.mark.parametrize(
    ("rate", "threshold"),
    [
        (0.0, 0),
        (0.5, 2**31),
        (0.1, 429_496_736),  # float32(0.1) is 13421773 / 2**27
        (np.float32(0.1), 429_496_736),
        (1e-12, 0),
        (1 - 2.0**-24, 2**32 - 256),
    ],
)
def test_drop_thresholds(rate: float, threshold: int) -> None:
    assert philox.drop_threshold(rate) == threshold
    words = np.array([0, max(threshold, 1) - 1, threshold, 2**32 - 1], np.uint32)
    assert philox.keep(words, rate).tolist() == (words >= threshold).tolist()


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1 - 1e-9, 2, 1e300, float("nan"), float("inf")])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(ArgumentError, match="rate must be at least 0 and less than 1"):
        philox.drop_threshold(rate)


@pytest.mark.parametrize("rate", [None, "half"])
def test_rates_must_be_numbers(rate: object) -> None:
    with pytest.raises(ArgumentTypeError, match="rate must be a number"):
        philox.drop_threshold(rate)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3, 0.5, 0.9])
def test_dropout_keeps_its_share(rate: float) -> None:
    stream = philox.stream_id(Purpose.DROPOUT, 1)
    kept = [philox.keep(philox.words(5, step, stream, 2000), rate).sum() for step in range(100)]
    z = (np.array(kept) - 2000 * (1 - rate)) / np.sqrt(2000 * rate * (1 - rate))
    assert stats.chi2.sf((z**2).sum(), 100) > LEAST_P  # no step off by too much
    assert stats.chi2.sf((z**2).sum(), 100) < 1 - LEAST_P  # nor all too near
    assert abs(z.sum()) / 10 < 4


def test_words_of_signed_type_are_refused() -> None:
    for function in (philox.uniform, lambda words: philox.keep(words, 0.5)):
        with pytest.raises(ArgumentTypeError, match="words must have dtype uint32, not int64"):
            function(np.zeros(3, np.int64))


# Normal values


def test_normal_is_box_muller_of_the_words() -> None:
    words = philox.words(1, 2, 3, 8).astype(np.float64)
    values = philox.normal(1, 2, 3, 7)
    for i in range(7):
        radius = np.sqrt(-2 * np.log((words[i // 2 * 2] + 0.5) / 2**32))
        angle = 2 * np.pi * words[i // 2 * 2 + 1] / 2**32
        # A few roundings of 2**-53 each, amplified by an angle of up to 2 pi.
        expected = radius * (np.sin(angle) if i % 2 else np.cos(angle))
        assert values[i] == pytest.approx(expected, rel=0, abs=2.0**-48)


def test_normal_values_are_normal() -> None:
    n = 100_000
    values = philox.normal(7, 0, philox.stream_id(Purpose.INITIALIZER, 3), n)
    assert values.dtype == np.float64
    # Mean, variance, third and fourth moment of n values, in standard errors.
    for power, moment, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs((values**power).mean() - moment) < 4 * np.sqrt(variance / n)
    assert stats.kstest(values, "norm").pvalue > LEAST_P
    for lag in (1, 2, 4):
        assert abs((values[:-lag] * values[lag:]).mean()) < 4 / np.sqrt(n)
    radius = values[0::2] ** 2 + values[1::2] ** 2
    assert stats.kstest(radius, "expon", args=(0, 2)).pvalue > LEAST_P


def test_extreme_words_give_finite_values(monkeypatch: pytest.MonkeyPatch) -> None:
    extremes = np.array([0, 0, 0, 2**32 - 1, 2**32 - 1, 0, 2**32 - 1, 2**32 - 1], np.uint32)
    monkeypatch.setattr(philox, "words", lambda *_, **__: extremes)
    values = philox.normal(0, 0, 0, 8)
    assert np.isfinite(values).all()
    assert np.abs(values).max() == pytest.approx(np.sqrt(66 * np.log(2)))


def test_truncated_normal_is_normal_values_within_two() -> None:
    candidates = philox.normal(9, 0, 4, 2000)
    expected = candidates[np.abs(candidates) <= 2]
    for count in (0, 1, 2, 7, 500, 1800):
        values = philox.truncated_normal(9, 0, 4, count)
        assert np.array_equal(values, expected[:count])


def test_truncated_normal_does_not_depend_on_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = philox.truncated_normal(9, 0, 4, 1000)
    monkeypatch.setattr(philox, "_ACCEPTED", 3.0)  # a third at a time
    assert np.array_equal(philox.truncated_normal(9, 0, 4, 1000), expected)


def test_truncated_normal_has_its_law() -> None:
    values = philox.truncated_normal(10, 0, 4, 50_000)
    assert np.abs(values).max() <= 2
    assert stats.kstest(values, stats.truncnorm(-2, 2).cdf).pvalue > LEAST_P
    assert values.std() == pytest.approx(0.87963, abs=4 * 0.87963 / np.sqrt(2 * 50_000))


@pytest.mark.parametrize("function", [philox.normal, philox.truncated_normal])
def test_float32_is_float64_rounded(function: object) -> None:
    assert callable(function)
    exact, rounded = function(3, 0, 5, 999), function(3, 0, 5, 999, np.float32)
    assert rounded.dtype == np.float32
    assert np.array_equal(rounded, exact.astype(np.float32))
    assert np.abs(rounded).max() == np.float32(np.abs(exact).max())
