"""The structure of what is fetched: lists, tuples and dicts of tensors and operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def mapped(function: Callable[[Any], Any], fetches: Any) -> Any:
    """Return `fetches` with ``function(leaf)`` in the place of each tensor or operation."""
    if isinstance(fetches, Mapping):
        return {key: mapped(function, item) for key, item in fetches.items()}
    if not isinstance(fetches, list | tuple):
        return function(fetches)
    items = [mapped(function, item) for item in fetches]
    if hasattr(fetches, "_make"):  # a named tuple
        return fetches._make(items)
    return items if isinstance(fetches, list) else tuple(items)
