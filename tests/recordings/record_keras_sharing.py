"""Record what Keras 3 makes of models that share layers, and of layers that are frozen.

Usage and precision as in ``record_keras.py``, beside it, from which this takes the dtype fix;
writes ``keras_sharing.npz``. ``README.md`` lists the keys.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

# Before anything else of JAX: it sets JAX and Keras to float64.
from record_keras import check_precision, jax, keras
from sharing_nets import WIRINGS
from sharing_recorder import Recorder

OUTPUT = Path(__file__).resolve().parent / "keras_sharing.npz"


def main() -> None:
    """Record everything and write `keras_sharing.npz`."""
    check_precision()
    out = {}
    for name, wiring in WIRINGS.items():
        recorder = Recorder(keras)
        wiring(recorder)
        out |= {f"{name}/{key}": values for key, values in recorder.found.items()}
    out["versions"] = np.array([f"{m.__name__} {m.__version__}" for m in (keras, jax, np)])
    np.savez_compressed(OUTPUT, **out)


if __name__ == "__main__":
    main()
