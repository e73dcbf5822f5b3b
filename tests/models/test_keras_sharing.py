"""Models that share layers, and frozen layers, end with the weights that Keras 3 ends with.

``tests/recordings/record_keras_sharing.py`` has run the same models under Keras, in float64. What
the two differ by are roundings, over at most some twenty steps of training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from op_runs import needs_compiler
from sharing_nets import WIRINGS, Library

import gpunn

RECORDED = dict(
    np.load(Path(__file__).parents[1] / "recordings" / "keras_sharing.npz", allow_pickle=False)
)


@pytest.mark.parametrize(
    "device", ["reference", "cpu", pytest.param("simulator", marks=needs_compiler)]
)
@pytest.mark.parametrize("wiring", WIRINGS)
def test_weights_after_training_are_keras(wiring: str, device: str) -> None:
    found = WIRINGS[wiring](Library(gpunn, device=device, precision="float64", seed=0))
    recorded = {
        name.removeprefix(f"{wiring}/"): values
        for name, values in RECORDED.items()
        if name.startswith(f"{wiring}/")
    }
    assert set(found) == set(recorded)
    for name, values in found.items():
        # Models that are not compiled compute in float32, and round sums of some ten products.
        single = np.asarray(values).dtype == np.float32
        rtol, atol = (1e-6, 1e-6) if single else (1e-8, 1e-10)
        np.testing.assert_allclose(values, recorded[name], rtol, atol, err_msg=name)
