"""Each op of the table stands in the family file of the same name on all three backends."""

from __future__ import annotations

from importlib import import_module

import pytest

from gpunn.backends.cpu.backend import OPERATIONS as CPU
from gpunn.backends.cuda.backend import OPERATIONS as CUDA
from gpunn.backends.reference.backend import OPERATIONS as REFERENCE
from gpunn.plan.ops import OPS

FAMILIES = ("data", "dense", "activations", "joins", "losses", "expressions", "normalization")
FAMILIES += ("optimizers",)


def families(package: str) -> dict[str, str]:
    """Return the family of each op of a backend, by the tables of its family files."""
    found: dict[str, str] = {}
    for family in FAMILIES:
        for op in import_module(f"gpunn.backends.{package}.{family}").OPERATIONS:
            assert op not in found, f"{op} is in {family} and in {found[op]}"
            found[op] = family
    return found


def test_every_backend_has_every_op() -> None:
    assert set(REFERENCE) == set(CPU) == set(CUDA) == set(OPS)


@pytest.mark.parametrize("package", ["cpu.ops", "cuda.ops"])
def test_an_op_stands_in_the_same_family_as_on_the_reference(package: str) -> None:
    assert families(package) == families("reference")
    assert set(families(package)) == set(OPS)
