"""From an op to its launches: what the families are written with. Pure: no device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunn.backends.cuda.driver import KernelSource, Launch, LibraryProduct, Limits
from gpunn.backends.cuda.geometry import THREADS, WARP, elementwise_grid
from gpunn.backends.interface import Arrays, Attrs
from gpunn.randomness import philox

Work = Launch | LibraryProduct
# form, precision, m, n, k -> Tiling of our kernel, or None for the device's library
TilingChooser = Callable[[str, str, int, int, int], Any]


@dataclass(frozen=True)
class Context:
    """What launches depend on besides their arrays.

    Attributes
    ----------
    limits : Limits
    workspace : callable
        ``workspace(nbytes)`` returns scratch memory (uint8) that is valid until the op's last
        launch; one op's scratch is the next one's.
    choose_tiling : TilingChooser, optional
        Decides who computes matrix products, and how; default: our kernels, tiled as the cost
        model says.
    """

    limits: Limits
    workspace: Callable[[int], Any]
    choose_tiling: TilingChooser | None = None


# arrays by role, constants, rows of the batch -> launches, in order
LaunchBuilder = Callable[[Context, Arrays, Attrs, int], list[Work]]

C_TYPES = {"float32": "float", "float64": "double"}


def kernel_source(file: str, dtype: Any, *defines: str) -> KernelSource:
    """Return the source of `file` with ``real`` of type `dtype`."""
    return KernelSource(file, (f"GPUNN_REAL={C_TYPES[np.dtype(dtype).name]}", *defines))


def elementwise(
    context: Context,
    file: str,
    symbol: str,
    arguments: tuple[Any, ...],
    values: Any,
    *defines: str,
) -> list[Work]:
    """Return the launch of a grid-stride loop over `values`, four for each thread."""
    if not values.size:
        return []
    # What is small is spread over more of the device by smaller blocks.
    small = values.size < 4 * THREADS * context.limits.multiprocessors
    threads = 2 * WARP if small else THREADS
    grid = (elementwise_grid(values.size, context.limits, 4, threads), 1, 1)
    source = kernel_source(file, values.dtype, *defines)
    return [Launch(source, symbol, grid, (threads, 1, 1), arguments)]


# Arguments of kernels


def int32(value: int) -> np.int32:
    """A kernel argument of type int."""
    return np.int32(value)


def int64(value: int) -> np.int64:
    """A kernel argument of type int64."""
    return np.int64(value)


# Numbers of the enum Activation in kernels/activations.cuh.
ACTIVATIONS = {
    name: number
    for number, name in enumerate(
        (
            *("linear", "relu", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "softplus"),
            *("gelu", "silu", "step", "sign"),
        )
    )
}


def activation_arguments(attrs: Attrs, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Return the number of an activation, and its parameter."""
    return int32(ACTIVATIONS[attrs["activation"]]), dtype.type(attrs["parameter"])


def dropout_arguments(a: Arrays, attrs: Attrs) -> tuple[Any, Any, Any, np.uint32]:
    """Return seed, step, rate (null pointers, where there is no dropout) and stream number."""
    if "rate" not in a:
        return None, None, None, np.uint32(0)
    stream = philox.stream_id(philox.Purpose.DROPOUT, attrs["stream"])
    return a["seed"], a["step"], a["rate"], np.uint32(stream)
