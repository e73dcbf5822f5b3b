"""Tests in this folder need a GPU with a driver, and CuPy; elsewhere they are skipped."""

from __future__ import annotations

import pytest

from gpunn.backends.select import cuda_status


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if cuda_status().usable:
        return
    for item in items:
        if "tests/gpu/" in item.path.as_posix():
            item.add_marker(pytest.mark.skip(reason="needs a GPU, its driver and CuPy"))
