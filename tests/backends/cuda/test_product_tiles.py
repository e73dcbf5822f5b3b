"""Every tile of the matrix products, whole and split, whatever the cost model would choose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from op_cases import Case, dense_case, gradient_case, weight_gradient_cases
from op_runs import assert_equals_reference, assert_equals_rounded_reference, needs_compiler

from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.cuda.ops import dense as ops_dense
from gpunn.backends.cuda.simulator.driver import SimulatorDriver
from gpunn.backends.cuda.tilings import TILES, Tile, tilings

pytestmark = needs_compiler

SIZES = ((37, 70, 29), (150, 132, 68))  # batch, inputs, units: ragged, and of whole vectors
RELU, TANH = ("relu", 0.0), ("tanh", 0.0)
FORMS = ("FORWARD", "INPUT_GRADIENT", "KERNEL_GRADIENT")


def form_cases(form: str, dtype: str, size: tuple[int, int, int]) -> list[Case]:
    if form == "FORWARD":
        return [dense_case(dtype, size, RELU), dense_case(dtype, size, TANH, pre=True, rate=0.3)]
    if form == "INPUT_GRADIENT":
        return [
            gradient_case(dtype, size, RELU, product=True),
            gradient_case(dtype, size, TANH, product=True, target="bias", rate=0.3),
        ]
    return list(weight_gradient_cases(dtype, (size,)))


def combinations() -> list[Any]:
    """All forms in float32 and TF32; what differs from them in the others needs one each."""
    found = []
    for precision, tiles in TILES.items():
        for number, tile in enumerate(tiles):
            all_forms = precision in ("float32", "tf32")
            for form in FORMS if all_forms else FORMS[number % 3 : number % 3 + 1]:
                found.append(pytest.param(precision, tile, form, id=f"{precision}-{form}-{number}"))
    return found


@pytest.fixture(scope="module")
def simulator() -> CudaBackend:
    return CudaBackend(SimulatorDriver(seed=5))


@pytest.mark.parametrize(("precision", "tile", "form"), combinations())
def test_tile(
    precision: str,
    tile: Tile,
    form: str,
    simulator: CudaBackend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exact = precision.startswith("float")
    check = assert_equals_reference if exact else assert_equals_rounded_reference
    splits = []

    def force(index: int) -> None:
        def forced(form: str, precision: str, m: int, n: int, k: int, limits: Any) -> Any:
            shapes = list(tilings(form, precision, m, n, k, tile, limits))
            splits.append(shapes[index].splits)
            return shapes[index]

        monkeypatch.setattr(ops_dense, "choose_tiling", forced)

    for size in SIZES:
        for case in form_cases(form, "float64" if precision == "float64" else "float32", size):
            attrs = {**case.attrs, "precision": precision}
            named = replace(case, label=f"{case.label}-{precision}", attrs=attrs)
            for index in (0, -1):  # the reduction whole, and in as many parts as there can be
                force(index)
                check(simulator, named)
    assert min(splits) == 1 < max(splits)
