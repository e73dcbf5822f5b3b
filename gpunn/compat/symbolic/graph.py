"""Graphs of named tensors, and the one that new tensors go to by default."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from gpunn.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from gpunn.randomness.philox import check_integer

_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\-]*(/[A-Za-z0-9_.\-]+)*")


class TensorShape(tuple[int | None, ...]):
    """Sizes of the axes; None is a size that is not known, such as that of the batch."""

    def as_list(self) -> list[int | None]:
        """Return the sizes as a list."""
        return list(self)

    @property
    def ndims(self) -> int:
        """Number of axes."""
        return len(self)


class TensorGraph:
    """What the construction phase has built: named tensors and operations.

    Attributes
    ----------
    seed : int or None
        For sessions that are given none: `set_random_seed`.
    variables : list of Variable
        In the order in which they were made.
    values : list of Values
        Tensors that are computed for each row of a batch.
    operations : dict of str to Tensor or Operation
        Everything, by name.
    """

    def __init__(self) -> None:
        self.seed: int | None = None
        self.variables: list[Any] = []
        self.values: list[Any] = []
        self.training: list[Any] = []
        self.operations: dict[str, Any] = {}
        # (layer, kernel, bias or None) in the order in which they were put together.
        self.denses: list[tuple[Any, Any, Any]] = []
        # Placeholders by the identity of the layer calls that stand for them.
        self.inputs: dict[int, Any] = {}
        # Placeholders that say whether dropout acts, by the identity of its call.
        self.flags: dict[int, Any] = {}
        self._scope = ""
        self._scopes: set[str] = set()
        self._layers: set[str] = set()

    @contextmanager
    def as_default(self) -> Iterator[TensorGraph]:
        """Let new tensors go to this graph, within a ``with`` block."""
        _stack.append(self)
        try:
            yield self
        finally:
            _stack.pop()

    @contextmanager
    def name_scope(self, name: str) -> Iterator[str]:
        """Put ``name/`` before the names of what is made within a ``with`` block."""
        check_name("name_scope", name)
        outer = self._scope
        scope = self._unique(outer + name, self._scopes)
        self._scopes.add(scope)
        self._scope = f"{scope}/"
        try:
            yield self._scope
        finally:
            self._scope = outer

    def add(self, item: Any, name: str) -> str:
        """Note a tensor or operation; return its full name, made unique as in TensorFlow."""
        check_name(type(item).__name__, name)
        full = self._unique(self._scope + name, self.operations)
        self.operations[full] = item
        return full

    def has(self, name: str) -> bool:
        """Return whether the scope around has something of this name already."""
        return self._scope + name in self.operations

    def layer_name(self, *choices: str) -> str:
        """Return the first of `choices` (or with a number) that no layer has, without slashes."""
        names = [choice.replace("/", ".") for choice in choices if choice]
        name = next((n for n in names if n not in self._layers), None)
        name = name or self._unique(names[-1], self._layers)
        self._layers.add(name)
        return name

    @staticmethod
    def _unique(name: str, taken: Any) -> str:
        if name not in taken:
            return name
        number = 1
        while f"{name}_{number}" in taken:
            number += 1
        return f"{name}_{number}"

    def get_tensor_by_name(self, name: str) -> Any:
        """Return a tensor by its full name, with or without TensorFlow's ``:0``."""
        found = self.operations.get(name.removesuffix(":0"))
        if not isinstance(found, Tensor):
            tensors = [n for n, item in self.operations.items() if isinstance(item, Tensor)]
            raise UnknownNameError("tensor", name, tensors)
        return found


_stack: list[TensorGraph] = [TensorGraph()]


def get_default_graph() -> TensorGraph:
    """Return the graph that new tensors go to."""
    return _stack[-1]


def reset_default_graph() -> None:
    """Start a new default graph; tensors and sessions of the old one go on as they are."""
    if len(_stack) > 1:
        raise ArgumentError(
            "reset_default_graph: cannot be used within `with graph.as_default():`; leave that "
            "block first."
        )
    _stack[0] = TensorGraph()


def set_random_seed(seed: int) -> None:
    """Set the default graph's seed: of the sessions that are given none."""
    get_default_graph().seed = check_integer("seed", seed, 0, 2**64)


def name_scope(name: str) -> Any:
    """Return a context within which names begin with ``name/``; a second one is ``name_1/``."""
    return get_default_graph().name_scope(name)


def check_name(owner: str, name: object) -> None:
    """Raise `ArgumentError` if `name` cannot be part of a tensor's name."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ArgumentError(
            f"{owner}: name must be letters, digits, '_', '.' or '-', with '/' between scopes, "
            f"not {name!r}."
        )


def check_shape(owner: str, shape: Any) -> TensorShape:
    """Return `shape` with its sizes checked; None is allowed for each."""
    sizes = [shape] if isinstance(shape, int | np.integer) else shape
    if not isinstance(sizes, tuple | list):
        raise ArgumentTypeError(f"{owner}: shape must be a tuple of sizes, not {shape!r}.")
    for size in sizes:
        whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
        if size is not None and not (whole and size >= 1):
            raise ArgumentError(
                f"{owner}: shape {tuple(sizes)!r} has {size!r} in it; sizes are whole numbers of "
                f"at least 1, or None for the batch."
            )
    return TensorShape(None if size is None else int(size) for size in sizes)


class Operation:
    """Something to run in a session: it returns nothing."""

    def __init__(self, name: str, graph: TensorGraph | None = None) -> None:
        self.graph = graph or get_default_graph()
        self.name = self.graph.add(self, name)

    def run(self, feed_dict: Any = None, session: Any = None) -> None:
        """Run it in `session`, or in the one of the ``with`` block around."""
        from gpunn.compat.symbolic.session import session_for

        session_for(session, f"{self.name!r}.run()").run(self, feed_dict)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class Tensor(NDArrayOperatorsMixin):
    """A named number or array that a session can compute.

    Attributes
    ----------
    name : str
        With its scopes: ``"dnn/hidden1/kernel"``.
    shape : TensorShape or None
        With the batch axis, whose size is None; None altogether if nothing is known.
    dtype : type
        A NumPy type.
    graph : TensorGraph
    """

    def __init__(
        self, name: str, shape: TensorShape | None, dtype: Any, graph: TensorGraph
    ) -> None:
        self.graph, self.shape, self.dtype = graph, shape, dtype
        self.name = graph.add(self, name)

    def get_shape(self) -> TensorShape:
        """Return the shape; `ArgumentError` where it is not known."""
        if self.shape is None:
            raise ArgumentError(
                f"The shape of {self.name!r} is not known; give its placeholder a shape such as "
                f"(None, 784)."
            )
        return self.shape

    @property
    def op(self) -> Tensor:
        """The operation that makes it: here the tensor itself."""
        return self

    def eval(self, feed_dict: Any = None, session: Any = None) -> Any:
        """Return its value: ``session.run(tensor, feed_dict)``."""
        from gpunn.compat.symbolic.session import session_for

        return session_for(session, f"{self.name!r}.eval()").run(self, feed_dict)

    def __repr__(self) -> str:
        shape = "unknown" if self.shape is None else tuple(self.shape)
        return f"<{type(self).__name__} {self.name!r} shape={shape}>"

    # Tensors are keys: equal is what is the same. NumPy's mixin would compute.
    __eq__, __ne__, __hash__ = object.__eq__, object.__ne__, object.__hash__

    def __pow__(self, exponent: Any) -> Any:
        if isinstance(exponent, Tensor) or exponent != 2:
            raise ArgumentTypeError(
                f"{self.name!r}: '**' is supported with the exponent 2 alone, for tf.square, not "
                f"with {exponent!r}."
            )
        return _arithmetic().objectives.square(self)

    def _no_value(self, *_: Any) -> NoReturn:
        raise ArgumentTypeError(
            f"{self.name!r} has no value while the graph is built; compute it in a session: "
            f"sess.run(tensor, feed_dict=...)."
        )

    __bool__ = __float__ = __int__ = __index__ = __len__ = _no_value
    __lt__ = __le__ = __gt__ = __ge__ = __getitem__ = __contains__ = _no_value

    def __iter__(self) -> Iterator[Any]:
        raise ArgumentTypeError(f"{self.name!r} cannot be iterated over or unpacked.")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise ArgumentTypeError(
            f"{self.name!r} is no array: NumPy's functions do not work on tensors. Use those of "
            f"gpunn.symbolic, or compute it first: tensor.eval(feed_dict=...)."
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **_: Any) -> Any:
        # Python's operators come here by NumPy's mixin, and so do those of NumPy's own numbers, as
        # in ``np.float32(2) * tensor``. What they mean is said in one place for all tensors.
        if ufunc.__name__ not in OPERATORS or method != "__call__":
            self.__array__()
        return getattr(_arithmetic(), ufunc.__name__)(*inputs)


OPERATORS = ("add", "subtract", "multiply", "divide", "matmul", "negative", "absolute")


def _arithmetic() -> Any:
    from gpunn.compat.symbolic import arithmetic

    return arithmetic


def describe(value: Any) -> str:
    """Return `value` in words, for messages."""
    if isinstance(value, Tensor):
        return f"{value.name!r} (a {type(value).__name__})"
    return f"a {type(value).__name__}"


def same_graph(owner: str, *tensors: Tensor) -> TensorGraph:
    """Return the graph of all `tensors`, or raise if there are two."""
    first = tensors[0]
    for tensor in tensors[1:]:
        if tensor.graph is not first.graph:
            raise ArgumentError(
                f"{owner}: {first.name!r} and {tensor.name!r} are of different graphs; build the "
                f"whole network anew after reset_default_graph."
            )
    return first.graph
