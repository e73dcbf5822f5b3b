"""Fixtures for all tests."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import pytest

# For benchmarks/; at the end, so that the installed gpunn is tested and not the checkout.
sys.path.append(str(Path(__file__).parents[1]))

# Examples take as long as they take, on whatever processor, beside whatever else.
with contextlib.suppress(ImportError):  # the tests on a GPU do without hypothesis
    from hypothesis import HealthCheck, settings

    settings.register_profile("gpunn", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("gpunn")

# Read once, before tests that must not see it take it out of the environment.
_GPUNN_DATA = os.environ.get("GPUNN_DATA")
_FILES = [
    "california-housing/housing.csv",
    *(
        f"{folder}/{part}-ubyte.gz"
        for folder in ("mnist", "fashion-mnist")
        for part in (
            "train-images-idx3",
            "train-labels-idx1",
            "t10k-images-idx3",
            "t10k-labels-idx1",
        )
    ),
]


@pytest.fixture
def real_data() -> Path:
    """The folder with the real data sets."""
    if not _GPUNN_DATA or not all((Path(_GPUNN_DATA) / name).is_file() for name in _FILES):
        pytest.skip("needs the real data sets (GPUNN_DATA)")
    return Path(_GPUNN_DATA)
