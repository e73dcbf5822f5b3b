"""A model on a device: its weights, and the plans bound to them."""

from __future__ import annotations

import copy
import itertools
import math
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from gpunn.backends.interface import Backend
from gpunn.data.batches import Data
from gpunn.data.blocks import BLOCK_NBYTES
from gpunn.data.sources import Resident, Source, open_source
from gpunn.plan.bind import BoundPlan
from gpunn.plan.build import OutputSpec, build_plan
from gpunn.plan.spec import CONTROL, GRADIENTS, PARAMETERS, STATE, STORAGE, Plan, slot_region
from gpunn.specs.graph import Graph
from gpunn.specs.optimizers import Optimizer
from gpunn.training.hooks import Hooks
from gpunn.training.state import Progress, slot_buffers

# Rows per call of evaluate and predict: enough for the products to be efficient.
EVALUATION_BATCH = 1024
SMALL_BATCH = 32

Array = np.ndarray[Any, Any]


class Session:
    """The weights of a model on a device, with every plan that uses them.

    Parameters
    ----------
    graph : Graph
    backend : Backend
    precision : str
        Of the matrix products.
    seed : int
        Of shuffling and dropout.
    """

    def __init__(self, graph: Graph, backend: Backend, precision: str, seed: int) -> None:
        self.graph, self.backend, self.precision, self.seed = graph, backend, precision, seed
        self._plans: dict[Any, BoundPlan] = {}
        self._staging: dict[Any, dict[str, Any]] = {}
        # Threads may call evaluate and predict: their plans' buffers serve one at a time.
        # A callback's hook may call them too, from within.
        self._lock = threading.RLock()
        self._variables = {v.path: v for v in graph.variables}
        self._home = BoundPlan(
            build_plan(graph, batch_size=1, precision=precision, programs=()), backend
        )
        regions = self._home.regions
        self._shared = {name: regions[name] for name in (PARAMETERS, STATE) if name in regions}
        self._optimizer: Optimizer | None = None
        # State of an earlier session's training, which the first training plan takes up.
        self._resumed: Progress | None = None
        # Which trainer the counters and metrics on the device are those of.
        self.turn: object = None

    @property
    def dtype(self) -> str:
        """Type of weights and activations."""
        return STORAGE[self.precision]

    @property
    def paths(self) -> Collection[str]:
        """The variables, as ``layer/name``."""
        return self._variables.keys()

    # Weights

    def _buffer(self, path: str) -> str:
        return f"{PARAMETERS if self._variables[path].trainable else STATE}/{path}"

    def read(self, path: str) -> Array:
        """Return a copy of the variable ``layer/name``."""
        return self._home.read(self._buffer(path))

    def write(self, path: str, values: Any) -> None:
        """Set the variable ``layer/name``."""
        self._home.write(self._buffer(path), values)
        if not self._variables[path].trainable:
            for bound in self._plans.values():
                bound.run("prepare")

    def weights(self) -> dict[str, Array]:
        """Return copies of all variables by path."""
        return {path: self.read(path) for path in self._variables}

    # Plans

    def bind(self, plan: Plan, shared: Mapping[str, Any] | None = None) -> BoundPlan:
        """Return the plan of a graph with the same variables, bound to these weights.

        `shared` are regions of its own kind to use too, such as counters and optimizer slots.
        """
        weights = {name: r for name, r in self._shared.items() if name in (PARAMETERS, STATE)}
        bound = BoundPlan(plan, self.backend, weights | dict(shared or {}))
        bound.run("prepare")
        return bound

    def view(self, graph: Graph) -> Session:
        """Return a session of another graph with the same variables: on these very weights."""
        other = copy.copy(self)
        other.graph, other._plans, other._staging = graph, {}, {}
        return other

    def _bound(self, key: Any, build: Callable[[], BoundPlan]) -> BoundPlan:
        if key not in self._plans:
            self._plans[key] = build()
            self._plans[key].run("prepare")
        return self._plans[key]

    def training_plan(
        self, data: Data, batch_size: int, outputs: Sequence[OutputSpec], optimizer: Optimizer
    ) -> BoundPlan:
        """Return the bound plan that trains with this batch size.

        Counters and optimizer slots are shared with earlier plans of the same optimizer, so a
        second fit goes on where the first one stopped.
        """
        specs = data.weighted_outputs(outputs)
        key = ("train", batch_size, data.input_dtypes, specs, optimizer)
        if optimizer != self._optimizer:
            # Another optimizer starts with slots of its own.
            own = (CONTROL, *map(slot_region, self._optimizer.slots if self._optimizer else ()))
            for name in own:
                self._shared.pop(name, None)
            self._plans = {k: plan for k, plan in self._plans.items() if k[0] != "train"}
            self._optimizer = optimizer

        def build() -> BoundPlan:
            plan = build_plan(
                self.graph,
                batch_size=batch_size,
                precision=self.precision,
                outputs=specs,
                optimizer=optimizer,
                input_dtypes=data.input_dtypes,
                programs=("train",),
            )
            bound = BoundPlan(plan, self.backend, self._shared)
            bound.write(f"{CONTROL}/seed", np.uint64(self.seed))
            for name in (CONTROL, *map(slot_region, optimizer.slots)):
                self._shared[name] = bound.regions[name]
            # Written anew in each step: one for the plans of all batch sizes.
            if GRADIENTS in bound.regions:
                self._shared[GRADIENTS] = bound.regions[GRADIENTS]
            if self._resumed is not None and self._resumed[0] == optimizer:
                for name, values in self._resumed[1].items():
                    bound.write(name, values)
            self._resumed = None
            return bound

        return self._bound(key, build)

    def training_state(self) -> Progress | None:
        """Return the optimizer with its counters and slots by buffer; None before training."""
        bound = next((plan for key, plan in self._plans.items() if key[0] == "train"), None)
        if bound is None or self._optimizer is None:
            return self._resumed
        names = [f"{CONTROL}/step", f"{CONTROL}/epoch"]
        names += slot_buffers(self.graph, self._optimizer).values()
        return self._optimizer, {name: bound.read(name) for name in names}

    def resume(self, state: Progress | None) -> None:
        """Let the next training with the same optimizer go on from a `training_state`."""
        self._resumed = state

    def training_source(
        self, data: Data, bound: BoundPlan, *, shuffle: bool, reserve: int = 0
    ) -> Source:
        """Return `data` as rows to train on, which leave `reserve` bytes free."""
        return open_source(
            bound,
            data.external(self.graph),
            data.rows,
            what="training data",
            seed=self.seed if shuffle else None,
            repeats=True,
            reserve=reserve,
        )

    def evaluation_source(
        self,
        data: Data,
        outputs: Sequence[OutputSpec],
        hooks: Hooks | None = None,
        *,
        what: str = "data",
        repeats: bool = False,
    ) -> Source:
        """Return `data` as rows to evaluate, once or again and again, with the same hooks."""
        with self._lock:
            bound, arrays = self._evaluation(data, outputs, hooks), data.external(self.graph)
            return open_source(bound, arrays, data.rows, what=what, repeats=repeats)

    def prepare_evaluation(
        self, data: Data, outputs: Sequence[OutputSpec], hooks: Hooks | None = None
    ) -> int:
        """Make the plan that evaluates `data`; return how many bytes to leave free for these."""
        with self._lock:
            self._evaluation(data, outputs, hooks)
        arrays = data.external(self.graph).values()
        nbytes = sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
        return min(nbytes, 2 * BLOCK_NBYTES)

    def _evaluation(
        self, data: Data, outputs: Sequence[OutputSpec], hooks: Hooks | None
    ) -> BoundPlan:
        specs = data.weighted_outputs(outputs)
        size = hooks.batch_size if hooks else _inference_batch(data.rows)
        # A plan of their own: what hooks call must not disturb the counts of this one.
        key = ("evaluate", size, data.input_dtypes, specs, hooks is not None)
        return self._bound(key, lambda: self._inference_plan(size, data, specs, "evaluate"))

    def evaluate(
        self, data: Data, outputs: Sequence[OutputSpec], hooks: Hooks | None = None
    ) -> dict[str, float]:
        """Return loss and metrics over `data`; `hooks` are called around each batch."""
        with self._lock:
            source = self.evaluation_source(data, outputs, hooks)
            try:
                return self.evaluate_source(source, hooks)
            finally:
                source.close()
                source.bound.detach()

    def evaluate_source(self, source: Source, hooks: Hooks | None = None) -> dict[str, float]:
        """Return loss and metrics over all rows; the plan keeps the arrays until `detach`."""
        with self._lock:
            bound, done = source.bound, 0
            bound.attach(source.arrays)
            bound.reset_metrics()
            source.begin()
            for batch in itertools.count():
                if hooks:
                    hooks.batch_begin(batch)
                done += source.run("evaluate", done, 1 if hooks else None)[1]
                stopped = hooks and hooks.batch_end(batch, partial(bound.figures, done))
                if stopped or done >= source.rows:
                    break
            return bound.figures(done)

    def predict(self, data: Data, *, on_host: bool = True, hooks: Hooks | None = None) -> list[Any]:
        """Return the outputs for `data`, each of shape (rows, outputs).

        They are NumPy arrays; unless `on_host`, device arrays that are the caller's own. `hooks`
        are called around each batch.
        """
        with self._lock:
            return self._predict(data, on_host, hooks)

    def _predict(self, data: Data, on_host: bool, hooks: Hooks | None) -> list[Any]:
        batch_size = hooks.batch_size if hooks else _inference_batch(data.rows)
        key = ("predict", batch_size, data.input_dtypes, hooks is not None)
        bound = self._bound(key, lambda: self._inference_plan(batch_size, data, (), "predict"))
        names, backend = bound.plan.outputs, self.backend
        results = [] if on_host else [self._result(bound, name, data.rows) for name in names]
        if batch_size <= SMALL_BATCH and not hooks:
            source: Source = Resident(bound, self._staged(key, data, batch_size), data.rows)
            done, parts = self._predict_source(source, results, hooks)
        else:
            source = open_source(bound, data.external(self.graph), data.rows)
            try:
                done, parts = self._predict_source(source, results, hooks)
            finally:
                source.close()
                bound.detach()
        if not on_host:
            return [backend.release(result)[:done] for result in results]
        return [np.concatenate(part) if len(part) > 1 else part[0] for part in parts]

    def _predict_source(
        self, source: Source, results: Sequence[Any], hooks: Hooks | None
    ) -> tuple[int, list[list[Array]]]:
        """Predict all rows into `results`, or else into arrays on the host.

        Returns
        -------
        int
            Rows done: hooks may end it early.
        list of list of array
            By output, what the batches came to on the host.
        """
        bound, backend = source.bound, self.backend
        names = bound.plan.outputs
        bound.attach(source.arrays)
        source.begin()
        parts: list[list[Array]] = [[] for _ in names]
        done = 0
        for batch in itertools.count():
            if hooks:
                hooks.batch_begin(batch)
            start, rows = done, source.run("predict", done, 1)[1]
            done += rows
            if results:
                for result, name in zip(results, names, strict=True):
                    backend.write(result[start:done], bound.array(name, rows))
            else:
                for part, name in zip(parts, names, strict=True):
                    part.append(backend.to_host(bound.array(name, rows)))
            last = [r[start:done] for r in results] or [p[-1] for p in parts]
            stopped = hooks and hooks.batch_end(batch, partial(self._outputs, last))
            if stopped or done >= source.rows:
                break
        return done, parts

    def _outputs(self, values: Sequence[Any]) -> dict[str, Any]:
        """Return the outputs of a batch as hooks see them."""
        shapes = (self.graph.nodes[node].shape for node in self.graph.outputs)
        arrays = [v.reshape(len(v), *shape) for v, shape in zip(values, shapes, strict=True)]
        return {"outputs": arrays[0] if len(arrays) == 1 else arrays}

    def _result(self, bound: BoundPlan, name: str, rows: int) -> Any:
        """Return device memory for the output `name` of `rows` rows."""
        spec = bound.plan.buffers[name]
        shape = (rows, *spec.shape[1:])
        nbytes = math.prod(shape) * np.dtype(spec.dtype).itemsize
        region = self.backend.allocate(nbytes, 1, zeroed=False)
        return self.backend.view(region, 0, shape, spec.dtype)[0]

    def _staged(self, key: Any, data: Data, batch_size: int) -> dict[str, Any]:
        """Copy a few rows to where the bound calls expect them: binding anew costs more."""
        if key not in self._staging:
            inputs = (np.zeros((batch_size, x.shape[1]), x.dtype) for x in data.inputs)
            names = (f"data/{name}" for name in self.graph.input_names())
            self._staging[key] = dict(zip(names, map(self.backend.upload, inputs), strict=True))
        staged = self._staging[key]
        for array, values in zip(staged.values(), data.inputs, strict=True):
            self.backend.write(array[: data.rows], values)
        return staged

    def _inference_plan(
        self, batch_size: int, data: Data, specs: Sequence[OutputSpec], program: str
    ) -> BoundPlan:
        plan = build_plan(
            self.graph,
            batch_size=batch_size,
            precision=self.precision,
            outputs=specs,
            input_dtypes=data.input_dtypes,
            programs=(program,),
        )
        shared = {name: r for name, r in self._shared.items() if name in (PARAMETERS, STATE)}
        return BoundPlan(plan, self.backend, shared)

    def detach(self) -> None:
        """Let go of all data that plans keep."""
        with self._lock:
            for bound in self._plans.values():
                bound.detach()

    def on_device(self, data: Data) -> dict[str, Any]:
        """Return the arrays of `data` on the device, by the names that plans give them."""
        arrays: Mapping[str, Array] = data.external(self.graph)
        return {name: self.backend.upload(array) for name, array in arrays.items()}


def _inference_batch(rows: int) -> int:
    return 1 if rows == 1 else SMALL_BATCH if rows <= SMALL_BATCH else EVALUATION_BATCH
