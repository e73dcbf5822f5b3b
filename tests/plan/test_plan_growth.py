"""No training step grows unnoticed: calls, FLOPs, bytes, launches and memory are on record."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from plan_costs import TABLE, RecordingDriver, cases, figures, growth, mnist

from gpunn.backends.cuda.backend import CudaBackend
from gpunn.optimizers import SGD
from gpunn.plan.bind import BoundPlan
from gpunn.plan.spec import EXTERNAL

RECORDED = json.loads(TABLE.read_text())
PLANS = dict(cases())


def test_every_case_is_on_record() -> None:
    assert RECORDED.keys() == PLANS.keys()


@pytest.mark.parametrize("name", PLANS)
def test_no_figure_has_grown(name: str) -> None:
    grown = growth(RECORDED[name], figures(PLANS[name]))
    assert not grown, (
        f"A training step of '{name}' costs more than on record:\n  "
        + "\n  ".join(grown)
        + "\nIf what it gives is worth that, record it anew with "
        "`python tests/plan/plan_costs.py`, and say why in the commit."
    )


def test_one_more_call_is_seen() -> None:
    name = "300-100 sgd, batch 50"
    plan = PLANS[name]
    train = plan.programs["train"]
    longer = replace(plan, programs=dict(plan.programs) | {"train": (*train, train[0])})
    grown = growth(RECORDED[name], figures(longer))
    _, nbytes = plan.step_cost(train[0])
    assert any(line.startswith("train: calls:") and line.endswith("(+1)") for line in grown)
    assert any(
        line.startswith("train: bytes moved:") and f"(+{nbytes:,})" in line for line in grown
    )
    assert any(line.startswith("graphs: launches per step:") for line in grown)


def test_graphs_launch_the_same_kernels_in_a_handful_of_launches() -> None:
    for name, recorded in RECORDED.items():
        per_step = recorded["eager: launches per step"]
        assert recorded["graphs: launches per step"] == per_step, name
        assert recorded["eager: host launches in 1200 steps"] == 1200 * per_step
        assert recorded["graphs: host launches in 1200 steps"] == 18 + 6  # of 64 and of 8 steps
        assert recorded["graphs: nodes of the largest"] == 64 * per_step


def test_the_recorder_counts_what_the_backend_launches() -> None:
    """Against the launches that the ops themselves ask for."""
    plan = mnist(SGD(0.1)).plan(50, ["uint8"])
    backend = CudaBackend(RecordingDriver())
    bound = BoundPlan(plan, backend)
    bound.attach(
        {
            name: np.zeros((50, *spec.shape[1:]), spec.dtype)
            for name, spec in plan.buffers.items()
            if spec.region == EXTERNAL
        }
    )
    asked = [
        work
        for step in plan.programs["train"]
        for work in backend.work(
            step.op, {role: bound.array(name) for role, name in step.roles.items()}, step.attrs, 50
        )
    ]
    assert len(asked) == RECORDED["300-100 sgd, batch 50"]["eager: launches per step"]
