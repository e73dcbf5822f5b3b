"""The driver of a GPU, on a stand-in for CuPy: what it asks of CUDA, and in which order."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_cupy
import numpy as np
import pytest

from gpunn.backends.cuda import cupy_driver, dependent_launch, nvrtc
from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.cuda.cupy_driver import CupyDriver, pack
from gpunn.backends.cuda.cupy_memory import STAGED, STAGING
from gpunn.backends.cuda.driver import KernelSource, Launch
from gpunn.errors import ArgumentTypeError, DeviceError

SOURCE = KernelSource("affine.cu", ("GPUNN_REAL=float",))
ONE = (1, 1, 1)


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    fake_cupy.reset()
    module = fake_cupy.module()
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(cupy_driver, "LOADED", {})
    monkeypatch.setattr(nvrtc, "load", lambda *arguments: b"compiled")
    monkeypatch.setattr(fake_cupy, "KERNELS", {"increment": (2, increment)})
    return module


@pytest.fixture
def driver(cupy: Any) -> CupyDriver:
    return CupyDriver(0)


def increment(pointer: int, by: int) -> None:
    value = ctypes.c_float.from_address(pointer)
    value.value += np.uint64(by).view(np.float64)  # the low 8 bytes are those of a double


def launch(array: Any, by: float = 1.0, **changes: Any) -> Launch:
    arguments = {"shared": 0, **changes}
    return Launch(SOURCE, "increment", ONE, (32, 1, 1), (array, np.float64(by)), **arguments)


def zeros(driver: CupyDriver, count: int = 1, dtype: str = "float32") -> Any:
    return driver.allocate(count * np.dtype(dtype).itemsize).view(dtype)


def user_stream(device: int = 0) -> fake_cupy.Stream:
    return fake_cupy.STATE.stream(device)


def in_a_thread(act: Callable[[], Any]) -> Any:
    """Return what `act` returns in a thread that is new to CUDA."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(act).result()


# Arguments of kernels


def test_arguments_are_packed_in_their_own_width() -> None:
    array = fake_cupy.array_on(0, [1.0, 2.0])
    scalars = (
        *(np.int32(-7), np.int64(-5), np.float32(1.5), np.float64(2.5)),
        *(np.uint64(2**64 - 1), np.uint32(7), np.bool_(True)),
    )
    slots, addresses = pack((array, None, *scalars))
    read = [ctypes.c_uint64.from_address(int(address)).value for address in addresses]
    assert read == slots.tolist() and read[:2] == [array.ctypes.data, 0]
    for i, scalar in enumerate(scalars, start=2):
        value = np.frombuffer(slots[i].tobytes()[: scalar.nbytes], scalar.dtype)[0]
        assert value == scalar and value.dtype == scalar.dtype
        assert not any(slots[i].tobytes()[scalar.nbytes :])


@pytest.mark.parametrize("argument", [3, 1.5, np.zeros(3), np.complex128(1), "x"])
def test_arguments_of_no_certain_width_are_refused(argument: object) -> None:
    with pytest.raises(TypeError, match="argument 1 of a kernel must be a device array, None or a"):
        pack((None, argument))


# Memory


def test_the_device_in_words(driver: CupyDriver) -> None:
    assert driver.describe() == "cuda:0 (NVIDIA Pretended, sm_90, CuPy 14.2.0, CUDA 13.0)"
    assert (driver.name, driver.arrays) == ("cuda:0", "cupy")
    assert driver.limits == (driver.limits.__class__)(90, 132, 232448)
    assert driver.free_bytes() == 1234


def test_a_limit_of_cupy_s_pool_is_a_limit_here(driver: CupyDriver) -> None:
    kept = driver.allocate(300)
    fake_cupy.POOL.set_limit(fake_cupy.POOL.used + 500)
    assert driver.free_bytes() == 500
    fake_cupy.POOL.set_limit(kept.nbytes // 2)  # less than is in use
    assert driver.free_bytes() == 0
    fake_cupy.POOL.set_limit(1 << 40)
    assert driver.free_bytes() == 1234


def test_memory_is_zeroed_if_asked_for(driver: CupyDriver) -> None:
    assert not driver.download(driver.allocate(100)).any()
    assert (driver.download(driver.allocate(100, zeroed=False)) == fake_cupy.GARBAGE).all()
    assert driver.allocate(0).shape == (0,)


def test_no_room(driver: CupyDriver) -> None:
    with pytest.raises(DeviceError) as caught:
        driver.allocate(2 * fake_cupy.MEMORY)
    assert str(caught.value) == (
        "cuda:0: 134,217,728 bytes of memory were asked for; 1,000 of 5,000 are free. Use a "
        "smaller batch_size or a smaller model."
    )


@pytest.mark.parametrize(
    "values",
    [
        np.arange(6.0).reshape(2, 3),
        np.arange(6, dtype=np.uint8).reshape(2, 3).T,
        np.arange(20)[::3],
        np.zeros((0, 5), np.float32),
        np.float32(3.5),
    ],
    ids=["rows", "columns", "strided", "empty", "scalar"],
)
def test_there_and_back(values: Any, driver: CupyDriver) -> None:
    array = driver.upload(values)
    assert isinstance(array, fake_cupy.Array) and array.flags.c_contiguous
    result = driver.download(array)
    assert result.dtype == values.dtype and type(result) is np.ndarray
    np.testing.assert_array_equal(result, values, strict=True)


def test_a_downloaded_array_is_a_copy(driver: CupyDriver) -> None:
    array = zeros(driver, 3)
    result = driver.download(array)
    driver.write(array, 5)
    driver.synchronize()
    assert not result.any()


@pytest.mark.parametrize("count", [1, 7, STAGED, 3 * STAGED])
def test_written_values_may_be_changed_at_once(count: int, driver: CupyDriver) -> None:
    array, values = zeros(driver, count), np.arange(count, dtype=np.float32)
    driver.write(array, values)
    expected = values.copy()
    values[:] = -1
    np.testing.assert_array_equal(driver.download(array), expected)


def test_more_small_values_than_are_staged_at_once(driver: CupyDriver) -> None:
    arrays = [zeros(driver, 5) for _ in range(2 * STAGING // 32)]
    for i, array in enumerate(arrays):
        driver.write(array, i)
    for i, array in enumerate(arrays):
        assert (driver.download(array) == i).all()


@pytest.mark.parametrize("count", [3, STAGED])
@pytest.mark.parametrize("value", [0, 7, np.float64(1.5), [2]])
def test_a_value_for_all(value: Any, count: int, driver: CupyDriver) -> None:
    array = zeros(driver, count)
    driver.write(array, -1)
    driver.write(array, value)
    assert (driver.download(array) == np.float32(np.ravel(value)[0])).all()


def test_two_threads_that_write_small_values(driver: CupyDriver) -> None:
    """Until a value is on its way, nobody else is given its place."""
    first, second = zeros(driver, 5), zeros(driver, 5)

    def write_much() -> None:
        for _ in range(STAGING // 32):
            driver.write(second, 2)

    other = threading.Thread(target=write_much)

    class Ones:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
            other.start()
            other.join(0.2)
            return np.ones(5, np.float32)

    driver.write(first, Ones())
    other.join()
    assert (driver.download(first) == 1).all() and (driver.download(second) == 2).all()


def test_rows_and_parts_are_written(driver: CupyDriver) -> None:
    array = zeros(driver, 6).reshape(2, 3)
    driver.write(array, np.array([1, 2, 3]))  # broadcast and converted
    driver.write(array[:, 1:2], 9)  # not contiguous
    np.testing.assert_array_equal(driver.download(array), [[1, 9, 3], [1, 9, 3]])
    np.testing.assert_array_equal(driver.download(array[:, 1]), [9, 9])
    driver.write(array[:0], 5)
    driver.write(array, array_of([[4, 5, 6]], "float64"))
    np.testing.assert_array_equal(driver.download(array), [[4, 5, 6]] * 2)


def array_of(values: Any, dtype: str = "float32", device: int = 0) -> fake_cupy.Array:
    return fake_cupy.array_on(device, np.array(values, dtype))


# Arrays on a GPU, and the order between the user's stream and the driver's


def test_device_arrays_are_taken_as_they_are(driver: CupyDriver) -> None:
    array = array_of([1, 2])
    assert driver.upload(array) is array
    assert driver.adopt(array) is array


def test_what_the_user_has_queued_comes_first(driver: CupyDriver) -> None:
    array, target = array_of([1, 2]), zeros(driver, 2)
    array[...] = 5  # queued
    driver.write(target, array)
    assert (driver.download(target) == 5).all()
    strided = array_of(np.arange(4).reshape(2, 2)).T
    strided[...] = 7
    copy = driver.upload(strided)
    assert copy.flags.c_contiguous and (driver.download(copy) == 7).all()


def test_the_user_may_go_on_with_what_was_copied(driver: CupyDriver) -> None:
    array, target = array_of([1, 2]), zeros(driver, 2)
    driver.write(target, array)
    array[...] = -1
    strided = array_of([[1, 2], [1, 2]]).T
    copy = driver.upload(strided)
    strided[...] = -1
    user_stream().synchronize()  # it runs ahead, if it may
    assert (array.host() == -1).all() and (strided.host() == -1).all()
    np.testing.assert_array_equal(driver.download(target), [1, 2])
    np.testing.assert_array_equal(driver.download(copy), [[1, 1], [2, 2]])


def test_what_is_handed_out_waits_for_what_was_called(driver: CupyDriver) -> None:
    array = zeros(driver)
    driver.prepare(launch(array, 4.0))()
    result = driver.release(array)
    copy = fake_cupy.ascontiguousarray(result.reshape(1))  # by the user
    user_stream().synchronize()
    assert copy.host() == [4.0]


def test_memory_given_back_waits_for_its_last_reader(driver: CupyDriver) -> None:
    """What was handed out, read by the user and dropped may be allocated again."""
    seen = []
    array = driver.release(zeros(driver))
    user_stream().push(lambda: seen.append(array.host()[0]))
    again = driver.allocate(4)  # as if at the same place
    assert not driver.download(again).any() and seen == [0.0]


@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("ahead", [True, False])
def test_arrays_of_another_gpu_are_copied(
    contiguous: bool, ahead: bool, driver: CupyDriver
) -> None:
    array = array_of([[0, 0], [0, 0]], device=1)
    array = array if contiguous else array.T
    with fake_cupy.Device(1):
        array[...] = [[2, 4], [6, 8]]  # queued on the other one
        here = driver.adopt(array)
        array[...] = -1
    assert here.device.id == 0
    if ahead:
        user_stream(1).synchronize()
    copy = fake_cupy.ascontiguousarray(here)  # by the user
    user_stream().synchronize()
    np.testing.assert_array_equal(copy.host(), [[2, 4], [6, 8]])
    np.testing.assert_array_equal(driver.download(driver.upload(here)), [[2, 4], [6, 8]])


def test_the_users_stream_is_theirs_again(driver: CupyDriver) -> None:
    first, second = fake_cupy.Stream(non_blocking=True), fake_cupy.Stream(non_blocking=True)
    array = zeros(driver, 2)

    def act() -> None:
        driver.write(array, array_of([1, 2]))
        driver.release(driver.upload(array_of([[1, 2], [3, 4]]).T))
        driver.capture([driver.prepare(launch(array))])()
        with pytest.raises(ValueError, match="broadcast"):
            driver.write(array, np.zeros(3))

    first.use()
    act()
    assert user_stream() is first
    with second:
        act()
        assert user_stream() is second
        first.use()
        act()
        assert user_stream() is first


def test_numpy_functions_are_called_where_the_arrays_are(cupy: Any) -> None:
    driver = CupyDriver(1)
    for backend in (driver, CudaBackend(driver)):
        with backend.current():
            assert fake_cupy.empty(3, np.float32).device.id == 1
            with backend.current():
                pass
            assert fake_cupy.STATE.device == 1
        assert fake_cupy.STATE.device == 0


class Tensor:
    """An array of another library on a GPU."""

    def __init__(self, values: Any, kind: int = 2) -> None:
        self.values, self.kind, self.stream = values, kind, fake_cupy.Stream(non_blocking=True)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (self.kind, 0)

    def __dlpack__(self, **keywords: Any) -> Any:
        return np.asarray(self.values).__dlpack__(**keywords)

    def taken_over(self, stream: fake_cupy.Stream | None) -> Any:
        if self.values is None:
            raise BufferError("it requires grad")
        if stream is not None:  # the protocol's: the consumer's stream waits for the producer's
            event = fake_cupy.Event(disable_timing=True)
            event.record(self.stream)
            stream.wait_event(event)
        return self.values


class Interface:
    """An array that has nothing but ``__cuda_array_interface__``."""

    def __init__(self, values: Any) -> None:
        self.values = values
        self.__cuda_array_interface__ = {"shape": values.shape}

    def taken_over(self, stream: None) -> Any:
        return self.values


def test_arrays_of_other_libraries(driver: CupyDriver) -> None:
    tensor = Tensor(array_of([1, 2]))
    tensor.stream.push(lambda: tensor.values.view(np.ndarray).__setitem__(..., 3))
    taken = driver.upload(tensor)
    assert taken is tensor.values
    assert (driver.download(taken) == 3).all()
    interface = Interface(array_of([4, 5]))
    assert driver.upload(interface) is interface.values
    on_host = Tensor(np.array([1.0, 2.0]), kind=1)
    assert type(driver.adopt(on_host)) is np.ndarray
    assert driver.adopt([1, 2]) == [1, 2]
    with pytest.raises(ArgumentTypeError, match=r"array of type .*Tensor .*\(it requires grad\)"):
        driver.upload(Tensor(None))


def overwrite(tensor: Tensor) -> None:
    """Change it as another library does at once, on a stream that CuPy does not know."""
    tensor.values.view(np.ndarray)[...] = -1


@pytest.mark.parametrize("given_back", [1, 2])
def test_another_library_may_go_on_when_results_are_there(
    given_back: int, driver: CupyDriver
) -> None:
    tensors = [Tensor(array_of([1.0])), Tensor(array_of([[3.0, 4.0], [5.0, 6.0]]).T)]
    first, second = map(driver.upload, map(driver.adopt, tensors))
    results = [zeros(driver, 1), zeros(driver, 4).reshape(2, 2)]
    driver.write(results[0], first)
    driver.write(results[1], second)
    for result in results[:given_back]:
        driver.release(result)
    for tensor in tensors:
        overwrite(tensor)
    assert driver.download(results[0]) == [1.0]
    np.testing.assert_array_equal(driver.download(results[1]), [[3, 5], [4, 6]])


def test_another_library_may_go_on_when_its_values_are_written(driver: CupyDriver) -> None:
    tensor, target = Tensor(array_of([1.0, 2.0])), zeros(driver, 2)
    driver.write(target, tensor)
    overwrite(tensor)
    np.testing.assert_array_equal(driver.download(target), [1.0, 2.0])


def test_nobody_waits_for_results_of_cupy_s_own_arrays(driver: CupyDriver) -> None:
    array = zeros(driver)
    driver.release(driver.upload(Tensor(array_of([1.0]))))
    driver.prepare(launch(array))()
    driver.release(array)
    assert driver._stream.todo


# Launches


def test_a_launch(driver: CupyDriver, cupy: Any) -> None:
    array = zeros(driver)
    call = driver.prepare(launch(array, 2.5, shared=1024))
    assert driver.launches == 0 and not cupy.cuda.driver.launched
    call()
    call()
    assert driver.launches == 2
    assert cupy.cuda.driver.launched == [(1, 1, 1, 32, 1, 1, 1024)] * 2
    assert not cupy.cuda.driver.attributes
    assert driver.download(array) == [5.0]


def test_a_call_keeps_its_arrays(driver: CupyDriver) -> None:
    array = zeros(driver)
    alive, call = weakref.ref(array), driver.prepare(launch(array))
    graph = driver.capture([call])
    del array, call
    gc.collect()
    assert alive() is not None
    del graph
    gc.collect()
    assert alive() is None


def test_kernels_are_loaded_once(
    driver: CupyDriver, cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Any] = []
    monkeypatch.setattr(nvrtc, "load", lambda *arguments: loaded.append(arguments[1:]) or b"x")
    for one in (driver, CupyDriver(0), driver):
        one.prepare(launch(zeros(one)))
    assert loaded == [(SOURCE, 90)]
    other = CupyDriver(1)
    other.prepare(launch(zeros(other)))
    assert len(loaded) == 2


def test_on_another_device_than_the_current_one(cupy: Any) -> None:
    driver = CupyDriver(1)
    array = zeros(driver)
    assert driver.name == "cuda:1" and array.device.id == 1
    graph = driver.capture([driver.prepare(launch(array))])
    driver.prepare(launch(array))()
    graph()
    driver.write(array.reshape(1, 1), driver.upload(array_of([[8]])))
    graph()
    assert driver.download(array) == [9.0]
    assert fake_cupy.STATE.device == 0


def test_in_a_thread_that_is_new_to_cuda(driver: CupyDriver, cupy: Any) -> None:
    array = zeros(driver)
    call = driver.prepare(launch(array))
    graph = driver.capture([call])
    for act in (call, graph):
        in_a_thread(act)
    assert driver.launches == 2 and driver.download(array) == [2.0]


@pytest.mark.parametrize("options", [{}, {"shared": 100_000}, {"cooperative": True}])
@pytest.mark.parametrize("loaded", [False, True])
def test_preparing_in_a_thread_that_is_new_to_cuda(
    loaded: bool, options: Any, driver: CupyDriver
) -> None:
    array = zeros(driver)
    if loaded:
        driver.prepare(launch(array))
    in_a_thread(lambda: driver.prepare(launch(array, **options)))()
    assert driver.download(array) == [1.0]


def test_much_shared_memory(driver: CupyDriver, cupy: Any) -> None:
    array = zeros(driver)
    for shared in (48 << 10, 100_000, 60_000, 100_001):
        driver.prepare(launch(array, shared=shared))
    # Never less than a launch that is prepared already needs.
    assert [value for *_, value in cupy.cuda.driver.attributes] == [100_000, 100_001]
    with pytest.raises(
        DeviceError, match=r"kernel increment of kernels/affine.cu needs 300,000 bytes of shared"
    ):
        driver.prepare(launch(array, shared=300_000))


def test_blocks_that_wait_for_one_another(driver: CupyDriver, cupy: Any) -> None:
    array = zeros(driver)
    driver.prepare(launch(array, cooperative=True))()
    assert cupy.cuda.driver.launched == [("cooperative", 1, 1, 1, 32, 1, 1, 0)]
    large = Launch(SOURCE, "increment", (265, 1, 1), ONE, (array, np.float64(1)), cooperative=True)
    with pytest.raises(DeviceError, match="needs 265 blocks that run at once; this GPU runs 264"):
        driver.prepare(large)


# Dependent launches


@pytest.fixture
def bindings(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> fake_cupy.Bindings:
    made = fake_cupy.Bindings(cupy)
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", made)
    return made


def test_a_dependent_launch(
    driver: CupyDriver, bindings: fake_cupy.Bindings, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[KernelSource] = []
    monkeypatch.setattr(nvrtc, "load", lambda compiler, source, arch: loaded.append(source) or b"x")
    array = zeros(driver)
    assert not driver.dependent_launches
    plain = driver.prepare(launch(array))
    driver.dependent_launches = True
    assert driver.dependent_launches
    early = driver.prepare(launch(array, 2.0, shared=1024))
    plain()
    assert not bindings.launched
    early()
    early()
    first, second = bindings.launched
    assert first is second  # made once
    (attribute,) = first.attrs
    assert (attribute.id, vars(attribute.value)) == (
        6,
        {"programmaticStreamSerializationAllowed": 1},
    )
    assert first.hStream == driver._stream.ptr and first.sharedMemBytes == 1024
    assert loaded == [SOURCE, replace(SOURCE, defines=(*SOURCE.defines, dependent_launch.DEFINE))]
    driver.dependent_launches = False
    driver.prepare(launch(array, 4.0))()
    assert len(bindings.launched) == 2 and len(loaded) == 2
    assert driver.launches == 4 and driver.download(array) == [9.0]


def test_dependent_launches_are_captured(driver: CupyDriver, bindings: fake_cupy.Bindings) -> None:
    array = zeros(driver)
    driver.dependent_launches = True
    graph = driver.capture([driver.prepare(launch(array))] * 3)
    assert [one.hStream for one in bindings.launched] == [driver._capture_stream.ptr] * 3
    graph()
    graph()
    assert len(bindings.launched) == 3
    assert driver.launches == 6 and driver.download(array) == [6.0]


def test_what_nobody_knows_to_wait_is_launched_in_the_ordinary_way(
    driver: CupyDriver, bindings: fake_cupy.Bindings, tmp_path: Path
) -> None:
    """Blocks that wait for one another, and kernels that are not the project's."""
    array = zeros(driver)
    driver.dependent_launches = True
    own = replace(launch(array), source=KernelSource(str(tmp_path / "own.cu")))
    for one in (launch(array, cooperative=True), own):
        driver.prepare(one)()
    assert not bindings.launched and driver.download(array) == [2.0]


def test_a_dependent_launch_that_fails(
    driver: CupyDriver, cupy: Any, bindings: fake_cupy.Bindings
) -> None:
    driver.dependent_launches = True
    call = driver.prepare(launch(zeros(driver)))
    cupy.cuda.driver.failures.append(fake_cupy.CUDADriverError(719))
    with pytest.raises(DeviceError, match=r"kernel increment of kernels/affine.cu.*restart it"):
        call()
    assert driver.launches == 0
    in_a_thread(call)  # one that is new to CUDA
    assert driver.launches == 1


def test_where_there_are_no_dependent_launches(
    driver: CupyDriver, cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    with pytest.raises(DeviceError, match=r"^cuda:0: .* need cuda-bindings.*cuda-bindings==13\.\*"):
        driver.dependent_launches = True
    monkeypatch.setattr(cupy.cuda.runtime, "driverGetVersion", lambda: 12020)
    with pytest.raises(DeviceError, match=r"driver of CUDA 12\.3 or later; this one is of CUDA 12"):
        driver.dependent_launches = True
    monkeypatch.setattr(driver, "limits", replace(driver.limits, architecture=89))
    driver.dependent_launches = True
    assert not driver.dependent_launches
    driver.prepare(launch(zeros(driver)))()
    assert cupy.cuda.driver.launched


# Graphs


def test_a_graph_makes_all_calls(driver: CupyDriver) -> None:
    first, second = zeros(driver), zeros(driver)
    calls = [driver.prepare(launch(first, 1.0)), driver.prepare(launch(second, 2.0))]
    graph = driver.capture(calls)
    assert driver.launches == 0 and driver.download(first) == [0.0]
    for _ in range(3):
        graph()
    assert driver.launches == 6
    assert (driver.download(first), driver.download(second)) == ([3.0], [6.0])


def test_a_graph_is_captured_beside_the_stream_and_uploaded_to_it(driver: CupyDriver) -> None:
    array = zeros(driver)
    graph = driver.capture([driver.prepare(launch(array))] * 3)
    (made,) = fake_cupy.GRAPHS
    assert driver._capture_stream.ptr not in (0, driver._stream.ptr)
    assert len(made.captured) == 3 and made.uploaded == [driver._stream] and not made.launched
    graph()
    graph()
    assert made.launched == [driver._stream] * 2
    assert (driver.launches, driver.replays) == (6, 2)
    assert driver.download(array) == [6.0]


@pytest.mark.parametrize("doing", ["allocate", "write", "download", "synchronize", "upload"])
def test_nothing_but_launches_is_captured(doing: str, driver: CupyDriver) -> None:
    array = zeros(driver)
    acts: dict[str, Callable[[], Any]] = {
        "allocate": lambda: driver.allocate(4),
        "write": lambda: driver.write(array, 1.0),
        "download": lambda: driver.download(array),
        "synchronize": driver.synchronize,
        "upload": lambda: driver.upload(np.ones(3)),
    }
    with pytest.raises(DeviceError, match=r"^cuda:0: .* cannot be part of a CUDA graph\.$"):
        driver.capture([driver.prepare(launch(array)), acts[doing]])
    assert driver._capture_stream.captured is None and driver.launches == 0
    driver.write(array, 2.0)
    assert driver.download(array) == [2.0]  # the launch has not run


def test_another_thread_is_not_caught_up_in_a_capture(driver: CupyDriver) -> None:
    mine, other = zeros(driver), zeros(driver)
    call = driver.prepare(launch(other))
    driver.synchronize()

    def meanwhile() -> None:
        def act() -> Any:
            call()
            driver.write(driver.allocate(4), 1)
            return driver.download(other)

        assert in_a_thread(act) == [1.0]

    graph = driver.capture([driver.prepare(launch(mine)), meanwhile])
    assert (driver.launches, len(fake_cupy.GRAPHS[0].captured)) == (1, 1)
    graph()
    assert (driver.download(mine), driver.download(other)) == ([1.0], [1.0])
    assert driver.launches == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("a mistake")])
def test_a_capture_that_is_broken_off(error: BaseException, driver: CupyDriver) -> None:
    def broken() -> None:
        raise error

    array = zeros(driver)
    call = driver.prepare(launch(array))
    with pytest.raises(type(error)):
        driver.capture([call, broken])
    assert driver._capture_stream.captured is None and driver.launches == 0
    driver.capture([call])()
    assert driver.download(array) == [1.0]


def test_a_device_that_captures_nothing(driver: CupyDriver) -> None:
    fake_cupy.REFUSALS.append(fake_cupy.CUDARuntimeError(801, "operation not supported"))
    with pytest.raises(DeviceError, match=r"capturing a CUDA graph.*operation not supported"):
        driver.capture([driver.prepare(launch(zeros(driver)))])


def test_a_mark_waits_for_what_was_called_before_it(driver: CupyDriver) -> None:
    first, second = zeros(driver), zeros(driver)
    calls = [driver.prepare(launch(first)), driver.prepare(launch(second))]
    calls[0]()
    mark = driver.mark()
    calls[1]()
    assert first.host() != [1.0]
    mark()
    assert (first.host(), second.host()) == ([1.0], [0.0])


# Graphs of the backend


def test_steps_become_graphs_and_results_are_those_of_calls_one_by_one(cupy: Any) -> None:
    backend = CudaBackend(CupyDriver(0))
    driver: Any = backend.driver
    array = zeros(driver)
    step = backend.repeated([driver.prepare(launch(array)), driver.prepare(launch(array, 2.0))])
    for count in (5, 3, 1, 70, 130):
        step(count)
    assert driver.download(array) == [3.0 * 209]
    assert driver.launches == 2 * 209
    # 8 one by one, 1 as a graph of one, 7 x 8 until 64 are taken, 1 x 8, 6 of one; 2 x 64, 2.
    assert driver.replays == 1 + 7 + 1 + 6 + 2 + 2
    assert [len(graph.captured) // 2 for graph in fake_cupy.GRAPHS] == [1, 8, 64]
    assert all(graph.uploaded == [driver._stream] for graph in fake_cupy.GRAPHS)


def test_graphs_keep_their_arrays_and_go_with_their_steps(driver: CupyDriver) -> None:
    backend = CudaBackend(driver)
    array = zeros(driver)
    step = backend.repeated([driver.prepare(launch(array))])
    held = weakref.ref(array)
    step(20)
    del array
    gc.collect()
    assert held() is not None
    del step
    gc.collect()
    assert held() is None


def test_a_kernel_that_fails_in_a_capture_fails_as_it_does_by_itself(
    driver: CupyDriver, cupy: Any
) -> None:
    backend = CudaBackend(driver)
    step = backend.repeated([driver.prepare(launch(zeros(driver)))])
    step(8)
    error = fake_cupy.CUDADriverError(719, "CUDA_ERROR_LAUNCH_FAILED")
    cupy.cuda.driver.failures += [error, error]
    with pytest.raises(DeviceError, match=r"kernel increment of kernels/affine\.cu"):
        step(1)


def test_graphs_that_are_switched_off(driver: CupyDriver) -> None:
    backend = CudaBackend(driver)
    backend.graphs = False
    array = zeros(driver)
    step = backend.repeated([driver.prepare(launch(array))])
    step(100)
    assert (driver.launches, driver.replays) == (100, 0) and not fake_cupy.GRAPHS
    backend.graphs = True
    step(64)
    assert driver.replays == 1 and driver.download(array) == [164.0]


# Errors


def test_a_kernel_that_fails(driver: CupyDriver, cupy: Any) -> None:
    call = driver.prepare(launch(zeros(driver)))
    cupy.cuda.driver.failures.append(fake_cupy.CUDADriverError(1, "CUDA_ERROR_INVALID_VALUE: bad"))
    with pytest.raises(DeviceError) as caught:
        call()
    assert str(caught.value) == (
        "cuda:0: kernel increment of kernels/affine.cu failed: CUDA_ERROR_INVALID_VALUE: bad."
    )
    assert driver.launches == 0


def test_a_context_that_is_lost(driver: CupyDriver) -> None:
    array = zeros(driver)
    driver._stream.failure = fake_cupy.CUDARuntimeError(700, "cudaErrorIllegalAddress: illegal")
    for act in (driver.synchronize, lambda: driver.download(array), lambda: driver.upload(ONE)):
        with pytest.raises(DeviceError) as caught:
            act()
        said = str(caught.value)
        assert "failed: cudaErrorIllegalAddress: illegal" in said
        assert "restart it" in said and "compute-sanitizer" in said


@pytest.mark.parametrize(
    ("status", "advice"),
    [(2, "smaller batch_size"), (46, "nvidia-smi"), (100, "gpunn devices"), (999, "says.")],
)
def test_a_device_that_does_not_open(
    status: int, advice: str, cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(device: int) -> None:
        raise fake_cupy.CUDARuntimeError(status, "cudaErrorX: it says")

    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceProperties", fail)
    with pytest.raises(DeviceError, match=r"cuda:1: opening the device failed.*" + advice):
        CupyDriver(1)


def test_a_kernel_that_is_not_there(driver: CupyDriver) -> None:
    absent = Launch(SOURCE, "absent", ONE, ONE, ())
    with pytest.raises(DeviceError, match=r"loading kernel absent of kernels/affine.cu failed"):
        driver.prepare(absent)


def test_no_compiler(driver: CupyDriver, cupy: Any) -> None:
    del cupy.cuda.nvrtc
    with pytest.raises(DeviceError, match=r"NVRTC, .* cannot be loaded .*'gpunn\[cuda13\]'"):
        driver.prepare(launch(zeros(driver)))


def test_mistakes_of_the_caller_stay_what_they_are(driver: CupyDriver) -> None:
    with pytest.raises(ValueError, match="broadcast"):
        driver.write(zeros(driver, 3), np.zeros(4))
    with pytest.raises(TypeError, match="argument 0"):
        driver.prepare(Launch(SOURCE, "increment", ONE, ONE, (3,)))


def test_regions_of_the_backend(driver: CupyDriver) -> None:
    backend = CudaBackend(driver)
    region = backend.allocate(1024, 1)
    view = backend.view(region, 256, (3, 4), "float32")
    backend.write(view, np.arange(12).reshape(1, 3, 4))
    flat = backend.view(region, 256, (12,), "float32")
    np.testing.assert_array_equal(backend.to_host(flat), [np.arange(12)])
