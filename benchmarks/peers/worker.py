"""A process for one peer: takes commands as lines of JSON and answers each with one.

    python worker.py NAME THREADS

Run as a plain script; it knows neither gpunn nor, before the first command, the framework.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

Answer = dict[str, Any]
MODULES = {"torch": "torch_peer", "torch.compile": "torch_peer", "jax": "jax_peer"}
MODULES |= {"torch.autotune": "torch_peer", "torch.graphs": "torch_peer"}
MODULES |= {"sklearn": "sklearn_peer", "keras": "keras_peer", "numpy": "numpy_peer"}


def load(name: str) -> Any:
    """Return the module that has the peer, which lies beside this file."""
    path = Path(__file__).with_name(f"{MODULES[name]}.py")
    spec = importlib.util.spec_from_file_location(f"gpunn_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Worker:
    """What the commands do; the names of the methods are those of the commands."""

    def __init__(self, name: str, make: Callable[..., Any] | None = None) -> None:
        self.name, self.make = name, make
        self.peer: Any = None
        self.task: Answer = {}
        self.rounds: tuple[int, int] = (1, 1)
        self.labels: Any = None

    def start(self, folder: str, threads: int, device: str) -> Answer:
        """Import the framework and load the data; the seconds are those of the imports."""
        began = time.perf_counter()
        import numpy as np

        numpy_seconds = time.perf_counter() - began
        images = np.load(Path(folder) / "images.npy")
        images = images.astype(np.float32)
        images /= np.float32(255)
        labels = np.load(Path(folder) / "labels.npy").astype(np.int64)
        self.labels = labels
        with np.load(Path(folder) / "weights.npz") as file:
            weights = [file[f"arr_{i}"] for i in range(len(file.files))]
        make = self.make or load(self.name).Peer
        way = self.name.partition(".")[2]  # of PyTorch
        options = {"way": way} if way else {}
        began = time.perf_counter()
        self.peer = make(images, labels, weights, threads, device, **options)
        seconds = numpy_seconds + time.perf_counter() - began
        return {"start_seconds": seconds, "versions": self.peer.versions}

    def setup(self, steps: int, epochs: int, **task: Any) -> Answer:
        """Make the net and run a round: whatever is compiled is compiled now, and timed apart."""
        self.task, self.rounds = task, (steps, epochs)
        began = time.perf_counter()
        self.peer.setup(**task)
        self.round()
        return {"warm_up_seconds": time.perf_counter() - began}

    def round(self) -> Answer:
        """Train the epochs of a round."""
        steps, epochs = self.rounds
        began = time.perf_counter()
        for _ in range(epochs):
            loss = self.peer.epoch(steps, True)
        return {"seconds": time.perf_counter() - began, "loss": float(loss)}

    def check(self, steps: int) -> Answer:
        """Return the mean loss of the first steps from the initial weights, unshuffled."""
        self.peer.setup(**self.task)
        return {"loss": float(self.peer.epoch(steps, False))}

    def predict(self, rows: int, times: int) -> Answer:
        """Predict the first rows, many times over, and once before."""
        self.peer.predict(rows)
        began = time.perf_counter()
        for _ in range(times):
            self.peer.predict(rows)
        return {"seconds": time.perf_counter() - began}

    def fit(self, steps: int, epochs: int, **task: Any) -> Answer:
        """Make a net anew and train it: from data in memory to a trained model."""
        began = time.perf_counter()
        self.peer.setup(**task)
        for _ in range(epochs):
            loss = self.peer.epoch(steps, True)
        return {"seconds": time.perf_counter() - began, "loss": float(loss)}

    def reach(self, steps: int, most: int, tested: int, accuracy: float, **task: Any) -> Answer:
        """Train until the last `tested` rows are classified so well, `most` epochs at most.

        The seconds of `setup` and of each epoch; those of the evaluation are not in them.
        """
        first, labels = len(self.labels) - tested, self.labels[-tested:]
        began = time.perf_counter()
        self.peer.setup(**task)
        seconds, found = [time.perf_counter() - began], list[float]()
        while len(found) < most and (not found or found[-1] < accuracy):
            began = time.perf_counter()
            self.peer.epoch(steps, True)
            seconds.append(time.perf_counter() - began)
            guesses = self.peer.predict(tested, first).argmax(1)
            found.append(float((guesses == labels).mean()))
        return {"seconds": seconds, "accuracies": found}

    def peak(self) -> Answer:
        """Return the most bytes of memory that this process has had."""
        return {"bytes": peak_bytes()}


def peak_bytes() -> int | None:
    """Return the most memory of this process, None where the system does not say."""
    status = Path("/proc/self/status")
    if status.exists():  # `getrusage` begins with what the parent had
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def keep_to(threads: int) -> None:
    """Keep to `threads` cores: XLA takes as many threads as it finds cores, and has no setting."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if threads < len(cores):
            os.sched_setaffinity(0, cores[:threads])


def main(name: str, threads: int) -> None:
    """Answer commands until there are no more."""
    if name in ("jax", "keras"):
        keep_to(threads)
    # What frameworks print must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    worker = Worker(name)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = {"ok": True} | getattr(worker, command.pop("do"))(**command)
        except Exception as error:
            traceback.print_exc()
            text = " ".join(str(error).split())[:300]
            answer = {"ok": False, "error": f"{type(error).__name__}: {text}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    # The folder of this file is no place to import from.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    main(sys.argv[1], int(sys.argv[2]))
