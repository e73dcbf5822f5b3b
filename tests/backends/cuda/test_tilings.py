"""How matrix products are cut: what every choice has to keep to, and some that are meant so."""

from __future__ import annotations

import numpy as np
import pytest

from gpunn.backends.cuda.driver import Limits
from gpunn.backends.cuda.ops.dense import dense
from gpunn.backends.cuda.ops.launches import Context
from gpunn.backends.cuda.tilings import (
    ALONG,
    FINISH_THREADS,
    KINDS,
    TILES,
    Tile,
    choose_tiling,
    device_tiles,
    finish_shape,
    tilings,
)
from gpunn.errors import DeviceError

H100 = Limits(90, 132, 232448)
DEVICES = {
    "T4": Limits(75, 40, 65536),
    "A100": Limits(80, 108, 166912),
    "RTX 3060": Limits(86, 28, 101376),
    "H100": H100,
    "RTX 5090": Limits(120, 170, 101376),
}
SIZES = (
    *((1, 1, 1), (1, 10, 784), (50, 300, 784), (50, 100, 10), (784, 300, 50), (100, 10, 8192)),
    *((8192, 300, 784), (784, 300, 8192), (257, 33, 65), (2, 3, 10_000_019), (1_000_003, 7, 5)),
)
PRODUCTS = [(form, precision) for form in ALONG for precision in KINDS]


@pytest.mark.parametrize("precision", TILES)
def test_tiles_are_such_as_the_kernel_takes(precision: str) -> None:
    """The conditions that kernels/product.cuh leaves unsaid."""
    simple = KINDS[precision] == "IEEE"
    vector = 2 if precision == "float64" else 4
    for tile in TILES[precision]:
        rows, columns, depth = (
            tile.m // tile.warps_m,
            tile.n // tile.warps_n,
            tile.k // tile.warps_k,
        )
        assert rows * tile.warps_m == tile.m and columns * tile.warps_n == tile.n
        assert depth * tile.warps_k == tile.k
        assert rows % (8 if simple else 16) == columns % (4 if simple else 8) == 0
        assert depth % (vector if simple else 16) == tile.m % vector == tile.n % vector == 0
        assert tile.stages >= 2 and tile.threads <= 1024
        assert tile.n <= tile.threads  # sums over the batch: a thread for each column
        # 65536 registers, at most 255 for a thread; each has so many sums.
        registers = tile.m * tile.n * tile.warps_k // tile.threads * (4 // vector)
        assert registers * 2 < min(255, 65536 // (tile.threads * tile.blocks))


@pytest.mark.parametrize(
    ("form", "precision", "device"),
    [
        (form, precision, device)
        for form, precision in PRODUCTS
        for device, limits in DEVICES.items()
        if KINDS[precision] == "IEEE" or limits.architecture >= 80
    ],
)
def test_a_shape_covers_the_product_and_fits_the_device(
    form: str, precision: str, device: str
) -> None:
    limits = DEVICES[device]
    for m, n, k in SIZES:
        shape = choose_tiling(form, precision, m, n, k, limits)
        tile = shape.tile
        assert (shape.tiles_m - 1) * tile.m < m <= shape.tiles_m * tile.m
        assert (shape.tiles_n - 1) * tile.n < n <= shape.tiles_n * tile.n
        assert (shape.splits - 1) * shape.split < k <= shape.splits * shape.split
        assert shape.split % tile.k == 0
        assert shape.shared == tile.shared_bytes(form, precision) <= limits.shared_memory
        assert shape.tiles_m * shape.tiles_n < 2**31 and shape.splits <= 65535


@pytest.mark.parametrize(("form", "precision"), PRODUCTS)
def test_the_parts_of_a_split_run_at_once(form: str, precision: str) -> None:
    for m, n, k in SIZES:
        for tile in TILES[precision]:
            for shape in tilings(form, precision, m, n, k, tile, H100):
                if shape.splits > 1:
                    blocks = shape.tiles_m * shape.tiles_n * shape.splits
                    assert blocks <= tile.blocks * H100.multiprocessors


@pytest.mark.parametrize("precision", KINDS)
def test_few_classes_have_a_narrow_tile(precision: str) -> None:
    for batch in (50, 128, 1024):
        shape = choose_tiling("FORWARD", precision, batch, 10, 100, H100)
        assert shape.tile.n == 16


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_a_small_batch_needs_no_second_launch(precision: str) -> None:
    """784-300-100-10 at batch 50: every product is one launch, with its sums over the batch."""
    layers = ((784, 300), (300, 100), (100, 10))
    for inputs, units in layers:
        assert choose_tiling("FORWARD", precision, 50, units, inputs, H100).splits == 1
        assert choose_tiling("KERNEL_GRADIENT", precision, inputs, units, 50, H100).splits == 1
    for inputs, units in layers[1:]:
        shape = choose_tiling("INPUT_GRADIENT", precision, 50, inputs, units, H100)
        assert (shape.splits, shape.tiles_m) == (1, 1)


@pytest.mark.parametrize("precision", KINDS)
def test_a_large_batch_fills_the_device(precision: str) -> None:
    for form, m, n, k in (
        ("FORWARD", 8192, 300, 784),
        ("KERNEL_GRADIENT", 784, 300, 8192),
        ("KERNEL_GRADIENT", 300, 100, 8192),
    ):
        shape = choose_tiling(form, precision, m, n, k, H100)
        blocks = shape.tiles_m * shape.tiles_n * shape.splits
        assert blocks >= 0.9 * H100.multiprocessors


@pytest.mark.parametrize("vector", [2, 4])
@pytest.mark.parametrize("sums", [False, True])
def test_the_second_launch_covers_the_result(vector: int, sums: bool) -> None:
    for m, n, _ in SIZES:
        shape = finish_shape(m, n, vector, H100, sums=sums)
        assert shape.groups & (shape.groups - 1) == 0
        assert FINISH_THREADS % shape.groups == 0
        assert (
            shape.groups * vector * (shape.across - 1) < n <= shape.groups * vector * shape.across
        )
        assert shape.rows * (shape.down - 1) < m <= shape.rows * shape.down
        assert shape.down <= 65535
        if sums and m <= 256:
            assert shape.down == 1


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_without_asynchronous_copies_two_stages_leave_room_for_more_blocks(precision: str) -> None:
    t4 = DEVICES["T4"]
    tiles = device_tiles(precision, t4)
    assert {tile.stages for tile in tiles} == {2}
    assert device_tiles(precision, DEVICES["A100"]) == TILES[precision]

    def resident(form: str, tile: Tile) -> int:
        return min(tile.blocks, t4.shared_memory // tile.shared_bytes(form, precision))

    for form in ALONG:
        for tile, deep in zip(tiles, TILES[precision], strict=True):
            assert resident(form, tile) >= max(resident(form, deep), 1)
        for m, n, k in SIZES:
            assert choose_tiling(form, precision, m, n, k, t4).tile in tiles


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_rounded_products_need_tensor_cores(precision: str) -> None:
    a = {"values": np.ones((2, 3), np.float32), "kernel": np.ones((3, 4), np.float32)}
    a["result"] = np.empty((2, 4), np.float32)
    attrs = {"precision": precision, "activation": "linear", "parameter": 0.0}
    context = Context(DEVICES["T4"], lambda nbytes: np.empty(nbytes, np.uint8))
    with pytest.raises(DeviceError, match=f"'{precision}' needs .* 8.0 or later; .* has 7.5"):
        dense(context, a, attrs, 2)
    assert dense(context, a, attrs | {"precision": "float32"}, 2)
