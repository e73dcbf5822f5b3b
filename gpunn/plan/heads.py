"""Losses and metrics of an output: which value they read, and the calls that compute them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpunn.errors import PlanError
from gpunn.plan.emitter import Emitter
from gpunn.plan.spec import BATCH, EXTERNAL, METRICS, MetricOutput, OutputSpec
from gpunn.specs.metrics import Accuracy, BinaryAccuracy, Metric, RootMeanSquaredError


@dataclass
class Head:
    """An output with its loss and metrics.

    Attributes
    ----------
    name : str
        Of the output.
    source : int
        Unit that the loss reads: the logits, where the loss takes in the output activation.
    final : int
        Unit of the output itself.
    classes : int
        Number of outputs.
    """

    builder: Emitter
    spec: OutputSpec
    name: str
    source: int
    final: int
    classes: int
    prefix: str

    @property
    def _from_logits(self) -> bool:
        return self.source != self.final or bool(getattr(self.spec.loss, "from_logits", False))

    def _metric(self, metric: Metric) -> Metric:
        """Resolve "accuracy" by the number of outputs, as Keras does."""
        if type(metric) is Accuracy and self.classes == 1:
            return BinaryAccuracy(name=metric.name)
        return metric

    def _unit_for(self, metric: Metric) -> int:
        """Classes and thresholds can be read off logits; errors need the output itself."""
        by_logits = metric.op in ("categorical_accuracy", "top_k_accuracy", "binary_accuracy")
        return self.source if by_logits else self.final

    @property
    def wanted(self) -> set[int]:
        """The units whose values are read."""
        units = {self._unit_for(self._metric(metric)) for metric in self.spec.metrics}
        return units | ({self.source} if self.spec.loss is not None else set())

    def _targets(self) -> str:
        columns = 0 if self.spec.sparse else self.classes
        dtype = "int32" if self.spec.sparse else ""
        return self.builder.batched(f"{BATCH}/{self.name}/targets", BATCH, columns, dtype)

    def _weights(self) -> str:
        return self.builder.batched(f"{BATCH}/{self.name}/weights", BATCH, 0)

    def gather_targets(self, training: bool) -> None:
        """Emit the gather of targets and sample weights."""
        b = self.builder
        order = {"order": "order"} if training else {}
        offset = {"offset": b.control("offset", "int64")}
        wanted = [("targets", self._targets())]
        wanted += [("weights", self._weights())] if self.spec.weighted else []
        for kind, batch in wanted:
            spec = b.buffers[batch]
            data = b.buffer(f"{kind}/{self.name}", EXTERNAL, (0, *spec.shape[1:]), spec.dtype)
            b.emit("gather_rows", {"data": data} | order | offset, {"values": batch})

    def emit_loss(self, gradient: str | None) -> None:
        """Emit the loss; with its gradient if a buffer for it is given."""
        b, loss = self.builder, self.spec.loss
        assert loss is not None
        label = f"{self.prefix}loss"
        inputs = {
            "predictions": b.value(self.source),
            "targets": self._targets(),
            "step": b.control("step", "int64"),
        }
        inputs |= {"weights": self._weights()} if self.spec.weighted else {}
        outputs = {
            "loss_batch": b.counter(f"{label}/batch"),
            "loss_sum": b.counter(label),
            "nonfinite_step": b.counter("nonfinite_step", "int64"),
        }
        outputs |= {"gradient": gradient} if gradient is not None else {}
        accuracy = self._fused_accuracy()
        if accuracy is not None:
            outputs["correct"] = self._declare(accuracy)
        attrs = {**loss.attrs, "loss_weight": self.spec.loss_weight}
        if loss.op == "softmax_cross_entropy":
            attrs["sparse"] = loss.sparse
        b.emit(loss.op, inputs, outputs, **attrs)
        b.metrics[label] = MetricOutput(label, outputs["loss_sum"], weight=self.spec.loss_weight)

    def _fused_accuracy(self) -> Metric | None:
        if self.spec.loss is None or self.spec.loss.op != "softmax_cross_entropy":
            return None
        metrics = map(self._metric, self.spec.metrics)
        return next((m for m in metrics if m.op == "categorical_accuracy"), None)

    def _declare(self, metric: Metric) -> str:
        label = f"{self.prefix}{metric.label}"
        total = self.builder.counter(label)
        root = isinstance(metric, RootMeanSquaredError)
        self.builder.metrics[label] = MetricOutput(
            label, total, root=root, higher_is_better=metric.higher_is_better
        )
        return f"{METRICS}/{label}"

    def emit_metrics(self) -> None:
        """Emit the metrics that the loss does not count by itself."""
        b, fused = self.builder, self._fused_accuracy()
        for metric in map(self._metric, self.spec.metrics):
            total = self._declare(metric)
            if metric == fused:
                continue
            attrs = dict(metric.attrs)
            if metric.op in ("categorical_accuracy", "top_k_accuracy"):
                attrs["sparse"] = self.spec.sparse
                if self.classes < 2:
                    raise PlanError(
                        f"Metric {metric.label!r} of output {self.name!r} needs at least two "
                        f"outputs; use 'binary_accuracy' for one."
                    )
            elif self.spec.sparse:
                raise PlanError(
                    f"Metric {metric.label!r} of output {self.name!r} does not work on class "
                    f"numbers; use 'accuracy', or one-hot targets and categorical_crossentropy."
                )
            if metric.op == "binary_accuracy" and self._from_logits:
                threshold = attrs["threshold"]
                attrs["threshold"] = math.log(threshold / (1 - threshold))
            inputs = {"predictions": b.value(self._unit_for(metric)), "targets": self._targets()}
            b.emit(metric.op, inputs, {"sum": total}, **attrs)


def resolve_head(builder: Emitter, number: int, spec: OutputSpec) -> Head:
    """Find which unit the loss of output `number` reads, and check that loss and output fit."""
    graph = builder.graph
    node = graph.nodes[graph.outputs[number]]
    final = builder.unit_of[graph.outputs[number]]
    unit = builder.units[final]
    source = final
    loss = spec.loss
    prefix = f"{node.name}_" if len(graph.outputs) > 1 else ""
    if loss is not None and loss.head is not None:
        kind = type(loss).__name__
        ends_so = unit.activation.name == loss.head and unit.kind in ("softmax", "activation")
        if getattr(loss, "from_logits", False):
            if ends_so or unit.activation.name == loss.head:
                raise PlanError(
                    f"{kind}(from_logits=True) takes logits, but output {node.name!r} ends with "
                    f"{loss.head}; leave out one of the two."
                )
        elif ends_so:
            source = unit.inputs[0]
        else:
            raise PlanError(
                f"{kind} takes probabilities, but output {node.name!r} does not end with "
                f"{loss.head}; give its layer activation={loss.head!r}, or the loss "
                f"from_logits=True."
            )
        if loss.head == "softmax" and unit.features < 2:
            raise PlanError(
                f"{kind} needs at least two outputs, {node.name!r} has one; for two classes with "
                f"one output use a sigmoid and BinaryCrossentropy."
            )
    return Head(builder, spec, node.name, source, final, unit.features, prefix)
