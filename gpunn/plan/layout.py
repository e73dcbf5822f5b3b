"""Where each buffer lies in its region: sizes first, addresses after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from gpunn.plan.spec import EXTERNAL, BufferSpec, Plan

# Enough for any vector load and for tensor cores; padding is never written, so it stays zero.
ALIGNMENT = 256


@dataclass(frozen=True)
class RegionLayout:
    """One allocation: its size in bytes and the byte offset of each buffer."""

    name: str
    nbytes: int
    offsets: Mapping[str, int]


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def region_layout(buffers: Iterable[BufferSpec], region: str) -> RegionLayout:
    """Place the buffers of `region` one behind the other, in their order.

    The buffer that has the region's own name is the flat view of all others; one with a `start` is
    that of some of them.
    """
    offsets: dict[str, int] = {}
    end = 0
    for buffer in buffers:
        if buffer.region != region:
            continue
        if buffer.name == region:
            offsets[buffer.name] = 0
            continue
        if buffer.start:
            offsets[buffer.name] = offsets[buffer.start]
            continue
        offsets[buffer.name] = end
        end += _aligned(buffer.nbytes)
    return RegionLayout(region, end, offsets)


def flat_size(buffers: Iterable[BufferSpec], region: str) -> int:
    """Return the number of values in `region`, padding included; its buffers are of one type."""
    buffers = [b for b in buffers if b.region == region]
    layout = region_layout(buffers, region)
    return layout.nbytes // np.dtype(buffers[0].dtype).itemsize if buffers else 0


def plan_layout(plan: Plan) -> dict[str, RegionLayout]:
    """Return the layout of every region of `plan`."""
    buffers = list(plan.buffers.values())
    return {region: region_layout(buffers, region) for region in plan.regions if region != EXTERNAL}
