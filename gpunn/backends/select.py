"""From ``device="..."`` to a backend, with one line that says which and why."""

from __future__ import annotations

import logging
from typing import NamedTuple

from gpunn.backends.cuda.detect import DeviceStatus, cuda_status
from gpunn.backends.interface import Backend
from gpunn.errors import ArgumentError, ArgumentTypeError, DeviceError, UnknownNameError

logger = logging.getLogger("gpunn")

DEVICES = ("auto", "cpu", "cuda", "reference", "simulator")
PRECISIONS = ("float32", "float64", "tf32", "bfloat16")


class Selection(NamedTuple):
    """A backend and the reason for it."""

    backend: Backend
    reason: str


def _missing_module(error: ImportError) -> str:
    return f"{error.name or error} cannot be imported ({error})"


def cpu_status() -> DeviceStatus:
    """Look for numba."""
    try:
        from gpunn.backends.cpu.backend import NumbaCPU
    except ImportError as error:
        return DeviceStatus("cpu", False, _missing_module(error) + "; pip install numba")
    return DeviceStatus("cpu", True, NumbaCPU().describe())


def simulator_status() -> DeviceStatus:
    """Look for a C++ compiler."""
    from gpunn.backends.cuda.simulator.compiler import find_compiler

    try:
        command = find_compiler()
    except DeviceError as error:
        return DeviceStatus("simulator", False, str(error))
    detail = f"the CUDA kernels on the CPU, compiled by {command[0]}; for tests: slow"
    return DeviceStatus("simulator", True, detail)


def device_statuses() -> tuple[DeviceStatus, ...]:
    """Return the state of every device; the compiler for kernels is tried out."""
    import numpy as np

    reference = DeviceStatus("reference", True, f"NumPy {np.__version__}, for tests: slow")
    return cuda_status(thorough=True), cpu_status(), reference, simulator_status()


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
    name, colon, index = device.partition(":")
    numbered = name == "cuda" and index.isascii() and index.isdigit()
    if name not in DEVICES or (colon and not numbered):
        meant = "cuda" if name.lower() in ("gpu", "nvidia") else None  # 'cpu' looks more alike
        raise UnknownNameError("device", device, (*DEVICES, "cuda:N"), meant)
    if name == "auto":
        selection = _select_auto(threads)
        logger.info("device %s: %s", selection.backend.describe(), selection.reason)
        return selection
    if name == "reference":
        return Selection(_reference(), "asked for")
    status = _status(name)
    if not status.usable:
        raise DeviceError(f"device {device!r} cannot be used: {status.detail}.")
    if name == "cpu":
        from gpunn.backends.cpu.backend import NumbaCPU

        return Selection(NumbaCPU(threads), "asked for")
    if name == "simulator":
        from gpunn.backends.cuda.backend import CudaBackend
        from gpunn.backends.cuda.simulator.driver import SimulatorDriver

        return Selection(CudaBackend(SimulatorDriver()), "asked for")
    number = int(index) if index else status.usable_gpus[0]
    if number not in status.usable_gpus:
        raise DeviceError(f"device {device!r} cannot be used: {_why_not(number, status)}.")
    return Selection(_cuda(number), "asked for")


def _status(name: str) -> DeviceStatus:
    return {"cuda": cuda_status, "cpu": cpu_status, "simulator": simulator_status}[name]()


def _why_not(number: int, status: DeviceStatus) -> str:
    if number < status.gpus:
        return f"that GPU is too old; {status.detail}"
    if status.gpus == 1:
        return "there is 1 GPU, cuda:0"
    return f"there are {status.gpus} GPUs, cuda:0 to cuda:{status.gpus - 1}"


def _cuda(index: int) -> Backend:
    from gpunn.backends.cuda.backend import CudaBackend
    from gpunn.backends.cuda.cupy_driver import CupyDriver

    return CudaBackend(CupyDriver(index))


def _reference() -> Backend:
    from gpunn.backends.reference.backend import NumpyReference

    return NumpyReference()


def _select_auto(threads: int | None) -> Selection:
    cuda = cuda_status()
    why = cuda.detail
    if cuda.usable:
        try:
            return Selection(_cuda(cuda.usable_gpus[0]), "a GPU that can be used")
        except DeviceError as error:  # another process may hold it
            why = str(error)
    status = cpu_status()
    if status.usable:
        from gpunn.backends.cpu.backend import NumbaCPU

        return Selection(NumbaCPU(threads), why)
    return Selection(_reference(), f"{why}; {status.detail}")
