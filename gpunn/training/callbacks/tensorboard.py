"""TensorBoard's event files: curves, histograms of the weights and the graph of the model."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gpunn.errors import ArgumentError, ArgumentTypeError, MissingPackageError
from gpunn.specs.graph import Graph
from gpunn.specs.registry import check_count, to_config
from gpunn.training.callbacks.base import Callback, Logs

PREFIX = "events.out.tfevents."
# As in Keras's histograms.
BUCKETS = 30
# Keras's arguments that are not supported, with their defaults.
UNSUPPORTED: dict[str, Any] = {
    "write_images": False,
    "profile_batch": 0,
    "embeddings_freq": 0,
    "embeddings_metadata": None,
}


class TensorBoard(Callback):
    """Writes event files for TensorBoard: ``tensorboard --logdir logs``. Needs tensorboardX.

    Parameters
    ----------
    log_dir : path, default "logs"
        Gets the folders ``train`` and ``validation``, which TensorBoard shows as two runs.
    histogram_freq : int, default 0
        Epochs between histograms of all weights, ``layer/kernel/histogram``; 0 for none. Values
        that are not finite are omitted from them.
    write_graph : bool, default True
        Whether to write the layers as a graph.
    write_images : bool, default False
        Keras's; only the default is supported.
    write_steps_per_second : bool, default False
        Whether to write ``epoch_steps_per_second``, without validation.
    update_freq : "epoch", "batch" or int, default "epoch"
        Steps between ``batch_loss`` and the other metrics of the epoch so far; "batch" is 1, and
        "epoch" omits them.
    profile_batch, embeddings_freq : int, default 0
        Keras's; only the default is supported.
    embeddings_metadata : None
        Keras's; only the default is supported.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument is not valid.
    MissingPackageError
        tensorboardX is not installed.

    Notes
    -----
    Tags are Keras's: ``epoch_loss``, the metrics and ``epoch_learning_rate`` by epoch (0, 1, ...),
    ``batch_loss`` and the metrics by step since the model was compiled, and in the validation run
    also ``evaluation_loss_vs_iterations``.

    A run that is resumed from a checkpoint continues its own files. Events after the checkpoint are
    removed, since training repeats them; to keep them, resume with another `log_dir`.

    Examples
    --------
    >>> board = gpunn.callbacks.TensorBoard("logs/first")           # doctest: +SKIP
    >>> model.fit(x, y, validation_split=0.1, callbacks=[board])    # doctest: +SKIP
    """

    def __init__(
        self,
        log_dir: str | Path = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: int = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: Any = None,
    ) -> None:
        given = (
            *(write_images, profile_batch),
            *(embeddings_freq, embeddings_metadata),
        )
        for (name, default), value in zip(UNSUPPORTED.items(), given, strict=True):
            if value != default:
                raise ArgumentError(
                    f"TensorBoard: {name} is not supported; leave it at {default!r}, not {value!r}."
                )
        if not isinstance(log_dir, str | os.PathLike):
            raise ArgumentTypeError(f"TensorBoard: log_dir must be a path, not {log_dir!r}.")
        if isinstance(update_freq, str) and update_freq not in ("epoch", "batch"):
            raise ArgumentError(
                "TensorBoard: update_freq must be 'epoch', 'batch' or a whole number of steps, "
                f"not {update_freq!r}."
            )
        _check_installed()
        self.log_dir = Path(log_dir)
        self.histogram_freq = check_count(
            "TensorBoard", "histogram_freq", histogram_freq, minimum=0
        )
        self.write_graph = bool(write_graph)
        self.write_steps_per_second = bool(write_steps_per_second)
        self.update_freq = 1 if update_freq == "batch" else update_freq
        if self.update_freq != "epoch":
            self.every_steps = check_count("TensorBoard", "update_freq", self.update_freq)
        self._files = {run: EventFile(self.log_dir / run) for run in ("train", "validation")}
        self._graph: Graph | None = None

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        # Not after the epoch, to report a folder that is not writable at once; nor before training,
        # where another callback may resume an earlier run, with its files.
        self._open()
        self._end_write()

    def _open(self) -> None:
        train, graph = self._files["train"], self.model.graph
        new = train.open()
        if self.write_graph and (new or self._graph not in (None, graph)):
            train.add(0, graph_def=graph_definition(graph).SerializeToString())
        self._graph = graph
        if self._files["validation"].started:
            self._files["validation"].open()

    def _end_write(self) -> None:
        """Make what was written visible to readers; a user's own loop may never end training."""
        self._close()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        from tensorboardX.summary import histogram

        trainer = self.trainer
        self._open()
        logs = dict(logs or {})
        held_out = {name: logs.pop(name) for name in list(logs) if name.startswith("val_")}
        metrics = {name.removeprefix("val_"): value for name, value in held_out.items()}
        train, validation = self._files["train"], self._files["validation"]
        logs["learning_rate"] = trainer.learning_rate
        if self.write_steps_per_second and trainer.epoch_seconds > 0:
            steps = trainer.steps_per_epoch
            if trainer.offset:  # the epoch was cut short
                steps = -(-trainer.offset // trainer.batch_size)
            logs["steps_per_second"] = steps / trainer.epoch_seconds
        train.scalars(epoch, {f"epoch_{name}": value for name, value in logs.items()})
        if metrics:
            by_step = {f"evaluation_{name}_vs_iterations": v for name, v in metrics.items()}
            validation.scalars(trainer.step_count, by_step)
            validation.scalars(epoch, {f"epoch_{name}": v for name, v in metrics.items()})
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            for path, weights in trainer.session.weights().items():
                values = np.asarray(weights, np.float64)
                values = values[np.isfinite(values)]
                if values.size:
                    train.add(epoch, summary=histogram(f"{path}/histogram", values, BUCKETS))
        self._end_write()

    def on_steps(self, step: int) -> None:
        metrics = self.trainer.logs()
        self._open()
        scalars = {f"batch_{name}": value for name, value in metrics.items()}
        self._files["train"].scalars(step, scalars)

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._close()

    def on_interrupt(self) -> None:
        self._close()

    def on_exception(self) -> None:
        # A full disk may be the error that ends training, which is already being raised.
        with suppress(OSError):
            self._close()

    def _close(self) -> None:
        try:
            self._files["train"].close()
        finally:
            self._files["validation"].close()

    def state_dict(self) -> dict[str, Any]:
        return {run: file.position() for run, file in self._files.items() if file.started}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for run, file in self._files.items():
            file.continue_at(state.get(run))


class EventFile:
    """A file of TensorBoard events that can be closed and continued.

    tensorboardX's own writer always starts a new file, and overwrites the previous one if both are
    created within a second.

    Parameters
    ----------
    folder : Path
        Created with the file.

    Notes
    -----
    The file is a sequence of records as in TensorFlow's `tensorflow/core/lib/io/record_writer.h`:
    the length (8 bytes), its masked CRC-32C, the event, its masked CRC-32C.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        # Bytes of the file to keep when it is next opened; None for all of them.
        self._keep: int | None = None

    @property
    def started(self) -> bool:
        """Whether there is a file to continue."""
        return self._path is not None

    def open(self) -> bool:
        """Open the file unless it is open; return whether it is new."""
        if self._file is not None:
            return False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._path is not None and self._path.is_file():
                keep, size = self._keep, self._path.stat().st_size
                if keep is None or keep <= size:
                    self._file = self._path.open("r+b")
                    self._file.truncate(size if keep is None else keep)
                    self._file.seek(0, os.SEEK_END)
                    self._keep = None
                    return False
            self._keep = None
            self._path, self._file = self._create()
        except OSError as error:
            raise ArgumentError(
                f"TensorBoard: log_dir must be a folder that can be written to; {error}."
            ) from error
        self.add(0, file_version="brain.Event:2")
        return True

    def _create(self) -> tuple[Path, BinaryIO]:
        name, number = f"{PREFIX}{int(time.time())}.{socket.gethostname()}.{os.getpid()}", 0
        while True:
            path = self.folder / f"{name}.{number}"
            try:
                return path, path.open("xb")
            except FileExistsError:
                number += 1

    def add(self, step: int, **content: Any) -> None:
        """Add an event with one of the fields of `Event`."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.record_writer import masked_crc32c

        self.open()
        assert self._file is not None
        event = Event(wall_time=time.time(), step=step, **content).SerializeToString()
        length = struct.pack("<Q", len(event))
        for part in (length, event):
            self._file.write(part + struct.pack("<I", masked_crc32c(part)))

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add a point to each of the curves."""
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in metrics.items()]
        self.add(step, summary=Summary(value=values))

    def flush(self) -> None:
        """Make what has been added visible to readers."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Close the file; `open` continues it."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def position(self) -> dict[str, Any]:
        """Return the file's name and length in bytes, for `continue_at`."""
        assert self._path is not None
        self.flush()
        if self._keep is not None:
            return {"name": self._path.name, "bytes": self._keep}
        size = self._path.stat().st_size if self._path.is_file() else 0
        return {"name": self._path.name, "bytes": size}

    def continue_at(self, position: object) -> None:
        """Continue where `position` was taken, if that file is still in the folder."""
        self.close()
        self._path = self._keep = None
        if not isinstance(position, Mapping):
            return
        name, size = position.get("name"), position.get("bytes")
        # Checkpoints are not trusted: only an event file of this folder is truncated.
        if not isinstance(name, str) or not name.startswith(PREFIX) or Path(name).name != name:
            return
        if isinstance(size, int) and size >= 0:
            self._path, self._keep = self.folder / name, size


def graph_definition(graph: Graph) -> Any:
    """Return the layers as a ``GraphDef``: a node per call, its op the layer's class."""
    from tensorboardX.proto.graph_pb2 import GraphDef
    from tensorboardX.proto.node_def_pb2 import NodeDef
    from tensorboardX.proto.versions_pb2 import VersionDef

    nodes = [
        NodeDef(
            name=node.name,
            op=node.layer.type_name,
            input=[graph.nodes[i].name for i in node.inputs],
            attr=dict(_attributes(graph, node)),
        )
        for node in graph.nodes
    ]
    return GraphDef(node=nodes, versions=VersionDef(producer=22))


def _attributes(graph: Graph, node: Any) -> Iterator[tuple[str, Any]]:
    from tensorboardX.proto.attr_value_pb2 import AttrValue
    from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto

    dims = [TensorShapeProto.Dim(size=size) for size in (-1, *node.shape)]
    shapes = AttrValue.ListValue(shape=[TensorShapeProto(dim=dims)])
    yield "_output_shapes", AttrValue(list=shapes)
    weights = sum(v.size for v in graph.variables if v.layer == node.layer_name)
    yield "parameters", AttrValue(i=weights)
    for name, value in to_config(node.layer)["config"].items():
        if value is not None and name != "name":
            text = value if isinstance(value, str) else json.dumps(value)
            yield name, AttrValue(s=text.encode())


def _check_installed() -> None:
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            f"TensorBoard: tensorboardX cannot be imported ({error}); "
            "pip install 'gpunn[tensorboard]' adds it."
        ) from error
