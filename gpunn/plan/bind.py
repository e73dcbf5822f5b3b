"""Binding: a plan's names become arrays of a backend, its steps become calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gpunn.backends.interface import Backend, Call
from gpunn.errors import PlanError
from gpunn.plan.layout import plan_layout
from gpunn.plan.spec import ACTIVATIONS, BATCH, EXTERNAL, METRICS, SCRATCH, BufferSpec, Plan

Array = np.ndarray[Any, Any]
# Regions whose buffers are written before they are read; the others start at 0.
WRITTEN_FIRST = (BATCH, ACTIVATIONS, SCRATCH)


class BoundPlan:
    """A plan on a device: its regions allocated, its programs callable.

    Parameters
    ----------
    plan : Plan
    backend : Backend
    shared : mapping of str to region, optional
        Regions of another bound plan of the same graph to use instead of allocating: weights
        and counters are shared between the plans for training and for evaluation.
    """

    def __init__(
        self, plan: Plan, backend: Backend, shared: Mapping[str, Any] | None = None
    ) -> None:
        self.plan = plan
        self.backend = backend
        backend.check(plan.steps(), plan.precision, plan.models)
        self.layout = plan_layout(plan)
        self.regions: dict[str, Any] = {}
        self._external: dict[str, Any] = {}
        self._views: dict[tuple[str, int | None], Any] = {}
        self._calls: dict[tuple[str, int], list[Call]] = {}
        self._repeated: dict[tuple[str, int], Callable[[int], None]] = {}
        own = [layout.nbytes for name, layout in self.layout.items() if name not in (shared or {})]
        backend.check_memory(plan.models * sum(own), f"the model with batch size {plan.batch_size}")
        for name, layout in self.layout.items():
            region = (shared or {}).get(name)
            if region is None:
                zeroed = name not in WRITTEN_FIRST
                region = backend.allocate(layout.nbytes, plan.models, zeroed=zeroed)
            elif backend.region_nbytes(region) < layout.nbytes:
                raise PlanError(f"The shared region {name!r} belongs to another graph.")
            self.regions[name] = region
        self._metrics_start = self._initial_metrics()
        for name, value in plan.initial_values.items():
            if plan.buffers[name].region not in (shared or {}):
                backend.write(self.array(name), value)

    def attach(self, arrays: Mapping[str, Any]) -> None:
        """Set the external arrays (data set, targets, order), on the device, first axis rows."""
        for name, array in arrays.items():
            if self._external.get(name) is not array:
                self._external[name] = array
                self._unbind()

    def detach(self) -> None:
        """Let go of the external arrays, so that their memory can be freed."""
        self._external.clear()
        self._unbind()

    def _unbind(self) -> None:
        self._calls.clear()
        self._repeated.clear()
        self._views.clear()

    def array(self, name: str, rows: int | None = None) -> Any:
        """Return the array behind a buffer; of a batched one the first `rows` rows.

        With more than one model there is a leading axis of that length, except for external
        arrays.
        """
        spec = self.plan.buffers[name]
        if spec.region == EXTERNAL:
            if name not in self._external:
                raise PlanError(f"No array is attached for {name!r}.")
            return self._external[name]
        key = name, rows if spec.batched else None
        if key not in self._views:
            self._views[key] = self._view(spec, *key)
        return self._views[key]

    def _view(self, spec: BufferSpec, name: str, rows: int | None) -> Any:
        offset = self.layout[spec.region].offsets[name]
        array = self.backend.view(self.regions[spec.region], offset, spec.shape, spec.dtype)
        if self.plan.models == 1:
            array = array[0]
        if spec.batched and rows is not None:
            axis = 0 if self.plan.models == 1 else 1
            array = array[(slice(None),) * axis + (slice(rows),)]
        return array

    def calls(self, program: str, rows: int | None = None) -> list[Call]:
        """Return the calls of `program` for a batch of `rows` rows (default: a full one)."""
        rows = self.plan.batch_size if rows is None else rows
        if not 0 < rows <= self.plan.batch_size:
            raise PlanError(f"A batch of {rows} rows does not fit {self.plan.batch_size}.")
        key = (program, rows)
        if key not in self._calls:
            steps = [
                (
                    step.op,
                    {role: self.array(name, rows) for role, name in step.roles.items()},
                    step.constants(rows),
                )
                for step in self.plan.programs[program]
            ]
            self._calls[key] = self.backend.bind_program(steps, rows, self.plan.batch_size)
        return self._calls[key]

    def run(self, program: str, rows: int | None = None) -> None:
        """Run `program` once."""
        for call in self.calls(program, rows):
            call()

    def repeat(self, program: str, times: int, rows: int | None = None) -> None:
        """Run `program` many times, on batches of `rows` rows: a device may take them as one."""
        key = (program, self.plan.batch_size if rows is None else rows)
        if key not in self._repeated:
            self._repeated[key] = self.backend.repeated(self.calls(*key))
        self._repeated[key](times)

    def read(self, name: str) -> Any:
        """Return a NumPy copy of a buffer."""
        return self.backend.to_host(self.array(name))

    def write(self, name: str, values: Any) -> None:
        """Set a buffer from host values."""
        self.backend.write(self.array(name), values)

    def _initial_metrics(self) -> Array:
        """Return the bytes of the accumulators as they start: one copy sets them all back."""
        if METRICS not in self.layout:
            return np.zeros(0, np.uint8)
        layout = self.layout[METRICS]
        start = np.zeros(layout.nbytes, np.uint8)
        for name, offset in layout.offsets.items():
            spec = self.plan.buffers[name]
            value = np.full(spec.shape, self.plan.initial_values.get(name, 0), spec.dtype)
            start[offset : offset + spec.nbytes] = value.view(np.uint8)
        return start

    def _metrics(self) -> Any:
        """Return the bytes of all accumulators, of shape (models, nbytes)."""
        nbytes = self.layout[METRICS].nbytes
        return self.backend.view(self.regions[METRICS], 0, (nbytes,), "uint8")

    def reset_metrics(self) -> None:
        """Set all accumulators back to where they start."""
        if METRICS in self.regions:
            self.backend.write(self._metrics(), self._metrics_start)

    def read_metrics(self) -> dict[str, Array]:
        """Return copies of the accumulators of the first model, by buffer: one transfer."""
        if METRICS not in self.regions:
            return {}
        start, values = self.layout[METRICS], self.backend.to_host(self._metrics())[0]
        figures: dict[str, Array] = {}
        for name, offset in start.offsets.items():
            spec = self.plan.buffers[name]
            figures[name] = values[offset : offset + spec.nbytes].view(spec.dtype)
        return figures

    def figures(self, samples: int) -> dict[str, float]:
        """Return loss and metrics accumulated over `samples` rows, for one model.

        The total loss is the weighted sum of the outputs' losses and the regularization.
        """
        figures, sums = {"loss": 0.0}, self.read_metrics()
        for metric in self.plan.metrics:
            mean = float(sums[metric.buffer][0]) / max(samples, 1)
            figures["loss"] += metric.weight * mean
            if metric.label not in ("loss", "regularization"):
                figures[metric.label] = mean**0.5 if metric.root else mean
        return figures
