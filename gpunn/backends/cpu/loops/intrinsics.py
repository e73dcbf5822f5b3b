"""Memory by its address, atomic words, calls through pointers, prefetches: what numba lacks.

Words are int64 at an address that is a multiple of 8; what threads do to
them is sequentially consistent.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray
from numba.core import cgutils, types
from numba.extending import intrinsic

from gpunn.backends.cpu.loops.compile import threaded

SIZE = 4  # bytes of a float32
LINE = 64  # bytes of a cache line
_WORD = ir.IntType(64)
_ORDER = "seq_cst"


def _word_at(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _WORD.as_pointer())


def _load(typing: Any, address: Any) -> Any:
    """Return the word at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_word_at(builder, arguments[0]), _ORDER, 8)

    return types.int64(types.int64), generate


def _store(typing: Any, address: Any, value: Any) -> Any:
    """Set the word at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store_atomic(arguments[1], _word_at(builder, arguments[0]), _ORDER, 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def _fetch_add(typing: Any, address: Any, amount: Any) -> Any:
    """Add to the word at an address; return what it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", _word_at(builder, arguments[0]), arguments[1], _ORDER)

    return types.int64(types.int64, types.int64), generate


def _compare_exchange(typing: Any, address: Any, expected: Any, value: Any) -> Any:
    """Set the word at an address if it is what is expected; return whether it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _word_at(builder, arguments[0])
        return builder.extract_value(
            builder.cmpxchg(place, arguments[1], arguments[2], _ORDER, _ORDER), 1
        )

    return types.boolean(types.int64, types.int64, types.int64), generate


def _pause(typing: Any) -> Any:
    """Leave the core to its other thread for a moment, in a loop that waits for a word."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if platform.machine().lower() in ("x86_64", "amd64"):
            kind = ir.FunctionType(ir.VoidType(), ())
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), ())
        return context.get_dummy_value()

    return types.void(), generate


def _call_address(typing: Any, function: Any, job: Any, task: Any, thread: Any) -> Any:
    """Call the function at an address with three words."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_WORD] * 3)
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


def _pointer(typing: Any, address: Any) -> Any:
    """Return an address as a pointer, for `carray`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


_READ, _KEEP, _DATA = 0, 3, 1  # arguments of LLVM's llvm.prefetch


def emit_prefetch(builder: Any, line: Any) -> None:
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
        emit_prefetch(builder, line)
        return context.get_dummy_value()

    return types.void(array, row, column), generate


load: Any = intrinsic(_load)
store: Any = intrinsic(_store)
fetch_add: Any = intrinsic(_fetch_add)
compare_exchange: Any = intrinsic(_compare_exchange)
pause: Any = intrinsic(_pause)
call_address: Any = intrinsic(_call_address)
pointer: Any = intrinsic(_pointer)
prefetch: Any = intrinsic(_prefetch)


def _floats(address: int, size: int) -> Any:
    """Return float32 values as an array, contiguous, so that loops over it become vector code."""
    return carray(pointer(address), (size,), np.float32)


floats: Any = threaded(_floats)
