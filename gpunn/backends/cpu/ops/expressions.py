"""Expressions on the CPU: calls of NumPy's functions, block after block.

A block is so small that its intermediate results stay in the processor's cache. They share a few
arrays, which are taken when the op is bound; a call allocates nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from gpunn.backends.cpu.loops import activations, losses
from gpunn.backends.cpu.ops.calls import optional, sequence
from gpunn.backends.interface import Arrays, Attrs, Binder, Call
from gpunn.specs.expressions import Expression, join
from gpunn.specs.expressions.expression import Code, result_kind

Array = np.ndarray[Any, Any]
BLOCK = 4096  # values; eight arrays of them in float32 are 128 KiB
# What is NumPy's own function of the same operands.
_UFUNCS: dict[str, Callable[..., Any]] = {
    name: getattr(np, name)
    for name in (
        *("negative", "absolute", "sign", "square", "sqrt", "exp", "expm1", "log", "log1p", "sin"),
        *("cos", "sinh", "cosh", "tanh", "arctan", "floor", "reciprocal", "add", "subtract"),
        *("multiply", "divide", "power", "maximum", "minimum", "less", "less_equal", "greater"),
        *("greater_equal", "equal", "not_equal", "logical_and", "logical_or", "logical_not"),
    )
}


def _lowered(name: str, x: Sequence[Any], y: Array, scratch: Array) -> list[Call]:
    """Return the calls for ``y = operation(*x)``; operands may be arrays of shape ()."""
    if name in _UFUNCS:
        return [partial(_UFUNCS[name], *x, out=y)]
    if name == "cast":
        return [partial(np.copyto, y, x[0])]
    if name == "where":
        return [partial(np.copyto, y, x[2]), partial(np.copyto, y, x[1], where=x[0])]
    if name == "erf":
        return [partial(activations.erf, x[0], y)]
    exponential = [
        partial(np.absolute, x[0], out=scratch),
        partial(np.negative, scratch, out=scratch),
        partial(np.exp, scratch, out=scratch),
    ]
    if name == "sigmoid":
        return [*exponential, partial(activations.finish_sigmoid, y, x[0], scratch, False)]
    assert name == "softplus", name
    return [
        *exponential,
        partial(np.log1p, scratch, out=scratch),
        partial(np.maximum, x[0], x[0].dtype.type(0), out=y),
        partial(np.add, y, scratch, out=y),
    ]


def _last_uses(code: Code, results: Sequence[int]) -> dict[int, int]:
    """Return after which instruction each value is needed no more."""
    last = {}
    for at, (name, *operands) in enumerate(code):
        if name not in ("argument", "constant"):
            last.update(dict.fromkeys(operands, at))
    return last | dict.fromkeys(results, len(code))


class _Registers:
    """Arrays for intermediate results, used again when their values are needed no more."""

    def __init__(self, size: int, dtype: Any) -> None:
        self.size, self.dtype = size, dtype
        self.arrays: dict[str, list[Array]] = {"r": [], "b": []}

    def take(self, kind: str, number: int) -> Array:
        arrays = self.arrays[kind]
        while len(arrays) <= number:
            arrays.append(np.empty(self.size, self.dtype if kind == "r" else np.bool_))
        return arrays[number]


def _block(
    code: Code,
    results: Sequence[int],
    inputs: Sequence[Array],
    outputs: Sequence[Array],
    registers: _Registers,
) -> list[Call]:
    """Return the calls for one block, of flat arrays of one size."""
    size, dtype = outputs[0].size, outputs[0].dtype
    last, calls = _last_uses(code, results), list[Call]()
    values: list[Any] = []
    free: dict[str, list[int]] = {"r": [], "b": []}
    taken: dict[int, tuple[str, int]] = {}
    used = {"r": 1, "b": 0}  # the first is scratch
    scratch = registers.take("r", 0)[:size]
    target = dict(zip(results, outputs, strict=True))
    for at, instruction in enumerate(code):
        name, *operands = instruction
        if name == "argument":
            values.append(inputs[operands[0]])
        elif name == "constant":
            values.append(np.array(operands[0], dtype))
        else:
            if at in target:
                y = target[at]
            else:
                kind = result_kind(instruction)
                number = free[kind].pop() if free[kind] else used[kind]
                used[kind] = max(used[kind], number + 1)
                taken[at] = kind, number
                y = registers.take(kind, number)[:size]
            values.append(y)
            calls += _lowered(name, [values[i] for i in operands], y, scratch)
        # Only now: what an operation writes is never what it reads.
        for operand in set(operands if name not in ("argument", "constant") else ()):
            if last[operand] == at and operand in taken:
                kind, number = taken[operand]
                free[kind].append(number)
    for at, output in zip(results, outputs, strict=True):
        if values[at] is not output:
            calls.append(partial(np.copyto, output, values[at]))
    return calls


def _program(
    expressions: Sequence[Expression], inputs: Sequence[Any], outputs: Sequence[Any]
) -> Call:
    """Return a call that evaluates expressions of the inputs, all of one shape."""
    code, results = join(*expressions)
    ins = [array.reshape(-1) for array in inputs]
    outs = [array.reshape(-1) for array in outputs]
    registers = _Registers(min(BLOCK, outs[0].size), outs[0].dtype)
    calls: list[Call] = []
    for start in range(0, outs[0].size, BLOCK):
        part = slice(start, start + BLOCK)
        blocks = ([array[part] for array in ins], [array[part] for array in outs])
        calls += _block(code, results, *blocks, registers)

    def call() -> None:
        # A branch that is not taken may overflow; a loss that does is found by the loop.
        with np.errstate(all="ignore"):
            for one in calls:
                one()

    return call


def expression(a: Arrays, attrs: Attrs, rows: int) -> Call:
    return _program([Expression(attrs["expression"])], [a["values"]], [a["result"]])


def expression_gradient(a: Arrays, attrs: Attrs, rows: int) -> Call:
    result = a["input_gradient"]
    slopes = _program([Expression(attrs["derivative"])], [a["values"]], [result])
    return sequence(slopes, partial(np.multiply, result, a["gradient"], out=result))


def expression_loss(a: Arrays, attrs: Attrs, rows: int) -> Call:
    p = a["predictions"]
    values, gradient = np.empty_like(p), a.get("gradient")
    wanted, outputs = [Expression(attrs["expression"])], [values]
    if gradient is not None:
        wanted.append(Expression(attrs["derivative"]))
        outputs.append(gradient)
    scale = p.dtype.type(attrs["loss_weight"] / rows)
    finish = partial(
        losses.finish_loss,
        values,
        optional(a, "weights", p.dtype),
        scale,
        optional(a, "gradient", p.dtype, 2),
        *(a["step"], a["loss_batch"], a["loss_sum"], a["nonfinite_step"]),
    )
    return sequence(_program(wanted, [a["targets"], p], outputs), finish)


def expression_sum(a: Arrays, attrs: Attrs, rows: int) -> Call:
    values = np.empty_like(a["predictions"])
    inputs = [a["targets"], a["predictions"]]
    program = _program([Expression(attrs["expression"])], inputs, [values])
    return sequence(program, partial(losses.mean_sum, values, a["sum"]))


OPERATIONS: dict[str, Binder] = {
    "expression": expression,
    "expression_gradient": expression_gradient,
    "expression_loss": expression_loss,
    "expression_sum": expression_sum,
}
