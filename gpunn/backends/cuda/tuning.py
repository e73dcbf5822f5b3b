"""The table that `gpunn tune` measures: what serves which matrix product on a model of GPU.

A product is known by its form, precision and exact shape. One that is not in the table is cut as
the cost model of tilings.py says: what is best changes with every wave of blocks, so a
neighbour's choice says little, and the cost model knows the shape itself.

A file in the user's cache holds a GPU's table. Its name has the GPU's model, the kernels' hash and
the version of the format, so that what was measured with other kernels is not taken for this.
Results in floating point depend on how a reduction is cut, so a run's bits depend on the table:
`Table.digest` names it, and the backend's description has the digest.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from gpunn.backends.cuda import kernel_loader
from gpunn.backends.cuda.driver import Driver, KernelSource, Limits
from gpunn.backends.cuda.tilings import ALONG, KINDS, TILES, Tile, Tiling, device_tiles, tilings
from gpunn.cache_folder import user_cache

logger = logging.getLogger("gpunn")

FORMAT = 1
IGNORED = "GPUNN_TUNING"  # an environment variable: "off" ignores all tables
KERNELS = ("dense.cu", "dense_finish.cu")


class Key(NamedTuple):
    """A matrix product: M x N results, each a sum of K."""

    form: str
    precision: str
    m: int
    n: int
    k: int


@dataclass(frozen=True)
class Choice:
    """What serves a product.

    Attributes
    ----------
    tile : Tile, optional
        Of our kernel; None for the device's library.
    splits : int
        Parts of the reduction; 0 for the library.
    seconds, default_seconds : float, optional
        What it took, and what the cost model's choice took.
    """

    tile: Tile | None = None
    splits: int = 0
    seconds: float | None = field(default=None, compare=False)
    default_seconds: float | None = field(default=None, compare=False)

    @classmethod
    def own(cls, shape: Tiling) -> Choice:
        """Return the choice of our kernel, cut like this."""
        return cls(shape.tile, shape.splits)

    def words(self) -> str:
        """Return the choice as tables show it."""
        if self.tile is None:
            return "library"
        tile = f"{self.tile.m}x{self.tile.n}x{self.tile.k}"
        stages = f", {self.tile.stages} stages"
        return tile + stages + (f", {self.splits} parts" if self.splits > 1 else "")

    def tiling(self, key: Key, limits: Limits) -> Tiling | None:
        """Return how the product is cut; None where this device cannot do so."""
        tile = self.tile
        if tile is None or tile not in device_tiles(key.precision, limits):
            return None
        if tile.shared_bytes(key.form, key.precision) > limits.shared_memory:
            return None
        shapes = tilings(*key, tile, limits)
        return next((shape for shape in shapes if shape.splits == self.splits), None)


@dataclass(frozen=True)
class GpuModel:
    """Whose table it is.

    Attributes
    ----------
    model : str
    architecture, multiprocessors : int
    """

    model: str
    architecture: int
    multiprocessors: int

    @classmethod
    def of(cls, driver: Driver) -> GpuModel:
        """Return that of a driver."""
        return cls(driver.model, driver.limits.architecture, driver.limits.multiprocessors)


class Table:
    """Choices for one model of GPU.

    Parameters
    ----------
    choices : mapping of Key to Choice, optional
    dependent_launch : bool, optional
        Whether a kernel may be started before the one in front of it has ended; None where that
        was not measured.
    graph_steps : int, optional
        Steps of the largest graph; None where that was not measured.
    """

    def __init__(
        self,
        choices: Mapping[Key, Choice] | None = None,
        dependent_launch: bool | None = None,
        graph_steps: int | None = None,
    ) -> None:
        self.choices = dict(choices or {})
        self.dependent_launch, self.graph_steps = dependent_launch, graph_steps

    def __len__(self) -> int:
        return len(self.choices)

    @property
    def digest(self) -> str:
        """Eight digits that change with the choices: with all that bits depend on."""
        found = ((key, self.choices[key]) for key in sorted(self.choices))
        held = [(*key, one.tile and astuple(one.tile), one.splits) for key, one in found]
        return hashlib.sha256(json.dumps(held).encode()).hexdigest()[:8]

    def describe(self) -> str:
        """Return the table in words; empty, if it says nothing."""
        count, said = len(self), []
        if count:
            said.append(f"{count} product{'s' * (count != 1)} tuned, table {self.digest}")
        if self.graph_steps:
            said.append(f"graphs of {self.graph_steps} step{'s' * (self.graph_steps != 1)}")
        if self.dependent_launch is not None:
            said.append(f"{'dependent' if self.dependent_launch else 'ordinary'} launches")
        return ", ".join(said)


@lru_cache(maxsize=1)
def kernels_digest() -> str:
    """Return a hash of the kernels of matrix products, and of their tiles."""
    tiles = repr(sorted((name, tuple(map(astuple, tiles))) for name, tiles in TILES.items()))
    found = [kernel_loader.digest(KernelSource(file), tiles) for file in KERNELS]
    return hashlib.sha256("".join(found).encode()).hexdigest()[:16]


def table_file(gpu: GpuModel) -> Path:
    """Return where the table of a GPU is kept; it may not exist."""
    model = re.sub(r"[^A-Za-z0-9]+", "-", gpu.model).strip("-") or "gpu"
    name = f"{model}-sm_{gpu.architecture}-{kernels_digest()}-v{FORMAT}.json"
    return user_cache() / "tuning" / name


def load(gpu: GpuModel, *, environment: Mapping[str, str] = os.environ) -> Table:
    """Return the table of a GPU, empty where there is none.

    A file that is damaged or another GPU's is left out; the log names it.
    """
    if environment.get(IGNORED, "").strip().lower() in ("off", "0", "no", "false"):
        return Table()
    file = table_file(gpu)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Table()
    except (OSError, UnicodeError) as error:
        logger.warning("the tuning table %s cannot be read (%s): it is left out", file, error)
        return Table()
    try:
        return _parsed(json.loads(text), gpu)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning(
            "the tuning table %s is left out: %s; gpunn tune measures it anew",
            *(file, error if isinstance(error, _ForeignError) else "it is damaged"),
        )
        return Table()


class _ForeignError(ValueError):
    """The file is whole, but not about this."""


def _parsed(contents: Any, gpu: GpuModel) -> Table:
    about = {name: contents[name] for name in ("format", "kernels", "gpu")}
    expected = {"format": FORMAT, "kernels": kernels_digest(), "gpu": gpu.__dict__}
    for name, value in expected.items():
        if about[name] != value:
            raise _ForeignError(f"its {name} is {about[name]!r}, not {value!r}")
    dependent = contents["dependent_launch"]
    if dependent not in (None, True, False):
        raise ValueError("dependent_launch")
    steps = contents["graph_steps"]
    choices = dict(_entry(one) for one in contents["products"])
    return Table(choices, dependent, None if steps is None else _count(steps))


def _entry(entry: Any) -> tuple[Key, Choice]:
    key = Key(entry["form"], entry["precision"], *(_count(entry[name]) for name in "mnk"))
    if key.form not in ALONG or key.precision not in KINDS:
        raise ValueError(f"{key}")
    tile = None if entry["tile"] is None else Tile(*map(_count, entry["tile"]))
    splits = 0 if tile is None else _count(entry["splits"])
    return key, Choice(tile, splits, _time(entry["seconds"]), _time(entry["default_seconds"]))


def _count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r} is no count")
    return value


def _time(value: Any) -> float | None:
    return None if value is None else float(value)


def save(gpu: GpuModel, table: Table) -> Path:
    """Write a table; another process sees the old one or the new one.

    Raises
    ------
    OSError
    """
    file = table_file(gpu)
    contents = {
        "format": FORMAT,
        "gpu": gpu.__dict__,
        "kernels": kernels_digest(),
        "dependent_launch": table.dependent_launch,
        "graph_steps": table.graph_steps,
        "products": list(as_json(table)),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    kernel_loader.replace(file, (json.dumps(contents, indent=1) + "\n").encode())
    return file


def as_json(table: Table) -> Iterable[dict[str, Any]]:
    """Yield the entries of a table as JSON can hold them, in the order in which they came."""
    for key, choice in table.choices.items():
        yield key._asdict() | {
            "tile": None if choice.tile is None else astuple(choice.tile),
            "splits": choice.splits,
            "seconds": choice.seconds,
            "default_seconds": choice.default_seconds,
        }


def forget(gpu: GpuModel) -> Path | None:
    """Remove the table of a GPU; return the file that was removed."""
    file = table_file(gpu)
    try:
        file.unlink()
    except FileNotFoundError:
        return None
    return file


def timed(choice: Choice, seconds: float, default_seconds: float) -> Choice:
    """Return a choice with what was measured."""
    return replace(choice, seconds=seconds, default_seconds=default_seconds)
