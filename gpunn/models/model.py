"""Models: `Sequential` and the functional `Model`, with Keras's names and behaviour."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gpunn.data import batches
from gpunn.errors import ArgumentError, ArgumentTypeError, NotBuiltError, UnknownNameError
from gpunn.models import subclassing
from gpunn.models.compiling import (
    Compiled,
    is_whole,
)
from gpunn.models.intake import Intake, check_targets, default_batch_size
from gpunn.models.structure import check_keys, leaves
from gpunn.models.summary import summary_table
from gpunn.specs.graph import Graph, snake_case, trace_graph
from gpunn.specs.layers import Layer
from gpunn.specs.layers.base import SymbolicTensor
from gpunn.specs.registry import set_field
from gpunn.specs.traced_values import check_training
from gpunn.training.callbacks.base import Callback
from gpunn.training.callbacks.history import History
from gpunn.training.hooks import Hooks, check_callbacks
from gpunn.training.session import Session
from gpunn.training.state import TrainingState
from gpunn.training.trainer import Task, Trainer
from gpunn.training.weight_store import graph_weights

# What predict returns: arrays of NumPy's, or CuPy's where the model computes.
OUTPUTS = ("numpy", "cupy")
# What Keras 2 had, or Keras has and gpunn has not, and what to type in its place.
_INSTEAD = {
    "predict_classes": "np.argmax(model.predict(x), axis=-1)",
    "predict_proba": "model.predict(x)",
    "fit_generator": "model.fit(x, y) with arrays",
    "evaluate_generator": "model.evaluate(x, y) with arrays",
    "predict_generator": "model.predict(x) with arrays",
    "add_loss": "a loss given to compile, or kernel_regularizer= of a layer",
    "add_metric": "metrics given to compile",
    "export": "model.save(path)",
    "to_yaml": "model.to_json()",
}


class _NotStarted(NotBuiltError, AttributeError):
    """A subclass's ``__init__`` has not called that of `Model`."""


class _Taken(ArgumentError, AttributeError):
    """A name that all models have for something that cannot be set."""


class Model(Intake):
    """A model made of layers wired from inputs to outputs.

    A subclass makes its layers in ``__init__``, as attributes, and wires them in
    ``call(self, inputs)`` or ``call(self, inputs, training=None)``; it takes no inputs and
    outputs.

    Parameters
    ----------
    inputs : SymbolicTensor, or list or dict of them
        From `gpunn.Input`.
    outputs : SymbolicTensor, or list or dict of them
        What layers returned. The keys of a dict are the layers' names; with a dict of outputs
        `predict` returns a dict.
    name : str, optional
    trainable : bool, default True
        False freezes all that this model would train, and leaves its layers as they are: another
        model that has them trains them.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        Inputs and outputs are no graph: an input is missing or not used, names are not unique.

    Notes
    -----
    Weights belong to layers. A layer of another model, or a whole model, can be called like a
    layer, and ``model.input`` and a layer's ``output`` can be the inputs and outputs of a further
    model: all models that have a layer share its weights, and what one of them trains or sets the
    others have. `gpunn.models.clone_model` makes a model with layers of its own.

    ``layer.trainable = False``, or that of a model, which sets it for all its layers, freezes
    weights: from the next call that trains they stay as they are, in every model.

    Models can be pickled and copied (`copy.deepcopy`) with their weights and the state of their
    training; `gpunn/pickling.py` says what goes along.

    ``call`` runs once, when the shapes of the inputs are known (at the first `fit`, `evaluate`,
    `predict` or `build`), with symbolic inputs in the structure that `fit` gets (a tuple, a list
    or a dict). Its ``training`` can be handed on to layers and not be asked, as one graph serves
    both: what `Dropout` does in training it does by itself. The model is then like any other;
    `save` writes the graph, and `gpunn.load_model` returns a `Model`, not the subclass.

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

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        subclassing.check_class(cls)
        cls._traced = subclassing.has_call(cls)

    def __init__(
        self,
        inputs: Any = None,
        outputs: Any = None,
        *,
        name: str | None = None,
        trainable: bool = True,
    ) -> None:
        if inputs is None and outputs is None and self._traced:
            self._start(None)
            self.name = name or snake_case(type(self).__name__)
            self._freeze_itself(trainable)
            return
        if inputs is None or outputs is None:
            hint = "" if type(self) is Model else f", or {type(self).__name__} a call(self, inputs)"
            raise ArgumentError(f"Model needs inputs and outputs{hint}.")
        self._traced = False
        self._outputs_by_name = isinstance(outputs, Mapping)
        graph, symbols = trace_graph(_tensors(inputs, "inputs"), _tensors(outputs, "outputs"))
        self._start(graph)
        self._symbolic, self._known_weights = (graph, symbols), graph_weights(graph)
        self.name = name or "model"
        self._freeze_itself(trainable)

    def __setattr__(self, name: str, value: Any) -> None:
        if self._traced:
            value = subclassing.set_attribute(self, name, value)
        known = getattr(type(self), name, None)
        if isinstance(known, property) and known.fset is None:
            raise _Taken(
                f"{type(self).__name__}.{name} cannot be set: all models have it; give what is "
                f"yours another name."
            )
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if "_graph" not in vars(self) and not name.startswith("_"):
            raise _NotStarted(
                f"{type(self).__name__}.__init__: call super().__init__(**kwargs) first."
            )
        hint = f"; use {_INSTEAD[name]}" if name in _INSTEAD else ""
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}{hint}", name=name, obj=self
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        new = memo[id(self)] = type(self).__new__(type(self))
        new.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return new

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"

    def _start(self, graph: Graph | None) -> None:
        self._graph = graph
        self._compiled: Compiled | None = None
        self._session: Session | None = None
        self._seed: int | None = None
        self._state = TrainingState()
        self._known_weights = None
        self.history: History | None = None
        self.stop_training = False

    def summary(self, print_fn: Callable[[str], object] | None = None) -> None:
        """Print a table of layers with their output shapes and numbers of weights.

        Parameters
        ----------
        print_fn : callable, optional
            Called with the table; default: `print`.
        """
        (print_fn or print)(
            summary_table(
                self.graph, self.name, self.frozen_layers, inputs_listed=self._lists_inputs
            )
        )

    # Building

    def _specs(self) -> list[Layer]:
        return subclassing.attribute_layers(self) if self._traced else super()._specs()

    def build(self, input_shape: Any) -> None:
        """Build for inputs of this shape, with the batch axis (None) in front as in Keras.

        Parameters
        ----------
        input_shape : tuple, or list or dict of tuples
            ``(None, 8)``; several in the structure that `fit` will get.
        """
        if not self.built:
            self._settle(subclassing.trace(self, input_shape))

    def _build_for(self, x: Any) -> None:
        """Build from the shapes of the data, where nothing else has said them."""
        if not self.built:
            self.build(subclassing.shapes_of(x))

    def _parts(self) -> list[Any]:
        return subclassing.attribute_parts(self) if self._traced else super()._parts()

    def _nest(self, inputs: Any) -> Any:
        if self._traced and not self.built:
            return subclassing.call_symbolically(self, inputs)
        return super()._nest(inputs)

    # Training and use

    def fit(
        self,
        x: Any,
        y: Any = None,
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
            NumPy's; on the model's own GPU they stay there. NumPy arrays that do not fit its free
            memory are streamed to it, in the same order.
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
            Loss and metrics of each epoch.

        Raises
        ------
        ArgumentError, ArgumentTypeError, ShapeError, DataError
            An argument cannot be used, or the data do not fit the model.
        NotBuiltError
            The model is not compiled.
        """
        x = self._adopt_x(x)
        self._build_for(x)
        compiled = self.compiled
        if all(spec.loss is None for spec in compiled.outputs):
            raise ArgumentError("fit needs a loss; give compile one, such as loss='mse'.")
        check_targets(y, "y")
        y, sample_weight = self._adopt_y(y, sample_weight)
        if validation_split:
            if validation_data is not None:
                raise ArgumentError("Give validation_split or validation_data, not both.")
            x, y, sample_weight, validation_data = batches.split(
                self.graph, x, y, sample_weight, validation_split
            )
        # After the split, as in Keras: rows held out for validation are not weighed by class.
        sample_weight = self._weigh(class_weight, sample_weight, y)
        if steps is None and (not is_whole(epochs) or epochs < 0):
            raise ArgumentError(f"epochs must be a whole number of at least 0, not {epochs!r}.")
        if steps is not None and (not is_whole(steps) or steps < 1):
            raise ArgumentError(f"steps must be a whole number of at least 1, not {steps!r}.")
        if verbose not in (0, 1, 2, "auto", True, False):
            raise ArgumentError(f"verbose must be 0, 1, 2 or 'auto', not {verbose!r}.")
        if resume is not None and initial_epoch:
            raise ArgumentError("Give initial_epoch or resume, not both.")
        trainer = Trainer(
            self,
            x,
            y,
            batch_size=default_batch_size(x) if batch_size is None else batch_size,
            sample_weight=sample_weight,
            validation_data=validation_data,
            shuffle=shuffle,
            callbacks=[*check_callbacks(callbacks), *_reporters(verbose)],
            initial_epoch=initial_epoch,
        )
        trainer.verbose = _verbosity(verbose)
        if resume is not None:
            trainer.resume(resume)
        try:
            self.history = trainer.fit(None if steps is not None else epochs, steps)
        finally:
            trainer.release()
        return self.history

    def training_task(
        self, x: Any, y: Any, sample_weight: Any = None, validation_data: Any = None
    ) -> Task:
        """Check data and return them with what trains on them; for `gpunn.Trainer`.

        Parameters
        ----------
        x, y, sample_weight : array, or list or dict of arrays
            As for `fit`.
        validation_data : tuple, optional
            ``(x, y)`` or ``(x, y, sample_weight)``.

        Returns
        -------
        Task
            The data, laid out, with the session, the losses and the optimizer.

        Raises
        ------
        ArgumentError
            There is no loss.
        """
        from gpunn.models import saving

        x = self._adopt_x(x)
        self._build_for(x)
        compiled = self.compiled
        if all(spec.loss is None for spec in compiled.outputs):
            raise ArgumentError("Training needs a loss; give compile one, such as loss='mse'.")
        data = self.prepare(x, y, sample_weight)
        return Task(
            self.session,
            data,
            self.prepare_validation(validation_data),
            compiled.outputs,
            self.optimizer,
            lambda: self.frozen_layers,
            self._config,
            partial(saving.read_training_state, self),
        )

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        *,
        callbacks: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Return the loss, or ``[loss, *metrics]``, over data; as a dict with `return_dict`.

        `batch_size` is that of the batches that `callbacks` see, default 32; the result does not
        depend on it.

        Parameters
        ----------
        x : array, or list or dict of arrays
            As for `fit`.
        y : array, or list or dict of arrays
            Targets, as for `fit`.
        batch_size : int, optional
            Rows of the batches that `callbacks` see.
        verbose : int or str
            Passed on to `callbacks`.
        sample_weight : array, shape (rows,), optional
            Factors of the rows' losses.
        callbacks : list of Callback, optional
            Their ``on_test_...`` hooks are called.
        return_dict : bool, default False
            Whether to return a dict by name.

        Returns
        -------
        float, list of float or dict of str to float
            The loss, or the loss and the metrics in the order of `metrics_names`.
        """
        x = self._adopt_x(x)
        self._build_for(x)
        outputs = self.compiled.outputs
        check_targets(y, "y")
        data = self.prepare(x, y, sample_weight)
        session = self.session
        hooks = Hooks(self, callbacks, "test", data.rows, batch_size)
        hooks.introduce(verbose)
        with session.backend.threads():
            hooks.begin()
            figures = session.evaluate(data, outputs, hooks.batches, self.frozen_layers)
            hooks.end(dict(figures))
        return self._figures(figures, return_dict)

    def _figures(self, figures: Mapping[str, float], return_dict: bool) -> Any:
        figures = {name: figures[name] for name in self._in_order(figures)}
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
        callbacks: Any = None,
        output: str = "numpy",
    ) -> Any:
        """Return the outputs for `x`.

        Parameters
        ----------
        x : as for `fit`
        batch_size, verbose : int, optional
            For `callbacks`, which see batches of this size; the result does not depend on them.
        callbacks : list of Callback, optional
            Their `on_predict_...` hooks are called.
        output : {"numpy", "cupy"}
            With "cupy" the outputs stay on the GPU.

        Returns
        -------
        array, shape (rows, *output shape), or list or dict of them
            The outputs.
        """
        x = self._adopt_x(x)
        self._build_for(x)
        if output != "numpy":
            self._check_output(output)
        data = self.prepare(x)
        session = self.session
        hooks = Hooks(self, callbacks, "predict", data.rows, batch_size)
        hooks.introduce(verbose)
        with session.backend.threads():
            hooks.begin()
            values = session.predict(data, on_host=output == "numpy", hooks=hooks.batches)
            hooks.end()
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

    # Single batches

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        *,
        return_dict: bool = False,
    ) -> Any:
        """Take one step with these rows; return the loss, or ``[loss, *metrics]``, of this batch.

        Keras 3 returns the mean over all batches since `reset_metrics`; this is what its
        documentation says, and what Keras 2 does. For speed use `fit` or `gpunn.Trainer`: they
        plan ahead and copy nothing per step.

        Parameters
        ----------
        x : array, or list or dict of arrays
            As for `fit`.
        y : array, or list or dict of arrays
            Targets, as for `fit`.
        sample_weight : array, shape (rows,), optional
            Factors of the rows' losses.
        class_weight : dict of int to float, optional
            Factors by class.
        return_dict : bool, default False
            Whether to return a dict by name.

        Returns
        -------
        float, list of float or dict of str to float
            The loss of this batch before the step, or the loss and the metrics.

        Raises
        ------
        ArgumentError
            There is no loss.
        """
        x = self._adopt_x(x)
        self._build_for(x)
        if all(spec.loss is None for spec in self.compiled.outputs):
            raise ArgumentError("train_on_batch needs a loss; give compile one, such as 'mse'.")
        check_targets(y, "y")
        y, sample_weight = self._adopt_y(y, sample_weight)
        sample_weight = self._weigh(class_weight, sample_weight, y)
        rows = self.prepare(x, y, sample_weight).rows
        trainer = Trainer(self, x, y, batch_size=rows, sample_weight=sample_weight, shuffle=False)
        try:
            return self._figures(trainer.step(), return_dict)
        finally:
            trainer.release()

    def test_on_batch(
        self, x: Any, y: Any, sample_weight: Any = None, *, return_dict: bool = False
    ) -> Any:
        """Return what `evaluate` does for these rows.

        Parameters
        ----------
        x : array, or list or dict of arrays
            As for `fit`.
        y : array, or list or dict of arrays
            Targets, as for `fit`.
        sample_weight : array, shape (rows,), optional
            Factors of the rows' losses.
        return_dict : bool, default False
            Whether to return a dict by name.

        Returns
        -------
        float, list of float or dict of str to float
            The loss, or the loss and the metrics.
        """
        return self.evaluate(x, y, sample_weight=sample_weight, return_dict=return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """Return what `predict` does for these rows.

        Parameters
        ----------
        x : array, or list or dict of arrays
            As for `fit`.

        Returns
        -------
        array, shape (rows, *output shape), or list or dict of them
            The outputs.
        """
        return self.predict(x)

    def reset_metrics(self) -> None:
        """Do nothing: figures start anew with each epoch and each call."""

    def __call__(self, x: Any, training: Any = None) -> Any:
        """Return `predict` of arrays; wire the model into another one on symbolic tensors."""
        symbolic = any(isinstance(leaf, SymbolicTensor) for leaf in _first_leaves(x))
        check_training(training if symbolic or training else None)
        if symbolic:
            outputs = self._nest(x)
            for tensor in leaves(outputs):
                set_field(tensor, "models", (*tensor.models, self))
            return outputs
        return self.predict(x)

    # Saving

    def save(
        self,
        path: str | Path,
        overwrite: bool = True,
        save_format: str | None = None,
        *,
        include_optimizer: bool = True,
    ) -> Path:
        """Write the model to an HDF5 file, atomically; see `gpunn.load_model`.

        In it are the layers, the weights, how the model was compiled, and, where it was trained,
        the optimizer's state: its slots, its learning rate, and the number of steps and epochs. So
        `fit` of the loaded model goes on as that of this one would, bit for bit on the same device.
        For a run that can be stopped at any step, with the state of its callbacks, there are
        `gpunn.callbacks.Checkpoints` and ``fit(resume=...)``. Slots of layers that are frozen now
        are left out.

        Parameters
        ----------
        path : path
            Any name: the format does not depend on it.
        overwrite : bool, default True
            False makes it an error that the file exists.
        save_format : {"keras", "h5", "tf"}, optional
            Taken for compatibility; gpunn has one format.
        include_optimizer : bool, default True
            False leaves slots and counts out, for a smaller file: the loaded model is compiled,
            and its training begins anew.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        ArgumentError
            The file exists, and `overwrite` is False.
        ArgumentTypeError, UnknownNameError
            An argument cannot be used.
        TrainingError
            A weight is not finite.
        """
        from gpunn.models import saving

        if save_format not in (None, "keras", "h5", "tf"):
            raise UnknownNameError("save_format", save_format, ("keras", "h5", "tf"))
        if not isinstance(include_optimizer, bool):
            raise ArgumentTypeError(
                f"include_optimizer must be True or False, not {include_optimizer!r}."
            )
        return saving.save_model(
            self, path, overwrite=overwrite, include_optimizer=include_optimizer
        )

    def save_weights(
        self, path: str | Path, overwrite: bool = True, save_format: str | None = None
    ) -> Path:
        """Write the weights; the file is of the same format as that of `save`.

        The optimizer's state is not in it; in Keras it is, and `load_weights` of a model that was
        trained takes it up.

        Parameters
        ----------
        path : path
            Any name.
        overwrite : bool, default True
            False makes it an error that the file exists.
        save_format : str, optional
            Taken for compatibility.

        Returns
        -------
        Path
            The file.
        """
        return self.save(path, overwrite, save_format, include_optimizer=False)

    def load_weights(self, path: str | Path) -> None:
        """Read the weights from a file of a model with the same layers, and nothing else.

        Parameters
        ----------
        path : path
            What `save`, `save_weights` or a checkpoint wrote.
        """
        from gpunn.models import saving

        saving.load_weights(self, path)

    def get_config(self) -> dict[str, Any]:
        """Return the configuration as JSON values: layers, and how the model was compiled.

        Returns
        -------
        dict
            For `from_config`.
        """
        return self._config()

    def _config(self) -> dict[str, Any]:
        # What files hold, whatever a subclass makes of get_config.
        from gpunn.models import saving

        return saving.model_config(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Model:
        """Return the model that `get_config` describes, with new weights.

        A subclass with a `call` whose `get_config` returns its own arguments is made with those.

        Parameters
        ----------
        config : mapping
            What `get_config` returned.

        Returns
        -------
        Model
            Not compiled.
        """
        from gpunn.models import saving

        if "nodes" not in config and cls._traced:
            return cls(**config)
        return saving.model_from_config(config)

    def to_json(self, **kwargs: Any) -> str:
        """Return the layers as JSON, without weights; see `gpunn.models.model_from_json`.

        Further arguments are those of `json.dumps`.

        Parameters
        ----------
        **kwargs
            Passed on to `json.dumps`.

        Returns
        -------
        str
            For `gpunn.models.model_from_json`.
        """
        from gpunn.models import saving

        return json.dumps(saving.architecture(self), **kwargs)


def _verbosity(verbose: int | str) -> int:
    import sys

    if verbose == "auto":
        return 1 if sys.stdout.isatty() else 2
    return int(verbose)


def _reporters(verbose: int | str) -> list[Callback]:
    verbose = _verbosity(verbose)
    if not verbose:
        return []
    from gpunn.training.callbacks.progress import EpochLines, ProgressBar

    return [EpochLines() if verbose == 2 else ProgressBar()]


def _tensors(value: Any, argument: str) -> list[SymbolicTensor]:
    if isinstance(value, Mapping):
        check_keys(value, argument)
        value = list(value.values())
    tensors = list(value) if isinstance(value, list | tuple) else [value]
    for tensor in tensors:
        if not isinstance(tensor, SymbolicTensor):
            raise ArgumentTypeError(
                f"{argument}: expected what gpunn.Input or a layer returned, got "
                f"{type(tensor).__name__}."
            )
    return tensors


def _first_leaves(x: Any) -> list[Any]:
    """Return the tensors of a structure, without walking through rows of numbers."""
    if isinstance(x, Mapping | list | tuple) and len(x) > 64:
        return []
    return leaves(x) if isinstance(x, Mapping | list | tuple) else [x]
