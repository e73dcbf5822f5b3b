"""Whether rows are classified correctly: what metrics are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.compat.symbolic.graph import describe, same_graph
from gpunn.compat.symbolic.objectives import (
    ArgMax,
    PerRow,
    Scalar,
    Term,
    class_numbers,
    labels_like,
)
from gpunn.compat.symbolic.placeholders import Placeholder
from gpunn.compat.symbolic.values import Values, as_values
from gpunn.errors import ArgumentError, ArgumentTypeError, ShapeError
from gpunn.specs.metrics import Accuracy, Metric, TopKCategoricalAccuracy
from gpunn.specs.registry import check_count


def in_top_k(predictions: Any, targets: Any, k: int, name: str = "InTopK") -> PerRow:
    """Return whether the target class is among the `k` largest predictions of its row.

    With ``k=1`` it is so where ``argmax(predictions)`` is the class: of several equal largest
    values the first one counts. With larger `k`, a tie with the k-th largest counts as being in.
    """
    predictions = as_values("in_top_k", predictions)
    classes = predictions.symbolic.shape
    if len(classes) != 1 or classes[0] < 2:
        raise ShapeError(
            f"in_top_k: predictions must have shape (None, classes) with at least 2 classes; "
            f"{predictions.name!r} has {tuple(predictions.get_shape())}."
        )
    targets = class_numbers("in_top_k", "targets", targets)
    k = check_count("in_top_k", "k", k)
    spec: Metric = Accuracy() if k == 1 else TopKCategoricalAccuracy(k)
    graph = same_graph("in_top_k", predictions, targets)
    return PerRow(name, Term(spec, predictions, targets, True), graph)


def argmax(input: Any, axis: int = 1, name: str = "ArgMax") -> ArgMax:
    """Return the position of the largest value of each row; `axis` is 1 or -1."""
    if axis not in (1, -1):
        raise ArgumentError(f"argmax: axis must be 1 (or -1), not {axis!r}.")
    values = as_values("argmax", input)
    if values.shape is None or len(values.shape) != 2:
        raise ShapeError(f"argmax: {values.name!r} must have shape (None, classes).")
    return ArgMax(name, values)


def equal(x: Any, y: Any, name: str = "Equal") -> PerRow:
    """Return whether ``argmax(logits, 1)`` is the label: class numbers, or argmax of one-hot."""
    for one, other in ((x, y), (y, x)):
        if not isinstance(one, ArgMax) or not isinstance(one.values, Values):
            continue
        if isinstance(other, ArgMax) and isinstance(other.values, Placeholder):
            labels, sparse = labels_like("equal", "y", other.values, one.values), False
        elif isinstance(other, Placeholder):
            labels, sparse = class_numbers("equal", "y", other), True
        else:
            continue
        graph = same_graph("equal", one, labels)
        return PerRow(name, Term(Accuracy(), one.values, labels, sparse), graph)
    raise ArgumentTypeError(
        f"equal: compares tf.argmax(logits, 1) with class numbers, or with tf.argmax(y, 1) of "
        f"one-hot labels; not {describe(x)} with {describe(y)}."
    )


def cast(x: Any, dtype: Any, name: str = "Cast") -> Any:
    """Return `x`: the session's precision decides the type; bools become numbers."""
    kind = np.dtype(dtype).kind
    if isinstance(x, PerRow | Scalar | Values) and kind == "f":
        return x
    if isinstance(x, Placeholder) and kind == "f" and x.dtype == np.uint8:
        return x  # gathered as uint8, computed with as floats
    if isinstance(x, Placeholder | ArgMax) and np.dtype(x.dtype).kind == kind != "b":
        return x
    raise ArgumentTypeError(
        f"cast: {describe(x)} cannot become {np.dtype(dtype)}; use it on tf.nn.in_top_k, "
        f"tf.equal or a placeholder of images (tf.uint8), with tf.float32."
    )
