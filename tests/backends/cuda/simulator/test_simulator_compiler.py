"""How the simulator's kernels are compiled, kept and found again, and by which compiler."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from op_runs import needs_compiler
from planted import runner

from gpunn.backends.cuda import kernel_loader
from gpunn.backends.cuda.driver import KernelSource
from gpunn.backends.cuda.simulator import compiler as host_compiler
from gpunn.backends.cuda.simulator.driver import SimulatorDriver
from gpunn.errors import DeviceError

pytestmark = needs_compiler

# The compiler


def test_an_error_of_the_compiler_is_shown(source: KernelSource, tmp_path: Path) -> None:
    file = tmp_path / "broken.cu"
    file.write_text('#include "prelude.cuh"\nKERNEL(32) broken(int *to) { to[0] = nothing; }\n')
    with pytest.raises(DeviceError, match=r"broken.cu:2:.*error.*nothing"):
        host_compiler.load(KernelSource(str(file)), 90)
    empty = tmp_path / "empty.cu"
    empty.write_text('#include "prelude.cuh"\n')
    with pytest.raises(DeviceError, match="holds no KERNEL"):
        host_compiler.load(KernelSource(str(empty)), 90)


def test_macros_choose_and_name_kernels(source: KernelSource, tmp_path: Path) -> None:
    file = tmp_path / "macros.cu"
    file.write_text(
        '#include "prelude.cuh"\n'
        "#define FILL(name, n) KERNEL(8 * (n)) fill_##name(int *to) { to[0] = VALUE; }\n"
        "FILL(first, 4)\n#ifdef SECOND\nFILL(second, 1)\n#endif\n"
    )
    sources = [
        KernelSource(str(file), defines) for defines in (("VALUE=1",), ("VALUE=2", "SECOND"))
    ]
    libraries = [host_compiler.load(one, 90) for one in sources]
    assert [list(one.kernels) for one in libraries] == [
        ["fill_first"],
        ["fill_first", "fill_second"],
    ]
    assert libraries[1].kernels["fill_second"].threads == 8
    driver = SimulatorDriver()
    result = driver.upload(np.zeros(1, np.int32))
    for value, one in enumerate(sources, start=1):
        runner(one, driver)("fill_first", result)
        assert result[0] == value


def put_one(file: Path, value: int = 1) -> KernelSource:
    """Write a file with one kernel, which gives `value`."""
    file.write_text(
        f'#include "prelude.cuh"\nKERNEL(32) give(int *to) {{ to[0] = {value}; }}\n',
        encoding="utf-8",
    )
    return KernelSource(str(file))


def given(source: KernelSource) -> int:
    """Return what a kernel `give` gives."""
    driver = SimulatorDriver()
    result = driver.upload(np.zeros(1, np.int32))
    runner(source, driver)("give", result)
    return int(result[0])


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, for a process that has loaded nothing."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr(kernel_loader, "cache_folder", lambda kind: folder)
    monkeypatch.setattr(kernel_loader, "_SPARE", {})
    quick = tuple(option for option in host_compiler.OPTIONS if option != "-O2")
    monkeypatch.setattr(host_compiler, "OPTIONS", quick)
    host_compiler._load.cache_clear()
    return folder


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is compiled from now on: "runtime" and "kernels"."""
    names: list[str] = []
    made = host_compiler._made

    def counted(compile_to: Callable[[str], None]) -> bytes:
        names.append(compile_to.__name__.removeprefix("compile_"))
        return made(compile_to)

    monkeypatch.setattr(host_compiler, "_made", counted)
    return names


def test_compiled_files_are_found_again(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = put_one(tmp_path / "found.cu")
    host_compiler.load(source, 90)
    assert sorted(path.name.partition("-")[0] for path in kept.iterdir()) == [
        *("found", "found", "runtime", "runtime"),
    ]
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("compiled again"))
    host_compiler._load.cache_clear()
    host_compiler.load(source, 90)
    with pytest.raises(pytest.fail.Exception, match="compiled again"):
        host_compiler.load(KernelSource(source.file, ("GPUNN_REAL=double",)), 90)


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "folder", "checksum"])
@pytest.mark.parametrize("suffix", ["so", "o"])
def test_damaged_files_are_compiled_anew(
    damage: str, suffix: str, kept: Path, compiled: list[str], tmp_path: Path
) -> None:
    source = put_one(tmp_path / "damaged.cu")
    assert given(source) == 1
    assert compiled == ["kernels", "runtime"]
    (file,) = kept.glob(f"*.{suffix}")
    contents = file.read_bytes()
    if damage == "checksum":
        file = file.with_name(f"{file.name}.sha256")
        contents = file.read_bytes()
    file.unlink()  # what is loaded must not change under the process
    if damage == "folder":
        file.mkdir()
    else:
        changed = contents[:-1] + bytes([contents[-1] ^ 1])
        file.write_bytes({"cut": contents[:-1], "changed": changed}.get(damage, b""))
    host_compiler._load.cache_clear()
    if suffix == "o":  # linked to the next file
        source = put_one(tmp_path / "next.cu", 2)
    assert given(source) == (2 if suffix == "o" else 1)
    assert compiled[2:] == (["kernels"] if suffix == "so" else ["kernels", "runtime"])
    if damage != "folder":
        assert file.read_bytes() == contents


@pytest.mark.parametrize("fault", ["no folder", "full"])
def test_where_nothing_can_be_kept_every_process_compiles(
    fault: str,
    kept: Path,
    compiled: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(kernel_loader, "_temporary_folder", lambda: temporary)
    kernel_loader._warn_of_cache.cache_clear()
    replace = kernel_loader.replace

    def no_folder(kind: str) -> Path:
        raise NotADirectoryError(20, "Not a directory", "/dev/null/x")

    def full(file: Path, contents: bytes) -> None:
        if file.parent == kept:
            raise OSError(28, "No space left on device")
        replace(file, contents)

    if fault == "full":
        monkeypatch.setattr(kernel_loader, "replace", full)
    else:
        monkeypatch.setattr(kernel_loader, "cache_folder", no_folder)
    source = put_one(tmp_path / "unkept.cu")
    for _ in range(2):
        assert given(source) == 1
        assert given(put_one(tmp_path / "other.cu", 2)) == 2
    assert compiled == ["kernels", "runtime", "kernels"]
    (record,) = caplog.records
    assert "cannot be kept in" in record.message
    assert ("No space left" if fault == "full" else "/dev/null/x") in record.message
    monkeypatch.setattr(kernel_loader, "_temporary_folder", lambda: tmp_path / "none")
    with pytest.raises(DeviceError, match="cannot be written anywhere"):
        given(put_one(tmp_path / "third.cu"))


def test_the_temporary_folder_goes_with_the_process() -> None:
    code = (
        "from gpunn.backends.cuda import kernel_loader; folder = kernel_loader._temporary_folder();"
        "(folder / 'file').touch(); print(folder)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not Path(done.stdout.strip()).exists()


# Kernel files elsewhere


def test_an_edited_file_is_compiled_anew(kept: Path, tmp_path: Path) -> None:
    file, header = tmp_path / "edited.cu", tmp_path / "value.cuh"
    for value in (1, 2, 1):
        assert given(put_one(file, value)) == value
    file.write_text('#include "value.cuh"\nKERNEL(32) give(int *to) { to[0] = VALUE; }\n')
    for value in (3, 4):
        header.write_text(f'#include "prelude.cuh"\n#define VALUE {value}\n')
        assert given(KernelSource(str(file))) == value


def test_a_file_beside_the_including_one_comes_first(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "reduce.cuh").write_text('#include "prelude.cuh"\n#define VALUE 5\n')
    (tmp_path / "own.cu").write_text(
        '#include "reduce.cuh"\nKERNEL(32) give(int *to) { to[0] = VALUE; }\n'
    )
    assert given(KernelSource(str(tmp_path / "own.cu"))) == 5
    texts = kernel_loader.texts(str(tmp_path / "own.cu"))
    assert "VALUE 5" in texts["reduce.cuh"]
    assert texts["prelude.cuh"] == kernel_loader.texts("prelude.cuh")["prelude.cuh"]
    (tmp_path / "own.cu").write_text('#include "reduce.cuh"\n#include "partials.cuh"\n')
    with pytest.raises(DeviceError, match=r"both included as 'reduce.cuh'; rename one"):
        kernel_loader.texts(str(tmp_path / "own.cu"))


def test_the_working_directory_has_no_say(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_one(tmp_path / "affine.cu")
    monkeypatch.chdir(tmp_path)
    library = host_compiler.load(KernelSource("affine.cu", ("GPUNN_REAL=float",)), 90)
    assert "affine" in library.kernels


def test_files_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = kernel_loader.kernels_folder()
    put_one(tmp_path / "here.cu")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeviceError, match=f"no kernel file 'here.cu' in {folder}; .* full path"):
        host_compiler.load(KernelSource("here.cu"), 90)
    with pytest.raises(DeviceError, match=f"no kernel file {tmp_path}/gone.cu"):
        host_compiler.load(KernelSource(f"{tmp_path}/gone.cu"), 90)
    (tmp_path / "here.cu").write_text('#include "gone.cuh"\n')
    with pytest.raises(
        DeviceError, match=f"here.cu includes 'gone.cuh', which is not beside it nor in {folder}"
    ):
        host_compiler.load(KernelSource(f"{tmp_path}/here.cu"), 90)
    (tmp_path / "here.cu").write_bytes(b"\xff")
    with pytest.raises(DeviceError, match=r"here.cu cannot be read: .*utf-8"):
        host_compiler.load(KernelSource(f"{tmp_path}/here.cu"), 90)


# Which compiler


def test_a_missing_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(
        DeviceError, match=r"no C\+\+ compiler is found: `sudo apt install g\+\+` a"
    ):
        SimulatorDriver()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(DeviceError, match=r"`xcode-select --install` adds one, and .* CXX names"):
        SimulatorDriver()
    script(tmp_path / "c++", "echo no tools were found >&2; exit 1")
    with pytest.raises(DeviceError, match=r"; c\+\+ does not work: no tools were found"):
        SimulatorDriver()
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(DeviceError, match="no simulator on Windows"):
        SimulatorDriver()


def script(file: Path, commands: str) -> str:
    """Write a shell script; return its path."""
    file.write_text(f"#!/bin/sh\n{commands}\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("/nowhere/g++", "'/nowhere/g\\+\\+' is not found"),
        ("g++ 'x", "No closing quotation"),
        ("''", "'' is not found"),
        ("true", "it does not answer as one"),
        ("false", "it does not answer as one"),
        ("cat", "option|usage"),
    ],
)
def test_a_compiler_that_is_none(value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", value)
    with pytest.raises(DeviceError, match=rf"^CXX=.* is no C\+\+17 compiler: .*{message}.*$"):
        SimulatorDriver()


def test_a_compiler_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "compiler"
    file.write_bytes(b"\0")
    file.chmod(0o755)
    monkeypatch.setenv("CXX", str(file))
    with pytest.raises(DeviceError, match=r"compiler' cannot be started \(Exec format error\)"):
        SimulatorDriver()


def test_the_compiler_that_is_named(
    kept: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    (compiler,) = host_compiler.find_compiler()
    monkeypatch.setenv("CXX", " ")
    assert host_compiler.find_compiler() == (compiler,)
    named = script(tmp_path / "my compiler", f'touch "{tmp_path}/used"\nexec {compiler} "$@"')
    monkeypatch.setenv("CXX", f"'{named}' -DUNUSED")
    assert given(put_one(tmp_path / "named.cu")) == 1
    assert (tmp_path / "used").exists()


def test_causes_that_are_no_error_in_a_file_are_shown(
    kept: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    (compiler,) = host_compiler.find_compiler()
    linker = "ld: final link failed: No space left on device\ncollect2: error: ld returned 1"
    commands = f'case "$*" in *-shared*) echo "{linker}" >&2; exit 1;; esac\nexec {compiler} "$@"'
    monkeypatch.setenv("CXX", script(tmp_path / "unlinking", commands))
    with pytest.raises(DeviceError, match=r"failed:\n.*No space left on device\n.*returned 1$"):
        given(put_one(tmp_path / "unlinked.cu"))
    silent = f'case "$*" in *-shared*) exit 3;; esac\nexec {compiler} "$@"'
    monkeypatch.setenv("CXX", script(tmp_path / "silent", silent))
    with pytest.raises(DeviceError, match=r"failed:\nexit status 3$"):
        given(put_one(tmp_path / "unlinked.cu"))


def test_a_library_that_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "none.so").touch()
    with pytest.raises(DeviceError, match=r"cannot be loaded: .*none.so"):
        host_compiler._open(tmp_path / "none.so")
