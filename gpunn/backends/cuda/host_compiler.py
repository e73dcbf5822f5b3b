"""Compiles kernel files with the host's C++ compiler, for the simulator."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gpunn.backends.cuda import kernel_loader
from gpunn.backends.cuda.driver import Source
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
class Library:
    """The compiled kernels of a file, and the function that launches them."""

    handle: ctypes.CDLL
    kernels: Mapping[str, Kernel]


def find_compiler() -> tuple[str, ...]:
    """Return the command of the host's C++ compiler: ``$CXX``, or the first that is found.

    Raises
    ------
    DeviceError
        There is none.
    """
    if sys.platform == "win32":
        raise DeviceError(
            "the simulator does not run on Windows; inside the Windows Subsystem for Linux it does"
        )
    named = shlex.split(os.environ.get("CXX", ""))
    for command in (named, ["c++"], ["g++"], ["clang++"]):
        if command and shutil.which(command[0]):
            return tuple(command)
    install = "xcode-select --install" if sys.platform == "darwin" else "sudo apt install g++"
    raise DeviceError(
        f"the simulator needs a C++ compiler, and none is found; `{install}` adds one"
    )


@cache
def compiler_version(command: tuple[str, ...]) -> str:
    """Return the first line of what the compiler says of itself."""
    lines = _run([*command, "--version"], "").splitlines()
    return lines[0] if lines else ""


def _run(command: list[str], text: str) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        reason = "\n".join((lines or done.stderr.splitlines())[:5])
        raise DeviceError(f"the C++ compiler {command[0]} failed:\n{reason}")
    return done.stdout


@cache
def _processor_options() -> tuple[str, ...]:
    """Fused multiply-adds and wide vectors, where the processor has them."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return ()
    return ("-mavx2", "-mfma") if {"avx2", "fma"} <= set(flags) else ()


_MAIN = """\
#include "simulator/cuda.hpp"
#include "{file}"
#define GPUNN_KERNELS {kernels}
#include "simulator/exports.hpp"
"""


@cache
def load(source: Source, architecture: int) -> Library:
    """Return the kernels of `source`, compiled now or by an earlier process."""
    command = find_compiler()
    shim = kernel_loader.kernels_folder() / "simulator"
    options = (*OPTIONS, *_processor_options(), "-I", str(shim.parent))
    runtime = _runtime(command, options, shim)
    options = (
        *(*options, CHECKS, "-DGPUNN_SIMULATOR", f"-DGPUNN_SIMULATED_ARCH={architecture * 10}"),
        *(f"-D{define}" for define in source.defines),
    )
    key = kernel_loader.digest(
        source,
        *(*command, compiler_version(command), *options, _MAIN, runtime.name),
        *((shim / name).read_text(encoding="utf-8") for name in SHIM),
    )
    path = kernel_loader.cache_folder("simulator") / f"{Path(source.file).stem}-{key}.so"
    if not path.exists():
        # First what the preprocessor leaves of the file: kernels made by macros, or left out.
        scan = [*command, *options, "-x", "c++", "-E", "-P", "-"]
        text = _run(scan, f'#include "{source.file}"\n')
        kernels = [f"GPUNN_KERNEL({name}, {threads})" for threads, name in _KERNEL.findall(text)]
        if not kernels:
            raise DeviceError(f"{source.file} holds no KERNEL(threads) name(...)")
        main = _MAIN.format(file=source.file, kernels=" ".join(kernels))
        with _new_file(path) as (folder, result):
            compiled = f"{folder}/kernels.o"
            _run([*command, *options, "-c", "-x", "c++", "-", "-o", compiled], main)
            _run([*command, "-shared", compiled, str(runtime), "-o", result], "")
    return _open(path)


def _runtime(command: tuple[str, ...], options: tuple[str, ...], shim: Path) -> Path:
    """Return the compiled runtime of the simulator, which is linked to every file."""
    state = hashlib.sha256()
    for text in (*command, compiler_version(command), *options):
        state.update(f"{text}\0".encode())
    for name in RUNTIME:
        state.update((shim / name).read_bytes())
    path = kernel_loader.cache_folder("simulator") / f"runtime-{state.hexdigest()[:32]}.o"
    if not path.exists():
        with _new_file(path) as (_, result):
            _run([*command, *options, "-c", str(shim / "runtime.cpp"), "-o", result], "")
    return path


@contextmanager
def _new_file(path: Path) -> Iterator[tuple[str, str]]:
    """Yield a temporary folder, and where in it to write what becomes the file `path`.

    It is there whole or not at all, also where two processes are at it.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        result = Path(folder) / path.name
        yield folder, str(result)
        result.replace(path)


def _open(path: Path) -> Library:
    handle = ctypes.CDLL(str(path))
    name, signature, threads = ctypes.c_char_p(), ctypes.c_char_p(), ctypes.c_int()
    kernels: dict[str, Kernel] = {}
    while handle.gpunn_kernel(
        len(kernels), ctypes.byref(name), ctypes.byref(signature), ctypes.byref(threads)
    ):
        parameters = tuple((signature.value or b"").decode().split())
        kernels[(name.value or b"").decode()] = Kernel(len(kernels), parameters, threads.value)
    handle.gpunn_switches.restype = ctypes.c_uint64
    return Library(handle, kernels)
