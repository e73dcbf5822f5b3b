"""From graph, loss and optimizer to a plan. Pure: no device, no arrays.

The programs are emitted unit by unit (see ``units.py``): forward in order, then losses, then
backward in reverse. A gradient's first contribution overwrites, later ones accumulate in a fixed
order, so nothing needs zeroing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpunn.errors import ArgumentError, UnknownNameError
from gpunn.plan.backward import Backward
from gpunn.plan.forward import Forward
from gpunn.plan.heads import Head, resolve_head
from gpunn.plan.layout import flat_size
from gpunn.plan.spec import (
    ACTIVATIONS,
    CONTROL,
    EXTERNAL,
    GRADIENTS,
    METRICS,
    PARAMETERS,
    SCRATCH,
    STATE,
    STORAGE,
    BufferSpec,
    MetricOutput,
    Plan,
    Step,
    slot_region,
)
from gpunn.plan.units import Unit, fuse
from gpunn.plan.update import emit_penalties, emit_update
from gpunn.specs.graph import Graph, Variable
from gpunn.specs.losses import Loss
from gpunn.specs.metrics import Metric
from gpunn.specs.optimizers import Optimizer
from gpunn.specs.schedules import Constant

# Learning rates that a schedule gives for the steps ahead: as many as the host sets at once.
RATES = 1024
NORMALIZATION_EPSILON = 1e-7


@dataclass(frozen=True)
class OutputSpec:
    """What is asked of one output of the model.

    Attributes
    ----------
    loss : Loss or None
    metrics : sequence of Metric
    loss_weight : float
        Factor of this output's loss in the total.
    weighted : bool
        Whether sample weights are given.
    """

    loss: Loss | None = None
    metrics: Sequence[Metric] = ()
    loss_weight: float = 1.0
    weighted: bool = False

    @property
    def sparse(self) -> bool:
        """Whether targets are class numbers."""
        if self.loss is not None:
            return self.loss.sparse
        return any("sparse" in metric.label for metric in self.metrics)


def build_plan(
    graph: Graph,
    *,
    batch_size: int,
    precision: str = "float32",
    outputs: Sequence[OutputSpec] = (),
    optimizer: Optimizer | None = None,
    input_dtypes: Sequence[str] | None = None,
    programs: Sequence[str] = ("train", "evaluate", "predict"),
    models: int = 1,
    frozen: Collection[str] = (),
) -> Plan:
    """Lay out every buffer and list every kernel call.

    Parameters
    ----------
    graph : Graph
    batch_size : int
        Rows of a full batch.
    precision : {"float32", "float64", "tf32", "bfloat16"}
        Of the matrix products; parameters and activations are float64 for the second, else float32.
    outputs : sequence of OutputSpec, optional
        One per output of the graph; needed for ``train`` and ``evaluate``.
    optimizer : Optimizer, optional
        Needed for ``train``.
    input_dtypes : sequence of str, optional
        Types of the input data, one per input; default: that of the activations.
    programs : sequence of str
        Which of train, evaluate, predict and gradient to build. The last, which is not built by
        default, leaves the gradient in its region and the weights as they are: for optimizers
        that are not the plan's.
    models : int, default 1
        Number of models trained at once.
    frozen : collection of str
        Names of layers whose weights stay as they are: they have no gradient, no slot, no update
        and no penalty, and a BatchNormalization among them uses its moving statistics.

    Raises
    ------
    PlanError
        The loss does not fit the output, or training would pass through an activation without
        a useful gradient.
    """
    if precision not in STORAGE:
        raise UnknownNameError("precision", precision, STORAGE)
    specs = tuple(outputs) or tuple(OutputSpec() for _ in graph.outputs)
    if len(specs) != len(graph.outputs):
        raise ArgumentError(f"{len(graph.outputs)} outputs need as many specs, not {len(specs)}.")
    types = tuple(input_dtypes or (STORAGE[precision],) * len(graph.inputs))
    builder = _Builder(
        graph, batch_size, precision, specs, optimizer, types, "gradient" in programs, frozen
    )
    built: dict[str, tuple[Step, ...]] = {"prepare": builder.prepare()}
    if "train" in programs:
        if optimizer is None:
            raise ArgumentError("A training plan needs an optimizer.")
        built["epoch"] = builder.epoch()
        built["train"] = builder.train(optimizer)
    if "gradient" in programs:
        built["gradient"] = builder.gradient_alone()
    if "evaluate" in programs:
        built["evaluate"] = builder.evaluate()
    if "predict" in programs:
        built["predict"] = builder.predict()
    return Plan(
        batch_size,
        precision,
        models,
        builder.buffers,
        built,
        tuple(builder.metrics.values()),
        tuple(builder.value(builder.unit_of[node]) for node in graph.outputs),
        builder.initial_values(optimizer),
    )


class _Builder:
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
        # In the graph's order: the one of gradients and slots.
        self.trained = [v for v in graph.variables if v.trainable and v.layer not in self.frozen]
        self.precision, self.dtype = precision, STORAGE[precision]
        self.specs, self.input_dtypes = specs, input_dtypes
        heads = frozenset(
            node
            for node, spec in zip(graph.outputs, specs, strict=True)
            if spec.loss is not None and spec.loss.head == "sigmoid"
        )
        self.units, self.unit_of = fuse(graph, heads)
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

    # Programs

    def prepare(self) -> tuple[Step, ...]:
        self.steps = []
        for unit in self.units:
            if unit.normalization:
                center, gain = self.statistics(unit)
                self.emit(
                    "normalization_statistics",
                    {
                        "mean": self.parameter(f"{unit.normalization}/mean"),
                        "variance": self.parameter(f"{unit.normalization}/variance"),
                    },
                    {"center": center, "gain": gain},
                    scale=unit.scale,
                    shift=unit.shift,
                    epsilon=NORMALIZATION_EPSILON,
                )
        return tuple(self.steps)

    def epoch(self) -> tuple[Step, ...]:
        self.buffer("order", EXTERNAL, (0,), "int64")
        seed, epoch = self.control("seed", "uint64"), self.control("epoch", "int64")
        return (Step("keyed_permutation", {"seed": seed, "epoch": epoch}, {"order": "order"}),)

    def predict(self) -> tuple[Step, ...]:
        self.steps = []
        Forward(self).run({self.unit_of[node] for node in self.graph.outputs}, training=False)
        return (*self.steps, self._advance())

    def evaluate(self) -> tuple[Step, ...]:
        self.steps = []
        self._forward_and_losses(training=False)
        return (*self.steps, self._advance())

    def train(self, optimizer: Optimizer) -> tuple[Step, ...]:
        self.steps = []
        gradients = self._forward_and_losses(training=True)
        Backward(self, gradients).run()
        emit_update(self, optimizer)
        inputs, outputs = {}, {}
        if not isinstance(optimizer.schedule, Constant):
            inputs["rates"] = self.buffer(f"{CONTROL}/rates", CONTROL, (RATES,))
            inputs["first_step"] = self.control("first_step", "int64")
            outputs["learning_rate"] = self.control("learning_rate", self.dtype)
        return (*self.steps, self._advance(inputs, outputs))

    def gradient_alone(self) -> tuple[Step, ...]:
        self.steps = []
        self.buffer("order", EXTERNAL, (0,), "int64")
        Backward(self, self._forward_and_losses(training=True)).run()
        emit_penalties(self)
        self.flat(GRADIENTS)
        self.flat(PARAMETERS)
        return tuple(self.steps)

    def _advance(
        self, inputs: Mapping[str, str] | None = None, outputs: Mapping[str, str] | None = None
    ) -> Step:
        step, offset = self.control("step", "int64"), self.control("offset", "int64")
        return Step("advance", inputs or {}, {"step": step, "offset": offset, **(outputs or {})})

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

    # Losses and metrics

    def _forward_and_losses(self, training: bool) -> dict[int, list[Callable[[str], None]]]:
        """Emit forward pass, losses and metrics.

        Returns
        -------
        dict
            For each unit that a loss reads, functions that emit the loss with its gradient
            written to a given buffer; in training the losses are emitted by these.
        """
        heads: list[Head] = []
        for number, spec in enumerate(self.specs):
            if spec.loss is not None or spec.metrics:
                heads.append(resolve_head(self, number, spec))
        if not any(head.spec.loss is not None for head in heads):
            raise ArgumentError("Training and evaluation need a loss for at least one output.")
        wanted = {unit for head in heads for unit in head.wanted}
        if training:  # moving statistics move, as in Keras, also where no loss depends on them
            wanted.update(i for i, unit in enumerate(self.units) if self.moves_statistics(unit))
        Forward(self).run(wanted, training)
        gradients: dict[int, list[Callable[[str], None]]] = {}
        for head in heads:
            head.gather_targets(training)
            if head.spec.loss is not None:
                if training:
                    gradients.setdefault(head.source, []).append(head.emit_loss)
                else:
                    head.emit_loss(None)
            head.emit_metrics()
        if not training:
            for variable in self.trained:
                if variable.regularizer is not None:
                    self.penalty("regularizer", variable, {})
        return gradients

    def penalty(self, op: str, variable: Variable, outputs: Mapping[str, str]) -> None:
        """Emit an op of the variable's regularizer, which adds the penalty to the loss."""
        spec = variable.regularizer
        assert spec is not None
        total = self.counter("regularization")
        self.metrics["regularization"] = MetricOutput("regularization", total, weight=1.0)
        kernel, outputs = {"kernel": self.parameter(variable.path)}, {**outputs, "sum": total}
        self.steps.append(Step(op, kernel, outputs, {"l1": spec.l1, "l2": spec.l2}, spec.per_row))
