"""Models: `Sequential` and the functional `Model`, with Keras's names and behaviour."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from gpunn import optimizers as optimizers_module
from gpunn.backends.interface import Backend
from gpunn.backends.select import Selection, select_backend
from gpunn.compiling import Compiled, output_specs
from gpunn.data import batches
from gpunn.errors import (
    ArgumentError,
    ArgumentTypeError,
    NotBuiltError,
    PlanError,
    ShapeError,
    UnknownNameError,
)
from gpunn.graph import Graph, SymbolicTensor, build_graph
from gpunn.layers import Layer, Normalization
from gpunn.optimizers import CompiledOptimizer
from gpunn.plan.build import OutputSpec, build_plan
from gpunn.plan.spec import STORAGE, Plan
from gpunn.randomness.seeds import draw_seed
from gpunn.summary import summary_table
from gpunn.training.callbacks import Callback
from gpunn.training.history import History
from gpunn.training.session import Session
from gpunn.training.trainer import Trainer

Array = np.ndarray[Any, Any]
DEFAULT_BATCH_SIZE = 32
# What predict returns: arrays of NumPy's, or CuPy's where the model computes.
OUTPUTS = ("numpy", "cupy")


class BoundLayer:
    """A layer of a built model: the spec's attributes, and its weights."""

    def __init__(self, model: Model, name: str, layer: Layer) -> None:
        self._model, self.name, self.spec = model, name, layer

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # copy and pickle ask before there is a spec
            raise AttributeError(attribute)
        if attribute in ("kernel", "bias"):
            paths = [v.path for v in self._variables() if v.name == attribute]
            if paths:
                return self._model._read(paths[0])
        return getattr(self.spec, attribute)

    def __repr__(self) -> str:
        return f"<{type(self.spec).__name__} name={self.name}>"

    def _variables(self) -> list[Any]:
        return [v for v in self._model.graph.variables if v.layer == self.name]

    def get_weights(self) -> list[Array]:
        """Return copies of the weights: kernel (inputs, outputs), bias (outputs,)."""
        return [self._model._read(v.path) for v in self._variables()]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the weights, in the order of `get_weights`."""
        self._model._set(self._variables(), weights, f"set_weights of layer {self.name!r}")

    def count_params(self) -> int:
        """Return the number of weights."""
        return sum(v.size for v in self._variables())


class Model:
    """A model made of layers wired from inputs to outputs.

    Parameters
    ----------
    inputs : SymbolicTensor, or list or dict of them
        From `gpunn.Input`.
    outputs : SymbolicTensor, or list or dict of them
        What layers returned. The keys of a dict are the layers' names; with a dict of outputs
        `predict` returns a dict.
    name : str, optional

    Notes
    -----
    A model has weights of its own. Layers that are given to two models do not share them, as
    they do in Keras; use `get_weights` and `set_weights` to hand them over.

    Examples
    --------
    >>> inputs = gpunn.Input((8,))                                       # doctest: +SKIP
    >>> hidden = gpunn.layers.Dense(30, activation="relu")(inputs)       # doctest: +SKIP
    >>> model = gpunn.Model(inputs, gpunn.layers.Dense(1)(hidden))       # doctest: +SKIP
    """

    # Whether a summary lists the inputs and what each layer reads.
    _lists_inputs = True
    # Whether `predict` returns a dict.
    _outputs_by_name = False

    def __init__(self, inputs: Any = None, outputs: Any = None, *, name: str | None = None) -> None:
        if inputs is None or outputs is None:
            raise ArgumentError("Model needs inputs and outputs.")
        self._outputs_by_name = isinstance(outputs, Mapping)
        self.name = name or "model"
        self._start(build_graph(_tensors(inputs, "inputs"), _tensors(outputs, "outputs")))

    def _start(self, graph: Graph | None) -> None:
        self._graph = graph
        self._compiled: Compiled | None = None
        self._session: Session | None = None
        self._seed: int | None = None
        # Weights before there is a session to hold them.
        self._values: dict[str, Array] = {}
        # Those of them that nobody set: another seed draws them anew.
        self._drawn: set[str] = set()
        self._adapted: dict[str, Any] = {}
        self.history: History | None = None
        self.stop_training = False

    # Structure

    @property
    def graph(self) -> Graph:
        """The layers' calls in order; `NotBuiltError` if the input shape is not known yet."""
        if self._graph is None:
            raise NotBuiltError(
                "The model is not built: its input shape is not known. Start it with "
                "gpunn.Input(shape), or give the first layer input_shape=..."
            )
        return self._graph

    @property
    def built(self) -> bool:
        """Whether the input shape is known."""
        return self._graph is not None

    @property
    def layers(self) -> list[BoundLayer]:
        """The layers in order; as in Keras a `Sequential` leaves out its input."""
        return [BoundLayer(self, name, layer) for name, layer in self.graph.layers.items()]

    def get_layer(self, name: str | None = None, index: int | None = None) -> BoundLayer:
        """Return a layer by name or by position."""
        if index is not None:
            count = len(self.layers)
            if not -count <= index < count:
                raise ArgumentError(f"get_layer: there is no layer {index}; there are {count}.")
            return self.layers[index]
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise UnknownNameError("layer", name, [layer.name for layer in self.layers])

    def count_params(self) -> int:
        """Return the number of weights."""
        return self.graph.parameter_count()

    def summary(self, print_fn: Callable[[str], object] | None = None) -> None:
        """Print a table of layers with their output shapes and numbers of weights."""
        (print_fn or print)(summary_table(self.graph, self.name, inputs_listed=self._lists_inputs))

    # Weights

    def _initialize(self) -> None:
        """Draw the initial weights, once, from the seed given to `compile` (or 0)."""
        for index, variable in enumerate(self.graph.variables):
            if variable.path not in self._values:
                seed = 0 if self._seed is None else self._seed
                self._drawn.add(variable.path)
                self._values[variable.path] = variable.initializer(
                    variable.shape, "float64", seed=seed, index=index
                )

    def _read(self, path: str) -> Array:
        self._push_adapted()
        if self._session is not None:
            return self._session.read(path)
        self._initialize()
        wide = self._compiled is not None and self._compiled.precision == "float64"
        return self._values[path].astype(np.float64 if wide else np.float32)

    def _set(self, variables: Sequence[Any], weights: Sequence[Any], owner: str) -> None:
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

    def get_weights(self) -> list[Array]:
        """Return copies of all weights, layer by layer: kernel (inputs, outputs), bias."""
        return [self._read(variable.path) for variable in self.graph.variables]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set all weights, in the order of `get_weights`."""
        self._set(self.graph.variables, weights, "set_weights")

    def _push_adapted(self) -> None:
        """Hand statistics that a Normalization layer has learned since to the model."""
        for name, layer in self.graph.layers.items():
            if not isinstance(layer, Normalization) or layer.mean is None:
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
        for name, layer in self.graph.layers.items():
            if isinstance(layer, Normalization) and name not in self._adapted:
                raise NotBuiltError(
                    f"Layer {name!r} (Normalization) has no statistics; call its adapt(x_train) "
                    f"first."
                )

    # Compiling

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
        """
        check_precision_name(precision)
        selection = select_backend(device, threads=threads)
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
        chosen_seed = self._seed if seed is None else check_seed(seed)
        if chosen_seed is None:
            chosen_seed = draw_seed()
        outputs: tuple[OutputSpec, ...] = ()
        if self.built:
            outputs = output_specs(self.graph, loss, metrics, loss_weights)
        compiled = Compiled(chosen_optimizer, outputs, device, precision, threads, selection)
        if self.built and any(spec.loss is not None for spec in outputs):
            # Builds a plan now, so that what does not fit together is said here.
            _build_plan(self.graph, compiled, 1)
        # Nothing fails from here on: an error leaves the model as it was compiled before.
        self._leave_session()
        if seed is not None:
            for path in self._drawn:
                del self._values[path]
            self._drawn.clear()
        self._seed, self._compiled = chosen_seed, compiled
        self._deferred = (loss, metrics, loss_weights)

    @property
    def compiled(self) -> Compiled:
        """What `compile` settled; `NotBuiltError` before it."""
        if self._compiled is None:
            raise NotBuiltError("The model is not compiled; call model.compile(...) first.")
        return self._compiled

    _optimizer: tuple[Compiled, CompiledOptimizer] | None = None

    @property
    def optimizer(self) -> CompiledOptimizer:
        """The optimizer given to `compile`; its ``learning_rate`` can be set."""
        if self._optimizer is None or self._optimizer[0] is not self.compiled:
            self._optimizer = (self.compiled, CompiledOptimizer(self.compiled.optimizer))
        return self._optimizer[1]

    @property
    def device(self) -> str:
        """The device in words."""
        return self.compiled.selection.backend.describe()

    @property
    def seed(self) -> int:
        """The seed of initial weights, shuffling and dropout."""
        return 0 if self._seed is None else self._seed

    @property
    def session(self) -> Session:
        """The model on its device; made when first needed."""
        if self._session is None:
            selection, precision = (
                (self._compiled.selection, self._compiled.precision)
                if self._compiled is not None
                else (select_backend("auto"), "float32")
            )
            self._initialize()
            session = Session(self.graph, selection.backend, precision, self.seed)
            for path, values in self._values.items():
                session.write(path, values)
            self._session = session
            self._values = {}
            self._drawn.clear()
        self._push_adapted()
        return self._session

    def plan(
        self, batch_size: int = DEFAULT_BATCH_SIZE, input_dtypes: Sequence[str] | None = None
    ) -> Plan:
        """Return the plan of training, evaluation and prediction: ``print(plan.describe())``."""
        return _build_plan(self.graph, self.compiled, batch_size, input_dtypes)

    def _leave_session(self) -> None:
        """Take the weights back from the device; they outlive the session."""
        if self._session is not None:
            self._values = self._session.weights()
            self._session = None

    # Data

    def _adopt(self, value: Any, argument: str, names: Callable[[Graph], Sequence[str]]) -> Any:
        """Take in arrays of other libraries: where the model computes, or as NumPy's."""
        if value is None or isinstance(value, np.ndarray):
            return value
        if self.built and self._compiled is None:
            _ = self.session  # settles where the model computes
        backend = self._backend
        by = batches.host_array if backend is None else backend.adopt
        return batches.adopt(value, argument, names(self._graph) if self._graph else ("",), by)

    @property
    def _backend(self) -> Backend | None:
        """Where the model computes, if that is settled."""
        if self._compiled is not None:
            return self._compiled.selection.backend
        return None if self._session is None else self._session.backend

    def _current(self) -> AbstractContextManager[Any]:
        backend = self._backend
        return nullcontext() if backend is None else backend.current()

    def _adopt_x(self, x: Any, prefix: str = "") -> Any:
        return self._adopt(x, f"{prefix}x", Graph.input_names)

    def _adopt_y(self, y: Any, sample_weight: Any, prefix: str = "") -> tuple[Any, Any]:
        return (
            self._adopt(y, f"{prefix}y", Graph.output_names),
            self._adopt(sample_weight, f"{prefix}sample_weight", Graph.output_names),
        )

    def prepare(self, x: Any, y: Any = None, sample_weight: Any = None, prefix: str = "") -> Any:
        """Check data and lay it out for the plan; see `gpunn.data.batches.prepare`."""
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
        """Check and lay out ``(x, y)`` or ``(x, y, sample_weight)``; None stays None."""
        if validation_data is None:
            return None
        if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
            raise ArgumentTypeError("validation_data must be (x, y) or (x, y, sample_weight).")
        _check_targets(validation_data[1], "validation y")
        weights = validation_data[2] if len(validation_data) == 3 else None
        return self.prepare(validation_data[0], validation_data[1], weights, prefix="validation ")

    def _build_for(self, x: Any) -> None:
        """Build a `Sequential` that has no input shape from the data."""

    # Training and use

    def fit(
        self,
        x: Any,
        y: Any,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Iterable[Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        *,
        steps: int | None = None,
        resume: str | Path | None = None,
    ) -> History:
        """Train.

        Parameters
        ----------
        x : array, shape (rows, *input shape), or list or dict of arrays
            uint8 images stay uint8 and are scaled as they are gathered. Arrays of CuPy, and of
            whatever library hands them over by DLPack or the CUDA array interface, do as well as
            NumPy's; on the model's own GPU they stay there.
        y : array
            Class numbers (rows,), or (rows, outputs); list or dict for several outputs.
        batch_size : int, optional
            Default 32, or all rows where there are fewer.
        epochs : int, default 1
            Number of the epoch to stop at, counted from 0 whatever `initial_epoch` is.
        verbose : {0, 1, 2, "auto"}
            0 silent, 1 a progress bar, 2 a line per epoch; auto is 1 on a terminal, else 2.
        callbacks : iterable of Callback, optional
        validation_split : float, default 0.0
            Share of the rows, taken from the end, that is held out for validation.
        validation_data : tuple, optional
            ``(x, y)`` or ``(x, y, sample_weight)``.
        shuffle : bool, default True
            False keeps the order of the rows.
        class_weight : dict of int to float, optional
        sample_weight : array, shape (rows,), optional
        initial_epoch : int, default 0
            Number of the first epoch, for a model that was trained before; not with `steps`, and
            not with `resume`, which knows it.
        steps : int, optional
            Stop after this many steps, in place of `epochs`.
        resume : path, optional
            A checkpoint, or a folder of checkpoints, to go on from; `epochs` and `steps` count
            from the start of the interrupted run.

        Returns
        -------
        History
        """
        x = self._adopt_x(x)
        self._build_for(x)
        compiled = self.compiled
        if all(spec.loss is None for spec in compiled.outputs):
            raise ArgumentError("fit needs a loss; give compile one, such as loss='mse'.")
        _check_targets(y, "y")
        y, sample_weight = self._adopt_y(y, sample_weight)
        if validation_split:
            if validation_data is not None:
                raise ArgumentError("Give validation_split or validation_data, not both.")
            x, y, sample_weight, validation_data = batches.split(
                self.graph, x, y, sample_weight, validation_split
            )
        # After the split, as in Keras: rows held out for validation are not weighed by class.
        if class_weight is not None:
            if sample_weight is not None:
                raise ArgumentError("Give class_weight or sample_weight, not both.")
            if len(compiled.outputs) > 1:
                raise ArgumentError("class_weight works with one output only.")
            classes = math.prod(self.graph.nodes[self.graph.outputs[0]].shape)
            with self._current():
                sample_weight = batches.class_weights(class_weight, y, classes)
        if steps is None and (not _is_whole(epochs) or epochs < 0):
            raise ArgumentError(f"epochs must be a whole number of at least 0, not {epochs!r}.")
        if steps is not None and (not _is_whole(steps) or steps < 1):
            raise ArgumentError(f"steps must be a whole number of at least 1, not {steps!r}.")
        if verbose not in (0, 1, 2, "auto", True, False):
            raise ArgumentError(f"verbose must be 0, 1, 2 or 'auto', not {verbose!r}.")
        if resume is not None and initial_epoch:
            raise ArgumentError("Give initial_epoch or resume, not both.")
        if isinstance(callbacks, Callback):
            callbacks = [callbacks]
        if callbacks is not None and not isinstance(callbacks, Iterable):
            raise ArgumentTypeError(f"callbacks must be a list of callbacks, not {callbacks!r}.")
        trainer = Trainer(
            self,
            x,
            y,
            batch_size=_default_batch_size(x) if batch_size is None else batch_size,
            sample_weight=sample_weight,
            validation_data=validation_data,
            shuffle=shuffle,
            callbacks=[*(callbacks or ()), *_reporters(verbose)],
            initial_epoch=initial_epoch,
        )
        trainer.verbose = _verbosity(verbose)
        if resume is not None:
            self._resume(trainer, resume)
        try:
            self.history = trainer.fit(None if steps is not None else epochs, steps)
        finally:
            trainer.release()
        return self.history

    def _resume(self, trainer: Trainer, path: str | Path) -> None:
        from gpunn import saving

        trainer.load_state_dict(saving.read_training_state(self, path))

    def evaluate(
        self,
        x: Any,
        y: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        *,
        return_dict: bool = False,
    ) -> Any:
        """Return the loss, or ``[loss, *metrics]``, over data; as a dict with `return_dict`.

        `batch_size` is taken for compatibility; the result does not depend on it.
        """
        x = self._adopt_x(x)
        self._build_for(x)
        outputs = self.compiled.outputs
        _check_targets(y, "y")
        data = self.prepare(x, y, sample_weight)
        session = self.session
        with session.backend.threads():
            figures = session.evaluate(data, outputs)
        # As in Keras: the total, the outputs' losses, then the metrics.
        losses = ["loss", *(f"{name}_loss" for name in self.graph.output_names())]
        first = {name: figures[name] for name in losses if name in figures}
        figures = first | figures
        if return_dict:
            return figures
        values = list(figures.values())
        return values[0] if len(values) == 1 else values

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        *,
        output: str = "numpy",
    ) -> Any:
        """Return the outputs for `x`.

        Parameters
        ----------
        x : as for `fit`
        batch_size, verbose : int, optional
            Taken for compatibility; the result does not depend on them.
        output : {"numpy", "cupy"}
            With "cupy" the outputs stay on the GPU.

        Returns
        -------
        array, shape (rows, *output shape), or list or dict of them
        """
        x = self._adopt_x(x)
        self._build_for(x)
        if output != "numpy":
            self._check_output(output)
        data = self.prepare(x)
        session = self.session
        with session.backend.threads():
            values = session.predict(data, on_host=output == "numpy")
        shapes = (self.graph.nodes[node].shape for node in self.graph.outputs)
        arrays = [v.reshape(len(v), *shape) for v, shape in zip(values, shapes, strict=True)]
        if self._outputs_by_name:
            return dict(zip(self.graph.output_names(), arrays, strict=True))
        return arrays[0] if len(arrays) == 1 else arrays

    def _check_output(self, output: str) -> None:
        if output not in OUTPUTS:
            raise UnknownNameError("output", output, OUTPUTS)
        backend = self.session.backend
        if backend.arrays != output:
            raise ArgumentError(
                f"output={output!r} needs device='cuda'; this model computes on "
                f"{backend.describe()}. Leave it out for NumPy arrays."
            )

    def __call__(self, x: Any) -> Any:
        """Return `predict` of arrays."""
        if isinstance(x, SymbolicTensor):
            raise ArgumentTypeError(
                "A model cannot be called on symbolic inputs yet; wire its layers instead."
            )
        return self.predict(x)

    # Saving

    def save(self, path: str | Path, *, overwrite: bool = True) -> Path:
        """Write configuration and weights to an HDF5 file, atomically; see `gpunn.load_model`."""
        from gpunn import saving

        return saving.save_model(self, path, overwrite=overwrite)

    def save_weights(self, path: str | Path, *, overwrite: bool = True) -> Path:
        """Write the weights; the file is of the same format as that of `save`."""
        return self.save(path, overwrite=overwrite)

    def load_weights(self, path: str | Path) -> None:
        """Read the weights from a file of a model with the same layers."""
        from gpunn import saving

        saving.load_weights(self, path)

    def get_config(self) -> dict[str, Any]:
        """Return the configuration as JSON values: layers, and how the model was compiled."""
        from gpunn import saving

        return saving.model_config(self)


def _statistics(layer: Normalization) -> tuple[Any, Any]:
    return layer.mean, layer.variance


def _verbosity(verbose: int | str) -> int:
    import sys

    if verbose == "auto":
        return 1 if sys.stdout.isatty() else 2
    return int(verbose)


def _reporters(verbose: int | str) -> list[Callback]:
    verbose = _verbosity(verbose)
    if not verbose:
        return []
    from gpunn.training.progress import EpochLines, ProgressBar

    return [EpochLines() if verbose == 2 else ProgressBar()]


def _build_plan(
    graph: Graph,
    compiled: Compiled,
    batch_size: int,
    input_dtypes: Sequence[str] | None = None,
) -> Plan:
    return build_plan(
        graph,
        batch_size=batch_size,
        precision=compiled.precision,
        outputs=compiled.outputs,
        optimizer=compiled.optimizer,
        input_dtypes=input_dtypes,
    )


def _tensors(value: Any, argument: str) -> list[SymbolicTensor]:
    if isinstance(value, Mapping):
        for key, tensor in value.items():
            name = tensor.layer.name if isinstance(tensor, SymbolicTensor) else key
            if name != key:
                raise ArgumentError(
                    f"{argument}: {key!r} must be the name of its layer, which is {name!r}; make "
                    f"the layer with name={key!r}."
                )
        value = list(value.values())
    tensors = list(value) if isinstance(value, list | tuple) else [value]
    for tensor in tensors:
        if not isinstance(tensor, SymbolicTensor):
            raise ArgumentTypeError(
                f"{argument}: expected what gpunn.Input or a layer returned, got "
                f"{type(tensor).__name__}."
            )
    return tensors


def check_seed(seed: object) -> int:
    if not _is_whole(seed) or not 0 <= int(seed) < 2**64:  # type: ignore[call-overload]
        raise ArgumentError(f"seed must be a whole number from 0 to 2**64 - 1, not {seed!r}.")
    return int(seed)  # type: ignore[call-overload]


def check_precision_name(precision: object) -> None:
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


def _check_targets(y: object, argument: str) -> None:
    if y is None:
        raise ArgumentTypeError(f"{argument}: is missing; give the targets, one for each row of x.")


def _default_batch_size(x: Any) -> int:
    """Return Keras's 32, or the number of rows where that is less."""
    if isinstance(x, Mapping) and x:
        x = next(iter(x.values()))
    elif isinstance(x, list | tuple) and x and getattr(x[0], "shape", None):
        x = x[0] if len(x[0].shape) > 1 else x
    rows = len(x) if hasattr(x, "__len__") else 0
    return min(DEFAULT_BATCH_SIZE, rows) or DEFAULT_BATCH_SIZE


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
