"""The weights of a model: drawn, set, learned from data, or on a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn.data import batches
from gpunn.errors import ArgumentError, ArgumentTypeError, NotBuiltError, ShapeError
from gpunn.models.compiling import Compiled
from gpunn.models.structure import Structure
from gpunn.models.weight_view import WeightLists, WeightView
from gpunn.randomness.seeds import draw_seed
from gpunn.specs.layers import Normalization
from gpunn.training.session import Session

Array = np.ndarray[Any, Any]


class Weights(WeightLists, Structure):
    """Base class of models: weights, before there is a session on a device and in it."""

    _compiled: Compiled | None
    _session: Session | None
    _seed: int | None
    # Weights before there is a session to hold them.
    _values: dict[str, Array]
    # Those of them that nobody set: another seed draws them anew.
    _drawn: set[str]
    _adapted: dict[str, Any]

    @property
    def seed(self) -> int:
        """The seed of initial weights, shuffling and dropout; drawn when first needed."""
        if self._seed is None:
            self._seed = draw_seed()
        return self._seed

    def _initialize(self) -> None:
        """Draw the initial weights, once, from the seed."""
        for index, variable in enumerate(self.graph.variables):
            if variable.path not in self._values:
                self._drawn.add(variable.path)
                self._values[variable.path] = variable.initializer(
                    variable.shape, "float64", seed=self.seed, index=index
                )

    def _take_over(self) -> None:
        """Start from the weights of other models' layers that are in this one."""
        for name, origin in self.graph.origins.items():
            variables = [v for v in self.graph.variables if v.layer == name]
            if any(v.path in self._values for v in variables):
                continue
            weights = origin._handed_over()
            if weights:
                self._set(variables, weights, f"weights of layer {name!r}")

    def _read(self, path: str) -> Array:
        self._push_adapted()
        if self._session is not None:
            return self._session.read(path)
        self._initialize()
        wide = self._compiled is not None and self._compiled.precision == "float64"
        return self._values[path].astype(np.float64 if wide else np.float32)

    def _set(self, variables: Sequence[Any], weights: Sequence[Any], owner: str) -> None:
        if isinstance(weights, str | bytes) or not hasattr(weights, "__iter__"):
            raise ArgumentTypeError(
                f"{owner}: weights must be a list of arrays, as get_weights returns it, not "
                f"{type(weights).__name__}."
            )
        values = list(weights)
        if len(values) != len(variables):
            raise ArgumentError(f"{owner}: expected {len(variables)} arrays, got {len(values)}.")
        arrays = [
            batches.as_array(
                batches.adopt(value, f"{owner}: {v.path}"), f"{owner}: {v.path}"
            ).astype(np.float64)
            for v, value in zip(variables, values, strict=True)
        ]
        for variable, array in zip(variables, arrays, strict=True):
            if array.shape != variable.shape:
                raise ShapeError(
                    f"{owner}: {variable.path} has shape {variable.shape}, got {array.shape}."
                )
        for variable, array in zip(variables, arrays, strict=True):
            if self._session is not None:
                self._session.write(variable.path, array)
            else:
                self._values[variable.path] = array
                self._drawn.discard(variable.path)
        layers = self.graph.layers
        for name in {variable.layer for variable in variables}:
            layer = layers[name]
            if isinstance(layer, Normalization):
                # What is set now takes the place of what the layer has learned before.
                self._adapted[name] = _statistics(layer)

    @property
    def weights(self) -> list[WeightView]:
        """The weights in the order of `get_weights`, with names."""
        return [WeightView(self, variable) for variable in self.graph.variables]

    def get_weights(self) -> list[Array]:
        """Return copies of all weights, layer by layer: kernel (inputs, outputs), bias."""
        return [self._read(variable.path) for variable in self.graph.variables]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set all weights, in the order of `get_weights`."""
        self._set(self.graph.variables, weights, "set_weights")

    def _normalizations(self) -> list[tuple[str, Normalization]]:
        layers = self.graph.layers.items()
        return [(name, layer) for name, layer in layers if isinstance(layer, Normalization)]

    def _push_adapted(self) -> None:
        """Hand statistics that a Normalization layer has learned since to the model."""
        for name, layer in self._normalizations():
            if layer.mean is None:
                continue
            statistics = _statistics(layer)
            if self._adapted.get(name) == statistics:
                continue
            variables = [v for v in self.graph.variables if v.layer == name]
            size = variables[0].shape
            if len(layer.mean) not in (1, *size):
                raise ShapeError(
                    f"Layer {name!r} (Normalization) was adapted to {len(layer.mean)} features, "
                    f"but its input has {size[0]}."
                )
            values = [np.broadcast_to(np.asarray(s, np.float64), size) for s in statistics]
            self._set(variables, values, f"Normalization {name!r}")

    def _check_adapted(self) -> None:
        for name, _ in self._normalizations():
            if name not in self._adapted:
                raise NotBuiltError(
                    f"Layer {name!r} (Normalization) has no statistics; call its adapt(x_train) "
                    f"first."
                )

    def _leave_session(self) -> None:
        """Take the weights back from the device; they outlive the session."""
        if self._session is not None:
            self._values = self._session.weights()
            self._session = None


def _statistics(layer: Normalization) -> tuple[Any, Any]:
    return layer.mean, layer.variance
