"""Tasks of a team besides products: a part of an optimizer's parameters (float32), or of a copy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from gpunn.backends.cpu.loops import optimizers as kernels
from gpunn.backends.cpu.loops.compile import threaded
from gpunn.backends.cpu.loops.intrinsics import SIZE, floats, pointer
from gpunn.backends.cpu.threads.loops import LINE, Task
from gpunn.backends.cpu.threads.team import Team
from gpunn.backends.interface import Call

# An address of 0 stands for an array that is left out.
OPTIMIZER = np.dtype(
    [
        *((name, np.int64) for name in ("parameters", "gradients", "learning_rate", "step")),
        *((name, np.int64) for name in ("momentum", "velocity", "velocity_hat", "accumulator")),
        *((name, np.int64) for name in ("average_gradient", "size", "chunk", "nesterov")),
        *((name, np.float64) for name in ("beta_1", "beta_2")),
        *((name, np.float32) for name in ("weight_decay", "beta", "rho", "rest_1", "rest_2")),
        *((name, np.float32) for name in ("epsilon", "tiny", "tiny_square")),
    ],
    align=True,
)


@threaded
def _part(address: int, start: int, end: int) -> Any:
    """Return some of an array's values, none where it is left out."""
    if address == 0:
        return floats(address, 0)
    return floats(address + start * SIZE, end - start)


@threaded
def _open_record(record: int, task: int) -> Any:
    """Return the record (in an array), the part's bounds, and what all optimizers take."""
    found = carray(pointer(record), (1,), OPTIMIZER)
    r = found[0]
    start, end = task * r.chunk, min((task + 1) * r.chunk, r.size)
    w, g = _part(r.parameters, start, end), _part(r.gradients, start, end)
    return found, start, end, (w, g, floats(r.learning_rate, 1), r.weight_decay)


def _sgd(record: int, task: int, thread: int) -> None:
    _, _, _, common = _open_record(record, task)
    kernels.sgd(*common)


def _momentum(record: int, task: int, thread: int) -> None:
    found, start, end, common = _open_record(record, task)
    r = found[0]
    v = _part(r.momentum, start, end)
    kernels.momentum(*common, v, r.beta, r.nesterov != 0, r.tiny)


def _adagrad(record: int, task: int, thread: int) -> None:
    found, start, end, common = _open_record(record, task)
    r = found[0]
    kernels.adagrad(*common, _part(r.accumulator, start, end), r.epsilon)


def _rmsprop(record: int, task: int, thread: int) -> None:
    found, start, end, common = _open_record(record, task)
    r = found[0]
    v, m = _part(r.velocity, start, end), _part(r.momentum, start, end)
    average = _part(r.average_gradient, start, end)
    kernels.rmsprop(*common, v, average, m, r.rho, r.beta, r.epsilon, r.tiny, r.tiny_square)


def _adam(record: int, task: int, thread: int) -> None:
    found, start, end, common = _open_record(record, task)
    r = found[0]
    m, v = _part(r.momentum, start, end), _part(r.velocity, start, end)
    slots = carray(pointer(r.step), (1,), np.int64), m, v, _part(r.velocity_hat, start, end)
    tiny = r.tiny, r.tiny_square
    kernels.adam(*common, *slots, r.rest_1, r.rest_2, r.epsilon, *tiny, r.beta_1, r.beta_2)


OPTIMIZERS = {
    "sgd": Task(_sgd),
    "momentum": Task(_momentum),
    "adagrad": Task(_adagrad),
    "rmsprop": Task(_rmsprop),
    "adam": Task(_adam),
}


# A copy: what the memory of the host gives at most

_COPY = np.dtype([(name, np.int64) for name in ("source", "target", "size", "parts")])


def _copy(record: int, task: int, thread: int) -> None:
    r = carray(pointer(record), (1,), _COPY)[0]
    start = r.size * task // r.parts // LINE * LINE
    end = r.size
    if task + 1 < r.parts:
        end = r.size * (task + 1) // r.parts // LINE * LINE
    source = carray(pointer(r.source + start), (end - start,), np.uint8)
    target = carray(pointer(r.target + start), (end - start,), np.uint8)
    for i in range(target.size):
        target[i] = source[i]


_COPY_TASK = Task(_copy)


def parallel_copy(team: Team, source: np.ndarray[Any, Any], target: np.ndarray[Any, Any]) -> Call:
    """Return a call that copies contiguous bytes, a part for each thread."""
    arrays = {"source": source, "target": target}
    return team.job(_COPY_TASK, team.threads, _COPY, size=source.size, parts=team.threads, **arrays)
