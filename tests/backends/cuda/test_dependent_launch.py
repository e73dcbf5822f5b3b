"""Kernels that are put in place early touch no memory before they have waited.

Seen in what the compiler makes of them, for every kernel: NVRTC compiles what the ops launch, with
the macro that makes kernels wait.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from gpunn.backends.cuda import dependent_launch, kernel_loader, nvrtc
from gpunn.backends.cuda.driver import KernelSource
from gpunn.errors import DeviceError

if sys.platform != "linux":
    pytest.skip("needs Linux, for NVRTC from pip", allow_module_level=True)

import kernel_resources as resources
from test_compile_gate import SLACK

# Every kernel on the first, in float; a sample on the others. With GPUNN_ALL_TARGETS=1 everything.
REAL = "GPUNN_REAL=float"
TARGETS = ("sm_90", "sm_100", "sm_120")
TRIGGER, WAIT = "griddepcontrol.launch_dependents", "griddepcontrol.wait"
# What may come before the wait: parameters, and arithmetic with them.
_HARMLESS = re.compile(
    r"ld\.param|cvta|mov|cvt|add|sub|mul|mad|div|rem|neg|abs|min|max|shl|shr|shf|and|or|xor|not"
    r"|setp|selp|bfe|bfi|fma|griddepcontrol"
)
_BODY = re.compile(r"^\.(?:visible \.)?entry (\w+)\(.*?^\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)


def faults(ptx: str) -> dict[str, str]:
    """Return by kernel what is wrong with it, "" where nothing is."""
    return {name: _fault(body) for name, body in _BODY.findall(ptx)}


def _fault(body: str) -> str:
    lines = [line.split("//")[0].strip() for line in body.splitlines()]
    lines = [line for line in lines if line and not line.startswith(".")]
    waits = [i for i, line in enumerate(lines) if line == f"{WAIT};"]
    if len(waits) != 1:
        return f"{len(waits)} waits"
    before = [line for line in lines[: waits[0]] if not line.startswith(("{", "}"))]
    if f"{TRIGGER};" not in before:
        return "the next kernel is not let in"
    for line in before:  # a label, a branch or a predicate: some threads might pass it by
        if not _HARMLESS.match(line):
            return f"before the wait: {line}"
    return next(
        (f"taken for constant: {x}" for x in lines if re.match(r"(@\S+ )?ld\S*\.nc", x)), ""
    )


class Result(NamedTuple):
    """A compiled source: what is wrong, by kernel, and what ptxas says of the resources."""

    source: str
    target: str
    error: str
    faults: dict[str, str]
    kernels: dict[str, resources.Resources]


def compile_one(task: tuple[KernelSource, str]) -> Result:
    """Compile a source for a target, with kernels that wait."""
    source, target = task

    class Both(resources.Bindings):
        """NVRTC whose program is asked for PTX, too."""

        def getCUBIN(self, program: object) -> bytes:
            self.ptx = self.getPTX(program).decode()
            return super().getCUBIN(program)

    compiler, early = Both(), dependent_launch.waiting(source)
    options = (resources.PTXAS_VERBOSE,)
    try:
        compiled = nvrtc.compile_source(compiler, early, nvrtc.Target(target, "cubin"), options)
    except DeviceError as error:
        return Result(resources.label(source), target, str(error), {}, {})
    found, used = faults(compiler.ptx), resources.read_log(compiled.log)
    return Result(resources.label(source), target, "", found, used)


def tasks() -> list[tuple[KernelSource, str]]:
    """Return what to compile, and for which target; the longest to compile first."""
    launched, everything = resources.launched(), bool(os.environ.get("GPUNN_ALL_TARGETS"))
    if everything:
        return [(source, target) for target in TARGETS for source in launched[target]]
    first, *others = TARGETS
    float32 = [source for source in launched[first] if REAL in source.defines]
    by_file = {source.file: source for source in float32}
    forms = [source for source in float32 if source.file == "dense.cu"]  # a kernel of each form
    one_of_each = sorted({*forms, *by_file.values()}, key=resources.label)
    chosen = [(source, first) for source in one_of_each]
    for i, target in enumerate(others):  # a quarter: PTX is the same but for the target's name
        chosen += [(source, target) for source in list(by_file.values())[i::4]]
    return sorted(chosen, key=lambda task: -len(kernel_loader.texts(task[0].file)))


@pytest.fixture(scope="module")
def results() -> list[Result]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(8, os.cpu_count() or 1), context) as pool:
        return list(pool.map(compile_one, tasks(), chunksize=4))


def test_every_kernel_waits_before_it_touches_memory(results: list[Result]) -> None:
    assert not [result.error for result in results if result.error]
    found = {
        f"{result.source} {result.target}: {kernel}: {fault}"
        for result in results
        for kernel, fault in result.faults.items()
        if fault
    }
    assert not found
    assert {result.target for result in results} == set(TARGETS)
    seen: dict[str, set[str]] = {}
    for result in results:
        assert result.faults.keys() == result.kernels.keys()
        seen.setdefault(result.source.split()[0], set()).update(result.faults)
    assert set(seen) == {path.name for path in kernel_loader.kernels_folder().glob("*.cu")}


def test_waiting_takes_no_more_registers(results: list[Result]) -> None:
    recorded = json.loads(resources.TABLE.read_text())["registers"]
    for result in results:
        for kernel, used in result.kernels.items():
            name = f"{result.source} {result.target}: {kernel}"
            assert not any(used[1:]), name
            if before := recorded[result.source][kernel].get(result.target):
                assert used.registers <= before + SLACK, name


PLANTED = """
#include "prelude.cuh"
KERNEL(32) waits(const real *from, real *to)
{
    const int64 i = first_index();
    wait_for_predecessor();
    to[i] = from[i];
}
KERNEL(32) never_waits(const real *from, real *to) { to[0] = from[0]; }
KERNEL(32) reads_first(const real *from, real *to)
{
    const real value = from[threadIdx.x];
    wait_for_predecessor();
    to[threadIdx.x] = value;
}
KERNEL(32) writes_first(real *to)
{
    to[threadIdx.x] = 1;
    wait_for_predecessor();
}
KERNEL(32) waits_at_times(const real *from, real *to, int n)
{
    if (n > 3)
        wait_for_predecessor();
    to[threadIdx.x] = from[threadIdx.x];
}
KERNEL(32) leaves_early(const real *from, real *to, int n)
{
    if ((int)threadIdx.x >= n)
        return;
    wait_for_predecessor();
    to[threadIdx.x] = from[threadIdx.x];
}
KERNEL(32) takes_for_constant(const real *__restrict__ from, real *__restrict__ to)
{
    wait_for_predecessor();
    to[threadIdx.x] = from[threadIdx.x];
}
KERNEL(32) lets_nobody_in(const real *from, real *to)
{
    asm volatile("griddepcontrol.wait;" : : : "memory");
    to[threadIdx.x] = from[threadIdx.x];
}
"""


def test_the_check_sees_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "planted.cu"
    file.write_text(PLANTED)
    result = compile_one((KernelSource(str(file)), "sm_90"))
    assert not result.error and result.faults.pop("waits") == ""
    assert result.faults.pop("never_waits") == "0 waits"
    assert result.faults.pop("lets_nobody_in") == "the next kernel is not let in"
    assert result.faults.pop("takes_for_constant").startswith("taken for constant: ld.global.nc")
    assert len(result.faults) == 4
    assert all(fault.startswith("before the wait: ") for fault in result.faults.values())


def test_kernels_that_are_launched_in_the_ordinary_way_do_not_wait() -> None:
    source = KernelSource("affine.cu", (REAL,))
    target = nvrtc.Target("compute_90", "ptx")
    assert (
        b"griddepcontrol" not in nvrtc.compile_source(resources.Bindings(), source, target).contents
    )
    early = dependent_launch.waiting(source)
    assert b"griddepcontrol" in nvrtc.compile_source(resources.Bindings(), early, target).contents


def test_where_kernels_cannot_wait_they_are_not_compiled_to() -> None:
    early = compile_one((KernelSource("affine.cu", (REAL,)), "sm_89"))
    assert "before sm_90 it cannot" in early.error


def test_configurations_of_cuda_s_own_bindings() -> None:
    """With the real types; there is nothing to launch on."""
    cuda = SimpleNamespace(
        runtime=SimpleNamespace(driverGetVersion=lambda: 13000),
        driver=SimpleNamespace(CUDADriverError=RuntimeError),
    )
    launcher = dependent_launch.DependentLauncher("cuda:0", cuda)
    made = launcher.configuration((7, 2, 1), (64, 1, 1), 4096, 17)
    assert (made.gridDimX, made.gridDimY, made.gridDimZ) == (7, 2, 1)
    assert (made.blockDimX, made.blockDimY, made.blockDimZ) == (64, 1, 1)
    assert (made.sharedMemBytes, int(made.hStream), made.numAttrs) == (4096, 17, 1)
    (attribute,) = made.attrs
    assert attribute.id.name == "CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION"
    assert attribute.value.programmaticStreamSerializationAllowed == 1
