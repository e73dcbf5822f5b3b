"""Tile and split of a matrix product, from its shape: a pure function, told nothing of a device.

A product of M x N results over a reduction of K is cut into tiles, one block each; where the tiles
alone leave most multiprocessors idle, K is cut too, and a second launch adds the parts up. What is
best depends on the shape: at batch 50 every barrier and every launch counts, at batch 8192 only
the rate of multiplications does. `choose_tiling` writes down what each choice costs, roughly and
in clock cycles, and takes the cheapest.

``kernels/product.cuh`` says how a block uses its tile, and receives these numbers as macros.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from gpunn.backends.cuda.driver import Limits
from gpunn.backends.cuda.geometry import WARP, ceil_div

# The forms of a product: which operands have the reduction along their rows in memory.
ALONG = {
    "FORWARD": (True, False),
    "INPUT_GRADIENT": (True, True),
    "KERNEL_GRADIENT": (False, False),
}
# Precision -> kind of multiplication (a macro of product.cuh).
KINDS = {"float32": "IEEE", "float64": "IEEE", "tf32": "TF32", "bfloat16": "BFLOAT16"}


def _itemsize(precision: str) -> int:
    return 8 if precision == "float64" else 4


@dataclass(frozen=True)
class Tile:
    """What one block computes, and how.

    Attributes
    ----------
    m, n : int
        Rows and columns of the result.
    k : int
        Depth of a stage in shared memory.
    warps_m, warps_n, warps_k : int
        Warps that share rows, columns and depth.
    stages : int
        Stages in shared memory: one in use, the others on their way.
    blocks : int
        Blocks that a multiprocessor must be able to hold: bounds the registers of a thread.
    """

    m: int
    n: int
    k: int
    warps_m: int
    warps_n: int
    warps_k: int
    stages: int
    blocks: int

    @property
    def threads(self) -> int:
        return WARP * self.warps_m * self.warps_n * self.warps_k

    def defines(self) -> tuple[str, ...]:
        """Return the macros that product.cuh reads."""
        return tuple(
            f"GPUNN_{name}={value}"
            for name, value in (
                *(("TILE_M", self.m), ("TILE_N", self.n), ("TILE_K", self.k)),
                *(("WARPS_M", self.warps_m), ("WARPS_N", self.warps_n), ("WARPS_K", self.warps_k)),
                *(("STAGES", self.stages), ("BLOCKS", self.blocks)),
            )
        )

    def shared_bytes(self, form: str, precision: str) -> int:
        """Return the shared memory of a block: the stages, and later the sums in their place."""
        itemsize = _itemsize(precision)
        vector = 16 // itemsize
        pads = (vector, 0) if KINDS[precision] == "IEEE" else (8, 4)
        stage = 0
        for extent, along in zip((self.m, self.n), ALONG[form], strict=True):
            stage += extent * (self.k + pads[0]) if along else self.k * (extent + pads[1])
        sums = self.warps_k * self.m * (self.n + vector)
        return itemsize * max(self.stages * stage, sums)


# A thread of the IEEE tiles has 8, 32 or 64 sums: the more of them, the fewer reads of shared
# memory for each multiplication; the fewer, the more threads. Doubles take twice the registers.
# Tall tiles hold a small batch whole: sums over it need no second launch.
TILES: dict[str, tuple[Tile, ...]] = {
    "float32": (
        Tile(16, 16, 64, 1, 1, 8, 6, 2),
        Tile(64, 16, 32, 4, 1, 2, 4, 2),
        Tile(128, 16, 32, 8, 1, 1, 3, 2),
        Tile(32, 32, 32, 1, 1, 4, 4, 4),
        Tile(64, 64, 16, 1, 2, 1, 4, 6),
        Tile(128, 64, 16, 2, 2, 1, 3, 3),
    ),
    "float64": (
        Tile(16, 16, 64, 1, 1, 8, 3, 1),
        Tile(32, 32, 32, 1, 1, 4, 3, 2),
        Tile(64, 64, 16, 2, 2, 1, 3, 2),
    ),
    "tf32": (
        Tile(16, 16, 64, 1, 1, 4, 5, 3),
        Tile(64, 16, 32, 4, 1, 2, 3, 2),
        Tile(128, 16, 32, 8, 1, 1, 3, 2),
        Tile(32, 32, 64, 1, 1, 4, 3, 3),
        Tile(64, 64, 32, 2, 2, 1, 3, 3),
        Tile(128, 64, 32, 2, 2, 1, 3, 2),
        # For the 300 units of the usual net: 2 x 150. Three stages where they fit.
        Tile(128, 160, 32, 2, 4, 1, 3, 1),
        Tile(128, 160, 32, 2, 4, 1, 2, 1),
    ),
}
TILES["bfloat16"] = TILES["tf32"]

_ASYNCHRONOUS_COPIES = 80  # the architecture from which on there is cp.async


def device_tiles(precision: str, limits: Limits) -> tuple[Tile, ...]:
    """Return the tiles for a device: where copies keep a thread waiting, with two stages."""
    if limits.architecture >= _ASYNCHRONOUS_COPIES:
        return TILES[precision]
    return tuple(replace(tile, stages=2) for tile in TILES[precision])


# A rough H100, per multiprocessor and clock cycle.
_RATES = {"float32": 128, "float64": 64, "tf32": 600, "bfloat16": 1200}  # multiply-adds
_SHARED_RATE = 128  # bytes read from shared memory
_COPY_RATE = 28  # bytes copied from the level 2 cache
_LATENCY = 700  # cycles of a copy from there
_LAUNCH = 2300  # cycles between one launch and the next
_BLOCK = 1500  # cycles to start a block, and to finish it
_BARRIER = 80
_FINISH = 40  # cycles for each value that a thread finishes
_MAX_SPLITS = 64
_MAX_PARTIAL_BYTES = 1 << 25


@dataclass(frozen=True)
class Tiling:
    """How a product is cut.

    Attributes
    ----------
    tile : Tile
    tiles_m, tiles_n : int
    splits : int
        Parts of the reduction.
    split : int
        Length of a part; the last may be shorter.
    shared : int
        Bytes of shared memory of a block.
    cycles : float
        What it was thought to cost.
    """

    tile: Tile
    tiles_m: int
    tiles_n: int
    splits: int
    split: int
    shared: int
    cycles: float


def tilings(
    form: str, precision: str, m: int, n: int, k: int, tile: Tile, limits: Limits
) -> Iterator[Tiling]:
    """Yield the ways to cut a product into `tile`: K whole, or in parts that all run at once."""
    shared = tile.shared_bytes(form, precision)
    tiles_m, tiles_n = ceil_div(m, tile.m), ceil_div(n, tile.n)
    resident = max(1, min(tile.blocks, limits.shared_memory // shared))
    steps = max(1, ceil_div(k, tile.k))
    for wanted in range(1, min(_MAX_SPLITS, steps) + 1):
        split_steps = ceil_div(steps, wanted)
        splits = ceil_div(steps, split_steps)
        if splits != wanted:
            continue
        blocks = tiles_m * tiles_n * splits
        partial_bytes = splits * m * n * _itemsize(precision)
        if splits > 1 and (
            blocks > limits.multiprocessors * resident or partial_bytes > _MAX_PARTIAL_BYTES
        ):
            return
        share = ceil_div(blocks, limits.multiprocessors)
        cycles = _cycles(tile, precision, split_steps, resident, share)
        if splits > 1:
            cycles += _LAUNCH + _LATENCY * splits / 4
            cycles += 2 * partial_bytes / (limits.multiprocessors * _COPY_RATE)
        elif form == "INPUT_GRADIENT" and tiles_m > 1:
            cycles += _LAUNCH  # sums over the batch are finished in a launch of their own
        yield Tiling(tile, tiles_m, tiles_n, splits, split_steps * tile.k, shared, cycles)


def _cycles(tile: Tile, precision: str, steps: int, resident: int, blocks: int) -> float:
    """Return the cycles of a multiprocessor for `blocks` blocks of `steps` stages each."""
    itemsize = _itemsize(precision)
    rows, columns = tile.m / tile.warps_m, tile.n / tile.warps_n
    # One warp, one step of k: multiplications and reads of shared memory overlap in part.
    multiply = rows * columns / _RATES[precision]
    read = (rows + columns) * itemsize / _SHARED_RATE
    if KINDS[precision] == "IEEE":  # the same values go to several lanes
        read = (rows / 8 + columns / 4) / 2 * itemsize / 4
    step = max(multiply, read) + min(multiply, read) / 2
    copy = (tile.m + tile.n) * itemsize / _COPY_RATE
    # Many blocks wait for one another's units; one block waits for its own copies and barriers,
    # and each of its warps has at most a quarter of the units.
    busy = steps * tile.k * max(tile.warps_m * tile.warps_n * step, copy)
    stage = max(_BARRIER + 4 * step * tile.k / tile.warps_k, _LATENCY / (tile.stages - 1))
    alone = _BLOCK + _FINISH * tile.m * tile.n / tile.threads + steps * stage
    return max(blocks * busy + _BLOCK, ceil_div(blocks, resident) * alone)


@lru_cache(maxsize=1024)
def choose_tiling(form: str, precision: str, m: int, n: int, k: int, limits: Limits) -> Tiling:
    """Return the cheapest way to cut a product.

    Parameters
    ----------
    form : {"FORWARD", "INPUT_GRADIENT", "KERNEL_GRADIENT"}
    precision : {"float32", "float64", "tf32", "bfloat16"}
    m, n, k : int
        Rows and columns of the result, and the length of the reduction.
    limits : Limits
    """
    shapes = [
        shape
        for tile in device_tiles(precision, limits)
        if tile.shared_bytes(form, precision) <= limits.shared_memory
        for shape in tilings(form, precision, m, n, k, tile, limits)
    ]
    return min(shapes, key=lambda shape: shape.cycles)


@dataclass(frozen=True)
class FinishShape:
    """How the launch that follows a product covers its result.

    Attributes
    ----------
    groups : int
        Groups of 16 bytes across a block, a power of two; its 256 threads are rows of so many.
    across, down : int
        Blocks side by side, and below one another.
    rows : int
        Rows that a block takes.
    """

    groups: int
    across: int
    down: int
    rows: int


FINISH_THREADS = 256


def finish_shape(m: int, n: int, vector: int, limits: Limits, *, sums: bool) -> FinishShape:
    """Return the geometry for M x N values in groups of `vector`.

    With `sums` over the rows, a small batch is one block down: nothing is left to add up.
    """
    per_row = ceil_div(n, vector)
    alone = sums and m <= 256
    groups = min(1 << (per_row - 1).bit_length(), 4 if alone else 16)
    lanes = FINISH_THREADS // groups
    across = ceil_div(per_row, groups)
    passes = ceil_div(ceil_div(m, lanes) * across, 4 * limits.multiprocessors)
    rows = m if alone else max(lanes * passes, ceil_div(m, 65535))
    return FinishShape(groups, across, ceil_div(m, rows), rows)
