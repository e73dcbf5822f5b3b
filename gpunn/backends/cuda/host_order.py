"""Orders of rows, for the host to gather by: as `KeyedPermutation.rows`, compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpunn.randomness.permutation import KeyedPermutation


def rows_between(order: KeyedPermutation, start: int, stop: int) -> NDArray[np.int64]:
    """Return the rows at the positions from `start` to `stop` - 1 of an epoch's order."""
    from gpunn.backends.cpu.loops import random as numba_random

    found = np.empty(stop - start, np.int64)
    scratch = np.empty(numba_random.SCRATCH_SHAPE, np.uint64)
    numba_random.fill_order(found, order.n, order.round_keys, start, scratch)
    return found
