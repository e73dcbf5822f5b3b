"""Programmatic dependent launch: a kernel is put in place while the one before it still runs.

Why results stay what they are is in ``kernels/dependent_launch.cuh``. CuPy does not offer such
launches; the package cuda-bindings does.
"""

from __future__ import annotations

import importlib
import logging
from dataclasses import replace
from functools import lru_cache
from pathlib import PurePath
from typing import Any

from gpunn.backends.cuda.driver import KernelSource, Launch
from gpunn.errors import DeviceError

logger = logging.getLogger("gpunn")

ARCHITECTURE = 90  # the first that has it
DRIVER = 12030  # the first that captures it into graphs, as an edge of its own kind: CUDA 12.3
DEFINE = "GPUNN_DEPENDENT_LAUNCH"
BINDINGS = "cuda.bindings.driver"
CONFIGURATIONS = 4096  # kept; a handful for each size of batch


def applies(launch: Launch) -> bool:
    """Return whether a launch may begin early: not one whose blocks wait for one another.

    Nor is a kernel that is not one of the project's: nobody has seen that it waits.
    """
    return not launch.cooperative and not PurePath(launch.source.file).is_absolute()


def waiting(source: KernelSource) -> KernelSource:
    """Return a source whose kernels wait for those before them."""
    return replace(source, defines=(*source.defines, DEFINE))


def launcher(name: str, architecture: int, cuda: Any) -> DependentLauncher | None:
    """Return what launches kernels early; None, and a line in the log, where a GPU cannot.

    Raises
    ------
    DeviceError
        It could, but cuda-bindings is not installed, or the driver is too old.
    """
    if architecture < ARCHITECTURE:
        logger.info("%s: no dependent launches before sm_%d", name, ARCHITECTURE)
        return None
    return DependentLauncher(name, cuda)


class DependentLauncher:
    """Launches kernels that wait by themselves for what was launched before.

    Parameters
    ----------
    name : str
        The device, for errors.
    cuda : module
        ``cupy.cuda``.

    Raises
    ------
    DeviceError
        cuda-bindings is not installed, or the driver is too old.
    """

    def __init__(self, name: str, cuda: Any) -> None:
        version = cuda.runtime.driverGetVersion()
        if version < DRIVER:
            raise DeviceError(
                f"{name}: dependent launches need a driver of CUDA {_words(DRIVER)} or later; this "
                f"one is of CUDA {_words(version)}. Leave dependent_launches False."
            )
        try:
            self._bindings = importlib.import_module(BINDINGS)
        except ImportError as error:
            major = version // 1000
            raise DeviceError(
                f"{name}: dependent launches need cuda-bindings, which cannot be imported "
                f"({' '.join(str(error).split())}): pip install 'cuda-bindings=={major}.*', or "
                "leave dependent_launches False."
            ) from error
        self._error = cuda.driver.CUDADriverError
        self.configuration = lru_cache(CONFIGURATIONS)(self._make_configuration)

    def _make_configuration(
        self, grid: tuple[int, int, int], block: tuple[int, int, int], shared: int, stream: int
    ) -> Any:
        bindings = self._bindings
        attribute = bindings.CUlaunchAttribute()
        attribute.id = (
            bindings.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
        )
        attribute.value.programmaticStreamSerializationAllowed = 1
        made = bindings.CUlaunchConfig()
        made.gridDimX, made.gridDimY, made.gridDimZ = grid
        made.blockDimX, made.blockDimY, made.blockDimZ = block
        made.sharedMemBytes, made.hStream = shared, stream
        made.attrs, made.numAttrs = [attribute], 1
        return made

    def __call__(self, function: int, *arguments: int) -> None:
        """Launch a kernel; arguments are those of CuPy's ``launchKernel``."""
        *geometry, shared, stream, parameters, extra = arguments
        made = self.configuration(tuple(geometry[:3]), tuple(geometry[3:]), shared, stream)
        (result,) = self._bindings.cuLaunchKernelEx(made, function, parameters, extra)
        if int(result):
            raise self._error(int(result))


def _words(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"
