"""Default seeds: random or, after `set_seed`, derived from one seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from gpunn.randomness.philox import check_integer

_generator: np.random.Generator | None = None


def set_seed(seed: int) -> None:
    """Make `draw_seed` return a reproducible sequence from here on."""
    global _generator
    _generator = np.random.default_rng(check_integer("seed", seed, 0, 2**64))


def draw_seed() -> int:
    """Return a 64-bit seed."""
    if _generator is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    return int(_generator.integers(2**64, dtype=np.uint64))


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Derive seeds from `seed` within the context; None changes nothing."""
    global _generator
    before = _generator
    if seed is not None:
        set_seed(seed)
    try:
        yield
    finally:
        if seed is not None:
            _generator = before
