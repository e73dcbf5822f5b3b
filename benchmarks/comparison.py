"""gpunn beside its peers, from a training step to a trained model and the start of a process.

    python -m benchmarks.comparison [--peer-python PATH] [--quick] [--only training,fit]

The parts, most important first:

1. training   steady training throughput over batch size, for SGD, momentum and Adam
2. fit        a whole fit: data in memory to trained model, 5 epochs in batches of 50
3. inference  throughput in batches of 1024, latency of one sample
4. accuracy   time to 98 % of MNIST's test images, Adam, batches of 128, five seeds
5. start      import, first call with cold and warm caches, installed size, peak memory

All frameworks train the same net on the same data from the same weights, each in a process of its
own with as many threads; rounds alternate. What the peers get for free: their images are scaled
to float32, and on the device, before the clock starts. Peers that are not installed are named.
The JSON is written as parts finish, Markdown tables and a picture beside it; Ctrl-C keeps what is
there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import comparison_start, comparison_whole
from benchmarks.comparison_table import document
from benchmarks.machine import describe_machine
from benchmarks.peers.processes import PeerProcess
from gpunn.backends.roofline import core_count
from gpunn.cli.bench import plot
from gpunn.cli.bench.machine import load
from gpunn.cli.bench.measure import Bench
from gpunn.cli.bench.settings import BATCH_SIZES, PEERS, BenchSettings, usable_devices
from gpunn.cli.files import whole_file
from gpunn.cli.reports import finite
from gpunn.errors import ArgumentError

Report = dict[str, Any]
RESULTS = Path(__file__).parent / "results"
# Of the whole time, what each part may take.
SHARES = {"training": 0.5, "fit": 0.15, "inference": 0.05, "accuracy": 0.2, "start": 0.1}


class OutOfTimeError(Exception):
    """A part has had its time."""


class Watch:
    """Says what is being measured, ends a part that has had its time, and writes the file.

    Parameters
    ----------
    save : callable
        Writes what is there.
    clock : callable
    say : callable
        Takes the lines.
    """

    def __init__(
        self,
        save: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
    ) -> None:
        self.save, self.clock, self.say = save, clock, say
        self.end = float("inf")

    @contextmanager
    def part(self, name: str, seconds: float, entry: Report) -> Iterator[None]:
        """Measure a part within its time; `entry` says whether it was enough."""
        began = self.clock()
        self.end = began + seconds
        entry["complete"] = False
        try:
            yield
            entry["complete"] = True
        except OutOfTimeError:
            self.say(f"{name}: cut short after its {seconds:.0f} s")
        except Exception as error:  # the other parts are worth having
            text = " ".join(str(error).split())[:300]
            entry["error"] = f"{type(error).__name__}: {text}"
            self.say(f"{name}: {traceback.format_exc()}")
        finally:
            entry["seconds"] = self.clock() - began
            self.save()

    def begin(self, total: int) -> None:
        """So many parts are to be measured."""

    def now(self, text: str) -> None:
        """This is being measured."""
        if self.clock() > self.end:
            raise OutOfTimeError
        self.say(text)

    def advance(self, parts: int = 1) -> None:
        """So many parts are done."""


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes
    ----------
    settings : BenchSettings
        Net, devices, peers, threads, rounds.
    optimizers : tuple of str
    fit_steps, fit_epochs : int
        Of a whole fit.
    seeds, most_epochs, rows : int
        Of the time to an accuracy; `rows` of MNIST.
    """

    settings: BenchSettings
    optimizers: tuple[str, ...] = ("sgd", "momentum", "adam")
    fit_steps: int = 1200
    fit_epochs: int = 5
    seeds: int = 5
    most_epochs: int = 30
    rows: int = 60_000


def quick(settings: BenchSettings) -> Scale:
    """Return a scale that shows that everything runs, and nothing else."""
    small = {"batch_sizes": (32, 50), "rounds": 2, "seconds_per_row": 0.02}
    return Scale(replace(settings, **small), ("sgd",), 5, 1, 1, 1, 1280)


def merged(reports: list[Report]) -> Report:
    """Return runs of `Bench` as one; rows that are still being measured are left out."""
    found = dict(reports[0])
    found["settings"] = found["settings"] | {
        "optimizers": [name for r in reports for name in r["settings"]["optimizers"]]
    }
    found["settings"].pop("peer_python", None)  # a place on this machine
    found["rows"] = [row for r in reports for row in r["rows"] if "bound_seconds" in row]
    for name in ("inference", "ceilings"):
        found[name] = [entry for r in reports for entry in r[name]]
    found["complete"] = all(r["complete"] for r in reports)
    return found


def training(scale: Scale, watch: Watch, entry: Report, start: Any) -> None:
    """Measure the throughput of training: SGD everywhere first."""
    runs: list[Report] = []
    for optimizer in scale.optimizers:
        bench = Bench(
            replace(scale.settings, optimizers=(optimizer,), inference=False),
            watch,
            start_peer=start,
        )
        runs.append(bench.report)
        try:
            bench.run()
        finally:
            entry |= {name: value for name, value in merged(runs).items() if name != "complete"}
            watch.save()


def inference(scale: Scale, watch: Watch, entry: Report, start: Any) -> None:
    """Measure ``predict`` of many rows and of one, by nets that have been trained a little."""
    sizes = scale.settings.batch_sizes
    batch = 1024 if 1024 in sizes else max(sizes)
    bench = Bench(replace(scale.settings, batch_sizes=(batch,)), watch, start_peer=start)
    try:
        bench.run()
    finally:
        entry["peers"] = bench.report["peers"]
        entry["devices"] = [
            place
            for place in bench.report["inference"]
            if all(
                "call_seconds" in kind for side in place["sides"].values() for kind in side.values()
            )
        ]


PARTS: dict[str, Callable[[Scale, Watch, Report, Any], None]] = {
    "training": training,
    "fit": comparison_whole.fit,
    "inference": inference,
    "accuracy": comparison_whole.accuracy,
    "start": comparison_start.start,
}


def start_peer(
    name: str, threads: int, python: str | None, environment: Mapping[str, str] | None = None
) -> PeerProcess:
    """Start a peer; plain NumPy in this Python, whose NumPy gpunn uses too."""
    other = None if name == "numpy" else python
    return PeerProcess(name, threads, other, environment=environment)


def before(path: Path, report: Report) -> Report:
    """Return the parts that a file has of the same machine, versions and scale."""
    with suppress(OSError, ValueError):
        old = json.loads(path.read_text())
        same = old["quick"] == report["quick"] and old["threads"] == report["threads"]
        machines = [dict(r["machine"], date=None) for r in (old, report)]
        if same and machines[0] == machines[1]:
            return {name: old["parts"][name] for name in PARTS if name in old["parts"]}
    return {}


def write(path: Path, report: Report) -> None:
    """Write the file, the tables beside it, and the picture where there is something to draw."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        json.dump(finite(report), file, indent=1, allow_nan=False)
        file.write("\n")
    with whole_file(path.with_suffix(".md")) as file:
        tables = document(finite(report), path.with_suffix(".png").name)
        file.write(f"# gpunn beside its peers\n\n{tables}\n")
    if report["parts"].get("training", {}).get("rows"):
        with suppress(ImportError):
            plot.draw(report["parts"]["training"], path.with_suffix(".png"))


def run(
    scale: Scale,
    names: list[str],
    report: Report,
    watch: Watch,
    seconds: float,
    start: Any,
) -> None:
    """Measure the parts; `report` has what there is, also after Ctrl-C."""
    for name in names:
        entry: Report = {}
        report["parts"][name] = entry
        with watch.part(name, seconds * SHARES[name], entry):
            PARTS[name](scale, watch, entry, start)


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; return the exit code: 130 after Ctrl-C, 1 where a part failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer-python", metavar="PATH", help="the Python that has the peers")
    parser.add_argument("--peers", default=",".join(PEERS), help="default: %(default)s")
    parser.add_argument("--devices", help="default: a GPU and the CPU where they can be used")
    parser.add_argument("--threads", type=int, help="of the CPU; default: all that the BLAS takes")
    parser.add_argument("--only", default=",".join(PARTS), help="parts; default: %(default)s")
    parser.add_argument("--minutes", type=float, default=60.0, help="at most; default: 60")
    parser.add_argument("--quick", action="store_true", help="see that it runs; no figures")
    parser.add_argument("--out", type=Path, default=RESULTS / "comparison.json")
    options = parser.parse_args(arguments)
    chosen = options.only.split(",")
    if unknown := [name for name in chosen if name not in PARTS]:
        parser.error(f"--only: there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    devices = options.devices.split(",") if options.devices else usable_devices()
    try:
        settings = BenchSettings(
            batch_sizes=BATCH_SIZES,
            devices=tuple(devices),
            threads=options.threads or core_count(),
            cold_start=False,
            peers=tuple(options.peers.split(",")) if options.peers else (),
            peer_python=options.peer_python,
        )
    except ArgumentError as error:
        parser.error(str(error))
    report: Report = {
        "machine": describe_machine(),
        "load_before": load(),
        "quick": options.quick,
        "threads": settings.threads,
        "parts": {},
    }
    report["parts"] = before(options.out, report)
    watch = Watch(lambda: write(options.out, report))
    scale = quick(settings) if options.quick else Scale(settings)
    names = [name for name in PARTS if name in chosen]
    try:
        run(scale, names, report, watch, 60 * options.minutes, start_peer)
    except KeyboardInterrupt:
        print(f"Cut short; what there is is in {options.out}.", file=sys.stderr)
        return 130
    print(f"Written: {options.out}, and .md and .png beside it.", file=sys.stderr)
    return int(any("error" in report["parts"][name] for name in names))


if __name__ == "__main__":
    raise SystemExit(main())
