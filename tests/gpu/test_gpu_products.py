"""Matrix products by cuBLASLt on a GPU: right, in graphs, the same bits; and tuning in earnest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_nets import net
from op_cases import PRODUCTS, precision_cases
from op_runs import DTYPES, assert_equals_reference, assert_same_bits, cases

from gpunn.backends.cuda import tuning
from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.cuda.driver import LibraryProduct
from gpunn.backends.cuda.tuning import GpuModel, Table
from gpunn.backends.select import select_backend
from gpunn.cli.tune.measure import Tuner, TuneSettings
from gpunn.errors import DeviceError

DEVICE = "cuda"
FLAGS = [(False, False), (False, True), (True, False), (True, True)]
# What rounding a factor changes it by at most, however it rounds: a unit of the last place kept.
UNITS = {"float32": 0.0, "float64": 0.0, "tf32": 2.0**-10, "bfloat16": 2.0**-7}


@pytest.fixture
def library() -> CudaBackend:
    backend: Any = select_backend(DEVICE).backend
    try:
        backend.driver.check_library()
    except DeviceError as error:
        pytest.skip(str(error))  # packages of its own
    return CudaBackend(backend.driver, products="library")


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("shape", [(50, 300, 16), (128, 10, 100), (3, 5, 7), (784, 300, 50)])
@pytest.mark.parametrize("precision", UNITS)
def test_products(
    precision: str, shape: tuple[int, int, int], flags: tuple[bool, bool], library: CudaBackend
) -> None:
    """Within what rounding the factors and adding up can do; float32 with nothing rounded."""
    driver, (m, n, k) = library.driver, shape
    dtype = np.float64 if precision == "float64" else np.float32
    rng = np.random.default_rng(m + n + k)
    left, right = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (k, n)))
    stored = [x.T if flag else x for x, flag in zip((left, right), flags, strict=True)]
    results = []
    for _ in range(2):
        result = driver.upload(np.full((m, n), np.nan, dtype))
        factors = [driver.upload(np.ascontiguousarray(x)) for x in stored]
        call = driver.prepare_product(LibraryProduct(*factors, result, *flags, precision=precision))
        call()
        eager = driver.download(result)
        driver.write(result, np.nan)
        driver.capture([call, call])()
        assert driver.download(result).tobytes() == eager.tobytes()
        results.append(eager.tobytes())
    assert results[0] == results[1]
    exact = left.astype(np.float64) @ right.astype(np.float64)
    most = np.abs(left).astype(np.float64) @ np.abs(right).astype(np.float64)
    unit = UNITS[precision]
    bound = (2 * unit + unit**2 + (k + 1) * np.finfo(dtype).eps) * most
    assert (np.abs(eager - exact) <= bound).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_ops_with_products_of_the_library(dtype: str, library: CudaBackend) -> None:
    for op in PRODUCTS:
        for case in cases(op, dtype):
            assert_equals_reference(library, case)
            assert_same_bits(case, library)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_rounded_products_of_the_library_give_the_same_bits_again(
    precision: str, library: CudaBackend
) -> None:
    for case in precision_cases(precision):
        assert_same_bits(case, library)


def trained(precision: str, steps: int = 200, **settings: Any) -> tuple[list[bytes], Any]:
    """Return the weights after some training, and the backend, some of whose settings differ."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(256, size=(2000, 784), dtype=np.uint8), rng.integers(10, size=2000)
    one = net("sgd", precision)
    backend: Any = one.session.backend
    for name, value in settings.items():
        setattr(backend, name, value)
    one.fit(x, y, 50, steps=steps, verbose=0)
    return [w.tobytes() for w in one.get_weights()], backend


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.usefixtures("library")
def test_steps_with_the_library_become_graphs_of_the_same_bits(precision: str) -> None:
    graphs, backend = trained(precision, products="library")
    assert backend.driver.replays > 0 and backend.graphs  # nothing was refused
    eager, other = trained(precision, products="library", graphs=False)
    assert other.driver.replays == 0
    assert graphs == eager


def test_what_was_tuned_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "user_cache", lambda: tmp_path)
    monkeypatch.delenv(tuning.IGNORED, raising=False)
    backend: Any = select_backend(DEVICE).backend
    gpu = GpuModel.of(backend.driver)
    settings = TuneSettings(batch_sizes=(50,), precisions=("float32", "tf32"), quick=True)
    tuner = Tuner(settings, CudaBackend(backend.driver, products="own"), Table())
    tuner.run()
    assert len(tuner.table) == 16  # eight products of a step, in two precisions
    for row in tuner.rows:
        times = [one["median"] for one in row["candidates"]]
        assert min(times) > 0 and max(times) < 1e-2
    tuning.save(gpu, tuner.table)
    weights, used = trained("float32")
    assert used.table.choices == tuner.table.choices
    assert used.describe().endswith(tuner.table.describe())
    assert trained("float32", graphs=False)[0] == weights
