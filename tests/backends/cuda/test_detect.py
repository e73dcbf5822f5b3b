"""What `gpunn devices` and the choice of a device say in every state of GPU, driver and CuPy."""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpunn.backends import select
from gpunn.backends.cuda import cupy_driver, detect
from gpunn.backends.cuda.detect import DeviceStatus, DriverLibrary, Gpu, Probes, cuda_status
from gpunn.backends.select import device_statuses, select_backend
from gpunn.errors import DeviceError, UnknownNameError

H100, P100 = Gpu("NVIDIA H100 80GB HBM3", 90), Gpu("Tesla P100", 60)
URL = "https://www.nvidia.com/drivers"


def driver(version: tuple[int, int] = (13, 0), status: int = 0, *gpus: Gpu) -> Callable[[], Any]:
    """Return what opens a driver."""
    made = SimpleNamespace(version=lambda: version, start=lambda: status, gpus=lambda: gpus)
    return lambda: made


def raising(error: Exception) -> Callable[[], Any]:
    def raise_it() -> Any:
        raise error

    return raise_it


class Nvrtc:
    """cupy.cuda.nvrtc."""

    def __init__(self, compiles: bool = True) -> None:
        self.compiles, self.compiled = compiles, 0

    def getSupportedArchs(self) -> tuple[int, ...]:
        return (75, 80, 90)

    def createProgram(self, *arguments: Any) -> int:
        return 1

    def compileProgram(self, program: int, options: tuple[str, ...]) -> None:
        self.compiled += 1
        if not self.compiles:
            raise RuntimeError("NVRTC_ERROR_BUILTIN_OPERATION_FAILURE (7)")

    def destroyProgram(self, program: int) -> None:
        pass


def cupy(
    version: str = "14.2.0", cuda: int = 13020, nvrtc: Any = None, is_hip: bool = False
) -> Callable[[], Any]:
    """Return what imports CuPy."""
    runtime = SimpleNamespace(runtimeGetVersion=lambda: cuda, is_hip=is_hip)
    made = SimpleNamespace(__version__=version, cuda=SimpleNamespace(runtime=runtime))
    made.cuda.nvrtc = nvrtc or Nvrtc()
    return lambda: made


def probes(**changes: Any) -> Probes:
    """Return probes that find all well, but for the changes."""
    answers = {
        "has_gpu": lambda: True,
        "open_driver": driver((13, 0), 0, H100),
        "surroundings": lambda: "ubuntu",
        "has_cupy": lambda: True,
        "installed_cupys": lambda: {"cupy-cuda13x": "14.2.0"},
        "import_cupy": cupy(),
        "environment": {},
        "platform": "linux",
    }
    return Probes(**{**answers, **changes})


def test_all_well() -> None:
    assert cuda_status(probes()) == DeviceStatus(
        "cuda", True, "NVIDIA H100 80GB HBM3 (sm_90); CuPy 14.2.0, driver for CUDA 13.0", (0,), 1
    )
    two = cuda_status(probes(open_driver=driver((13, 1), 0, P100, H100)))
    assert two.usable and two.usable_gpus == (1,) and two.gpus == 2
    assert two.detail.startswith("0: Tesla P100 (sm_60), 1: NVIDIA H100 80GB HBM3 (sm_90); CuPy")
    # A CuPy for an earlier CUDA than the driver's, and one that is not from pip, will do.
    older = probes(installed_cupys=lambda: {"cupy-cuda12x": "14.0.1"}, import_cupy=cupy(cuda=12090))
    assert cuda_status(older).usable
    assert cuda_status(probes(installed_cupys=lambda: {"cupy": "14.2.0"})).usable


STUB = "only a stub of the NVIDIA driver is found, from the CUDA toolkit: nvidia-smi (cuInit: 34)"
MISSING: dict[str, tuple[dict[str, Any], str]] = {
    "no GPU": ({"has_gpu": lambda: False}, "no NVIDIA GPU found"),
    "macOS": ({"platform": "darwin"}, "macOS has no CUDA"),
    "no driver": (
        {"open_driver": raising(OSError("libcuda.so.1"))},
        "an NVIDIA GPU, but no driver (libcuda.so.1): sudo ubuntu-drivers install",
    ),
    "no driver, Debian": (
        {"open_driver": raising(OSError()), "surroundings": lambda: "debian"},
        "an NVIDIA GPU, but no driver (libcuda.so.1): sudo apt install nvidia-driver",
    ),
    "no driver, another Linux": (
        {"open_driver": raising(OSError()), "surroundings": lambda: "rocky"},
        f"an NVIDIA GPU, but no driver (libcuda.so.1): {URL}",
    ),
    "no driver, container": (
        {"open_driver": raising(OSError()), "surroundings": lambda: "container"},
        "an NVIDIA GPU, but no driver (libcuda.so.1): start the container with --gpus all",
    ),
    "no driver, WSL": (
        {"open_driver": raising(OSError()), "surroundings": lambda: "wsl"},
        f"an NVIDIA GPU, but no driver (libcuda.so.1): install it in Windows: {URL}",
    ),
    "no driver, Windows": (
        {"open_driver": raising(OSError()), "platform": "win32"},
        f"no NVIDIA driver, so no GPU that could be used: {URL}",
    ),
    "driver too old": (
        {"open_driver": driver((11, 4), 0, H100)},
        "the NVIDIA driver is for CUDA 11.4, gpunn needs one for 12.0 or later: "
        "sudo ubuntu-drivers install",
    ),
    "no CuPy": (
        {"has_cupy": lambda: False},
        "an NVIDIA GPU, but no CuPy: pip install 'gpunn[cuda13]'",
    ),
    "no CuPy, older driver": (
        {"has_cupy": lambda: False, "open_driver": driver((12, 8), 0, H100)},
        "an NVIDIA GPU, but no CuPy: pip install 'gpunn[cuda12]'",
    ),
    "hidden": (
        {"open_driver": driver((13, 0), 100), "environment": {"CUDA_VISIBLE_DEVICES": ""}},
        "CUDA_VISIBLE_DEVICES='' hides the GPU: unset it",
    ),
    "hidden, and the driver starts": (
        {"open_driver": driver(), "environment": {"CUDA_VISIBLE_DEVICES": "-1"}},
        "CUDA_VISIBLE_DEVICES='-1' hides the GPU: unset it",
    ),
    "no GPU for the driver": (
        {"open_driver": driver((13, 0), 100)},
        "the NVIDIA driver finds no GPU: nvidia-smi (cuInit: 100)",
    ),
    "driver updated": (
        {"open_driver": driver((13, 0), 803)},
        "the NVIDIA driver was updated and the old one is still loaded: sudo reboot (cuInit: 803)",
    ),
    "stub": ({"open_driver": driver((13, 0), 34)}, STUB),
    "driver fails somehow": (
        {"open_driver": driver((13, 0), 4321)},
        "the NVIDIA driver does not start: nvidia-smi (cuInit: 4321)",
    ),
    "GPU too old": (
        {"open_driver": driver((12, 8), 0, P100)},
        "Tesla P100 (sm_60) is too old: gpunn needs sm_75 (Turing, 2018) or later",
    ),
    "CuPy for a later CUDA": (
        {"open_driver": driver((12, 8), 0, H100)},
        "cupy-cuda13x with a driver for CUDA 12.8: "
        "pip uninstall -y cupy-cuda13x && pip install 'gpunn[cuda12]'",
    ),
    "CuPy for a later CUDA, not from pip": (
        {"open_driver": driver((12, 8), 0, H100), "installed_cupys": lambda: {"cupy": "14.2.0"}},
        "CuPy for CUDA 13, a driver for CUDA 12.8: "
        "pip uninstall -y cupy && pip install 'gpunn[cuda12]'",
    ),
    "CuPy for CUDA 11": (
        {"installed_cupys": lambda: {"cupy-cuda11x": "13.6.0"}},
        "cupy-cuda11x with a driver for CUDA 13.0: "
        "pip uninstall -y cupy-cuda11x && pip install 'gpunn[cuda13]'",
    ),
    "two CuPys": (
        {"installed_cupys": lambda: {"cupy-cuda12x": "14.2.0", "cupy-cuda13x": "14.2.0"}},
        "more than one CuPy is installed: pip uninstall -y cupy-cuda12x "
        "cupy-cuda13x && pip install 'gpunn[cuda13]'",
    ),
    "CuPy too old": (
        {"import_cupy": cupy("13.6.0", 12080)},
        "CuPy 13.6.0 is older than 14.0: pip install --upgrade 'gpunn[cuda12]'",
    ),
    "CuPy broken": (
        {"import_cupy": raising(ImportError("\n=====\nlibcudart.so: not found\n====="))},
        "CuPy cannot be used (ImportError: libcudart.so: not found): "
        "pip uninstall -y cupy-cuda13x && pip install 'gpunn[cuda13]'",
    ),
    "CuPy for AMD": (
        {"import_cupy": cupy(is_hip=True), "installed_cupys": dict},
        "CuPy is the one for AMD's GPUs: pip uninstall -y cupy && pip install 'gpunn[cuda13]'",
    ),
    "no compiler": (
        {"import_cupy": cupy(cuda=12090, nvrtc=object())},
        "NVRTC, the compiler for kernels, cannot be used (AttributeError: 'object' object has no "
        "attribute 'getSupportedArchs'): pip install 'gpunn[cuda12]'",
    ),
}


@pytest.mark.parametrize("state", MISSING)
def test_what_is_missing(state: str) -> None:
    changes, detail = MISSING[state]
    status = cuda_status(probes(**changes))
    assert (status.device, status.usable, status.usable_gpus) == ("cuda", False, ())
    assert status.detail == detail and "\n" not in detail


def test_long_errors_are_cut() -> None:
    status = cuda_status(probes(import_cupy=raising(ImportError("word " * 100))))
    assert len(status.detail) < 300 and "...)" in status.detail


def test_the_compiler_is_tried_out_only_when_asked_for() -> None:
    for compiles, thorough, usable in ((True, True, True), (False, True, False), (False, False, 1)):
        compiler = Nvrtc(compiles)
        found = probes(import_cupy=cupy(nvrtc=compiler))
        status = cuda_status(found, thorough=thorough)
        assert status.usable == usable and compiler.compiled == thorough
        assert usable or "NVRTC_ERROR_BUILTIN_OPERATION_FAILURE (7)): pip install" in status.detail


def test_without_a_gpu_nothing_is_opened_or_imported() -> None:
    untouched = raising(AssertionError())
    status = cuda_status(
        probes(
            **dict.fromkeys(
                ("open_driver", "has_cupy", "installed_cupys", "import_cupy"), untouched
            ),
            has_gpu=lambda: False,
        )
    )
    assert not status.usable


def test_without_cupy_the_driver_is_not_started() -> None:
    unstarted = driver()()
    unstarted.start = raising(AssertionError())
    changes = {"open_driver": lambda: unstarted, "has_cupy": lambda: False}
    assert "no CuPy" in cuda_status(probes(**changes)).detail


# The probes


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


PCI = "sys/bus/pci/devices/0000:01:00."
AUDIO = {f"{PCI}1/vendor": "0x10de\n", f"{PCI}1/class": "0x040300\n"}
AMD = {f"{PCI}0/vendor": "0x1002\n", f"{PCI}0/class": "0x030000\n"}
NVIDIA = {f"{PCI}0/vendor": "0x10de\n", f"{PCI}0/class": "0x030200\n", f"{PCI}2/vendor": "0x8086\n"}


@pytest.mark.parametrize(
    ("files", "platform", "expected"),
    [
        ({}, "linux", False),
        ({**AUDIO, **AMD}, "linux", False),
        ({**AUDIO, **NVIDIA}, "linux", True),
        ({"proc/driver/nvidia/version": "NVRM"}, "linux", True),
        ({"dev/dxg": ""}, "linux", True),
        (NVIDIA, "darwin", False),
        ({}, "win32", True),
    ],
)
def test_gpus_of_the_system(
    files: dict[str, str], platform: str, expected: bool, tmp_path: Path
) -> None:
    assert detect.has_gpu(write(tmp_path, files), platform) is expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, ""),
        ({"etc/os-release": 'NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\n'}, "ubuntu"),
        ({"etc/os-release": 'VERSION_ID="9"\nID="rocky"\n'}, "rocky"),
        ({".dockerenv": "", "etc/os-release": "ID=debian\n"}, "container"),
        ({"dev/dxg": "", "etc/os-release": "ID=ubuntu\n"}, "wsl"),
    ],
)
def test_surroundings(files: dict[str, str], expected: str, tmp_path: Path) -> None:
    assert detect.surroundings(write(tmp_path, files)) == expected


class Library:
    """libcuda.so.1 with two GPUs."""

    gpus = (P100, H100)

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = 12080
        return 0

    def cuInit(self, flags: int) -> int:
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = len(self.gpus)
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:
        name.value = self.gpus[device.value].name.encode()
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        architecture = self.gpus[device.value].architecture
        value._obj.value = {75: architecture // 10, 76: architecture % 10}[attribute]
        return 0


def test_the_driver_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: opened.append(name) or Library())
    found = DriverLibrary()
    assert opened == ["nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"]
    assert (found.version(), found.start(), found.gpus()) == ((12, 8), 0, (P100, H100))


def test_packages_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def version(name: str) -> str:
        if name == "cupy-cuda12x":
            return "14.0.1"
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "version", version)
    assert detect.installed_cupys() == {"cupy-cuda12x": "14.0.1"}


def test_this_machine_can_be_looked_at() -> None:
    for thorough in (False, True):
        status = cuda_status(thorough=thorough)
        assert status.device == "cuda" and status.detail


# Choosing a device


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """GPU 0 is too old, GPU 1 can be used; returns the numbers of those opened."""
    opened: list[int] = []

    class Driver:
        arrays, timed = "cupy", False

        def __init__(self, index: int) -> None:
            opened.append(index)
            self.name = f"cuda:{index}"

        def allocate(self, nbytes: int) -> Any:
            return np.zeros(nbytes, np.uint8)

        def describe(self) -> str:
            return self.name

    status = cuda_status(probes(open_driver=driver((13, 0), 0, P100, H100)))
    monkeypatch.setattr(select, "cuda_status", lambda **keywords: status)
    monkeypatch.setattr(cupy_driver, "CupyDriver", Driver)
    return opened


def test_cuda_is_the_first_gpu_that_can_be_used(two_gpus: list[int]) -> None:
    for device in ("cuda", "cuda:1"):
        assert select_backend(device).backend.name == "cuda:1"
    assert two_gpus == [1, 1]


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("cuda:0", "that GPU is too old; 0: Tesla P100 (sm_60), 1: NVIDIA H100"),
        ("cuda:2", "device 'cuda:2' cannot be used: there are 2 GPUs, cuda:0 to cuda:1."),
    ],
)
def test_gpus_that_are_not_there(device: str, said: str, two_gpus: list[int]) -> None:
    with pytest.raises(DeviceError) as caught:
        select_backend(device)
    assert said in str(caught.value) and not two_gpus


def test_a_second_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "cuda_status", lambda: cuda_status(probes()))
    with pytest.raises(DeviceError, match=r"'cuda:1' cannot be used: there is 1 GPU, cuda:0\."):
        select_backend("cuda:1")


def test_auto_takes_the_gpu(two_gpus: list[int], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gpunn"):
        assert select_backend().backend.name == "cuda:1"
    assert [record.message for record in caplog.records] == [
        "device cuda:1: a GPU that can be used"
    ]


def test_auto_goes_on_where_the_gpu_does_not_open(
    two_gpus: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(index: int) -> None:
        raise DeviceError("cuda:1: opening the device failed: busy.")

    monkeypatch.setattr(cupy_driver, "CupyDriver", busy)
    backend, reason = select_backend()
    assert backend.name == "cpu" and reason == "cuda:1: opening the device failed: busy."
    with pytest.raises(DeviceError, match="busy"):
        select_backend("cuda")


def test_what_is_missing_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        select, "cuda_status", lambda **keywords: cuda_status(probes(has_cupy=lambda: False))
    )
    advice = "an NVIDIA GPU, but no CuPy: pip install 'gpunn[cuda13]'"
    with pytest.raises(DeviceError) as caught:
        select_backend("cuda:1")
    assert str(caught.value) == f"device 'cuda:1' cannot be used: {advice}."
    with caplog.at_level(logging.INFO, "gpunn"):
        assert select_backend().reason == advice
    assert caplog.records[-1].message.endswith(f": {advice}")


@pytest.mark.parametrize("device", ["cuda:", "cuda:x", "cuda:-1", "cpu:1", "gpu", "simulator:0"])
def test_names_that_are_none(device: str, two_gpus: list[int]) -> None:
    with pytest.raises(UnknownNameError, match="Unknown device"):
        select_backend(device)


def test_the_simulator_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpunn.backends.cuda.simulator import compiler as host_compiler

    def none() -> tuple[str, ...]:
        raise DeviceError("the simulator needs a C++ compiler, and none is found")

    monkeypatch.setattr(host_compiler, "find_compiler", none)
    with pytest.raises(DeviceError, match=r"'simulator' cannot be used: .*none is found\."):
        select_backend("simulator")
    *_, simulator = device_statuses()
    assert not simulator.usable


def test_gpu_means_cuda() -> None:
    with pytest.raises(UnknownNameError, match="'gpu'; did you mean 'cuda'"):
        select_backend("gpu")
