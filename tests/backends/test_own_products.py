"""Products and optimizers of the CPU by a team of threads, beside the reference backend."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from op_cases import Case, dense_case, gradient_case, weight_gradient_cases
from op_runs import REFERENCE, assert_equals_reference, assert_same_bits, cases, generator, run

from gpunn.backends import cpu_dense, cpu_team, numba_cpu
from gpunn.backends.cpu_products import TeamProducts
from gpunn.backends.numba_cpu import NumbaCPU
from gpunn.backends.numba_tiles import COLUMNS, HEIGHTS, LANES
from gpunn.backends.numba_update_tasks import TASKS
from gpunn.backends.team import team
from gpunn.errors import DeviceError

needs_vectors = pytest.mark.skipif(
    not LANES, reason="needs a processor with AVX2 or AVX-512: it has no products of its own"
)
OPS = (*cpu_dense.PRODUCTS, *TASKS)
RELU, TANH = ("relu", 0.0), ("tanh", 0.0)


def own(threads: int) -> NumbaCPU:
    return NumbaCPU(threads, products="own")


@needs_vectors
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("op", OPS)
def test_equals_reference(op: str, threads: int) -> None:
    for case in cases(op, "float32"):
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
@settings(max_examples=40)
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
def test_a_program_is_the_teams_or_the_librarys_as_a_whole() -> None:
    def program(rows: int, *sizes: int) -> list[bool]:
        """Return for each layer whether a team computes its products."""
        steps = []
        for inputs, columns in pairwise(sizes):
            case = dense_case("float32", (rows, inputs, columns), RELU)
            steps.append(("dense", case.make(generator(case)), case.attrs))
        found = cpu_team.operations(steps, rows, 2, always=False)
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
        from gpunn.backends.numba_cpu import NumbaCPU
        from gpunn.backends.numba_tiles import LANES
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
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@needs_vectors
def test_the_gradient_of_a_training_step_is_that_of_the_reference() -> None:
    """With a rate of 0.01 in a kernel of MNIST's size, as `fit` calls it."""
    case = next(
        case for case in weight_gradient_cases("float32", ((50, 784, 300),)) if "update" in case.op
    )
    arrays = case.make(generator(case))
    found, true = (run(backend, case, arrays) for backend in (NumbaCPU(2), REFERENCE))
    np.testing.assert_allclose(found["kernel"], true["kernel"], rtol=0, atol=1e-4)
