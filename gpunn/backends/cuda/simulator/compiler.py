"""Compiles kernel files with the host's C++ compiler, for the simulator."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gpunn.backends.cuda import kernel_loader
from gpunn.backends.cuda.driver import KernelSource
from gpunn.errors import DeviceError

# The numbers come out as written, operation by operation: no fused multiply-add unless a kernel
# asks for it. Kernels look at the same bytes through several types, as CUDA allows.
# What the checks report to is in the shim, so their library is not linked.
OPTIONS = (
    *("-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-fno-strict-aliasing"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-exceptions", "-fno-rtti", "-w"),
)
CHECKS = "-fsanitize=alignment,null,integer-divide-by-zero"
SHIM = ("vectors.hpp", "runtime.hpp", "cuda.hpp", "exports.hpp")
RUNTIME = (
    *("vectors.hpp", "runtime.hpp", "context.hpp", "scheduler.hpp", "memory.hpp"),
    "runtime.cpp",
)

_ERROR = re.compile(r"\S.*:\d+: (fatal )?error: ")
_KERNEL = re.compile(
    r'extern\s*"C"\s*__global__\s+void\s+__launch_bounds__\s*\((.*?)\)\s*(\w+)\s*\(', re.DOTALL
)


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel.

    Attributes
    ----------
    number : int
        Its place in the library.
    parameters : tuple of str
        Type of each, as ``"f4"``; pointers as ``"*f4"``, and ``"*v0"`` to anything.
    threads : int
        The largest block.
    """

    number: int
    parameters: tuple[str, ...]
    threads: int


@dataclass(frozen=True)
class KernelLibrary:
    """The compiled kernels of a file, and the function that launches them."""

    handle: ctypes.CDLL
    kernels: Mapping[str, Kernel]


def find_compiler() -> tuple[str, ...]:
    """Return the command of the host's C++ compiler: ``$CXX``, or the first that works.

    Raises
    ------
    DeviceError
        There is none, or ``$CXX`` is none.
    """
    if sys.platform == "win32":
        raise DeviceError(
            "there is no simulator on Windows; inside the Windows Subsystem for Linux there is one"
        )
    named = os.environ.get("CXX", "").strip()
    if named:
        try:
            command = tuple(shlex.split(named))
            path = shutil.which(command[0])
            if path is None:
                raise DeviceError(f"{command[0]!r} is not found")
            _check((path, *command[1:]))
        except (ValueError, DeviceError) as error:
            raise DeviceError(f"CXX={named!r} is no C++17 compiler: {error}") from error
        return command
    faults = []
    for name in ("c++", "g++", "clang++"):
        if path := shutil.which(name):
            try:
                _check((path,))
            except DeviceError as error:
                faults.append(f"; {name} does not work: {error}")
            else:
                return (name,)
    install = "xcode-select --install" if sys.platform == "darwin" else "sudo apt install g++"
    raise DeviceError(
        f"no C++ compiler is found: `{install}` adds one, and the variable CXX names one that is "
        f"elsewhere{''.join(faults)}"
    )


@cache
def _check(command: tuple[str, ...]) -> None:
    """Raise a DeviceError of one line unless `command` is a C++17 compiler."""
    done = _start([*command, "-std=c++17", "-x", "c++", "-E", "-P", "-"], "__cplusplus\n")
    if done.returncode or "201703L" not in done.stdout:
        lines = done.stderr.strip().splitlines() or ["it does not answer as one"]
        raise DeviceError(next((line for line in lines if "error" in line), lines[0]).strip())


@cache
def compiler_version(command: tuple[str, ...]) -> str:
    """Return the first line of what the compiler says of itself."""
    lines = _run([*command, "--version"], "").splitlines()
    return lines[0] if lines else ""


def _run(command: list[str], text: str) -> str:
    done = _start(command, text)
    if done.returncode:
        reason = "\n".join(_shown(done.stderr)) or f"exit status {done.returncode}"
        raise DeviceError(f"the C++ compiler {command[0]} failed:\n{reason}")
    return done.stdout


def _start(command: list[str], text: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},  # errors are looked for by that word
            check=False,
        )
    except OSError as error:
        raise DeviceError(f"{command[0]!r} cannot be started ({error.strerror})") from error


def _shown(said: str) -> list[str]:
    """Return what to show of a compiler's messages: errors in a file, else how they end."""
    lines = [line for line in said.splitlines() if line.strip()]
    return [line for line in lines if _ERROR.match(line)][:5] or lines[-5:]


@cache
def _processor_options() -> tuple[str, ...]:
    """Fused multiply-adds and wide vectors, where the processor has them."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return ()
    return ("-mavx2", "-mfma") if {"avx2", "fma"} <= set(flags) else ()


_MAIN = """\
#include "{shim}/cuda.hpp"
#include "{path}"
#define GPUNN_KERNELS {kernels}
#include "{shim}/exports.hpp"
"""


def load(source: KernelSource, architecture: int) -> KernelLibrary:
    """Return the kernels of `source` as its files are now, compiled now or at an earlier time."""
    return _load(source, architecture, kernel_loader.digest(source))


@cache
def _load(source: KernelSource, architecture: int, digest: str) -> KernelLibrary:
    command = find_compiler()
    shim = kernel_loader.kernels_folder() / "simulator"
    common = (*OPTIONS, *_processor_options(), "-I", str(shim.parent))
    machine = (*command, compiler_version(command), sys.platform, platform.machine(), *common)
    runtime = f"runtime-{_hash(*machine, *_texts(shim, RUNTIME))}.o"
    options = (
        *(*common, CHECKS, "-DGPUNN_SIMULATOR", f"-DGPUNN_SIMULATED_ARCH={architecture * 10}"),
        *(f"-D{define}" for define in source.defines),
    )

    def compile_runtime(result: str) -> None:
        _run([*command, *common, "-c", str(shim / "runtime.cpp"), "-o", result], "")

    def compile_kernels(result: str) -> None:
        path = shim.parent / source.file
        # First what the preprocessor leaves of the file: kernels made by macros, or left out.
        text = _run([*command, *options, "-x", "c++", "-E", "-P", "-"], f'#include "{path}"\n')
        kernels = [f"GPUNN_KERNEL({name}, {threads})" for threads, name in _KERNEL.findall(text)]
        if not kernels:
            raise DeviceError(f"{source.file} holds no KERNEL(threads) name(...)")
        main = _MAIN.format(shim=shim, path=path, kernels=" ".join(kernels))
        linked = kernel_loader.cached_file("simulator", runtime, lambda: _made(compile_runtime))
        compiled = f"{result}.o"
        _run([*command, *options, "-c", "-x", "c++", "-", "-o", compiled], main)
        _run([*command, "-shared", compiled, str(linked), "-o", result], "")

    key = _hash(digest, *machine, *options, _MAIN, runtime, *_texts(shim, SHIM))
    name = f"{Path(source.file).stem}-{key}.so"
    return _open(kernel_loader.cached_file("simulator", name, lambda: _made(compile_kernels)))


def _texts(folder: Path, names: tuple[str, ...]) -> list[str]:
    return [(folder / name).read_text(encoding="utf-8") for name in names]


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _made(compile_to: Callable[[str], None]) -> bytes:
    """Return the file that `compile_to` writes, in a folder that goes again."""
    try:
        with tempfile.TemporaryDirectory(prefix="gpunn-") as folder:
            result = Path(folder) / "result"
            compile_to(str(result))
            return result.read_bytes()
    except OSError as error:
        raise DeviceError(f"kernels cannot be compiled: {error}") from error


def _open(path: Path) -> KernelLibrary:
    try:
        handle = ctypes.CDLL(str(path))
    except OSError as error:
        raise DeviceError(f"compiled kernels cannot be loaded: {error}") from error
    name, signature, threads = ctypes.c_char_p(), ctypes.c_char_p(), ctypes.c_int()
    kernels: dict[str, Kernel] = {}
    while handle.gpunn_kernel(
        len(kernels), ctypes.byref(name), ctypes.byref(signature), ctypes.byref(threads)
    ):
        parameters = tuple((signature.value or b"").decode().split())
        kernels[(name.value or b"").decode()] = Kernel(len(kernels), parameters, threads.value)
    return KernelLibrary(handle, kernels)
