"""The backward half of the train program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from gpunn.errors import PlanError
from gpunn.plan.emitter import Emitter
from gpunn.plan.spec import SCRATCH, ZEROS
from gpunn.plan.units import Unit
from gpunn.specs.activations import ExpressionActivation, linear

Losses = dict[int, list[Callable[[str | None], None]]]


class Backward:
    """Emits losses and gradients, unit by unit in reverse.

    ``d`` is the gradient with respect to a unit's value; ``dz`` that with respect to the product
    of a dense unit, before activation and dropout.
    """

    def __init__(self, builder: Emitter, losses: Losses) -> None:
        self.b = builder
        self.units = builder.units
        self.losses = losses
        self.needs_gradient = builder.needs_gradient
        self.reached = self._reached()
        self.contributions = Counter(
            source for i in self.reached for source in self.units[i].inputs
        )
        self.contributions.update({i: len(emitters) for i, emitters in losses.items()})
        self.gradient_of: dict[int, str] = {}
        self.product_gradient: dict[int, str] = {}
        # Variables whose gradient has got a first contribution.
        self.seen: set[str] = set()

    def _reached(self) -> list[int]:
        """Return the units that a loss depends on and that need a gradient, last first."""
        reached = set(self.losses)
        for i in reversed(range(len(self.units))):
            if i in reached:
                reached.update(self.units[i].inputs)
        order = [i for i in sorted(reached, reverse=True) if self.needs_gradient[i]]
        for i in order:
            unit = self.units[i]
            if not unit.activation.trainable_through:
                layer = unit.scope or unit.name
                raise PlanError(
                    f"Layer {layer!r} uses {unit.activation.name!r}, which has no useful "
                    f"gradient, so it cannot be trained through; use sigmoid or relu, say."
                )
        return order

    def run(self) -> None:
        """Emit the whole backward pass."""
        for i, emitters in self.losses.items():
            for emit in emitters:
                if self.needs_gradient[i]:
                    self.contribute(i, emit)
                else:
                    emit(None)
        for i in self.reached:
            GRADIENTS_OF[self.units[i].kind](self, i, self.units[i])

    def _buffer(self, prefix: str, i: int) -> str:
        unit = self.units[i]
        return self.b.batched(f"{SCRATCH}/{prefix}/{unit.name}", SCRATCH, unit.features)

    def contribute(self, i: int, emit: Callable[[str], None]) -> None:
        """Add to the gradient of unit `i` what `emit` writes to the buffer it is given."""
        if i not in self.gradient_of:
            self.gradient_of[i] = self._buffer("d", i)
            emit(self.gradient_of[i])
            return
        part = self._buffer("part", i)
        emit(part)
        self._accumulate(part, self.gradient_of[i])

    def _accumulate(self, values: str, total: str) -> None:
        self.b.emit("accumulate", {"values": values}, {"total": total})

    def parameter_gradient(self, path: str) -> str:
        """Return where the next contribution to a variable's gradient goes, overwriting it."""
        if path not in self.seen:
            return self.b.gradient(path)
        shape = self.b.buffers[self.b.parameter(path)].shape
        return self.b.buffer(f"{SCRATCH}/part/{path}", SCRATCH, shape)

    def parameter_gradient_written(self, path: str) -> None:
        """Note that a contribution is where `parameter_gradient` said; later ones are added."""
        if path in self.seen:
            self._accumulate(self.parameter_gradient(path), self.b.gradient(path))
        self.seen.add(path)

    # Dense

    def _activation_roles(self, unit: Unit, value: int) -> dict[str, str]:
        roles = self.b.dropout_roles(unit)
        if unit.activation.derivative_reads == "input":
            roles["pre"] = self.b.pre_activation(unit)
        elif unit.activation.name != "linear":
            roles["output"] = self.b.value(value)
        return roles

    def _bias_roles(self, unit: Unit) -> tuple[dict[str, str], dict[str, str]]:
        """Return the inputs and outputs that take the bias gradient of `unit`."""
        path = f"{unit.scope}/bias"
        if not self._trains_bias(unit):
            return {}, {}
        if self.b.in_place:
            rate = self.b.control("learning_rate", self.b.dtype)
            return {"learning_rate": rate}, {"bias": self.b.parameter(path)}
        return {}, {"bias_gradient": self.parameter_gradient(path)}

    def _trains_bias(self, unit: Unit) -> bool:
        return unit.use_bias and unit.scope not in self.b.frozen

    def _bias_done(self, unit: Unit) -> None:
        if self._trains_bias(unit) and not self.b.in_place:
            self.parameter_gradient_written(f"{unit.scope}/bias")

    def _backward_dense(self, i: int, unit: Unit) -> None:
        if i not in self.product_gradient:
            self._product_gradient(i, unit)
        dz = self.product_gradient[i]
        (source,) = unit.inputs
        if self.needs_gradient[source]:
            self._input_gradient(unit, source, dz)
        if unit.scope in self.b.frozen:
            return
        values = {"values": self.b.value(source), "gradient": dz}
        kernel = f"{unit.scope}/kernel"
        if self.b.in_place:
            rate = {"learning_rate": self.b.control("learning_rate", self.b.dtype)}
            outputs = {"kernel": self.b.parameter(kernel)}
            self.b.emit("dense_kernel_update", values | rate, outputs, precision=self.b.precision)
        else:
            outputs = {"kernel_gradient": self.parameter_gradient(kernel)}
            self.b.emit("dense_kernel_gradient", values, outputs, precision=self.b.precision)
            self.parameter_gradient_written(kernel)

    def _product_gradient(self, i: int, unit: Unit) -> None:
        """From ``d`` to ``dz``, with the bias gradient."""
        d = self.gradient_of[i]
        more, outputs = self._bias_roles(unit)
        if unit.activation.name == "linear" and unit.dropout is None:
            self.product_gradient[i] = d
            if self._trains_bias(unit):
                self.b.emit("bias_gradient", {"gradient": d} | more, outputs)
        else:
            dz = self.product_gradient[i] = self._buffer("dz", i)
            self.b.emit(
                "activation_gradient",
                {"gradient": d} | self._activation_roles(unit, i) | more,
                {"input_gradient": dz} | outputs,
                **self.b.activation_attrs(unit),
            )
        self._bias_done(unit)

    def _input_gradient(self, unit: Unit, source: int, dz: str) -> None:
        inputs = {"gradient": dz, "kernel": self.b.parameter(f"{unit.scope}/kernel")}
        producer = self.units[source]
        if producer.kind == "dense" and self.contributions[source] == 1:
            # Nothing else adds to this gradient: activation and bias of the producer join in.
            result = self.product_gradient[source] = self._buffer("dz", source)
            more, outputs = self._bias_roles(producer)
            self.b.emit(
                "dense_input_gradient",
                inputs | self._activation_roles(producer, source) | more,
                {"input_gradient": result} | outputs,
                precision=self.b.precision,
                **self.b.activation_attrs(producer),
            )
            self._bias_done(producer)
            return

        def emit(result: str) -> None:
            attrs = {"activation": "linear", "parameter": 0.0, "stream": -1}
            attrs["precision"] = self.b.precision
            self.b.emit("dense_input_gradient", inputs, {"input_gradient": result}, **attrs)

        self.contribute(source, emit)

    # The other kinds

    def _backward_activation(self, i: int, unit: Unit) -> None:
        (source,) = unit.inputs
        roles = {"gradient": self.gradient_of[i]}
        if unit.activation.derivative_reads == "input":
            roles["pre"] = self.b.value(source)
        else:
            roles["output"] = self.b.value(i)

        def emit(result: str) -> None:
            attrs = self.b.activation_attrs(unit)
            self.b.emit("activation_gradient", roles, {"input_gradient": result}, **attrs)

        self.contribute(source, emit)

    def _backward_expression(self, i: int, unit: Unit) -> None:
        assert isinstance(unit.activation, ExpressionActivation)
        (source,) = unit.inputs
        roles = {"gradient": self.gradient_of[i], "values": self.b.value(source)}
        attrs = {"function": unit.activation.name, "derivative": unit.activation.slope.code}

        def emit(result: str) -> None:
            self.b.emit("expression_gradient", roles, {"input_gradient": result}, **attrs)

        self.contribute(source, emit)

    def _backward_softmax(self, i: int, unit: Unit) -> None:
        roles = {"gradient": self.gradient_of[i], "output": self.b.value(i)}
        self.contribute(
            unit.inputs[0],
            lambda result: self.b.emit("softmax_gradient", roles, {"input_gradient": result}),
        )

    def _backward_prelu(self, i: int, unit: Unit) -> None:
        (source,) = unit.inputs
        alpha = f"{unit.scope}/alpha"
        roles = {"gradient": self.gradient_of[i], "values": self.b.value(source)}
        roles["alpha"] = self.b.parameter(alpha)
        frozen = unit.scope in self.b.frozen
        shape = self.b.buffers[roles["alpha"]].shape
        unread = f"{SCRATCH}/unread/{alpha}"
        outputs = {
            "alpha_gradient": self.b.buffer(unread, SCRATCH, shape)
            if frozen
            else self.parameter_gradient(alpha)
        }
        if self.needs_gradient[source]:
            self.contribute(
                source,
                lambda result: self.b.emit(
                    "prelu_gradient", roles, {"input_gradient": result} | outputs
                ),
            )
        else:
            self.b.emit("prelu_gradient", roles, outputs)
        if not frozen:
            self.parameter_gradient_written(alpha)

    def _backward_dropout(self, i: int, unit: Unit) -> None:
        assert unit.dropout is not None
        stream = unit.dropout.index
        roles = {"gradient": self.gradient_of[i]} | self.b.dropout_roles(unit)

        def emit(result: str) -> None:
            self.b.emit("dropout_gradient", roles, {"input_gradient": result}, stream=stream)

        self.contribute(unit.inputs[0], emit)

    def _backward_affine(self, i: int, unit: Unit) -> None:
        roles = {"gradient": self.gradient_of[i]}
        if unit.normalization:
            roles["gain"] = self.b.statistics(unit)[1]

        def emit(result: str) -> None:
            self.b.emit("affine_gradient", roles, {"input_gradient": result}, scale=unit.scale)

        self.contribute(unit.inputs[0], emit)

    def _backward_batch_normalization(self, i: int, unit: Unit) -> None:
        if self.b.moves_statistics(unit):
            self._backward_normalization(i, unit)
            return
        # With moving statistics it is linear: the gradient is scaled as the values are.
        gradient, (source,) = self.gradient_of[i], unit.inputs
        if unit.activation.name != "linear":
            roles = {"gradient": gradient, "output": self.b.value(i)}
            gradient = self._buffer("dz", i)
            attrs = self.b.activation_attrs(unit)
            self.b.emit("activation_gradient", roles, {"input_gradient": gradient}, **attrs)
        inputs = {
            "values": gradient,
            "mean": self.b.buffer(f"{ZEROS}/{unit.features}", ZEROS, (unit.features,)),
            "variance": self.b.parameter(f"{unit.scope}/moving_variance"),
        } | self.b.gamma_roles(unit, "gamma")
        assert unit.layer is not None
        attrs = {"epsilon": unit.layer.epsilon, "slope": linear.negative_slope}

        def emit(result: str) -> None:
            self.b.emit("batch_normalization_inference", inputs, {"result": result}, **attrs)

        self.contribute(source, emit)

    def _backward_normalization(self, i: int, unit: Unit) -> None:
        assert unit.layer is not None
        (source,) = unit.inputs
        inputs = {"values": self.b.value(source), "gradient": self.gradient_of[i]}
        inputs |= self.b.saved_statistics(unit) | self.b.gamma_roles(unit, "gamma")
        if unit.activation.name != "linear":
            inputs["output"] = self.b.value(i)
        slope = unit.activation.negative_slope
        paths = {
            f"{name}_gradient": f"{unit.scope}/{name}"
            for name in self.b.gamma_roles(unit, "gamma", "beta")
            if unit.scope not in self.b.frozen
        }
        outputs = {role: self.parameter_gradient(path) for role, path in paths.items()}

        def emit(result: str | None) -> None:
            wanted = {"input_gradient": result} if result is not None else {}
            self.b.emit(f"{unit.kind}_gradient", inputs, wanted | outputs, slope=slope)

        if self.needs_gradient[source]:
            self.contribute(source, emit)
        else:
            emit(None)
        for path in paths.values():
            self.parameter_gradient_written(path)

    def _backward_add(self, i: int, unit: Unit) -> None:
        d = self.gradient_of[i]
        for source in unit.inputs:
            if not self.needs_gradient[source]:
                continue
            if self.contributions[source] == 1:
                self.gradient_of[source] = d
            elif source in self.gradient_of:
                self._accumulate(d, self.gradient_of[source])
            else:
                columns = self.units[source].features
                self.contribute(source, lambda result, n=columns: self.b.copy(d, result, n))  # type: ignore[misc]

    def _backward_average(self, i: int, unit: Unit) -> None:
        roles, scale = {"gradient": self.gradient_of[i]}, 1 / len(unit.inputs)

        def emit(result: str) -> None:
            self.b.emit("affine_gradient", roles, {"input_gradient": result}, scale=scale)

        for source in unit.inputs:
            if self.needs_gradient[source]:
                self.contribute(source, emit)

    def _backward_multiply(self, i: int, unit: Unit) -> None:
        """Of each factor: the gradient times all others."""
        for number, source in enumerate(unit.inputs):
            others = [self.b.value(s) for n, s in enumerate(unit.inputs) if n != number]

            def emit(result: str, others: list[str] = others) -> None:
                left = self.gradient_of[i]
                for right in others:
                    inputs = {"left": left, "right": right}
                    self.b.emit("multiply", inputs, {"result": result})
                    left = result

            if self.needs_gradient[source]:
                self.contribute(source, emit)

    def _backward_concatenate(self, i: int, unit: Unit) -> None:
        start, d = 0, self.gradient_of[i]
        for source, columns in zip(unit.inputs, unit.columns, strict=True):
            if self.needs_gradient[source]:
                self.contribute(
                    source,
                    lambda result, n=columns, s=start: self.b.copy(d, result, n, source_start=s),  # type: ignore[misc]
                )
            start += columns


# What emits the gradients of a unit, by its kind; those of its input and of its weights.
GRADIENTS_OF: dict[str, Callable[[Backward, int, Unit], None]] = {
    "affine": Backward._backward_affine,
    "dense": Backward._backward_dense,
    "activation": Backward._backward_activation,
    "expression": Backward._backward_expression,
    "softmax": Backward._backward_softmax,
    "prelu": Backward._backward_prelu,
    "dropout": Backward._backward_dropout,
    "batch_normalization": Backward._backward_batch_normalization,
    "layer_normalization": Backward._backward_normalization,
    "add": Backward._backward_add,
    "average": Backward._backward_average,
    "multiply": Backward._backward_multiply,
    "concatenate": Backward._backward_concatenate,
}
