"""A model on a device: its weights, and the plans bound to them."""

from __future__ import annotations

import copy
import itertools
import math
import threading
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from gpunn.backends.interface import Backend
from gpunn.data.batches import Data
from gpunn.data.blocks import BLOCK_NBYTES
from gpunn.data.sources import Resident, Source, open_source
from gpunn.plan.bind import BoundPlan
from gpunn.plan.build import build_plan
from gpunn.plan.spec import (
    CONTROL,
    GRADIENTS,
    PARAMETERS,
    STATE,
    STORAGE,
    OutputSpec,
    Plan,
    slot_region,
)
from gpunn.specs.graph import Graph
from gpunn.specs.optimizers import Optimizer
from gpunn.training.hooks import Hooks
from gpunn.training.state import TrainingState, slot_buffers
from gpunn.training.weight_store import DeviceWeights, LayerWeights

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
    state : TrainingState, optional
        Where training stands; a new one by default.
    layers : mapping of str to LayerWeights, optional
        Weights that are shared with other sessions, by the layers' names.

    Attributes
    ----------
    closed : bool
        Whether the weights have been handed back: it trains no more.
    """

    def __init__(
        self,
        graph: Graph,
        backend: Backend,
        precision: str,
        seed: int,
        state: TrainingState | None = None,
        layers: Mapping[str, LayerWeights] | None = None,
    ) -> None:
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
        self.state = TrainingState() if state is None else state
        self._frozen: frozenset[str] = frozenset()
        self._active_trainer: Callable[[], Any] = _nobody
        self.closed = False
        self.copies = DeviceWeights(self, layers or {})

    @property
    def active_trainer(self) -> Any:
        """The trainer that the counters and metrics on the device are those of, or None."""
        return self._active_trainer()

    @active_trainer.setter
    def active_trainer(self, trainer: Any) -> None:
        # A trainer has the data; it is not kept in memory by the model.
        self._active_trainer = _nobody if trainer is None else weakref.ref(trainer)

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
        """Set the variable ``layer/name``, for all sessions that share its layer."""
        self.copies.claim((self._variables[path].layer,))
        self.write_silently({path: values})
        self.copies.version += 1

    def write_silently(self, values: Mapping[str, Any]) -> None:
        """Set variables by path in this session alone."""
        for path, array in values.items():
            self._home.write(self._buffer(path), array)
        if not all(self._variables[path].trainable for path in values):
            for bound in self._plans.values():
                bound.run("prepare")

    def place(self) -> str:
        """Return device and precision in words."""
        return f"{self.backend.name} in {self.dtype}"

    def close(self) -> None:
        """Hand the newest weights back to the layers, and the state of training to the host."""
        self.state.slots = self.slots()
        self.copies.leave()
        self.closed = True

    def weights(self) -> dict[str, Array]:
        """Return copies of all variables by path."""
        self.copies.refresh()
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
        self,
        data: Data,
        batch_size: int,
        outputs: Sequence[OutputSpec],
        optimizer: Optimizer,
        frozen: Collection[str] = (),
    ) -> BoundPlan:
        """Return the bound plan that trains all layers but the `frozen` with this batch size.

        Counters and optimizer slots are shared by all training plans, so a second fit goes on where
        the first one stopped.
        """
        specs = data.weighted_outputs(outputs)
        if frozenset(frozen) != self._frozen:
            # Other weights have slots and gradients: those of layers that stay go on.
            self.state.slots = self.slots()
            for name in (GRADIENTS, *map(slot_region, optimizer.slots)):
                self._shared.pop(name, None)
            self._plans = {key: plan for key, plan in self._plans.items() if key[0] != "train"}
            self._frozen = frozenset(frozen)
        key = ("train", batch_size, data.input_dtypes, specs, optimizer)

        def build() -> BoundPlan:
            plan = build_plan(
                self.graph,
                batch_size=batch_size,
                precision=self.precision,
                outputs=specs,
                optimizer=optimizer,
                input_dtypes=data.input_dtypes,
                programs=("train",),
                frozen=self._frozen,
            )
            bound = BoundPlan(plan, self.backend, self._shared)
            if CONTROL not in self._shared:
                bound.write(f"{CONTROL}/seed", np.uint64(self.seed))
                self.state.write_counters(bound)
            slots = slot_buffers(self.graph, optimizer)
            if not any(slot_region(slot) in self._shared for slot in optimizer.slots):
                for name, values in self.state.slots.items():
                    if slots.get(name) in plan.buffers:
                        bound.write(slots[name], values)
            # Gradients are written anew in each step: one region for the plans of all batch sizes.
            for name in (CONTROL, GRADIENTS, *map(slot_region, optimizer.slots)):
                if name in bound.regions:
                    self._shared[name] = bound.regions[name]
            return bound

        return self._bound(key, build)

    def _training_plan(self) -> BoundPlan | None:
        return next((plan for key, plan in self._plans.items() if key[0] == "train"), None)

    def slots(self) -> dict[str, Array]:
        """Return copies of the optimizer's slots, ``slot/layer/name``, as far as it has trained."""
        bound = self._training_plan()
        if bound is None:
            return self.state.slots
        optimizer: Optimizer = next(key[4] for key in self._plans if key[0] == "train")
        slots: dict[str, str] = slot_buffers(self.graph, optimizer)
        present = bound.plan.buffers
        now = {name: bound.read(buffer) for name, buffer in slots.items() if buffer in present}
        return self.state.slots | now

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
        frozen: Collection[str] = (),
        *,
        what: str = "data",
        repeats: bool = False,
    ) -> Source:
        """Return `data` as rows to evaluate, once or again and again, with the same hooks.

        The penalties of layers that are `frozen` are no part of the loss, as in Keras.
        """
        with self._lock:
            bound = self._evaluation(data, outputs, hooks, frozen)
            arrays = data.external(self.graph)
            return open_source(bound, arrays, data.rows, what=what, repeats=repeats)

    def prepare_evaluation(
        self,
        data: Data,
        outputs: Sequence[OutputSpec],
        hooks: Hooks | None = None,
        frozen: Collection[str] = (),
    ) -> int:
        """Make the plan that evaluates `data`; return how many bytes to leave free for these."""
        with self._lock:
            self._evaluation(data, outputs, hooks, frozen)
        arrays = data.external(self.graph).values()
        nbytes = sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
        return min(nbytes, 2 * BLOCK_NBYTES)

    def _evaluation(
        self,
        data: Data,
        outputs: Sequence[OutputSpec],
        hooks: Hooks | None,
        frozen: Collection[str],
    ) -> BoundPlan:
        specs = data.weighted_outputs(outputs)
        regularized = {v.layer for v in self.graph.variables if v.regularizer is not None}
        unpenalized = frozenset(regularized.intersection(frozen))
        size = hooks.batch_size if hooks else _inference_batch(data.rows)
        # A plan of their own: what hooks call must not disturb the counts of this one.
        key = ("evaluate", size, data.input_dtypes, specs, hooks is not None, unpenalized)
        return self._bound(
            key, lambda: self._inference_plan(size, data, specs, "evaluate", unpenalized)
        )

    def evaluate(
        self,
        data: Data,
        outputs: Sequence[OutputSpec],
        hooks: Hooks | None = None,
        frozen: Collection[str] = (),
    ) -> dict[str, float]:
        """Return loss and metrics over `data`; `hooks` are called around each batch."""
        with self._lock:
            source = self.evaluation_source(data, outputs, hooks, frozen)
            try:
                return self.evaluate_source(source, hooks)
            finally:
                source.close()
                source.bound.detach()

    def evaluate_source(self, source: Source, hooks: Hooks | None = None) -> dict[str, float]:
        """Return loss and metrics over all rows; the plan keeps the arrays until `detach`."""
        self.copies.refresh()
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
        self.copies.refresh()
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
        self,
        batch_size: int,
        data: Data,
        specs: Sequence[OutputSpec],
        program: str,
        frozen: Collection[str] = (),
    ) -> BoundPlan:
        plan = build_plan(
            self.graph,
            batch_size=batch_size,
            precision=self.precision,
            outputs=specs,
            input_dtypes=data.input_dtypes,
            programs=(program,),
            frozen=frozen,
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


def _nobody() -> None:
    return None


def _inference_batch(rows: int) -> int:
    return 1 if rows == 1 else SMALL_BATCH if rows <= SMALL_BATCH else EVALUATION_BATCH
