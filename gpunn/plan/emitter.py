"""What a plan is written with: its buffers by name, and the list of its steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from gpunn.plan.layout import flat_size
from gpunn.plan.spec import (
    ACTIVATIONS,
    CONTROL,
    GRADIENTS,
    METRICS,
    PARAMETERS,
    SCRATCH,
    STATE,
    STORAGE,
    BufferSpec,
    MetricOutput,
    OutputSpec,
    Step,
    slot_region,
)
from gpunn.plan.units import Unit, fuse
from gpunn.specs.graph import Graph
from gpunn.specs.layers.base import Variable
from gpunn.specs.optimizers import Optimizer


class Emitter:
    """Declares the buffers of a plan and lists its steps; what forward and backward pass share.

    Attributes
    ----------
    units : list of Unit
        What is computed at once, in order.
    trained : list of Variable
        Those with a gradient, in the graph's order: the one of gradients and slots.
    buffers, metrics : dict
        Declared so far, by name.
    steps : list of Step
        Of the program that is being built.
    needs_gradient : list of bool
        Of each unit, whether it or one below it is trained.
    in_place : bool
        Whether gradients are added to the weights as they are computed.
    """

    def __init__(
        self,
        graph: Graph,
        batch_size: int,
        precision: str,
        specs: tuple[OutputSpec, ...],
        optimizer: Optimizer | None,
        input_dtypes: tuple[str, ...],
        gradient_alone: bool,
        frozen: Collection[str],
    ) -> None:
        self.graph, self.batch_size, self.frozen = graph, batch_size, frozenset(frozen)
        self.trained = [v for v in graph.variables if v.trainable and v.layer not in self.frozen]
        self.precision, self.dtype = precision, STORAGE[precision]
        self.specs, self.input_dtypes = specs, input_dtypes
        heads = frozenset(
            node
            for node, spec in zip(graph.outputs, specs, strict=True)
            if spec.loss is not None and spec.loss.head == "sigmoid"
        )
        self.units, self.unit_of = fuse(graph, heads)
        layers = {variable.layer for variable in self.trained}
        self.needs_gradient: list[bool] = []
        for unit in self.units:
            below = any(self.needs_gradient[source] for source in unit.inputs)
            self.needs_gradient.append(below or unit.scope in layers)
        self.buffers: dict[str, BufferSpec] = {}
        self.metrics: dict[str, MetricOutput] = {}
        self.variables = {variable.path: variable for variable in graph.variables}
        self.steps: list[Step] = []
        self.in_place = (
            optimizer is not None and not gradient_alone and self._can_update_in_place(optimizer)
        )
        self._declare(optimizer, gradient_alone)

    # Buffers

    def buffer(self, name: str, region: str, shape: tuple[int, ...], dtype: str = "") -> str:
        self.buffers.setdefault(name, BufferSpec(name, shape, dtype or self.dtype, region))
        return name

    def batched(self, name: str, region: str, features: int, dtype: str = "") -> str:
        shape = (self.batch_size, features) if features else (self.batch_size,)
        spec = BufferSpec(name, shape, dtype or self.dtype, region, batched=True)
        self.buffers.setdefault(name, spec)
        return name

    def control(self, name: str, dtype: str) -> str:
        return self.buffer(f"{CONTROL}/{name}", CONTROL, (1,), dtype)

    def counter(self, name: str, dtype: str = "float64") -> str:
        return self.buffer(f"{METRICS}/{name}", METRICS, (1,), dtype)

    def value(self, unit: int) -> str:
        u = self.units[unit]
        return self.batched(f"{ACTIVATIONS}/{u.name}", ACTIVATIONS, u.features)

    def parameter(self, path: str) -> str:
        variable = self.variables[path]
        region = PARAMETERS if variable.trainable else STATE
        return self.buffer(f"{region}/{path}", region, variable.shape)

    def _declare(self, optimizer: Optimizer | None, gradient_alone: bool) -> None:
        """Declare the variables in the graph's order: one layout for parameters and slots."""
        for variable in self.graph.variables:
            self.parameter(variable.path)
        for name, dtype in (
            ("seed", "uint64"),
            ("step", "int64"),
            ("epoch", "int64"),
            ("offset", "int64"),
            ("learning_rate", self.dtype),
        ):
            self.control(name, dtype)
        trains = optimizer is not None or gradient_alone
        regions = [GRADIENTS] if trains and not self.in_place else []
        for region in (*regions, *map(slot_region, optimizer.slots if optimizer else ())):
            for variable in self.trained:
                self.buffer(f"{region}/{variable.path}", region, variable.shape)

    def initial_values(self, optimizer: Optimizer | None) -> dict[str, float]:
        """Return what buffers hold before the first step, where that is not 0."""
        values: dict[str, float] = {}
        for unit in self.units:
            if unit.dropout is not None:
                values[f"{CONTROL}/{unit.dropout.name}/rate"] = unit.dropout.rate
        if optimizer is not None:
            values |= {slot_region(slot): value for slot, value in optimizer.slots.items()}
        values[f"{METRICS}/nonfinite_step"] = -1
        return {name: value for name, value in values.items() if name in self.buffers and value}

    def flat(self, region: str) -> str:
        """Return the name of the flat view of a region, whose size the layout gives."""
        return self.buffer(region, region, (flat_size(self.buffers.values(), region),))

    def runs(self) -> list[list[Variable]]:
        """Return the trained variables, those together that lie behind one another."""
        runs: list[list[Variable]] = []
        before = False
        for variable in self.graph.variables:
            if variable.trainable:
                here = variable.layer not in self.frozen
                if here and before:
                    runs[-1].append(variable)
                elif here:
                    runs.append([variable])
                before = here
        return runs

    def flat_run(self, region: str, run: Sequence[Variable]) -> str:
        """Return the name of the flat view of the buffers of some variables in a region."""
        if all(v in run for v in self.graph.variables if v.trainable):
            return self.flat(region)
        names = [f"{region}/{variable.path}" for variable in run]
        size = flat_size((self.buffers[name] for name in names), region)
        name = f"{names[0]}..{names[-1].removeprefix(f'{region}/')}"
        dtype = self.buffers[names[0]].dtype
        self.buffers.setdefault(name, BufferSpec(name, (size,), dtype, region, start=names[0]))
        return name

    def _can_update_in_place(self, optimizer: Optimizer) -> bool:
        """Whether plain SGD can add each gradient to its weights as it is computed."""
        calls = Counter(unit.scope for unit in self.units if unit.kind == "dense")
        return (
            optimizer.op == "sgd"
            and not optimizer.clips
            and not optimizer.weight_decay
            and all(calls[v.layer] == 1 and v.regularizer is None for v in self.trained)
        )

    def emit(
        self, op: str, inputs: Mapping[str, str], outputs: Mapping[str, str], **attrs: Any
    ) -> None:
        self.steps.append(Step(op, inputs, outputs, attrs))

    # What forward and backward pass share

    def statistics(self, unit: Unit) -> tuple[str, str]:
        scope = f"{STATE}/{unit.name}"
        shape = (unit.features,)
        return (
            self.buffer(f"{scope}/center", SCRATCH, shape),
            self.buffer(f"{scope}/gain", SCRATCH, shape),
        )

    def activation_attrs(self, unit: Unit, training: bool = True) -> dict[str, Any]:
        stream = unit.dropout.index if unit.dropout and training else -1
        function = unit.activation
        return {
            "activation": function.name,
            "parameter": function.parameter,
            "stream": stream,
        }

    def dropout_roles(self, unit: Unit) -> dict[str, str]:
        if unit.dropout is None:
            return {}
        return {
            "seed": self.control("seed", "uint64"),
            "step": self.control("step", "int64"),
            "rate": self.control(f"{unit.dropout.name}/rate", "float32"),
        }

    def pre_activation(self, unit: Unit) -> str:
        return self.batched(f"{ACTIVATIONS}/{unit.name}/pre", ACTIVATIONS, unit.features)

    def gamma_roles(self, unit: Unit, *names: str) -> dict[str, str]:
        """Return those of the roles gamma and beta that the layer of `unit` has."""
        assert unit.layer is not None
        has = {"gamma": unit.layer.scale, "beta": unit.layer.center}
        return {name: self.parameter(f"{unit.scope}/{name}") for name in names if has[name]}

    def saved_statistics(self, unit: Unit) -> dict[str, str]:
        """Return where the forward pass leaves mean and deviation for the backward pass."""
        roles = ("mean", "inverse_deviation")
        names = {role: f"{ACTIVATIONS}/{unit.name}/{role}" for role in roles}
        for name in names.values():
            if unit.kind == "batch_normalization":
                self.buffer(name, ACTIVATIONS, (unit.features,))
            else:
                self.batched(name, ACTIVATIONS, 0)
        return names

    def copy(
        self, source: str, result: str, columns: int, source_start: int = 0, result_start: int = 0
    ) -> None:
        self.emit(
            "copy_columns",
            {"source": source},
            {"result": result},
            source_start=source_start,
            result_start=result_start,
            columns=columns,
        )

    def moves_statistics(self, unit: Unit) -> bool:
        """Whether training normalizes by the batch, and moves the moving statistics."""
        return unit.kind == "batch_normalization" and unit.scope not in self.frozen

    def gradient(self, path: str) -> str:
        return f"{GRADIENTS}/{path}"

    # Penalties

    def penalty(self, op: str, variable: Variable, outputs: Mapping[str, str]) -> None:
        """Emit an op of the variable's regularizer, which adds the penalty to the loss."""
        spec = variable.regularizer
        assert spec is not None
        total = self.counter("regularization")
        self.metrics["regularization"] = MetricOutput("regularization", total, weight=1.0)
        kernel, outputs = {"kernel": self.parameter(variable.path)}, {**outputs, "sum": total}
        self.steps.append(Step(op, kernel, outputs, {"l1": spec.l1, "l2": spec.l2}, spec.per_row))
