"""Models as files: from `Model` to checkpoint and back.

What a file may contain, and how it is written and checked, is in
``gpunn/checkpoints/files.py``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gpunn.backends.select import Selection, select_backend
from gpunn.checkpoints import files as checkpoints
from gpunn.checkpoints.files import Checkpoint, Expected
from gpunn.errors import (
    ArgumentError,
    ArgumentTypeError,
    CheckpointError,
    GpunnError,
    PlanError,
    TrainingError,
)
from gpunn.models.compiling import check_precision, check_precision_name, check_seed
from gpunn.models.model import Model
from gpunn.models.sequential import Sequential
from gpunn.plan.spec import STORAGE
from gpunn.specs import losses, metrics, optimizers
from gpunn.specs.layers import Input, InputLayer, Layer, layers
from gpunn.specs.layers.base import SymbolicTensor, connect
from gpunn.specs.registry import Registry, to_config
from gpunn.training import state as training_state
from gpunn.training.state import TrainingState


def architecture(model: Model) -> dict[str, Any]:
    """Return the layers and how they are wired as JSON values."""
    graph = model.graph
    nodes = []
    for node in graph.nodes:
        layer = to_config(node.layer)
        layer["config"]["name"] = node.layer_name
        nodes.append({"layer": layer, "inputs": list(node.inputs)})
    # With a model inside it that branches, a Sequential is no stack.
    inner = graph.nodes[1:]
    stack = isinstance(model, Sequential) and len(graph.layers) == len(graph.nodes)
    stack = stack and all(node.inputs == (i,) for i, node in enumerate(inner))
    config: dict[str, Any] = {
        "class_name": "Sequential" if stack else "Model",
        "name": model.name,
        "nodes": nodes,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
    }
    if model._outputs_by_name:
        config["outputs_by_name"] = True
    if not model._trainable:
        config["trainable"] = False
    return config


def model_config(model: Model) -> dict[str, Any]:
    """Return the configuration as JSON values: layers, and how the model was compiled."""
    config, compiled = architecture(model), model._compiled
    config["seed"] = model.seed
    if compiled is not None:
        config["compile"] = {
            "optimizer": to_config(compiled.optimizer),
            "precision": compiled.precision,
            "outputs": [
                {
                    "loss": None if spec.loss is None else to_config(spec.loss),
                    "metrics": [to_config(metric) for metric in spec.metrics],
                    "loss_weight": spec.loss_weight,
                }
                for spec in compiled.outputs
            ],
        }
        # Apart from the optimizer: a run is resumed by the one that it was compiled with.
        if model.optimizer.override is not None:
            config["compile"]["learning_rate"] = model.optimizer.override
    return config


def model_from_config(config: Mapping[str, Any]) -> Model:
    """Rebuild a model from `Model.get_config`, against the closed registry of layers.

    Its weights are new; without a seed in the configuration it is drawn when first needed.
    """
    nodes = config.get("nodes") if isinstance(config, Mapping) else None
    if not isinstance(nodes, list) or not nodes:
        raise ArgumentError("The model configuration lists no layers.")
    built: dict[str, Layer] = {}
    tensors: list[SymbolicTensor] = []
    for position, node in enumerate(nodes):
        layer = layers.from_config(node["layer"])
        layer = built.setdefault(layer.name or f"#{position}", layer)
        sources = node["inputs"]
        if any(not isinstance(i, int) or not 0 <= i < position for i in sources):
            raise ArgumentError(f"Node {position} of the model configuration has bad inputs.")
        many = [tensors[i] for i in sources]
        if isinstance(layer, InputLayer):
            tensors.append(Input(layer.shape, name=layer.name))
        else:
            tensors.append(layer(many[0] if len(many) == 1 else many))
    if config.get("class_name") == "Sequential":
        stack = [tensor.layer for tensor in tensors]
        model: Model = Sequential(stack, name=config.get("name"))
    else:
        model = Model(
            [tensors[i] for i in config["inputs"]],
            [tensors[i] for i in config["outputs"]],
            name=config.get("name"),
        )
        model._outputs_by_name = config.get("outputs_by_name") is True
    if config.get("trainable") is False:
        vars(model)["_trainable"] = False  # each layer says for itself
    if "seed" in config:
        model._seed = check_seed(config["seed"])
    return model


def model_from_json(text: str) -> Model:
    """Return the model that `Model.to_json` describes, with new weights.

    Parameters
    ----------
    text : str
        What `Model.to_json` returned.

    Returns
    -------
    Model
        Not compiled.

    Raises
    ------
    ArgumentError
        It is not such a description.
    """
    try:
        return model_from_config(json.loads(text))
    except (KeyError, TypeError, AttributeError, IndexError, json.JSONDecodeError) as error:
        raise ArgumentError(f"model_from_json: not what Model.to_json wrote ({error}).") from error


def clone_model(model: Model) -> Model:
    """Return a model of the same layers with new weights; it is not compiled.

    Layers keep their names, and `Normalization` what it has learned. The clone of a model with a
    `call` of its own is a plain `Model`.

    Parameters
    ----------
    model : Model
        Compiled or not.

    Returns
    -------
    Model
        Not compiled.

    Raises
    ------
    ArgumentTypeError
        `model` is no model.
    """
    if not isinstance(model, Model):
        raise ArgumentTypeError(f"clone_model: expected a model, got {type(model).__name__}.")
    if not model.built and isinstance(model, Sequential):
        stack = [replace(spec) for spec in model._specs()]
        return Sequential(stack, name=model.name, trainable=model._trainable)
    graph = model.graph
    # In the order in which they were made: it is that of automatic names.
    specs = sorted(graph.layers.values(), key=lambda spec: spec.serial)
    copies = {id(spec): replace(spec) for spec in specs}
    tensors: list[SymbolicTensor] = []
    for node in graph.nodes:
        tensors.append(connect(copies[id(node.layer)], [tensors[i] for i in node.inputs]))
    if architecture(model)["class_name"] == "Sequential":
        stack = [t.layer for t in tensors[1:]]
        return Sequential([tensors[0], *stack], name=model.name, trainable=model._trainable)
    inputs, outputs = ([tensors[i] for i in places] for places in (graph.inputs, graph.outputs))
    return Model(inputs, outputs, name=model.name, trainable=model._trainable)


def save_model(
    model: Model, path: str | Path, *, overwrite: bool = True, include_optimizer: bool = True
) -> Path:
    """Write configuration and weights of `model`, and what its training goes on from."""
    path = Path(path)
    if path.exists() and not overwrite:
        raise ArgumentError(f"{path} exists; pass overwrite=True to replace it.")
    weights = {v.path: model._read(v) for v in model.graph.variables}
    for name, values in weights.items():
        if not np.isfinite(values).all():
            raise TrainingError(f"{path}: not saved, as {name} holds NaN or infinity.")
    trained: dict[str, Any] = {}
    if include_optimizer and model._compiled is not None:
        slots = training_state.slot_buffers(
            model.graph, model.compiled.optimizer, model.frozen_layers
        )
        # Layers that were frozen so far have slots as they begin.
        initial, known = model.compiled.optimizer.slots, dict(model._slots())
        if known or model._state.begun:
            for slot in slots:
                kind, _, weight = slot.partition("/")
                known.setdefault(slot, np.full_like(weights[weight], initial[kind]))
            trained = model._state.saved_with_model({slot: known[slot] for slot in slots})
    checkpoints.write(path, Checkpoint(model._config(), weights, **trained))
    return path


def _expected(model: Model, precision: str) -> dict[str, tuple[tuple[int, ...], str]]:
    return {v.path: (v.shape, STORAGE[precision]) for v in model.graph.variables}


def _expected_slots(
    model: Model, precision: str, optimizer: optimizers.Optimizer
) -> dict[str, tuple[tuple[int, ...], str]]:
    weights = _expected(model, precision)
    slots = training_state.slot_buffers(model.graph, optimizer, model.frozen_layers)
    return {slot: weights[slot.partition("/")[2]] for slot in slots}


def _precision(config: Mapping[str, Any]) -> str:
    saved = config.get("compile", {})
    precision = saved.get("precision", "float32") if isinstance(saved, Mapping) else None
    if not isinstance(precision, str) or precision not in STORAGE:
        raise CheckpointError(f"The model's precision {precision!r} is unknown.")
    return precision


def _rebuild(path: Path, config: Mapping[str, Any]) -> Model:
    try:
        return model_from_config(config)
    except (GpunnError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{path}: its model configuration cannot be used: {error}") from error


def load_model(
    path: str | Path,
    custom_objects: Mapping[str, Any] | None = None,
    *,
    compile: bool = True,
    device: str = "auto",
    precision: str | None = None,
) -> Model:
    """Read a model from a file or a folder of checkpoints.

    Parameters
    ----------
    path : path
        What `Model.save` wrote, a checkpoint, or a folder of checkpoints (its latest).
    custom_objects : dict, optional
        Taken for compatibility: functions of your own are in the file, as data.
    compile : bool, default True
        Also compile the model as it was when saved, and take up the optimizer's state, if it is in
        the file: `fit` goes on where the saved model stopped, bit for bit on the same device.
        Compiling again drops that state.
    device : str, default "auto"
        For `Model.compile`.
    precision : {"float32", "float64", "tf32", "bfloat16"}, optional
        For `Model.compile`; default: that of the saved model. The weights are the same numbers in
        float32, tf32 and bfloat16.

    Returns
    -------
    Model
        With weights; compiled if it was.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, or holds what a gpunn model file cannot hold, or slots that
        are not those of its optimizer.
    DeviceError
        The device is not usable here.
    PlanError
        The device was named, and does not compute in the saved precision; or it does not compute
        in the precision that was given.

    Warns
    -----
    RuntimeWarning
        The model was saved in "tf32" or "bfloat16", and what ``device="auto"`` found does not
        compute in it: the model computes in float32.

    Notes
    -----
    Only where neither device nor precision is asked for is another precision taken, and never a
    less exact one: the weights of a tf32 or bfloat16 model are float32, and float32 leaves out
    nothing but the rounding before each product. So a model from a GPU can be used on any machine.
    The warning says so; a precision that is given is kept to, or refused.
    """
    model, note = load_with_note(path, compile=compile, device=device, precision=precision)
    if note is not None:
        warnings.warn(note, RuntimeWarning, stacklevel=2)
    return model


def load_with_note(
    path: str | Path,
    *,
    compile: bool = True,
    device: str = "auto",
    precision: str | None = None,
    to_train: bool = True,
) -> tuple[Model, str | None]:
    """Do what `load_model` does, and return its warning, if there is one, with the model.

    Unless `to_train` the optimizer's state is not read.
    """
    if precision is not None:
        check_precision_name(precision)
    file, model, config, state = _read_model(path, to_train=compile and to_train)
    if not compile or "compile" not in config:
        return model, None
    selection, saved, note = select_backend(device), _precision(config), None
    try:
        check_precision(selection, device, precision or saved)
    except PlanError as error:
        if precision is not None:
            raise
        if device != "auto":
            raise PlanError(f"{file} was saved with precision={saved!r}. {error}") from error
        precision, name = STORAGE[saved], selection.backend.name
        note = (
            f"{file} was saved with precision={saved!r}, but {name}, which device='auto' took, "
            f"does not compute in it: the model computes in {precision}, the type of its weights."
        )
    _compile_from_config(file, model, config, selection, device, precision or saved)
    if state is not None:
        state.learning_rate = model._state.learning_rate
        vars(model._state).update(vars(state))
    return model, note


def load_for_inspection(path: str | Path) -> Model:
    """Read a model with its saved precision, whatever device there is: it must not compute."""
    file, model, config, _ = _read_model(path, to_train=False)
    if "compile" in config:
        selection = select_backend("reference")
        _compile_from_config(file, model, config, selection, "reference", _precision(config))
    return model


def _read_model(
    path: str | Path, *, to_train: bool
) -> tuple[Path, Model, dict[str, Any], TrainingState | None]:
    """Read the file that `path` stands for.

    Returns
    -------
    tuple
        The file, its model with weights, its configuration, and with `to_train` what training goes
        on from, if that is in it.
    """
    file = checkpoints.resolve(Path(path))
    model: Model | None = None
    optimizer: optimizers.Optimizer | None = None

    def expect(config: dict[str, Any]) -> Expected:
        nonlocal model, optimizer
        model, precision = _rebuild(file, config), _precision(config)
        weights = _expected(model, precision)
        if not to_train or "compile" not in config:
            return Expected(weights)
        with _compiling(file):
            optimizer = _optimizer(config["compile"]["optimizer"])
        slots = _expected_slots(model, precision, optimizer)
        return Expected(weights, slots, advice=_advice(optimizer))

    loaded = checkpoints.read(file, expect)
    assert model is not None
    model.set_weights([loaded.weights[v.path] for v in model.graph.variables])
    state = None
    if optimizer is not None:
        try:
            state = training_state.state_of_model(loaded)
        except CheckpointError as error:
            raise CheckpointError(
                f"Cannot read checkpoint {file}: {error} {_advice(optimizer)}"
            ) from None
    return file, model, loaded.model_config, state


def _advice(optimizer: optimizers.Optimizer) -> str:
    """Return what is right where the optimizer's state in a file is not, and a way around it."""
    slots = " and ".join(optimizer.slots) or "no slots"
    return (
        f"The optimizer it was compiled with, {type(optimizer).__name__}, keeps {slots} for each "
        f"weight, in its shape; load_model(..., compile=False) reads the model without them."
    )


@contextmanager
def _compiling(file: Path) -> Iterator[None]:
    try:
        yield
    except (GpunnError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file}: cannot be compiled as saved: {error}") from error


def _compile_from_config(
    file: Path,
    model: Model,
    config: Mapping[str, Any],
    selection: Selection,
    device: str,
    precision: str,
) -> None:
    """Compile `model` as a configuration says, for a backend that is chosen already."""
    with _compiling(file):
        saved = config["compile"]
        outputs = saved["outputs"]
        model._compile_on(
            selection,
            _optimizer(saved["optimizer"]),
            [None if o["loss"] is None else losses.losses.from_config(o["loss"]) for o in outputs],
            [[metrics.metrics.from_config(m) for m in o["metrics"]] for o in outputs],
            [o["loss_weight"] for o in outputs],
            device,
            precision,
        )
        if saved.get("learning_rate") is not None:
            model.optimizer.learning_rate = saved["learning_rate"]


def _optimizer(config: Mapping[str, Any]) -> optimizers.Optimizer:
    return optimizers.optimizers.from_config(config)


def load_weights(model: Model, path: str | Path) -> None:
    """Read weights into `model`, whose layers must have the file's names and shapes."""
    file = checkpoints.resolve(Path(path))
    loaded = checkpoints.read(file, lambda config: Expected(_expected(model, _precision(config))))
    model.set_weights([loaded.weights[v.path] for v in model.graph.variables])


def read_training_state(model: Model, path: str | Path) -> dict[str, Any]:
    """Read the state for `Trainer.load_state_dict`; the file must be of the same model."""
    file = checkpoints.resolve(Path(path))
    own = model._config()

    def expect(config: dict[str, Any]) -> Expected:
        _check_same_model(file, own, config)
        precision = _precision(config)
        slots = _expected_slots(model, precision, model.compiled.optimizer)
        return Expected(_expected(model, precision), slots)

    loaded = checkpoints.read(file, expect)
    if loaded.training is None or not training_state.is_run(loaded.training):
        raise CheckpointError(
            f"{file}: holds a model but no state of training that could be resumed; load it with "
            f"gpunn.load_model and call fit, which goes on with the optimizer's state if it was "
            f"saved."
        )
    return {
        "weights": loaded.weights,
        "optimizer": loaded.optimizer,
        "metrics": loaded.metrics,
        "training": loaded.training,
    }


def _with_new_fields(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a saved configuration with the fields that specs have got since, at their defaults.

    What cannot be read stays as it is, and so is other than what any model has.
    """

    def current(registry: Registry[Any], spec: Any) -> Any:
        return None if spec is None else to_config(registry.from_config(spec))

    try:
        config = dict(config)
        config["nodes"] = [
            {**node, "layer": current(layers, node["layer"])} for node in config["nodes"]
        ]
        if "compile" in config:
            compiled = config["compile"] = dict(config["compile"])
            compiled["optimizer"] = current(optimizers.optimizers, compiled["optimizer"])
            compiled["outputs"] = [
                {
                    **output,
                    "loss": current(losses.losses, output["loss"]),
                    "metrics": [current(metrics.metrics, m) for m in output["metrics"]],
                }
                for output in compiled["outputs"]
            ]
    except (GpunnError, KeyError, TypeError, AttributeError):
        pass
    return config


def _check_same_model(file: Path, own: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Raise if the run cannot go on as it was: other layers, loss, optimizer or precision."""
    saved = _with_new_fields(saved)
    compiled, other = own.get("compile", {}), saved.get("compile", {})
    differing = [
        f"{name} ({theirs}, not {mine})" if name in ("precision", "seed") else name
        for name, mine, theirs in (
            ("layers", own["nodes"], saved.get("nodes")),
            ("optimizer", compiled.get("optimizer"), other.get("optimizer")),
            ("loss or metrics", compiled.get("outputs"), other.get("outputs")),
            ("precision", compiled.get("precision"), other.get("precision")),
            ("seed", own["seed"], saved.get("seed")),
        )
        if mine != theirs
    ]
    if differing:
        raise CheckpointError(
            f"{file}: was trained with other {' and '.join(differing)} than this model has; "
            f"a run is resumed with the settings it was started with."
        )
