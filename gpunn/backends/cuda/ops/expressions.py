"""Launches of expressions: kernels whose formula comes with the macro GPUNN_BODY."""

from __future__ import annotations

from gpunn.backends.cuda.ops.launches import (
    Context,
    LaunchBuilder,
    Work,
    elementwise,
    int64,
    kernel_source,
)
from gpunn.backends.cuda.ops.losses import loss_of_values, metric
from gpunn.backends.interface import Arrays, Attrs
from gpunn.specs.expressions import Expression, join
from gpunn.specs.expressions.expression import result_kind

EXPRESSION = "expression.cu"
LOSSES = "expression_losses.cu"
_SIGNS = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
    "logical_and": "&&",
    "logical_or": "||",
}
# What goes by another name in CUDA or in kernels/expressions.cuh.
_FUNCTIONS = {"absolute": "fabs", "power": "pow", "maximum": "larger", "minimum": "smaller"}
_FUNCTIONS |= {"sign": "sign_of", "arctan": "atan"}


def body(*expressions: Expression) -> str:
    """Return C++ statements that compute expressions of ``x0`` and ``x1`` into ``y0`` and ``y1``.

    One constant or variable for each instruction, with nothing in them but the names of the
    closed set of operations and numbers.
    """
    code, results = join(*expressions)
    statements = []
    for at, instruction in enumerate(code):
        name, *operands = instruction
        x = [f"v{i}" for i in operands]
        if name == "argument":
            text = f"x{operands[0]}"
        elif name == "constant":
            text = f"real({float(operands[0])!r})"  # rounded once, as by NumPy
        elif name in _SIGNS:
            text = f"{x[0]}{_SIGNS[name]}{x[1]}"
        elif name == "where":
            text = f"{x[0]}?{x[1]}:{x[2]}"
        elif name == "negative":
            text = f"-{x[0]}"
        elif name == "logical_not":
            text = f"!{x[0]}"
        elif name == "square":
            text = f"{x[0]}*{x[0]}"
        elif name == "reciprocal":
            text = f"real(1)/{x[0]}"
        elif name == "cast":
            text = f"real({x[0]})"
        else:
            text = f"{_FUNCTIONS.get(name, name)}({','.join(x)})"
        kind = "real" if result_kind(instruction) == "r" else "bool"
        statements.append(f"const {kind} v{at}={text};")
    statements += [f"y{number}=v{at};" for number, at in enumerate(results)]
    return "".join(statements)


def expression(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    values = a["values"]
    define = f"GPUNN_BODY={body(Expression(attrs['expression']))}"
    arguments = (values, a["result"], int64(values.size))
    return elementwise(context, EXPRESSION, "expression", arguments, values, define)


def expression_gradient(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    values = a["values"]
    define = f"GPUNN_BODY={body(Expression(attrs['derivative']))}"
    arguments = (a["gradient"], values, a["input_gradient"], int64(values.size))
    return elementwise(context, EXPRESSION, "expression_gradient", arguments, values, define)


def expression_loss(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    both = body(Expression(attrs["expression"]), Expression(attrs["derivative"]))
    source = kernel_source(LOSSES, a["predictions"].dtype, f"GPUNN_BODY={both}")
    return loss_of_values(context, a, attrs, (source, "expression_loss"), largest=256)


def expression_sum(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    define = f"GPUNN_BODY={body(Expression(attrs['expression']))}"
    kernel = kernel_source(LOSSES, a["predictions"].dtype, define), "expression_sum"
    return metric(context, a, (a["targets"],), kernel, "expression_sum_finish", largest=256)


OPERATIONS: dict[str, LaunchBuilder] = {
    "expression": expression,
    "expression_gradient": expression_gradient,
    "expression_loss": expression_loss,
    "expression_sum": expression_sum,
}
