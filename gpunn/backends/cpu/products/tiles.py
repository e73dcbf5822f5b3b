"""Tiles of a matrix product that stay in registers: vector code that numba cannot write itself.

A tile is `height` rows by one or two vectors of columns of ``out (+)= alpha * a @ b``. Each step
along the sum loads one row of `b` (two vectors) and multiplies it by `height` single values of
`a`; nothing is packed beforehand, which at small sizes is where a BLAS spends its time. Addresses
and strides are in bytes, so `a` may lie in memory by rows or by columns.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import config
from numba.core import cgutils, codegen, types
from numba.extending import intrinsic

from gpunn.backends.cpu.loops.intrinsics import SIZE, emit_prefetch

# Columns of a tile are whole vectors: what is left of the last one is masked.
VECTORS = 2


def _features() -> frozenset[str]:
    """Return the extensions that numba compiles for."""
    names = config.CPU_FEATURES  # type: ignore[attr-defined]
    if names is None:
        names = codegen.get_host_cpu_features()
    return frozenset(name[1:] for name in names.split(",") if name.startswith("+"))


FEATURES = _features()
# float32 values of a vector; 0 where there are no vectors to speak of or no fused multiply-add.
LANES = 16 if "avx512f" in FEATURES else 8 if {"avx2", "fma"} <= FEATURES else 0
# Heights so that accumulators, a row of `b` and a value of `a` fill the registers, and smaller
# ones, so that the last tile of a product repeats few rows.
HEIGHTS = (13, 11, 8, 4, 1) if LANES == 16 else (6, 5, 4, 1)
COLUMNS = VECTORS * LANES

_BYTE, _INT32, _INT64, _FLOAT = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)
_INDICES = ir.VectorType(_INT32, LANES)
# Rows of `b` lie too far apart for the processor to foresee the next one, so it is asked for.
_AHEAD = 8
_ROWS_PER_POINTER = 3  # a processor adds once, twice, four times a stride within an address


def _word(value: int) -> ir.Constant:
    return ir.Constant(_INT64, value)


def _splat(builder: Any, value: Any, kind: Any) -> Any:
    """Return a vector of type `kind` with `value` in every place."""
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_INDICES, [0] * LANES))


class _Vectors:
    """The vector instructions of a function, with a mask for each vector of a row."""

    def __init__(self, builder: Any, columns: Any, vectors: int) -> None:
        self.builder = builder
        self.zero = ir.Constant(_VECTOR, [0.0] * LANES)
        pointer = _VECTOR.as_pointer()
        suffix = f"v{LANES}f32"

        def declared(name: str, result: Any, *arguments: Any) -> Any:
            kind = ir.FunctionType(result, arguments)
            return cgutils.get_or_insert_function(builder.module, kind, name)

        self._load = declared(
            f"llvm.masked.load.{suffix}.p0", _VECTOR, pointer, _INT32, _MASK, _VECTOR
        )
        self._store = declared(
            f"llvm.masked.store.{suffix}.p0", ir.VoidType(), _VECTOR, pointer, _INT32, _MASK
        )
        self._fma = declared(f"llvm.fma.{suffix}", _VECTOR, _VECTOR, _VECTOR, _VECTOR)
        places = ir.Constant(_INDICES, list(range(LANES)))
        count = builder.trunc(columns, _INT32)
        self.masks = []
        for j in range(vectors):
            left = builder.sub(count, ir.Constant(_INT32, j * LANES))
            self.masks.append(builder.icmp_signed("<", places, _splat(builder, left, _INDICES)))

    def _address(self, row: Any, vector: int) -> Any:
        base = self.builder.inttoptr(row, _BYTE.as_pointer())
        place = self.builder.gep(base, [_word(vector * LANES * SIZE)])
        return self.builder.bitcast(place, _VECTOR.as_pointer())

    def load(self, row: Any, vector: int, mask: Any) -> Any:
        arguments = self._address(row, vector), ir.Constant(_INT32, SIZE), mask, self.zero
        return self.builder.call(self._load, arguments)

    def store(self, value: Any, row: Any, vector: int) -> None:
        place = self._address(row, vector), ir.Constant(_INT32, SIZE)
        self.builder.call(self._store, (value, *place, self.masks[vector]))

    def multiply_add(self, left: Any, right: Any, addend: Any) -> Any:
        return self.builder.call(self._fma, (left, right, addend))


def _sums(
    builder: Any, vector: _Vectors, height: int, a: Any, strides: Any, b: Any, depth: Any
) -> list[list[Any]]:
    """Write the loop along the sum; return the sums, a list of vectors for each row."""
    a_row, a_step, b_row = strides
    pointer = _BYTE.as_pointer()
    before, function = builder.block, builder.function
    loop, after = (function.append_basic_block(name) for name in ("sum", "summed"))
    starts = [
        builder.add(a, builder.mul(a_row, _word(first)))
        for first in range(0, height, _ROWS_PER_POINTER)
    ]
    offsets = [builder.mul(a_row, _word(i)) for i in range(_ROWS_PER_POINTER)]
    builder.cbranch(builder.icmp_signed(">", depth, _word(0)), loop, after)

    builder.position_at_end(loop)
    step, b_at, *a_at = (builder.phi(_INT64) for _ in range(2 + len(starts)))
    count = len(vector.masks)
    totals = [[builder.phi(_VECTOR) for _ in range(count)] for _ in range(height)]
    far = builder.inttoptr(builder.add(b_at, builder.mul(b_row, _word(_AHEAD))), pointer)
    for j in range(count):
        emit_prefetch(builder, builder.gep(far, [_word(j * LANES * SIZE)]))
    row_of_b = [vector.load(b_at, j, mask) for j, mask in enumerate(vector.masks)]
    moved = []
    for i in range(height):
        group, within = divmod(i, _ROWS_PER_POINTER)
        base = builder.inttoptr(a_at[group], pointer)
        place = builder.bitcast(builder.gep(base, [offsets[within]]), _FLOAT.as_pointer())
        value = _splat(builder, builder.load(place), _VECTOR)
        pairs = zip(row_of_b, totals[i], strict=True)
        moved.append([vector.multiply_add(value, part, total) for part, total in pairs])
    following = builder.add(step, _word(1))
    for phi, start, increment in (
        (step, _word(0), _word(1)),
        (b_at, b, b_row),
        *((at, start, a_step) for at, start in zip(a_at, starts, strict=True)),
    ):
        phi.add_incoming(start, before)
        phi.add_incoming(following if phi is step else builder.add(phi, increment), loop)
    for row, new in zip(totals, moved, strict=True):
        for phi, value in zip(row, new, strict=True):
            phi.add_incoming(vector.zero, before)
            phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)

    builder.position_at_end(after)
    results = [[builder.phi(_VECTOR) for _ in range(count)] for _ in range(height)]
    for row, new in zip(results, moved, strict=True):
        for phi, value in zip(row, new, strict=True):
            phi.add_incoming(vector.zero, before)
            phi.add_incoming(value, loop)
    return results


def _tile(
    typing: Any,
    height: Any,
    a: Any,
    a_row: Any,
    a_step: Any,
    b: Any,
    b_row: Any,
    depth: Any,
    out: Any,
    out_row: Any,
    first: Any,
    columns: Any,
    alpha: Any,
    accumulate: Any,
) -> Any:
    """Compute a tile of one of the `HEIGHTS` and at most `COLUMNS` columns.

    `a` has a stride from row to row and one from step to step of the sum, `b` one from step to
    step; `depth` is the number of steps. Rows before `first` are another tile's and not written.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        height, a, a_row, a_step, b, b_row, depth, out, out_row, *others = arguments
        first, columns, alpha, accumulate = others
        narrow = builder.icmp_signed("<=", columns, _word(LANES))
        factor = _splat(builder, alpha, _VECTOR)
        nothing = ir.Constant(_MASK, [0] * LANES)

        def write(rows: int, vectors: int) -> None:
            vector = _Vectors(builder, columns, vectors)
            kept = [builder.select(accumulate, mask, nothing) for mask in vector.masks]
            sums = _sums(builder, vector, rows, a, (a_row, a_step, b_row), b, depth)
            for i, row in enumerate(sums):
                with builder.if_then(builder.icmp_signed("<=", first, _word(i))):
                    place = builder.add(out, builder.mul(out_row, _word(i)))
                    for j, total in enumerate(row):
                        old = vector.load(place, j, kept[j])
                        vector.store(vector.multiply_add(factor, total, old), place, j)

        for rows in HEIGHTS:
            with builder.if_then(builder.icmp_signed("==", height, _word(rows))):
                ways = builder.if_else(narrow)
                with ways as (then, otherwise):
                    with then:
                        write(rows, 1)
                    with otherwise:
                        write(rows, VECTORS)
        return context.get_dummy_value()

    words = [types.int64] * 11
    return types.void(*words, types.float32, types.boolean), generate


tile: Any = intrinsic(_tile)


def _transpose(
    typing: Any, source: Any, source_row: Any, rows: Any, columns: Any, result: Any, result_row: Any
) -> Any:
    """Transpose a block of at most `LANES` by `LANES`: result[j, i] = source[i, j].

    Rows of the result are written in full, `LANES` values, whatever `rows` is.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, source_row, rows, columns, result, result_row = arguments
        vector = _Vectors(builder, columns, 1)
        last = builder.sub(rows, _word(1))
        block = []
        for i in range(LANES):
            inside = builder.icmp_signed("<", _word(i), rows)
            place = builder.select(inside, _word(i), last)
            row = builder.add(source, builder.mul(source_row, place))
            block.append(vector.load(row, 0, vector.masks[0]))
        # Of each pair of rows the halves that lie across the diagonal change places; with pairs
        # twice as far apart each time, that is a transposition.
        for apart in (2**n for n in range(LANES.bit_length() - 1)):
            places = [(j, bool(j & apart)) for j in range(LANES)]
            upper = [LANES + j - apart if right else j for j, right in places]
            lower = [LANES + j if right else j + apart for j, right in places]
            for i in range(LANES):
                if not i & apart:
                    pair = block[i], block[i + apart]
                    for at, order in ((i, upper), (i + apart, lower)):
                        mask = ir.Constant(_INDICES, order)
                        block[at] = builder.shuffle_vector(*pair, mask)
        for j, row in enumerate(block):
            with builder.if_then(builder.icmp_signed("<", _word(j), columns)):
                place = builder.add(result, builder.mul(result_row, _word(j)))
                at = builder.inttoptr(place, _VECTOR.as_pointer())
                builder.store(row, at, align=SIZE)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


transpose: Any = intrinsic(_transpose)


def _copy_row(typing: Any, source: Any, columns: Any, result: Any) -> Any:
    """Copy at most `LANES` values."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, columns, result = arguments
        vector = _Vectors(builder, columns, 1)
        vector.store(vector.load(source, 0, vector.masks[0]), result, 0)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate


copy_row: Any = intrinsic(_copy_row)
