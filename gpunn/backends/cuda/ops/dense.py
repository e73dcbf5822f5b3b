"""Launches of dense layers: matrix products, and what follows each in the same launch.

A product runs as one launch where that fills the device; else as two, the second of which adds up
the parts of the reduction (see tilings.py). Products of the device's library are followed
by that second launch too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunn.backends.cuda.driver import KernelSource, Launch, LibraryProduct
from gpunn.backends.cuda.geometry import ceil_div
from gpunn.backends.cuda.ops.launches import (
    Context,
    LaunchBuilder,
    Work,
    activation_arguments,
    dropout_arguments,
    int32,
    kernel_source,
)
from gpunn.backends.cuda.ops.reductions import (
    bias_parts,
    bias_roles,
    column_sums,
    column_tile,
    finish_bias,
    has_bias,
)
from gpunn.backends.cuda.tilings import (
    FINISH_THREADS,
    KINDS,
    FinishShape,
    Tiling,
    choose_tiling,
    finish_shape,
)
from gpunn.backends.interface import Arrays, Attrs
from gpunn.errors import DeviceError

DENSE = "dense.cu"
DENSE_FINISH = "dense_finish.cu"
_TENSOR_CORES = 80  # the architecture from which on there is mma for TF32 and bfloat16
_ALIGNMENT = 256


@dataclass(frozen=True)
class _Sizes:
    """The product: its form, precision and shape M x N x K."""

    form: str
    precision: str
    dtype: Any
    m: int
    n: int
    k: int

    @property
    def vector(self) -> int:
        return 16 // int(np.dtype(self.dtype).itemsize)


def _sizes(context: Context, form: str, left: Any, right: Any, attrs: Attrs) -> _Sizes:
    dtype = left.dtype
    precision = attrs["precision"]
    if KINDS[precision] != "IEEE" and context.limits.architecture < _TENSOR_CORES:
        major, minor = divmod(context.limits.architecture, 10)
        raise DeviceError(
            f"precision={precision!r} needs a GPU of compute capability 8.0 or later; "
            f"this one has {major}.{minor}."
        )
    if form == "KERNEL_GRADIENT":
        k, m = left.shape
        n = right.shape[1]
    else:
        m, k = left.shape
        n = right.shape[form == "FORWARD"]
    return _Sizes(form, precision, dtype, m, n, k)


def product_source(form: str, precision: str, tiling: Tiling, dtype: Any) -> KernelSource:
    """Return the source of one form of product, for one tile."""
    kind = (f"GPUNN_PRODUCT={KINDS[precision]}", f"GPUNN_FORM={form}")
    return kernel_source(DENSE, dtype, *kind, *tiling.tile.defines())


def _product_launch(
    symbol: str, sizes: _Sizes, tiling: Tiling, partials: Any, arguments: tuple[Any, ...]
) -> Launch:
    return Launch(
        product_source(sizes.form, sizes.precision, tiling, sizes.dtype),
        symbol,
        (tiling.tiles_m * tiling.tiles_n, tiling.splits, 1),
        (tiling.tile.threads, 1, 1),
        (
            *arguments,
            *(partials, int32(sizes.m), int32(sizes.n), int32(sizes.k), int32(tiling.split)),
        ),
        tiling.shared,
    )


def _finish_launch(
    symbol: str,
    sizes: _Sizes,
    shape: FinishShape,
    partials: Any,
    count: int,
    arguments: tuple[Any, ...],
    *,
    shared: int = 0,
) -> Launch:
    return Launch(
        kernel_source(DENSE_FINISH, sizes.dtype),
        "finish_" + symbol,
        (shape.across, shape.down, 1),
        (FINISH_THREADS, 1, 1),
        (
            *(partials, int32(count), *arguments),
            *(int32(sizes.m), int32(sizes.n), int32(shape.groups), int32(shape.rows)),
        ),
        shared,
    )


def _scratch(context: Context, dtype: Any, *shapes: tuple[int, ...]) -> list[Any]:
    """Return the op's workspace cut into arrays of `shapes`; None for an empty one."""
    sizes = [int(np.prod(shape)) * int(np.dtype(dtype).itemsize) for shape in shapes]
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + ceil_div(size, _ALIGNMENT) * _ALIGNMENT)
    memory: Any = context.workspace(starts[-1]) if starts[-1] else None
    return [
        memory[start : start + size].view(dtype).reshape(shape) if size else None
        for start, size, shape in zip(starts, sizes, shapes, strict=False)
    ]


def _tiling(context: Context, sizes: _Sizes) -> Tiling | None:
    """Return how our kernel cuts the product; None where the device's library makes it."""
    shape = (sizes.form, sizes.precision, sizes.m, sizes.n, sizes.k)
    if context.choose_tiling is None:
        return choose_tiling(*shape, context.limits)
    chosen: Tiling | None = context.choose_tiling(*shape)
    return chosen


def _library_product(sizes: _Sizes, left: Any, right: Any, result: Any) -> LibraryProduct:
    transposed = {"FORWARD": (False, False), "INPUT_GRADIENT": (False, True)}
    flags = transposed.get(sizes.form, (True, False))
    return LibraryProduct(left, right, result, *flags, precision=sizes.precision)


def _product_and_finish(
    context: Context,
    name: str,
    sizes: _Sizes,
    operands: tuple[Any, Any],
    arguments: tuple[Any, ...],
    library_result: Any,
    finishes: bool,
) -> list[Work]:
    """Return the launches of a product, of one or of several parts of the reduction.

    The library writes its product to `library_result`, or to scratch memory if that is None;
    `finishes` says whether something is left to do to it.
    """
    finish = finish_shape(sizes.m, sizes.n, sizes.vector, context.limits, sums=False)
    tiling = _tiling(context, sizes)
    if tiling is None:
        if library_result is None:
            (library_result,) = _scratch(context, sizes.dtype, (sizes.m, sizes.n))
        work: list[Work] = [_library_product(sizes, *operands, library_result)]
        if finishes:
            work.append(_finish_launch(name, sizes, finish, library_result, 1, arguments))
        return work
    if tiling.splits == 1:
        return [_product_launch(name, sizes, tiling, None, (*operands, *arguments))]
    (partials,) = _scratch(context, sizes.dtype, (tiling.splits, sizes.m, sizes.n))
    return [
        _product_launch(name, sizes, tiling, partials, (*operands, *arguments)),
        _finish_launch(name, sizes, finish, partials, tiling.splits, arguments),
    ]


def dense(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    values, kernel, result = a["values"], a["kernel"], a["result"]
    if not result.size:
        return []
    sizes = _sizes(context, "FORWARD", values, kernel, attrs)
    arguments = (
        *(a.get("bias"), a.get("pre"), result, *dropout_arguments(a, attrs)),
        *activation_arguments(attrs, result.dtype),
    )
    finishes = attrs["activation"] != "linear" or bool({"bias", "pre", "rate"} & set(a))
    return _product_and_finish(
        context, "dense", sizes, (values, kernel), arguments, result, finishes
    )


def dense_input_gradient(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    gradient, kernel, result = a["gradient"], a["kernel"], a["input_gradient"]
    if not result.size:
        return []
    sizes = _sizes(context, "INPUT_GRADIENT", gradient, kernel, attrs)
    sums = has_bias(a)
    finish = finish_shape(sizes.m, sizes.n, sizes.vector, context.limits, sums=sums)
    tiling = _tiling(context, sizes)
    splits = tiling.splits if tiling else 1
    if not sums:
        block_rows = 1
    elif tiling is None or splits > 1:
        block_rows = finish.down
    else:
        block_rows = tiling.tiles_m
    partials, bias_sums = _scratch(
        context,
        sizes.dtype,
        (splits, sizes.m, sizes.n) if splits > 1 else (0,),
        (block_rows, sizes.n) if block_rows > 1 else (0,),
    )
    # Where one block row sees the whole batch, it finishes the sums as well.
    roles = bias_roles(a) if block_rows == 1 else (bias_sums, None, None)
    arguments = (
        *(a.get("output", a.get("pre")), int32("output" in a), result, *roles),
        *dropout_arguments(a, attrs),
        *activation_arguments(attrs, result.dtype),
    )
    name = "dense_input_gradient"
    work: list[Work] = []
    if tiling:
        operands = (gradient, kernel)
        work.append(_product_launch(name, sizes, tiling, partials, (*operands, *arguments)))
    else:
        work.append(_library_product(sizes, gradient, kernel, result))
        partials = result
    more = sums or attrs["activation"] != "linear" or "rate" in a
    if splits > 1 or (tiling is None and more):
        shared = FINISH_THREADS * 16 if sums else 0
        work.append(_finish_launch(name, sizes, finish, partials, splits, arguments, shared=shared))
    if block_rows > 1:
        work.append(finish_bias(bias_sums, a))
    return work


def _kernel_gradient(
    context: Context, a: Arrays, attrs: Attrs, result: Any, rate: Any
) -> list[Work]:
    values, gradient = a["values"], a["gradient"]
    if not result.size or not gradient.size:
        return []
    sizes = _sizes(context, "KERNEL_GRADIENT", values, gradient, attrs)
    arguments, in_place = (result, rate), result if rate is None else None
    operands, updates = (values, gradient), rate is not None
    return _product_and_finish(
        context, "dense_kernel_gradient", sizes, operands, arguments, in_place, updates
    )


def dense_kernel_gradient(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    return _kernel_gradient(context, a, attrs, a["kernel_gradient"], None)


def dense_kernel_update(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    return _kernel_gradient(context, a, attrs, a["kernel"], a["learning_rate"])


def bias_gradient(context: Context, a: Arrays, attrs: Attrs, rows: int) -> list[Work]:
    gradient = a["gradient"]
    if not gradient.size:
        return []
    batch, columns = gradient.shape
    block_rows = column_tile(columns, gradient.dtype).block_rows(batch)
    roles, finish = bias_parts(context, block_rows, columns, gradient.dtype, a)
    return [column_sums(gradient, roles, block_rows), *finish]


OPERATIONS: dict[str, LaunchBuilder] = {
    "dense": dense,
    "dense_input_gradient": dense_input_gradient,
    "dense_kernel_gradient": dense_kernel_gradient,
    "dense_kernel_update": dense_kernel_update,
    "bias_gradient": bias_gradient,
}
