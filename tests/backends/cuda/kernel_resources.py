"""Compiles all kernels as a GPU would need them, without one, and reads what they take.

NVRTC comes from pip (cuda-bindings, nvidia-cuda-nvrtc). What is compiled is what the ops launch:
every case of the op table is bound for each architecture, and the sources of its launches are
gathered; of the matrix products, all tiles. Tests take what the ops launch on one architecture,
there with a product of every tile and some in double precision, and a share of it on each of the
others; everything with GPUNN_ALL_TARGETS=1.

    python tests/backends/cuda/kernel_resources.py [FILE.cu ...]

compiles everything, or these files, and writes tests/recordings/kernel_resources.json anew. Look at
what has changed there before it is committed: more registers may mean fewer threads at once.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import sys
import zlib
from collections.abc import Iterator, Set
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from gpunn.backends.cuda import kernel_loader, nvrtc
from gpunn.backends.cuda.backend import OPERATIONS
from gpunn.backends.cuda.driver import KernelSource, Launch, Limits
from gpunn.backends.cuda.ops.dense import product_source
from gpunn.backends.cuda.ops.launches import Context
from gpunn.backends.cuda.tilings import ALONG, KINDS, TILES, device_tiles
from gpunn.errors import DeviceError

sys.path.insert(0, str(Path(__file__).parents[2] / "helpers"))

from op_cases import op_cases, precision_cases

TABLE = Path(__file__).parents[2] / "recordings" / "kernel_resources.json"
PTXAS_VERBOSE = "--ptxas-options=-v"
# Architecture -> bytes of shared memory a block may use (CUDA programming guide, table of
# compute capabilities), multiprocessors of a GPU of that kind.
GPUS = {
    75: (65536, 40),  # T4
    80: (166912, 108),  # A100
    86: (101376, 82),  # RTX 3090
    89: (101376, 128),  # RTX 4090
    90: (232448, 132),  # H100
    100: (232448, 148),  # B200
    120: (101376, 170),  # RTX 5090
}
TARGETS = {**{f"sm_{arch}": arch for arch in GPUS}, "sm_90a": 90}
ALL_TILES = ("sm_90",)
# They say little more than sm_90, so tests compile each source for one of them; but products, which
# tell architectures before 80, before 90 and later ones apart, for the first two.
SHARED_OUT = ("sm_75", "sm_80", "sm_89", "sm_100", "sm_120")
APART, PRODUCT = ("sm_75", "sm_80"), "dense.cu"
# So near to sm_89, and to sm_90 as long as no kernel uses wgmma, that they seldom say more.
ON_REQUEST = ("sm_86", "sm_90a")
DOUBLE = ("sm_90",)  # for gradient checks; its speed is no aim: tests take one of each file
REAL64 = "GPUNN_REAL=double"
TYPES = {"float32": "float32", "tf32": "float32", "bfloat16": "float32", "float64": "float64"}


class Resources(NamedTuple):
    """What ptxas says a kernel takes; bytes but for the registers of a thread."""

    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int


class Bindings:
    """cuda.bindings.nvrtc with the functions of cupy.cuda.nvrtc."""

    def __init__(self) -> None:
        from cuda.bindings import nvrtc as bindings

        self.bindings = bindings

    def _call(self, name: str, *arguments: Any) -> Any:
        result, *values = getattr(self.bindings, name)(*arguments)
        if result != self.bindings.nvrtcResult.NVRTC_SUCCESS:
            raise RuntimeError(f"{result.name} ({int(result)})")
        return values[0] if len(values) == 1 else tuple(values)

    def getVersion(self) -> tuple[int, int]:
        return self._call("nvrtcVersion")

    def getSupportedArchs(self) -> tuple[int, ...]:
        return tuple(self._call("nvrtcGetSupportedArchs"))

    def createProgram(self, text: str, name: str, headers: Any, names: Any) -> Any:
        text, name = text.encode(), name.encode()
        return self._call("nvrtcCreateProgram", text, name, len(names), headers, names)

    def compileProgram(self, program: Any, options: tuple[str, ...]) -> None:
        self._call("nvrtcCompileProgram", program, len(options), [o.encode() for o in options])

    def _bytes(self, what: str, program: Any) -> bytes:
        # NVRTC writes into the bytes. One byte more, as Python has but one b" ".
        size = self._call(f"nvrtcGet{what}Size", program)
        contents = b" " * (size + 1)
        self._call(f"nvrtcGet{what}", program, contents)
        return contents[:size]

    def getCUBIN(self, program: Any) -> bytes:
        return self._bytes("CUBIN", program)

    def getPTX(self, program: Any) -> bytes:
        return self._bytes("PTX", program)

    def getProgramLog(self, program: Any) -> str:
        return self._bytes("ProgramLog", program).decode()

    def destroyProgram(self, program: Any) -> None:
        self._call("nvrtcDestroyProgram", program)


# What is launched


def launches(case: Any, arrays: Any, arch: int) -> list[Launch]:
    """Return the launches of an op case on a GPU of an architecture."""
    shared, multiprocessors = GPUS[arch]
    limits = Limits(arch, multiprocessors, shared)
    context = Context(limits, lambda nbytes: np.empty(nbytes, np.uint8))
    work = OPERATIONS[case.op](context, arrays, dict(case.attrs), case.rows)
    return [one for one in work if isinstance(one, Launch)]


@cache
def launched() -> dict[str, tuple[KernelSource, ...]]:
    """Return the sources that the op cases launch on each target; double only on `DOUBLE`."""
    found: dict[str, dict[KernelSource, None]] = {target: {} for target in TARGETS}
    cases: list[tuple[Any, Any]] = [(case, TARGETS) for case in op_cases("float32")]
    cases += [(c, TARGETS) for name in ("tf32", "bfloat16") for c in precision_cases(name)]
    cases += [(case, DOUBLE) for case in op_cases("float64")]
    for case, targets in cases:
        arrays = case.make(np.random.default_rng(zlib.crc32(str(case).encode())))
        for target in targets:
            try:
                for launch in launches(case, arrays, TARGETS[target]):
                    found[target][launch.source] = None
            except DeviceError:  # a precision that this architecture has not
                assert case.attrs["precision"] in ("tf32", "bfloat16") and target == "sm_75", case
    return {target: tuple(sources) for target, sources in found.items()}


def products(target: str, every_form: bool) -> Iterator[KernelSource]:
    """Yield the sources of products that a target has room for: of each tile all forms, or one."""
    arch = TARGETS[target]
    memory, multiprocessors = GPUS[arch]
    for precision in TILES:
        if (KINDS[precision] != "IEEE" and arch < 80) or (
            precision == "float64" and target not in DOUBLE
        ):
            continue
        for i, tile in enumerate(device_tiles(precision, Limits(arch, multiprocessors, memory))):
            for form in ALONG if every_form else [list(ALONG)[i % len(ALONG)]]:
                if tile.shared_bytes(form, precision) <= memory:
                    shape = SimpleNamespace(tile=tile)
                    yield product_source(form, precision, shape, TYPES[precision])


def tasks(everything: bool) -> list[tuple[KernelSource, str]]:
    """Return what to compile, and for which target; long ones first."""
    chosen: dict[tuple[KernelSource, str], None] = {}
    for target, sources in launched().items():
        if target in ON_REQUEST and not everything:
            continue
        taken = list(sources)
        if not everything:
            double = {source.file: source for source in sources if REAL64 in source.defines}
            taken = [s for s in sources if REAL64 not in s.defines or double[s.file] is s]
        if not everything and target in SHARED_OUT:
            taken = taken[SHARED_OUT.index(target) :: len(SHARED_OUT)]
            taken += [s for s in sources if s.file == PRODUCT and target in APART]
        if everything or target in ALL_TILES:
            taken += products(target, every_form=everything)
        chosen.update(dict.fromkeys((source, target) for source in taken))
    return sorted(chosen, key=lambda task: -len(kernel_loader.texts(task[0].file)))


def label(source: KernelSource) -> str:
    """Return the name of a source in the table; a formula of the user's goes by its checksum."""
    body = "GPUNN_BODY="
    short = (
        f"{body}{zlib.crc32(define.encode()):08x}" if define.startswith(body) else define
        for define in source.defines
    )
    return " ".join((source.file, *short))


# What it takes

_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(.*)")
_SHARED = re.compile(r"(\d+) bytes smem")


def read_log(log: str) -> dict[str, Resources]:
    """Return the resources of each kernel from ptxas' words."""
    found: dict[str, Resources] = {}
    name, frame = "", (0, 0, 0)
    for line in log.splitlines():
        if match := _ENTRY.search(line):
            name = match[1]
        elif match := _FRAME.search(line):
            frame = (int(match[1]), int(match[2]), int(match[3]))
        elif match := _USED.search(line):
            shared = _SHARED.search(match[2])
            found[name] = Resources(int(match[1]), *frame, int(shared[1]) if shared else 0)
    return found


class Result(NamedTuple):
    """A compiled source: resources by kernel, warnings, and the error if it does not compile."""

    label: str
    target: str
    kernels: dict[str, Resources]
    warnings: list[str]
    error: str


def compile_one(task: tuple[KernelSource, str]) -> Result:
    """Compile a source for a target."""
    source, target = task
    try:
        compiled = nvrtc.compile_source(
            Bindings(), source, nvrtc.Target(target, "cubin"), (PTXAS_VERBOSE,)
        )
    except DeviceError as error:
        return Result(label(source), target, {}, [], str(error))
    assert compiled.contents[:4] == b"\x7fELF"
    warnings = [line for line in compiled.log.splitlines() if "warning" in line]
    return Result(label(source), target, read_log(compiled.log), warnings, "")


def compile_all(everything: bool = False, files: Set[str] = frozenset()) -> list[Result]:
    """Compile on all cores: in processes, since threads of one process hardly gain anything.

    `files` are those to compile; all if there are none.
    """
    chosen = [task for task in tasks(everything) if not files or task[0].file in files]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(8, os.cpu_count() or 1), context) as pool:
        return list(pool.map(compile_one, chosen, chunksize=4))


def table(results: list[Result]) -> dict[str, Any]:
    """Return what is recorded: registers by source, kernel and target."""
    kernels: dict[str, dict[str, dict[str, int]]] = {}
    for result in sorted(results):
        for kernel, resources in sorted(result.kernels.items()):
            by_target = kernels.setdefault(result.label, {}).setdefault(kernel, {})
            by_target[result.target] = resources.registers
    order = list(TARGETS)
    for source in kernels.values():
        for kernel, by_target in source.items():
            source[kernel] = {t: by_target[t] for t in order if t in by_target}
    return {"nvrtc": nvrtc.version(Bindings()), "registers": kernels}


def write_table(contents: dict[str, Any]) -> None:
    """Write the table with a line for each kernel."""

    def lines() -> Iterator[str]:
        yield f'{{\n "nvrtc": {json.dumps(contents["nvrtc"])},\n "registers": {{'
        sources = list(contents["registers"].items())
        for i, (source, kernels) in enumerate(sources):
            yield f"  {json.dumps(source)}: {{"
            rows = [f"   {json.dumps(name)}: {json.dumps(row)}" for name, row in kernels.items()]
            yield ",\n".join(rows)
            yield "  }" if i == len(sources) - 1 else "  },"
        yield " }\n}"

    TABLE.write_text("\n".join(lines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    outcome = compile_all(everything=True, files=set(sys.argv[1:]))
    for one in outcome:
        used = [f"{kernel}: {what}" for kernel, what in one.kernels.items() if any(what[1:])]
        for line in filter(None, (one.error, *one.warnings, *used)):
            print(one.label, one.target, line, file=sys.stderr)
    contents = table(outcome)
    if sys.argv[1:]:
        before = json.loads(TABLE.read_text(encoding="utf-8"))
        if before["nvrtc"] != contents["nvrtc"]:
            raise SystemExit(f"the table is of NVRTC {before['nvrtc']}: record all files")
        kept = {k: v for k, v in before["registers"].items() if k.split()[0] not in sys.argv[1:]}
        contents["registers"] = dict(sorted((kept | contents["registers"]).items()))
    write_table(contents)
    print(f"{len(outcome)} programs; wrote {TABLE}")
