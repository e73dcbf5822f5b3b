"""The end of the train program: from gradients to new weights."""

from __future__ import annotations

from gpunn.errors import PlanError
from gpunn.plan.emitter import Emitter
from gpunn.plan.ops import OPS
from gpunn.plan.spec import GRADIENTS, PARAMETERS, slot_region
from gpunn.specs.optimizers import Optimizer

# Far above the subnormal numbers of the type, so that products with a learning rate are no such
# numbers either, and far below anything that could change a weight.
TINY = {"float32": 1e-30, "float64": 1e-290}


def emit_update(b: Emitter, optimizer: Optimizer) -> None:
    """Emit what follows the backward pass: penalties, clipping, optimizer, constraints."""
    if not any(v.trainable for v in b.graph.variables):
        raise PlanError("The model has no weights to train.")
    if b.trained and not b.in_place:
        _optimize(b, optimizer)
    for v in b.trained:
        if v.constraint is not None:
            attrs = dict(v.constraint.attrs)
            if "axes" in OPS[v.constraint.op].attrs:
                attrs["axes"] = len(v.shape)
            b.emit(v.constraint.op, {}, {"kernel": b.parameter(v.path)}, **attrs)


def emit_penalties(b: Emitter) -> None:
    """Add the penalties, and their gradients: one pass over the weights does both."""
    written = {name for step in b.steps for name in step.outputs.values()}
    for v in b.trained:
        if v.regularizer is not None:
            gradient = b.gradient(v.path)
            if gradient not in written:
                # No loss depends on it: without this the penalties of all steps add up.
                b.emit("clip_by_value", {}, {"gradients": gradient}, limit=0.0)
            b.penalty("regularizer_gradient", v, {"kernel_gradient": gradient})


def _optimize(b: Emitter, optimizer: Optimizer) -> None:
    """Emit penalties' gradients, clipping, and the update, flat over what lies together."""
    emit_penalties(b)
    flat = b.flat(GRADIENTS)
    if optimizer.clipvalue is not None:
        b.emit("clip_by_value", {}, {"gradients": flat}, limit=optimizer.clipvalue)
    if optimizer.clipnorm is not None:
        for v in b.trained:
            gradient = b.gradient(v.path)
            _clip(b, gradient, optimizer.clipnorm)
    if optimizer.global_clipnorm is not None:
        _clip(b, flat, optimizer.global_clipnorm)
    more = {"learning_rate": b.control("learning_rate", b.dtype)}
    if optimizer.op == "adam":
        more["step"] = b.control("step", "int64")
    for slot in optimizer.slots:
        b.flat(slot_region(slot))  # the view by which it gets its initial value
    for run in b.runs():
        outputs = {"parameters": b.flat_run(PARAMETERS, run)}
        outputs |= {slot: b.flat_run(slot_region(slot), run) for slot in optimizer.slots}
        b.emit(
            optimizer.op,
            {"gradients": b.flat_run(GRADIENTS, run), **more},
            outputs,
            weight_decay=optimizer.weight_decay or 0.0,
            **optimizer.attrs,
            **({"tiny": TINY[b.dtype]} if "tiny" in OPS[optimizer.op].attrs else {}),
        )


def _clip(b: Emitter, gradients: str, limit: float) -> None:
    axes = len(b.buffers[gradients].shape)
    b.emit("clip_by_norm", {}, {"gradients": gradients}, limit=limit, axes=axes)
