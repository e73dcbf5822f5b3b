"""Settings and fixtures for all tests."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

# For benchmarks/; at the end, so that the installed gpunn is tested and not the checkout.
sys.path.append(str(Path(__file__).parents[1]))

# Before NumPy and numba are imported: processes of pytest-xdist have a core each, and a cache each,
# as two that compile a function for two types at once can mix them up in a common one.
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    caches = os.environ.get("NUMBA_CACHE_DIR") or str(Path(__file__).parent / "__pycache__")
    os.environ["NUMBA_CACHE_DIR"] = str(Path(caches, "numba", worker))

# A shell has what it starts in its background ignore Ctrl-C; tests send themselves its signal.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples everywhere, however slow or busy the machine is. New ones are looked for with
# --hypothesis-profile=explore. The tests of a GPU run without hypothesis, too.
with suppress(ImportError):
    from hypothesis import HealthCheck, settings

    unhurried = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile("gpunn", derandomize=True, **unhurried)
    settings.register_profile("explore", **unhurried)
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


def pytest_report_header() -> str:
    """Say whether the tests in gpu/ run."""
    from gpunn.backends.select import cuda_status

    status = cuda_status()
    return "tests/gpu: run" if status.usable else f"tests/gpu: left out, {status.detail}"


@pytest.fixture
def real_data() -> Path:
    """The folder with the real data sets."""
    if not _GPUNN_DATA or not all((Path(_GPUNN_DATA) / name).is_file() for name in _FILES):
        pytest.skip("needs the real data sets (GPUNN_DATA)")
    return Path(_GPUNN_DATA)
