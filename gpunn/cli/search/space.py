"""What is searched: ranges and choices, and the settings that all trials share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gpunn.cli import recipes
from gpunn.data.named import Dataset
from gpunn.errors import ArgumentError, UnknownNameError
from gpunn.specs import activations, optimizers
from gpunn.specs.registry import check_count

SAMPLERS = ("tpe", "random")
PRUNERS = ("median", "hyperband", "none")
# Ranges: kind of number, smallest value, first value beyond, by orders of magnitude.
RANGES: dict[str, tuple[Callable[[str], Any], float, float, bool]] = {
    "hidden": (int, 0, 100, False),
    "neurons": (int, 1, 1e6, True),
    "learning_rate": (float, 1e-12, 1e6, True),
    "dropout": (float, 0.0, 1.0, False),
}
CHOICES = ("batch_size", "optimizer", "activation")
PARAMETERS = (*RANGES, *CHOICES)


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a search is; another one needs another folder.

    Attributes
    ----------
    dataset : str
    hidden : tuple of int
        Least and most hidden layers.
    neurons : tuple of int
        Least and most units of each of them.
    learning_rate, dropout : tuple of float
        Lowest and highest.
    batch_size : tuple of int
    optimizer, activation : tuple of str
        Choices.
    epochs : int
        Of each trial.
    validation : float
        Rows held out of the training part, or the share of them: their figure is the score.
    seed : int
        Of the sampler, and of each trial's weights, shuffling and dropout.
    precision : str
    sampler : {'tpe', 'random'}
    pruner : {'median', 'hyperband', 'none'}
    metric : {'accuracy', 'rmse'}
        What trials are scored by.
    """

    dataset: str
    metric: str
    hidden: tuple[int, int] = (1, 3)
    neurons: tuple[int, int] = (16, 256)
    learning_rate: tuple[float, float] = (1e-4, 1e-1)
    dropout: tuple[float, float] = (0.0, 0.5)
    batch_size: tuple[int, ...] = (32, 64, 128)
    optimizer: tuple[str, ...]
    activation: tuple[str, ...]
    epochs: int = 10
    validation: float
    seed: int = 0
    precision: str = "float32"
    sampler: str = "tpe"
    pruner: str = "median"

    @property
    def higher_is_better(self) -> bool:
        """Whether the best score is the highest one."""
        return self.metric == "accuracy"

    def searched(self) -> list[str]:
        """Return the parameters that can differ between trials."""
        return [name for name in PARAMETERS if len(set(getattr(self, name))) > 1]

    def fixed(self) -> dict[str, Any]:
        """Return the parameters that are the same in all trials."""
        free = self.searched()
        return {name: getattr(self, name)[0] for name in PARAMETERS if name not in free}

    def options(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of ``gpunn train`` for a trial with `params`."""
        values = self.fixed() | dict(params)
        layers, units = values.pop("hidden"), values.pop("neurons")
        return {
            "hidden": (units,) * layers,
            **values,
            "epochs": self.epochs,
            "validation": self.validation,
            "seed": self.seed,
            "precision": self.precision,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        values = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def parse(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options given on the command line as fields of `Search`, checked."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in PARAMETERS:
        if name in given:
            given[name] = (
                _range(name, given[name]) if name in RANGES else _choice(name, given[name])
            )
    for name, get in (("optimizer", optimizers.get), ("activation", activations.get)):
        for value in given.get(name, ()):
            get(value)  # says what is known, if it is not
    for name, known in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        if name in given and given[name] not in known:
            raise UnknownNameError(name, given[name], known)
    for name, least in (("epochs", 1), ("seed", 0)):
        if name in given:
            check_count("gpunn search", name, given[name], minimum=least)
    if "validation" in given and float(given["validation"]).is_integer():
        given["validation"] = int(given["validation"])  # rows, not a share of them
    if given.get("validation") == 0:
        raise ArgumentError("--validation must leave rows to score trials with; it is 0.")
    return given


def new(dataset: Dataset, given: Mapping[str, Any]) -> Search:
    """Return a new search on a data set: what is not given comes from here and from its recipe."""
    recipe = recipes.get(dataset.name)
    (metric,) = recipes.objective(dataset)["metrics"]
    values: dict[str, Any] = {
        "dataset": recipe.dataset,
        "metric": metric,
        "optimizer": (recipe.optimizer,),
        "activation": (recipe.activation,),
        "validation": recipe.validation,
    }
    values.update(given)
    return Search(**values)


def stored(values: Mapping[str, Any]) -> Search:
    """Return the search that `Search.to_json` describes."""
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Search(**fields)


def check_same(search: Search, dataset: str, given: Mapping[str, Any], folder: object) -> None:
    """Raise `ArgumentError` where the options given contradict the search in a folder."""
    if dataset != search.dataset:
        raise ArgumentError(f"{folder} is a search on {search.dataset}, not on {dataset}.")
    for name, value in given.items():
        own = getattr(search, name)
        if value != own:
            raise ArgumentError(
                f"--{name.replace('_', '-')} {text(name, value)} contradicts the search in "
                f"{folder}, which has {text(name, own)}: leave it out to go on with that search, "
                f"or start another one with another --out."
            )


def check_batch_sizes(search: Search, rows: int) -> None:
    """Raise `ArgumentError` where a step would take more rows than there are to train on."""
    if (largest := max(search.batch_size)) > rows:
        raise ArgumentError(f"--batch-size {largest}: there are {rows} rows to train on.")


def text(name: str, value: Any) -> str:
    """Return a setting as it is typed."""
    if not isinstance(value, tuple):
        return str(value)
    if name in RANGES:
        return str(value[0]) if value[0] == value[1] else f"{value[0]}:{value[1]}"
    return ",".join(map(str, value))


def _range(name: str, given: str) -> tuple[Any, Any]:
    kind, least, beyond, _ = RANGES[name]
    option = f"--{name.replace('_', '-')}"
    low, colon, high = given.partition(":")
    try:
        values = kind(low), kind(high if colon else low)
    except ValueError:
        example = "1:3" if kind is int else "0.0001:0.1"
        raise ArgumentError(
            f"{option} must be a range such as {example}, or one number, not {given!r}."
        ) from None
    if not least <= values[0] <= values[1] < beyond:
        raise ArgumentError(
            f"{option} must be a range from low to high, at least {least:g} and below {beyond:g}, "
            f"not {given!r}."
        )
    return values


def _choice(name: str, given: str) -> tuple[Any, ...]:
    option = f"--{name.replace('_', '-')}"
    names = [part.strip() for part in given.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise ArgumentError(f"{option} must be choices with commas between, not {given!r}.")
    if name != "batch_size":
        return tuple(names)
    if not all(part.isascii() and part.isdigit() and int(part) for part in names):
        raise ArgumentError(f"{option} must be whole numbers of at least 1, not {given!r}.")
    return tuple(map(int, names))
