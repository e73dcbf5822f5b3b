"""The forward pass of every program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpunn.plan.emitter import Emitter
from gpunn.plan.spec import EXTERNAL, SCRATCH
from gpunn.plan.units import Unit
from gpunn.specs.activations import ExpressionActivation
from gpunn.specs.layers import BatchNormalization


class Forward:
    """Emits the values of units, in order."""

    def __init__(self, builder: Emitter) -> None:
        self.b = builder

    def run(self, wanted: set[int], training: bool) -> None:
        """Emit what computes the values of the units `wanted`."""
        needed = set(wanted)
        for i in reversed(range(len(self.b.units))):
            if i in needed:
                needed.update(self.b.units[i].inputs)
        input_names = dict(zip(self.b.graph.inputs, self.b.input_dtypes, strict=True))
        types = {self.b.unit_of[node]: (node, dtype) for node, dtype in input_names.items()}
        for i in sorted(needed):
            unit = self.b.units[i]
            if unit.kind == "input":
                node, dtype = types[i]
                self._gather(i, self.b.graph.nodes[node].name, dtype, training)
            else:
                VALUES[unit.kind](self, i, unit, training)

    def _gather(self, i: int, name: str, dtype: str, training: bool) -> None:
        unit = self.b.units[i]
        data = self.b.buffer(f"data/{name}", EXTERNAL, (0, unit.features), dtype)
        inputs = {"data": data, "offset": self.b.control("offset", "int64")}
        inputs |= {"order": "order"} if training else {}
        self.b.emit(
            "gather",
            inputs | self._affine_roles(unit),
            {"values": self.b.value(i)},
            scale=unit.scale,
            shift=unit.shift,
        )

    def _affine_roles(self, unit: Unit) -> dict[str, str]:
        if not unit.normalization:
            return {}
        return dict(zip(("center", "gain"), self.b.statistics(unit), strict=True))

    def _affine(self, i: int, unit: Unit, training: bool) -> None:
        self.b.emit(
            "affine",
            {"values": self.b.value(unit.inputs[0])} | self._affine_roles(unit),
            {"result": self.b.value(i)},
            scale=unit.scale,
            shift=unit.shift,
        )

    def _dense(self, i: int, unit: Unit, training: bool) -> None:
        inputs = {
            "values": self.b.value(unit.inputs[0]),
            "kernel": self.b.parameter(f"{unit.scope}/kernel"),
        }
        outputs = {"result": self.b.value(i)}
        if unit.use_bias:
            inputs["bias"] = self.b.parameter(f"{unit.scope}/bias")
        if training:
            inputs |= self.b.dropout_roles(unit)
            if unit.activation.derivative_reads == "input" and self.b.needs_gradient[i]:
                outputs["pre"] = self.b.pre_activation(unit)
        attrs = self.b.activation_attrs(unit, training)
        self.b.emit("dense", inputs, outputs, precision=self.b.precision, **attrs)

    def _activation(self, i: int, unit: Unit, training: bool) -> None:
        self.b.emit(
            "activation",
            {"values": self.b.value(unit.inputs[0])},
            {"result": self.b.value(i)},
            activation=unit.activation.name,
            parameter=unit.activation.parameter,
        )

    def _expression(self, i: int, unit: Unit, training: bool) -> None:
        assert isinstance(unit.activation, ExpressionActivation)
        self.b.emit(
            "expression",
            {"values": self.b.value(unit.inputs[0])},
            {"result": self.b.value(i)},
            function=unit.activation.name,
            expression=unit.activation.expression.code,
        )

    def _softmax(self, i: int, unit: Unit, training: bool) -> None:
        self.b.emit(
            "softmax", {"values": self.b.value(unit.inputs[0])}, {"result": self.b.value(i)}
        )

    def _prelu(self, i: int, unit: Unit, training: bool) -> None:
        alpha = self.b.parameter(f"{unit.scope}/alpha")
        inputs = {"values": self.b.value(unit.inputs[0]), "alpha": alpha}
        self.b.emit("prelu", inputs, {"result": self.b.value(i)})

    def _dropout(self, i: int, unit: Unit, training: bool) -> None:
        source, result = self.b.value(unit.inputs[0]), self.b.value(i)
        if training:
            assert unit.dropout is not None
            inputs = {"values": source} | self.b.dropout_roles(unit)
            self.b.emit("dropout", inputs, {"result": result}, stream=unit.dropout.index)
        else:
            self.b.copy(source, result, unit.features)

    def _normalization_attrs(self, unit: Unit) -> dict[str, Any]:
        assert unit.layer is not None
        return {"epsilon": unit.layer.epsilon, "slope": unit.activation.negative_slope}

    def _batch_normalization(self, i: int, unit: Unit, training: bool) -> None:
        layer, (source,) = unit.layer, unit.inputs
        assert isinstance(layer, BatchNormalization)
        inputs = {"values": self.b.value(source)} | self.b.gamma_roles(unit, "gamma", "beta")
        outputs = {"result": self.b.value(i)}
        statistics = ("mean", "variance")
        moving = {role: self.b.parameter(f"{unit.scope}/moving_{role}") for role in statistics}
        if training and self.b.moves_statistics(unit):
            outputs |= self.b.saved_statistics(unit)
            outputs |= {f"moving_{role}": buffer for role, buffer in moving.items()}
            attrs = self._normalization_attrs(unit) | {"momentum": layer.momentum}
            self.b.emit("batch_normalization", inputs, outputs, **attrs)
        else:
            inputs |= moving
            attrs = self._normalization_attrs(unit)
            self.b.emit("batch_normalization_inference", inputs, outputs, **attrs)

    def _layer_normalization(self, i: int, unit: Unit, training: bool) -> None:
        assert unit.layer is not None
        values = {"values": self.b.value(unit.inputs[0])}
        inputs = values | self.b.gamma_roles(unit, "gamma", "beta")
        saved = self.b.saved_statistics(unit) if training and self.b.needs_gradient[i] else {}
        outputs = {"result": self.b.value(i)} | saved
        self.b.emit("layer_normalization", inputs, outputs, **self._normalization_attrs(unit))

    def _elementwise(self, i: int, unit: Unit, training: bool) -> None:
        self._combine(unit.kind, unit, self.b.value(i))

    def _combine(self, op: str, unit: Unit, result: str) -> None:
        """Apply `op` to the first two inputs, then to the result and each of the others."""
        left = self.b.value(unit.inputs[0])
        for source in unit.inputs[1:]:
            inputs = {"left": left, "right": self.b.value(source)}
            self.b.emit(op, inputs, {"result": result})
            left = result

    def _average(self, i: int, unit: Unit, training: bool) -> None:
        total = self.b.batched(f"{SCRATCH}/sum/{unit.name}", SCRATCH, unit.features)
        self._combine("add", unit, total)
        result, scale = {"result": self.b.value(i)}, 1 / len(unit.inputs)
        self.b.emit("affine", {"values": total}, result, scale=scale, shift=0.0)

    def _concatenate(self, i: int, unit: Unit, training: bool) -> None:
        start = 0
        for source, columns in zip(unit.inputs, unit.columns, strict=True):
            self.b.copy(self.b.value(source), self.b.value(i), columns, result_start=start)
            start += columns


# What emits the value of a unit, by its kind; an input is gathered.
VALUES: dict[str, Callable[[Forward, int, Unit, bool], None]] = {
    "affine": Forward._affine,
    "dense": Forward._dense,
    "activation": Forward._activation,
    "expression": Forward._expression,
    "softmax": Forward._softmax,
    "prelu": Forward._prelu,
    "dropout": Forward._dropout,
    "batch_normalization": Forward._batch_normalization,
    "layer_normalization": Forward._layer_normalization,
    "add": Forward._elementwise,
    "average": Forward._average,
    "multiply": Forward._elementwise,
    "concatenate": Forward._concatenate,
}
