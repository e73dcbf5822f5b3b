"""What a model is given: data, targets and their weights, checked and laid out for the plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gpunn.data import batches
from gpunn.errors import ArgumentError, ArgumentTypeError
from gpunn.models.compilable import DEFAULT_BATCH_SIZE, Compilable
from gpunn.plan.spec import STORAGE
from gpunn.specs.graph import Graph


class Intake(Compilable):
    """Base class of models: taking in data."""

    def _adopt(self, value: Any, argument: str, names: Callable[[Graph], Sequence[str]]) -> Any:
        """Take in arrays of other libraries: where the model computes, or as NumPy's."""
        if value is None or isinstance(value, np.ndarray):
            return value
        if self.built and self._compiled is None:
            _ = self.session  # settles where the model computes
        backend = self._backend
        by = batches.host_array if backend is None else backend.adopt
        return batches.adopt(value, argument, names(self._graph) if self._graph else ("",), by)

    def _adopt_x(self, x: Any, prefix: str = "") -> Any:
        return self._adopt(x, f"{prefix}x", Graph.input_names)

    def _adopt_y(self, y: Any, sample_weight: Any, prefix: str = "") -> tuple[Any, Any]:
        return (
            self._adopt(y, f"{prefix}y", Graph.output_names),
            self._adopt(sample_weight, f"{prefix}sample_weight", Graph.output_names),
        )

    def prepare(self, x: Any, y: Any = None, sample_weight: Any = None, prefix: str = "") -> Any:
        """Check data and lay it out for the plan; see `gpunn.data.batches.prepare`.

        Parameters
        ----------
        x, y, sample_weight : array, or list or dict of arrays
            As for `fit`.
        prefix : str
            In front of the arguments' names in messages.

        Returns
        -------
        Data
            Arrays as the plan reads them.
        """
        compiled = self._compiled
        self._push_adapted()
        self._check_adapted()
        x = self._adopt_x(x, prefix)
        y, sample_weight = self._adopt_y(y, sample_weight, prefix)
        with self._current():
            return batches.prepare(
                self.graph,
                x,
                y,
                sample_weight,
                dtype=STORAGE[compiled.precision if compiled else "float32"],
                outputs=compiled.outputs if compiled else (),
                prefix=prefix,
            )

    def prepare_validation(self, validation_data: Any) -> Any:
        """Check and lay out ``(x, y)`` or ``(x, y, sample_weight)``; None stays None.

        Parameters
        ----------
        validation_data : tuple or None
            ``(x, y)`` or ``(x, y, sample_weight)``.

        Returns
        -------
        Data or None
            Arrays as the plan reads them.

        Raises
        ------
        ArgumentTypeError
            It is no such tuple, or has no targets.
        """
        if validation_data is None:
            return None
        if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
            raise ArgumentTypeError("validation_data must be (x, y) or (x, y, sample_weight).")
        check_targets(validation_data[1], "validation y")
        weights = validation_data[2] if len(validation_data) == 3 else None
        return self.prepare(validation_data[0], validation_data[1], weights, prefix="validation ")

    def _weigh(self, class_weight: Mapping[int, float] | None, sample_weight: Any, y: Any) -> Any:
        """Return the sample weights that either argument asks for."""
        if class_weight is None:
            return sample_weight
        if sample_weight is not None:
            raise ArgumentError("Give class_weight or sample_weight, not both.")
        if len(self.compiled.outputs) > 1:
            raise ArgumentError("class_weight works with one output only.")
        classes = math.prod(self.graph.nodes[self.graph.outputs[0]].shape)
        with self._current():
            return batches.class_weights(class_weight, y, classes)


def check_targets(y: object, argument: str) -> None:
    if y is None:
        raise ArgumentTypeError(f"{argument}: is missing; give the targets, one for each row of x.")


def default_batch_size(x: Any) -> int:
    """Return Keras's 32, or the number of rows where that is less."""
    if isinstance(x, Mapping) and x:
        x = next(iter(x.values()))
    elif isinstance(x, list | tuple) and x and getattr(x[0], "shape", None):
        x = x[0] if len(x[0].shape) > 1 else x
    rows = len(x) if hasattr(x, "__len__") else 0
    return min(DEFAULT_BATCH_SIZE, rows) or DEFAULT_BATCH_SIZE
