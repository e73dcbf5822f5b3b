"""Every op's kernels in the simulator, driven by the table in op_cases.py."""

from __future__ import annotations

import pytest
from op_cases import PRODUCTS, precision_cases
from op_runs import (
    BY_OP,
    DTYPES,
    assert_equals_reference,
    assert_equals_reference_always,
    assert_equals_rounded_reference,
    cases,
    generator,
    needs_compiler,
)

from gpunn.backends.cuda import kernel_loader
from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.cuda.driver import Launch
from gpunn.backends.cuda.simulator import compiler
from gpunn.backends.cuda.simulator.driver import SimulatorDriver

pytestmark = needs_compiler


@pytest.fixture(scope="module")
def simulator() -> CudaBackend:
    return CudaBackend(SimulatorDriver())


@pytest.fixture(scope="module")
def shuffled() -> CudaBackend:
    """Threads and blocks run in another order."""
    return CudaBackend(SimulatorDriver(seed=1))


@pytest.mark.parametrize(("op", "dtype"), BY_OP)
def test_kernels_equal_reference_in_any_order_of_threads(
    op: str, dtype: str, simulator: CudaBackend, shuffled: CudaBackend
) -> None:
    for case in cases(op, dtype):
        assert_equals_reference_always(case, simulator, shuffled)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_rounded_products(precision: str, simulator: CudaBackend) -> None:
    for case in precision_cases(precision):
        assert_equals_rounded_reference(simulator, case)


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_the_library(dtype: str) -> None:
    library = CudaBackend(SimulatorDriver(), products="library")
    for op in PRODUCTS:
        for case in cases(op, dtype):
            assert_equals_reference(library, case)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_rounded_products_of_the_library(precision: str) -> None:
    library = CudaBackend(SimulatorDriver(), products="library")
    for case in precision_cases(precision):
        assert_equals_rounded_reference(library, case)


def test_every_kernel_is_launched_by_a_case(simulator: CudaBackend) -> None:
    """All that the files hold: none is dead, and none is never compared with the reference."""
    launched: dict[str, set[str]] = {}
    held: dict[str, set[str]] = {}
    for op, dtype in BY_OP:
        for case in cases(op, dtype):
            for work in simulator.work(op, case.make(generator(case)), case.attrs, case.rows):
                assert isinstance(work, Launch)
                file = work.source.file
                launched.setdefault(file, set()).add(work.symbol)
                held.setdefault(file, set()).update(compiler.load(work.source, 90).kernels)
    assert launched == held
    assert set(held) == {path.name for path in kernel_loader.kernels_folder().glob("*.cu")}
