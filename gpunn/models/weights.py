"""The weights of a model: those of its layers, which it shares with all models that have them."""

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
from gpunn.specs.layers.base import Variable
from gpunn.training.session import Session
from gpunn.training.weight_store import LayerWeights, graph_weights

Array = np.ndarray[Any, Any]


class Weights(WeightLists, Structure):
    """Base class of models: weights, whether there is a session on a device or not."""

    _compiled: Compiled | None
    _session: Session | None
    _seed: int | None

    @property
    def seed(self) -> int:
        """The seed of initial weights, shuffling and dropout; drawn when first needed."""
        if self._seed is None:
            self._seed = draw_seed()
        return self._seed

    @property
    def _layer_weights(self) -> dict[str, LayerWeights]:
        """The weights by the layers' names."""
        if self._known_weights is None:
            self._known_weights = graph_weights(self.graph)
        return self._known_weights

    _known_weights: dict[str, LayerWeights] | None = None

    def _initialize(self) -> None:
        """Draw initial weights for layers that have none, from the seed."""
        for index, variable in enumerate(self.graph.variables):
            self._layer_weights[variable.layer].draw(variable, self.seed, index)

    def _read(self, variable: Variable) -> Array:
        self._push_adapted()
        self._initialize()
        values = self._layer_weights[variable.layer].read(variable.name)
        wide = self._compiled is not None and self._compiled.precision == "float64"
        return values.astype(np.float64 if wide else np.float32, copy=False)

    def _set(self, variables: Sequence[Variable], weights: Sequence[Any], owner: str) -> None:
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
        by_layer: dict[str, dict[str, Array]] = {}
        for variable, array in zip(variables, arrays, strict=True):
            if self._session is not None:
                self._session.write(variable.path, array)
            else:
                by_layer.setdefault(variable.layer, {})[variable.name] = array
        for name, own in by_layer.items():
            self._layer_weights[name].set(own)
        layers = self.graph.layers
        for name in {variable.layer for variable in variables}:
            layer = layers[name]
            if isinstance(layer, Normalization):
                # What is set now takes the place of what the layer has learned before.
                self._layer_weights[name].adapted = _statistics(layer)

    @property
    def weights(self) -> list[WeightView]:
        """The weights in the order of `get_weights`, with names."""
        return [WeightView(self, variable) for variable in self.graph.variables]

    def get_weights(self) -> list[Array]:
        """Return copies of all weights, layer by layer: kernel (inputs, outputs), bias.

        Returns
        -------
        list of array
            In float64 where the model computes in it, else in float32.
        """
        return [self._read(variable) for variable in self.graph.variables]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set all weights, in the order of `get_weights`.

        Parameters
        ----------
        weights : sequence of array
            Models that share layers with this one have the new weights, too.

        Raises
        ------
        ArgumentError, ShapeError
            Their number or a shape is not that of the model's weights.
        """
        self._set(self.graph.variables, weights, "set_weights")

    def _normalizations(self) -> list[tuple[str, Normalization]]:
        layers = self.graph.layers.items()
        return [(name, layer) for name, layer in layers if isinstance(layer, Normalization)]

    def _push_adapted(self) -> None:
        """Hand statistics that a Normalization layer has learned since to its weights."""
        for name, layer in self._normalizations():
            if layer.mean is None:
                continue
            statistics = _statistics(layer)
            if self._layer_weights[name].adapted == statistics:
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
            if self._layer_weights[name].adapted is None:
                raise NotBuiltError(
                    f"Layer {name!r} (Normalization) has no statistics; call its adapt(x_train) "
                    f"first."
                )

    def _leave_session(self) -> None:
        """Take the weights back from the device; they outlive the session."""
        if self._session is not None:
            self._session.close()
            self._session = None


def _statistics(layer: Normalization) -> tuple[Any, Any]:
    return layer.mean, layer.variance
