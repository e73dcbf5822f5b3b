"""The machine and the versions that a figure was measured with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gpunn


def load() -> float | None:
    """Return how many programs have run at once in the last minute, None where it is not known."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, versions and date."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        fields = {name.strip(): value.strip() for name, _, value in lines}
        processor = fields.get("model name", processor)
        if "flags" in fields:
            features = [f for f in ("avx2", "avx512f", "amx_tile") if f in fields["flags"].split()]
            processor += f" ({', '.join(features)})"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "numba")}
    return {
        "processor": processor,
        "cores": cores,
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {"gpunn": gpunn.__version__} | versions,
        "date": datetime.now(UTC).date().isoformat(),
    }
