"""From graph, loss and optimizer to a plan. Pure: no device, no arrays.

The programs are emitted unit by unit (see ``units.py``): forward in order, then losses, then
backward in reverse. A gradient's first contribution overwrites, later ones accumulate in a fixed
order, so nothing needs zeroing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from gpunn.errors import ArgumentError, UnknownNameError
from gpunn.plan.backward import Backward
from gpunn.plan.emitter import Emitter
from gpunn.plan.forward import Forward
from gpunn.plan.heads import Head, resolve_head
from gpunn.plan.spec import (
    CONTROL,
    EXTERNAL,
    GRADIENTS,
    PARAMETERS,
    STORAGE,
    OutputSpec,
    Plan,
    Step,
)
from gpunn.plan.update import emit_penalties, emit_update
from gpunn.specs.graph import Graph
from gpunn.specs.optimizers import Optimizer
from gpunn.specs.schedules import Constant

# Learning rates that a schedule gives for the steps ahead: as many as the host sets at once.
RATES = 1024
NORMALIZATION_EPSILON = 1e-7


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
    ArgumentError
        `frozen` names what is no layer of the graph, or a program lacks what it needs.
    PlanError
        The loss does not fit the output, or training would pass through an activation without
        a useful gradient.
    """
    if precision not in STORAGE:
        raise UnknownNameError("precision", precision, STORAGE)
    specs = tuple(outputs) or tuple(OutputSpec() for _ in graph.outputs)
    if len(specs) != len(graph.outputs):
        raise ArgumentError(f"{len(graph.outputs)} outputs need as many specs, not {len(specs)}.")
    for name in frozen:
        if name not in graph.layers:
            raise ArgumentError(
                f"frozen: the graph has no layer {name!r}; it has {', '.join(graph.layers)}."
            )
    types = tuple(input_dtypes or (STORAGE[precision],) * len(graph.inputs))
    emitter = Emitter(
        graph, batch_size, precision, specs, optimizer, types, "gradient" in programs, frozen
    )
    builder = _Programs(emitter)
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
        emitter.buffers,
        built,
        tuple(emitter.metrics.values()),
        tuple(emitter.value(emitter.unit_of[node]) for node in graph.outputs),
        emitter.initial_values(optimizer),
        tuple(dict.fromkeys(v.layer for v in graph.variables if v.layer in frozen)),
    )


class _Programs:
    """The programs of a plan, written with an `Emitter`."""

    def __init__(self, emitter: Emitter) -> None:
        self.e = emitter

    def prepare(self) -> tuple[Step, ...]:
        self.e.steps = []
        for unit in self.e.units:
            if unit.normalization:
                center, gain = self.e.statistics(unit)
                self.e.emit(
                    "normalization_statistics",
                    {
                        "mean": self.e.parameter(f"{unit.normalization}/mean"),
                        "variance": self.e.parameter(f"{unit.normalization}/variance"),
                    },
                    {"center": center, "gain": gain},
                    scale=unit.scale,
                    shift=unit.shift,
                    epsilon=NORMALIZATION_EPSILON,
                )
        return tuple(self.e.steps)

    def epoch(self) -> tuple[Step, ...]:
        self.e.buffer("order", EXTERNAL, (0,), "int64")
        seed, epoch = self.e.control("seed", "uint64"), self.e.control("epoch", "int64")
        return (Step("keyed_permutation", {"seed": seed, "epoch": epoch}, {"order": "order"}),)

    def predict(self) -> tuple[Step, ...]:
        self.e.steps = []
        Forward(self.e).run({self.e.unit_of[node] for node in self.e.graph.outputs}, training=False)
        return (*self.e.steps, self._advance())

    def evaluate(self) -> tuple[Step, ...]:
        self.e.steps = []
        self._forward_and_losses(training=False)
        return (*self.e.steps, self._advance())

    def train(self, optimizer: Optimizer) -> tuple[Step, ...]:
        self.e.steps = []
        gradients = self._forward_and_losses(training=True)
        Backward(self.e, gradients).run()
        emit_update(self.e, optimizer)
        inputs, outputs = {}, {}
        if not isinstance(optimizer.schedule, Constant):
            inputs["rates"] = self.e.buffer(f"{CONTROL}/rates", CONTROL, (RATES,))
            inputs["first_step"] = self.e.control("first_step", "int64")
            outputs["learning_rate"] = self.e.control("learning_rate", self.e.dtype)
        return (*self.e.steps, self._advance(inputs, outputs))

    def gradient_alone(self) -> tuple[Step, ...]:
        self.e.steps = []
        self.e.buffer("order", EXTERNAL, (0,), "int64")
        Backward(self.e, self._forward_and_losses(training=True)).run()
        emit_penalties(self.e)
        self.e.flat(GRADIENTS)
        self.e.flat(PARAMETERS)
        return tuple(self.e.steps)

    def _advance(
        self, inputs: Mapping[str, str] | None = None, outputs: Mapping[str, str] | None = None
    ) -> Step:
        step, offset = self.e.control("step", "int64"), self.e.control("offset", "int64")
        return Step("advance", inputs or {}, {"step": step, "offset": offset, **(outputs or {})})

    # Losses and metrics

    def _forward_and_losses(self, training: bool) -> dict[int, list[Callable[[str | None], None]]]:
        """Emit forward pass, losses and metrics.

        Returns
        -------
        dict
            For each unit that a loss reads, functions that emit the loss with its gradient
            written to a given buffer; in training the losses are emitted by these.
        """
        heads: list[Head] = []
        for number, spec in enumerate(self.e.specs):
            if spec.loss is not None or spec.metrics:
                heads.append(resolve_head(self.e, number, spec))
        if not any(head.spec.loss is not None for head in heads):
            raise ArgumentError("Training and evaluation need a loss for at least one output.")
        wanted = {unit for head in heads for unit in head.wanted}
        if training:  # moving statistics move, as in Keras, also where no loss depends on them
            wanted.update(i for i, unit in enumerate(self.e.units) if self.e.moves_statistics(unit))
        Forward(self.e).run(wanted, training)
        gradients: dict[int, list[Callable[[str | None], None]]] = {}
        for head in heads:
            head.gather_targets(training)
            if head.spec.loss is not None:
                if training:
                    gradients.setdefault(head.source, []).append(head.emit_loss)
                else:
                    head.emit_loss(None)
            head.emit_metrics()
        if not training:
            for variable in self.e.trained:
                if variable.regularizer is not None:
                    self.e.penalty("regularizer", variable, {})
        return gradients
