"""A prefetch for compiled loops: numba has none of its own."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_READ, _KEEP, _DATA = 0, 3, 1  # arguments of LLVM's llvm.prefetch


def ask(builder: Any, line: Any) -> None:
    """Write the instruction that asks for the cache line of a pointer to a byte."""
    word = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), (line.type, word, word, word))
    function = builder.module.declare_intrinsic("llvm.prefetch", (line.type,), kind)
    builder.call(function, (line, *(ir.Constant(word, n) for n in (_READ, _KEEP, _DATA))))


def _prefetch(typing: Any, array: Any, row: Any, column: Any) -> Any:
    """Ask for the cache line of ``array[row, column]``, of a C-contiguous array, and go on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_type, *index_types = signature.args
        values = context.make_array(array_type)(context, builder, arguments[0])
        indices = [
            context.cast(builder, index, index_type, types.intp)
            for index, index_type in zip(arguments[1:], index_types, strict=True)
        ]
        pointer = cgutils.get_item_pointer(
            context, builder, array_type, values, indices, wraparound=False, boundscheck=False
        )
        line = builder.bitcast(pointer, ir.IntType(8).as_pointer())
        ask(builder, line)
        return context.get_dummy_value()

    return types.void(array, row, column), generate


prefetch: Any = intrinsic(_prefetch)
