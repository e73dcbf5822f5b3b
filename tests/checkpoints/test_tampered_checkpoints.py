"""Checkpoints that were tampered with or damaged are refused, and nothing in them is run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from checkpoint_files import (
    KERNEL,
    assert_same_arrays,
    expect_all,
    kernel,
    put,
    signature,
    small,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gpunn.checkpoints import format as hdf5_format
from gpunn.checkpoints import reader as hdf5_reader
from gpunn.checkpoints.files import Expected, read, read_config, write
from gpunn.errors import CheckpointError

# Each function changes a good file in one way.


def replace_by(**options: Any) -> Callable[[h5py.File], Any]:
    return lambda file: put(file, KERNEL, kernel, **options)


def typed(dtype: Any, data: Any = None) -> Callable[[h5py.File], None]:
    def tamper(file: h5py.File) -> None:
        del file[KERNEL]
        if data is None:
            file.create_dataset(KERNEL, (3, 4), dtype)
        else:
            file.create_dataset(KERNEL, data=data, dtype=dtype)

    return tamper


def link(target: Any, where: str = KERNEL) -> Callable[[h5py.File], None]:
    def tamper(file: h5py.File) -> None:
        del file[where]
        file[where] = target

    return tamper


def hard_link(where: str, target: str) -> Callable[[h5py.File], None]:
    def tamper(file: h5py.File) -> None:
        if where in file:
            del file[where]
        file[where] = file[target]

    return tamper


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 4), np.float32)
    layout[:] = h5py.VirtualSource("other.h5", "x", (3, 4))
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


def external(file: h5py.File) -> None:
    secret = Path(file.filename).with_name("secret")
    secret.write_bytes(kernel.tobytes())
    put(file, KERNEL, kernel, external=[(str(secret), 0, kernel.nbytes)])


def compact(file: h5py.File) -> None:
    del file[KERNEL]
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((3, 4))
    kind = h5py.h5t.IEEE_F32LE
    h5py.h5d.create(file["model/weights/dense"].id, b"kernel", kind, space, properties)


def unallocated(file: h5py.File) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (3, 4), np.float32)


def named_type(file: h5py.File) -> None:
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.commit(file.id, b"model/weights/dense/named")
    del file[KERNEL]
    space = h5py.h5s.create_simple((3, 4))
    h5py.h5d.create(file["model/weights/dense"].id, b"kernel", kind, space)
    del file["model/weights/dense/named"]


def json_text(text: bytes, where: str = "model/config") -> Callable[[h5py.File], Any]:
    return lambda file: put(file, where, np.frombuffer(text, np.uint8))


def bad_bool(file: h5py.File) -> None:
    dataset = put(file, "training/metrics/seen", np.array([2, 0], np.uint8).view(bool))
    raw = dataset.id
    raw.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([2, 0], np.uint8).view(bool), raw.get_type())


REFUSALS: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "soft link": (link(h5py.SoftLink("/model/weights/dense/bias")), "kernel is a soft link"),
    "soft link to a group": (
        link(h5py.SoftLink("/optimizer"), "model/weights/dense"),
        "dense is a soft link",
    ),
    "dangling soft link": (link(h5py.SoftLink("/nowhere")), "kernel is a soft link"),
    "external link": (link(h5py.ExternalLink("b.h5", "/x")), "kernel is a link to another file"),
    "alias of a dataset": (
        hard_link("model/weights/dense/bias", KERNEL),
        "is a second link to one object",
    ),
    "cycle of groups": (hard_link("model/weights/dense", "/"), "is a second link to one object"),
    "optimizer is weights": (
        hard_link("optimizer/m/dense", "model/weights/dense"),
        "is a second link to one object",
    ),
    "virtual": (virtual, "kernel is a virtual dataset"),
    "external storage": (external, "data in another file"),
    "compact": (compact, "kernel is a compact dataset"),
    "chunked": (replace_by(chunks=(3, 4)), "kernel is a chunked dataset"),
    "compressed": (replace_by(compression="gzip"), "is compressed or filtered"),
    "checksummed": (replace_by(fletcher32=True), "is compressed or filtered"),
    "unallocated": (unallocated, "needs 48 bytes and has 0"),
    "null dataspace": (typed("<f4", h5py.Empty("<f4")), "has no shape"),
    "big-endian": (typed(">f4"), "big-endian float"),
    "vlen string": (typed(h5py.string_dtype()), r"datatype \(string\)"),
    "fixed string": (typed("S4"), r"datatype \(string\)"),
    "vlen": (typed(h5py.vlen_dtype(np.int8)), r"datatype \(vlen\)"),
    "reference": (typed(h5py.ref_dtype), r"datatype \(reference\)"),
    "compound": (typed([("a", "<f4")]), r"datatype \(compound\)"),
    "opaque": (typed("V4"), r"datatype \(opaque\)"),
    "enumeration": (typed(h5py.enum_dtype({"a": 0, "b": 1}, "i1")), r"datatype \(enum\)"),
    "named datatype": (named_type, "named float"),
    "other dtype": (
        lambda file: put(file, KERNEL, kernel.astype("<f8")),
        r"is float64 of shape \(3, 4\), its configuration calls for float32",
    ),
    "other shape": (
        lambda file: put(file, KERNEL, kernel.T.copy()),
        r"shape \(4, 3\), its configuration calls for float32 of \(3, 4\)",
    ),
    "missing weight": (lambda file: file.__delitem__(KERNEL), "dense lacks 'kernel'"),
    "missing layer": (lambda file: file.__delitem__("model/weights/dense"), "lacks 'dense'"),
    "unknown weight": (lambda file: put(file, KERNEL + "2", kernel), "dense holds 'kernel2'"),
    "unknown layer": (lambda file: file.create_group("model/weights/x"), "weights holds 'x'"),
    "unknown slot": (lambda file: file.create_group("optimizer/v"), "optimizer holds 'v'"),
    "unknown top group": (lambda file: file.create_group("extra"), "/ holds 'extra'"),
    "unknown in model": (lambda file: file.create_group("model/code"), "/model holds 'code'"),
    "unknown in training": (lambda file: file.create_group("training/x"), "/training holds 'x'"),
    "no optimizer": (lambda file: file.__delitem__("optimizer"), "/ lacks 'optimizer'"),
    "group for a dataset": (
        lambda file: (file.__delitem__(KERNEL), file.create_group(KERNEL)),
        "kernel is not a dataset",
    ),
    "dataset for a group": (
        lambda file: (file.__delitem__("optimizer"), put(file, "optimizer", kernel)),
        "/optimizer is not a group",
    ),
    "a metric in a group": (
        lambda file: file.create_group("training/metrics/deep"),
        "deep is not a dataset",
    ),
    "too many bytes of metrics": (
        lambda file: put(file, "training/metrics/big", np.zeros(2**21 + 1)),
        r"metrics has \d+ bytes, \d+ are allowed",
    ),
    "too many metrics": (
        lambda file: [file.create_group(f"training/metrics/{i}") for i in range(1025)],
        r"metrics has 1027 entries, 1024 are allowed",
    ),
    "boolean of 2": (bad_bool, "neither 0 nor 1"),
    "flipped weight": (
        lambda file: file[KERNEL].__setitem__((0, 0), -1),
        "kernel does not match its checksum .* Use an older checkpoint",
    ),
    "flipped state": (
        lambda file: file["training/state"].__setitem__(0, 0),
        "state does not match its checksum",
    ),
    "flipped metric": (
        lambda file: file["training/metrics/hits"].__setitem__(0, 9),
        "hits does not match its checksum",
    ),
    "no checksum": (
        lambda file: file[KERNEL].attrs.__delitem__("sha256"),
        "kernel does not match its checksum",
    ),
    "checksum of another type": (
        lambda file: file[KERNEL].attrs.__setitem__("sha256", "a string"),
        "kernel does not match its checksum",
    ),
    "several checksums": (
        lambda file: file[KERNEL].attrs.__setitem__("sha256", [file[KERNEL].attrs["sha256"]] * 3),
        "kernel does not match its checksum",
    ),
    "not a checkpoint": (
        lambda file: file.attrs.__delitem__("format"),
        "HDF5 file, but not one of gpunn's checkpoints",
    ),
    "other format": (
        lambda file: file.attrs.__setitem__("format", np.bytes_("keras")),
        "HDF5 file, but not one of gpunn's checkpoints",
    ),
    "format without a value": (
        lambda file: file.attrs.__setitem__("format", h5py.Empty("S5")),
        "HDF5 file, but not one of gpunn's checkpoints",
    ),
    "newer": (
        lambda file: file.attrs.__setitem__("format_version", np.int64(2)),
        "written by a newer gpunn: format 2, this one reads 1. Upgrade gpunn",
    ),
    "older": (
        lambda file: file.attrs.__setitem__("format_version", np.int64(0)),
        r"format version is unknown or missing \(0\)",
    ),
    "no version": (
        lambda file: file.attrs.__delitem__("format_version"),
        r"format version is unknown or missing \(None\)",
    ),
    "configuration of another type": (
        lambda file: put(file, "model/config", np.zeros((2, 2), np.uint8)),
        "config is not JSON text",
    ),
    "no JSON": (json_text(b"{"), "config is not JSON"),
    "no UTF-8": (json_text(b'{"a": "\xff"}'), "config is not JSON"),
    "JSON list": (json_text(b"[1]"), "config is not a JSON object"),
    "deep JSON": (json_text(b"[" * 100_000), "config is not JSON"),
    "state no JSON": (json_text(b"nil", "training/state"), "state is not JSON"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_read_refuses_a_crafted_file(tmp_path: Path, case: str) -> None:
    tamper, message = REFUSALS[case]
    path = tmp_path / "a.h5"
    write(path, small())
    read(path, expect_all(small()))  # good until now
    with h5py.File(path, "r+") as file:
        tamper(file)
    with pytest.raises(CheckpointError, match=message) as caught:
        read(path, expect_all(small()))
    assert str(path) in str(caught.value)


def test_read_refuses_a_user_defined_link(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write(path, small())
    with h5py.File(path, "r+") as file:
        link(h5py.ExternalLink("other.h5", "/x"))(file)
    # A link message: version 1, flags (a type follows), type 64 (external), length of the name.
    message = b"\x01\x08\x40\x06kernel"
    content = path.read_bytes()
    assert content.count(message) == 1
    path.write_bytes(content.replace(message, b"\x01\x08\x41\x06kernel"))
    with pytest.raises(CheckpointError, match="kernel is a user-defined link"):
        read(path, expect_all(small()))


def test_attributes_of_others_do_no_harm(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", small())
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["note"] = "mine"
        file[KERNEL].attrs["unit"] = [1, 2]
    loaded = read(tmp_path / "a.h5", expect_all(small()))
    assert_same_arrays(loaded.weights, small().weights)


def test_shapes_are_all_compared_before_any_weight_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.h5", small())
    loaded: list[str] = []
    load = hdf5_reader._Reader.load

    def recording(reader: Any, node: Any) -> np.ndarray:
        loaded.append(node.where)
        return load(reader, node)

    monkeypatch.setattr(hdf5_reader._Reader, "load", recording)
    wrong = signature(small().optimizer) | {"count/all/t": ((1,), np.int64)}
    with pytest.raises(CheckpointError, match="count/all/t"):
        read(tmp_path / "a.h5", lambda config: Expected(signature(small().weights), wrong))
    assert loaded == ["/model/config"]


def test_a_configuration_too_large_for_its_file_is_refused_at_once(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", small())
    bomb = {"dense/kernel": ((1 << 40, 1 << 40), np.float32)}
    with pytest.raises(CheckpointError, match=r"calls for \d+ bytes of arrays, the whole file has"):
        read(tmp_path / "a.h5", lambda config: Expected(bomb))


def test_caps_of_file_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.h5"
    write(path, small())
    monkeypatch.setattr(hdf5_reader, "MAX_JSON_BYTES", 10)
    with pytest.raises(CheckpointError, match="config has 21 bytes, 10 are allowed"):
        read_config(path)
    monkeypatch.setattr(hdf5_format, "MAX_JSON_BYTES", 10)
    with pytest.raises(CheckpointError, match="more than 10 bytes of JSON"):
        write(path, small())
    monkeypatch.setattr(hdf5_reader, "MAX_BYTES", 100)
    with pytest.raises(CheckpointError, match="bytes, 100 are allowed"):
        read_config(path)
    monkeypatch.setattr(hdf5_format, "MAX_JSON_BYTES", 100)
    monkeypatch.setattr(hdf5_format, "MAX_BYTES", 100)
    with pytest.raises(CheckpointError, match="more than 100 bytes"):
        write(path, small())


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    content = hdf5_format.encode(small())
    for length in [0, 1, 7, 8, 50, 96, *range(200, len(content), 997), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"a\.h5"):
            read(path, expect_all(small()))


@settings(max_examples=150)
@given(position=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, position: float, flip: int
) -> None:
    content = bytearray(hdf5_format.encode(small()))
    content[int(position * len(content))] ^= flip
    path = tmp_path_factory.mktemp("flip") / "a.h5"
    path.write_bytes(content)
    try:
        loaded = read(path, expect_all(small()))
    except CheckpointError:
        return
    assert_same_arrays(loaded.weights, small().weights)
    assert_same_arrays(loaded.optimizer, small().optimizer)
    assert loaded.training == small().training


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        read_config(tmp_path / "a.h5")
    with pytest.raises(CheckpointError, match="it is a directory"):
        read_config(tmp_path)
    (tmp_path / "a.h5").write_text("PK not HDF5")
    with pytest.raises(CheckpointError, match="not an HDF5 file"):
        read_config(tmp_path / "a.h5")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_config(tmp_path / "pipe")
