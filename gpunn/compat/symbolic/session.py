"""`GraphSession`: runs what a graph describes, on a device."""

from __future__ import annotations

import threading
from contextlib import ExitStack, nullcontext
from typing import Any

import numpy as np

from gpunn.backends.select import select_backend
from gpunn.compat.symbolic.feeds import Feeds
from gpunn.compat.symbolic.fetches import mapped
from gpunn.compat.symbolic.graph import Operation, Tensor, TensorGraph, get_default_graph
from gpunn.compat.symbolic.objectives import OBJECTIVES, ArgMax, Difference, PerRow, Scalar, Term
from gpunn.compat.symbolic.placeholders import Placeholder
from gpunn.compat.symbolic.programs import Program, check_flags, passes
from gpunn.compat.symbolic.train import TrainOperation
from gpunn.compat.symbolic.training import Training, along
from gpunn.compat.symbolic.values import Values, layer_variables
from gpunn.compat.symbolic.variables import Assign, InitializeVariables, Variable
from gpunn.errors import (
    ArgumentError,
    ArgumentTypeError,
    NotBuiltError,
    ShapeError,
)
from gpunn.models.compiling import check_precision, check_precision_name, check_seed
from gpunn.plan.spec import STORAGE
from gpunn.randomness.seeds import draw_seed
from gpunn.specs.graph import Graph
from gpunn.training.session import Session

Array = np.ndarray[Any, Any]


class GraphSession:
    """Weights on a device, and what runs there.

    Parameters
    ----------
    graph : TensorGraph, optional
        Default: the default graph.
    device : {"auto", "cpu", "cuda", "cuda:N", "reference", "simulator"}
    precision : {"float32", "float64", "tf32", "bfloat16"}
        Of the matrix products.
    seed : int, optional
        Of initial values and dropout; default: that of `set_random_seed`, or one drawn at random.
    threads : int, optional
        Threads of the CPU.

    Examples
    --------
    >>> with tf.Session() as sess:                                      # doctest: +SKIP
    ...     init.run()
    ...     sess.run(training_op, feed_dict={X: X_batch, y: y_batch})
    """

    def __init__(
        self,
        graph: TensorGraph | None = None,
        *,
        device: str = "auto",
        precision: str = "float32",
        seed: int | None = None,
        threads: int | None = None,
    ) -> None:
        check_precision_name(precision)
        self.selection = select_backend(device, threads=threads)
        check_precision(self.selection, device, precision)
        if graph is not None and not isinstance(graph, TensorGraph):
            raise ArgumentTypeError(
                f"Session: graph must be a tf.Graph, or left out for the default one, not "
                f"{graph!r}."
            )
        self.graph = graph or get_default_graph()
        self.device, self.precision = device, precision
        seed = self.graph.seed if seed is None else check_seed(seed)
        self.seed = draw_seed() if seed is None else seed
        self._session: Session | None = None
        self._programs: dict[Any, Program] = {}
        self.training: dict[TrainOperation, Training] = {}
        # Of variables that no layer has, and the count that a global_step started from.
        self._others: dict[Variable, Array] = {}
        self._closed = False
        self._lock = threading.RLock()
        self._entered: list[ExitStack] = []

    # Life

    def __enter__(self) -> GraphSession:
        stack = ExitStack()
        stack.enter_context(self.graph.as_default())
        stack.enter_context(self.selection.backend.threads())
        _sessions.append(self)
        stack.callback(_sessions.pop)
        self._entered.append(stack)
        return self

    def __exit__(self, *_: object) -> None:
        self._entered.pop().close()
        self.close()

    def close(self) -> None:
        """Let go of the weights and everything else on the device."""
        self._closed = True
        self._session = None
        self._programs.clear()
        self.training.clear()

    @property
    def session(self) -> Session:
        """The weights on the device; `NotBuiltError` before they are initialized."""
        if self._closed:
            raise NotBuiltError("The session is closed; use it within its `with` block.")
        if self._session is None:
            if self.graph.denses or self.graph.variables:
                raise NotBuiltError(
                    "The variables are not initialized; run tf.global_variables_initializer(), or "
                    "saver.restore(sess, path), first."
                )
            self.initialize()
            assert self._session is not None
        return self._session

    def initialize(self) -> None:
        """Give all variables their initial values, and start all training over."""
        if self._closed:
            raise NotBuiltError("The session is closed; use it within its `with` block.")
        graph = Graph((), (), (), layer_variables(self.graph))
        session = Session(graph, self.selection.backend, self.precision, self.seed)
        self._others = {}
        for variable in self.graph.variables:
            values = variable.initial_value.draw(self.seed, variable.index)
            if variable.path is None:
                dtype = session.dtype if variable.trainable else np.int64
                self._others[variable] = values.astype(dtype)
            else:
                session.write(variable.path, values)
        self._session = session
        self._programs.clear()
        self.training.clear()

    # Variables

    def read(self, variable: Variable) -> Any:
        """Return a copy of a variable's value."""
        session = self.session
        if variable.path is not None and variable.path in session.paths:
            return session.read(variable.path)
        if variable not in self._others:
            raise NotBuiltError(
                f"Variable {variable.name!r} is newer than what this session was initialized "
                f"with; run tf.global_variables_initializer() again."
            )
        value = self._others[variable]
        steps = (t.steps for op, t in self.training.items() if op.global_step is variable)
        return value + sum(steps) if value.dtype == np.int64 else value.copy()

    def load(self, variable: Variable, value: Any) -> None:
        """Set a variable's value."""
        from gpunn.compat.symbolic.variables import _array

        self._own(variable)
        array = _array(f"Variable {variable.name!r}", value)
        if array.shape != tuple(variable.get_shape()):
            raise ShapeError(
                f"Variable {variable.name!r} has shape {tuple(variable.get_shape())}, not "
                f"{array.shape}."
            )
        if not variable.trainable:
            raise ArgumentError(
                f"Variable {variable.name!r} counts steps; it is set by running "
                f"tf.global_variables_initializer() or by restoring."
            )
        self.read(variable)  # is it initialized?
        if variable.path is not None:
            self.session.write(variable.path, array)
        else:
            self._others[variable] = array.astype(self.session.dtype)

    # Running

    def _own(self, item: Any) -> None:
        if not isinstance(item, Tensor | Operation):
            raise ArgumentTypeError(
                f"run: fetches must be tensors or operations, or lists, tuples or dicts of them; "
                f"not {item!r}."
            )
        if item.graph is not self.graph:
            raise ArgumentError(
                f"run: {item.name!r} is of another graph than the session's; make the session "
                f"after the graph was built, or tf.Session(graph=...)."
            )

    def run(self, fetches: Any, feed_dict: Any = None) -> Any:
        """Run operations and compute tensors.

        Parameters
        ----------
        fetches : tensor or operation, or list, tuple or dict of them
        feed_dict : dict of placeholder to array
            Batches may have any number of rows; all of a run have the same.

        Returns
        -------
        As `fetches`: None for an operation; an array for a tensor with rows and for a variable; a
        float for a loss or metric.

        Notes
        -----
        What is fetched along with a training operation is of the weights before its step. Losses
        and metrics of what it trains are those of the step itself, with dropout.
        """
        backend = self.selection.backend
        # Setting the number of threads costs more than a step: a `with` block does it once.
        threads = nullcontext() if self._entered else backend.threads()
        with self._lock, threads, backend.current():
            if isinstance(fetches, TrainOperation):  # the path that must be short
                self._own(fetches)
                self._training_of(fetches).step(self._feeds(feed_dict), ())
                return None
            leaves: list[Any] = []
            mapped(leaves.append, fetches)
            for leaf in leaves:
                self._own(leaf)
                if isinstance(leaf, PerRow | Difference):
                    raise ArgumentTypeError(
                        f"run: {leaf.name!r} (a {type(leaf).__name__}) cannot be computed row by "
                        f"row; fetch its mean: tf.reduce_mean(...). {OBJECTIVES}."
                    )
            results = self._compute(leaves, feed_dict)
            return mapped(lambda leaf: results[id(leaf)], fetches)

    def _feeds(self, feed_dict: Any) -> Feeds:
        dtype = STORAGE[self.precision]
        return Feeds(feed_dict, self.graph, self.selection.backend, dtype)

    def _compute(self, leaves: list[Any], feed_dict: Any) -> dict[int, Any]:
        for leaf in leaves:
            if isinstance(leaf, InitializeVariables):
                self.initialize()
            elif isinstance(leaf, Assign):
                self.load(leaf.variable, leaf.value)
        feeds = self._feeds(feed_dict)
        training = [leaf for leaf in dict.fromkeys(leaves) if isinstance(leaf, TrainOperation)]
        results: dict[int, Any] = {}
        rows: dict[Any, Array] = self._predict(leaves, feeds, bool(training))
        terms = dict.fromkeys(
            t for leaf in leaves if isinstance(leaf, Scalar) for _, t in leaf.terms
        )
        shares = {op: along(op, terms) for op in training}
        taken = {term for share in shares.values() for term in share}
        means = self._evaluate([t for t in terms if t not in taken], feeds, bool(training))
        for leaf in leaves:
            if isinstance(leaf, Variable):
                results[id(leaf)] = self.read(leaf)
        for op in training:
            means |= self._training_of(op).step(feeds, shares[op])
        for leaf in leaves:
            if isinstance(leaf, Scalar):
                results[id(leaf)] = sum(weight * means[term] for weight, term in leaf.terms)
            elif isinstance(leaf, Values):
                results[id(leaf)] = rows[leaf]
            elif isinstance(leaf, ArgMax):
                of = leaf.values
                array = rows[of] if of in rows else np.asarray(feeds.value(of))
                results[id(leaf)] = array.argmax(axis=1)
            elif isinstance(leaf, Placeholder):
                results[id(leaf)] = np.asarray(feeds.value(leaf))
            elif isinstance(leaf, Operation):
                results[id(leaf)] = None
        return results

    def _predict(self, leaves: list[Any], feeds: Feeds, training: bool) -> dict[Any, Array]:
        wanted = [leaf.values if isinstance(leaf, ArgMax) else leaf for leaf in leaves]
        chosen = list(dict.fromkeys(t for t in wanted if isinstance(t, Values)))
        if not chosen:
            return {}
        calls = {id(t.symbolic): t.symbolic for t in chosen}
        key = ("predict", *calls)
        if key not in self._programs:
            self._programs[key] = Program(self.session, self.graph, outputs=list(calls.values()))
        program = self._programs[key]
        if not training:
            check_flags(program, feeds, False)
        by_call = dict(zip(calls, program.predict(feeds), strict=True))
        return {t: by_call[id(t.symbolic)] for t in chosen}

    def _evaluate(self, terms: list[Term], feeds: Feeds, training: bool) -> dict[Term, float]:
        means: dict[Term, float] = {}
        if not terms:
            return means
        key = ("evaluate", *terms)
        if (*key, 0) not in self._programs:
            for number, heads in enumerate(passes(terms)):
                self._programs[(*key, number)] = Program(self.session, self.graph, heads.values())
        number = 0
        while (program := self._programs.get((*key, number))) is not None:
            if not training:
                check_flags(program, feeds, False)
            means |= program.evaluate(feeds)
            number += 1
        return means

    def _training_of(self, op: TrainOperation) -> Training:
        if op not in self.training:
            self.training[op] = Training(op, self.session)
        return self.training[op]


_sessions: list[GraphSession] = []


def get_default_session() -> GraphSession | None:
    """Return the session of the ``with`` block around, if there is one."""
    return _sessions[-1] if _sessions else None


def session_for(session: GraphSession | None, what: str) -> GraphSession:
    """Return `session`, or the one of the ``with`` block around."""
    found = session or get_default_session()
    if found is None:
        raise ArgumentError(
            f"{what}: there is no session; use it within `with tf.Session() as sess:`, or give "
            f"session=sess."
        )
    return found
