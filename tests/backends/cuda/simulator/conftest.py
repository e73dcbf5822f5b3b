"""Fixtures for tests of the simulator: its orders, and the planted kernels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from planted import KERNELS, Run, runner

from gpunn.backends.cuda import kernel_loader
from gpunn.backends.cuda.driver import KernelSource
from gpunn.backends.cuda.simulator.driver import SimulatorDriver


@pytest.fixture(scope="session")
def planted_kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with the kernels, in a folder of its own."""
    file = tmp_path_factory.mktemp("kernels") / "planted.cu"
    file.write_text(KERNELS, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def source(planted_kernels: Path) -> Iterator[KernelSource]:
    """The kernels, compiled into their folder."""
    patch = pytest.MonkeyPatch()
    patch.setattr(kernel_loader, "cache_folder", lambda kind: planted_kernels.parent)
    yield KernelSource(str(planted_kernels))
    patch.undo()


@pytest.fixture(params=[None, 1, 2], ids=["in-order", "seed-1", "seed-2"])
def driver(request: pytest.FixtureRequest) -> SimulatorDriver:
    return SimulatorDriver(request.param)


@pytest.fixture
def run(source: KernelSource, driver: SimulatorDriver) -> Run:
    """``run(symbol, *arguments, grid=1, block=32, shared=0, cooperative=False)``."""
    return runner(source, driver)
