"""`Saver`: variables and the state of training, in gpunn's own file format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpunn.checkpoints import files as checkpoints
from gpunn.checkpoints.files import Checkpoint, Expected
from gpunn.compat.symbolic.graph import Tensor, TensorGraph, get_default_graph
from gpunn.compat.symbolic.placeholders import Placeholder
from gpunn.compat.symbolic.values import Values, layer_variables
from gpunn.compat.symbolic.variables import Variable
from gpunn.errors import (
    ArgumentError,
    ArgumentTypeError,
    CheckpointError,
    NotBuiltError,
    TrainingError,
)
from gpunn.models import saving
from gpunn.models.model import Model
from gpunn.plan.spec import STORAGE

KEY, PARTS = "symbolic", ("variables", "training")
WEIGHTS_ALONE = "for the weights alone use tf.train.Saver(tf.trainable_variables())."


class Saver:
    """Saves and restores a session's variables, with optimizers' slots and step counts.

    Parameters
    ----------
    var_list : list of Variable, optional
        All trainable variables, to leave slots and step counts out.

    Notes
    -----
    A file is gpunn's: written whole or not at all, with a checksum for each array, and
    ``gpunn.load_model`` reads it as a model. Layers are named after their scopes,
    ``dnn.hidden1`` for ``dnn/hidden1``.
    """

    def __init__(self, var_list: Any = None) -> None:
        self.graph = get_default_graph()
        self.weights_only = var_list is not None
        if var_list is not None:
            given = list(var_list.values() if isinstance(var_list, Mapping) else var_list)
            every = {v for v in self.graph.variables if v.trainable}
            if set(given) != every:
                raise ArgumentError(
                    "Saver: var_list must be all of tf.trainable_variables(), or left out; parts "
                    "of a network cannot be saved by themselves."
                )

    def save(self, sess: Any, save_path: str | Path, global_step: Any = None) -> str:
        """Write the variables to `save_path`, atomically.

        Parameters
        ----------
        sess : GraphSession
        save_path : path
        global_step : int or Variable, optional
            Added to the name: ``path-1200``.

        Returns
        -------
        str
            The file's path.

        Raises
        ------
        TrainingError
            A variable is not finite: a broken model must not replace a good one.
        CheckpointError
            The file cannot be written.
        """
        path = _path(save_path)
        _check_session("save", sess)
        if isinstance(global_step, Variable):
            global_step = int(sess.read(global_step))
        if global_step is not None:
            path = path.with_name(f"{path.name}-{global_step}")
        session = sess.session
        model = whole_model(sess)
        for variable in model.graph.variables:
            if variable.path not in session.paths:
                raise NotBuiltError(
                    f"Saver: {variable.path!r} is newer than what the session was initialized "
                    f"with; run tf.global_variables_initializer() again."
                )
        weights = session.weights()
        for name, values in weights.items():
            if not np.isfinite(values).all():
                raise TrainingError(f"{path}: not saved, as {name} holds NaN or infinity.")
        slots: dict[str, Any] = {}
        training: dict[str, Any] = {}
        for op, state in sess.training.items():
            if self.weights_only or not state.steps:
                continue
            training[op.name] = {
                "optimizer": type(op.spec).__name__,
                "slots": list(op.spec.slots),
                "steps": state.steps,
            }
            for slot in op.spec.slots:
                slots |= {_slot(op.name, slot, path): state.slot(slot, path) for path in weights}
        config = model.get_config()
        shapes = {v.path: list(v.shape) for v in session.graph.variables}
        config[KEY] = {"variables": shapes, "training": training}
        checkpoints.write(path, Checkpoint(config, weights, slots))
        return str(path)

    def restore(self, sess: Any, save_path: str | Path) -> None:
        """Read the variables from a file of `save`; no initializer need be run before.

        Parameters
        ----------
        sess : GraphSession
        save_path : path
            A file of `save`, or of a gpunn model with the same layers.

        Raises
        ------
        CheckpointError
            There is no such file, it is damaged, or its variables are not those of the graph.
        """
        _check_session("restore", sess)
        file = checkpoints.resolve(_path(save_path))
        graph = sess.graph
        shapes = {variable.path: variable.shape for variable in layer_variables(graph)}
        taken: dict[str, Any] = {}
        slots: dict[str, Any] = {}

        def expect(config: dict[str, Any]) -> Expected:
            if KEY in config:
                saved = config[KEY]
                parts = [saved.get(p) if isinstance(saved, Mapping) else None for p in PARTS]
                variables, training = parts
                if not isinstance(variables, Mapping) or not isinstance(training, Mapping):
                    raise CheckpointError(f"{file}: its state of training is damaged.")
                _compare(file, shapes, variables)
                taken.update({} if self.weights_only else training)
            dtype = STORAGE[saving._precision(config)]
            weights = {path: (shape, dtype) for path, shape in shapes.items()}
            slots.update(_slots(file, graph, taken, weights))
            return Expected(weights, slots or None)

        loaded = checkpoints.read(file, expect)
        if set(loaded.optimizer) != set(slots):
            raise CheckpointError(f"{file}: lacks the optimizer's state that it says it has.")
        sess.initialize()
        for path, values in loaded.weights.items():
            sess.session.write(path, values)
        from gpunn.compat.symbolic.training import Training

        for op in graph.training:
            if op.name in taken:
                begin = _slot(op.name, "", "")[:-1]
                own = {
                    key.removeprefix(begin): values
                    for key, values in loaded.optimizer.items()
                    if key.startswith(begin)
                }
                sess.training[op] = Training(op, sess.session, taken[op.name]["steps"], own)


def _check_session(owner: str, sess: Any) -> None:
    from gpunn.compat.symbolic.session import GraphSession

    if not isinstance(sess, GraphSession):
        raise ArgumentTypeError(
            f"Saver.{owner}: the first argument must be the session, not {sess!r}."
        )


def _path(path: Any) -> Path:
    try:
        return Path(path)
    except TypeError:
        raise ArgumentTypeError(f"Saver: the path must be a str or Path, not {path!r}.") from None


def _slot(operation: str, slot: str, variable: str) -> str:
    return f"{operation.replace('/', '.')}:{slot}/{variable}"


def _compare(file: Path, own: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Raise if the file is of another network."""
    for path, shape in own.items():
        if path not in saved:
            known = ", ".join(saved)
            raise CheckpointError(f"{file}: has no variable {path!r}; it has {known}.")
        if list(shape) != saved[path]:
            raise CheckpointError(
                f"{file}: variable {path!r} has shape {saved[path]} there, and {list(shape)} in "
                f"this graph; restore it into the graph that it was saved from."
            )
    for path in saved:
        if path not in own:
            raise CheckpointError(f"{file}: has a variable {path!r}, which this graph lacks.")


def _slots(
    file: Path, graph: TensorGraph, saved: Mapping[str, Any], weights: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the slots that are read from the file: none where this graph does not train."""
    operations = {op.name: op for op in graph.training}
    expected: dict[str, Any] = {}
    missing = ""
    for name, entry in saved.items():
        steps = entry.get("steps") if isinstance(entry, Mapping) else None
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
            raise CheckpointError(f"{file}: its state of training is damaged: {name} has {entry}.")
        op, slots = operations.get(name), entry.get("slots")
        if op is None:
            missing = name if slots else missing
        elif slots != list(op.spec.slots):
            raise CheckpointError(
                f"{file}: was trained by {entry.get('optimizer')} in {name!r}, this graph has "
                f"{type(op.spec).__name__}; {WEIGHTS_ALONE}"
            )
        else:
            for slot in slots:
                expected |= {_slot(name, slot, path): kind for path, kind in weights.items()}
    if missing and expected:
        raise CheckpointError(
            f"{file}: was trained by {missing!r} too, which this graph lacks; {WEIGHTS_ALONE}"
        )
    return expected


def whole_model(sess: Any) -> Model:
    """Return a model of all that the graph computes, compiled for nothing in particular."""
    graph = sess.graph
    settled = [t.symbolic for t in graph.values if t._symbolic is not None]
    read = {id(source) for call in settled for source in call.inputs}
    outputs = list({id(call): call for call in settled if id(call) not in read}.values())
    if not outputs:
        raise ArgumentError("Saver: the graph computes nothing yet; build the network first.")
    from gpunn.compat.symbolic.programs import calls_before

    inputs = [call for call in calls_before(outputs) if not call.inputs]
    model = Model(inputs, outputs)
    model._compile_on(
        sess.selection, "sgd", None, None, None, sess.device, sess.precision, seed=sess.seed
    )
    return model


def as_model(inputs: Any, outputs: Any, session: Any = None) -> Model:
    """Return a ``gpunn.Model`` of part of the graph, with a copy of the session's weights.

    Parameters
    ----------
    inputs : Placeholder or list of Placeholder
    outputs : Values or list of Values
    session : GraphSession, optional
        Default: that of the ``with`` block around.

    Examples
    --------
    >>> model = tf.as_model(X, logits)                                  # doctest: +SKIP
    >>> model.save("model.h5")                                          # doctest: +SKIP
    """
    from gpunn.compat.symbolic.session import session_for

    sess = session_for(session, "as_model")
    lists = [list(t) if isinstance(t, list | tuple) else [t] for t in (inputs, outputs)]
    kinds: tuple[tuple[type[Tensor], str], ...] = (
        (Placeholder, "inputs must be placeholders"),
        (Values, "outputs must be tensors"),
    )
    for tensors, (kind, what) in zip(lists, kinds, strict=True):
        for tensor in tensors:
            if not isinstance(tensor, kind) or tensor.graph is not sess.graph:
                raise ArgumentTypeError(f"as_model: {what} of the session's graph, not {tensor!r}.")
    model = Model(*([t.symbolic for t in tensors] for tensors in lists))
    model.set_weights([sess.session.read(v.path) for v in model.graph.variables])
    return model
