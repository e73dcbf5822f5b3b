"""All kernels compile for all GPUs, and take no more of them than recorded."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from gpunn.backends.cuda import kernel_loader, nvrtc
from gpunn.backends.cuda.driver import KernelSource
from gpunn.errors import DeviceError

if sys.platform != "linux":
    pytest.skip("needs Linux, for NVRTC from pip", allow_module_level=True)

import kernel_resources as resources

RECORD = "python tests/backends/cuda/kernel_resources.py"
SLACK = 8  # registers; another NVRTC gives a kernel a few more or fewer


@pytest.fixture(scope="module")
def results() -> list[resources.Result]:
    return resources.compile_all(everything=bool(os.environ.get("GPUNN_ALL_TARGETS")))


def test_all_kernels_compile(results: list[resources.Result]) -> None:
    errors = [result.error for result in results if result.error]
    assert not errors, "\n".join(errors)


def test_the_compiler_has_nothing_to_say(results: list[resources.Result]) -> None:
    said = {(r.label, r.target): r.warnings for r in results if r.warnings}
    assert not said


def test_every_file_is_launched_by_some_op_case(results: list[resources.Result]) -> None:
    compiled = {result.label.split()[0] for result in results}
    assert compiled == {path.name for path in kernel_loader.kernels_folder().glob("*.cu")}


def test_registers_suffice(results: list[resources.Result]) -> None:
    """No kernel keeps values in (slow) local memory, and none has shared memory of fixed size."""
    found = {
        f"{result.label} {result.target}: {kernel}": used
        for result in results
        for kernel, used in result.kernels.items()
        if any(used[1:])
    }
    assert not found


# Headers that no kernel includes yet, and a use of all that they offer.
HEADER_USES = {"grid.cuh": "KERNEL(64) use(uint32 *state) { grid_barrier(state); }"}


def test_headers_that_no_kernel_includes() -> None:
    folder = kernel_loader.kernels_folder()
    included = {name for path in folder.glob("*.cu") for name in kernel_loader.texts(path.name)}
    assert set(HEADER_USES) == {path.name for path in folder.glob("*.cuh")} - included


@pytest.mark.parametrize("header", HEADER_USES)
def test_headers_alone_compile(header: str, tmp_path: Path) -> None:
    file = tmp_path / "use.cu"
    file.write_text(f'#include "{header}"\n{HEADER_USES[header]}\n')
    for target in resources.TARGETS:
        result = resources.compile_one((KernelSource(str(file)), target))
        assert not result.error and not result.warnings, (target, result)
        assert not any(result.kernels["use"][1:]), (target, result)


def test_registers_are_as_recorded(results: list[resources.Result]) -> None:
    table = json.loads(resources.TABLE.read_text())
    recorded, version = table["registers"], nvrtc.version(resources.Bindings())
    grown, missing = [], []
    for result in results:
        for kernel, used in result.kernels.items():
            name = f"{result.label} {result.target}: {kernel}"
            before = recorded.get(result.label, {}).get(kernel, {}).get(result.target)
            if before is None:
                missing.append(name)
            elif used.registers > before + SLACK:
                grown.append(f"{name}: {before} -> {used.registers}")
    assert not missing, f"not in {resources.TABLE.name}; {RECORD} adds them"
    assert not grown, f"recorded with NVRTC {table['nvrtc']}, this is {version}; see {RECORD}"


def test_the_table_holds_no_kernels_that_are_gone() -> None:
    recorded = set(json.loads(resources.TABLE.read_text())["registers"])
    assert recorded == {resources.label(source) for source, _ in resources.tasks(everything=True)}


def test_reading_what_ptxas_says() -> None:
    log = """\
ptxas info    : 8 bytes gmem
ptxas info    : Compiling entry function 'first' for 'sm_90'
ptxas info    : Function properties for first
ptxas         .     24 bytes stack frame, 16 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 24 bytes cumulative stack size, 64 bytes smem
ptxas info    : Compiling entry function 'second' for 'sm_90'
ptxas info    : Function properties for second
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 30 registers, used 0 barriers, 400 bytes cmem[0]
"""
    assert resources.read_log(log) == {
        "first": resources.Resources(32, 24, 16, 8, 64),
        "second": resources.Resources(30, 0, 0, 0, 0),
    }


# NVRTC as the GPU's driver calls it, gpunn/backends/cuda/nvrtc.py

AFFINE = KernelSource("affine.cu", ("GPUNN_REAL=float",))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kernel_loader, "cache_folder", lambda kind: tmp_path)
    return tmp_path


def test_a_mistake_in_a_kernel_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = dict(kernel_loader.texts("affine.cu"))
    texts["affine.cu"] += "\n#warning first\nDEVICE int wrong() { return undeclared; }\n"
    monkeypatch.setattr(kernel_loader, "texts", lambda file: texts)
    with pytest.raises(DeviceError) as caught:
        nvrtc.compile_source(resources.Bindings(), AFFINE, nvrtc.Target("sm_80", "cubin"))
    first, shown, *_ = str(caught.value).splitlines()
    assert "kernels/affine.cu does not compile for sm_80 -DGPUNN_REAL=float (NVRTC" in first
    assert re.fullmatch(r'affine\.cu\(\d+\): error: identifier "undeclared" is undefined', shown)


def test_architectures_that_nvrtc_does_not_know_get_ptx(cache: Path) -> None:
    compiler = resources.Bindings()
    newer = max(compiler.getSupportedArchs()) + 10
    target = nvrtc.choose_target(compiler, newer)
    assert target == (f"compute_{newer - 10}", "ptx")
    assert b".visible .entry affine" in nvrtc.load(compiler, AFFINE, newer)
    with pytest.raises(DeviceError, match=r"does not compile for sm_52, only for sm_\d+ and later"):
        nvrtc.choose_target(compiler, 52)


class Counting(resources.Bindings):
    """NVRTC that counts what it compiles."""

    count = 0

    def compileProgram(self, program: object, options: tuple[str, ...]) -> None:
        self.count += 1
        super().compileProgram(program, options)


def test_compiled_kernels_are_kept(cache: Path) -> None:
    compiler = Counting()
    first = nvrtc.load(compiler, AFFINE, 80)
    assert first[:4] == b"\x7fELF"
    assert nvrtc.load(compiler, AFFINE, 80) == first
    assert compiler.count == len(list(cache.iterdir())) == 1
    nvrtc.load(compiler, AFFINE, 90)
    nvrtc.load(compiler, KernelSource("affine.cu", ("GPUNN_REAL=double",)), 80)
    assert compiler.count == len(list(cache.iterdir())) == 3


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "folder"])
def test_damaged_files_are_compiled_anew(damage: str, cache: Path) -> None:
    compiler = Counting()
    first = nvrtc.load(compiler, AFFINE, 80)
    (file,) = cache.iterdir()
    contents = file.read_bytes()
    file.unlink()
    if damage == "folder":
        file.mkdir()
    else:
        changed = contents[:-1] + bytes([contents[-1] ^ 1])
        file.write_bytes({"cut": contents[:-1], "changed": changed, "empty": b""}[damage])
    assert nvrtc.load(compiler, AFFINE, 80) == first
    assert compiler.count == 2
    if damage != "folder":
        assert file.read_bytes() == contents


def test_where_nothing_can_be_kept_every_process_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name, **options: occupied)
    kernel_loader._warn_of_cache.cache_clear()
    compiler = Counting()
    assert nvrtc.load(compiler, AFFINE, 80) == nvrtc.load(compiler, AFFINE, 80)
    assert compiler.count == 2
    (record,) = caplog.records
    assert "cannot be kept in" in record.message and "Not a directory" in record.message
