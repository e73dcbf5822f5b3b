"""Memory of a plan and of the process; what the start of a process costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from gpunn.cli.bench.settings import BenchSettings
from gpunn.plan.layout import plan_layout
from gpunn.plan.spec import Plan

FIRST_STEPS = """
import json, sys, time
began = time.perf_counter()
import gpunn
imported = time.perf_counter()
import numpy as np
device, precision, inputs, classes, *hidden = json.loads(sys.argv[1])
layers = [gpunn.Input((inputs,)), gpunn.layers.Rescaling(1 / 255)]
layers += [gpunn.layers.Dense(units, activation="relu") for units in hidden]
net = gpunn.Sequential([*layers, gpunn.layers.Dense(classes, activation="softmax")])
net.compile("sgd", "sparse_categorical_crossentropy", device=device, precision=precision, seed=0)
x, y = np.zeros((64, inputs), np.uint8), np.zeros(64, np.int32)
ready = time.perf_counter()
net.fit(x, y, verbose=0)
first = time.perf_counter()
net.fit(x, y, verbose=0)
second = time.perf_counter()
marks = [began, imported, ready, first, second]
names = ["import", "compile", "first_fit", "second_fit"]
print(json.dumps({n: b - a for n, a, b in zip(names, marks, marks[1:])}))
"""


def region_bytes(plan: Plan) -> dict[str, int]:
    """Return the bytes of every region of a plan."""
    return {name: layout.nbytes for name, layout in plan_layout(plan).items()}


def peak_bytes() -> int | None:
    """Return the most memory that this process has had, None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def cold_start(
    settings: BenchSettings, device: str, cache: str, timeout: float | None = None
) -> dict[str, Any]:
    """Return the seconds of import, compile, first and second fit in a fresh process.

    Parameters
    ----------
    settings : BenchSettings
    device : str
    cache : {"warm", "cold"}
        Cold: compiled code from earlier processes is not found, and is compiled again.
    timeout : float, optional
        Seconds after which the process is ended.
    """
    net = [device, settings.precisions[0], settings.inputs, settings.classes, *settings.hidden]
    with tempfile.TemporaryDirectory(prefix="gpunn-bench-") as empty:
        environment = dict(os.environ)
        if cache == "cold":
            names = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "CUDA_CACHE_PATH", "CUPY_CACHE_DIR")
            environment |= dict.fromkeys(names, empty)
        # What this process has imported gpunn from, whatever folder it is in.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        command = [sys.executable, "-c", FIRST_STEPS, json.dumps(net)]
        entry: dict[str, Any] = {"device": device, "cache": cache}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            return entry | {"error": f"stopped after {timeout:.0f} s"}
    if done.returncode:
        return entry | {"error": done.stderr.strip().splitlines()[-1][:300]}
    return entry | {"seconds": json.loads(done.stdout)}
