"""From fetches to plans: what a run computes, bound once and fed from staged batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpunn.compat.symbolic.feeds import Feeds
from gpunn.compat.symbolic.figures import Term, ends_with
from gpunn.compat.symbolic.graph import Graph
from gpunn.compat.symbolic.placeholders import Placeholder
from gpunn.errors import ArgumentError, DataError
from gpunn.plan.bind import BoundPlan
from gpunn.plan.build import build_plan
from gpunn.plan.spec import CONTROL, EXTERNAL, METRICS, OutputSpec
from gpunn.specs.graph import build_graph
from gpunn.specs.layers.base import SymbolicTensor
from gpunn.specs.losses import CategoricalCrossentropy, Loss, SparseCategoricalCrossentropy
from gpunn.specs.metrics import Metric
from gpunn.specs.optimizers import Optimizer
from gpunn.training.session import EVALUATION_BATCH, SMALL_BATCH, Session

Array = np.ndarray[Any, Any]


@dataclass
class Head:
    """Predictions with the one loss, and the metrics, that a plan computes of them."""

    predictions: Any
    labels: Placeholder
    sparse: bool
    loss: Loss | None = None
    weight: float = 1.0
    metrics: tuple[Metric, ...] = ()

    def takes(self, term: Term) -> bool:
        """Return whether `term` can be computed along."""
        same = term.labels is self.labels and term.sparse == self.sparse
        if isinstance(term.spec, Loss):
            return same and self.loss in (None, term.spec)
        return same

    def add(self, term: Term, weight: float = 1.0) -> None:
        """Compute `term` along."""
        if isinstance(term.spec, Loss):
            self.loss, self.weight = term.spec, weight
        elif term.spec not in self.metrics:
            self.metrics += (term.spec,)

    def spec(self) -> OutputSpec:
        """Return what is asked of the plan; a plan that counts hits needs some loss."""
        loss = self.loss
        if loss is None:
            logits = not ends_with(self.predictions, "softmax")
            kind = SparseCategoricalCrossentropy if self.sparse else CategoricalCrossentropy
            loss = kind(from_logits=logits)
        metrics = (replace(m, name=f"m{i}") for i, m in enumerate(self.metrics))  # type: ignore[call-arg]
        return OutputSpec(loss, tuple(metrics), self.weight)


def head_of(heads: dict[Any, Head], term: Term) -> Head:
    """Return the head of a term's predictions, made if there is none."""
    new = Head(term.predictions, term.labels, term.sparse)
    return heads.setdefault(term.predictions, new)


def passes(terms: Iterable[Term]) -> list[dict[Any, Head]]:
    """Share `terms` out over as few evaluations as take them."""
    shares: list[dict[Any, Head]] = []
    for term in terms:
        for heads in shares:
            if head_of(heads, term).takes(term):
                break
        else:
            heads = {}
            shares.append(heads)
        head_of(heads, term).add(term)
    return shares


class Program:
    """A plan for some outputs: bound when first run, kept for all later runs.

    Parameters
    ----------
    session : Session
    graph : Graph
    kind : {"train", "evaluate", "predict"}
    heads : iterable of Head
        What to train or evaluate.
    outputs : sequence of SymbolicTensor
        What to predict.
    optimizer : Optimizer, optional
    shared : dict of str to region
        Counters and slots of the training operation: filled when first bound.
    """

    def __init__(
        self,
        session: Session,
        graph: Graph,
        kind: str,
        heads: Iterable[Head] = (),
        outputs: Sequence[SymbolicTensor] = (),
        optimizer: Optimizer | None = None,
        shared: dict[str, Any] | None = None,
    ) -> None:
        self.session, self.kind, self.heads = session, kind, list(heads)
        self.optimizer, self.shared = optimizer, shared
        outputs = outputs or [head.predictions.symbolic for head in self.heads]
        calls = list(calls_before(outputs))
        inputs = [call for call in calls if not call.inputs]
        self.placeholders: list[Placeholder] = [graph.inputs[id(call)] for call in inputs]
        self.flags: list[Placeholder] = list(
            dict.fromkeys(graph.flags[id(call)] for call in calls if id(call) in graph.flags)
        )
        own = build_graph(inputs, outputs)
        known = {v.path for v in session.graph.variables}
        self.variables = [v.path for v in own.variables]
        new = [path for path in self.variables if path not in known]
        if new:
            raise ArgumentError(
                f"The variables of {new[0].rpartition('/')[0]!r} are newer than what this session "
                f"was initialized with; run tf.global_variables_initializer() again."
            )
        # All plans lay the weights out alike, those that they do not read included.
        self.graph = replace(own, variables=session.graph.variables)
        uint8 = [p.dtype == np.uint8 for p in self.placeholders]
        self.dtype = session.dtype
        self.input_dtypes = ["uint8" if small else self.dtype for small in uint8]
        self._bound: dict[Any, Staged] = {}

    def _bind(self, batch_size: int) -> BoundPlan:
        plan = build_plan(
            self.graph,
            batch_size=batch_size,
            precision=self.session.precision,
            outputs=[head.spec() for head in self.heads],
            optimizer=self.optimizer,
            input_dtypes=self.input_dtypes,
            programs=(self.kind,),
        )
        return self.session.bind(plan, self.shared)

    def arrays(self, feeds: Feeds) -> tuple[dict[str, Array], int]:
        """Return what is fed, by the plan's names, and the number of rows."""
        arrays: dict[str, Array] = {}
        rows = 0
        graph = self.graph
        for placeholder, node in zip(self.placeholders, graph.inputs, strict=True):
            array = feeds.input(placeholder, graph.nodes[node])
            arrays[f"data/{graph.nodes[node].name}"], rows = array, len(array)
        for head, node in zip(self.heads, graph.outputs if self.heads else (), strict=True):
            columns = math.prod(graph.nodes[node].shape)
            loss = head.loss or head.spec().loss
            assert loss is not None
            arrays[f"targets/{graph.nodes[node].name}"] = feeds.targets(
                head.labels, rows, columns, loss, head.sparse
            )
        return arrays, rows

    def staged(self, rows: int) -> Staged:
        """Return the bound plan for a training batch: one that is larger needs a new one."""
        staged = self._bound.get("train")
        if staged is None or rows > staged.capacity:
            staged = self._bound["train"] = Staged(self._bind(rows), rows)
        return staged

    def run(self, feeds: Feeds) -> tuple[dict[Any, float], list[Array]]:
        """Evaluate or predict; return figures by head and what they are of, or outputs."""
        arrays, rows = self.arrays(feeds)
        backend = self.session.backend
        if rows <= EVALUATION_BATCH:
            capacity = 1 if rows == 1 else SMALL_BATCH if rows <= SMALL_BATCH else EVALUATION_BATCH
            if capacity not in self._bound:
                self._bound[capacity] = Staged(self._bind(capacity), capacity)
            staged = self._bound[capacity]
            staged.fill(arrays, rows)
        else:
            if "whole" not in self._bound:
                self._bound["whole"] = Staged(self._bind(EVALUATION_BATCH), 0)
            staged = self._bound["whole"]
            staged.bound.attach({name: backend.upload(array) for name, array in arrays.items()})
            staged.start()
        bound = staged.bound
        bound.reset_metrics()
        parts: list[list[Array]] = [[] for _ in self.graph.outputs]
        for start in range(0, rows, bound.plan.batch_size):
            count = min(bound.plan.batch_size, rows - start)
            bound.repeat(self.kind, 1, count)
            if self.kind == "predict":
                for part, name in zip(parts, bound.plan.outputs, strict=True):
                    part.append(backend.to_host(bound.array(name, count)))
        figures = {} if self.kind == "predict" else self.figures(bound, rows)
        if not staged.capacity:
            bound.detach()
        if self.kind != "predict":
            return figures, []
        shapes = (self.graph.nodes[node].shape for node in self.graph.outputs)
        return figures, [
            np.concatenate(part).reshape(rows, *shape)
            for part, shape in zip(parts, shapes, strict=True)
        ]

    def figures(self, bound: BoundPlan, rows: int) -> dict[Any, float]:
        """Return the mean losses and metrics: by term."""
        sums, figures = bound.read_metrics(), {}
        for head, name in zip(self.heads, self.graph.output_names(), strict=True):
            prefix = f"{METRICS}/{name}_" if len(self.heads) > 1 else f"{METRICS}/"
            labels: list[tuple[Any, str]] = [(m, f"m{i}") for i, m in enumerate(head.metrics)]
            if head.loss is not None:
                labels.append((head.loss, "loss"))
            for spec, label in labels:
                term = Term(spec, head.predictions, head.labels, head.sparse)
                figures[term] = float(sums[prefix + label][0]) / rows
        return figures


class Staged:
    """A bound plan with arrays on the device, into which batches are copied.

    Binding calls to other arrays for each batch would cost more than the copy.
    """

    def __init__(self, bound: BoundPlan, capacity: int) -> None:
        self.bound, self.capacity = bound, capacity
        self._write = bound.backend.write
        self._offset = bound.array(f"{CONTROL}/offset")
        self._arrays: dict[str, Any] = {}
        self._views: dict[int, dict[str, Any]] = {}
        if capacity:
            for name, spec in bound.plan.buffers.items():
                if spec.region == EXTERNAL:
                    shape = (capacity, *spec.shape[1:])
                    start = np.arange(capacity) if name == "order" else np.zeros(shape)
                    self._arrays[name] = bound.backend.upload(start.astype(spec.dtype))
            bound.attach(self._arrays)

    def start(self) -> None:
        """Let the next call read the first rows."""
        self._write(self._offset, 0)

    def fill(self, arrays: dict[str, Array], rows: int) -> None:
        """Copy a batch to where the calls read it."""
        views = self._views.get(rows)
        if views is None:
            views = {name: self._arrays[name][:rows] for name in arrays}
            self._views[rows] = views
        for name, array in arrays.items():
            self._write(views[name], array)
        self._write(self._offset, 0)


def check_flags(program: Program, feeds: Feeds, training: bool) -> None:
    """Check placeholders that say whether dropout acts against whether it does."""
    for flag in program.flags:
        if feeds.flag(flag) != training:
            raise DataError(
                f"placeholder {flag.name!r}: dropout acts where a training operation is run, and "
                f"nowhere else; feed {training} here."
            )


def calls_before(outputs: Sequence[SymbolicTensor]) -> Iterable[SymbolicTensor]:
    """Yield all calls that `outputs` depend on, each once."""
    seen: dict[int, SymbolicTensor] = {}
    stack = list(reversed(outputs))
    while stack:
        call = stack.pop()
        if id(call) not in seen:
            seen[id(call)] = call
            stack.extend(reversed(call.inputs))
    return seen.values()
