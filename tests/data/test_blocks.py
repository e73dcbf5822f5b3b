"""Rows in blocks: each once an epoch, whatever the sizes, and in the order of the epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunn.data import blocks
from gpunn.data.blocks import Blocks, block_rows, gather, usable_bytes
from gpunn.randomness.permutation import KeyedPermutation

FREE = st.integers(0, 2**38)


@given(
    rows=st.integers(1, 300),
    batch_size=st.integers(1, 40),
    batches=st.integers(1, 9),
    shuffled=st.booleans(),
    chunk=st.integers(1, 50),
    threads=st.integers(1, 3),
)
def test_blocks_hold_every_row_once_in_the_order_of_the_epoch(
    rows: int, batch_size: int, batches: int, shuffled: bool, chunk: int, threads: int
) -> None:
    x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    y = np.arange(rows, dtype=np.int32)
    order = KeyedPermutation(rows, 5, 7) if shuffled else None
    cut = Blocks(rows, batch_size * batches)
    seen: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "CHUNK", chunk)
        patch.setattr(blocks, "THREADS", threads)
        for block in range(cut.count):
            start, stop = cut.span(block)
            assert 0 < stop - start <= cut.size and cut.find(start) == (block, 0)
            assert cut.find(stop - 1) == (block, stop - start - 1)
            targets = {"x": np.full((cut.size, 2), -1, np.float32), "y": np.zeros(cut.size, "i4")}
            gather({"x": x, "y": y}, targets, (start, stop), order)
            assert (targets["x"][stop - start :] == -1).all()  # nothing behind a ragged end
            np.testing.assert_array_equal(targets["x"][: stop - start, 0], 2 * seen_rows(targets))
            seen += targets["y"][: stop - start].tolist()
    assert seen == (list(range(rows)) if order is None else order.order().tolist())


def seen_rows(targets: dict[str, np.ndarray]) -> np.ndarray:
    return targets["y"][: int((targets["x"][:, 0] >= 0).sum())]


@given(
    rows=st.integers(1, 10**9),
    row_nbytes=st.integers(1, 10**6),
    batch_size=st.integers(1, 10**5),
    free=FREE,
)
def test_two_blocks_fit_what_is_free(
    rows: int, row_nbytes: int, batch_size: int, free: int
) -> None:
    batch_size = min(batch_size, rows)
    size = block_rows(rows, row_nbytes, batch_size, free)
    if size is None:
        assert 2 * batch_size * row_nbytes > usable_bytes(free)
        return
    assert size % batch_size == 0 and 0 < size < rows + batch_size
    assert 2 * size * row_nbytes <= usable_bytes(free) <= free
    # No more than half of it, unless a block of one batch takes more.
    assert size == batch_size or 2 * size * row_nbytes <= usable_bytes(free) / 2


def test_the_size_of_blocks() -> None:
    images = 28 * 28 + 4 + 8
    size = block_rows(10**8, images, 32, 16 << 30)
    assert size is not None and 31 << 20 < size * images <= 32 << 20
    # Large batches: a few of them.
    assert block_rows(10**8, images, 65536, 16 << 30) == 4 * 65536
    # What is left beside them is for other things, up to a limit.
    assert usable_bytes(800) == 700 and usable_bytes(80 << 30) == (80 << 30) - (256 << 20)


def test_a_gather_that_is_given_up_stops() -> None:
    asked: list[int] = []

    def stopped() -> bool:
        asked.append(1)
        return len(asked) > 1

    x = np.ones((3 * blocks.CHUNK, 1))
    target = np.zeros_like(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "THREADS", 1)
        gather({"x": x}, {"x": target}, (0, len(x)), None, stopped)
    assert target.sum() == blocks.CHUNK and len(asked) == 3


@pytest.mark.parametrize("threads", [1, 2])
def test_what_goes_wrong_in_a_gather_is_raised(threads: int) -> None:
    class Broken(KeyedPermutation):
        def rows(self, positions: Any) -> Any:
            raise OSError("the disk is gone")

    x = np.ones((3 * blocks.CHUNK, 1))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="the disk is gone"):
        patch.setattr(blocks, "THREADS", threads)
        gather({"x": x}, {"x": x.copy()}, (0, len(x)), Broken(len(x), 0, 0))
