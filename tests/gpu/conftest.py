"""Tests in this folder need a GPU with a driver, and CuPy; elsewhere they are left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpunn.backends.select import cuda_status


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if cuda_status().usable:
        return
    gone = [item for item in items if Path(__file__).parent in item.path.parents]
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in set(gone)]
