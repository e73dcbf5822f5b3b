"""Running an op case on a backend, and what the reference makes of it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest
from op_cases import PRODUCTS, SHARED, Array, Arrays, Case, op_cases

from gpunn.backends.interface import Backend
from gpunn.backends.reference.backend import NumpyReference
from gpunn.backends.select import simulator_status
from gpunn.plan.ops import OPS

needs_compiler = pytest.mark.skipif(
    not simulator_status().usable, reason="needs a C++ compiler: the simulator cannot be used"
)
REFERENCE = NumpyReference()
DTYPES = ("float32", "float64")
CASES = [case for dtype in DTYPES for case in op_cases(dtype)]
BY_OP = [(op, dtype) for op in OPS for dtype in DTYPES]
GUARD, PATTERN = 256, 0xA5  # bytes before and behind every buffer, and what they hold


@cache
def cases(op: str, dtype: str) -> list[Case]:
    """Return the cases of an op."""
    return [case for case in CASES if (case.op, case.dtype) == (op, dtype)]


def generator(case: Case) -> np.random.Generator:
    """Return a generator that is the same for a case at every call."""
    return np.random.default_rng(zlib.crc32(str(case).encode()))


def run(backend: Backend, case: Case, arrays: Mapping[str, Array], models: int = 1) -> Arrays:
    """Run a case on device memory with guards around it; return what all roles hold then.

    Checks that nothing beside the buffers and none of the inputs has changed.
    """
    spec = OPS[case.op]
    regions, bound = {}, {}
    for role, array in arrays.items():
        if role in SHARED:
            bound[role] = backend.upload(array.copy())
            continue
        shape = array.shape if models == 1 else array.shape[1:]
        nbytes = array.nbytes // models
        region = backend.allocate(nbytes + 2 * GUARD, models)
        backend.write(backend.view(region, 0, (nbytes + 2 * GUARD,), "uint8"), PATTERN)
        view = backend.view(region, GUARD, shape, str(array.dtype))
        regions[role], bound[role] = region, view[0] if models == 1 else view
        backend.write(bound[role], array)
    call = backend.bind(case.op, bound, dict(case.attrs), case.rows)
    with np.errstate(invalid="ignore", over="ignore"):  # some cases hold a NaN on purpose
        call()
    results = {role: backend.to_host(array) for role, array in bound.items()}
    for role, region in regions.items():
        nbytes = arrays[role].nbytes // models + GUARD
        whole = backend.to_host(backend.view(region, 0, (nbytes + GUARD,), "uint8"))
        beside = np.delete(whole, slice(GUARD, nbytes), axis=1)
        assert beside.shape[1] == 2 * GUARD
        assert (beside == PATTERN).all(), f"{case}: wrote beside {role}"
    for role in spec.inputs:
        if role in arrays:
            assert results[role].tobytes() == arrays[role].tobytes(), f"{case}: changed {role}"
    return results


_EXPECTED: dict[str, tuple[Arrays, Arrays]] = {}


def expected(case: Case) -> tuple[Arrays, Arrays]:
    """Return the arrays of a case, and what the reference makes of them; computed once."""
    if str(case) not in _EXPECTED:
        arrays = case.make(generator(case))
        _EXPECTED[str(case)] = arrays, run(REFERENCE, case, arrays)
    return _EXPECTED[str(case)]


def assert_equals_reference(backend: Backend, case: Case) -> Arrays:
    """Check every role of a case against the reference; return what they hold."""
    arrays, reference = expected(case)
    results = run(backend, case, arrays)
    for role in arrays:
        case.assert_close(role, results[role], reference[role])
    return results


def assert_equals_reference_always(case: Case, backend: Backend, *others: Backend) -> None:
    """Check a case against the reference, and that others, or the same again, give the same bits.

    A shorter way than `assert_equals_reference` and `assert_same_bits` one after the other.
    """
    results = assert_equals_reference(backend, case)
    arrays, _ = expected(case)
    for other in others or (backend,):
        again = run(other, case, arrays)
        for role in arrays:
            assert again[role].tobytes() == results[role].tobytes(), f"{case}: {role}"


def rounded(values: Array, precision: str) -> Array:
    """Round float32 values as tensor cores take them, by their bits.

    TF32 keeps 10 bits of the fraction, ties away from zero (``cvt.rna``); bfloat16 keeps 7, ties
    to even (``cvt.rn``).
    """
    bits = values.view(np.uint32).astype(np.uint64)
    if precision == "tf32":
        bits = (bits + (1 << 12)) & ~np.uint64((1 << 13) - 1)
    else:
        odd = (bits >> np.uint64(16)) & np.uint64(1)
        bits = (bits + np.uint64((1 << 15) - 1) + odd) & ~np.uint64((1 << 16) - 1)
    return bits.astype(np.uint32).view(np.float32)


def assert_equals_rounded_reference(backend: Backend, case: Case) -> None:
    """Check a product in TF32 or bfloat16 against the reference on operands rounded before."""
    precision = case.attrs["precision"]
    arrays = case.make(generator(case))
    operands = {role: rounded(arrays[role], precision) for role in PRODUCTS[case.op]}
    reference = run(REFERENCE, case, arrays | operands)
    results = run(backend, case, arrays)
    for role in set(arrays) - set(operands):
        case.assert_close(role, results[role], reference[role])


def assert_same_bits(case: Case, *backends: Backend) -> None:
    """Check that a case gives the same bits on all backends, or twice on one."""
    arrays = case.make(generator(case))
    first, second = (run(backend, case, arrays) for backend in (backends * 2)[:2])
    for role in arrays:
        assert first[role].tobytes() == second[role].tobytes(), f"{case}: {role}"
