"""The form of the reference backend's ops, and what several of them need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn.backends.interface import Arrays, Attrs

Array = np.ndarray[Any, Any]
# Computes an op: its arrays by role, its constants, the rows of the batch.
Function = Callable[[Arrays, Attrs, int], None]


def per_model(a: Array) -> Array:
    """One value per model, shaped to broadcast against (models, batch, features)."""
    return a[..., np.newaxis] if a.ndim > 1 else a
