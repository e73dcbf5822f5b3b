"""A copy by all threads of a team: what the memory of the host gives at most."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from gpunn.backends.cpu.threads.loops import LINE, Task
from gpunn.backends.cpu.threads.memory import pointer
from gpunn.backends.cpu.threads.team import Team
from gpunn.backends.interface import Call

_RECORD = np.dtype([(name, np.int64) for name in ("source", "target", "size", "parts")])


def _copy(record: int, task: int, thread: int) -> None:
    r = carray(pointer(record), (1,), _RECORD)[0]
    start = r.size * task // r.parts // LINE * LINE
    end = r.size
    if task + 1 < r.parts:
        end = r.size * (task + 1) // r.parts // LINE * LINE
    source = carray(pointer(r.source + start), (end - start,), np.uint8)
    target = carray(pointer(r.target + start), (end - start,), np.uint8)
    for i in range(target.size):
        target[i] = source[i]


_TASK = Task(_copy)


def copy_by(team: Team, source: np.ndarray[Any, Any], target: np.ndarray[Any, Any]) -> Call:
    """Return a call that copies contiguous bytes, a part for each thread."""
    arrays = {"source": source, "target": target}
    return team.job(_TASK, team.threads, _RECORD, size=source.size, parts=team.threads, **arrays)
