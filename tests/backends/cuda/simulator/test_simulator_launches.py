"""Launches, products and captures of the simulator; what is refused before a launch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from op_runs import needs_compiler
from planted import Run, floats, i32, runner

from gpunn.backends.cuda.driver import KernelSource, Launch, LibraryProduct
from gpunn.backends.cuda.simulator.driver import SimulatorDriver
from gpunn.errors import DeviceError

pytestmark = needs_compiler

# Cooperative launches


def test_grid_barriers(driver: SimulatorDriver, run: Run) -> None:
    host = np.random.default_rng(0).integers(0, 9, 5 * 48).astype(np.int32)
    values, state = driver.upload(host), driver.upload(np.zeros(1, np.uint32))
    expected = host
    for _ in range(2):  # the state is not reset between launches
        run("rounds", values, state, i32(3), grid=5, block=48, cooperative=True)
        for _ in range(3):
            expected = expected + np.roll(expected, 1)
        assert np.array_equal(values, expected)


def test_grid_barriers_that_cannot_end(driver: SimulatorDriver, run: Run) -> None:
    values, state = driver.upload(np.zeros(64, np.int32)), driver.upload(np.zeros(1, np.uint32))
    with pytest.raises(DeviceError, match="a launch that is not cooperative"):
        run("rounds", values, state, i32(1), grid=2)
    with pytest.raises(DeviceError, match="grid_barrier"):
        run("leaves_the_grid", state, grid=4, cooperative=True)
    driver.write(state, 7)
    with pytest.raises(DeviceError, match="state must be 0 at first"):
        run("rounds", values, state, i32(1), grid=2, cooperative=True)
    with pytest.raises(DeviceError, match="8449 blocks wait for one another, and 4224 run at once"):
        run("rounds", values, state, i32(1), grid=8449, cooperative=True)


# What is refused before the launch


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"block": 65}, "a block of 65 threads exceeds its 64"),
        ({"block": 1025}, r"block \(1025, 1, 1\) exceeds"),
        ({"block": (1, 1, 65)}, r"block \(1, 1, 65\) exceeds"),
        ({"grid": (1, 65536)}, r"grid \(1, 65536, 1\) exceeds"),
        ({"grid": 2**31}, "exceeds"),
        ({"grid": 0}, "must be 1 or more"),
        ({"block": (4, 0)}, "must be 1 or more"),
        ({"shared": 232449}, "232449 bytes of shared memory exceed 232448"),
    ],
)
def test_launches_that_cuda_refuses(source: KernelSource, shape: Any, message: str) -> None:
    driver = SimulatorDriver()
    array = driver.upload(floats(8))
    with pytest.raises(
        DeviceError, match=rf"kernel put \(planted.cu\) cannot be launched: .*{message}"
    ):
        runner(source, driver)("put", array, np.int64(0), np.float32(0), **shape)
    assert driver.launches == 0


def test_limits_of_another_gpu(source: KernelSource, tmp_path: Path) -> None:
    file = tmp_path / "architecture.cu"
    file.write_text(
        '#include "prelude.cuh"\nKERNEL(64) architecture(int *to) { to[0] = __CUDA_ARCH__; }\n'
    )
    driver = SimulatorDriver(architecture=75, multiprocessors=4, shared_memory=65536)
    assert driver.limits.multiprocessors == 4
    assert "7.5 with 4" in driver.describe()
    result = driver.upload(np.zeros(1, np.int32))
    run = runner(KernelSource(str(file)), driver)
    run("architecture", result)
    assert result[0] == 750
    with pytest.raises(DeviceError, match="65540 bytes of shared memory exceed 65536"):
        run("architecture", result, shared=65540)
    with pytest.raises(DeviceError, match="65 blocks wait for one another, and 64 run at once"):
        run("architecture", result, grid=65, block=64, cooperative=True)


def test_arguments_are_checked(source: KernelSource) -> None:
    driver = SimulatorDriver()
    run = runner(source, driver)
    real = driver.upload(floats(8))
    longs, bytes_ = driver.upload(np.zeros(8, np.int64)), driver.upload(np.zeros(8, np.uint8))
    right = [
        *(np.float32(0), np.float32(0), np.float64(0), np.int32(0), np.uint32(0), np.int64(0)),
        *(np.uint64(0), np.uint8(0), np.bool_(False), longs, real, bytes_, longs),
    ]
    run("types", *right)
    run("types", *right[:9], None, None, None, None)
    run("types", *right[:9], bytes_, *right[10:])
    wrong: dict[int, tuple[Any, str]] = {
        0: (np.float64(0), "is float64, and the kernel takes float32"),
        1: (0.0, "is float, and the kernel takes float32"),
        2: (np.float32(0), "is float32, and the kernel takes float64"),
        3: (np.int64(0), "is int64, and the kernel takes int32"),
        4: (np.int32(0), "is int32, and the kernel takes uint32"),
        5: (np.int32(0), "is int32, and the kernel takes int64"),
        6: (np.int64(0), "is int64, and the kernel takes uint64"),
        7: (np.bool_(0), "is bool, and the kernel takes uint8"),
        8: (None, "is NoneType, and the kernel takes bool8"),
        9: (3, "is int, and the kernel takes a pointer to anything"),
        10: (longs, "is an array of int64, and the kernel takes a pointer to float32"),
        11: (np.zeros(8, np.uint8), "is an array that this device did not allocate"),
        12: (longs[::2], "is an array that is not C-contiguous"),
    }
    assert len(wrong) == len(right)
    for index, (value, message) in wrong.items():
        arguments = [*right]
        arguments[index] = value
        with pytest.raises(DeviceError, match=rf"arguments\[{index}\] {message}"):
            run("types", *arguments)
    with pytest.raises(DeviceError, match="12 arguments for 13 parameters"):
        run("types", *right[:-1])
    with pytest.raises(DeviceError, match=r"kernel typos .* does not exist; the file has: put, "):
        run("typos")


def test_what_would_end_the_process(driver: SimulatorDriver, run: Run) -> None:
    values, result = driver.upload(floats(40)), driver.upload(np.zeros(32, np.float32))
    run("vector_load", values, result, i32(4))
    assert (result == values[5]).all()
    with pytest.raises(DeviceError, match=r"no multiple of 16 \(planted.cu:\d+\)"):
        run("vector_load", values, result, i32(3))
    with pytest.raises(DeviceError, match=r"a null pointer is used \(planted.cu:\d+\)"):
        run("vector_load", None, result, i32(0))
    with pytest.raises(DeviceError, match="a thread's stack has overflown"):
        run("large_frame", result.view(np.int32), block=1)
    with pytest.raises(DeviceError, match=r"an integer is divided by 0 \(planted.cu:\d+\)"):
        run("quotient", result.view(np.int32), i32(0))


# Calls


def test_a_capture_makes_all_calls(source: KernelSource, driver: SimulatorDriver) -> None:
    first, second = driver.upload(floats(50)), driver.upload(np.zeros(50, np.float32))

    def launch(a: Any, b: Any) -> Callable[[], None]:
        arguments = (a, b, i32(50))
        return driver.prepare(Launch(source, "doubled", (2, 1, 1), (32, 1, 1), arguments))

    calls = [launch(first, second), launch(second, first)]
    captured = driver.capture(calls)
    assert driver.launches == 0
    captured()
    captured()
    driver.synchronize()
    assert driver.launches == 4
    assert np.array_equal(first, 16 * floats(50))


def test_the_log(source: KernelSource) -> None:
    driver = SimulatorDriver(log=True)
    array = driver.upload(floats(32))
    runner(source, driver)("put_shared", array, i32(0), i32(0), block=(8, 2), shared=64)
    assert driver.log == [("put_shared", (1, 1, 1), (8, 2, 1), 64)]
    assert SimulatorDriver().log is None


def test_a_seed_gives_the_same_order_again(source: KernelSource) -> None:
    def wrong_result(seed: int) -> bytes:
        driver = SimulatorDriver(seed)
        values, result = driver.upload(floats(128)), driver.upload(np.zeros(128, np.float32))
        for _ in range(2):
            runner(source, driver)("reverse_unguarded", values, result, block=128, shared=512)
        return result.tobytes()

    assert wrong_result(3) == wrong_result(3)
    assert len({wrong_result(seed) for seed in range(8)}) > 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_library_products(driver: SimulatorDriver, dtype: Any) -> None:
    left, right = floats(15).reshape(3, 5).astype(dtype), floats(10).reshape(5, 2).astype(dtype)
    result = driver.upload(np.zeros((3, 2), dtype))
    for flags in ((False, False), (True, True)):
        arrays = [
            driver.upload(m.T if flag else m) for m, flag in zip((left, right), flags, strict=True)
        ]
        driver.write(result, 0)
        driver.prepare_product(LibraryProduct(*arrays, result, *flags))()
        np.testing.assert_allclose(result, left @ right, rtol=1e-5)
    assert driver.launches == 2
    with pytest.raises(DeviceError, match="left is an array that this device did not allocate"):
        driver.prepare_product(LibraryProduct(left, arrays[1], result))


def test_library_products_in_lower_precision(driver: SimulatorDriver) -> None:
    one = np.array([[1 + 2.0**-11, 1 + 2.0**-8, np.inf]], np.float32)  # both halfway
    unit = driver.upload(np.eye(3, dtype=np.float32))
    result = driver.upload(np.zeros((1, 3), np.float32))
    with np.errstate(invalid="ignore"):  # infinity times 0
        for precision, expected in (("tf32", [1 + 2.0**-10, 1 + 2.0**-8]), ("bfloat16", [1, 1])):
            factor = driver.upload(one[:, :2].copy())
            small = driver.upload(np.eye(2, dtype=np.float32))
            two = driver.upload(np.zeros((1, 2), np.float32))
            driver.prepare_product(LibraryProduct(factor, small, two, precision=precision))()
            assert two.tolist() == [expected]
        driver.prepare_product(LibraryProduct(driver.upload(one), unit, result, precision="tf32"))()
    assert result[0, 2] == np.inf
    half = driver.upload(np.array([[0x3F80, 0x4000]], np.uint16))  # 1 and 2
    total = driver.upload(np.zeros((1, 1), np.float32))
    product = LibraryProduct(half, half, total, transpose_right=True, precision="bfloat16")
    driver.prepare_product(product)()
    assert total.tolist() == [[5.0]]
