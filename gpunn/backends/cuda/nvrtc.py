"""Kernels compiled by NVRTC, NVIDIA's compiler as a library.

It is called directly. CuPy's RawModule would add ``-ftz=true``, which flushes subnormal numbers
to zero, and would include what it finds on disk; here a kernel sees its own files and nothing
else, under the names that it includes.

``nvrtc`` stands for the module ``cupy.cuda.nvrtc``, or for anything with the same functions.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import PurePath
from typing import Any, NamedTuple

from gpunn.backends.cuda import kernel_loader
from gpunn.backends.cuda.driver import KernelSource
from gpunn.errors import DeviceError

logger = logging.getLogger("gpunn")

OPTIONS = ("-std=c++17", "-lineinfo")
LOG_LINES = 20  # of an error message


class Target(NamedTuple):
    """What is compiled for.

    Attributes
    ----------
    name : str
        "sm_90", machine code for that architecture; "compute_90", PTX that the driver translates
        for it and later ones.
    kind : {"cubin", "ptx"}
    """

    name: str
    kind: str


def choose_target(nvrtc: Any, architecture: int) -> Target:
    """Return the best target that this NVRTC knows for an architecture.

    Raises
    ------
    DeviceError
        It knows none that runs there.
    """
    known = nvrtc.getSupportedArchs()
    if architecture in known:
        return Target(f"sm_{architecture}", "cubin")
    older = [arch for arch in known if arch < architecture]
    if not older:
        raise DeviceError(
            f"NVRTC {version(nvrtc)} does not compile for sm_{architecture}, only for sm_"
            f"{min(known)} and later; use a CuPy for an earlier CUDA: pip install 'gpunn[cuda12]'."
        )
    return Target(f"compute_{max(older)}", "ptx")


def version(nvrtc: Any) -> str:
    """Return the version of NVRTC, as "13.0"."""
    major, minor = nvrtc.getVersion()
    return f"{major}.{minor}"


def load(nvrtc: Any, source: KernelSource, architecture: int) -> bytes:
    """Return a kernel file compiled for an architecture: kept on disk, or compiled now."""
    target = choose_target(nvrtc, architecture)
    options = (target.name, *OPTIONS, version(nvrtc))
    stem = PurePath(source.file).stem
    name = f"{stem}-{kernel_loader.digest(source, *options)}.{target.kind}"

    def make() -> bytes:
        logger.info("compiling kernels/%s for %s", source.file, target.name)
        return compile_source(nvrtc, source, target).contents

    return kernel_loader.cached("cubin", name, make)


class Compiled(NamedTuple):
    """Machine code or PTX, and what the compiler said."""

    contents: bytes
    log: str


def compile_source(
    nvrtc: Any, source: KernelSource, target: Target, extra_options: tuple[str, ...] = ()
) -> Compiled:
    """Compile a kernel file.

    Raises
    ------
    DeviceError
        With the first lines of the compiler's log.
    """
    texts = kernel_loader.texts(source.file)
    headers = [name for name in texts if name != source.file]
    program = nvrtc.createProgram(
        texts[source.file],
        source.file,
        [texts[name].encode() for name in headers],
        [name.encode() for name in headers],
    )
    options = (f"-arch={target.name}", *OPTIONS, *(f"-D{d}" for d in source.defines))
    try:
        nvrtc.compileProgram(program, (*options, *extra_options))
        contents = nvrtc.getCUBIN(program) if target.kind == "cubin" else nvrtc.getPTX(program)
        return Compiled(contents, nvrtc.getProgramLog(program).strip("\0\n "))
    except Exception as error:
        log = ""
        with suppress(Exception):
            log = nvrtc.getProgramLog(program).strip("\0\n ")
        raise DeviceError(_failure(nvrtc, source, target, error, log)) from error
    finally:
        nvrtc.destroyProgram(program)


def _failure(nvrtc: Any, source: KernelSource, target: Target, error: Exception, log: str) -> str:
    lines = log.splitlines()
    # Warnings may come first and be many.
    start = next((i for i, line in enumerate(lines) if "error" in line), 0)
    shown = lines[start : start + LOG_LINES] or [str(error)]
    macros = "".join(f" -D{define}" for define in source.defines)
    return (
        f"kernels/{source.file} does not compile for {target.name}{macros} (NVRTC "
        f"{version(nvrtc)}). If gpunn is as it was installed, please report this.\n"
        + "\n".join(shown)
    )
