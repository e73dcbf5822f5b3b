"""What is fed in a run, checked as the rest of gpunn checks data, by placeholder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gpunn.backends.interface import Backend
from gpunn.compat.symbolic.graph import Tensor, TensorGraph
from gpunn.compat.symbolic.placeholders import Placeholder
from gpunn.data import batches
from gpunn.errors import ArgumentError, ArgumentTypeError, ShapeError
from gpunn.specs.graph import Node
from gpunn.specs.losses import Loss
from gpunn.specs.registry import check_number

Array = np.ndarray[Any, Any]


class Feeds:
    """The ``feed_dict`` of one run.

    Parameters
    ----------
    feed_dict : mapping of Placeholder to array, or None
    graph : TensorGraph
        Of the session.
    backend : Backend
        Takes in arrays of other libraries.
    dtype : str
        Of the session's values.
    """

    def __init__(self, feed_dict: Any, graph: TensorGraph, backend: Backend, dtype: str) -> None:
        if feed_dict is None:
            feed_dict = {}
        if not isinstance(feed_dict, Mapping):
            raise ArgumentTypeError(
                f"feed_dict must be a dict from placeholders to arrays, not "
                f"{type(feed_dict).__name__}."
            )
        for key in feed_dict:
            if isinstance(key, Placeholder) and key.graph is graph:
                continue
            what = f"a {type(key).__name__} ({key!r})"
            if isinstance(key, Tensor):
                what = f"{key.name!r}, a {type(key).__name__}"
            if isinstance(key, Placeholder):
                what = f"placeholder {key.name!r} of another graph than the session's"
            raise ArgumentTypeError(
                f"feed_dict: its keys must be placeholders of the session's graph, not {what}."
            )
        self._fed, self._backend, self._dtype = feed_dict, backend, dtype
        self._arrays: dict[Any, Array] = {}
        self._first: tuple[Placeholder, int] | None = None

    def value(self, placeholder: Placeholder) -> Any:
        """Return what was fed, or the placeholder's default."""
        if placeholder in self._fed:
            return self._fed[placeholder]
        if placeholder.default is None:
            raise ArgumentError(
                f"feed_dict: lacks placeholder {placeholder.name!r}, on which what is run depends."
            )
        return placeholder.default

    def number(self, placeholder: Placeholder) -> float:
        """Return one number, at least 0: a learning rate."""
        value = self.value(placeholder)
        return check_number("feed_dict", f"placeholder {placeholder.name!r}", value, minimum=0)

    def flag(self, placeholder: Placeholder) -> bool:
        """Return one bool."""
        value = self.value(placeholder)
        if not isinstance(value, bool | np.bool_):
            raise ArgumentTypeError(
                f"feed_dict: placeholder {placeholder.name!r} must be True or False, not {value!r}."
            )
        return bool(value)

    def _array(self, placeholder: Placeholder) -> Any:
        argument = f"placeholder {placeholder.name!r}"
        value = batches.adopt(self.value(placeholder), argument, by=self._backend.adopt)
        array = batches.as_array(value, argument)
        shape = placeholder.shape
        if shape is not None and not (
            len(array.shape) == len(shape)
            and all(size in (None, given) for size, given in zip(shape, array.shape, strict=True))
        ):
            hint = ""
            if array.shape == shape[1:]:
                hint = "; for a single row use x[np.newaxis]"
            raise ShapeError(
                f"{argument}: expected shape {tuple(shape)}, got {tuple(array.shape)}{hint}."
            )
        return array

    def _rows(self, placeholder: Placeholder, rows: int) -> None:
        if self._first is None:
            self._first = placeholder, rows
        elif rows != self._first[1]:
            raise ShapeError(
                f"placeholder {placeholder.name!r}: has {rows} rows, but placeholder "
                f"{self._first[0].name!r} has {self._first[1]}."
            )

    def input(self, placeholder: Placeholder, node: Node) -> Array:
        """Return the data for an input of the network, shape (rows, features)."""
        key = (placeholder, "input")
        if key not in self._arrays:
            array = self._array(placeholder)
            if not placeholder.is_float and array.dtype != np.uint8:
                raise ArgumentTypeError(
                    f"placeholder {placeholder.name!r}: is declared uint8, but fed {array.dtype}; "
                    f"declare it tf.float32, or feed uint8."
                )
            if placeholder.is_float and array.dtype == np.uint8:
                array = array.astype(self._dtype)
            argument = f"placeholder {placeholder.name!r}"
            array = batches.prepare_input(array, node, self._dtype, argument)
            self._rows(placeholder, len(array))
            self._arrays[key] = array
        return self._arrays[key]

    def targets(
        self, placeholder: Placeholder, rows: int, columns: int, loss: Loss, sparse: bool
    ) -> Array:
        """Return the targets of a loss: (rows,) int32, or (rows, columns)."""
        key = (placeholder, sparse, loss.head, columns)
        if key not in self._arrays:
            array = self._array(placeholder)
            if array.ndim:
                self._rows(placeholder, len(array))
            if array.ndim > 2:
                array = array.reshape(len(array), -1)
            argument = f"placeholder {placeholder.name!r}"
            self._arrays[key] = batches.prepare_targets(
                array, rows, columns, loss, sparse, self._dtype, argument
            )
        return self._arrays[key]
