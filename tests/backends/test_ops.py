"""Every op on every backend, driven by the table in op_cases.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from op_cases import SHARED
from op_runs import (
    BY_OP,
    CASES,
    REFERENCE,
    assert_equals_reference,
    assert_equals_reference_always,
    cases,
    expected,
    generator,
    run,
)

from gpunn.backends.cpu.backend import NumbaCPU
from gpunn.backends.cpu.products import blas
from gpunn.backends.interface import Backend
from gpunn.backends.reference.backend import NumpyReference
from gpunn.errors import PlanError, UnknownNameError
from gpunn.layers import Dense, Input
from gpunn.plan.bind import BoundPlan
from gpunn.plan.build import build_plan
from gpunn.plan.ops import OPS
from gpunn.plan.spec import BufferSpec, Plan, Step, check_step
from gpunn.specs.graph import build_graph

BACKENDS: dict[str, Backend] = {"reference": REFERENCE, "cpu": NumbaCPU()}
MODELS = 3


# The table


def test_every_op_has_cases() -> None:
    assert {case.op for case in CASES} == set(OPS)


def test_labels_are_unique() -> None:
    assert len(set(map(str, CASES))) == len(CASES)


@pytest.mark.parametrize("op", OPS)
def test_optional_roles_are_given_and_left_out(op: str) -> None:
    spec = OPS[op]
    roles = [set(case.make(generator(case))) for case in cases(op, "float32")]
    for role in spec.roles:
        assert any(role in given for given in roles), f"no case of {op} gives {role}"
    for role in spec.optional:
        assert any(role not in given for given in roles), f"every case of {op} gives {role}"


@pytest.mark.parametrize(("op", "dtype"), BY_OP)
def test_cases_fit_the_op_table(op: str, dtype: str) -> None:
    spec = OPS[op]
    for case in cases(op, dtype):
        arrays = case.make(generator(case))
        buffers = {r: BufferSpec(r, a.shape, str(a.dtype), "scratch") for r, a in arrays.items()}
        inputs = {role: role for role in arrays if role in spec.inputs}
        outputs = {role: role for role in arrays if role not in spec.inputs}
        check_step(Step(op, inputs, outputs, case.attrs), buffers)
        assert set(case.outputs) <= set(spec.outputs)
        assert set(case.attrs) == set(spec.attrs)


# Backends


@pytest.mark.parametrize("name", BACKENDS)
def test_backend_has_every_op(name: str) -> None:
    assert set(BACKENDS[name].operations) == set(OPS)


@pytest.mark.parametrize(("op", "dtype"), BY_OP)
def test_reference_writes_every_output(op: str, dtype: str) -> None:
    """No NaN is left in what an op overwrites, so a comparison with it means something."""
    for case in cases(op, dtype):
        if op == "copy_columns" or "nan" in case.label:
            continue
        _, results = expected(case)
        for role in results:
            assert np.isfinite(results[role]).all(), f"{case}: {role}"


@pytest.mark.parametrize(("op", "dtype"), BY_OP)
def test_cpu_equals_reference_and_gives_the_same_bits_again(op: str, dtype: str) -> None:
    for case in cases(op, dtype):
        assert_equals_reference_always(case, BACKENDS["cpu"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_update_without_direct_access_to_the_blas(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where NumPy's BLAS does not show its symbols, as on macOS."""
    monkeypatch.setattr(blas, "_library", lambda: None)
    for case in cases("dense_kernel_update", dtype):
        assert_equals_reference(BACKENDS["cpu"], case)


@pytest.mark.parametrize("op", OPS)
def test_models_at_once_equal_models_one_by_one(op: str) -> None:
    reference = BACKENDS["reference"]
    for case in cases(op, "float64"):
        together = case.make(generator(case), MODELS)
        results = run(reference, case, together, MODELS)
        for model in range(MODELS):
            arrays = {r: a if r in SHARED else a[model] for r, a in together.items()}
            alone = run(reference, case, arrays)
            for role in set(arrays) - set(SHARED):
                case.assert_close(role, results[role][model], alone[role])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_models_differ(dtype: str) -> None:
    """Three models with their own inputs give three results: the case is not one repeated."""
    for op in ("dense", "dropout", "keyed_permutation", "adam", "softmax_cross_entropy"):
        case = cases(op, dtype)[-1]
        result = run(
            BACKENDS["reference"], case, arrays := case.make(generator(case), MODELS), MODELS
        )
        role = next(iter({**case.outputs, "parameters": ()} if op == "adam" else case.outputs))
        assert not np.array_equal(result[role][0], result[role][1]), op
        assert arrays[role].shape[0] == MODELS


# What binding refuses


def small_plan(dtype: str = "float32", models: int = 1) -> Plan:
    inputs = Input((3,))
    graph = build_graph([inputs], [Dense(2)(inputs)])
    return build_plan(graph, batch_size=4, precision=dtype, programs=("predict",), models=models)


def changed(plan: Plan, **changes: Any) -> Plan:
    """Return the plan with its dense step changed."""
    steps = [
        replace(step, **changes) if step.op == "dense" else step
        for step in plan.programs["predict"]
    ]
    return replace(plan, programs={**plan.programs, "predict": tuple(steps)})


def test_a_plan_binds_where_nothing_is_missing() -> None:
    for backend in BACKENDS.values():
        BoundPlan(small_plan(), backend)


def test_an_op_the_backend_lacks_is_refused() -> None:
    class Lacking(NumpyReference):
        name = "lacking"

        @property
        def operations(self) -> dict[str, Any]:
            return {op: bind for op, bind in super().operations.items() if op != "dense"}

    with pytest.raises(PlanError, match=r"'lacking' lacks the op.*dense"):
        BoundPlan(small_plan(), Lacking())


def test_an_unknown_op_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'dense'"):
        changed(small_plan(), op="densse")


def test_an_unknown_role_is_refused() -> None:
    step = next(s for s in small_plan().programs["predict"] if s.op == "dense")
    with pytest.raises(PlanError, match="no role 'weight'"):
        changed(small_plan(), inputs={**step.inputs, "weight": step.inputs["kernel"]})


def test_an_unknown_buffer_is_refused() -> None:
    step = next(s for s in small_plan().programs["predict"] if s.op == "dense")
    with pytest.raises(PlanError, match="unknown buffer 'nowhere'"):
        changed(small_plan(), inputs={**step.inputs, "kernel": "nowhere"})


def test_missing_roles_and_attributes_are_refused() -> None:
    step = next(s for s in small_plan().programs["predict"] if s.op == "dense")
    without = {role: name for role, name in step.inputs.items() if role != "kernel"}
    with pytest.raises(PlanError, match="lacks its input 'kernel'"):
        changed(small_plan(), inputs=without)
    with pytest.raises(PlanError, match="lacks its output 'result'"):
        changed(small_plan(), outputs={})
    with pytest.raises(PlanError, match=r"lacks the attributes \['stream'\]"):
        attrs = {"activation": "relu", "parameter": 0.0, "precision": "float32"}
        changed(small_plan(), attrs=attrs)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_precision_the_backend_lacks_is_refused(name: str) -> None:
    with pytest.raises(PlanError, match=f"{name!r} does not compute in bfloat16"):
        BoundPlan(small_plan("bfloat16"), BACKENDS[name])


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"precision 'float16'.*bfloat16"):
        small_plan("float16")


def test_more_models_than_the_backend_trains_are_refused() -> None:
    with pytest.raises(PlanError, match="trains 1 model"):
        BoundPlan(small_plan(models=3), BACKENDS["cpu"])
    BoundPlan(small_plan(models=3), BACKENDS["reference"])
