"""The HDF5 layout of a checkpoint, and its encoding as bytes.

::

    /                                      attributes: format = "gpunn", format_version = 1
    /model/config                          UTF-8 JSON, as a 1-D uint8 dataset
    /model/weights/<layer>/<parameter>
    /optimizer/<slot>/<layer>/<parameter>
    /training/state                        UTF-8 JSON; absent if the model was not trained
    /training/metrics/<name>

A saved model has no metrics, and its training state is where the next `fit` continues;
`gpunn/training/state.py` defines its contents, and those of a run's state.

Datasets are little-endian, contiguous and unfiltered. The attribute ``sha256`` of each is the
hexadecimal SHA-256 of ``"<dtype> <shape>\\n"`` (as in ``"<f4 784,100\\n"``) followed by its bytes.
It detects damage, but it is not a signature: whoever can change the data can change the checksum.

`reader` reads such a file. Mind its warning: libhdf5 parses a file before any check of ours can
run.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunn.errors import CheckpointError

FORMAT_NAME = "gpunn"
FORMAT_VERSION = 1

MAX_BYTES = 32 << 30  # of one file
MAX_JSON_BYTES = 64 << 20  # of each of the two JSON texts
MAX_METRICS_BYTES = 16 << 20  # of all metrics, whose sizes the configuration does not determine
MAX_METRICS = 1024

_CODES = ("?", "i1", "<i2", "<i4", "<i8", "u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8")
DTYPES = tuple(np.dtype(code) for code in _CODES)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """All that is needed to use a model, or to continue training it, as host arrays and JSON.

    JSON preserves integers of any size and every float, including NaN and infinities; a tuple
    becomes a list.

    Attributes
    ----------
    model_config : dict
        Configuration of the model, JSON-serializable.
    weights : mapping of str to ndarray
        Keyed ``"<layer>/<parameter>"``.
    optimizer : mapping of str to ndarray
        Keyed ``"<slot>/<layer>/<parameter>"``.
    training : dict or None
        State of the training, JSON-serializable; None for a model that was not trained.
    metrics : mapping of str to ndarray
        Accumulators of the metrics, keyed by name.
    """

    model_config: dict[str, Any]
    weights: Mapping[str, np.ndarray]
    optimizer: Mapping[str, np.ndarray] = field(default_factory=dict)
    training: dict[str, Any] | None = None
    metrics: Mapping[str, np.ndarray] = field(default_factory=dict)


Signature = Mapping[str, tuple[tuple[int, ...], npt.DTypeLike]]


@dataclass(frozen=True)
class Expected:
    """Names, shapes and dtypes that a validated configuration requires.

    Attributes
    ----------
    weights : mapping of str to (shape, dtype)
        Keyed as `Checkpoint.weights`.
    optimizer : mapping of str to (shape, dtype), or None
        Keyed as `Checkpoint.optimizer`; None leaves optimizer and training state unread.
    advice : str
        Appended to errors about optimizer or training state.
    """

    weights: Signature
    optimizer: Signature | None = None
    advice: str = ""


def encode(checkpoint: Checkpoint) -> bytes:
    """Encode a checkpoint as the bytes of an HDF5 file; equal content gives equal bytes.

    Parameters
    ----------
    checkpoint : Checkpoint
        What to save.

    Returns
    -------
    bytes
        The contents of the file.

    Raises
    ------
    CheckpointError
        A name, dtype or value cannot be stored, or is larger than `read` accepts.
    """
    import h5py

    arrays = {"model/config": _dump_json(checkpoint.model_config, "model_config")}
    arrays |= _under("model/weights", checkpoint.weights, depth=2)
    arrays |= _under("optimizer", checkpoint.optimizer, depth=3)
    metrics = _under("training/metrics", checkpoint.metrics, depth=1)
    arrays |= metrics
    if checkpoint.training is not None:
        arrays["training/state"] = _dump_json(checkpoint.training, "training")

    metrics_bytes = sum(array.nbytes for array in metrics.values())
    if len(metrics) > MAX_METRICS or metrics_bytes > MAX_METRICS_BYTES:
        allowed = f"{MAX_METRICS} metrics of {MAX_METRICS_BYTES} bytes together"
        raise CheckpointError(f"Cannot save more than {allowed}.")
    if sum(array.nbytes for array in arrays.values()) > MAX_BYTES:
        raise CheckpointError(f"Cannot save a checkpoint of more than {MAX_BYTES} bytes.")

    # libhdf5 identifies in-memory files by name, so two threads must not use the same one. The
    # "earliest" layout has no time stamps in groups, which some releases of h5py write.
    name = f"gpunn-{secrets.token_hex(8)}"
    layout = {"libver": ("earliest", "v108"), "track_order": False}
    with h5py.File(name, "w", driver="core", backing_store=False, **layout) as file:
        file.attrs["format"] = np.bytes_(FORMAT_NAME)
        file.attrs.create("format_version", FORMAT_VERSION, dtype="<i8")
        for group in ("model/weights", "optimizer", "training/metrics"):
            file.create_group(group)
        for where, array in sorted(arrays.items()):
            dataset = file.create_dataset(where, data=array, track_times=False)
            dataset.attrs["sha256"] = np.bytes_(digest(array))
        file.flush()
        return file.id.get_file_image()


def digest(array: np.ndarray) -> str:
    """Return the checksum of the dtype, shape and bytes of a contiguous little-endian array."""
    shape = ",".join(map(str, array.shape))
    checksum = hashlib.sha256(f"{array.dtype.str} {shape}\n".encode())
    checksum.update(array.reshape(-1).view(np.uint8).data)
    return checksum.hexdigest()


def _dump_json(value: dict[str, Any], what: str) -> np.ndarray:
    try:
        _check_json(value, what)
        text = json.dumps(value).encode()
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"Cannot save {what} as JSON: {error}.") from error
    if len(text) > MAX_JSON_BYTES:
        raise CheckpointError(f"Cannot save {what}: more than {MAX_JSON_BYTES} bytes of JSON.")
    return np.frombuffer(text, np.uint8)


def _check_json(value: object, where: str) -> None:
    """Raise an error for values that `json.dumps` would change (keys other than str) or reject."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise CheckpointError(f"Cannot save {where}: its key {key!r} is not a string.")
            _check_json(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_json(item, f"{where}[{index}]")
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise CheckpointError(
            f"Cannot save {where}: {type(value).__name__} is not JSON; give a plain Python value."
        )


def _under(prefix: str, arrays: Mapping[str, np.ndarray], depth: int) -> dict[str, np.ndarray]:
    """Validate names of `depth` parts and convert their arrays to the stored form."""
    stored = {}
    for name, array in arrays.items():
        parts = name.split("/")
        if len(parts) != depth or any(part in ("", ".") or "\0" in part for part in parts):
            raise CheckpointError(
                f"Cannot save {name!r} under /{prefix}: the name must be {depth} part(s) joined "
                "by '/', none of them empty, '.' or with a null character."
            )
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise CheckpointError(f"Cannot save {name!r}: the name is not valid text.") from error
        array = np.asarray(array)
        dtype = array.dtype.newbyteorder("<")
        if dtype not in DTYPES or array.ndim > 32:
            raise CheckpointError(
                f"Cannot save {name!r}: {array.dtype} of {array.ndim} dimensions; a checkpoint "
                "holds bool, integers, and float16 to float64, of up to 32 dimensions."
            )
        stored[f"{prefix}/{name}"] = np.asarray(array, dtype, order="C")
    return stored
