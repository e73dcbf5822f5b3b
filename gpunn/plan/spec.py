"""What a plan consists of: buffers, steps, and programs made of steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from gpunn.plan.ops import OPS, op_spec
from gpunn.specs.losses import Loss
from gpunn.specs.metrics import Metric

Shape = tuple[int, ...]

# A region is one allocation. Parameters, gradients and each optimizer slot share one layout, so
# that an update is one flat call; the buffer with the region's own name is the flat view.
PARAMETERS, GRADIENTS, STATE = "parameters", "gradients", "state"
CONTROL, METRICS, BATCH, ACTIVATIONS, SCRATCH = (
    "control",
    "metrics",
    "batch",
    "activations",
    "scratch",
)
# Arrays that belong to someone else, known when the plan is bound: the data set, its order.
EXTERNAL = "external"
ZEROS = "zeros"  # never written


# Precision -> type of parameters and activations. TF32 and bfloat16 round the operands of matrix
# products, nothing else.
STORAGE = {
    "float32": "float32",
    "float64": "float64",
    "tf32": "float32",
    "bfloat16": "float32",
}


def slot_region(slot: str) -> str:
    """Return the region of an optimizer slot."""
    return f"optimizer/{slot}"


@dataclass(frozen=True)
class BufferSpec:
    """A named array.

    Attributes
    ----------
    name : str
    shape : tuple of int
        For a batched buffer the first size is the plan's batch size; for an external buffer it
        is the number of rows, given as 0 as it is not known before the plan is bound.
    dtype : str
    region : str
        The allocation it lies in.
    batched : bool
        Whether the first axis is the batch; a shorter batch uses the first rows.
    start : str
        For a flat view of several buffers: the first of them.
    """

    name: str
    shape: Shape
    dtype: str
    region: str
    batched: bool = False
    start: str = ""

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.size * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Step:
    """One kernel call: an op and the names of the buffers that take its roles.

    Attributes
    ----------
    op : str
        A name in the op table.
    inputs, outputs : mapping of str to str
        Role to buffer name; a role that the op updates in place stands under outputs.
    attrs : mapping
        Constants.
    per_row : tuple of str
        Those of them that are for a whole batch: the op gets them divided by its rows.
    """

    op: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    per_row: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("inputs", "outputs", "attrs"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    @property
    def roles(self) -> dict[str, str]:
        """All roles with their buffers."""
        return {**self.inputs, **self.outputs}

    def constants(self, rows: int) -> dict[str, Any]:
        """Return the constants for a batch of `rows` rows."""
        return {**self.attrs, **{name: self.attrs[name] / rows for name in self.per_row}}


@dataclass(frozen=True)
class MetricOutput:
    """Where a figure of the history comes from.

    Attributes
    ----------
    label : str
        Name in the history, such as ``"accuracy"`` or ``"outputs_loss"``.
    buffer : str
        Accumulated sum, float64.
    weight : float
        Factor in the total loss; 0 for metrics that are no part of it.
    root : bool
        Whether the figure is the square root of the mean.
    higher_is_better : bool
        Which way a model improves.
    """

    label: str
    buffer: str
    weight: float = 0.0
    root: bool = False
    higher_is_better: bool = False


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


@dataclass(frozen=True)
class Plan:
    """Buffers and programs for one model, one batch size and one precision.

    Attributes
    ----------
    batch_size : int
        Rows of a full batch; a shorter one runs the same steps on the first rows.
    precision : str
        Of the matrix products; it decides the type of parameters and activations (`dtype`).
    models : int
        Number of models trained at once; every buffer but the external ones has one copy each.
    buffers : mapping of str to BufferSpec
    programs : mapping of str to tuple of Step
        ``prepare`` (after weights were set), ``epoch`` (before each epoch), ``train``,
        ``evaluate`` and ``predict`` (for each batch), as far as asked for.
    metrics : tuple of MetricOutput
    outputs : tuple of str
        Buffers of the model's outputs after ``predict``.
    initial_values : mapping of str to float
        Buffers that do not start at 0.
    frozen : tuple of str
        Names of the layers whose weights are not trained.
    """

    batch_size: int
    precision: str
    models: int
    buffers: Mapping[str, BufferSpec]
    programs: Mapping[str, tuple[Step, ...]]
    metrics: tuple[MetricOutput, ...]
    outputs: tuple[str, ...]
    initial_values: Mapping[str, float] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for step in self.steps():
            check_step(step, self.buffers)

    @property
    def dtype(self) -> str:
        """Type of parameters and activations."""
        return STORAGE[self.precision]

    def steps(self) -> Iterator[Step]:
        """All steps of all programs."""
        for program in self.programs.values():
            yield from program

    @cached_property
    def regions(self) -> tuple[str, ...]:
        """Names of the regions to allocate."""
        names = dict.fromkeys(b.region for b in self.buffers.values() if b.region != EXTERNAL)
        return tuple(names)

    def flops(self, program: str) -> int:
        """Floating-point operations of one run of `program` with a full batch, for one model."""
        return sum(self.step_cost(step)[0] for step in self.programs[program])

    def bytes(self, program: str) -> int:
        """Bytes that `program` must read and write at least, call by call, for one model."""
        return sum(self.step_cost(step)[1] for step in self.programs[program])

    def step_cost(self, step: Step) -> tuple[int, int]:
        """Return (FLOPs, bytes) of one step with a full batch."""
        op = op_spec(step.op)
        buffers = {role: self.buffers[name] for role, name in step.roles.items()}
        shapes = {role: buffer.shape for role, buffer in buffers.items()}
        moved = 0
        for role, buffer in buffers.items():
            passes = 2 if role in op.updates else 1
            nbytes = buffer.nbytes
            if buffer.region == EXTERNAL:  # as many rows as the batch has
                row = math.prod(buffer.shape[1:]) * np.dtype(buffer.dtype).itemsize
                nbytes = self.batch_size * row
            moved += passes * nbytes
        return op.flops(shapes, step.attrs), moved

    def describe(self) -> str:
        """Return a table of every kernel call with its shape, FLOPs and bytes."""
        lines = [
            f"batch size {self.batch_size}, {self.precision}"
            + (f", {self.models} models" if self.models > 1 else "")
            + (f", not trained: {', '.join(self.frozen)}" if self.frozen else "")
        ]
        for program, steps in self.programs.items():
            if not steps:
                continue
            lines += ["", f"{program} ({len(steps)} calls)"]
            lines.append(
                f"  {'#':>2}  {'op':<34}{'result':<40}{'shape':<14}{'FLOP':>13}{'bytes':>13}"
            )
            for number, step in enumerate(steps, 1):
                name = next(iter(step.outputs.values()))
                flops, moved = self.step_cost(step)
                shape = "x".join(map(str, self.buffers[name].shape))
                label = step.op
                if step.attrs.get("activation", "linear") != "linear":
                    label += f" ({step.attrs['activation']})"
                if "function" in step.attrs:
                    label += f" ({step.attrs['function']})"
                lines.append(
                    f"  {number:>2}  {label:<34}{name:<40}{shape:<14}{flops:>13,}{moved:>13,}"
                )
            lines.append(f"  {'total':<90}{self.flops(program):>15,}{self.bytes(program):>13,}")
        return "\n".join(lines)


def check_step(step: Step, buffers: Mapping[str, BufferSpec]) -> None:
    """Check a step against the op table: op, roles, attributes and buffers exist."""
    from gpunn.errors import PlanError

    op = op_spec(step.op)
    for role, name in step.roles.items():
        if role not in op.roles:
            raise PlanError(f"Op {op.name!r} has no role {role!r}; it has {sorted(op.roles)}.")
        if name not in buffers:
            raise PlanError(f"Op {op.name!r} names an unknown buffer {name!r} as its {role}.")
    for role in op.inputs:
        if role not in op.optional and role not in step.inputs:
            raise PlanError(f"Op {op.name!r} lacks its input {role!r}.")
    for role in (*op.outputs, *op.updates):
        if role not in op.optional and role not in step.outputs:
            raise PlanError(f"Op {op.name!r} lacks its output {role!r}.")
    missing, unknown = set(op.attrs) - set(step.attrs), set(step.attrs) - set(op.attrs)
    if missing:
        raise PlanError(f"Op {op.name!r} lacks the attributes {sorted(missing)}.")
    if unknown:
        raise PlanError(f"Op {op.name!r} takes no attributes {sorted(unknown)}.")


__all__ = ["OPS", "BufferSpec", "MetricOutput", "Plan", "Step", "check_step", "slot_region"]
