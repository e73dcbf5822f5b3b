"""Memory by its address, words that threads share without a lock, calls through pointers.

numba has none of these. Words are int64 at an address that is a multiple of 8; what threads do to
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


def _increase(typing: Any, address: Any, amount: Any) -> Any:
    """Add to the word at an address; return what it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", _word_at(builder, arguments[0]), arguments[1], _ORDER)

    return types.int64(types.int64, types.int64), generate


def _replace(typing: Any, address: Any, expected: Any, value: Any) -> Any:
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


def _perform(typing: Any, function: Any, job: Any, task: Any, thread: Any) -> Any:
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


load: Any = intrinsic(_load)
store: Any = intrinsic(_store)
increase: Any = intrinsic(_increase)
replace: Any = intrinsic(_replace)
pause: Any = intrinsic(_pause)
perform: Any = intrinsic(_perform)
pointer: Any = intrinsic(_pointer)


def _floats(address: int, size: int) -> Any:
    """Return float32 values as an array, contiguous, so that loops over it become vector code."""
    return carray(pointer(address), (size,), np.float32)


floats: Any = threaded(_floats)
