"""The op cases: one table that drives every check of every backend, ggml's habit.

A `Case` is one call of one op of `gpunn.plan.ops.OPS`: which roles are given, their shapes and
types, the constants, and how inputs are drawn. Nothing here knows a backend.

Inputs are fresh random values whose size is between 0.1 and 1.5, never zero, so that a value
that is skipped, or dropped by mistake, shows. Targets are legal. Where an op has a kink or a
jump, inputs stay clear of it: two right answers may differ in rounding, not in which side they
are on. Sizes are 1, primes, powers of two and one off.

Tolerance: ``|result - reference| <= atol + rtol * |reference|`` with, for a sum of K products
(`reduction`) of size `magnitude`, in a type of precision eps::

    rtol = (16 + K) * eps        atol = rtol * magnitude

A sum taken in another order differs by up to K * eps times the sum of the sizes of its terms,
in practice by the square root of K times less (Higham, Accuracy and Stability of Numerical
Algorithms, 2002, section 4.2); 16 eps are room for exp, log, sqrt and a few operations around
them, each good to 1 to 4 eps. `magnitude` takes over where terms cancel and `reference` is small.
Integers must be equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gpunn import losses, metrics, ops
from gpunn.randomness import philox
from gpunn.specs import activations

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
Arrays = dict[str, Array]
Draw = Callable[[np.random.Generator, int], Arrays]

# Roles that all models share: they have no axis of models.
SHARED = ("data",)
UNWRITTEN = -77  # what integer outputs hold before the call; floats hold NaN


@dataclass(frozen=True)
class Case:
    """One call of an op.

    Attributes
    ----------
    op, label : str
    dtype : str
        Type of parameters and activations, "float32" or "float64".
    draw : callable
        ``draw(rng, step)`` returns inputs and updated roles for one model.
    outputs : mapping of str to (shape, dtype)
        Roles that are overwritten.
    attrs : mapping
    rows : int
        Rows of the batch.
    reduction : int
        Length of the longest sum.
    magnitude : float
        Size of the terms of that sum.
    step : int, optional
        Value of the role `step`; by default drawn, so large that it needs two random words.
    """

    op: str
    label: str
    dtype: str
    draw: Draw
    outputs: Mapping[str, tuple[Shape, str]] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    rows: int = 1
    reduction: int = 1
    magnitude: float = 4.0
    step: int | None = None

    def __str__(self) -> str:
        return f"{self.op}-{self.label}-{self.dtype}"

    def make(self, rng: np.random.Generator, models: int = 1) -> Arrays:
        """Return fresh arrays for all roles; outputs hold NaN or `UNWRITTEN`.

        With several models there is a leading axis of that length, except for `SHARED` roles.
        """
        step = int(rng.integers(2**40)) if self.step is None else self.step
        drawn = [self.draw(rng, step) for _ in range(models)]
        arrays: Arrays = {}
        for role, first in drawn[0].items():
            shared = role in SHARED or models == 1
            arrays[role] = first if shared else np.stack([one[role] for one in drawn])
        axis = () if models == 1 else (models,)
        for role, (shape, dtype) in self.outputs.items():
            blank = math.nan if np.dtype(dtype).kind == "f" else UNWRITTEN
            arrays[role] = np.full((*axis, *shape), blank, dtype)
        return arrays

    def assert_close(self, role: str, result: Array, reference: Array) -> None:
        """Check one role of a result against the reference."""
        assert result.dtype == reference.dtype and result.shape == reference.shape
        if reference.dtype.kind != "f":
            np.testing.assert_array_equal(result, reference, err_msg=f"{self}: {role}")
            return
        # Sums in float64 over values in float32 are as good as the values.
        rtol = (16 + self.reduction) * float(np.finfo(self.dtype).eps)
        atol = rtol * self.magnitude
        message = f"{self}: {role}"
        np.testing.assert_allclose(result, reference, rtol=rtol, atol=atol, err_msg=message)


# Drawing


def signed(rng: np.random.Generator, shape: Shape, dtype: str) -> Array:
    """Values of either sign, between 0.1 and 1.5 in size."""
    return (rng.uniform(0.1, 1.5, shape) * rng.choice((-1.0, 1.0), shape)).astype(dtype)


def positive(rng: np.random.Generator, shape: Shape, dtype: str) -> Array:
    """Values between 0.1 and 1.5."""
    return rng.uniform(0.1, 1.5, shape).astype(dtype)


def one(value: float, dtype: str) -> Array:
    """A control value: an array of shape (1,)."""
    return np.array([value], dtype)


def _dropout_roles(rng: np.random.Generator, step: int, rate: float | None) -> Arrays:
    if rate is None:
        return {}
    seed = rng.integers(2**64, dtype=np.uint64, size=1)
    return {"seed": seed, "step": one(step, "int64"), "rate": one(rate, "float32")}


def _learning_rate(rng: np.random.Generator, dtype: str) -> Array:
    return rng.uniform(0.05, 0.5, 1).astype(dtype)


# Data

SIZES = ((1, 1), (1, 7), (2, 3), (13, 11), (32, 64), (33, 65), (31, 63))  # (batch, features)


def _keyed_permutation(dtype: str) -> Iterator[Case]:
    for n in (1, 2, 3, 7, 64, 65, 1000, 2053):

        def draw(rng: np.random.Generator, step: int) -> Arrays:
            seed = rng.integers(2**64, dtype=np.uint64, size=1)
            return {"seed": seed, "epoch": one(step % 1000, "int64")}

        yield Case("keyed_permutation", f"{n}", dtype, draw, {"order": ((n,), "int64")})


def _affine_roles(rng: np.random.Generator, features: int, dtype: str) -> Arrays:
    shape = (features,)
    return {"center": signed(rng, shape, dtype), "gain": positive(rng, shape, dtype)}


def _gather(dtype: str) -> Iterator[Case]:
    for batch, features in SIZES:
        for kind in ("uint8", dtype):
            for ordered, normalized in ((True, False), (False, False), (True, True), (False, True)):

                def draw(
                    rng: np.random.Generator,
                    step: int,
                    shape: Shape = (2 * batch + 3, features),
                    kind: str = kind,
                    ordered: bool = ordered,
                    normalized: bool = normalized,
                ) -> Arrays:
                    rows, features = shape
                    small = kind == "uint8"
                    data = rng.integers(1, 256, shape) if small else signed(rng, shape, kind)
                    arrays = {"data": data.astype(kind), "offset": one(3, "int64")}
                    if ordered:
                        arrays["order"] = rng.permutation(rows).astype(np.int64)
                    if normalized:
                        arrays |= _affine_roles(rng, features, dtype)
                    return arrays

                label = f"{kind}-{batch}x{features}" + "-order" * ordered
                yield Case(
                    "gather",
                    label + "-normalized" * normalized,
                    dtype,
                    draw,
                    {"values": ((batch, features), dtype)},
                    {"scale": 1 / 255, "shift": -0.3},
                    batch,
                    magnitude=256.0 if kind == "uint8" else 4.0,
                )


def _gather_rows(dtype: str) -> Iterator[Case]:
    for batch, *columns in (*SIZES, (1,), (13,), (32,), (33,)):
        for kind in (dtype,) if columns else (dtype, "int32"):
            for ordered in (True, False):

                def draw(
                    rng: np.random.Generator,
                    step: int,
                    shape: Shape = (batch + 5, *columns),
                    kind: str = kind,
                    ordered: bool = ordered,
                ) -> Arrays:
                    data = rng.integers(1, 1000, shape).astype(kind)
                    arrays = {"data": data, "offset": one(4, "int64")}
                    if ordered:
                        arrays["order"] = rng.permutation(shape[0]).astype(np.int64)
                    return arrays

                label = f"{kind}-{'x'.join(map(str, (batch, *columns)))}" + "-order" * ordered
                outputs = {"values": ((batch, *columns), kind)}
                yield Case("gather_rows", label, dtype, draw, outputs, rows=batch)


def _normalization_statistics(dtype: str) -> Iterator[Case]:
    for features, repeats in ((1, 1), (7, 1), (3, 5), (64, 1), (65, 2)):

        def draw(rng: np.random.Generator, step: int, features: int = features) -> Arrays:
            variance = positive(rng, (features,), dtype)
            variance[0] = 0  # a constant feature: epsilon takes over
            return {"mean": signed(rng, (features,), dtype), "variance": variance}

        result = ((features * repeats,), dtype)
        outputs = {"center": result, "gain": result}
        attrs = {"scale": 0.25, "shift": -0.5, "epsilon": 1e-7}
        yield Case("normalization_statistics", f"{features}x{repeats}", dtype, draw, outputs, attrs)


def _affine(dtype: str) -> Iterator[Case]:
    for shape in SIZES:
        for normalized in (False, True):

            def draw(
                rng: np.random.Generator,
                step: int,
                shape: Shape = shape,
                normalized: bool = normalized,
                role: str = "values",
            ) -> Arrays:
                arrays = {role: signed(rng, shape, dtype)}
                return arrays | (_affine_roles(rng, shape[1], dtype) if normalized else {})

            def draw_gradient(
                rng: np.random.Generator,
                step: int,
                shape: Shape = shape,
                normalized: bool = normalized,
            ) -> Arrays:
                arrays = {"gradient": signed(rng, shape, dtype)}
                gain = {"gain": positive(rng, (shape[1],), dtype)} if normalized else {}
                return arrays | gain

            label = f"{shape[0]}x{shape[1]}" + "-normalized" * normalized
            attrs = {"scale": 0.3, "shift": -0.7}
            out = (shape, dtype)
            yield Case("affine", label, dtype, draw, {"result": out}, attrs, shape[0])
            yield Case(
                "affine_gradient",
                label,
                dtype,
                draw_gradient,
                {"input_gradient": out},
                {"scale": 0.3},
                shape[0],
            )


# Dense layers: (batch, inputs, outputs)

DENSE_SIZES = (
    (1, 1, 1),
    (1, 784, 10),
    (2, 3, 5),
    (7, 13, 11),
    (32, 64, 16),
    (33, 65, 17),
    (31, 63, 15),
    (128, 300, 100),
    (256, 40, 24),
    (257, 65, 33),
    (2000, 12, 8),
)
SMALL = (13, 11, 7)
# Every activation with a parameter of its own; those that jump are for the forward pass only.
ACTIVATIONS = (
    ("linear", 0.0),
    ("relu", 0.0),
    ("leaky_relu", 0.2),
    ("leaky_relu", 0.01),
    ("elu", 1.0),
    ("elu", 0.6),
    ("selu", 0.0),
    ("sigmoid", 0.0),
    ("tanh", 0.0),
    ("softplus", 0.0),
    ("gelu", 0.0),
    ("silu", 0.0),
)
JUMPS = (("step", 0.0), ("sign", 0.0))
_UNCLEAR = 1e-3  # closer than this to a jump the case is drawn again


def _attrs(function: tuple[str, float], stream: int = -1, **more: Any) -> dict[str, Any]:
    return {"activation": function[0], "parameter": function[1], "stream": stream, **more}


def _name(function: tuple[str, float]) -> str:
    return function[0] + (f"{function[1]:g}" if function[1] else "")


def dense_case(
    dtype: str,
    size: tuple[int, int, int],
    function: tuple[str, float],
    *,
    bias: bool = True,
    pre: bool = False,
    rate: float | None = None,
) -> Case:
    """A case of dense, of (batch, inputs, units)."""
    batch, inputs, units = size

    def draw(rng: np.random.Generator, step: int) -> Arrays:
        while True:
            arrays = {
                "values": signed(rng, (batch, inputs), dtype),
                "kernel": signed(rng, (inputs, units), dtype),
            }
            if bias:
                arrays["bias"] = signed(rng, (units,), dtype)
            z = arrays["values"] @ arrays["kernel"] + arrays.get("bias", 0)
            if function not in JUMPS or np.abs(z).min() > _UNCLEAR:
                return arrays | _dropout_roles(rng, step, rate)

    outputs = {"result": ((batch, units), dtype)}
    if pre:
        outputs["pre"] = ((batch, units), dtype)
    label = f"{batch}x{inputs}x{units}-{_name(function)}" + "-bias" * bias + "-pre" * pre
    label += "" if rate is None else f"-dropout{rate:g}"
    stream = -1 if rate is None else 3
    keeps = 1.0 if rate is None else 1 - rate
    attrs = _attrs(function, stream, precision=dtype)
    magnitude = 4.0 / keeps
    return Case("dense", label, dtype, draw, outputs, attrs, batch, inputs + 1, magnitude=magnitude)


def _dense(dtype: str) -> Iterator[Case]:
    for size in DENSE_SIZES:
        yield dense_case(dtype, size, ("relu", 0.0))
        yield dense_case(dtype, size, ("linear", 0.0), bias=False)
    for function in (*ACTIVATIONS, *JUMPS):
        yield dense_case(dtype, SMALL, function)
        yield dense_case(dtype, SMALL, function, bias=False)
        yield dense_case(dtype, (5, 17, 9), function, rate=0.3)
    for function in (("gelu", 0.0), ("silu", 0.0), ("relu", 0.0), ("linear", 0.0)):
        yield dense_case(dtype, SMALL, function, pre=True)
        yield dense_case(dtype, SMALL, function, pre=True, bias=False, rate=0.5)
    for rate in (0.0, 0.25, 0.9):
        yield dense_case(dtype, (33, 8, 65), ("relu", 0.0), rate=rate)


def _after_dropout(values: Array, roles: Arrays, stream: int) -> Array:
    """The values as the forward pass leaves them: dropped, or divided by 1 - rate."""
    if not roles:
        return values
    stream = philox.stream_id(philox.Purpose.DROPOUT, stream)
    rate = roles["rate"][0]
    words = philox.words(int(roles["seed"][0]), int(roles["step"][0]), stream, values.size)
    kept = philox.keep(words, rate).reshape(values.shape)
    scaled = values / (1 - np.asarray(rate, values.dtype))
    return np.where(kept, scaled, 0).astype(values.dtype)


def gradient_case(
    dtype: str,
    size: tuple[int, int, int],
    function: tuple[str, float],
    *,
    product: bool,
    target: str | None = "bias_gradient",
    rate: float | None = None,
) -> Case:
    """A case of dense_input_gradient (`product`) or activation_gradient.

    Activation, dropout and bias belong to the layer that made the inputs.
    """
    batch, inputs, units = size
    name, parameter = function
    reads = activations.ActivationFunction(name).derivative_reads
    stream = -1 if rate is None else 5

    def draw(rng: np.random.Generator, step: int) -> Arrays:
        arrays = {"gradient": signed(rng, (batch, units if product else inputs), dtype)}
        if product:
            arrays["kernel"] = signed(rng, (inputs, units), dtype)
        roles = _dropout_roles(rng, step, rate)
        z = signed(rng, (batch, inputs), dtype)
        if reads == "input":
            arrays["pre"] = z
        elif name != "linear":
            output = activations.forward(name, z, parameter)
            arrays["output"] = _after_dropout(output, roles, stream)
        if target == "bias":
            arrays["bias"] = signed(rng, (inputs,), dtype)
            arrays["learning_rate"] = _learning_rate(rng, dtype)
        return arrays | roles

    outputs = {"input_gradient": ((batch, inputs), dtype)}
    if target == "bias_gradient":
        outputs[target] = ((inputs,), dtype)
    label = f"{batch}x{inputs}x{units}-{_name(function)}" + (f"-{target}" if target else "")
    label += "" if rate is None else f"-dropout{rate:g}"
    terms = units if product else 1
    return Case(
        "dense_input_gradient" if product else "activation_gradient",
        label,
        dtype,
        draw,
        outputs,
        _attrs(function, stream, **({"precision": dtype} if product else {})),
        batch,
        # The bias gradient sums over the batch what are sums over the outputs already.
        terms + batch if target else terms,
        magnitude=4.0 * math.sqrt(terms) / (1.0 if rate is None else 1 - rate),
    )


def _dense_gradients(dtype: str) -> Iterator[Case]:
    targets = ("bias_gradient", "bias", None)
    for product in (True, False):
        for size in DENSE_SIZES:
            yield gradient_case(dtype, size, ("relu", 0.0), product=product)
            yield gradient_case(dtype, size, ("linear", 0.0), product=product, target=None)
        for function in ACTIVATIONS:
            for target in targets:
                yield gradient_case(dtype, SMALL, function, product=product, target=target)
                yield gradient_case(
                    dtype, (5, 17, 9), function, product=product, target=target, rate=0.3
                )
        for rate in (0.0, 0.25, 0.9):
            size = (33, 65, 8)
            yield gradient_case(dtype, size, ("relu", 0.0), product=product, rate=rate)
            yield gradient_case(dtype, size, ("tanh", 0.0), product=product, rate=rate)


def weight_gradient_cases(
    dtype: str, sizes: Iterable[tuple[int, int, int]] = DENSE_SIZES
) -> Iterator[Case]:
    """Yield cases of dense_kernel_gradient and dense_kernel_update."""
    for batch, inputs, units in sizes:
        label = f"{batch}x{inputs}x{units}"

        def draw(
            rng: np.random.Generator,
            step: int,
            batch: int = batch,
            inputs: int = inputs,
            units: int = units,
        ) -> Arrays:
            values = signed(rng, (batch, inputs), dtype)
            return {"values": values, "gradient": signed(rng, (batch, units), dtype)}

        def draw_update(
            rng: np.random.Generator,
            step: int,
            draw: Draw = draw,
            inputs: int = inputs,
            units: int = units,
        ) -> Arrays:
            rate = _learning_rate(rng, dtype)
            kernel = signed(rng, (inputs, units), dtype)
            return draw(rng, step) | {"learning_rate": rate, "kernel": kernel}

        yield Case(
            "dense_kernel_gradient",
            label,
            dtype,
            draw,
            {"kernel_gradient": ((inputs, units), dtype)},
            {"precision": dtype},
            rows=batch,
            reduction=batch,
        )
        yield Case(
            "dense_kernel_update",
            label,
            dtype,
            draw_update,
            attrs={"precision": dtype},
            rows=batch,
            reduction=batch + 1,
        )


def _bias_gradient(dtype: str) -> Iterator[Case]:
    for batch, units in SIZES:

        def draw(
            rng: np.random.Generator, step: int, batch: int = batch, units: int = units
        ) -> Arrays:
            return {"gradient": signed(rng, (batch, units), dtype)}

        def draw_update(
            rng: np.random.Generator, step: int, draw: Draw = draw, units: int = units
        ) -> Arrays:
            rate, bias = _learning_rate(rng, dtype), signed(rng, (units,), dtype)
            return draw(rng, step) | {"learning_rate": rate, "bias": bias}

        label = f"{batch}x{units}"
        outputs = {"bias_gradient": ((units,), dtype)}
        yield Case("bias_gradient", label, dtype, draw, outputs, rows=batch, reduction=batch + 1)
        yield Case(
            "bias_gradient",
            f"{label}-in-place",
            dtype,
            draw_update,
            rows=batch,
            reduction=batch + 1,
        )


# Activations, dropout, joins


def _simple(
    op: str,
    dtype: str,
    roles: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
    label: str,
    attrs: Mapping[str, Any] | None = None,
    draw_value: Callable[[np.random.Generator, Shape, str], Array] = signed,
    rate: float | None = None,
    reduction: int = 1,
    magnitude: float = 4.0,
) -> Case:
    """A case whose inputs are all drawn alike."""

    def draw(rng: np.random.Generator, step: int) -> Arrays:
        arrays = {role: draw_value(rng, shape, dtype) for role, shape in roles.items()}
        return arrays | _dropout_roles(rng, step, rate)

    return Case(
        op,
        label,
        dtype,
        draw,
        {role: (shape, dtype) for role, shape in outputs.items()},
        attrs or {},
        next(iter(roles.values()))[0],
        reduction,
        magnitude,
    )


def _elementwise(dtype: str) -> Iterator[Case]:
    for function in (*ACTIVATIONS, *JUMPS):
        for shape in ((13, 11), (1, 1), (33, 65)):
            attrs = {"activation": function[0], "parameter": function[1]}
            label = f"{_name(function)}-{shape[0]}x{shape[1]}"
            yield _simple("activation", dtype, {"values": shape}, {"result": shape}, label, attrs)

    def large(rng: np.random.Generator, shape: Shape, dtype: str) -> Array:
        return signed(rng, shape, dtype) * np.asarray(200, dtype)

    for function in ACTIVATIONS:  # nothing overflows, nothing becomes NaN
        attrs = {"activation": function[0], "parameter": function[1]}
        roles, outputs = {"values": (7, 5)}, {"result": (7, 5)}
        label = f"{_name(function)}-large"
        yield _simple("activation", dtype, roles, outputs, label, attrs, large)
    for shape in (*SIZES, (3, 130)):
        label = f"{shape[0]}x{shape[1]}"
        columns = shape[1]
        yield _simple(
            "softmax", dtype, {"values": shape}, {"result": shape}, label, reduction=columns
        )
        yield _simple(
            "softmax_gradient",
            dtype,
            {"gradient": shape, "output": shape},
            {"input_gradient": shape},
            label,
            reduction=columns,
            magnitude=8.0,
        )
        for op in ("add", "multiply"):
            yield _simple(op, dtype, {"left": shape, "right": shape}, {"result": shape}, label)
        for rate in (0.0, 0.3, 0.5, 0.9):
            for op, role, result in (
                ("dropout", "values", "result"),
                ("dropout_gradient", "gradient", "input_gradient"),
            ):
                yield _simple(
                    op,
                    dtype,
                    {role: shape},
                    {result: shape},
                    f"{label}-{rate:g}",
                    {"stream": 2},
                    rate=rate,
                )
    yield _simple("softmax", dtype, {"values": (7, 5)}, {"result": (7, 5)}, "large", None, large)

    def edge(rng: np.random.Generator, step: int) -> Arrays:
        """A rate that one of the random words meets exactly: that value is kept."""
        while True:
            roles = _dropout_roles(rng, step, 0.5)
            stream = philox.stream_id(philox.Purpose.DROPOUT, 2)
            words = philox.words(int(roles["seed"][0]), step, stream, 33 * 65)
            met = words[(words >= 2**31) & (words % 2**8 == 0)]  # exact in float32
            if met.size:
                rate = one(float(met[0]) / 2**32, "float32")
                return roles | {"rate": rate, "values": signed(rng, (33, 65), dtype)}

    yield Case("dropout", "edge", dtype, edge, {"result": ((33, 65), dtype)}, {"stream": 2}, 33)
    for shape in ((1,), (7,), (33, 65), (64, 32), (1, 1)):
        label = "x".join(map(str, shape))
        yield _simple("accumulate", dtype, {"values": shape, "total": shape}, {}, label)
    # What lies beside the columns must stay: outputs start as NaN.
    for batch, source, result, start, end, columns in (
        (1, 1, 1, 0, 0, 1),
        (7, 5, 5, 0, 0, 5),
        (13, 11, 7, 3, 2, 4),
        (32, 64, 100, 0, 36, 64),
        (33, 65, 17, 48, 0, 17),
        (31, 16, 40, 1, 39, 1),
    ):
        yield _simple(
            "copy_columns",
            dtype,
            {"source": (batch, source)},
            {"result": (batch, result)},
            f"{batch}x{source}to{result}-{columns}",
            {"source_start": start, "result_start": end, "columns": columns},
        )


# Losses and metrics

CLASS_SIZES = ((1, 2), (7, 3), (32, 10), (33, 17), (31, 64), (5, 200), (3, 600), (1100, 10))
OUTPUT_SIZES = ((1, 1), (7, 1), (13, 5), (32, 16), (33, 65), (2801, 3))


def _class_targets(
    rng: np.random.Generator, shape: Shape, dtype: str, sparse: bool, soft: bool = False
) -> Array:
    labels = rng.integers(shape[1], size=shape[0])
    if sparse:
        return labels.astype(np.int32)
    if soft:  # weights of the classes, which need not add up to 1
        targets = rng.uniform(0.1, 0.9, shape)
        targets[np.arange(shape[0]), labels] = 1.3
        return targets.astype(dtype)
    return np.eye(shape[1], dtype=dtype)[labels]


def _losses(
    dtype: str,
    op: str,
    shape: tuple[int, int],
    label: str,
    attrs: Mapping[str, Any],
    pair: Callable[[np.random.Generator], tuple[Array, Array]],
    *,
    correct: bool = False,
    magnitude: float = 4.0,
    found: int = -1,
    all_variants: bool = True,
) -> Iterator[Case]:
    """Cases with and without sample weights and gradient."""
    batch, columns = shape
    variants = ((True, True), (False, True), (True, False), (False, False))
    for weighted, gradient in variants if all_variants else ((False, True),):

        def draw(rng: np.random.Generator, step: int, weighted: bool = weighted) -> Arrays:
            predictions, targets = pair(rng)
            arrays = {
                "predictions": predictions,
                "targets": targets,
                "step": one(step, "int64"),
                "loss_sum": rng.uniform(1, 2, 1),
                "nonfinite_step": one(found, "int64"),
            }
            if correct:
                arrays["correct"] = one(5, "float64")
            if weighted:
                arrays["weights"] = positive(rng, (batch,), dtype)
            return arrays

        outputs: dict[str, tuple[Shape, str]] = {"loss_batch": ((1,), "float64")}
        if gradient:
            outputs["gradient"] = (shape, dtype)
        name = label + "-weights" * weighted + "-gradient" * gradient + "-correct" * correct
        # loss_weight belongs to the gradient, not to the loss that is reported.
        constants = {**attrs, "loss_weight": 0.7 if weighted else 1.0}
        yield Case(op, name, dtype, draw, outputs, constants, batch, columns + batch, magnitude)


def _cross_entropies(dtype: str) -> Iterator[Case]:
    kinds = (("sparse", True, False), ("onehot", False, False), ("soft", False, True))
    for kind, sparse, soft in kinds:
        for shape in CLASS_SIZES:
            for correct in (False, True):

                def pair(
                    rng: np.random.Generator,
                    shape: tuple[int, int] = shape,
                    sparse: bool = sparse,
                    soft: bool = soft,
                ) -> tuple[Array, Array]:
                    targets = _class_targets(rng, shape, dtype, sparse, soft)
                    return 2 * signed(rng, shape, dtype), targets

                op, size = "softmax_cross_entropy", f"{shape[0]}x{shape[1]}"
                for smoothing in (0.0, 0.1):
                    label = f"{kind}-{size}" + (f"-smooth{smoothing:g}" if smoothing else "")
                    attrs = {"sparse": sparse, "label_smoothing": smoothing}
                    yield from _losses(dtype, op, shape, label, attrs, pair, correct=correct)

        def shifted(
            rng: np.random.Generator, sparse: bool = sparse, soft: bool = soft
        ) -> tuple[Array, Array]:
            # A common shift of a power of two is exact; it must cost no digits.
            logits = np.round(signed(rng, (7, 5), "float64") * 64) / 64 + 1024
            return logits.astype(dtype), _class_targets(rng, (7, 5), dtype, sparse, soft)

        def large(
            rng: np.random.Generator, sparse: bool = sparse, soft: bool = soft
        ) -> tuple[Array, Array]:
            logits = 1e4 * signed(rng, (7, 5), "float64")
            return logits.astype(dtype), _class_targets(rng, (7, 5), dtype, sparse, soft)

        def tied(
            rng: np.random.Generator, sparse: bool = sparse, soft: bool = soft
        ) -> tuple[Array, Array]:
            logits = rng.integers(1, 3, (33, 5))  # of equal ones the first counts
            return logits.astype(dtype), _class_targets(rng, (33, 5), dtype, sparse, soft)

        def broken(
            rng: np.random.Generator, sparse: bool = sparse, soft: bool = soft
        ) -> tuple[Array, Array]:
            logits = signed(rng, (7, 5), dtype)
            logits[3, 2] = math.nan
            return logits, _class_targets(rng, (7, 5), dtype, sparse, soft)

        op, attrs = "softmax_cross_entropy", {"sparse": sparse, "label_smoothing": 0.0}
        yield from _losses(dtype, op, (7, 5), f"{kind}-shifted", attrs, shifted, correct=True)
        yield from _losses(
            dtype, op, (7, 5), f"{kind}-large", attrs, large, correct=True, magnitude=1e4
        )
        yield from _losses(
            dtype, op, (33, 5), f"{kind}-ties", attrs, tied, correct=True, all_variants=False
        )
        for found in (-1, 12):  # the first bad step is kept
            label = f"{kind}-nan-found{found}"
            yield from _losses(
                dtype, op, (7, 5), label, attrs, broken, found=found, all_variants=False
            )


def _mean_losses(dtype: str) -> Iterator[Case]:
    for op, attrs in (
        ("sigmoid_cross_entropy", {"label_smoothing": 0.0}),
        ("sigmoid_cross_entropy", {"label_smoothing": 0.3}),
        ("squared_error", {}),
        ("absolute_error", {}),
        ("huber", {"delta": 1.0}),
        ("huber", {"delta": 0.4}),
    ):
        delta = attrs.get("delta", 0.0)
        smooth = "-smooth" if attrs.get("label_smoothing") else ""
        for shape in OUTPUT_SIZES:

            def pair(
                rng: np.random.Generator,
                shape: tuple[int, int] = shape,
                op: str = op,
                delta: float = delta,
            ) -> tuple[Array, Array]:
                predictions = signed(rng, shape, dtype)
                if op == "sigmoid_cross_entropy":
                    return 2 * predictions, rng.integers(2, size=shape).astype(dtype)
                error = signed(rng, shape, "float64")
                # Clear of the corner at delta; that at 0 is clear already.
                error = np.where(np.abs(np.abs(error) - delta) < 0.05, 2 * error, error)
                return predictions, (predictions - error).astype(dtype)

            label = f"{shape[0]}x{shape[1]}" + (f"-{delta:g}" if delta else "") + smooth
            yield from _losses(dtype, op, shape, label, attrs, pair)

        def broken(rng: np.random.Generator, op: str = op) -> tuple[Array, Array]:
            predictions = signed(rng, (7, 3), dtype)
            predictions[2, 1] = math.nan
            return predictions, np.ones((7, 3), dtype)

        for found in (-1, 12):
            label = f"nan-found{found}-{delta:g}" + smooth
            yield from _losses(
                dtype, op, (7, 3), label, attrs, broken, found=found, all_variants=False
            )

    def large(rng: np.random.Generator) -> tuple[Array, Array]:
        logits = 1e4 * signed(rng, (13, 5), "float64")
        return logits.astype(dtype), rng.integers(2, size=(13, 5)).astype(dtype)

    op = "sigmoid_cross_entropy"
    attrs = {"label_smoothing": 0.0}
    yield from _losses(dtype, op, (13, 5), "large", attrs, large, magnitude=1e4)

    def soft(rng: np.random.Generator) -> tuple[Array, Array]:
        return signed(rng, (13, 5), dtype), rng.uniform(0.1, 0.9, (13, 5)).astype(dtype)

    yield from _losses(dtype, op, (13, 5), "soft", attrs, soft)


def _metric(
    op: str,
    dtype: str,
    shape: tuple[int, int],
    label: str,
    attrs: Mapping[str, Any],
    pair: Callable[[np.random.Generator], tuple[Array, Array]],
) -> Case:
    def draw(rng: np.random.Generator, step: int) -> Arrays:
        predictions, targets = pair(rng)
        return {"predictions": predictions, "targets": targets, "sum": rng.uniform(1, 2, 1)}

    return Case(op, label, dtype, draw, {}, attrs, shape[0], math.prod(shape))


def _metrics(dtype: str) -> Iterator[Case]:
    for sparse in (True, False):
        for tied in (False, True):
            for shape in CLASS_SIZES:

                def pair(
                    rng: np.random.Generator,
                    shape: tuple[int, int] = shape,
                    sparse: bool = sparse,
                    tied: bool = tied,
                ) -> tuple[Array, Array]:
                    p = rng.integers(1, 4, shape) if tied else signed(rng, shape, dtype)
                    return p.astype(dtype), _class_targets(rng, shape, dtype, sparse)

                label = f"{shape[0]}x{shape[1]}-{'sparse' if sparse else 'onehot'}"
                label += "-ties" * tied
                attrs = {"sparse": sparse}
                yield _metric("categorical_accuracy", dtype, shape, label, attrs, pair)
                for k in (1, 2, 5):
                    yield _metric(
                        "top_k_accuracy", dtype, shape, f"{label}-{k}", attrs | {"k": k}, pair
                    )
    for shape in OUTPUT_SIZES:
        label = f"{shape[0]}x{shape[1]}"
        for threshold in (0.5, 0.3, 0.0):

            def binary(
                rng: np.random.Generator,
                shape: tuple[int, int] = shape,
                threshold: float = threshold,
            ) -> tuple[Array, Array]:
                p = threshold + signed(rng, shape, "float64")
                return p.astype(dtype), rng.integers(2, size=shape).astype(dtype)

            attrs = {"threshold": threshold}
            yield _metric("binary_accuracy", dtype, shape, f"{label}-{threshold}", attrs, binary)

        def values(rng: np.random.Generator, shape: tuple[int, int] = shape) -> tuple[Array, Array]:
            return signed(rng, shape, dtype), 3 + signed(rng, shape, dtype)

        yield _metric("absolute_error_sum", dtype, shape, label, {}, values)
        yield _metric("squared_error_sum", dtype, shape, label, {}, values)


# Expressions of the user's


def _bent(z: Any) -> Any:
    """All kinds of operations but those that take a slow path on GPUs (sin, cos, power)."""
    inside = ops.logical_and(z > -1.31, ops.logical_not(ops.greater_equal(z, 1.27)))
    curve = ops.where(inside | (z == 7), z**3 / 4, 0.3 * ops.log1p(ops.abs(z)))
    smooth = ops.erf(z) + ops.sigmoid(z) * ops.softplus(-z) - ops.tanh(z / 2) ** 2
    rational = ops.sqrt(1 + z * z) / (2 + ops.arctan(z)) - ops.exp(-z * z) + ops.expm1(z / 8)
    steps = ops.clip(z, -0.05, 0.04) + 0.5 * (z > 0) + 0.1 * ops.sign(z)
    return curve + smooth + rational + steps


def _log_cosh(t: Any, p: Any) -> Any:
    error = p - t
    return ops.where(
        ops.abs(error) < 0.02, error**2 / 2, error + ops.softplus(-2 * error) - math.log(2)
    )


def _relative(t: Any, p: Any) -> Any:
    return ops.mean(ops.square(t - p) / (1 + ops.abs(t)), axis=-1)


def _expressions(dtype: str) -> Iterator[Case]:
    functions = {"bent": _bent, "linear": lambda z: z, "0.7": lambda z: 0.7}
    for name, function in functions.items():
        made = activations.from_function(function, name=name)
        for shape in (*SIZES, (0, 5)):
            label = f"{name}-{shape[0]}x{shape[1]}"
            attrs = {"function": name}
            yield _simple(
                "expression",
                dtype,
                {"values": shape},
                {"result": shape},
                label,
                attrs | {"expression": made.expression.code},
            )
            yield _simple(
                "expression_gradient",
                dtype,
                {"gradient": shape, "values": shape},
                {"input_gradient": shape},
                label,
                attrs | {"derivative": made.slope.code},
            )
    for loss in (_log_cosh, _relative):
        spec = losses.from_function(loss)
        metric = metrics.from_function(loss)
        for shape in OUTPUT_SIZES:

            def pair(
                rng: np.random.Generator, shape: tuple[int, int] = shape
            ) -> tuple[Array, Array]:
                return signed(rng, shape, dtype), 3 + signed(rng, shape, dtype)

            label = f"{spec.name}-{shape[0]}x{shape[1]}"
            yield from _losses(dtype, spec.op, shape, label, spec.attrs, pair, magnitude=8.0)
            yield _metric(metric.op, dtype, shape, label, metric.attrs, pair)

        def broken(rng: np.random.Generator) -> tuple[Array, Array]:
            predictions = signed(rng, (7, 3), dtype)
            predictions[2, 1] = math.nan
            return predictions, np.ones((7, 3), dtype)

        for found in (-1, 12):
            label = f"{spec.name}-nan-found{found}"
            yield from _losses(
                *(dtype, spec.op, (7, 3), label, spec.attrs, broken),
                found=found,
                all_variants=False,
            )


# Regularizers, clipping, optimizers

FLAT_SIZES = (1, 7, 64, 65, 1000)


def _regularizers(dtype: str) -> Iterator[Case]:
    shapes: tuple[Shape, ...] = ((1, 1), (7, 11), (64, 32), (65, 33), (131, 70), (1,), (37,))
    for shape in shapes:
        for l1, l2 in ((0.01, 0.0), (0.0, 0.02), (0.01, 0.02)):
            label = f"{'x'.join(map(str, shape))}-{l1:g}-{l2:g}"
            attrs = {"l1": l1, "l2": l2}

            def draw(rng: np.random.Generator, step: int, shape: Shape = shape) -> Arrays:
                return {"kernel": signed(rng, shape, dtype), "sum": rng.uniform(1, 2, 1)}

            # `rows` is not the number of rows of any array here: the penalty counts per sample.
            size = math.prod(shape)
            yield Case("regularizer", label, dtype, draw, {}, attrs, 13, reduction=size)

            def with_gradient(rng: np.random.Generator, step: int, shape: Shape = shape) -> Arrays:
                return draw(rng, step, shape) | {"kernel_gradient": signed(rng, shape, dtype)}

            yield Case(
                *("regularizer_gradient", label, dtype, with_gradient, {}, attrs, 13),
                reduction=size,
            )


# minimum, maximum, rate of MaxNorm, UnitNorm and MinMaxNorm; the norms of the columns lie on
# either side of the bounds.
NORMS = ((0.0, 2.0, 1.0), (1.0, 1.0, 1.0), (3.0, 5.0, 0.7))


def _constraints(dtype: str) -> Iterator[Case]:
    shapes = ((1, 1), (5, 3), (8, 4), (33, 65), (64, 32), (1200, 12), (2100, 7), (13,), (3000,))
    for shape in (*shapes, (3, 4, 5)):
        label, size = "x".join(map(str, shape)), {"kernel": shape}
        for low, high, rate in NORMS:
            attrs = {"minimum": low, "maximum": high, "rate": rate, "epsilon": 1e-7}
            yield _simple(
                "norm_constraint",
                dtype,
                size,
                {},
                f"{label}-{low:g}-{high:g}-{rate:g}",
                attrs | {"axes": len(shape)},
                reduction=shape[0],
                magnitude=1.0,
            )
        yield _simple("non_negative", dtype, size, {}, label)

    def with_zeros(rng: np.random.Generator, shape: Shape, dtype: str) -> Array:
        return signed(rng, shape, dtype) * (np.arange(shape[1]) % 2).astype(dtype)

    for columns in (5, 8):  # a column of zeros has no direction, and stays
        attrs = {"minimum": 1.0, "maximum": 1.0, "rate": 1.0, "epsilon": 1e-7, "axes": 2}
        roles = {"kernel": (7, columns)}
        label = f"zeros-7x{columns}"
        yield _simple("norm_constraint", dtype, roles, {}, label, attrs, with_zeros, reduction=7)


def _prelu(dtype: str) -> Iterator[Case]:
    for shape in (*SIZES, (2000, 12), (1500, 7)):
        label, columns = f"{shape[0]}x{shape[1]}", shape[1]
        for alpha in ((columns,),) if columns % 2 else ((columns,), (2, columns // 2)):
            name = label + "-two-axes" * (len(alpha) == 2)
            roles = {"values": shape, "alpha": alpha}
            yield _simple("prelu", dtype, roles, {"result": shape}, name)
            for outputs in (
                {"input_gradient": shape, "alpha_gradient": alpha},
                {"alpha_gradient": alpha},
            ):
                yield _simple(
                    "prelu_gradient",
                    dtype,
                    {"gradient": shape, **roles},
                    outputs,
                    name + "-input" * (len(outputs) == 2),
                    reduction=shape[0],
                )


def _clips(dtype: str) -> Iterator[Case]:
    for shape in (*((n,) for n in FLAT_SIZES), (7, 11), (64, 32), (9001,)):
        label, size = "x".join(map(str, shape)), math.prod(shape)
        for limit in (0.5, 2.0):  # at work, and never reached
            yield _simple(
                "clip_by_value",
                dtype,
                {"gradients": shape},
                {},
                f"{label}-{limit:g}",
                {"limit": limit},
            )
        for limit in (0.05, 1000.0):
            attrs = {"limit": limit, "axes": len(shape)}
            yield _simple(
                "clip_by_norm",
                dtype,
                {"gradients": shape},
                {},
                f"{label}-{limit:g}",
                attrs,
                # The sum of squares is taken in float64.
                reduction=1 if dtype == "float32" else size,
                magnitude=0.1,
            )


def _optimizer_case(
    dtype: str,
    op: str,
    size: int,
    slots: tuple[str, ...],
    attrs: Mapping[str, Any],
    label: str,
    step: int | None = None,
) -> Case:
    shape = (size,)

    def draw(rng: np.random.Generator, now: int) -> Arrays:
        arrays = {
            "gradients": signed(rng, shape, dtype),
            "learning_rate": _learning_rate(rng, dtype),
            "parameters": signed(rng, shape, dtype),
        }
        if op == "adam":
            arrays["step"] = one(now, "int64")
        for slot in slots:
            mean = slot in ("momentum", "average_gradient")
            arrays[slot] = (signed if mean else positive)(rng, shape, dtype)
        if "average_gradient" in slots:
            # A variance stays clear of 0: sums of squares are at least the squared mean.
            arrays["velocity"] += arrays["average_gradient"] ** 2
        return arrays

    # m / sqrt(v) with v as small as 0.1 * (1 - 0.9): of size 10.
    label = f"{label}-{size}" + "".join(f"-{slot}" for slot in slots)
    return Case(op, label, dtype, draw, {}, attrs, magnitude=10.0, step=step)


def _optimizers(dtype: str) -> Iterator[Case]:
    tiny = 1e-30 if dtype == "float32" else 1e-290
    for size in FLAT_SIZES:
        for decay in (0.0, 0.04):
            label, common = f"decay{decay:g}", {"weight_decay": decay}
            yield _optimizer_case(dtype, "sgd", size, (), common, label)
            for nesterov in (False, True):
                attrs = common | {"momentum": 0.9, "nesterov": nesterov, "tiny": tiny}
                name = label + "-nesterov" * nesterov
                yield _optimizer_case(dtype, "momentum", size, ("momentum",), attrs, name)
            attrs = common | {"epsilon": 1e-7}
            yield _optimizer_case(dtype, "adagrad", size, ("accumulator",), attrs, label)
            attrs = common | {"rho": 0.9, "momentum": 0.8, "epsilon": 1e-7, "tiny": tiny}
            for more in (
                (),
                ("average_gradient",),
                ("momentum",),
                ("average_gradient", "momentum"),
            ):
                slots = ("velocity", *more)
                yield _optimizer_case(dtype, "rmsprop", size, slots, attrs, label)
            attrs = common | {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "tiny": tiny}
            for more in ((), ("velocity_hat",)):
                slots = ("momentum", "velocity", *more)
                for step in (0, 7, 100_000):  # bias correction at its largest, and spent
                    name = f"{label}-step{step}"
                    yield _optimizer_case(dtype, "adam", size, slots, attrs, name, step)


def _advance(dtype: str) -> Iterator[Case]:
    for rows in (1, 32, 33):

        def draw(rng: np.random.Generator, step: int) -> Arrays:
            return {"step": one(step, "int64"), "offset": one(64, "int64")}

        yield Case("advance", f"{rows}", dtype, draw, rows=rows)
    for label, first in (("first", 0), ("inside", 3), ("last", 6), ("beyond", 7), ("before", -1)):

        def draw_rate(rng: np.random.Generator, step: int, first: int = first) -> Arrays:
            return {
                "step": one(step, "int64"),
                "offset": one(64, "int64"),
                "rates": positive(rng, (7,), dtype),
                "first_step": one(step + 1 - first, "int64"),
                "learning_rate": one(2.0, dtype),
            }

        yield Case("advance", f"rate-{label}", dtype, draw_rate, rows=5)


# Short batches, and some that block rows share; rows of less and of more than a warp.
NORMALIZED_SIZES = (
    *SIZES,
    *((300, 64), (200, 13), (1030, 5), (5, 200), (3, 600), (3, 131), (700, 12), (2100, 1)),
)


def _gamma_and_beta(rng: np.random.Generator, columns: int, dtype: str, given: str) -> Arrays:
    return {role: signed(rng, (columns,), dtype) for role in given.split()}


def _normalizations(dtype: str) -> Iterator[Case]:
    for shape in NORMALIZED_SIZES:
        small = shape in ((13, 11), (32, 64))
        for given in ("gamma beta", "gamma", "beta", "") if small else ("gamma beta",):
            yield from _normalization(dtype, shape, given)
        if small:
            yield from _normalization(dtype, shape, "gamma beta", slope=0.0)
            yield from _normalization(dtype, shape, "gamma", slope=0.2)
            yield from _normalization(dtype, shape, "beta", slope=0.0)
    # Deviations of about 1 must not drown in the rounding of sums over a larger mean. The
    # reference sums in float64, so it knows the answer in float32 only.
    for shape in ((33, 65), (300, 64), (8, 200)):
        for mean in (30.0, 1e4) if dtype == "float32" else ():
            yield from _normalization(dtype, shape, "gamma beta", mean)


def _normalization(
    dtype: str, shape: tuple[int, int], given: str, mean: float = 0.0, slope: float = 1.0
) -> Iterator[Case]:
    batch, columns = shape

    def values(rng: np.random.Generator, step: int) -> Arrays:
        arrays = {"values": (mean + signed(rng, shape, "float64")).astype(dtype)}
        return arrays | _gamma_and_beta(rng, columns, dtype, given)

    def training(rng: np.random.Generator, step: int) -> Arrays:
        moving = {"moving_mean": signed(rng, (columns,), dtype)}
        return values(rng, step) | moving | {"moving_variance": positive(rng, (columns,), dtype)}

    def inference(rng: np.random.Generator, step: int) -> Arrays:
        variance = positive(rng, (columns,), dtype)
        variance[0] = 0  # a constant feature: epsilon takes over
        center = (mean + signed(rng, (columns,), "float64")).astype(dtype)
        return values(rng, step) | {"mean": center, "variance": variance}

    name = f"{batch}x{columns}-{given.replace(' ', '-') or 'plain'}" + f"-mean{mean:g}" * (mean > 0)
    name += f"-slope{slope:g}" * (slope != 1)
    out, by_column, by_row = (shape, dtype), ((columns,), dtype), ((batch,), dtype)
    constants = {"epsilon": 1e-3, "slope": slope}
    outputs = {"result": out, "mean": by_column, "inverse_deviation": by_column}
    attrs = {"momentum": 0.9, **constants}
    yield Case("batch_normalization", name, dtype, training, outputs, attrs, batch, batch)
    op, outputs = "batch_normalization_inference", {"result": out}
    yield Case(op, name, dtype, inference, outputs, constants, batch)
    outputs = outputs | {"mean": by_row, "inverse_deviation": by_row}
    op = "layer_normalization"
    yield Case(op, name + "-statistics", dtype, values, outputs, constants, batch, columns)
    yield Case(op, name, dtype, values, {"result": out}, constants, batch, columns)


def _normalization_gradients(dtype: str) -> Iterator[Case]:
    kinds = ("input_gradient", "gamma_gradient", "beta_gradient")
    some = [tuple(kinds[k] for k in range(3) if n >> k & 1) for n in range(1, 8)]
    for axis, op in enumerate(("layer_normalization", "batch_normalization")):
        for shape in NORMALIZED_SIZES:
            everything = shape in ((13, 11), (32, 64), (300, 64), (200, 13))
            for given in (True, False) if everything else (True,):
                for wanted in some if everything else (kinds,):
                    active = len(wanted) % 2 == 1

                    def draw(
                        rng: np.random.Generator,
                        step: int,
                        shape: Shape = shape,
                        given: bool = given,
                        size: Shape = (shape[axis],),
                        active: bool = active,
                    ) -> Arrays:
                        output = {"output": signed(rng, shape, dtype)} if active else {}
                        return output | {
                            "values": signed(rng, shape, dtype),
                            "gradient": signed(rng, shape, dtype),
                            "mean": signed(rng, size, dtype),
                            "inverse_deviation": positive(rng, size, dtype),
                            **_gamma_and_beta(rng, shape[1], dtype, "gamma" * given),
                        }

                    label = "-".join((f"{shape[0]}x{shape[1]}", *wanted)) + "-gamma" * given
                    attrs = {"slope": (0.2 if given else 0.0) if active else 1.0}
                    outputs = {
                        role: (shape if role == "input_gradient" else shape[1:], dtype)
                        for role in wanted
                    }
                    name, longest = f"{op}_gradient", max(shape)
                    yield Case(name, label, dtype, draw, outputs, attrs, shape[0], longest)


def _empty(dtype: str) -> Iterator[Case]:
    """Batches without rows: nothing to do, and nothing that fails."""
    shape, plain = (0, 5), {"activation": "tanh", "parameter": 0.0}
    yield _simple("affine", dtype, {"values": shape}, {"result": shape}, "empty", _SCALED)
    yield _simple("activation", dtype, {"values": shape}, {"result": shape}, "empty", plain)
    for op in ("add", "multiply"):
        yield _simple(op, dtype, {"left": shape, "right": shape}, {"result": shape}, "empty")
    yield _simple("accumulate", dtype, {"values": shape, "total": shape}, {}, "empty")
    attrs = {"stream": 2}
    yield _simple("dropout", dtype, {"values": shape}, {"result": shape}, "empty", attrs, rate=0.5)
    yield dense_case(dtype, (0, 5, 3), ("relu", 0.0))
    roles = {"values": shape, "alpha": (5,)}
    yield _simple("prelu", dtype, roles, {"result": shape}, "empty")


_SCALED = {"scale": 0.3, "shift": -0.7}

_FAMILIES = (
    _empty,
    _keyed_permutation,
    _gather,
    _gather_rows,
    _normalization_statistics,
    _affine,
    _dense,
    _dense_gradients,
    weight_gradient_cases,
    _bias_gradient,
    _elementwise,
    _cross_entropies,
    _mean_losses,
    _metrics,
    _normalizations,
    _normalization_gradients,
    _expressions,
    _regularizers,
    _constraints,
    _prelu,
    _clips,
    _optimizers,
    _advance,
)


# Op -> the operands of its matrix product.
PRODUCTS = {
    "dense": ("values", "kernel"),
    "dense_input_gradient": ("gradient", "kernel"),
    "dense_kernel_gradient": ("values", "gradient"),
    "dense_kernel_update": ("values", "gradient"),
}


def precision_cases(precision: str) -> Iterator[Case]:
    """Yield the cases of matrix products in "tf32" or "bfloat16"."""
    for family in (_dense, _dense_gradients, weight_gradient_cases):
        for case in family("float32"):
            if case.op in PRODUCTS:
                label = f"{case.label}-{precision}"
                yield replace(case, label=label, attrs={**case.attrs, "precision": precision})


def op_cases(dtype: str) -> Iterator[Case]:
    """Yield every case, with parameters and activations of `dtype`."""
    for family in _FAMILIES:
        yield from family(dtype)
