"""Tests in this folder need a GPU with a driver, and CuPy; elsewhere they are left out."""

from __future__ import annotations

import pytest

from gpunn.backends.select import cuda_status


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if cuda_status().usable or config.option.collectonly:
        return
    needy = [item for item in items if "tests/gpu/" in item.path.as_posix()]
    config.hook.pytest_deselected(items=needy)
    items[:] = [item for item in items if item not in set(needy)]
