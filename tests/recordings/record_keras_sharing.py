"""Record what Keras 3 makes of the models in ``sharing_nets.py``, in float64.

Usage and precision as in ``record_keras.py``, beside it; writes ``keras_sharing.npz``: arrays by
``<wiring>/<name>``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

# Before anything else of JAX: it sets JAX and Keras to float64.
from record_keras import as_float64, keras
from sharing_nets import WIRINGS, Library

OUTPUT = Path(__file__).resolve().parent / "keras_sharing.npz"


def main() -> None:
    recorded = {}
    for wiring, run in WIRINGS.items():
        for name, values in run(Library(keras)).items():
            recorded[f"{wiring}/{name}"] = as_float64(values)
    np.savez_compressed(OUTPUT, **recorded)


if __name__ == "__main__":
    main()
