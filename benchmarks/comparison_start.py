"""The part of the comparison about processes: import, first call, installed size, peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gpunn
from benchmarks.comparison_whole import task_of
from benchmarks.peers.processes import PeerError, missing_packages
from gpunn.cli.bench import memory
from gpunn.cli.bench.rounds import interleaved, spread
from gpunn.cli.bench.settings import BenchSettings
from gpunn.cli.bench.task import Task

if TYPE_CHECKING:
    from benchmarks.comparison import Scale, Watch

Report = dict[str, Any]
FIRST_ROWS = 64
MEMORY_BATCH = 1024
IMPORTS = {
    "gpunn": "from gpunn import Input, Sequential, layers",  # `import gpunn` alone loads little
    "numpy": "import numpy",
    "torch": "import torch",
    "torch.compile": "import torch",
    "jax": "import jax, jax.numpy",
    "keras": "import keras",
    "sklearn": "from sklearn.neural_network import MLPClassifier",
}
DISTRIBUTIONS = {
    "gpunn": ("gpunn",),
    "numpy": ("numpy",),
    "torch": ("torch",),
    "torch.compile": ("torch",),
    "jax": ("jax",),
    "keras": ("keras", "jax"),
    "sklearn": ("scikit-learn",),
}
CACHES = (
    "NUMBA_CACHE_DIR",
    "XDG_CACHE_HOME",
    "CUDA_CACHE_PATH",
    "TORCHINDUCTOR_CACHE_DIR",
    "TRITON_CACHE_DIR",
)

TIMED_IMPORT = """
import time
began = time.perf_counter()
{}
print(time.perf_counter() - began)
"""

# Bytes of the files of distributions and of all that they need, but for extras.
SIZES = """
import json, re, sys
from importlib import metadata
total, seen, names = 0, set(), sys.argv[1:]
while names:
    name = re.sub(r"[-_.]+", "-", names.pop()).lower()
    if name in seen:
        continue
    seen.add(name)
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        continue  # a need of other systems
    for need in found.requires or ():
        wanted, _, marker = need.partition(";")
        if "extra" not in marker:
            names.append(re.match(r"[\\w.-]+", wanted.strip())[0])
    for file in found.files or ():
        path = found.locate_file(file)
        total += path.stat().st_size if path.is_file() else 0
print(json.dumps(total))
"""

# gpunn's side of the peak memory: the images are read by NumPy, as the peers read them.
OWN_PEAK = """
import json, sys
import numpy as np
import gpunn
from benchmarks.peers.worker import peak_bytes
folder, device, batch, rows, threads, *hidden = json.loads(sys.argv[1])
images, labels = (np.load(f"{folder}/{name}.npy") for name in ("images", "labels"))
layers = [gpunn.Input(images.shape[1:]), gpunn.layers.Rescaling(1 / 255)]
layers += [gpunn.layers.Dense(units, activation="relu") for units in hidden]
net = gpunn.Sequential([*layers, gpunn.layers.Dense(int(labels.max()) + 1, activation="softmax")])
threads = threads if device == "cpu" else None
net.compile("sgd", "sparse_categorical_crossentropy", device=device, threads=threads, seed=0)
net.fit(images[:rows], labels[:rows], batch_size=batch, verbose=0)
print(json.dumps(peak_bytes()))
"""


def start(scale: Scale, watch: Watch, entry: Report, start: Any) -> None:
    """Measure what processes cost; `start` starts a peer."""
    settings = scale.settings
    there: dict[str, str | None] = {"gpunn": None}
    entry["missing_peers"] = {}
    for name in settings.ways:
        python = None if name == "numpy" else settings.peer_python
        if lacking := missing_packages(name, python):
            entry["missing_peers"][name] = f"pip install {' '.join(lacking)}"
        else:
            there[name] = python
    sides: Report = {name: {} for name in there}
    entry["sides"] = sides
    imports(there, watch, sides, min(settings.rounds, 5))
    for name, python in there.items():
        watch.now(f"installed size: {name}")
        sides[name]["installed_bytes"] = installed_bytes(name, python)
    watch.save()
    for device in settings.devices:
        for name in there:
            for cache in ("warm", "cold"):
                watch.now(f"{device}: first call, {name}, {cache} cache")
                calls = sides[name].setdefault("first_call", [])
                calls.append(first_call(name, device, cache, settings, start))
        watch.save()
    task = Task(settings)
    with tempfile.TemporaryDirectory(prefix="gpunn-comparison-") as folder:
        task.save(Path(folder))
        rows = min(task.rows, scale.rows)
        for device in settings.devices:
            for name in there:
                watch.now(f"{device}: peak memory, {name}")
                peaks = sides[name].setdefault("peak_memory", [])
                peaks.append(peak_memory(name, device, folder, rows, settings, start))


def imports(there: dict[str, str | None], watch: Watch, sides: Report, rounds: int) -> None:
    """Time the imports, each in a fresh process; the first round only fills the file cache."""
    order = interleaved(dict.fromkeys(there, lambda: None), rounds + 1)
    for turn, name, _ in order:
        watch.now(f"import, {name}, round {turn} of {rounds}")
        try:
            text = _python(there[name], TIMED_IMPORT.format(IMPORTS[name]))
        except PeerError as error:
            sides[name]["error"] = str(error)
            continue
        if turn:
            sides[name].setdefault("import_rounds", []).append(float(text))
            sides[name]["import_seconds"] = spread(sides[name]["import_rounds"])


def installed_bytes(name: str, python: str | None) -> int:
    """Return the bytes of a framework's distributions and of those that they need."""
    own = 0
    if name == "gpunn":  # its files, also where it is used from a checkout
        folder = Path(gpunn.__file__).parent
        files = [p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        own = sum(path.stat().st_size for path in files)
        return own + int(json.loads(_python(None, SIZES, *_needs_of_gpunn())))
    return int(json.loads(_python(python, SIZES, *DISTRIBUTIONS[name])))


def _needs_of_gpunn() -> list[str]:
    """Return the distributions that gpunn needs, by its project file where there is one."""
    import tomllib
    from importlib import metadata

    project = Path(gpunn.__file__).parents[1] / "pyproject.toml"
    if project.is_file():
        needs = tomllib.loads(project.read_text())["project"]["dependencies"]
    else:
        needs = [n for n in metadata.requires("gpunn") or () if "extra" not in n]
    names = (need.partition(";")[0] for need in needs)
    return ["".join(c if c.isalnum() or c in "-_." else " " for c in n).split()[0] for n in names]


def first_call(name: str, device: str, cache: str, settings: BenchSettings, start: Any) -> Report:
    """Return the seconds of a fresh process until its first batch is trained, import included."""
    entry: Report = {"device": device, "cache": cache}
    if name == "gpunn":
        found = memory.cold_start(settings, device, cache)
        if "seconds" in found:
            parts = found["seconds"]
            found["seconds"] = parts["import"] + parts["compile"] + parts["first_fit"]
        return entry | found
    small = _first_task(settings)
    with tempfile.TemporaryDirectory(prefix="gpunn-comparison-") as folder:
        small.save(Path(folder))
        empty = Path(folder) / "cache"
        empty.mkdir()
        environment = dict.fromkeys(CACHES, str(empty)) if cache == "cold" else {}
        threads = settings.threads or 1
        peer = start(name, threads, settings.peer_python, environment)
        place = device if device.startswith("cuda") else "cpu"
        try:
            began = peer.ask("start", folder=folder, threads=threads, device=place)
            task = task_of(FIRST_ROWS, "sgd")
            first = peer.ask("setup", steps=1, epochs=1, **task)
        except PeerError as error:
            return entry | {"error": str(error)}
        finally:
            peer.close()
    return entry | {"seconds": began["start_seconds"] + first["warm_up_seconds"]}


def _first_task(settings: BenchSettings) -> Task:
    task = Task(settings)
    task.images, task.labels = task.images[:FIRST_ROWS], task.labels[:FIRST_ROWS]
    return task


def peak_memory(
    name: str, device: str, folder: str, rows: int, settings: BenchSettings, start: Any
) -> Report:
    """Return the most memory of a process that trains one epoch of what is in `folder`."""
    entry: Report = {"device": device}
    threads = settings.threads or 1
    batch = min(MEMORY_BATCH, rows)
    if name == "gpunn":
        net = [folder, device, batch, rows, settings.threads, *settings.hidden]
        return entry | {"bytes": json.loads(_python(None, OWN_PEAK, json.dumps(net)))}
    peer = start(name, threads, settings.peer_python)
    place = device if device.startswith("cuda") else "cpu"
    try:
        peer.ask("start", folder=folder, threads=threads, device=place)
        peer.ask("setup", steps=rows // batch, epochs=1, **task_of(batch, "sgd"))
        return entry | peer.ask("peak")
    except PeerError as error:
        return entry | {"error": str(error)}
    finally:
        peer.close()


def _python(python: str | None, code: str, *arguments: str) -> str:
    """Return what a fresh process prints last."""
    environment = dict(os.environ) | {"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    if python is None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    else:
        environment.pop("PYTHONPATH", None)
    command = [python or sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise PeerError(f"{command[0]}: {done.stderr.strip()[-300:]}")
    return done.stdout.strip().splitlines()[-1]
