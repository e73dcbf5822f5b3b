"""What is to be measured: the options of ``gpunn bench``, checked."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gpunn.backends.select import PRECISIONS
from gpunn.errors import ArgumentError, UnknownNameError
from gpunn.specs.registry import check_count, check_number

OPTIMIZERS = {"sgd": 0.01, "momentum": 0.01, "adam": 0.001}  # and their learning rates
# Name on the command line -> the ways of using it that are measured.
PEERS = {
    "torch": ("torch", "torch.compile"),
    "jax": ("jax",),
    "sklearn": ("sklearn",),
    "keras": ("keras",),
    "numpy": ("numpy",),
}
BATCH_SIZES = (32, 50, 128, 512, 1024, 8192)


@dataclass(frozen=True)
class BenchSettings:
    """The measurement.

    Attributes
    ----------
    hidden : tuple of int
        Units of the hidden layers, which are ReLU.
    inputs, classes : int
        Values of a sample, classes of the softmax.
    batch_sizes : tuple of int
    precisions, optimizers, devices : tuple of str
        Every combination is a row; devices as for ``compile``.
    dropout : float
        Rate after each hidden layer.
    seconds_per_row : float
        How long gpunn's training is timed in each row, all rounds together.
    rounds : int
        Rounds that this time is divided into.
    threads : int, optional
        Of the CPU; default: as many as the BLAS takes.
    profile, cold_start, inference : bool
    peers : tuple of str
        Names in `PEERS`.
    peer_python : str, optional
        The Python that has the peers; default: this one.
    """

    hidden: tuple[int, ...] = (300, 100)
    inputs: int = 784
    classes: int = 10
    batch_sizes: tuple[int, ...] = BATCH_SIZES
    precisions: tuple[str, ...] = ("float32",)
    optimizers: tuple[str, ...] = ("sgd",)
    devices: tuple[str, ...] = ("cpu",)
    dropout: float = 0.0
    seconds_per_row: float = 1.0
    rounds: int = 7
    threads: int | None = None
    profile: bool = False
    cold_start: bool = True
    inference: bool = True
    peers: tuple[str, ...] = field(default=())
    peer_python: str | None = None

    def __post_init__(self) -> None:
        for name in ("hidden", "batch_sizes"):
            for value in getattr(self, name):
                check_count("bench", name, value)
        check_count("bench", "inputs", self.inputs)
        check_count("bench", "classes", self.classes, minimum=2)
        check_count("bench", "rounds", self.rounds)
        if self.threads is not None:
            check_count("bench", "threads", self.threads)
        if not 0 <= self.dropout < 1:
            raise ArgumentError(f"bench: dropout must be from 0 to below 1, not {self.dropout!r}.")
        check_number("bench", "seconds_per_row", self.seconds_per_row, above=0)
        _check_names("precision", self.precisions, PRECISIONS)
        _check_names("optimizer", self.optimizers, OPTIMIZERS)
        _check_names("peer", self.peers, PEERS)
        for name in ("batch_sizes", "precisions", "optimizers", "devices"):
            values = getattr(self, name)
            if not values:
                raise ArgumentError(f"bench: {name} is empty; give at least one.")
            if len(set(values)) < len(values):
                raise ArgumentError(f"bench: {name} names one twice: {', '.join(map(str, values))}")
        if self.peer_python is not None and not Path(self.peer_python).is_file():
            raise ArgumentError(f"bench: there is no Python {self.peer_python!r} for the peers.")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, units of every layer."""
        return (self.inputs, *self.hidden, self.classes)

    @property
    def rows(self) -> Iterable[tuple[str, str, str, int]]:
        """Device, precision, optimizer and batch size of each row."""
        return itertools.product(self.devices, self.precisions, self.optimizers, self.batch_sizes)

    @property
    def ways(self) -> tuple[str, ...]:
        """The workers to start: each peer's ways of being used."""
        return tuple(way for peer in self.peers for way in PEERS[peer])


def _check_names(kind: str, names: Sequence[str], known: Iterable[str]) -> None:
    known = tuple(known)
    for name in names:
        if name not in known:
            raise UnknownNameError(kind, name, known)


def usable_devices() -> tuple[str, ...]:
    """Return the devices that are measured by default: a GPU and the CPU where they can be used."""
    from gpunn.backends.select import cpu_status, cuda_status

    found = [status.device for status in (cuda_status(), cpu_status()) if status.usable]
    if not found:
        raise ArgumentError("bench: neither a GPU nor the CPU backend can be used; gpunn devices")
    return tuple(found)


def as_json(settings: BenchSettings) -> dict[str, Any]:
    """Return the settings as JSON can hold them."""
    rates = {name: OPTIMIZERS[name] for name in settings.optimizers}
    return asdict(settings) | {"learning_rates": rates}
