"""Faults that the simulator catches: beside the memory, without a barrier, for ever."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from op_runs import needs_compiler
from planted import Run, floats, i32, runner

from gpunn.backends.cuda.driver import KernelSource
from gpunn.backends.cuda.simulator.driver import SimulatorDriver
from gpunn.errors import DeviceError

pytestmark = needs_compiler

# Memory


@pytest.mark.parametrize(
    ("index", "where"),
    [
        (24, "0 bytes behind"),
        (25, "4 bytes behind"),
        (-1, "4 bytes before"),
        (100, "304 bytes behind"),
    ],
)
def test_a_write_beside_an_allocation(
    driver: SimulatorDriver, run: Run, index: int, where: str
) -> None:
    other, array = driver.upload(floats(8)), driver.upload(floats(24))
    message = rf"put.*wrote {where} the memory of arguments\[0\] \(96 bytes\)"
    with pytest.raises(DeviceError, match=message):
        run("put", array, np.int64(index), np.float32(3))
    run("put", array, np.int64(23), np.float32(3))  # the guards are whole again
    assert array[23] == 3
    # Also through a view that starts elsewhere in the allocation.
    with pytest.raises(DeviceError, match=where):
        run("put", array[4:8], np.int64(index - 4), np.float32(3))
    assert np.array_equal(other, floats(8))


@pytest.mark.parametrize(("index", "where"), [(24, "0 bytes behind"), (-1, "4 bytes before")])
def test_a_write_that_begins_with_what_the_guard_holds(
    driver: SimulatorDriver, run: Run, index: int, where: str
) -> None:
    array = driver.upload(floats(24))
    guard = ctypes.c_uint32.from_address(array.ctypes.data + 4 * index).value
    value = np.array(guard ^ 0xFF0000, np.uint32).view(np.float32)[()]  # two bytes as they are
    with pytest.raises(DeviceError, match=where):
        run("put", array, np.int64(index), value)


def test_what_is_read_behind_and_written_behind_shows(driver: SimulatorDriver, run: Run) -> None:
    """Both are NaN, and yet the write is seen."""
    values, result = driver.upload(floats(30)), driver.upload(np.zeros(30, np.float32))
    with pytest.raises(DeviceError, match=r"wrote 0 bytes behind the memory of arguments\[1\]"):
        run("doubled", values, result, i32(31))
    run("doubled", values, result, i32(30))


@pytest.mark.parametrize(
    ("index", "where"), [(16, "0 bytes behind"), (19, "12 bytes behind"), (-2, "8 bytes before")]
)
def test_a_write_beside_shared_memory(
    driver: SimulatorDriver, run: Run, index: int, where: str
) -> None:
    array = driver.upload(floats(32))
    with pytest.raises(DeviceError, match=rf"wrote {where} its shared memory \(64 bytes\)"):
        run("put_shared", array, i32(index), i32(0), shared=64)
    run("put_shared", array, i32(15), i32(15), shared=64)
    assert (array == 1).all()
    with pytest.raises(DeviceError, match=r"wrote 0 bytes behind its shared memory \(0 bytes\)"):
        run("put_shared", array, i32(0), i32(0))


def test_memory_that_was_never_written_is_nan(driver: SimulatorDriver, run: Run) -> None:
    fresh = driver.allocate(13 * 4, zeroed=False).view(np.float32)
    assert np.isnan(driver.allocate(16, zeroed=False).view(np.float64)).all()
    assert (driver.allocate(13) == 0).all()
    result = driver.upload(np.zeros(13, np.float32))
    fresh[:12] = 1
    run("doubled", fresh, result, i32(13), grid=2)
    assert (result[:12] == 2).all()
    assert np.isnan(result[12])


def test_shared_memory_that_was_never_written_is_nan(driver: SimulatorDriver, run: Run) -> None:
    array = driver.upload(floats(32))
    run("put_shared", array, i32(3), i32(4), shared=64)
    assert np.isnan(array).all()
    run("put_shared", array, i32(4), i32(4), shared=64)
    assert (array == 1).all()
    run("put_shared", array, i32(3), i32(4), shared=64)  # nothing is left from before
    assert np.isnan(array).all()


def test_running_out_of_memory() -> None:
    driver = SimulatorDriver(memory=10_000)
    first = driver.allocate(6_000)
    assert driver.free_bytes() == 4_000
    with pytest.raises(
        DeviceError, match=r"cannot allocate 5,000 bytes: 4,000 .* smaller batch_size"
    ):
        driver.allocate(5_000)
    view = first[:10]
    del first
    assert driver.free_bytes() == 4_000  # the view keeps it
    del view
    assert driver.free_bytes() == 10_000
    assert SimulatorDriver().free_bytes() > 2**20


def test_upload_write_and_download(driver: SimulatorDriver) -> None:
    host = np.asfortranarray(floats(12).reshape(3, 4))
    array = driver.upload(host)
    assert array is not host
    assert array.flags.c_contiguous
    assert array.ctypes.data % 256 == 0
    assert driver.upload(array[1:]) is not None
    view = array[1:]
    assert driver.upload(view) is view
    assert driver.upload(array[:, 1:]) is not array
    driver.write(array, 3)
    copy = driver.download(array)
    driver.write(array, np.arange(4))
    assert (copy == 3).all()
    assert (array == np.arange(4)).all()
    assert (host == floats(12).reshape(3, 4)).all()
    for shape in ((), (0, 3), (1,)):
        assert driver.upload(np.zeros(shape)).shape == shape


# Barriers


def test_a_missing_barrier_shows(source: KernelSource) -> None:
    host = floats(96)
    right = host[::-1].reshape(-1, 2)[:, ::-1].ravel()
    wrong = 0
    for seed in (None, *range(5)):
        driver = SimulatorDriver(seed)
        values, result = driver.upload(host), driver.upload(np.zeros(96, np.float32))
        runner(source, driver)("reverse", values, result, block=96, shared=384)
        assert np.array_equal(result, right)
        runner(source, driver)("reverse_unguarded", values, result, block=96, shared=384)
        wrong += not np.array_equal(result, right)
    assert wrong >= 5


def test_another_order_shows_what_running_in_order_hides(source: KernelSource) -> None:
    host = floats(96)
    right = np.concatenate([[0], host[:-1]]).astype(np.float32)
    results = []
    for seed in (None, 0, 1):
        driver = SimulatorDriver(seed)
        values, result = driver.upload(host), driver.upload(np.zeros(96, np.float32))
        runner(source, driver)("pass_on", values, result, block=96, shared=384)
        results.append(result.tobytes() == right.tobytes())
    assert results == [True, False, False]


@pytest.mark.parametrize(
    ("symbol", "arguments", "message"),
    [
        (
            "two_barriers",
            1,
            r"divergent __syncthreads: \d+ threads wait at planted.cu:\d+, another",
        ),
        ("some_leave", i32(40), r"__syncthreads"),
        ("some_leave_early", i32(1), r"__syncthreads"),
        ("one_barrier_more", (), r"__syncthreads"),
        (
            "lanes_left",
            2,
            r"lane 9 returned while others wait|names lanes that have left or never were: 0x0+200",
        ),
        (
            "wrong_mask",
            2,
            r"lane \d+ calls a shuffle \(planted.cu:\d+\) with mask 0x00ff00ff, which",
        ),
        ("reads_outside_mask", 2, "with mask 0x0000ffff reads lane 20"),
        ("mixed", 2, r"no thread can go on: |returned while"),
    ],
)
def test_waiting_that_cannot_end_is_reported(
    driver: SimulatorDriver, run: Run, symbol: str, arguments: Any, message: str
) -> None:
    arrays = {1: driver.upload(np.zeros(128, np.int32)), 2: driver.upload(floats(128))}
    given = (arguments,) if isinstance(arguments, np.generic) else ()
    given = (arrays[arguments],) if arguments in (1, 2) and not given else given
    with pytest.raises(
        DeviceError,
        match=rf"kernel {symbol} \(planted.cu\): block \([01], 0, 0\): "
        rf".*({message})",
    ):
        run(symbol, *given, grid=2, block=96)
    values = driver.upload(floats(96))  # the next launch is as good as new
    run("reverse", values, arrays[2][:96], block=96, shared=384)


def test_a_deadlock_says_who_waits_where(source: KernelSource) -> None:
    driver = SimulatorDriver()
    array = driver.upload(floats(32))
    with pytest.raises(
        DeviceError, match=r"7 at __syncwarp \(planted.cu:\d+\), 25 at a shuffle \(planted.cu:\d+\)"
    ):
        runner(source, driver)("mixed", array)


def test_a_partial_warp_has_no_lanes_beyond_it(driver: SimulatorDriver, run: Run) -> None:
    array = driver.upload(floats(128))
    with pytest.raises(DeviceError, match="never were: 0xfff00000"):
        run("shuffle_float", array[:20], array[20:100], i32(1), i32(32), block=20)
