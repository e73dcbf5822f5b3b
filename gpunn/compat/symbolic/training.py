"""A training operation in a session: its steps, its counters and slots on the device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from gpunn.compat.symbolic.feeds import Feeds
from gpunn.compat.symbolic.objectives import Term
from gpunn.compat.symbolic.placeholders import Placeholder
from gpunn.compat.symbolic.programs import Head, Program, check_flags, head_of
from gpunn.compat.symbolic.train import TrainOperation
from gpunn.errors import ArgumentError
from gpunn.plan.bind import BoundPlan
from gpunn.plan.spec import CONTROL, slot_region
from gpunn.specs.losses import Loss
from gpunn.training.session import Session

Array = np.ndarray[Any, Any]


class Training:
    """How far a training operation has come in one session, and how it goes on.

    Parameters
    ----------
    operation : TrainOperation
    session : Session
        The weights on the device.
    steps : int
        That were taken before.
    slots : dict of str to ndarray, optional
        By ``slot/layer/parameter``: what the optimizer goes on from.

    Attributes
    ----------
    steps : int
    """

    def __init__(
        self,
        operation: TrainOperation,
        session: Session,
        steps: int = 0,
        slots: dict[str, Array] | None = None,
    ) -> None:
        self.operation, self.session, self.steps = operation, session, steps
        self._slots = slots or {}
        # Shared by all plans: one for each set of losses and metrics that steps compute along.
        self._regions: dict[str, Any] = {}
        self._programs: dict[tuple[Term, ...], Program] = {}
        self._bound: BoundPlan | None = None
        self._rate: float | None = None

    def step(self, feeds: Feeds, terms: tuple[Term, ...]) -> dict[Term, float]:
        """Take a step; return the losses and metrics `terms` of it."""
        program = self._programs.get(terms)
        if program is None:
            program = self._programs[terms] = self._program(terms)
        check_flags(program, feeds, True)
        schedule = self.operation.rate
        rate = feeds.number(schedule) if isinstance(schedule, Placeholder) else schedule(self.steps)
        data = program.data(feeds)
        rows, staged = data.rows, program.staged(data.rows)
        if self._bound is None:
            self._begin(staged.bound)
        bound = self._bound = staged.bound
        if rate != self._rate:
            bound.write(f"{CONTROL}/learning_rate", rate)
            self._rate = rate
        staged.fill(data, program.graph)
        if terms:
            bound.reset_metrics()
        bound.repeat("train", 1, rows)
        self.steps += 1
        return program.means(bound, rows) if terms else {}

    def _program(self, terms: tuple[Term, ...]) -> Program:
        op, session = self.operation, self.session
        heads: dict[Any, Head] = {}
        for weight, term in op.loss.terms:
            head_of(heads, term).add(term, weight)
        for term in terms:
            if not isinstance(term.spec, Loss):
                head_of(heads, term).add(term)
        program = Program(session, op.graph, heads.values(), (), op.spec, self._regions)
        unreached = [v.path for v in session.graph.variables if v.path not in program.variables]
        if not program.variables:
            raise ArgumentError(f"{op.name!r}: {op.loss.name!r} depends on no variable.")
        if unreached and op.spec.weight_decay:
            raise ArgumentError(
                f"{op.name!r}: weight_decay would also shrink {unreached[0]!r}, on which "
                f"{op.loss.name!r} does not depend; leave weight_decay out."
            )
        return program

    def _begin(self, bound: BoundPlan) -> None:
        """Take up what training goes on from; later plans share the counters and slots."""
        for name in (CONTROL, *map(slot_region, self.operation.spec.slots)):
            self._regions[name] = bound.regions[name]
        bound.write(f"{CONTROL}/seed", np.uint64(self.session.seed))
        bound.write(f"{CONTROL}/step", self.steps)
        for path, values in self._slots.items():
            slot, _, variable = path.partition("/")
            bound.write(f"{slot_region(slot)}/{variable}", values)

    def slot(self, name: str, variable: str) -> Array:
        """Return a copy of an optimizer's slot; there must have been steps."""
        if self._bound is None:
            return self._slots[f"{name}/{variable}"]
        values: Array = self._bound.read(f"{slot_region(name)}/{variable}")
        return values


def along(operation: TrainOperation, terms: Iterable[Term]) -> tuple[Term, ...]:
    """Return those of `terms` that a step computes anyway, or can at next to no cost."""
    own = [term for _, term in operation.loss.terms]
    heads = {(t.predictions, t.labels, t.sparse) for t in own}
    return tuple(
        t
        for t in terms
        if t in own
        or (not isinstance(t.spec, Loss) and (t.predictions, t.labels, t.sparse) in heads)
    )
