"""Files whose optimizer state is not that of their configuration: refused, the model can be had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from checkpoint_files import put
from small_models import assert_equal
from trained_models import classifier, train

import gpunn
from gpunn import Sequential, layers
from gpunn.checkpoints import files as checkpoints
from gpunn.checkpoints.files import Checkpoint
from gpunn.errors import CheckpointError


def counts(text: bytes) -> Callable[[h5py.File], None]:
    return lambda file: put(file, "training/state", np.frombuffer(text, np.uint8))


def delete(where: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(where)


def link(target: Any) -> Callable[[h5py.File], None]:
    def tamper(file: h5py.File) -> None:
        del file[SLOT]
        file[SLOT] = file[target] if isinstance(target, str) else target

    return tamper


def flip(file: h5py.File) -> None:
    file[SLOT][0, 0] += 1


VELOCITY = "optimizer/velocity"
SLOT = "optimizer/momentum/hidden/kernel"
KERNEL = np.zeros((4, 6), np.float32)
KEEPS = (
    r"The optimizer it was compiled with, Adam, keeps momentum and velocity for each weight, in "
    r"its shape; load_model\(\.\.\., compile=False\) reads the model without them\.$"
)
MISFITS: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "another shape": (
        lambda file: put(file, SLOT, KERNEL.T.copy()),
        r"is float32 of shape \(6, 4\), but its configuration requires float32 of \(4, 6\)\.",
    ),
    "another type": (lambda file: put(file, SLOT, KERNEL.astype("<f8")), "kernel is float64 of"),
    "an unknown slot": (
        lambda file: file.create_group("optimizer/velocity_hat"),
        "/optimizer holds 'velocity_hat', which does not belong there",
    ),
    "a missing slot": (delete(VELOCITY), "/optimizer lacks 'velocity', which belongs"),
    "a missing layer": (delete("optimizer/momentum/out"), "/optimizer/momentum lacks 'out'"),
    "a missing weight": (delete(SLOT), "/optimizer/momentum/hidden lacks 'kernel'"),
    "no slots": (
        lambda file: (
            [file.__delitem__(f"optimizer/{name}") for name in ("momentum", "velocity")] and None
        ),
        "/optimizer lacks 'momentum', 'velocity'",
    ),
    "no counts": (delete("training/state"), "slots of an optimizer, but not how far it had come"),
    "damage": (flip, "kernel does not match its checksum"),
    "a soft link": (link(h5py.SoftLink("/model/weights/hidden/kernel")), "is a soft link"),
    "an external link": (link(h5py.ExternalLink("b.h5", "/x")), "is a link to another file"),
    "the weights": (link("model/weights/hidden/kernel"), "is a second link to one object"),
    "compressed": (lambda file: put(file, SLOT, KERNEL, compression="gzip"), "is compressed"),
    "no JSON": (counts(b"{"), "/training/state is not JSON"),
    "too much JSON": (
        lambda file: put(file, "training/state", np.zeros((64 << 20) + 1, np.uint8)),
        "/training/state has 67108865 bytes, at most 67108864 are allowed",
    ),
    "no counts in it": (counts(b"{}"), "damaged: its step is None"),
    "a negative count": (
        counts(b'{"step": -1, "first_epoch": 0, "epoch": 0}'),
        "damaged: its step is -1",
    ),
    "a count that is too large": (
        counts(b'{"step": 1, "first_epoch": 18446744073709551616, "epoch": 0}'),
        "damaged: its first_epoch is 18446744073709551616",
    ),
    "a count that is none": (
        counts(b'{"step": 1, "first_epoch": 0, "epoch": true}'),
        "damaged: its epoch is True",
    ),
}


@pytest.mark.parametrize(("tamper", "found"), MISFITS.values(), ids=MISFITS.keys())
def test_slots_that_do_not_fit_are_refused_and_the_model_can_be_had(
    tmp_path: Path, tamper: Callable[[h5py.File], None], found: str
) -> None:
    model = train(classifier())
    path = model.save(tmp_path / "model.keras")
    with h5py.File(path, "r+") as file:
        tamper(file)
    with pytest.raises(CheckpointError, match=rf"model\.keras: .*{found}.*{KEEPS}"):
        gpunn.load_model(path, device="reference")
    bare = gpunn.load_model(path, compile=False)
    assert_equal(bare.get_weights(), model.get_weights())
    other = classifier()
    other.load_weights(path)
    assert_equal(other.get_weights(), model.get_weights())


def test_slots_of_an_optimizer_that_has_none(tmp_path: Path) -> None:
    path = train(classifier("sgd")).save(tmp_path / "model.h5")
    with h5py.File(path, "r+") as file:
        put(file, SLOT, KERNEL)
    with pytest.raises(CheckpointError, match=r"holds 'momentum'.*, SGD, keeps no slots"):
        gpunn.load_model(path, device="reference")


def test_slots_larger_than_the_file(tmp_path: Path) -> None:
    model = Sequential([gpunn.Input((50,)), layers.Dense(100)])
    model.compile("adam", "mse", device="reference")
    weights = {v.path: model._read(v) for v in model.graph.variables}
    state = {"step": 1, "first_epoch": 1, "epoch": 0}
    checkpoints.write(tmp_path / "a.h5", Checkpoint(model.get_config(), weights, training=state))
    with pytest.raises(CheckpointError, match="requires 61200 bytes of arrays, but the whole"):
        gpunn.load_model(tmp_path / "a.h5", device="reference")
    bare = gpunn.load_model(tmp_path / "a.h5", compile=False)
    assert_equal(bare.get_weights(), model.get_weights())
