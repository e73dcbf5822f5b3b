"""The weights of layers: one set for each layer, which all models that have the layer share.

They lie on the host until a model that has them computes; then its `Session` holds them on a
device. Where several sessions hold the weights of one layer, one of them has the newest values: the
one that trained or wrote last. The others take them from it before they compute.
"""

from __future__ import annotations

import itertools
import logging
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from gpunn.errors import ShapeError
from gpunn.specs.graph import Graph
from gpunn.specs.layers import Layer
from gpunn.specs.layers.base import Variable, describe
from gpunn.specs.registry import set_field

Array = np.ndarray[Any, Any]
logger = logging.getLogger("gpunn")

# Held while weights move from one session to another, or to the host.
_MOVING = threading.RLock()


class Device(Protocol):
    """What reads and writes weights on a device, by ``layer/name``: a session."""

    def read(self, path: str) -> Array: ...

    def write_silently(self, values: Mapping[str, Array]) -> None: ...

    def place(self) -> str: ...


class LayerWeights:
    """The weights of one layer.

    Attributes
    ----------
    shapes : dict of str to tuple of int
        By the weights' names: ``kernel``, ``bias``, ...
    values : dict of str to array
        On the host, where no session has newer ones.
    drawn : set of str
        Those of the values that nobody set: another seed draws them anew.
    holder : DeviceWeights or None
        The copy on a device that is the newest; None where the values on the host are.
    adapted : tuple or None
        The statistics that a Normalization layer had learned when they were taken over last.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = dict(shapes)
        self.values: dict[str, Array] = {}
        self.drawn: set[str] = set()
        self.holder: DeviceWeights | None = None
        self.adapted: Any = None
        self._scope = ""  # the layer's name in the holder's graph
        self._version = 0  # of the values on the host
        self._copies: list[tuple[weakref.ref[DeviceWeights], str]] = []

    @property
    def stamp(self) -> tuple[int, int]:
        """Equal for equal values: which copy is the newest, and its version."""
        holder = self.holder
        return (0, self._version) if holder is None else (holder.serial, holder.version)

    def read(self, name: str) -> Array:
        """Return a copy of the newest values of a weight, in the type of where they lie."""
        if self.holder is not None:
            return self.holder.device.read(f"{self._scope}/{name}")
        return self.values[name].copy()

    def read_all(self) -> dict[str, Array]:
        """Return copies of the newest values of all weights that have some."""
        return {name: self.read(name) for name in (self.shapes if self.holder else self.values)}

    def set(self, values: Mapping[str, Array]) -> None:
        """Set some or all weights, on the host."""
        with _MOVING:
            self.values, self.holder = self.read_all() | dict(values), None
            self.drawn.difference_update(values)
            self._version += 1
            self._tell()

    def draw(self, variable: Variable, seed: int, index: int) -> None:
        """Give a weight that has no values its initial ones."""
        if self.holder is None and variable.name not in self.values:
            self.drawn.add(variable.name)
            self.values[variable.name] = variable.initializer(
                variable.shape, "float64", seed=seed, index=index
            )

    def forget_drawn(self) -> None:
        """Let initial values that nobody set or used be drawn anew."""
        for name in self.drawn:
            del self.values[name]
        self.drawn.clear()

    def attach(self, copy: DeviceWeights, scope: str) -> None:
        """Take in `copy`, which has the newest values, as one of several."""
        self._copies.append((weakref.ref(copy), scope))
        if self.holder is None:
            self.claim(copy, scope)
        if len(self._copies) > 1:
            self._tell()

    def claim(self, copy: DeviceWeights, scope: str) -> None:
        """Make `copy`, which is about to change, the newest."""
        self.holder, self._scope, self.values = copy, scope, {}
        self.drawn.clear()

    def leave(self, copy: DeviceWeights) -> None:
        """Let go of a copy that ends."""
        if self.holder is copy:
            self.values, self.holder = self.read_all(), None
            self._version += 1
        self._copies = [entry for entry in self._copies if entry[0]() is not copy]

    def _tell(self) -> None:
        """Let every copy look whether it is the newest, from now on."""
        self._copies = [entry for entry in self._copies if entry[0]() is not None]
        for reference, scope in self._copies:
            copy = reference()
            if copy is not None:
                copy.shared[scope] = self


_serials = itertools.count(1)


class DeviceWeights:
    """The copies of layers' weights that one session holds.

    Parameters
    ----------
    device : Device
    layers : mapping of str to LayerWeights
        By the layers' names in the session's graph.

    Attributes
    ----------
    version : int
        Rises with each write and each training step.
    shared : dict of str to LayerWeights
        Those of the layers that another session may have newer weights of. Where no layer is
        shared it stays empty, and sharing costs nothing.
    """

    def __init__(self, device: Device, layers: Mapping[str, LayerWeights]) -> None:
        self.device, self.layers = device, dict(layers)
        self.serial, self.version = next(_serials), 0
        self.shared: dict[str, LayerWeights] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        with _MOVING:
            for scope, weights in self.layers.items():
                self._take(scope, weights)
                weights.attach(self, scope)
                self._seen[scope] = weights.stamp

    def _take(self, scope: str, weights: LayerWeights) -> None:
        values = weights.read_all()
        self.device.write_silently({f"{scope}/{name}": v for name, v in values.items()})
        self._seen[scope] = weights.stamp

    def refresh(self) -> None:
        """Take over the weights that are newer elsewhere."""
        if not self.shared:
            return
        with _MOVING:
            for scope, weights in self.shared.items():
                holder = weights.holder
                if holder is self or self._seen[scope] == weights.stamp:
                    continue
                self._take(scope, weights)
                if holder is not None:
                    self._log(scope, holder.device.place(), self.device.place())

    def _log(self, scope: str, there: str, here: str) -> None:
        if there != here:
            _log_move(scope, there, here)

    def claim(self, scopes: Iterable[str] | None = None) -> None:
        """Take over what is newer elsewhere, and say that some layers' weights change here now."""
        if not self.shared:
            return
        with _MOVING:
            self.refresh()
            for scope in self.shared if scopes is None else scopes:
                if scope in self.shared:
                    self.shared[scope].claim(self, scope)

    def leave(self) -> None:
        """Hand the newest weights back to the host; the session ends."""
        with _MOVING:
            for weights in self.layers.values():
                weights.leave(self)


@lru_cache(maxsize=256)
def _log_move(scope: str, there: str, here: str) -> None:
    """Say once that a layer's weights came from another device or precision."""
    logger.info("layer %s: its newest weights are taken from %s to %s", scope, there, here)


def layer_weights(layer: Layer, variables: Sequence[Variable]) -> LayerWeights:
    """Return the weights of a layer, which are made when they are first asked for.

    Raises
    ------
    ShapeError
        The layer has weights of other shapes: another model calls it on other inputs.
    """
    shapes = {variable.name: variable.shape for variable in variables}
    weights: LayerWeights | None = vars(layer).get("_weights")
    if weights is None:
        weights = LayerWeights(shapes)
        set_field(layer, "_weights", weights)
    elif weights.shapes != shapes:
        name = next(name for name in shapes if weights.shapes.get(name) != shapes[name])
        raise ShapeError(
            f"{describe(layer)} has a {name} of shape {weights.shapes.get(name)} in another model, "
            f"and would need one of {shapes[name]} here: models share the weights of a layer. Use "
            f"a new layer, or gpunn.models.clone_model."
        )
    return weights


def graph_weights(graph: Graph) -> dict[str, LayerWeights]:
    """Return the weights of a graph's layers by the layers' names."""
    by_layer: dict[str, list[Variable]] = {}
    for variable in graph.variables:
        by_layer.setdefault(variable.layer, []).append(variable)
    return {name: layer_weights(graph.layers[name], own) for name, own in by_layer.items()}
