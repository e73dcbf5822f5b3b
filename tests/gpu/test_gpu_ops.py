"""Every op's kernels on a GPU, driven by the table in tests/helpers/op_cases.py."""

from __future__ import annotations

import pytest
from op_cases import precision_cases
from op_runs import (
    BY_OP,
    assert_equals_reference,
    assert_equals_rounded_reference,
    assert_same_bits,
    cases,
)

from gpunn.backends.interface import Backend
from gpunn.backends.select import select_backend
from gpunn.plan.ops import OPS


@pytest.fixture(scope="module")
def gpu() -> Backend:
    return select_backend("cuda").backend


@pytest.mark.parametrize(("op", "dtype"), BY_OP)
def test_kernels_equal_reference(op: str, dtype: str, gpu: Backend) -> None:
    for case in cases(op, dtype):
        assert_equals_reference(gpu, case)


@pytest.mark.parametrize("op", OPS)
def test_kernels_give_the_same_bits_again(op: str, gpu: Backend) -> None:
    for case in cases(op, "float32"):
        assert_same_bits(case, gpu)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_rounded_products(precision: str, gpu: Backend) -> None:
    for case in precision_cases(precision):
        assert_equals_rounded_reference(gpu, case)
        assert_same_bits(case, gpu)
