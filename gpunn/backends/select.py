"""From ``device="..."`` to a backend, with one line that says which and why."""

from __future__ import annotations

import importlib.util
import logging
from typing import NamedTuple

from gpunn.backends.interface import Backend
from gpunn.errors import ArgumentError, ArgumentTypeError, DeviceError, UnknownNameError

logger = logging.getLogger("gpunn")

DEVICES = ("auto", "cpu", "cuda", "reference", "simulator")
PRECISIONS = ("float32", "float64", "tf32", "bfloat16")


class Selection(NamedTuple):
    """A backend and the reason for it."""

    backend: Backend
    reason: str


class DeviceStatus(NamedTuple):
    """Whether a device can be used, and what there is or what is missing."""

    device: str
    usable: bool
    detail: str


def _missing_module(error: ImportError) -> str:
    return f"{error.name or error} cannot be imported ({error})"


def cuda_status() -> DeviceStatus:
    """Look for a GPU, its driver and CuPy, without using them."""
    return DeviceStatus("cuda", False, "this version of gpunn has no CUDA backend yet")


def cpu_status() -> DeviceStatus:
    """Look for numba."""
    try:
        from gpunn.backends.numba_cpu import NumbaCPU
    except ImportError as error:
        return DeviceStatus("cpu", False, _missing_module(error) + "; pip install numba")
    return DeviceStatus("cpu", True, NumbaCPU().describe())


def device_statuses() -> tuple[DeviceStatus, ...]:
    """Return the state of every device."""
    import numpy as np

    simulator = DeviceStatus("simulator", False, "this version of gpunn has no simulator yet")
    reference = DeviceStatus("reference", True, f"NumPy {np.__version__}, for tests: slow")
    return cuda_status(), cpu_status(), reference, simulator


def select_backend(device: str = "auto", *, threads: int | None = None) -> Selection:
    """Return the backend for `device`.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "cuda:N", "reference", "simulator"}
        ``auto`` takes CUDA where a GPU, its driver and CuPy are usable, else the CPU; the logger
        ``gpunn`` says which and why.
    threads : int, optional
        Threads of the CPU backend.

    Raises
    ------
    UnknownNameError
        There is no such device.
    DeviceError
        The device is not usable here; the message says what is missing.
    """
    if not isinstance(device, str):
        raise ArgumentTypeError(f"device must be a name such as 'auto' or 'cpu', not {device!r}.")
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise ArgumentError(f"threads must be a whole number of at least 1, not {threads!r}.")
    name, _, index = device.partition(":")
    if name not in DEVICES or (index and (name != "cuda" or not index.isdigit())):
        raise UnknownNameError("device", device, (*DEVICES, "cuda:1"))
    if name == "auto":
        selection = _select_auto(threads)
        logger.info("device %s: %s", selection.backend.describe(), selection.reason)
        return selection
    if name == "reference":
        from gpunn.backends.numpy_reference import NumpyReference

        return Selection(NumpyReference(), "asked for")
    status = {s.device: s for s in device_statuses()}[name]
    if not status.usable:
        raise DeviceError(f"device {device!r} cannot be used: {status.detail}.")
    from gpunn.backends.numba_cpu import NumbaCPU

    return Selection(NumbaCPU(threads), "asked for")


def _select_auto(threads: int | None) -> Selection:
    why = _no_gpu_reason()
    status = cpu_status()
    if status.usable:
        from gpunn.backends.numba_cpu import NumbaCPU

        return Selection(NumbaCPU(threads), why)
    from gpunn.backends.numpy_reference import NumpyReference

    return Selection(NumpyReference(), f"{why}; {status.detail}")


def _no_gpu_reason() -> str:
    if importlib.util.find_spec("cupy") is None:
        return "no CuPy installed, so no GPU"
    return cuda_status().detail
