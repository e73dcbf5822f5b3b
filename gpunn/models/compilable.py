"""What a model is compiled for: optimizer, losses, metrics, device, and the session on it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from gpunn.backends.interface import Backend
from gpunn.backends.select import Selection, select_backend
from gpunn.errors import ArgumentTypeError, NotBuiltError
from gpunn.models import pickling
from gpunn.models.compiling import (
    Compiled,
    check_precision,
    check_precision_name,
    check_seed,
    output_specs,
)
from gpunn.models.weights import Weights
from gpunn.plan.build import build_plan
from gpunn.plan.spec import OutputSpec, Plan
from gpunn.specs import optimizers as optimizers_module
from gpunn.specs.graph import Graph
from gpunn.specs.optimizers import CompiledOptimizer
from gpunn.training.session import Session
from gpunn.training.state import TrainingState
from gpunn.training.weight_store import graph_weights

DEFAULT_BATCH_SIZE = 32


class Compilable(Weights):
    """Base class of models: `compile`, and what it settles."""

    # Losses, metrics and their weights as given: they wait for the outputs to be known.
    _deferred: tuple[Any, Any, Any]
    # Where training stands; a new one with each `compile`.
    _state: TrainingState

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        *,
        loss_weights: Any = None,
        device: str = "auto",
        precision: str = "float32",
        threads: int | None = None,
        seed: int | None = None,
        run_eagerly: bool = False,
    ) -> None:
        """Choose how the model is trained.

        Parameters
        ----------
        optimizer : str or Optimizer, default "rmsprop"
        loss : str or Loss, or list or dict of them
            One for each output.
        metrics : list of str or Metric, or list or dict of such lists
        loss_weights : list or dict of float, optional
            Factors of the outputs' losses in the total.
        device : {"auto", "cpu", "cuda", "cuda:N", "reference", "simulator"}
        precision : {"float32", "float64", "tf32", "bfloat16"}
            Of the matrix products. "tf32" and "bfloat16" need a GPU of compute capability 8.0 or
            later, or the simulator.
        threads : int, optional
            Threads of the CPU; default: what the BLAS finds.
        seed : int, optional
            Of initial weights, shuffling and dropout, at least 0 and below 2**64. Without one it
            is drawn at random. Weights that were set or trained before are kept; those that were
            only looked at are drawn anew from a seed given here.
        run_eagerly : bool, default False
            Whether a GPU's kernels are launched one by one, as when looking for what is wrong with
            one. Otherwise steps are captured as CUDA graphs of many and replayed, with the same
            results bit for bit.

        Raises
        ------
        ArgumentError, ArgumentTypeError, UnknownNameError
            An argument cannot be used.
        PlanError
            The loss does not fit the model's outputs, or the device the precision.
        DeviceError
            The device is not usable.
        """
        check_precision_name(precision)
        if not isinstance(run_eagerly, bool):
            raise ArgumentTypeError(f"run_eagerly must be True or False, not {run_eagerly!r}.")
        selection = select_backend(device, threads=threads)
        selection.backend.graphs = not run_eagerly
        check_precision(selection, device, precision)
        self._compile_on(
            selection, optimizer, loss, metrics, loss_weights, device, precision, threads, seed
        )

    def _compile_on(
        self,
        selection: Selection,
        optimizer: Any,
        loss: Any,
        metrics: Any,
        loss_weights: Any,
        device: str,
        precision: str,
        threads: int | None = None,
        seed: int | None = None,
    ) -> None:
        """Compile for a backend that is chosen already, whether or not it has the precision."""
        chosen_optimizer = optimizers_module.get(optimizer)
        chosen_seed = self.seed if seed is None else check_seed(seed)
        outputs: tuple[OutputSpec, ...] = ()
        if self.built:
            outputs = output_specs(self.graph, loss, metrics, loss_weights)
        compiled = Compiled(chosen_optimizer, outputs, device, precision, threads, selection)
        if self.built and any(spec.loss is not None for spec in outputs):
            # Builds a plan now, so that what does not fit together is said here.
            _build_plan(self.graph, compiled, 1)
        # Nothing fails from here on: an error leaves the model as it was compiled before.
        self._leave_session()
        if seed is not None and self.built:
            for weights in self._layer_weights.values():
                weights.forget_drawn()
        self._seed, self._compiled, self._state = chosen_seed, compiled, TrainingState()
        self._deferred = (loss, metrics, loss_weights)

    def _slots(self) -> dict[str, Any]:
        """Return the optimizer's slots, as far as it has trained."""
        return self._state.slots if self._session is None else self._session.slots()

    def __getstate__(self) -> dict[str, Any]:
        return pickling.state_of(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        pickling.restore(self, state)

    @property
    def compiled(self) -> Compiled:
        """What `compile` settled; `NotBuiltError` before it."""
        if self._compiled is None:
            raise NotBuiltError("The model is not compiled; call model.compile(...) first.")
        return self._compiled

    _optimizer: tuple[TrainingState, CompiledOptimizer] | None = None

    @property
    def optimizer(self) -> CompiledOptimizer:
        """The optimizer given to `compile`; its ``learning_rate`` can be set."""
        optimizer = self.compiled.optimizer
        if self._optimizer is None or self._optimizer[0] is not self._state:
            self._optimizer = (self._state, CompiledOptimizer(optimizer, self._state))
        return self._optimizer[1]

    @property
    def loss(self) -> Any:
        """The loss as given to `compile`; None before it."""
        return None if self._compiled is None else self._deferred[0]

    @property
    def metrics_names(self) -> list[str]:
        """The names of what `evaluate` returns, in its order."""
        labels = [metric.label for metric in self.plan(1).metrics]
        return self._in_order(dict.fromkeys(["loss", *labels]))

    def _in_order(self, names: Iterable[str]) -> list[str]:
        """Sort figures as Keras does: the total, the outputs' losses, then the metrics."""
        names = [name for name in names if name != "regularization"]
        losses = ["loss", *(f"{name}_loss" for name in self.graph.output_names())]
        return [n for n in losses if n in names] + [n for n in names if n not in losses]

    @property
    def device(self) -> str:
        """The device in words."""
        return self.compiled.selection.backend.describe()

    @property
    def session(self) -> Session:
        """The model on its device; made when first needed."""
        if self._session is None:
            selection, precision = (
                (self._compiled.selection, self._compiled.precision)
                if self._compiled is not None
                else (select_backend("auto"), "float32")
            )
            self._push_adapted()
            self._initialize()
            self._session = Session(
                *(self.graph, selection.backend, precision, self.seed),
                state=self._state,
                layers=self._layer_weights,
            )
        self._push_adapted()
        return self._session

    def plan(
        self, batch_size: int = DEFAULT_BATCH_SIZE, input_dtypes: Sequence[str] | None = None
    ) -> Plan:
        """Return the plan of training, evaluation and prediction: ``print(plan.describe())``.

        Parameters
        ----------
        batch_size : int, default 32
            Rows of a batch.
        input_dtypes : sequence of str, optional
            Types of the input data.

        Returns
        -------
        Plan
            Buffers and calls, with FLOPs and bytes.
        """
        return _build_plan(self.graph, self.compiled, batch_size, input_dtypes, self.frozen_layers)

    def _settle(self, graph: Graph) -> None:
        """Take the graph, now that it is known, and do what `compile` had to put off."""
        if self._compiled is not None:
            outputs = output_specs(graph, *self._deferred)
            compiled = replace(self._compiled, outputs=outputs)
            if any(spec.loss is not None for spec in outputs):
                _build_plan(graph, compiled, 1)
            self._compiled = compiled
        self._known_weights = graph_weights(graph)
        self._graph = graph

    @property
    def _backend(self) -> Backend | None:
        """Where the model computes, if that is settled."""
        if self._compiled is not None:
            return self._compiled.selection.backend
        return None if self._session is None else self._session.backend

    def _current(self) -> AbstractContextManager[Any]:
        backend = self._backend
        return nullcontext() if backend is None else backend.current()


def _build_plan(
    graph: Graph,
    compiled: Compiled,
    batch_size: int,
    input_dtypes: Sequence[str] | None = None,
    frozen: Collection[str] = (),
) -> Plan:
    return build_plan(
        graph,
        batch_size=batch_size,
        precision=compiled.precision,
        outputs=compiled.outputs,
        optimizer=compiled.optimizer,
        input_dtypes=input_dtypes,
        frozen=frozen,
    )
