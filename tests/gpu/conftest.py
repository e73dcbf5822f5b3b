"""Tests in this folder need a GPU with a driver, and CuPy; elsewhere they are left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpunn.backends.select import cuda_status


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if cuda_status().usable:
        return
    here = Path(__file__).parent
    kept, gone = [], []
    for item in items:
        (gone if item.path.is_relative_to(here) else kept).append(item)
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = kept
