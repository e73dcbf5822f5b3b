"""What there is of CUDA: GPU, driver, CuPy and compiler, in the order in which they are needed.

The cheap questions come first. A machine without a GPU is known by files of the system; the
driver's version is read without starting it, and CuPy is looked for without importing it.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gpunn.errors import GpunnError

OLDEST_ARCHITECTURE = 75
OLDEST_CUPY = (14, 0)
OLDEST_DRIVER = (12, 0)
DRIVERS = "https://www.nvidia.com/drivers"
NVIDIA, DISPLAY = "0x10de", "0x03"  # of /sys/bus/pci: vendor, and how a GPU's class begins
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_...

NO_DEVICE = 100  # status of cuInit
START_FAILURES = {
    34: "only a stub of the NVIDIA driver is found, from the CUDA toolkit: nvidia-smi",
    NO_DEVICE: "the NVIDIA driver finds no GPU: nvidia-smi",
    802: "the NVIDIA driver is not ready: sudo systemctl start nvidia-fabricmanager",
    803: "the NVIDIA driver was updated and the old one is still loaded: sudo reboot",
    804: "the CUDA compatibility package does not support this GPU: remove it (cuda-compat-...)",
    999: "the NVIDIA driver does not start: sudo modprobe nvidia-uvm",
}


class DeviceStatus(NamedTuple):
    """Whether a device can be used, and what there is or what is missing.

    Attributes
    ----------
    device : str
    usable : bool
    detail : str
        One line; where something is missing, it ends with what adds it.
    usable_gpus : tuple of int
        Numbers of the GPUs that can be used.
    gpus : int
        How many GPUs there are.
    """

    device: str
    usable: bool
    detail: str
    usable_gpus: tuple[int, ...] = ()
    gpus: int = 0


class Gpu(NamedTuple):
    """A GPU as the driver shows it; architecture 90 is sm_90."""

    name: str
    architecture: int


class DriverLibrary:
    """The driver's library, as far as it is needed here.

    Raises
    ------
    OSError
        It is not installed.
    """

    def __init__(self) -> None:
        name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
        self._library = ctypes.CDLL(name)

    def version(self) -> tuple[int, int]:
        """Return the newest CUDA that the driver runs, as (13, 0)."""
        value = ctypes.c_int()
        self._library.cuDriverGetVersion(ctypes.byref(value))
        return value.value // 1000, value.value % 1000 // 10

    def start(self) -> int:
        """Start the driver in this process; return its status, 0 where it runs."""
        return int(self._library.cuInit(0))

    def gpus(self) -> tuple[Gpu, ...]:
        """Return the GPUs that the process may use."""
        count = ctypes.c_int()
        self._library.cuDeviceGetCount(ctypes.byref(count))
        return tuple(self._gpu(i) for i in range(count.value))

    def _gpu(self, index: int) -> Gpu:
        library, device, value = self._library, ctypes.c_int(), ctypes.c_int()
        name = ctypes.create_string_buffer(256)
        library.cuDeviceGet(ctypes.byref(device), index)
        library.cuDeviceGetName(name, len(name), device)
        capability = []
        for attribute in (MAJOR, MINOR):
            library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
            capability.append(value.value)
        return Gpu(name.value.decode(errors="replace"), 10 * capability[0] + capability[1])


def has_gpu(root: Path = Path("/"), platform: str = sys.platform) -> bool:
    """Return whether the system shows an NVIDIA GPU, or may have one that it does not show."""
    if platform == "win32":
        return True  # there the driver's library tells
    if platform != "linux":
        return False
    # A driver that is loaded; a GPU of the host of the Windows Subsystem for Linux; a Jetson.
    for file in ("proc/driver/nvidia/version", "dev/nvidiactl", "dev/dxg", "dev/nvhost-gpu"):
        if (root / file).exists():
            return True
    for device in (root / "sys/bus/pci/devices").glob("*"):
        with suppress(OSError):
            vendor, kind = (device / "vendor").read_text(), (device / "class").read_text()
            if vendor.strip() == NVIDIA and kind.startswith(DISPLAY):
                return True
    return False


def surroundings(root: Path = Path("/")) -> str:
    """Return what decides how a driver is installed: "wsl", "container", or the Linux's name."""
    if (root / "dev/dxg").exists():
        return "wsl"
    if any((root / file).exists() for file in (".dockerenv", "run/.containerenv")):
        return "container"
    with suppress(OSError):
        for line in (root / "etc/os-release").read_text().splitlines():
            if line.startswith("ID="):
                return line.removeprefix("ID=").strip("\"'")
    return ""


def installed_cupys() -> dict[str, str]:
    """Return the packages that bring CuPy, and their versions; without importing it."""
    import importlib.metadata  # 10 ms

    found = {}
    for name in ("cupy", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x", "cupy-cuda14x"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@dataclass(frozen=True)
class Probes:
    """How each question is put to the system; tests put in their own answers.

    Attributes
    ----------
    has_gpu, open_driver, surroundings, has_cupy, installed_cupys, import_cupy : callable
    environment : mapping
    platform : str
    """

    has_gpu: Callable[[], bool] = has_gpu
    open_driver: Callable[[], Any] = DriverLibrary
    surroundings: Callable[[], str] = surroundings
    has_cupy: Callable[[], bool] = lambda: importlib.util.find_spec("cupy") is not None
    installed_cupys: Callable[[], Mapping[str, str]] = installed_cupys
    import_cupy: Callable[[], Any] = lambda: importlib.import_module("cupy")
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    platform: str = sys.platform


class _Missing(Exception):
    """Something is missing; the message says what, and what adds it."""


def cuda_status(probes: Probes | None = None, *, thorough: bool = False) -> DeviceStatus:
    """Return whether CUDA can be used.

    Parameters
    ----------
    probes : Probes, optional
    thorough : bool
        Also compile a kernel of one line.
    """
    probes = probes or Probes()
    gpus: tuple[Gpu, ...] = ()
    try:
        driver, version = _find_driver(probes)
        if not probes.has_cupy():
            raise _Missing(f"an NVIDIA GPU, but no CuPy: {_install(_cuda_for(version))}")
        gpus = _find_gpus(probes, driver)
        usable = tuple(i for i, gpu in enumerate(gpus) if gpu.architecture >= OLDEST_ARCHITECTURE)
        if not usable:
            oldest = f"sm_{OLDEST_ARCHITECTURE} (Turing, 2018)"
            raise _Missing(f"{_names(gpus)} is too old: gpunn needs {oldest} or later")
        cupy = _find_cupy(probes, version)
        _check_compiler(cupy, gpus[usable[0]], thorough)
    except _Missing as missing:
        return DeviceStatus("cuda", False, str(missing), (), len(gpus))
    versions = f"CuPy {cupy.__version__}, driver for CUDA {_dotted(version)}"
    return DeviceStatus("cuda", True, f"{_names(gpus)}; {versions}", usable, len(gpus))


def _find_driver(probes: Probes) -> tuple[Any, tuple[int, int]]:
    if probes.platform == "darwin":
        raise _Missing("macOS has no CUDA")
    if not probes.has_gpu():
        raise _Missing("no NVIDIA GPU found")
    try:
        driver = probes.open_driver()
    except OSError:
        if probes.platform == "win32":
            raise _Missing(f"no NVIDIA driver, so no GPU that could be used: {DRIVERS}") from None
        raise _Missing(
            f"an NVIDIA GPU, but no driver (libcuda.so.1): {_driver_advice(probes)}"
        ) from None
    version = driver.version()
    if version < OLDEST_DRIVER:
        raise _Missing(
            f"the NVIDIA driver is for CUDA {_dotted(version)}, gpunn needs one for "
            f"{_dotted(OLDEST_DRIVER)} or later: {_driver_advice(probes)}"
        )
    return driver, version


def _driver_advice(probes: Probes) -> str:
    where = probes.surroundings() if probes.platform == "linux" else ""
    return {
        "wsl": f"install it in Windows: {DRIVERS}",
        "container": "start the container with --gpus all",
        "ubuntu": "sudo ubuntu-drivers install",
        "debian": "sudo apt install nvidia-driver",
        "arch": "sudo pacman -S nvidia",
    }.get(where, DRIVERS)


def _find_gpus(probes: Probes, driver: Any) -> tuple[Gpu, ...]:
    status = driver.start()
    gpus: tuple[Gpu, ...] = () if status else driver.gpus()
    if gpus:
        return gpus
    visible = probes.environment.get("CUDA_VISIBLE_DEVICES")
    if status in (0, NO_DEVICE) and visible is not None:
        raise _Missing(f"CUDA_VISIBLE_DEVICES={visible!r} hides the GPU: unset it")
    why = START_FAILURES.get(status or NO_DEVICE, "the NVIDIA driver does not start: nvidia-smi")
    raise _Missing(f"{why} (cuInit: {status})")


def _find_cupy(probes: Probes, driver: tuple[int, int]) -> Any:
    """Return CuPy if it is a right one."""
    installed = probes.installed_cupys()
    removal = f"pip uninstall -y {' '.join(installed)} && " if installed else ""
    afresh = removal + _install(_cuda_for(driver))
    if len(installed) > 1:
        raise _Missing(f"more than one CuPy is installed: {afresh}")
    for name in installed:
        cuda = name.removeprefix("cupy-cuda").removesuffix("x")
        if cuda.isdigit() and not 12 <= int(cuda) <= driver[0]:
            raise _Missing(f"{name} with a driver for CUDA {_dotted(driver)}: {afresh}")
    try:
        cupy = probes.import_cupy()
        version, cuda = cupy.__version__, cupy.cuda.runtime.runtimeGetVersion() // 1000
    except Exception as error:  # a broken installation raises anything
        raise _Missing(f"CuPy cannot be used ({_one_line(error)}): {afresh}") from error
    if getattr(cupy.cuda.runtime, "is_hip", False):
        raise _Missing(f"CuPy is the one for AMD's GPUs: pip uninstall -y cupy && {afresh}")
    if cuda > driver[0]:
        raise _Missing(f"CuPy for CUDA {cuda}, a driver for CUDA {_dotted(driver)}: {afresh}")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_CUPY:
        oldest = _dotted(OLDEST_CUPY)
        raise _Missing(f"CuPy {version} is older than {oldest}: {_install(cuda, ' --upgrade')}")
    return cupy


def _check_compiler(cupy: Any, gpu: Gpu, thorough: bool) -> None:
    from gpunn.backends.cuda import nvrtc

    try:
        compiler = cupy.cuda.nvrtc
        target = nvrtc.choose_target(compiler, gpu.architecture)
        if thorough:
            program = compiler.createProgram("__global__ void nothing() {}", "nothing.cu", (), ())
            compiler.compileProgram(program, (f"-arch={target.name}",))
            compiler.destroyProgram(program)
    except Exception as error:
        # For the CUDA that this CuPy is for: another CuPy beside it would not do.
        advice = _install(cupy.cuda.runtime.runtimeGetVersion() // 1000)
        raise _Missing(
            f"NVRTC, the compiler for kernels, cannot be used ({_one_line(error)}): {advice}"
        ) from error


def _cuda_for(driver: tuple[int, int]) -> int:
    return 13 if driver >= (13, 0) else 12


def _install(cuda: int, option: str = "") -> str:
    return f"pip install{option} 'gpunn[cuda{cuda}]'"


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _names(gpus: tuple[Gpu, ...]) -> str:
    named = [f"{gpu.name} (sm_{gpu.architecture})" for gpu in gpus]
    return named[0] if len(named) == 1 else ", ".join(f"{i}: {gpu}" for i, gpu in enumerate(named))


def _one_line(error: Exception, length: int = 160) -> str:
    name = "" if isinstance(error, GpunnError) else type(error).__name__ + ": "
    lines = (line.strip(" =") for line in str(error).splitlines())
    text = name + " ".join(line for line in lines if line)
    return text if len(text) <= length else text[: length - 3] + "..."
