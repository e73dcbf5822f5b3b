"""Checkpoints: exact round trips, atomic writes, and refusal of files not to be trusted."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from checkpoint_files import KERNEL, assert_same_arrays, expect_all, kernel, signature, small
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gpunn.checkpoints import format as hdf5_format
from gpunn.checkpoints.files import (
    Checkpoint,
    CheckpointDirectory,
    Expected,
    read,
    read_config,
    resolve,
    write,
)
from gpunn.errors import ArgumentError, CheckpointError


def names(parts: int) -> st.SearchStrategy[str]:
    characters = st.characters(exclude_characters="/\0", exclude_categories=["Cs"])
    part = st.text(characters, min_size=1, max_size=8).filter(lambda text: text != ".")
    return st.tuples(*[part] * parts).map("/".join)


def arrays_named(parts: int) -> st.SearchStrategy[dict[str, np.ndarray]]:
    codes = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]
    shapes = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
    array = st.sampled_from(codes).flatmap(lambda code: npst.arrays(code, shapes))
    return st.dictionaries(names(parts), array, max_size=4)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(), json_values, max_size=4)


@settings(max_examples=30)
@given(
    checkpoint=st.builds(
        Checkpoint,
        model_config=json_objects,
        weights=arrays_named(2),
        optimizer=arrays_named(3),
        training=st.none() | json_objects,
        metrics=arrays_named(1),
    )
)
def test_round_trip_is_exact(
    tmp_path_factory: pytest.TempPathFactory, checkpoint: Checkpoint
) -> None:
    path = tmp_path_factory.mktemp("round") / "a.h5"
    write(path, checkpoint)
    loaded = read(path, expect_all(checkpoint))
    assert_same_arrays(loaded.weights, checkpoint.weights)
    assert_same_arrays(loaded.optimizer, checkpoint.optimizer)
    assert_same_arrays(loaded.metrics, checkpoint.metrics)
    # repr tells 1 from 1.0 and True, and 0.0 from -0.0, where == does not
    assert repr(loaded.model_config) == repr(checkpoint.model_config)
    assert repr(loaded.training) == repr(checkpoint.training)
    assert repr(read_config(path)) == repr(checkpoint.model_config)


def test_json_keeps_nan_infinities_and_large_integers(tmp_path: Path) -> None:
    state = {"loss": [math.nan, math.inf, -math.inf], "seed": 2**64 - 1, "pair": (1, 2.0)}
    checkpoint = Checkpoint({}, {}, training=state)
    write(tmp_path / "a.h5", checkpoint)
    loaded = read(tmp_path / "a.h5", expect_all(checkpoint)).training
    assert repr(loaded) == "{'loss': [nan, inf, -inf], 'seed': 18446744073709551615, " + (
        "'pair': [1, 2.0]}"
    )


def test_arrays_in_other_memory_orders_are_stored_by_value(tmp_path: Path) -> None:
    array = np.arange(24, dtype=">f4").reshape(4, 6)[::2, ::-1].T
    write(tmp_path / "a.h5", Checkpoint({}, {"a/b": array}))
    loaded = read(tmp_path / "a.h5", lambda config: Expected({"a/b": ((6, 2), np.float32)}))
    np.testing.assert_array_equal(loaded.weights["a/b"], array)


def test_weights_only_reads_neither_optimizer_nor_training(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write(path, small())
    with h5py.File(path, "r+") as file:
        file["optimizer/m/dense/kernel"][0, 0] = 99  # its checksum no longer holds
        file["training/state"][0] = 0
    loaded = read(path, lambda config: Expected(signature(small().weights)))
    assert_same_arrays(loaded.weights, small().weights)
    assert (loaded.optimizer, loaded.training, loaded.metrics) == ({}, None, {})


def test_expect_sees_the_configuration_and_its_errors_are_its_own(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", small())

    def expect(config: dict[str, Any]) -> Expected:
        raise KeyError(config["layers"][0])

    with pytest.raises(KeyError, match="dense"):
        read(tmp_path / "a.h5", expect)


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    first, other = small(), small()
    reordered = Checkpoint(
        other.model_config,
        {name: other.weights[name] for name in reversed(list(other.weights))},
        {name: other.optimizer[name] for name in reversed(list(other.optimizer))},
        other.training,
        other.metrics,
    )
    content = hdf5_format.encode(first)
    time.sleep(1.1)  # HDF5 keeps times in seconds
    assert hdf5_format.encode(reordered) == content


def test_threads_can_write_at_the_same_time(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: write(tmp_path / f"{i}.h5", small(i)), range(32)))
    steps = [read(tmp_path / f"{i}.h5", expect_all(small(i))).training for i in range(32)]
    assert steps == [{"step": i} for i in range(32)]


def test_h5py_is_imported_only_when_a_file_is_touched() -> None:
    code = "import gpunn.checkpoints.files, sys; sys.exit('h5py' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        (Checkpoint({"a": {1: 2}}, {}), r"model_config\['a'\]: its key 1 is not a string"),
        (Checkpoint({"a": [np.float32(1)]}, {}), r"model_config\['a'\]\[0\]: float32 is not JSON"),
        (Checkpoint({}, {}, training={"a": 10**5000}), "Cannot save training as JSON"),
        (Checkpoint({}, {"kernel": np.ones(1)}), "must be 2 part"),
        (Checkpoint({}, {"a//b": np.ones(1)}), "must be 2 part"),
        (Checkpoint({}, {"./b": np.ones(1)}), "must be 2 part"),
        (Checkpoint({}, {"a/b\0": np.ones(1)}), "must be 2 part"),
        (Checkpoint({}, {"a/\ud800": np.ones(1)}), "not valid text"),
        (Checkpoint({}, {}, {"a/b": np.ones(1)}), "must be 3 part"),
        (Checkpoint({}, {"a/b": np.ones(1, complex)}), "complex128"),
        (Checkpoint({}, {"a/b": np.ones(1, object)}), "object"),
        (Checkpoint({}, {"a/b": np.ones((1,) * 33)}), "33 dimensions"),
        (Checkpoint({}, {}, metrics={"a": np.zeros(2**21 + 1)}), "more than 1024 metrics of 16777"),
    ],
)
def test_write_refuses_what_it_could_not_read_back(
    tmp_path: Path, checkpoint: Checkpoint, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        write(tmp_path / "a.h5", checkpoint)
    assert list(tmp_path.iterdir()) == []


def test_write_refuses_a_cycle(tmp_path: Path) -> None:
    config: dict[str, Any] = {}
    config["self"] = config
    with pytest.raises(CheckpointError, match="Cannot save model_config as JSON"):
        write(tmp_path / "a.h5", Checkpoint(config, {}))


# Writing


def test_write_creates_parents_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.h5"
    write(path, small(1))
    write(path, small(2))
    assert read(path, expect_all(small())).training == {"step": 2}
    assert list(path.parent.iterdir()) == [path]


def test_write_to_an_impossible_place_names_it(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"Cannot write checkpoint .*it is a directory"):
        write(tmp_path, small())
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"Cannot write checkpoint .*file/a\.h5"):
        write(tmp_path / "file" / "a.h5", small())
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, error: BaseException
) -> None:
    path = tmp_path / "a.h5"
    write(path, small(1))
    before = path.read_bytes()

    def fail(*arguments: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        if isinstance(error, OSError):
            with pytest.raises(CheckpointError, match=r"a\.h5: No space left"):
                write(path, small(2))
        else:
            with pytest.raises(KeyboardInterrupt):
                write(path, small(2))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def is_directory(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def record_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record flushes, renames and removals in the order they happen."""
    calls: list[str] = []
    fsync, replace, unlink = os.fsync, os.replace, os.unlink

    def recording_fsync(descriptor: int) -> None:
        calls.append("flush directory" if is_directory(descriptor) else "flush file")
        fsync(descriptor)

    def recording_replace(source: Any, target: Any) -> None:
        calls.append(f"rename to {Path(target).name}")
        replace(source, target)

    def recording_unlink(path: Any, **options: Any) -> None:
        calls.append(f"remove {Path(path).name}")
        unlink(path, **options)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "replace", recording_replace)
    monkeypatch.setattr(os, "unlink", recording_unlink)
    return calls


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot flush a directory")
def test_old_checkpoints_go_only_after_the_new_ones_are_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = CheckpointDirectory(tmp_path, keep_last=1)
    directory.save(small(1), 1)
    calls = record_calls(monkeypatch)
    directory.save(small(2), 2, best=True)
    assert calls == [
        "flush file",
        "rename to step-0000000002.h5",
        "flush directory",
        "flush file",
        "rename to best.h5",
        "flush directory",
        "remove step-0000000001.h5",
    ]


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot flush a directory")
def test_new_parents_are_flushed_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = record_calls(monkeypatch)
    write(tmp_path / "new" / "newer" / "a.h5", small())
    parents, rest = calls[:2], calls[2:]
    assert parents == ["flush directory", "flush directory"]
    assert rest == ["flush file", "rename to a.h5", "flush directory"]


def test_a_file_system_that_does_not_flush_directories_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def files_only(descriptor: int) -> None:
        if is_directory(descriptor):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    write(tmp_path / "a.h5", small())
    assert read_config(tmp_path / "a.h5") == small().model_config


def test_nothing_is_removed_if_the_directory_cannot_be_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = CheckpointDirectory(tmp_path, keep_last=1)
    directory.save(small(1), 1)

    def fail(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("gpunn.checkpoints.files._sync_directory", fail)
    with pytest.raises(CheckpointError, match="in place, but its directory cannot be flushed"):
        directory.save(small(2), 2)
    assert directory.steps() == [1, 2]


# Directories


def test_the_last_checkpoints_and_the_best_are_kept(tmp_path: Path) -> None:
    directory = CheckpointDirectory(tmp_path / "run", keep_last=2)
    assert (directory.steps(), directory.latest(), directory.best()) == ([], None, None)
    for step in [5, 10, 20, 12345678901]:
        path = directory.save(small(step), step, best=step == 5)
        assert path == directory.latest()
    assert directory.steps() == [20, 12345678901]
    assert sorted(entry.name for entry in (tmp_path / "run").iterdir()) == [
        "best.h5",
        "step-0000000020.h5",
        "step-12345678901.h5",
    ]
    best = directory.best()
    assert best is not None
    assert read(best, expect_all(small())).training == {"step": 5}


def test_a_run_resumed_from_further_back_keeps_its_own_files(tmp_path: Path) -> None:
    for step in [100, 200, 300]:
        CheckpointDirectory(tmp_path).save(small(step), step)
    directory = CheckpointDirectory(tmp_path, keep_last=2)
    directory.save(small(110), 110)
    directory.save(small(120), 120)
    assert directory.steps() == [110, 120, 200, 300]
    directory.save(small(250), 250)
    assert directory.steps() == [200, 250, 300]


def test_files_of_others_are_neither_listed_nor_removed(tmp_path: Path) -> None:
    others = [
        "notes.txt",
        "step-1.h5",
        "step-0000000001.h5.bak",
        "step-00000000002.h5",
        "step-٠٠٠٠٠٠٠٠٠٣.h5",
        ".gpunn-short.tmp",
    ]
    for name in others:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / "step-0000000000.h5").mkdir()
    directory = CheckpointDirectory(tmp_path, keep_last=1)
    directory.save(small(), 8)
    directory.save(small(), 9)
    assert directory.steps() == [9]
    left = {entry.name for entry in tmp_path.iterdir()}
    assert left == {*others, "step-0000000000.h5", "step-0000000009.h5"}


def test_temporary_files_of_a_killed_process_go_when_they_are_old(tmp_path: Path) -> None:
    old, new = tmp_path / f".gpunn-{'0' * 16}.tmp", tmp_path / f".gpunn-{'1' * 16}.tmp"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    CheckpointDirectory(tmp_path).save(small(), 1)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_killed_process_leaves_the_old_file_and_a_temporary_one(tmp_path: Path) -> None:
    directory = CheckpointDirectory(tmp_path)
    directory.save(small(1), 1)
    code = (
        "import os, sys\n"
        "from gpunn.checkpoints.files import Checkpoint, CheckpointDirectory\n"
        "os.fsync = lambda descriptor: os._exit(9)\n"
        "CheckpointDirectory(sys.argv[1]).save(Checkpoint({}, {}), 2)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == 9
    assert directory.steps() == [1]
    (leftover,) = tmp_path.glob(".gpunn-*.tmp")
    os.utime(leftover, (0, 0))
    directory.save(small(3), 3)
    assert not leftover.exists()


def test_an_old_file_that_cannot_be_removed_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = CheckpointDirectory(tmp_path, keep_last=1)
    directory.save(small(1), 1)

    def fail(path: Any, **options: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", fail)
        with pytest.warns(RuntimeWarning, match=r"step-0000000001\.h5: Permission denied"):
            directory.save(small(2), 2)
    directory.save(small(3), 3)
    assert directory.steps() == [3]


def test_resolve(tmp_path: Path) -> None:
    directory = CheckpointDirectory(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"There is no checkpoint .*run"):
        resolve(tmp_path / "run")
    (tmp_path / "run").mkdir()
    with pytest.raises(CheckpointError, match=r"no step-\*.h5 and no best.h5"):
        resolve(tmp_path / "run")
    step = directory.save(small(), 4, best=True)
    assert resolve(tmp_path / "run") == step
    assert resolve(str(step)) == step
    step.unlink()
    assert resolve(tmp_path / "run") == directory.best()


def test_arguments_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="keep_last must be at least 1, not 0"):
        CheckpointDirectory(tmp_path, keep_last=0)
    with pytest.raises(ArgumentError, match="step must be at least 0, not -1"):
        CheckpointDirectory(tmp_path).save(small(), -1)


def test_the_layout_is_the_documented_one(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", small())
    with h5py.File(tmp_path / "a.h5") as file:
        found: list[str] = []
        file.visititems(
            lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None
        )
        assert (file.attrs["format"], file.attrs["format_version"]) == (b"gpunn", 1)
        assert json.loads(file["model/config"][()].tobytes()) == {"layers": ["dense"]}
        content = b"<f4 3,4\n" + kernel.tobytes()
        assert file[KERNEL].attrs["sha256"].decode() == hashlib.sha256(content).hexdigest()
    assert sorted(found) == [
        "model/config",
        "model/weights/dense/bias",
        "model/weights/dense/kernel",
        "optimizer/count/all/t",
        "optimizer/m/dense/kernel",
        "training/metrics/hits",
        "training/metrics/seen",
        "training/state",
    ]
