"""Reading a checkpoint without trusting it.

A file is only data: its JSON is parsed, but never imported or executed. The reader rejects
whatever `format.encode` does not write, compares every name, shape and dtype with what the
configuration requires before it reads the first weight, and never reads more bytes than the file
has. JSON and metrics, whose sizes the configuration does not determine, have their own limits.

One limitation remains: **libhdf5, which is written in C, parses a file before any check here can
run.** A file from someone you do not trust is as dangerous as the installed libhdf5 is vulnerable;
keep h5py up to date.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from gpunn.checkpoints.format import (
    DTYPES,
    FORMAT_NAME,
    FORMAT_VERSION,
    MAX_BYTES,
    MAX_JSON_BYTES,
    MAX_METRICS,
    MAX_METRICS_BYTES,
    Checkpoint,
    Expected,
    Signature,
    digest,
)
from gpunn.errors import CheckpointError

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
MAX_NAMES = 1 << 16  # entries listed of a group before their names are compared
OLDER = "Use an older checkpoint of the same folder if there is one."


def read(path: str | os.PathLike[str], expect: Callable[[dict[str, Any]], Expected]) -> Checkpoint:
    """Read a checkpoint and compare it with what its own configuration requires.

    Parameters
    ----------
    path : path-like
        File to read.
    expect : callable
        Called with the verified model configuration; validates it and returns the `Expected` names,
        shapes and dtypes. Its errors are passed on unchanged.

    Returns
    -------
    Checkpoint
        With an empty optimizer, no training state and no metrics if `expect` requested none.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, from a newer gpunn, or contains anything unexpected.
    """
    with _opened(Path(path)) as reader:
        with _damage_reported(reader.path):
            config = reader.config()
        expected = expect(config)
        with _damage_reported(reader.path):
            return reader.checkpoint(config, expected)


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read only the verified model configuration of a checkpoint.

    Parameters
    ----------
    path : path-like
        File to read.

    Returns
    -------
    dict
        The configuration.

    Raises
    ------
    CheckpointError
        As for `read`.
    """
    with _opened(Path(path)) as reader, _damage_reported(reader.path):
        return reader.config()


@contextmanager
def _opened(path: Path) -> Iterator[_Reader]:
    import h5py

    try:
        size = path.stat().st_size
        if regular := path.is_file():  # opening a pipe would wait for its writer
            with path.open("rb") as stream:
                start = stream.read(len(HDF5_MAGIC))
    except OSError as error:
        _refuse(path, error.strerror or str(error))
    if not regular:
        _refuse(path, "it is a directory" if path.is_dir() else "it is not a regular file")
    if start != HDF5_MAGIC:
        _refuse(path, "it is not an HDF5 file" if start else "it is empty", OLDER)
    if size > MAX_BYTES:
        _refuse(path, f"it has {size} bytes, at most {MAX_BYTES} are allowed")
    with _damage_reported(path):
        # Checkpoints are replaced, never modified, and some network file systems cannot lock.
        file = h5py.File(path, "r", locking=False)
    with file:
        with _damage_reported(path):
            reader = _Reader(path, file, size)
        yield reader


@contextmanager
def _damage_reported(path: Path) -> Iterator[None]:
    """Convert errors of the system or of h5py while reading to a CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError) as error:
        raise CheckpointError(
            f"Cannot read checkpoint {path}: truncated or damaged ({error}). {OLDER}"
        ) from error


def _refuse(path: Path, found: str, advice: str = "") -> NoReturn:
    raise CheckpointError(f"Cannot read checkpoint {path}: {found}. {advice}".rstrip())


class _Node(NamedTuple):
    """An open group or dataset; `shape` and `dtype` are those of a checked dataset."""

    id: Any  # h5py's low-level identifier
    where: str
    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] = DTYPES[0]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class _Reader:
    """An open file whose objects are validated before their data are read.

    It uses h5py's low-level interface: the high-level one follows links, inspects the sources of
    virtual datasets and creates Python objects of stored types before a check can run.
    """

    def __init__(self, path: Path, file: Any, size: int) -> None:
        from h5py import h5o

        self.path = path
        self.size = size
        self.advice = ""
        self.root = _Node(h5o.open(file.id, b"/"), "")
        self.seen = {h5o.get_info(self.root.id).addr}
        if _attribute(self.root, b"format", f"S{len(FORMAT_NAME)}") != FORMAT_NAME.encode():
            self.refuse("it is an HDF5 file, but not one of gpunn's checkpoints")
        version = _attribute(self.root, b"format_version", "<i8")
        if version is not None and version > FORMAT_VERSION:
            found = f"written by a newer gpunn: format {version}, this one reads {FORMAT_VERSION}"
            self.refuse(found, "Upgrade gpunn.")
        if version != FORMAT_VERSION:
            self.refuse(f"its format version is unknown or missing ({version})")
        self.check_names(self.root, {"model", "optimizer", "training"})
        self.model = self.group(self.root, "model")

    def config(self) -> dict[str, Any]:
        self.check_names(self.model, {"config", "weights"})
        return self.load_json(self.dataset(self.model, "config"))

    def checkpoint(self, config: dict[str, Any], expected: Expected) -> Checkpoint:
        """Validate everything that `expected` names, then read it."""
        if expected.optimizer is not None:
            slots, training = self.group(self.root, "optimizer"), self.group(self.root, "training")
            has_state = "state" in self.names(training)
            if expected.optimizer and not has_state and not self.names(slots):
                # The file is that of a saved model.
                expected = Expected(expected.weights)
        wanted = [*expected.weights.values(), *(expected.optimizer or {}).values()]
        needed = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in wanted)
        if needed > self.size:
            found = f"its configuration requires {needed} bytes of arrays"
            self.refuse(f"{found}, but the whole file has {self.size}", OLDER)

        weights = self.datasets(self.group(self.model, "weights"), expected.weights)
        if expected.optimizer is None:
            return Checkpoint(config, self.load_all(weights))
        self.advice = expected.advice
        optimizer = self.datasets(slots, expected.optimizer)
        self.check_names(training, {"metrics", "state"} if has_state else {"metrics"})
        metrics = self.metrics(self.group(training, "metrics"))
        state = self.load_json(self.dataset(training, "state")) if has_state else None
        optimizer_arrays, metrics_arrays = self.load_all(optimizer), self.load_all(metrics)
        self.advice = ""
        return Checkpoint(config, self.load_all(weights), optimizer_arrays, state, metrics_arrays)

    def refuse(self, found: str, advice: str = "") -> NoReturn:
        _refuse(self.path, found, f"{advice} {self.advice}".strip())

    def names(self, group: _Node, limit: int = MAX_NAMES) -> list[str]:
        count = group.id.get_num_objs()
        if count > limit:
            self.refuse(f"{group.where or '/'} has {count} entries, at most {limit} are allowed")
        return [name.decode() for name in group.id]

    def check_names(self, group: _Node, expected: Collection[str]) -> None:
        found = set(self.names(group, limit=max(len(expected), MAX_NAMES)))
        where = group.where or "/"
        if missing := set(expected) - found:
            self.refuse(f"{where} lacks {_some(missing)}, which belongs there")
        if unknown := found - set(expected):
            self.refuse(f"{where} holds {_some(unknown)}, which does not belong there")

    def child(self, parent: _Node, name: str) -> _Node:
        """Open the target of a hard link; each object only once."""
        from h5py import h5l, h5o

        where = f"{parent.where}/{name}"
        kind = parent.id.links.get_info(name.encode()).type
        if kind != h5l.TYPE_HARD:
            kinds = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "a link to another file"}
            self.refuse(f"{where} is {kinds.get(kind, 'a user-defined link')}")
        node = _Node(h5o.open(parent.id, name.encode()), where)
        address = h5o.get_info(node.id).addr
        if address in self.seen:
            self.refuse(f"{where} is a second link to one object of the file")
        self.seen.add(address)
        return node

    def group(self, parent: _Node, name: str) -> _Node:
        from h5py import h5g

        node = self.child(parent, name)
        if not isinstance(node.id, h5g.GroupID):
            self.refuse(f"{node.where} is not a group")
        return node

    def dataset(self, parent: _Node, name: str) -> _Node:
        """Open a dataset that is stored as gpunn stores them, without reading it."""
        from h5py import h5d, h5s

        node = self.child(parent, name)
        if not isinstance(node.id, h5d.DatasetID):
            self.refuse(f"{node.where} is not a dataset")
        # Must come first: the shape of a virtual dataset can open the files it refers to.
        properties = node.id.get_create_plist()
        if properties.get_nfilters():
            self.refuse(f"{node.where} is compressed or filtered; gpunn writes plain data")
        if (layout := properties.get_layout()) != h5d.CONTIGUOUS:
            layouts = {h5d.COMPACT: "compact", h5d.CHUNKED: "chunked", h5d.VIRTUAL: "virtual"}
            found = f"{node.where} is a {layouts.get(layout, 'strange')} dataset"
            self.refuse(f"{found}; gpunn writes contiguous ones")
        if properties.get_external_count():
            self.refuse(f"{node.where} has its data in another file (external storage)")
        dtype = self.stored_dtype(node)
        space = node.id.get_space()
        if space.get_simple_extent_type() == h5s.NULL:
            self.refuse(f"{node.where} has no shape (a null dataspace)")
        node = _Node(node.id, node.where, space.shape, dtype)
        stored = node.id.get_storage_size()
        if stored != node.nbytes:
            self.refuse(f"{node.where} needs {node.nbytes} bytes, but has {stored}", OLDER)
        return node

    def stored_dtype(self, node: _Node) -> np.dtype[Any]:
        from h5py import h5t

        kind = node.id.get_type()
        for dtype in DTYPES:
            # A named datatype is a separate object, which other datasets may share.
            if not kind.committed() and kind.equal(h5t.py_create(dtype, logical=True)):
                return dtype
        found = type(kind).__name__.removeprefix("Type").removesuffix("ID").lower()
        if kind.committed():
            found = f"named {found}"
        elif kind.get_class() in (h5t.INTEGER, h5t.FLOAT) and kind.get_order() == h5t.ORDER_BE:
            found = f"big-endian {found}"
        allowed = "little-endian bool, integers and float16 to float64"
        self.refuse(f"{node.where} has a datatype ({found}) other than {allowed}")

    def datasets(self, group: _Node, signature: Signature) -> dict[str, _Node]:
        """Find exactly the datasets of a signature in a group, by name, shape and dtype."""
        children: dict[str, dict[str, Any]] = {}
        for name, wanted in signature.items():
            head, _, rest = name.partition("/")
            children.setdefault(head, {})[rest] = wanted
        self.check_names(group, children.keys())
        found: dict[str, _Node] = {}
        for head, below in children.items():
            if "" not in below:
                inner = self.datasets(self.group(group, head), below)
                found |= {f"{head}/{rest}": node for rest, node in inner.items()}
                continue
            node = found[head] = self.dataset(group, head)
            shape, dtype = tuple(below[""][0]), np.dtype(below[""][1])
            if node.shape != shape or node.dtype != dtype.newbyteorder("<"):
                actual = f"{node.where} is {node.dtype} of shape {node.shape}"
                self.refuse(f"{actual}, but its configuration requires {dtype} of {shape}")
        return found

    def metrics(self, group: _Node) -> dict[str, _Node]:
        found = {name: self.dataset(group, name) for name in self.names(group, MAX_METRICS)}
        total = sum(node.nbytes for node in found.values())
        if total > MAX_METRICS_BYTES:
            self.refuse(f"{group.where} has {total} bytes, at most {MAX_METRICS_BYTES} are allowed")
        return found

    def load_all(self, nodes: Mapping[str, _Node]) -> dict[str, np.ndarray]:
        return {name: self.load(node) for name, node in nodes.items()}

    def load(self, node: _Node) -> np.ndarray:
        from h5py import h5s

        array = np.empty(node.shape, node.dtype)
        if array.size:
            node.id.read(h5s.ALL, h5s.ALL, array, node.id.get_type())
        if _attribute(node, b"sha256", "S64") != digest(array).encode():
            found = f"{node.where} does not match its checksum (sha256): the file is damaged"
            self.refuse(found, OLDER)
        if array.dtype == bool and np.any(array.view(np.uint8) > 1):
            self.refuse(f"{node.where} has booleans that are neither 0 nor 1")
        return array

    def load_json(self, node: _Node) -> dict[str, Any]:
        if node.dtype != np.uint8 or len(node.shape) != 1:
            self.refuse(f"{node.where} is not JSON text (1-D uint8)")
        if node.nbytes > MAX_JSON_BYTES:
            self.refuse(
                f"{node.where} has {node.nbytes} bytes, at most {MAX_JSON_BYTES} are allowed"
            )
        try:
            value = json.loads(self.load(node).tobytes().decode())
        except (ValueError, RecursionError) as error:
            self.refuse(f"{node.where} is not JSON ({error})")
        if not isinstance(value, dict):
            self.refuse(f"{node.where} is not a JSON object")
        return value


def _attribute(node: _Node, name: bytes, dtype: str) -> Any:
    """Read a scalar attribute of exactly this dtype; None if there is no such attribute."""
    from h5py import h5a, h5t

    if not h5a.exists(node.id, name):
        return None
    attribute = h5a.open(node.id, name)
    # h5py does not compare sizes here: a larger attribute would be written past the end.
    if attribute.shape != () or not attribute.get_type().equal(h5t.py_create(np.dtype(dtype))):
        return None
    value = np.zeros((), dtype)
    attribute.read(value)
    return value[()]


def _some(names: Collection[str]) -> str:
    return ", ".join(map(repr, sorted(names)[:5])) + (", ..." if len(names) > 5 else "")
