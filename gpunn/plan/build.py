"""From graph, loss and optimizer to a plan. Pure: no device, no arrays.

The programs are emitted unit by unit (see ``units.py``): forward in order, then losses, then
backward in reverse. A gradient's first contribution overwrites, later ones accumulate in a fixed
order, so nothing needs zeroing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpunn.activations import ExpressionActivation
from gpunn.errors import ArgumentError, PlanError, UnknownNameError
from gpunn.graph import Graph, Variable
from gpunn.layers import BatchNormalization
from gpunn.losses import Loss
from gpunn.metrics import Metric
from gpunn.optimizers import Optimizer
from gpunn.plan.backward import Backward
from gpunn.plan.heads import Head, resolve_head
from gpunn.plan.layout import flat_size
from gpunn.plan.ops import OPS
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
from gpunn.schedules import Constant

# Learning rates that a schedule gives for the steps ahead: as many as the host sets at once.
RATES = 1024
NORMALIZATION_EPSILON = 1e-7
# Far above the subnormal numbers of the type, so that products with a learning rate are no such
# numbers either, and far below anything that could change a weight.
TINY = {"float32": 1e-30, "float64": 1e-290}


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
        Which of train, evaluate and predict to build.
    models : int, default 1
        Number of models trained at once.

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
    builder = _Builder(graph, batch_size, precision, specs, optimizer, types)
    built: dict[str, tuple[Step, ...]] = {"prepare": builder.prepare()}
    if "train" in programs:
        if optimizer is None:
            raise ArgumentError("A training plan needs an optimizer.")
        built["epoch"] = builder.epoch()
        built["train"] = builder.train(optimizer)
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
    ) -> None:
        self.graph, self.batch_size = graph, batch_size
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
        self.in_place = optimizer is not None and self._can_update_in_place(optimizer)
        self._declare(optimizer)

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

    def _declare(self, optimizer: Optimizer | None) -> None:
        """Declare the variables in the graph's order: one layout for parameters and slots."""
        trainable = [v for v in self.graph.variables if v.trainable]
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
        if optimizer is None:
            return
        regions = [] if self.in_place else [GRADIENTS]
        for region in (*regions, *map(slot_region, optimizer.slots)):
            for variable in trainable:
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

    def _flat(self, region: str) -> str:
        """Return the name of the flat view of a region, whose size the layout gives."""
        return self.buffer(region, region, (flat_size(self.buffers.values(), region),))

    def _can_update_in_place(self, optimizer: Optimizer) -> bool:
        """Whether plain SGD can add each gradient to its weights as it is computed."""
        calls = Counter(unit.scope for unit in self.units if unit.kind == "dense")
        return (
            optimizer.op == "sgd"
            and all(v.layer in calls for v in self.graph.variables if v.trainable)
            and not optimizer.clips
            and not optimizer.weight_decay
            and max(calls.values(), default=0) <= 1
            and all(v.regularizer is None for v in self.graph.variables)
        )

    # Programs

    def prepare(self) -> tuple[Step, ...]:
        self.steps = []
        for unit in self.units:
            if unit.normalization:
                center, gain = self._statistics(unit)
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
        self.forward({self.unit_of[node] for node in self.graph.outputs}, training=False)
        return (*self.steps, self._advance())

    def evaluate(self) -> tuple[Step, ...]:
        self.steps = []
        self._forward_and_losses(training=False)
        return (*self.steps, self._advance())

    def train(self, optimizer: Optimizer) -> tuple[Step, ...]:
        self.steps = []
        gradients = self._forward_and_losses(training=True)
        Backward(self, gradients).run()
        self._update(optimizer)
        inputs, outputs = {}, {}
        if not isinstance(optimizer.schedule, Constant):
            inputs["rates"] = self.buffer(f"{CONTROL}/rates", CONTROL, (RATES,))
            inputs["first_step"] = self.control("first_step", "int64")
            outputs["learning_rate"] = self.control("learning_rate", self.dtype)
        return (*self.steps, self._advance(inputs, outputs))

    def _advance(
        self, inputs: Mapping[str, str] | None = None, outputs: Mapping[str, str] | None = None
    ) -> Step:
        step, offset = self.control("step", "int64"), self.control("offset", "int64")
        return Step("advance", inputs or {}, {"step": step, "offset": offset, **(outputs or {})})

    def emit(
        self, op: str, inputs: Mapping[str, str], outputs: Mapping[str, str], **attrs: Any
    ) -> None:
        self.steps.append(Step(op, inputs, outputs, attrs))

    # Forward

    def forward(self, wanted: set[int], training: bool) -> None:
        """Emit what computes the values of the units `wanted`."""
        needed = set(wanted)
        for i in reversed(range(len(self.units))):
            if i in needed:
                needed.update(self.units[i].inputs)
        input_names = dict(zip(self.graph.inputs, self.input_dtypes, strict=True))
        types = {self.unit_of[node]: (node, dtype) for node, dtype in input_names.items()}
        for i in sorted(needed):
            unit = self.units[i]
            if unit.kind == "input":
                node, dtype = types[i]
                self._gather(i, self.graph.nodes[node].name, dtype, training)
            else:
                getattr(self, f"_forward_{unit.kind}")(i, unit, training)

    def _gather(self, i: int, name: str, dtype: str, training: bool) -> None:
        unit = self.units[i]
        data = self.buffer(f"data/{name}", EXTERNAL, (0, unit.features), dtype)
        inputs = {"data": data, "offset": self.control("offset", "int64")}
        inputs |= {"order": "order"} if training else {}
        self.emit(
            "gather",
            inputs | self._affine_roles(unit),
            {"values": self.value(i)},
            scale=unit.scale,
            shift=unit.shift,
        )

    def _statistics(self, unit: Unit) -> tuple[str, str]:
        scope = f"{STATE}/{unit.name}"
        shape = (unit.features,)
        return (
            self.buffer(f"{scope}/center", SCRATCH, shape),
            self.buffer(f"{scope}/gain", SCRATCH, shape),
        )

    def _affine_roles(self, unit: Unit) -> dict[str, str]:
        return (
            dict(zip(("center", "gain"), self._statistics(unit), strict=True))
            if (unit.normalization)
            else {}
        )

    def _forward_affine(self, i: int, unit: Unit, training: bool) -> None:
        self.emit(
            "affine",
            {"values": self.value(unit.inputs[0])} | self._affine_roles(unit),
            {"result": self.value(i)},
            scale=unit.scale,
            shift=unit.shift,
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

    def _forward_dense(self, i: int, unit: Unit, training: bool) -> None:
        inputs = {
            "values": self.value(unit.inputs[0]),
            "kernel": self.parameter(f"{unit.scope}/kernel"),
        }
        outputs = {"result": self.value(i)}
        if unit.use_bias:
            inputs["bias"] = self.parameter(f"{unit.scope}/bias")
        if training:
            inputs |= self.dropout_roles(unit)
            if unit.activation.derivative_reads == "input":
                outputs["pre"] = self.pre_activation(unit)
        attrs = self.activation_attrs(unit, training)
        self.emit("dense", inputs, outputs, precision=self.precision, **attrs)

    def _forward_activation(self, i: int, unit: Unit, training: bool) -> None:
        self.emit(
            "activation",
            {"values": self.value(unit.inputs[0])},
            {"result": self.value(i)},
            activation=unit.activation.name,
            parameter=unit.activation.parameter,
        )

    def _forward_expression(self, i: int, unit: Unit, training: bool) -> None:
        assert isinstance(unit.activation, ExpressionActivation)
        self.emit(
            "expression",
            {"values": self.value(unit.inputs[0])},
            {"result": self.value(i)},
            function=unit.activation.name,
            expression=unit.activation.expression.code,
        )

    def _forward_softmax(self, i: int, unit: Unit, training: bool) -> None:
        self.emit("softmax", {"values": self.value(unit.inputs[0])}, {"result": self.value(i)})

    def _forward_prelu(self, i: int, unit: Unit, training: bool) -> None:
        alpha = self.parameter(f"{unit.scope}/alpha")
        inputs = {"values": self.value(unit.inputs[0]), "alpha": alpha}
        self.emit("prelu", inputs, {"result": self.value(i)})

    def _forward_dropout(self, i: int, unit: Unit, training: bool) -> None:
        source, result = self.value(unit.inputs[0]), self.value(i)
        if training:
            assert unit.dropout is not None
            inputs = {"values": source} | self.dropout_roles(unit)
            self.emit("dropout", inputs, {"result": result}, stream=unit.dropout.index)
        else:
            self.copy(source, result, unit.features)

    def gamma_roles(self, unit: Unit, *names: str) -> dict[str, str]:
        """Return those of the roles gamma and beta that the layer of `unit` has."""
        assert unit.layer is not None
        has = {"gamma": unit.layer.scale, "beta": unit.layer.center}
        return {name: self.parameter(f"{unit.scope}/{name}") for name in names if has[name]}

    def normalization_attrs(self, unit: Unit) -> dict[str, Any]:
        assert unit.layer is not None
        return {"epsilon": unit.layer.epsilon, "slope": unit.activation.negative_slope}

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

    def _forward_batch_normalization(self, i: int, unit: Unit, training: bool) -> None:
        layer, (source,) = unit.layer, unit.inputs
        assert isinstance(layer, BatchNormalization)
        inputs = {"values": self.value(source)} | self.gamma_roles(unit, "gamma", "beta")
        outputs = {"result": self.value(i)}
        statistics = ("mean", "variance")
        moving = {role: self.parameter(f"{unit.scope}/moving_{role}") for role in statistics}
        if training:
            outputs |= self.saved_statistics(unit)
            outputs |= {f"moving_{role}": buffer for role, buffer in moving.items()}
            attrs = self.normalization_attrs(unit) | {"momentum": layer.momentum}
            self.emit("batch_normalization", inputs, outputs, **attrs)
        else:
            inputs |= moving
            attrs = self.normalization_attrs(unit)
            self.emit("batch_normalization_inference", inputs, outputs, **attrs)

    def _forward_layer_normalization(self, i: int, unit: Unit, training: bool) -> None:
        assert unit.layer is not None
        values = {"values": self.value(unit.inputs[0])}
        inputs = values | self.gamma_roles(unit, "gamma", "beta")
        outputs = {"result": self.value(i)} | (self.saved_statistics(unit) if training else {})
        self.emit("layer_normalization", inputs, outputs, **self.normalization_attrs(unit))

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

    def _forward_add(self, i: int, unit: Unit, training: bool) -> None:
        left, result = self.value(unit.inputs[0]), self.value(i)
        for source in unit.inputs[1:]:
            inputs = {"left": left, "right": self.value(source)}
            self.emit("add", inputs, {"result": result})
            left = result

    def _forward_concatenate(self, i: int, unit: Unit, training: bool) -> None:
        start = 0
        for source, columns in zip(unit.inputs, unit.columns, strict=True):
            self.copy(self.value(source), self.value(i), columns, result_start=start)
            start += columns

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
            kinds = enumerate(unit.kind for unit in self.units)
            wanted.update(i for i, kind in kinds if kind == "batch_normalization")
        self.forward(wanted, training)
        gradients: dict[int, list[Callable[[str], None]]] = {}
        for head in heads:
            head.gather_targets(training)
            if head.spec.loss is not None:
                if training:
                    gradients.setdefault(head.source, []).append(head.emit_loss)
                else:
                    head.emit_loss(None)
            head.emit_metrics()
        self._regularizers()
        return gradients

    def _regularizers(self) -> None:
        for variable in self.graph.variables:
            if variable.regularizer is not None:
                total = self.counter("regularization")
                self.metrics["regularization"] = MetricOutput("regularization", total, weight=1.0)
                self.emit(
                    "regularizer",
                    {"kernel": self.parameter(variable.path)},
                    {"sum": total},
                    l1=variable.regularizer.l1,
                    l2=variable.regularizer.l2,
                )

    # Update

    def _clip(self, gradients: str, limit: float) -> None:
        axes = len(self.buffers[gradients].shape)
        self.emit("clip_by_norm", {}, {"gradients": gradients}, limit=limit, axes=axes)

    def gradient(self, path: str) -> str:
        return f"{GRADIENTS}/{path}"

    def _update(self, optimizer: Optimizer) -> None:
        trainable: list[Variable] = [v for v in self.graph.variables if v.trainable]
        if not trainable:
            raise PlanError("The model has no weights to train.")
        if not self.in_place:
            self._optimize(optimizer, trainable)
        for v in trainable:
            if v.constraint is not None:
                attrs = dict(v.constraint.attrs)
                if "axes" in OPS[v.constraint.op].attrs:
                    attrs["axes"] = len(v.shape)
                self.emit(v.constraint.op, {}, {"kernel": self.parameter(v.path)}, **attrs)

    def _optimize(self, optimizer: Optimizer, trainable: list[Variable]) -> None:
        """Emit penalties' gradients, clipping, and the flat update of all parameters."""
        written = {name for step in self.steps for name in step.outputs.values()}
        for v in trainable:
            if v.regularizer is not None:
                gradient = self.gradient(v.path)
                if gradient not in written:
                    # No loss depends on it: without this the penalties of all steps add up.
                    self.emit("clip_by_value", {}, {"gradients": gradient}, limit=0.0)
                self.emit(
                    "regularizer_gradient",
                    {"kernel": self.parameter(v.path)},
                    {"kernel_gradient": gradient},
                    l1=v.regularizer.l1,
                    l2=v.regularizer.l2,
                )
        flat = self._flat(GRADIENTS)
        if optimizer.clipvalue is not None:
            self.emit("clip_by_value", {}, {"gradients": flat}, limit=optimizer.clipvalue)
        if optimizer.clipnorm is not None:
            for v in trainable:
                gradient = self.gradient(v.path)
                self._clip(gradient, optimizer.clipnorm)
        if optimizer.global_clipnorm is not None:
            self._clip(flat, optimizer.global_clipnorm)
        inputs = {"gradients": flat, "learning_rate": self.control("learning_rate", self.dtype)}
        if optimizer.op == "adam":
            inputs["step"] = self.control("step", "int64")
        outputs = {"parameters": self._flat(PARAMETERS)}
        outputs |= {slot: self._flat(slot_region(slot)) for slot in optimizer.slots}
        self.emit(
            optimizer.op,
            inputs,
            outputs,
            weight_decay=optimizer.weight_decay or 0.0,
            **optimizer.attrs,
            **({"tiny": TINY[self.dtype]} if "tiny" in OPS[optimizer.op].attrs else {}),
        )
