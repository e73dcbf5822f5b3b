"""What CUDA would refuse of a launch, and what a GPU would pass over in silence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn.backends.cuda.driver import Launch, Limits
from gpunn.backends.cuda.simulator.compiler import Kernel

# Threads that a multiprocessor holds at once, by compute capability (CUDA C++ Programming Guide).
_RESIDENT_THREADS = {75: 1024, 80: 2048, 90: 2048, 100: 2048, 103: 2048}
_MAX_GRID = (2**31 - 1, 65535, 65535)
_MAX_BLOCK = (1024, 1024, 64)
_WORDS = {"f": "float", "i": "int", "u": "uint", "b": "bool"}
# Whether an array is part of the device's memory.
Allocated = Callable[[Any], bool]


def geometry_error(launch: Launch, kernel: Kernel, limits: Limits) -> str:
    """Return why CUDA would refuse the launch's shape; empty if it would not."""
    grid, block = launch.grid, launch.block
    threads = math.prod(block)
    if min(*grid, *block) < 1:
        return f"grid {grid} and block {block} must be 1 or more in each direction"
    if any(size > most for size, most in zip(grid, _MAX_GRID, strict=True)):
        return f"grid {grid} exceeds {_MAX_GRID}"
    if any(size > most for size, most in zip(block, _MAX_BLOCK, strict=True)):
        return f"block {block} exceeds {_MAX_BLOCK}"
    if threads > min(1024, kernel.threads):
        return f"a block of {threads} threads exceeds its {min(1024, kernel.threads)}"
    if not 0 <= launch.shared <= limits.shared_memory:
        return f"{launch.shared} bytes of shared memory exceed {limits.shared_memory}"
    if launch.cooperative:
        resident = _RESIDENT_THREADS.get(limits.architecture, 1536) // threads
        by_memory = (limits.shared_memory + 1024) // (launch.shared + 1024)
        most = limits.multiprocessors * min(resident, by_memory, 32)
        if math.prod(grid) > most:
            return f"{math.prod(grid)} blocks wait for one another, and {most} run at once"
    return ""


def argument_error(launch: Launch, kernel: Kernel, allocated: Allocated) -> str:
    """Return what is wrong with the arguments; empty if nothing is."""
    if len(launch.arguments) != len(kernel.parameters):
        return f"{len(launch.arguments)} arguments for {len(kernel.parameters)} parameters"
    for index, (value, code) in enumerate(zip(launch.arguments, kernel.parameters, strict=True)):
        what = f"arguments[{index}]"
        if not code.startswith("*"):
            if not isinstance(value, np.generic):
                return f"{what} is {type(value).__name__}, and the kernel takes {_words(code)}"
            if f"{value.dtype.kind}{value.dtype.itemsize}" != code:
                return f"{what} is {value.dtype}, and the kernel takes {_words(code)}"
        elif value is not None:
            reason = array_error(value, code[1:], allocated)
            if reason:
                return f"{what} is {reason}"
    return ""


def array_error(value: Any, code: str, allocated: Allocated) -> str:
    if not isinstance(value, np.ndarray):
        return f"{type(value).__name__}, and the kernel takes a pointer to {_words(code)}"
    if code != "v0" and f"{value.dtype.kind}{value.dtype.itemsize}" != code:
        return f"an array of {value.dtype}, and the kernel takes a pointer to {_words(code)}"
    if not value.flags.c_contiguous:
        return "an array that is not C-contiguous"
    if not allocated(value):
        return "an array that this device did not allocate"
    return ""


def _words(code: str) -> str:
    """Return a type code of a kernel's signature as NumPy names it."""
    return "anything" if code == "v0" else f"{_WORDS[code[0]]}{8 * int(code[1:])}"
