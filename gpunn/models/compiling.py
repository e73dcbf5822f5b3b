"""What `Model.compile` settles: losses and metrics for each output, given in Keras's ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpunn.backends.select import Selection
from gpunn.errors import ArgumentError, PlanError, UnknownNameError
from gpunn.plan.spec import STORAGE, OutputSpec
from gpunn.specs import losses as losses_module
from gpunn.specs import metrics as metrics_module
from gpunn.specs.graph import Graph
from gpunn.specs.optimizers import Optimizer
from gpunn.specs.registry import check_number


@dataclass(frozen=True)
class Compiled:
    """What `Model.compile` settled."""

    optimizer: Optimizer
    outputs: tuple[OutputSpec, ...]
    device: str
    precision: str
    threads: int | None
    selection: Selection


def output_specs(
    graph: Graph, loss: Any, metrics: Any, loss_weights: Any
) -> tuple[OutputSpec, ...]:
    """Return what is asked of each output, from the arguments of `Model.compile`."""
    names = graph.output_names()
    given = _per_output(loss, names, "loss")
    all_metrics = _metrics_per_output(metrics, names)
    weights = _per_output(loss_weights, names, "loss_weights", default=1.0)
    specs = []
    for name, one_loss, some, weight in zip(names, given, all_metrics, weights, strict=True):
        check_number("compile", f"loss_weights of output {name!r}", weight)
        specs.append(
            OutputSpec(
                None if one_loss is None else losses_module.get(one_loss),
                _distinct(map(_named_metric, some), name),
                float(weight),
            )
        )
    return tuple(specs)


def _per_output(value: Any, names: Sequence[str], argument: str, default: Any = None) -> list[Any]:
    """Return one entry per output from a single value, a list or a dict by output name."""
    if value is None:
        return [default] * len(names)
    if isinstance(value, Mapping) and "class_name" not in value:
        for name in value:
            if name not in names:
                raise UnknownNameError(f"output in {argument}", name, names)
        return [value.get(name, default) for name in names]
    if isinstance(value, list | tuple):
        if len(value) != len(names):
            raise ArgumentError(
                f"{argument}: expected {len(names)} entries, one for each of {list(names)}, got "
                f"{len(value)}."
            )
        return list(value)
    return [value] * len(names)


def _metrics_per_output(metrics: Any, names: Sequence[str]) -> list[list[Any]]:
    if metrics is None:
        return [[] for _ in names]
    if isinstance(metrics, Mapping) and "class_name" not in metrics:
        given = _per_output(metrics, names, "metrics", default=())
    elif isinstance(metrics, list | tuple):
        # As in Keras, as many entries as outputs are one for each.
        nested = any(isinstance(entry, list | tuple) for entry in metrics)
        nested = nested or len(metrics) == len(names) > 1
        given = _per_output(metrics, names, "metrics") if nested else [metrics] * len(names)
    else:
        given = [[metrics]] * len(names)
    given = [() if entry is None else entry for entry in given]
    return [list(e) if isinstance(e, list | tuple) else [e] for e in given]


def _distinct(metrics: Iterable[metrics_module.Metric], output: str) -> tuple[Any, ...]:
    """Check that no two figures of an output have one name: they would share a counter."""
    chosen = tuple(metrics)
    taken = ["loss", "regularization", "nonfinite_step"]
    for metric in chosen:
        if metric.label in taken:
            raise ArgumentError(
                f"metrics: output {output!r} has two figures named {metric.label!r}; give one "
                f"another name, or leave it out."
            )
        taken.append(metric.label)
    return chosen


def _named_metric(identifier: Any) -> metrics_module.Metric:
    """Resolve a metric; one given by name goes by that name in the history, as in Keras."""
    metric = metrics_module.get(identifier)
    if isinstance(identifier, str) and hasattr(metric, "name"):
        return replace(metric, name=identifier)  # type: ignore[call-arg]
    return metric


def check_seed(seed: object) -> int:
    """Return a seed as an int, or raise `ArgumentError`."""
    if not is_whole(seed) or not 0 <= int(seed) < 2**64:  # type: ignore[call-overload]
        raise ArgumentError(f"seed must be a whole number from 0 to 2**64 - 1, not {seed!r}.")
    return int(seed)  # type: ignore[call-overload]


def check_precision_name(precision: object) -> None:
    """Raise `UnknownNameError` unless it is the name of a precision."""
    if precision not in tuple(STORAGE):
        raise UnknownNameError("precision", precision, STORAGE)


def check_precision(selection: Selection, device: str, precision: str) -> None:
    """Raise `PlanError` if the backend chosen for `device` does not compute in `precision`."""
    backend, reason = selection
    if precision in backend.precisions or precision == STORAGE[precision]:
        backend.check((), precision, 1)  # a GPU may be too old for it
        return
    ways = f"use precision={STORAGE[precision]!r}, or for {precision} "
    ways += "device='cuda' with a GPU of compute capability 8.0 or later, or device='simulator'."
    if device != "auto":
        raise PlanError(f"Device {device!r} does not compute in {precision}; {ways}")
    raise PlanError(
        f"device='auto' took {backend.name} ({reason}), which does not compute in {precision}; "
        f"{ways}"
    )


def is_whole(value: object) -> bool:
    """Return whether it is a whole number (and no bool)."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
