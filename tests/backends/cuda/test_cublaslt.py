"""Products by cuBLASLt, on a stand-in: what is asked of the library, when, and what comes of it."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from typing import Any

import fake_cublaslt
import fake_cupy
import numpy as np
import pytest
from op_runs import rounded

from gpunn.backends.cuda import cublaslt, cupy_driver
from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.cuda.cupy_driver import CupyDriver
from gpunn.backends.cuda.driver import LibraryProduct, Limits
from gpunn.backends.roofline import GemmShape, product_call
from gpunn.errors import DeviceError

PRECISIONS = ("float32", "float64", "tf32", "bfloat16")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> CupyDriver:
    fake_cupy.reset()
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy.module())
    monkeypatch.setattr(cupy_driver, "LOADED", {})
    return CupyDriver(0)


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> fake_cublaslt.Library:
    made: Any = fake_cublaslt.Library()
    monkeypatch.setitem(sys.modules, cublaslt.BINDINGS, made)
    return made


def zeros(driver: CupyDriver, shape: tuple[int, ...], dtype: str = "float32") -> Any:
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return driver.allocate(nbytes).view(dtype).reshape(shape)


def square(driver: CupyDriver) -> tuple[Any, LibraryProduct]:
    """Return a result, and the product of [[1, 2], [3, 4]] with itself that goes there."""
    factor = driver.upload(np.array([[1, 2], [3, 4]], np.float32))
    result = zeros(driver, (2, 2))
    return result, LibraryProduct(factor, factor, result)


SQUARE = [[7, 10], [15, 22]]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("left_t", [False, True])
@pytest.mark.parametrize("right_t", [False, True])
@pytest.mark.parametrize("inner", [5, 1, 0])
def test_products(
    precision: str, left_t: bool, right_t: bool, inner: int, driver: CupyDriver, library: Any
) -> None:
    dtype = "float64" if precision == "float64" else "float32"
    rng = np.random.default_rng(0)
    left, right = rng.random((3, inner)).astype(dtype), rng.random((inner, 4)).astype(dtype)
    result = driver.upload(np.full((3, 4), 99, dtype))
    operands = (left.T if left_t else left, right.T if right_t else right)
    product = LibraryProduct(*map(driver.upload, operands), result, left_t, right_t, precision)
    call = driver.prepare_product(product)
    del product
    gc.collect()
    call()
    if precision in ("tf32", "bfloat16"):
        left, right = rounded(left, precision), rounded(right, precision)
    tolerance = 1e-14 if dtype == "float64" else 1e-6
    np.testing.assert_allclose(driver.download(result), left @ right, rtol=tolerance)
    assert driver.launches == 1
    assert [asked["precision"] for asked in library.asked] == ([precision] if inner else [])


def test_layouts_are_those_of_rows_read_as_columns(driver: CupyDriver, library: Any) -> None:
    shapes = (50, 784), (50, 300), (784, 300)  # a kernel's gradient
    driver.prepare_product(LibraryProduct(*(zeros(driver, shape) for shape in shapes), True))
    (asked,) = library.asked
    first, second, result = ({"type": 0, "rows": n, "columns": m, "leading": n} for m, n in
                             ((50, 300), (50, 784), (784, 300)))  # fmt: skip
    assert asked["layouts"] == (first, second, result)
    chosen = asked["preferences"]
    assert chosen["MAX_WORKSPACE_BYTES"] == 32 << 20
    assert chosen["REDUCTION_SCHEME_MASK"] == 6  # nothing is added up in place


def test_alignment_is_that_of_the_arrays(driver: CupyDriver, library: Any) -> None:
    odd = driver.allocate(1024).view("float32")
    odd = odd[(-odd.ctypes.data % 256) // 4 + 1 :][:4].reshape(2, 2)
    assert odd.ctypes.data % 256 == 4
    driver.prepare_product(LibraryProduct(odd, odd, zeros(driver, (2, 2))))()
    chosen = library.asked[0]["preferences"]
    assert (chosen["MIN_ALIGNMENT_A_BYTES"], chosen["MIN_ALIGNMENT_B_BYTES"]) == (4, 4)
    assert chosen["MIN_ALIGNMENT_D_BYTES"] == chosen["MIN_ALIGNMENT_C_BYTES"] >= 16


def test_factors_that_are_bfloat16_already(driver: CupyDriver, library: Any) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    half = driver.upload((values.view(np.uint32) >> 16).astype(np.uint16))
    result = zeros(driver, (2, 2))
    product = LibraryProduct(half, half, result, transpose_right=True, precision="bfloat16")
    driver.prepare_product(product)()
    np.testing.assert_array_equal(driver.download(result), values @ values.T)
    assert [layout["type"] for layout in library.asked[0]["layouts"]] == [14, 14, 0]
    assert library.launched[0][1] == 68  # nothing is rounded once more


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("flags", [(False, True), (True, False)])
def test_products_that_bench_measures(
    precision: str, flags: tuple[bool, bool], driver: CupyDriver
) -> None:
    made = []
    prepare = driver.prepare_product
    backend: Any = CudaBackend(driver)
    driver.prepare_product = lambda product: made.append(product) or prepare(product)  # type: ignore
    product_call(backend, GemmShape(3, 4, 5, *flags), precision)()
    (product,) = made
    rng = np.random.default_rng(0)
    stored = GemmShape(3, 4, 5, *flags).stored
    left, right = (rng.random(size).astype(product.result.dtype) for size in stored)
    expected = (left.T if flags[0] else left) @ (right.T if flags[1] else right)
    loose = {"float64": 1e-14, "float32": 1e-6, "tf32": 2e-3, "bfloat16": 2e-2}[precision]
    np.testing.assert_allclose(driver.download(product.result), expected, rtol=loose)


def test_an_empty_product_is_none(driver: CupyDriver, library: Any) -> None:
    result = zeros(driver, (0, 4))
    driver.prepare_product(LibraryProduct(zeros(driver, (0, 3)), zeros(driver, (3, 4)), result))()
    assert driver.launches == 0 and not library.asked


def test_products_are_part_of_graphs(driver: CupyDriver, library: Any) -> None:
    result, product = square(driver)
    first = driver.prepare_product(product)
    second = driver.prepare_product(LibraryProduct(result, result, zeros(driver, (2, 2))))
    asked = len(library.asked)
    graph = driver.capture([first, second] * 2)
    assert driver.launches == 0 and not driver.download(result).any()
    assert len(library.asked) == asked == 2  # nothing was asked while capturing
    assert {stream for stream, _ in library.launched} == {driver._capture_stream.ptr}
    graph()
    assert driver.download(result).tolist() == SQUARE
    assert (driver.launches, driver.replays) == (4, 1)
    first()
    assert library.launched[-1][0] == driver._stream.ptr


def test_a_product_over_nothing_is_part_of_graphs(driver: CupyDriver) -> None:
    result = driver.upload(np.ones((2, 2), np.float32))
    nothing = LibraryProduct(zeros(driver, (2, 0)), zeros(driver, (0, 2)), result)
    driver.capture([driver.prepare_product(nothing)])()
    assert not driver.download(result).any()


def test_preparing_is_no_part_of_a_graph(driver: CupyDriver) -> None:
    _, product = square(driver)
    with pytest.raises(DeviceError, match="cannot be part of a CUDA graph"):
        driver.capture([lambda: driver.prepare_product(product)()])


def test_steps_with_products_become_graphs(driver: CupyDriver) -> None:
    backend = CudaBackend(driver, products="library")
    result, product = square(driver)
    step = backend.repeated([driver.prepare_product(product)])
    step(30)
    step(70)
    assert driver.launches == 100 and driver.replays > 0 and backend.graphs
    assert driver.download(result).tolist() == SQUARE


def test_all_products_share_a_workspace_and_a_handle(driver: CupyDriver, library: Any) -> None:
    result, product = square(driver)
    calls = [driver.prepare_product(product) for _ in range(3)]
    assert list(library.live.values()).count("handle") == 1
    workspace = driver._library._workspace
    assert workspace.nbytes == cublaslt.workspace_bytes(driver.limits) == 32 << 20
    assert cublaslt.workspace_bytes(Limits(86, 28, 101376)) == 4 << 20
    for call in calls:
        call()
    assert driver.download(result).tolist() == SQUARE


def test_kernels_of_two_products_do_not_mix(driver: CupyDriver, library: Any) -> None:
    call = driver.prepare_product(square(driver)[1])
    multiply, alone = library.matmul, []

    def matmul(*arguments: int) -> None:
        alone.append(driver._library.lock.locked())  # no other thread's can be called now
        multiply(*arguments)

    library.matmul = matmul
    driver.capture([call])
    call()
    assert alone == [True, True] and not driver._library.lock.locked()


def test_descriptors_and_the_handle_are_given_back(library: Any, driver: CupyDriver) -> None:
    owned = weakref.ref(driver)
    _, product = square(driver)
    call = driver.prepare_product(product)
    held = len(library.live)
    other = driver.prepare_product(product)
    assert len(library.live) > held
    del other
    gc.collect()
    assert len(library.live) == held
    library.refuses.add("tf32")
    with pytest.raises(DeviceError):
        driver.prepare_product(
            LibraryProduct(product.left, product.right, product.result, precision="tf32")
        )
    gc.collect()
    assert len(library.live) == held
    del call, product
    gc.collect()
    assert list(library.live.values()) == ["handle"]
    assert owned() is driver


def test_a_call_outlives_its_driver_s_last_product(library: Any, driver: CupyDriver) -> None:
    """What a call needs (handle, workspace, arrays) goes when the call goes."""
    result, product = square(driver)
    call = driver.prepare_product(product)
    driver._library = None
    del product
    gc.collect()
    call()
    assert driver.download(result).tolist() == SQUARE
    del call
    gc.collect()
    assert not library.live


def test_no_op_of_another_thread_comes_between_the_kernels_of_a_product(
    library: Any, driver: CupyDriver
) -> None:
    """It may hand on partial sums in the workspace, which a graph's products use, too."""
    backend, values = CudaBackend(driver, products="library"), np.ones((3, 2), np.float32)
    shapes = {"values": (3, 2), "gradient": (3, 4), "kernel_gradient": (2, 4)}
    arrays = {name: driver.upload(np.ones(shape, np.float32)) for name, shape in shapes.items()}
    call = backend.bind("dense_kernel_gradient", arrays, {"precision": "float32"}, len(values))
    matmul, free = library.matmul, []

    def watched(*arguments: int) -> None:
        def attempt() -> None:
            free.append(backend._launch_lock.acquire(blocking=False))

        other = threading.Thread(target=attempt)
        other.start()
        other.join()
        matmul(*arguments)

    library.matmul = watched
    call()
    assert free == [False]
    assert driver.download(arrays["kernel_gradient"]).tolist() == [[3.0] * 4] * 2


# What may be missing


def test_no_bindings(driver: CupyDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, cublaslt.BINDINGS, None)
    with pytest.raises(DeviceError) as caught:
        driver.prepare_product(square(driver)[1])
    said = str(caught.value)
    assert said.startswith("cuda:0: products by cuBLASLt need nvmath-python, which cannot be")
    assert "pip install 'gpunn[cublas13]' adds it" in said and "products='own' does without" in said


def test_bindings_that_break(driver: CupyDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Any:
        raise AttributeError("cuda.core has no\nsuch thing")

    monkeypatch.setattr(cublaslt.importlib, "import_module", fail)
    with pytest.raises(DeviceError, match=r"cannot be imported \(cuda.core has no such thing\)"):
        driver.check_library()


def test_bindings_that_do_not_find_the_library(driver: CupyDriver, library: Any) -> None:
    def fail() -> int:
        raise RuntimeError("Failed to dlopen libcublasLt\n(no such file)")

    library.get_version = fail
    with pytest.raises(DeviceError) as caught:
        driver.check_library()
    assert str(caught.value).startswith(
        "cuda:0: cuBLASLt cannot be loaded (Failed to dlopen libcublasLt (no such file)); pip inst"
    )


def test_a_library_that_does_not_start(driver: CupyDriver, library: Any) -> None:
    def fail() -> int:
        raise fake_cublaslt.CublasLtError(1)

    library.create = fail
    with pytest.raises(DeviceError, match="cuBLASLt does not start: status 1"):
        driver.check_library()


def test_a_product_that_the_library_has_not(driver: CupyDriver, library: Any) -> None:
    library.refuses.add("float32")
    with pytest.raises(DeviceError) as caught:
        driver.prepare_product(square(driver)[1])
    assert str(caught.value).startswith(
        "cuBLASLt has no product in float32 for factors of shape (2, 2) and (2, 2) (status 15"
    )
    assert "products='own'" in str(caught.value)


def test_a_workspace_that_no_kernel_is_content_with(
    driver: CupyDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_cublaslt, "WORKSPACE", 1 << 30)
    with pytest.raises(DeviceError, match="cuBLASLt has no product in float32"):
        driver.prepare_product(square(driver)[1])


def test_a_product_that_fails(driver: CupyDriver, library: Any) -> None:
    call = driver.prepare_product(square(driver)[1])

    def fail(*arguments: int) -> None:
        raise fake_cublaslt.CublasLtError(13)

    library.matmul = fail
    with pytest.raises(DeviceError, match="a product by cuBLASLt failed: status 13"):
        call()
    assert driver.launches == 0


def test_time_is_that_of_the_device(driver: CupyDriver) -> None:
    _, product = square(driver)
    call = driver.prepare_product(product)

    def three() -> None:
        for _ in range(3):
            call()

    assert driver.seconds(three) == pytest.approx(3e-3)  # of the stand-in's clock
    assert driver.launches == 3
