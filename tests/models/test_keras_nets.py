"""The chapter's nets give Keras's outputs, losses and gradients for the same weights, in float32.

``tests/recordings/record_keras_nets.py`` made the recordings and makes the nets, weights and data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import record_keras_nets as nets

import gpunn

KERAS = dict(np.load(nets.OUTPUT, allow_pickle=False))
DEVICES = ("reference", "cpu", "simulator")

# Unit roundoff of float32. Sums of up to 784 products are added in another order than Keras's:
# each is off by a random walk of sqrt(784) = 28 roundings, relative to the size of the terms, and
# three layers follow each other. The figures below are relative to the largest value of an array,
# because a small one may be a difference of large terms.
ROUNDOFF = 2.0**-24
TOLERANCE = 64 * ROUNDOFF  # 3.8e-6


def close(found: Any, expected: Any, extra: float = 0.0) -> None:
    """Compare within `TOLERANCE` of the largest value, and `extra`."""
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * scale + extra)


def compiled(name: str, device: str) -> tuple[Any, Any, Any]:
    model, compiling = nets.net(name, gpunn)
    # A step of plain SGD at this rate takes the gradient from the weights.
    model.compile(gpunn.optimizers.SGD(1.0), device=device, **compiling)
    model.set_weights(nets.weights(name))
    x, y = (values if len(values) > 1 else values[0] for values in nets.data(name))
    return model, x, y


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", nets.NETS)
def test_outputs_and_losses(name: str, device: str) -> None:
    model, x, y = compiled(name, device)
    outputs = model.predict(x)
    for i, values in enumerate(outputs if isinstance(outputs, list) else [outputs]):
        close(values, KERAS[f"{name}/outputs/{i}"])
    close(np.atleast_1d(model.evaluate(x, y)), KERAS[f"{name}/losses"])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", nets.NETS)
def test_gradients(name: str, device: str) -> None:
    model, x, y = compiled(name, device)
    before = nets.weights(name)
    model.fit(x, y, batch_size=nets.ROWS, epochs=1, shuffle=False, verbose=0)
    for i, (old, new) in enumerate(zip(before, model.get_weights(), strict=True)):
        kept, sums = nets.stored(old.astype(np.float64) - new)
        expected = KERAS[f"{name}/gradient/{i}"]
        # The weights after the step are rounded, the largest of them by this much.
        rounding = ROUNDOFF * max(np.abs(old).max(), np.abs(new).max())
        close(kept, expected, rounding)
        # A sum over an axis adds up as many such errors.
        longest = max(old.shape)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            sums,
            KERAS[f"{name}/gradient_sums/{i}"],
            rtol=0,
            atol=longest * (TOLERANCE * scale + rounding),
        )
