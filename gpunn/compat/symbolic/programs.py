"""From fetches to plans: what a run computes, bound once and fed from staged batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpunn.compat.symbolic.feeds import Feeds
from gpunn.compat.symbolic.graph import TensorGraph
from gpunn.compat.symbolic.objectives import Term, ends_with
from gpunn.compat.symbolic.placeholders import Placeholder
from gpunn.data.batches import Data
from gpunn.errors import ArgumentError, DataError
from gpunn.plan.bind import BoundPlan
from gpunn.plan.build import build_plan
from gpunn.plan.spec import CONTROL, EXTERNAL, METRICS, OutputSpec
from gpunn.specs.graph import Graph, build_graph
from gpunn.specs.layers.base import SymbolicTensor
from gpunn.specs.losses import CategoricalCrossentropy, Loss, SparseCategoricalCrossentropy
from gpunn.specs.metrics import Metric
from gpunn.specs.optimizers import Optimizer
from gpunn.training.session import Session

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
        """Return what is asked of the plan; one that computes metrics alone needs some loss."""
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
    graph : TensorGraph
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
        graph: TensorGraph,
        heads: Iterable[Head] = (),
        outputs: Sequence[SymbolicTensor] = (),
        optimizer: Optimizer | None = None,
        shared: dict[str, Any] | None = None,
    ) -> None:
        self.session, self.heads = session, list(heads)
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
        self.input_dtypes = ["uint8" if small else session.dtype for small in uint8]
        self.view = session.view(self.graph)
        self._staged: Staged | None = None

    def _bind(self, batch_size: int) -> BoundPlan:
        plan = build_plan(
            self.graph,
            batch_size=batch_size,
            precision=self.session.precision,
            outputs=[head.spec() for head in self.heads],
            optimizer=self.optimizer,
            input_dtypes=self.input_dtypes,
            programs=("train",),
        )
        return self.session.bind(plan, self.shared)

    def data(self, feeds: Feeds) -> Data:
        """Return what is fed, checked."""
        graph, nodes = self.graph, self.graph.nodes
        inputs = tuple(
            feeds.input(placeholder, nodes[node])
            for placeholder, node in zip(self.placeholders, graph.inputs, strict=True)
        )
        rows = len(inputs[0])
        targets: list[Array | None] = [None] * len(graph.outputs)
        for i, head in enumerate(self.heads):
            columns = math.prod(nodes[graph.outputs[i]].shape)
            loss = head.loss or head.spec().loss
            assert loss is not None
            targets[i] = feeds.targets(head.labels, rows, columns, loss, head.sparse)
        return Data(inputs, tuple(targets), (None,) * len(targets), rows)

    def staged(self, rows: int) -> Staged:
        """Return the bound plan for a training batch: one that is larger needs a new one."""
        if self._staged is None or rows > self._staged.capacity:
            self._staged = Staged(self._bind(rows), rows)
        return self._staged

    def predict(self, feeds: Feeds) -> list[Array]:
        """Return the outputs."""
        data = self.data(feeds)
        shapes = (self.graph.nodes[node].shape for node in self.graph.outputs)
        outputs = zip(self.view.predict(data), shapes, strict=True)
        return [array.reshape(data.rows, *shape) for array, shape in outputs]

    def evaluate(self, feeds: Feeds) -> dict[Term, float]:
        """Return the mean losses and metrics."""
        data = self.data(feeds)
        source = self.view.evaluation_source(data, [head.spec() for head in self.heads])
        try:
            self.view.evaluate_source(source)
            return self.means(source.bound, data.rows)
        finally:
            source.close()
            source.bound.detach()

    def means(self, bound: BoundPlan, rows: int) -> dict[Term, float]:
        """Return the mean losses and metrics that a plan has added up."""
        sums, means = bound.read_metrics(), {}
        for head, name in zip(self.heads, self.graph.output_names(), strict=True):
            prefix = f"{METRICS}/{name}_" if len(self.heads) > 1 else f"{METRICS}/"
            labels: list[tuple[Any, str]] = [(m, f"m{i}") for i, m in enumerate(head.metrics)]
            if head.loss is not None:
                labels.append((head.loss, "loss"))
            for spec, label in labels:
                term = Term(spec, head.predictions, head.labels, head.sparse)
                means[term] = float(sums[prefix + label][0]) / rows
        return means


class Staged:
    """A bound plan with arrays on the device, into which batches are copied.

    Binding calls to other arrays for each batch would cost more than the copy.
    """

    def __init__(self, bound: BoundPlan, capacity: int) -> None:
        self.bound, self.capacity = bound, capacity
        self._write = bound.backend.write
        self._offset = bound.array(f"{CONTROL}/offset")
        self._arrays: dict[str, Any] = {}
        self._views: dict[int, list[Any]] = {}
        for name, spec in bound.plan.buffers.items():
            if spec.region == EXTERNAL:
                shape = (capacity, *spec.shape[1:])
                start = np.arange(capacity) if name == "order" else np.zeros(shape)
                self._arrays[name] = bound.backend.upload(start.astype(spec.dtype))
        bound.attach(self._arrays)

    def fill(self, data: Data, graph: Graph) -> None:
        """Copy a batch to where the calls read it."""
        views = self._views.get(data.rows)
        if views is None:
            views = [self._arrays[name][: data.rows] for name in data.external(graph)]
            self._views[data.rows] = views
        for view, array in zip(views, (*data.inputs, *data.targets), strict=True):
            self._write(view, array)
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
