"""The op table: every kernel call a plan can make, said once.

Each entry lists the roles of the buffers it reads, overwrites and updates in place, the
constants it takes, and its floating-point operations. ``B`` is the batch, ``I`` and ``O`` are
numbers of inputs and outputs. Backends implement the ops by name; a test compares their tables
with this one.

Conventions shared by several ops:

- *dropout*: where the roles `seed`, `step` and `rate` are given, value ``i`` of the result is
  kept if word ``i`` of the stream ``attrs["stream"]`` is at least ``floor(rate * 2**32)``, and
  divided by ``1 - rate``; otherwise it is 0.
- *activation derivative*: ``attrs["activation"]`` with its ``attrs["parameter"]``, taken from
  the role `output` (or `pre`, the activation's input, where it needs that); under dropout,
  `output` is the value after dropout.
- *precision*: "tf32" and "bfloat16" round the operands of the product to that type and add up in
  float32; otherwise it is the type of the arrays.
- *bias*: the sum over the batch goes to the role `bias_gradient`, or, times ``-learning_rate``,
  into the role `bias` itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gpunn.errors import UnknownNameError
from gpunn.specs.expressions import Expression, join

Shapes = Mapping[str, tuple[int, ...]]
Attrs = Mapping[str, Any]


@dataclass(frozen=True)
class OpSpec:
    """One op: roles, constants and cost.

    Attributes
    ----------
    name : str
    formula : str
        What it computes.
    inputs, outputs, updates : tuple of str
        Roles that are read, overwritten, and read and written.
    optional : frozenset of str
        Roles that a step may leave out.
    attrs : tuple of str
        Names of the constants a step must give.
    flops : callable
        ``flops(shapes, attrs)``: operations for buffers of these shapes (role to shape).
    """

    name: str
    formula: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    updates: tuple[str, ...]
    optional: frozenset[str]
    attrs: tuple[str, ...]
    flops: Callable[[Shapes, Attrs], int]

    @property
    def roles(self) -> frozenset[str]:
        """All roles."""
        return frozenset((*self.inputs, *self.outputs, *self.updates))


OPS: dict[str, OpSpec] = {}


def op_spec(name: str) -> OpSpec:
    """Return the entry of op `name`."""
    if name not in OPS:
        raise UnknownNameError("op", name, OPS)
    return OPS[name]


def _per_value(role: str, operations: int) -> Callable[[Shapes, Attrs], int]:
    return lambda shapes, attrs: operations * math.prod(shapes[role])


def _op(
    name: str,
    formula: str,
    *,
    inputs: str = "",
    outputs: str = "",
    updates: str = "",
    attrs: str = "",
    flops: Callable[[Shapes, Attrs], int],
) -> None:
    """Add an entry; roles are words, with a ``?`` behind the optional ones."""
    roles = [text.split() for text in (inputs, outputs, updates)]
    optional = frozenset(role[:-1] for group in roles for role in group if role.endswith("?"))
    read, written, updated = (tuple(role.rstrip("?") for role in group) for group in roles)
    OPS[name] = OpSpec(name, formula, read, written, updated, optional, tuple(attrs.split()), flops)


# Data

_op(
    "keyed_permutation",
    "order = the rows 0..n-1 in the order of this seed and epoch",
    inputs="seed epoch",
    outputs="order",
    flops=lambda shapes, attrs: 0,
)
_op(
    "gather",
    "values[i] = data[order[offset + i]] * scale + shift, or (... - center) * gain by feature; "
    "without an order the rows follow one another",
    inputs="data order? offset center? gain?",
    outputs="values",
    attrs="scale shift",
    flops=_per_value("values", 2),
)
_op(
    "gather_rows",
    "values[i] = data[order[offset + i]], unchanged: targets and sample weights",
    inputs="data order? offset",
    outputs="values",
    flops=lambda shapes, attrs: 0,
)
_op(
    "normalization_statistics",
    "with s = max(sqrt(variance), epsilon): center = (mean - shift) / scale, gain = scale / s, "
    "repeated to the length of center",
    inputs="mean variance",
    outputs="center gain",
    attrs="scale shift epsilon",
    flops=_per_value("mean", 4),
)
_op(
    "affine",
    "result = values * scale + shift, or (values - center) * gain by feature",
    inputs="values center? gain?",
    outputs="result",
    attrs="scale shift",
    flops=_per_value("values", 2),
)
_op(
    "affine_gradient",
    "input_gradient = gradient * scale, or * gain by feature",
    inputs="gradient gain?",
    outputs="input_gradient",
    attrs="scale",
    flops=_per_value("gradient", 1),
)

# Dense layers


def _dense_flops(shapes: Shapes, attrs: Attrs) -> int:
    batch, outputs = shapes["result"]
    inputs = shapes["kernel"][0]
    return 2 * batch * inputs * outputs + 2 * batch * outputs


def _input_gradient_flops(shapes: Shapes, attrs: Attrs) -> int:
    batch, inputs = shapes["input_gradient"]
    return 2 * batch * inputs * shapes["kernel"][1] + 2 * batch * inputs


def _kernel_gradient_flops(shapes: Shapes, attrs: Attrs) -> int:
    batch, outputs = shapes["gradient"]
    return 2 * batch * outputs * shapes["values"][1]


_op(
    "dense",
    "result = dropout(activation(values @ kernel + bias)); pre = what activation is applied to",
    inputs="values kernel bias? seed? step? rate?",
    outputs="result pre?",
    attrs="activation parameter stream precision",
    flops=_dense_flops,
)
_op(
    "dense_input_gradient",
    "input_gradient = (gradient @ kernel.T) * derivative of the activation and dropout that made "
    "the input; bias (of the layer that made it) as in the conventions",
    inputs="gradient kernel output? pre? seed? step? rate? learning_rate?",
    outputs="input_gradient bias_gradient?",
    updates="bias?",
    attrs="activation parameter stream precision",
    flops=_input_gradient_flops,
)
_op(
    "dense_kernel_gradient",
    "kernel_gradient = values.T @ gradient",
    inputs="values gradient",
    outputs="kernel_gradient",
    attrs="precision",
    flops=_kernel_gradient_flops,
)
_op(
    "dense_kernel_update",
    "kernel -= learning_rate * values.T @ gradient",
    inputs="values gradient learning_rate",
    updates="kernel",
    attrs="precision",
    flops=_kernel_gradient_flops,
)
_op(
    "bias_gradient",
    "sum of gradient over the batch, to bias_gradient or into bias",
    inputs="gradient learning_rate?",
    outputs="bias_gradient?",
    updates="bias?",
    flops=_per_value("gradient", 1),
)

# Activations, dropout, joins

_op(
    "activation",
    "result = activation(values)",
    inputs="values",
    outputs="result",
    attrs="activation parameter",
    flops=_per_value("values", 1),
)
_op(
    "activation_gradient",
    "input_gradient = gradient * derivative of activation and dropout; bias as above",
    inputs="gradient output? pre? seed? step? rate? learning_rate?",
    outputs="input_gradient bias_gradient?",
    updates="bias?",
    attrs="activation parameter stream",
    flops=_per_value("gradient", 2),
)
_op(
    "softmax",
    "result = exp(values - max) / sum, along the last axis",
    inputs="values",
    outputs="result",
    flops=_per_value("values", 4),
)
_op(
    "softmax_gradient",
    "input_gradient = output * (gradient - sum(gradient * output))",
    inputs="gradient output",
    outputs="input_gradient",
    flops=_per_value("gradient", 4),
)
_op(
    "prelu",
    "result = max(values, 0) + alpha * min(values, 0), alpha by feature",
    inputs="values alpha",
    outputs="result",
    flops=_per_value("values", 2),
)
_op(
    "prelu_gradient",
    "input_gradient = gradient where values > 0, else gradient * alpha; alpha_gradient = sum over "
    "the batch of gradient * min(values, 0)",
    inputs="gradient values alpha",
    outputs="input_gradient? alpha_gradient",
    flops=_per_value("gradient", 4),
)
_op(
    "dropout",
    "result = values under dropout",
    inputs="values seed step rate",
    outputs="result",
    attrs="stream",
    flops=_per_value("values", 1),
)
_op(
    "dropout_gradient",
    "input_gradient = gradient under the same dropout",
    inputs="gradient seed step rate",
    outputs="input_gradient",
    attrs="stream",
    flops=_per_value("gradient", 1),
)
_op(
    "add",
    "result = left + right",
    inputs="left right",
    outputs="result",
    flops=_per_value("left", 1),
)
_op(
    "multiply",
    "result = left * right",
    inputs="left right",
    outputs="result",
    flops=_per_value("left", 1),
)
_op(
    "copy_columns",
    "result[:, result_start:][:, :columns] = source[:, source_start:][:, :columns]",
    inputs="source",
    outputs="result",
    attrs="source_start result_start columns",
    flops=lambda shapes, attrs: 0,
)
_op(
    "accumulate",
    "total += values",
    inputs="values",
    updates="total",
    flops=_per_value("values", 1),
)

# Normalization with learned scale and shift: gamma or beta left out stand for 1 and 0. Sums over
# the batch are as exact as the type: a mean may be much larger than the deviation from it. In all,
# activation(z) is z above 0 and slope * z below; its derivative is taken from `output`, and applied
# to the gradient first. Without `output` there is no activation. Moving statistics that are next to
# the subnormal numbers of their type may become 0, as moving averages of optimizers do, below.

_op(
    "batch_normalization",
    "of each column, mean and biased variance over the batch; inverse_deviation = 1 / "
    "sqrt(variance + epsilon); result = activation((values - mean) * inverse_deviation * gamma + "
    "beta); "
    "moving = moving * momentum + batch * (1 - momentum) for mean and variance",
    inputs="values gamma? beta?",
    outputs="result mean inverse_deviation",
    updates="moving_mean moving_variance",
    attrs="momentum epsilon slope",
    flops=_per_value("values", 8),
)
_op(
    "batch_normalization_inference",
    "result = activation((values - mean) / sqrt(variance + epsilon) * gamma + beta), by column",
    inputs="values mean variance gamma? beta?",
    outputs="result",
    attrs="epsilon slope",
    flops=_per_value("values", 5),
)
_op(
    "batch_normalization_gradient",
    "with n = (values - mean) * inverse_deviation, over the batch: beta_gradient = sum(gradient), "
    "gamma_gradient = sum(gradient * n), input_gradient = gamma * inverse_deviation * "
    "(gradient - (beta_gradient + n * gamma_gradient) / B)",
    inputs="values gradient mean inverse_deviation gamma? output?",
    outputs="input_gradient? gamma_gradient? beta_gradient?",
    attrs="slope",
    flops=_per_value("gradient", 11),
)
_op(
    "layer_normalization",
    "as batch_normalization, with mean and biased variance of each row",
    inputs="values gamma? beta?",
    outputs="result mean? inverse_deviation?",
    attrs="epsilon slope",
    flops=_per_value("values", 8),
)
_op(
    "layer_normalization_gradient",
    "with n = (values - mean) * inverse_deviation by row: beta_gradient = sum(gradient) and "
    "gamma_gradient = sum(gradient * n) over the batch; with g = gradient * gamma, input_gradient "
    "= inverse_deviation * (g - mean_c(g) - n * mean_c(g * n)), mean_c being a row's mean",
    inputs="values gradient mean inverse_deviation gamma? output?",
    outputs="input_gradient? gamma_gradient? beta_gradient?",
    attrs="slope",
    flops=_per_value("gradient", 13),
)

# Losses: loss_batch = sum_i weights_i * loss_i / B; loss_sum += B * loss_batch;
# gradient = loss_weight * d loss_batch / d predictions. The first step whose loss_batch is not
# finite is kept in nonfinite_step (-1 until then).

for _name, _formula, _constants, _operations in (
    (
        "softmax_cross_entropy",
        "loss_i = -sum_k t_ik * log softmax(logits_i)_k, t = target * (1 - label_smoothing) + "
        "label_smoothing / K; correct += number of rows whose largest logit is the target's class",
        "sparse loss_weight label_smoothing",
        6,
    ),
    (
        "sigmoid_cross_entropy",
        "loss_i = mean_k of max(z, 0) - z * t + log(1 + exp(-|z|)), t = target * (1 - "
        "label_smoothing) + label_smoothing / 2",
        "loss_weight label_smoothing",
        6,
    ),
    ("squared_error", "loss_i = mean_k of (p - t)**2", "loss_weight", 4),
    ("absolute_error", "loss_i = mean_k of |p - t|", "loss_weight", 3),
    (
        "huber",
        "loss_i = mean_k of e**2 / 2 if |e| <= delta else delta * (|e| - delta / 2), e = p - t",
        "loss_weight delta",
        5,
    ),
):
    _op(
        _name,
        _formula,
        inputs="predictions targets weights? step",
        outputs="loss_batch gradient?",
        updates="loss_sum nonfinite_step"
        + (" correct?" if _name == "softmax_cross_entropy" else ""),
        attrs=_constants,
        flops=_per_value("predictions", _operations),
    )

# Metrics: sum += the batch's sum (of means over the outputs, where there are several)

for _name, _formula, _constants in (
    ("categorical_accuracy", "rows whose largest prediction is the target's class", "sparse"),
    ("top_k_accuracy", "rows whose target class has fewer than k larger predictions", "sparse k"),
    ("binary_accuracy", "share of (prediction > threshold) == (target > 0.5)", "threshold"),
    ("absolute_error_sum", "mean_k of |p - t|", ""),
    ("squared_error_sum", "mean_k of (p - t)**2", ""),
):
    _op(
        _name,
        _formula,
        inputs="predictions targets",
        updates="sum",
        attrs=_constants,
        flops=_per_value("predictions", 2),
    )

# Expressions: functions of the user's, whose instructions (gpunn/expressions) are attributes. The
# name of the function is for people; losses and metrics are functions of (target, prediction).


def _expressions(role: str, *names: str, more: int = 0) -> Callable[[Shapes, Attrs], int]:
    def flops(shapes: Shapes, attrs: Attrs) -> int:
        code, _ = join(*(Expression(attrs[name]) for name in names))
        operations = sum(one[0] not in ("argument", "constant") for one in code)
        return (operations + more) * math.prod(shapes[role])

    return flops


_op(
    "expression",
    "result = expression(values)",
    inputs="values",
    outputs="result",
    attrs="function expression",
    flops=_expressions("values", "expression"),
)
_op(
    "expression_gradient",
    "input_gradient = gradient * derivative(values)",
    inputs="gradient values",
    outputs="input_gradient",
    attrs="function derivative",
    flops=_expressions("values", "derivative", more=1),
)
_op(
    "expression_loss",
    "loss_i = mean_k of expression(t, p), whose derivative with respect to p is derivative(t, p); "
    "results as of the other losses",
    inputs="predictions targets weights? step",
    outputs="loss_batch gradient?",
    updates="loss_sum nonfinite_step",
    attrs="function expression derivative loss_weight",
    flops=_expressions("predictions", "expression", "derivative", more=2),
)
_op(
    "expression_sum",
    "sum += the batch's sum of mean_k of expression(t, p)",
    inputs="predictions targets",
    updates="sum",
    attrs="function expression",
    flops=_expressions("predictions", "expression", more=1),
)

# Regularizers and clipping

_op(
    "regularizer",
    "sum += B * (l1 * sum|kernel| + l2 * sum kernel**2)",
    inputs="kernel",
    updates="sum",
    attrs="l1 l2",
    flops=_per_value("kernel", 4),
)
_op(
    "regularizer_gradient",
    "kernel_gradient += l1 * sign(kernel) + 2 * l2 * kernel; sum as in regularizer",
    inputs="kernel",
    updates="kernel_gradient sum",
    attrs="l1 l2",
    flops=_per_value("kernel", 8),
)
_op(
    "clip_by_value",
    "gradients = clip(gradients, -limit, limit)",
    updates="gradients",
    attrs="limit",
    flops=_per_value("gradients", 2),
)
_op(
    "clip_by_norm",
    "gradients *= limit / max(limit, norm of gradients), over the last `axes` axes",
    updates="gradients",
    attrs="limit axes",
    flops=_per_value("gradients", 3),
)

# Constraints, after an update

_op(
    "norm_constraint",
    "kernel *= (rate * clip(norm, minimum, maximum) + (1 - rate) * norm) / (epsilon + norm), norm "
    "over the first of the last `axes` axes",
    updates="kernel",
    attrs="minimum maximum rate epsilon axes",
    flops=_per_value("kernel", 3),
)
_op(
    "non_negative",
    "kernel = max(kernel, 0)",
    updates="kernel",
    flops=_per_value("kernel", 1),
)

# Optimizers, on all parameters at once; formulas in gpunn/specs/optimizers.py.
# parameters -= learning_rate * weight_decay * parameters comes first. A moving average smaller in
# magnitude than `tiny` becomes 0: where gradients stay 0 (the border pixels of MNIST) it would
# shrink to subnormal numbers and remain one for good, and a processor takes a hundred times as
# long for those.

for _name, _slots, _constants, _operations in (
    ("sgd", "", "", 2),
    ("momentum", "momentum", "momentum nesterov tiny", 4),
    ("adagrad", "accumulator", "epsilon", 6),
    ("rmsprop", "velocity average_gradient? momentum?", "rho momentum epsilon tiny", 8),
    ("adam", "momentum velocity velocity_hat?", "beta_1 beta_2 epsilon tiny", 12),
):
    _op(
        _name,
        "see gpunn/specs/optimizers.py",
        inputs="gradients learning_rate" + (" step" if _name == "adam" else ""),
        updates=f"parameters {_slots}".strip(),
        attrs=f"weight_decay {_constants}".strip(),
        flops=_per_value("parameters", _operations),
    )
_op(
    "advance",
    "step += 1; offset += B; learning_rate = rates[step - first_step], if there is such a rate",
    inputs="rates? first_step?",
    updates="step offset learning_rate?",
    flops=lambda shapes, attrs: 0,
)
