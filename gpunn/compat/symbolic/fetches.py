"""The structure of what is fetched: lists, tuples and dicts of tensors and operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def collect(fetches: Any, leaves: list[Any]) -> None:
    """Add all tensors and operations in `fetches` to `leaves`."""
    if isinstance(fetches, list | tuple):
        for item in fetches:
            collect(item, leaves)
    elif isinstance(fetches, Mapping):
        for item in fetches.values():
            collect(item, leaves)
    else:
        leaves.append(fetches)


def rebuild(fetches: Any, results: dict[int, Any]) -> Any:
    """Return `fetches` with results, by the identity of what was fetched, in its place."""
    if isinstance(fetches, list | tuple):
        items = [rebuild(item, results) for item in fetches]
        if hasattr(fetches, "_make"):  # a named tuple
            return fetches._make(items)
        return items if isinstance(fetches, list) else tuple(items)
    if isinstance(fetches, Mapping):
        return {key: rebuild(item, results) for key, item in fetches.items()}
    return results[id(fetches)]
