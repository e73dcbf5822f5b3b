"""A small checkpoint, and a way to tamper with files down to their checksums."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

from gpunn.checkpoints.files import Checkpoint, Expected


def signature(arrays: Any) -> dict[str, Any]:
    return {name: (array.shape, array.dtype) for name, array in arrays.items()}


def expect_all(checkpoint: Checkpoint) -> Callable[[dict[str, Any]], Expected]:
    expected = Expected(signature(checkpoint.weights), signature(checkpoint.optimizer))
    return lambda config: expected


def small(step: int = 7) -> Checkpoint:
    return Checkpoint(
        model_config={"layers": ["dense"]},
        weights={
            "dense/kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
            "dense/bias": np.full(4, step, np.float32),
        },
        optimizer={"m/dense/kernel": np.ones((3, 4), np.float32), "count/all/t": np.array(step)},
        training={"step": step},
        metrics={"hits": np.array([3, 4]), "seen": np.array([True, False])},
    )


def assert_same_arrays(actual: Any, wanted: Any) -> None:
    assert actual.keys() == wanted.keys()
    for name, array in wanted.items():
        assert actual[name].dtype == array.dtype
        assert actual[name].shape == array.shape
        assert actual[name].tobytes() == array.tobytes()


def put(file: h5py.File, where: str, array: Any, **options: Any) -> h5py.Dataset:
    """Put a dataset with a right checksum in place of what is there."""
    if where in file:
        del file[where]
    dataset = file.create_dataset(where, data=array, **options)
    shape = ",".join(map(str, array.shape))
    content = f"{array.dtype.str} {shape}\n".encode() + array.tobytes()
    dataset.attrs["sha256"] = np.bytes_(hashlib.sha256(content).hexdigest())
    return dataset


KERNEL = "model/weights/dense/kernel"
kernel = small().weights["dense/kernel"]
