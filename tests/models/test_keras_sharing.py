"""Models that share layers, and frozen layers, against recordings of Keras 3.

``tests/recordings/record_keras_sharing.py`` made them, in float64, of the models in
``sharing_nets.py`` beside it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from op_runs import needs_compiler
from sharing_nets import WIRINGS
from sharing_recorder import Recorder

import gpunn

RECORDED = dict(
    np.load(Path(__file__).parents[1] / "recordings" / "keras_sharing.npz", allow_pickle=False)
)
DEVICES = ["reference", "cpu", pytest.param("simulator", marks=needs_compiler)]
RTOL, ATOL = 1e-9, 1e-11


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", WIRINGS)
def test_training_of_shared_and_frozen_layers_is_keras(name: str, device: str) -> None:
    recorder = Recorder(gpunn, device=device, precision="float64", seed=0)
    WIRINGS[name](recorder)
    recorded = {
        key.removeprefix(f"{name}/"): values
        for key, values in RECORDED.items()
        if key.startswith(f"{name}/")
    }
    assert recorder.found.keys() == recorded.keys()
    for key, values in recorder.found.items():
        np.testing.assert_allclose(values, recorded[key], RTOL, ATOL, err_msg=key)


def test_all_wirings_are_recorded() -> None:
    assert {key.split("/")[0] for key in RECORDED} == {*WIRINGS, "versions"}
