"""Matrix products for small nets, compiled for this processor's vector registers.

A BLAS packs both operands anew at every call, which at the sizes of a training step (a batch of
50, a few hundred units) takes about as long as the product. Here nothing is packed, except the
transposed kernel of an input gradient:

- `_tile` keeps a tile of the result, `ROWS` rows by two vectors, in registers and runs through
  all of k: one broadcast and two fused multiply-adds per row and k. It is LLVM IR with vector
  types written out, because the loop vectoriser cannot be made to hold a tile in registers.
  Columns beyond the matrix are masked, rows beyond it are computed twice and not stored.
- `_panel` runs over the tiles of a column panel, in blocks of k that stay in the cache.
- `_multiply` deals the panels (and blocks of rows, where there are many) out to threads. A thread
  gets neighbouring panels, so with small batches it finds its columns of the weights in its own
  cache, step after step.

The order of the sum behind each value is fixed by the shapes alone: results do not depend on the
number of threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

Array = np.ndarray[Any, Any]

VECTORS = 2
# Multiply-adds below which another thread costs more than it takes over.
WORK_PER_THREAD = 400_000

# numba's work queue must not be entered from two threads at once, and two pools would compete
# for the same cores.
POOL = threading.Lock()


def _host_features() -> dict[str, bool]:
    return dict(llvmlite.binding.get_host_cpu_features())


def _geometry() -> tuple[int, int]:
    """Return (bytes of a vector, rows of a tile) that fill this processor's registers.

    Of 32 registers 26 hold the tile, two a row of b and one the broadcast value; of 16, 12.
    """
    features = _host_features()
    if features.get("avx512f"):
        return 64, 13
    if features.get("avx"):
        return 32, 6
    return 16, 6


VECTOR_BYTES, ROWS = _geometry()
# Blocks of a, b and c that stay in the second-level cache together; rows of whole tiles.
K_BLOCK = 192
ROW_BLOCK = 208 if ROWS == 13 else 204


def fast_here() -> bool:
    """Return whether these kernels are likely to beat the BLAS: x86 with fused multiply-add.

    Elsewhere (Apple's matrix unit, above all) the vendor's BLAS has means that they have not.
    """
    features = _host_features()
    return bool(features.get("fma") and features.get("avx2"))


@intrinsic
def _panel_columns(typingctx: Any, array: Any) -> Any:
    """Return the columns of a panel for arrays of this type: two vectors full."""
    signature = types.intp(array)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_constant(types.intp, _lanes(signature.args[0].dtype) * VECTORS)

    return signature, generate


def _lanes(dtype: Any) -> int:
    return VECTOR_BYTES // (dtype.bitwidth // 8)


def panel_columns(dtype: np.dtype[Any]) -> int:
    """Return the columns of a panel."""
    return VECTOR_BYTES // dtype.itemsize * VECTORS


@intrinsic
def _tile(
    typingctx: Any,
    a: Any,
    a_start: Any,
    a_row: Any,
    a_k: Any,
    b: Any,
    b_start: Any,
    b_k: Any,
    c: Any,
    c_start: Any,
    c_row: Any,
    k: Any,
    rows: Any,
    columns: Any,
    alpha: Any,
    accumulate: Any,
) -> Any:
    """One tile: ``c[i, j] = alpha * sum_l a[i, l] * b[l, j]``, plus c itself on request.

    Starts and strides count values: a[i, l] is at ``a_start + i * a_row + l * a_k``, b[l, j] at
    ``b_start + l * b_k + j``, c[i, j] at ``c_start + i * c_row + j``; i < rows <= ROWS and
    j < columns <= the panel's.
    """
    index = types.intp
    signature = types.void(
        *(a, index, index, index, b, index, index, c, index, index, index, index, index),
        *(alpha, types.boolean),
    )

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        names = "a a_start a_row a_k b b_start b_k c c_start c_row k rows columns alpha accumulate"
        v = dict(zip(names.split(), arguments, strict=True))
        kinds = dict(zip(names.split(), signature.args, strict=True))
        lanes = _lanes(kinds["c"].dtype)
        _TileCode(context, builder, v, kinds, lanes).emit()
        return context.get_dummy_value()

    return signature, generate


class _TileCode:
    """Emits the LLVM IR of `_tile`."""

    def __init__(self, context: Any, builder: Any, v: Any, kinds: Any, lanes: int) -> None:
        self.builder, self.v, self.lanes = builder, v, lanes
        self.scalar = context.get_value_type(kinds["c"].dtype)
        self.index = ir.IntType(64)
        self.int32 = ir.IntType(32)
        self.vector = ir.VectorType(self.scalar, lanes)
        self.zero = ir.Constant(self.vector, [0.0] * lanes)
        self.align = ir.Constant(self.int32, kinds["c"].dtype.bitwidth // 8)
        self.pointers = {
            name: builder.gep(
                context.make_array(kinds[name])(context, builder, v[name]).data,
                [v[f"{name}_start"]],
            )
            for name in "abc"
        }
        suffix = f"v{lanes}f{kinds['c'].dtype.bitwidth}"
        pointer = self.vector.as_pointer()
        mask = ir.VectorType(ir.IntType(1), lanes)
        self.multiply_add = self._intrinsic(
            f"llvm.fmuladd.{suffix}", self.vector, [self.vector] * 3
        )
        self.masked_load = self._intrinsic(
            f"llvm.masked.load.{suffix}.p0", self.vector, [pointer, self.int32, mask, self.vector]
        )
        self.masked_store = self._intrinsic(
            f"llvm.masked.store.{suffix}.p0",
            ir.VoidType(),
            [self.vector, pointer, self.int32, mask],
        )

    def _intrinsic(self, name: str, result: Any, arguments: list[Any]) -> Any:
        kind = ir.FunctionType(result, arguments)
        return cgutils.get_or_insert_function(self.builder.module, kind, name)

    def _constant(self, value: int) -> Any:
        return ir.Constant(self.index, value)

    def _splat(self, value: Any, kind: Any) -> Any:
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(self.int32, 0))
        zeros = ir.Constant(ir.VectorType(self.int32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def _masks(self) -> list[Any]:
        """For each vector of a row, which lanes are columns of the matrix."""
        kind = ir.VectorType(self.int32, self.lanes)
        columns = self._splat(self.builder.trunc(self.v["columns"], self.int32), kind)
        starts = (range(n * self.lanes, (n + 1) * self.lanes) for n in range(VECTORS))
        return [
            self.builder.icmp_signed("<", ir.Constant(kind, list(lanes)), columns)
            for lanes in starts
        ]

    def _address(self, pointer: Any, offset: Any, vector: int) -> Any:
        offset = self.builder.add(offset, self._constant(vector * self.lanes))
        return self.builder.bitcast(self.builder.gep(pointer, [offset]), self.vector.as_pointer())

    def _load(self, pointer: Any, offset: Any, vector: int) -> Any:
        address = self._address(pointer, offset, vector)
        arguments = [address, self.align, self.masks[vector], self.zero]
        return self.builder.call(self.masked_load, arguments)

    def emit(self) -> None:
        builder, v = self.builder, self.v
        self.masks = self._masks()
        last = builder.sub(v["rows"], self._constant(1))
        row_pointers = []
        for row in range(ROWS):
            i = self._constant(row)
            i = builder.select(builder.icmp_signed("<", i, last), i, last)
            row_pointers.append(builder.gep(self.pointers["a"], [builder.mul(i, v["a_row"])]))

        before = builder.block
        loop, done = builder.append_basic_block("k"), builder.append_basic_block("k.done")
        builder.branch(loop)
        builder.position_at_end(loop)
        k = builder.phi(self.index)
        sums = [[builder.phi(self.vector) for _ in range(VECTORS)] for _ in range(ROWS)]
        b = [
            self._load(self.pointers["b"], builder.mul(k, v["b_k"]), vector)
            for vector in range(VECTORS)
        ]
        a_offset = builder.mul(k, v["a_k"])
        new = []
        for row in range(ROWS):
            value = builder.load(builder.gep(row_pointers[row], [a_offset]))
            a = self._splat(value, self.vector)
            new.append(
                [
                    builder.call(self.multiply_add, [a, b[vector], sums[row][vector]])
                    for vector in range(VECTORS)
                ]
            )
        k_next = builder.add(k, self._constant(1))
        k.add_incoming(self._constant(0), before)
        k.add_incoming(k_next, loop)
        for row in range(ROWS):
            for vector in range(VECTORS):
                sums[row][vector].add_incoming(self.zero, before)
                sums[row][vector].add_incoming(new[row][vector], loop)
        builder.cbranch(builder.icmp_signed("<", k_next, v["k"]), loop, done)

        builder.position_at_end(done)
        alpha = self._splat(v["alpha"], self.vector)
        for row in range(ROWS):
            with builder.if_then(builder.icmp_signed("<", self._constant(row), v["rows"])):
                offset = builder.mul(self._constant(row), v["c_row"])
                for vector in range(VECTORS):
                    old = self._load(self.pointers["c"], offset, vector)
                    old = builder.select(v["accumulate"], old, self.zero)
                    total = builder.call(self.multiply_add, [alpha, new[row][vector], old])
                    address = self._address(self.pointers["c"], offset, vector)
                    arguments = [total, address, self.align, self.masks[vector]]
                    builder.call(self.masked_store, arguments)


@njit(cache=True, error_model="numpy", inline="never")
def _panel(
    a: Any,
    a_start: int,
    a_row: int,
    a_k: int,
    k: int,
    b: Any,
    b_start: int,
    b_k: int,
    c: Any,
    c_start: int,
    c_row: int,
    rows: int,
    columns: int,
    alpha: Any,
    accumulate: bool,
) -> None:
    """All tiles of a panel, for one block of rows and one of k."""
    for i in range(0, rows, ROWS):
        count = min(ROWS, rows - i)
        a_tile, c_tile = a_start + i * a_row, c_start + i * c_row
        _tile(  # type: ignore[call-arg]
            a,
            a_tile,
            a_row,
            a_k,
            b,
            b_start,
            b_k,
            c,
            c_tile,
            c_row,
            k,
            count,
            columns,
            alpha,
            accumulate,
        )


@njit(cache=True, error_model="numpy", parallel=True)
def _multiply(
    a: Any,
    a_row: int,
    a_k: int,
    k: int,
    b: Any,
    b_row: int,
    packed: Any,
    c: Any,
    rows: int,
    columns: int,
    rate: Any,
    sign: Any,
    accumulate: bool,
    bias: Any,
    slope: Any,
    threads: int,
) -> None:
    """``c = sign * rate[0] * a @ b``, plus c itself on request, then bias and slope.

    All arrays are flat. Element (i, l) of a is at ``i * a_row + l * a_k``; `b` has rows of
    `b_row` values and is transposed if there is scratch for it in `packed`.
    """
    alpha = sign * rate[0]
    zero = slope - slope
    width: int = _panel_columns(c)  # type: ignore[call-arg]
    panels = (columns + width - 1) // width
    tasks = panels * ((rows + ROW_BLOCK - 1) // ROW_BLOCK)
    for thread in prange(threads):
        task, end = tasks * thread // threads, tasks * (thread + 1) // threads
        scratch = thread * K_BLOCK * width
        while task < end:
            # As many panels as this thread has of one block of rows.
            block = task // panels
            first_panel, row = task - block * panels, block * ROW_BLOCK
            last_panel = min(panels, end - block * panels)
            task = block * panels + last_panel
            row_count = min(rows - row, ROW_BLOCK)
            for l in range(0, k, K_BLOCK):  # noqa: E741
                k_count = min(k - l, K_BLOCK)
                for panel in range(first_panel, last_panel):
                    column = panel * width
                    count = min(columns - column, width)
                    source, start, step = b, l * b_row + column, b_row
                    if packed.size:
                        source, start, step = packed, scratch, width
                        for j in range(count):
                            for i in range(k_count):
                                packed[scratch + i * width + j] = b[(column + j) * b_row + l + i]
                    _panel(
                        a,
                        row * a_row + l * a_k,
                        a_row,
                        a_k,
                        k_count,
                        source,
                        start,
                        step,
                        c,
                        row * columns + column,
                        columns,
                        row_count,
                        count,
                        alpha,
                        accumulate or l > 0,
                    )
            if bias.size:
                for i in range(row, row + row_count):
                    for j in range(first_panel * width, min(columns, last_panel * width)):
                        z = c[i * columns + j] + bias[j]
                        # + 0 turns the -0 of relu into 0.
                        c[i * columns + j] = (z if z > zero else z * slope) + zero


def product(
    a: Array,
    b: Array,
    c: Array,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    rate: Array | None = None,
    sign: float = 1.0,
    accumulate: bool = False,
    bias: Array | None = None,
    slope: float = 1.0,
) -> Callable[[], None]:
    """Return a call for ``c = sign * rate[0] * a @ b``, plus c itself if `accumulate`.

    Parameters
    ----------
    a, b, c : arrays of one float type, two axes, C-contiguous
        With `transpose_a` or `transpose_b` the product of the transposed array.
    rate : array, shape (1,), optional
        Read when the call runs.
    sign : float, default 1.0
    accumulate : bool, default False
    bias : array, shape (columns of c,), optional
        Added at the end; then values below 0 are multiplied by `slope`.
    """
    dtype = c.dtype
    rows, columns = c.shape
    k = a.shape[0] if transpose_a else a.shape[1]
    a_row, a_k = (1, a.shape[1]) if transpose_a else (a.shape[1], 1)
    threads = max(1, min(numba.get_num_threads(), rows * columns * k // WORK_PER_THREAD))
    scratch = threads * K_BLOCK * panel_columns(dtype) if transpose_b else 0
    arguments = (
        *(a.reshape(-1), a_row, a_k, k),
        *(b.reshape(-1), b.shape[1], np.empty(scratch, dtype)),
        *(c.reshape(-1), rows, columns),
        *(np.ones(1, dtype) if rate is None else rate, dtype.type(sign), accumulate),
        *(np.empty(0, dtype) if bias is None else bias, dtype.type(slope)),
        threads,
    )

    def call() -> None:
        with POOL:
            _multiply(*arguments)

    return call
