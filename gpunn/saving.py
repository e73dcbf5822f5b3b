"""Models as files: from `Model` to checkpoint and back.

What a file may contain, and how it is written and checked, is in
``gpunn/training/checkpoint.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpunn import losses, metrics, optimizers
from gpunn.errors import ArgumentError, CheckpointError, GpunnError, TrainingError
from gpunn.graph import SymbolicTensor
from gpunn.layers import Input, InputLayer, Layer, layers
from gpunn.model import Model, check_seed
from gpunn.plan.spec import STORAGE
from gpunn.registry import to_config
from gpunn.sequential import Sequential
from gpunn.training import checkpoint as checkpoints
from gpunn.training.checkpoint import Checkpoint, Expected


def model_config(model: Model) -> dict[str, Any]:
    """Return the configuration as JSON values: layers, and how the model was compiled."""
    graph, compiled = model.graph, model._compiled
    nodes = []
    for node in graph.nodes:
        layer = to_config(node.layer)
        layer["config"]["name"] = node.layer_name
        nodes.append({"layer": layer, "inputs": list(node.inputs)})
    config: dict[str, Any] = {
        "class_name": "Sequential" if isinstance(model, Sequential) else "Model",
        "name": model.name,
        "nodes": nodes,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "seed": model.seed,
    }
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
    return config


def model_from_config(config: Mapping[str, Any]) -> Model:
    """Rebuild a model from `Model.get_config`, against the closed registry of layers."""
    nodes = config.get("nodes")
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
    model._seed = check_seed(config.get("seed", 0))
    return model


def save_model(model: Model, path: str | Path, *, overwrite: bool = True) -> Path:
    """Write configuration and weights of `model`."""
    path = Path(path)
    if path.exists() and not overwrite:
        raise ArgumentError(f"{path} exists; pass overwrite=True to replace it.")
    weights = {v.path: model._read(v.path) for v in model.graph.variables}
    for name, values in weights.items():
        if not np.isfinite(values).all():
            raise TrainingError(f"{path}: not saved, as {name} holds NaN or infinity.")
    checkpoints.write(path, Checkpoint(model.get_config(), weights))
    return path


def _expected(model: Model, precision: str) -> dict[str, tuple[tuple[int, ...], str]]:
    return {v.path: (v.shape, STORAGE[precision]) for v in model.graph.variables}


def _precision(config: Mapping[str, Any]) -> str:
    precision = str(config.get("compile", {}).get("precision", "float32"))
    if precision not in STORAGE:
        raise CheckpointError(f"The model's precision {precision!r} is unknown.")
    return precision


def _rebuild(path: Path, config: Mapping[str, Any]) -> Model:
    try:
        return model_from_config(config)
    except (GpunnError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{path}: its model configuration cannot be used: {error}") from error


def load_model(path: str | Path, *, compile: bool = True, device: str = "auto") -> Model:
    """Read a model from a file or a folder of checkpoints.

    Parameters
    ----------
    path : path
        What `Model.save` wrote, a checkpoint, or a folder of checkpoints (its latest).
    compile : bool, default True
        Also compile the model as it was when saved.
    device : str, default "auto"
        For `Model.compile`.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, or holds what a gpunn model file cannot hold.
    """
    file = checkpoints.resolve(Path(path))
    models: list[Model] = []

    def expect(config: dict[str, Any]) -> Expected:
        models.append(_rebuild(file, config))
        return Expected(_expected(models[0], _precision(config)))

    loaded = checkpoints.read(file, expect)
    model = models[0]
    model.set_weights([loaded.weights[v.path] for v in model.graph.variables])
    saved = loaded.model_config.get("compile")
    if compile and saved is not None:
        try:
            compile_from_config(model, saved, device)
        except (GpunnError, KeyError, TypeError) as error:
            if isinstance(error, GpunnError) and "device" in str(error):
                raise
            raise CheckpointError(f"{file}: cannot be compiled as saved: {error}") from error
    return model


def compile_from_config(model: Model, saved: Mapping[str, Any], device: str) -> None:
    """Compile `model` as a configuration says."""
    outputs = saved["outputs"]
    model.compile(
        optimizer=_optimizer(saved["optimizer"]),
        loss=[None if o["loss"] is None else losses.losses.from_config(o["loss"]) for o in outputs],
        metrics=[[metrics.metrics.from_config(m) for m in o["metrics"]] for o in outputs],
        loss_weights=[o["loss_weight"] for o in outputs],
        precision=saved["precision"],
        device=device,
    )


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
    own = model.get_config()

    def expect(config: dict[str, Any]) -> Expected:
        _check_same_model(file, own, config)
        weights = _expected(model, _precision(config))
        trainable = [v for v in model.graph.variables if v.trainable]
        slots = {
            f"{slot}/{v.path}": weights[v.path]
            for slot in model.compiled.optimizer.slots
            for v in trainable
        }
        return Expected(weights, slots)

    loaded = checkpoints.read(file, expect)
    if loaded.training is None:
        raise CheckpointError(
            f"{file}: holds a model but no state of training; it can be loaded with "
            f"gpunn.load_model, but not resumed."
        )
    return {
        "weights": loaded.weights,
        "optimizer": loaded.optimizer,
        "metrics": loaded.metrics,
        "training": loaded.training,
    }


def _check_same_model(file: Path, own: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Raise if the run cannot go on as it was: other layers, loss, optimizer or precision."""
    compiled, other = own.get("compile", {}), saved.get("compile", {})
    differing = [
        name
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
