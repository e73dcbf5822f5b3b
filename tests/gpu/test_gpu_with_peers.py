"""The peers of the GPU report train the same net on the same batches.

Each takes a process and seconds to start: this file is the last in the folder.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.peers.processes import PeerProcess, missing_packages
from gpunn.cli.bench.settings import OPTIMIZERS, BenchSettings
from gpunn.cli.bench.task import Ours, Task


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["torch.graphs", "jax"])
def test_peers_on_the_gpu_train_the_same_net(name: str, optimizer: str, tmp_path: Path) -> None:
    if lacking := missing_packages(name, None):
        pytest.skip(f"needs {', '.join(lacking)}")
    task = Task(BenchSettings(hidden=(30, 20), batch_sizes=(16,)))
    task.save(tmp_path)
    ours = Ours(task, "cuda", "float32", optimizer, 16).check(50)
    peer = PeerProcess(name, 1)
    job = {"batch_size": 16, "optimizer": optimizer, "rate": OPTIMIZERS[optimizer]}
    try:
        peer.ask("start", folder=str(tmp_path), threads=1, device="cuda")
        peer.ask("setup", steps=3, epochs=2, dropout=0.0, precision="float32", **job)
        theirs = peer.ask("check", steps=50)["loss"]
    finally:
        peer.close()
    assert theirs == pytest.approx(ours, rel=1e-3)
