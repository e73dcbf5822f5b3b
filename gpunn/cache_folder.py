"""The user's cache folder, which compiled kernels and downloaded data share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal


def user_cache(appauthor: str | Literal[False] | None = None) -> Path:
    """Return gpunn's folder in the user's cache; it may not exist.

    Parameters
    ----------
    appauthor : str or False, optional
        As platformdirs takes it; it matters on Windows alone. Where platformdirs is not installed
        the folder is that of Linux.
    """
    try:
        import platformdirs
    except ImportError:
        base = os.environ.get("XDG_CACHE_HOME", "").strip()
        return (Path(base) if base else Path.home() / ".cache") / "gpunn"
    return platformdirs.user_cache_path("gpunn", appauthor=appauthor)
