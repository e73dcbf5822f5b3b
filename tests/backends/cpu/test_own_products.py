"""Products and optimizers of the CPU by a team of threads, beside the reference backend."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from op_cases import Case, dense_case, gradient_case, weight_gradient_cases
from op_runs import REFERENCE, assert_equals_reference, assert_same_bits, cases, generator, run

import gpunn
from gpunn.backends.cpu import backend as numba_cpu
from gpunn.backends.cpu.backend import NumbaCPU
from gpunn.backends.cpu.ops import dense as cpu_dense
from gpunn.backends.cpu.ops import optimizers as cpu_updates
from gpunn.backends.cpu.ops import team as team_ops
from gpunn.backends.cpu.ops.team import TeamProducts
from gpunn.backends.cpu.products import tiles
from gpunn.backends.cpu.products.tiles import COLUMNS, HEIGHTS, LANES
from gpunn.backends.cpu.threads.tasks import OPTIMIZERS
from gpunn.backends.cpu.threads.team import team
from gpunn.errors import DeviceError

needs_vectors = pytest.mark.skipif(
    not LANES, reason="needs a processor with AVX2 or AVX-512: it has no products of its own"
)
CPUINFO = Path("/proc/cpuinfo")
OPS = (*cpu_dense.PRODUCTS, *OPTIMIZERS)
RELU, TANH = ("relu", 0.0), ("tanh", 0.0)


def own(threads: int) -> NumbaCPU:
    return NumbaCPU(threads, products="own")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the op cases' optimizers dealt out in many parts, with a rest."""
    monkeypatch.setattr(team_ops, "_CHUNK", 48)


@needs_vectors
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("op", OPS)
def test_equals_reference(op: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it by the team: the library and the serial loops are not there."""
    monkeypatch.setattr(cpu_dense, "BLAS", None)
    for serial in OPTIMIZERS:
        monkeypatch.delitem(cpu_updates.OPERATIONS, serial)
    for case in cases(op, "float32"):
        if all(array.size for array in case.make(generator(case)).values()):
            assert_equals_reference(own(threads), case)


@needs_vectors
@pytest.mark.parametrize("op", OPS)
def test_float64_is_left_to_the_library(op: str) -> None:
    for case in cases(op, "float64"):
        assert_same_bits(case, own(2), NumbaCPU(products="library"))


def product_cases(size: tuple[int, int, int]) -> list[Case]:
    leaky = ("leaky_relu", 0.2)
    return [
        dense_case("float32", size, RELU),
        dense_case("float32", size, TANH, pre=True, rate=0.3),
        gradient_case("float32", size, leaky, product=True),
        gradient_case("float32", size, RELU, product=True, target="bias"),
        *weight_gradient_cases("float32", (size,)),
    ]


around_tiles = st.sampled_from(HEIGHTS) | st.sampled_from([LANES, COLUMNS])
sizes = st.integers(1, 90) | st.builds(lambda a, b: max(a + b, 1), around_tiles, st.integers(-1, 1))


@needs_vectors
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(sizes, sizes, sizes), st.integers(1, 3))
def test_products_of_any_size(size: tuple[int, int, int], threads: int) -> None:
    """Whole tiles and what is left of them: rows, inputs, columns; nothing beside is written."""
    for case in product_cases(size):
        assert_equals_reference(own(threads), case)


@needs_vectors
def test_a_sum_of_many_parts() -> None:
    """Inputs enough for the forward product to be split among threads, and long rows."""
    for size in ((37, 700, 70), (128, 515, 600)):
        for case in product_cases(size):
            assert_equals_reference(own(3), case)


@needs_vectors
@pytest.mark.parametrize("op", OPS)
def test_bits_do_not_depend_on_who_does_the_work(op: str) -> None:
    """The same while another thread keeps the team busy, so that this one has to work alone."""
    busy = team(2)._lock
    for case in cases(op, "float32"):
        arrays = case.make(generator(case))
        together = run(own(2), case, arrays)
        with busy:
            alone = run(own(2), case, arrays)
        for role, values in together.items():
            assert values.tobytes() == alone[role].tobytes(), f"{case}: {role}"


@needs_vectors
def test_rows_that_are_not_finite_stay_by_themselves() -> None:
    """Tiles overlap and vectors are masked, but nothing leaks into other rows."""
    case = dense_case("float32", (50, 400, 45), ("linear", 0.0))
    arrays = case.make(generator(case))
    arrays["values"][7, 3], arrays["values"][49, 399] = np.nan, np.inf
    found, true = (run(backend, case, arrays)["result"] for backend in (own(2), REFERENCE))
    finite = np.isfinite(true)
    assert not finite[7].any() and not np.isfinite(found[7]).any()
    assert finite[[i for i in range(50) if i not in (7, 49)]].all()
    np.testing.assert_allclose(found[finite], true[finite], rtol=0, atol=1e-4)
    assert not np.isfinite(found[~finite]).any()


@needs_vectors
def test_models_that_are_fitted_in_two_threads() -> None:
    """Each gives the bits that it gives by itself."""
    rng = np.random.default_rng(3)
    x, y = rng.random((640, 300), np.float32), rng.integers(0, 4, 640)

    def fitted(seed: int) -> bytes:
        model = gpunn.Sequential(
            [gpunn.Input((300,)), gpunn.layers.Dense(70, "relu"), gpunn.layers.Dense(4, "softmax")]
        )
        model.compile("adam", "sparse_categorical_crossentropy", device="cpu", seed=seed)
        model.fit(x, y, batch_size=32, epochs=3, verbose=0)
        return b"".join(weights.tobytes() for weights in model.get_weights())

    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(fitted, range(4)))
    assert together == [fitted(seed) for seed in range(4)]


@needs_vectors
def test_a_program_is_the_teams_or_the_librarys_as_a_whole() -> None:
    def program(rows: int, *sizes: int, threads: int = 2) -> list[bool]:
        """Return for each layer whether a team computes its products."""
        steps = []
        for inputs, columns in pairwise(sizes):
            case = dense_case("float32", (rows, inputs, columns), RELU)
            steps.append(("dense", case.make(generator(case)), case.attrs))
        found = team_ops.operations(steps, rows, lambda: threads, always=False)
        if not found:
            return [False] * len(steps)
        choice = found["dense"].args[0]  # type: ignore[attr-defined]
        return [isinstance(choice(rows, a["kernel"]), TeamProducts) for _, a, _ in steps]

    assert program(50, 784, 300, 100, 10) == [True, True, False]
    assert program(32, 784, 300) == [True]
    assert program(200, 784, 300, 100) == [False, False]  # a BLAS is as good
    assert program(8, 784, 300, 100) == [False, False]
    assert program(32, 8, 30, 1) == [False, False]
    assert program(128, 784, 10) == [False]  # a tile would be mostly empty
    assert program(50, 784, 300, threads=16) == [True]
    assert program(128, 784, 1000, threads=4) == [True]
    assert program(128, 784, 1000, threads=16) == [False]  # a BLAS has more than the team's four


@pytest.mark.skipif(not CPUINFO.exists(), reason="needs Linux")
def test_vectors_are_found_where_the_processor_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they were not, most tests here would be skipped."""
    monkeypatch.setattr(
        numba.config, "CPU_FEATURES", None
    )  # as it is, whatever it is to be taken for
    flags = set(CPUINFO.read_text().split())
    needed = {"avx2", "fma"}
    assert (needed <= tiles._features()) == (needed <= flags)


def test_own_products_need_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba_cpu, "LANES", 0)
    with pytest.raises(DeviceError, match="products='own' needs a processor with AVX2 or AVX-512"):
        NumbaCPU(products="own")
    case = dense_case("float32", (50, 784, 300), RELU)
    assert_same_bits(case, NumbaCPU(), NumbaCPU(products="library"))


@needs_vectors
@pytest.mark.parametrize(
    ("features", "lanes"), [("+avx2,+fma,+avx", 8), ("+sse4.2", 0)], ids=["AVX2", "no vectors"]
)
def test_other_processors(features: str, lanes: int) -> None:
    """As numba compiles for them: narrower vectors, fewer registers; or none that are of use."""
    program = f"""
        import numpy as np
        from gpunn.backends.cpu.backend import NumbaCPU
        from gpunn.backends.cpu.products.tiles import LANES
        assert LANES == {lanes}
        rng = np.random.default_rng(3)
        x, w, b = (rng.standard_normal(s, np.float32) for s in ((45, 390), (390, 61), (61,)))
        d, y = rng.standard_normal((45, 61), np.float32), np.empty((45, 61), np.float32)
        dx, dw = np.empty_like(x), np.empty_like(w)
        cpu = NumbaCPU(2)
        line = {{"activation": "linear", "parameter": 0.0}}
        cpu.bind("dense", dict(values=x, kernel=w, bias=b, result=y), line, 45)()
        cpu.bind("dense_input_gradient", dict(gradient=d, kernel=w, input_gradient=dx), line, 45)()
        products = dict(values=x, gradient=d, kernel_gradient=dw)
        cpu.bind("dense_kernel_gradient", products, {{}}, 45)()
        x, w, b, d = (values.astype(np.float64) for values in (x, w, b, d))
        for found, true in ((y, x @ w + b), (dx, d @ w.T), (dw, x.T @ d)):
            np.testing.assert_allclose(found, true, rtol=0, atol=390 * 6e-8 * abs(true).max())
    """
    environment = os.environ | {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": features}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_vectors
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "rmsprop", "adagrad"])
def test_a_fit_is_that_of_the_reference_and_gives_the_same_bits_again(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A net large enough for a team, with dropout and a last batch that is smaller."""
    taken = []

    def noting(steps: Any, batch_size: int, threads: Any, *, always: bool) -> Any:
        found = team_ops.operations(steps, batch_size, threads, always=always)
        dense = [len(arrays["values"]) for op, arrays, _ in steps if op == "dense"]
        taken.append((max(dense, default=0), bool(found)))
        return found

    monkeypatch.setattr(numba_cpu, "team", SimpleNamespace(operations=noting))
    monkeypatch.setattr(team_ops, "_LEAST_UPDATE", 1)
    rng = np.random.default_rng(5)
    x, y = rng.random((150, 300), np.float32), rng.integers(0, 4, 150)

    def trained(device: str) -> list[np.ndarray[Any, Any]]:
        model = gpunn.Sequential(
            [
                gpunn.Input((300,)),
                gpunn.layers.Dense(70, activation="relu"),
                gpunn.layers.Dropout(0.2),
                gpunn.layers.Dense(40, activation="tanh", kernel_regularizer="l2"),
                gpunn.layers.Dense(4, activation="softmax"),
            ]
        )
        chosen = gpunn.optimizers.SGD(0.01, momentum=0.9) if optimizer == "momentum" else optimizer
        model.compile(chosen, "sparse_categorical_crossentropy", device=device, seed=7)
        model.fit(x, y, batch_size=32, epochs=2, verbose=0)
        return model.get_weights()

    found = trained("cpu")
    assert {(32, True), (22, True)} <= set(taken)
    for ours, again, true in zip(found, trained("cpu"), trained("reference"), strict=True):
        assert ours.tobytes() == again.tobytes()
        np.testing.assert_allclose(ours, true, rtol=0, atol=2e-5)
