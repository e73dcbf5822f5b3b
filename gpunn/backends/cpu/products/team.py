"""Products of Dense layers by a team of threads: for small batches, where a BLAS is slow."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.backends.cpu.ops.activations import negative_slope
from gpunn.backends.cpu.ops.dense import is_product_alone, then_through
from gpunn.backends.cpu.products import loops as tasks
from gpunn.backends.cpu.products.tiles import COLUMNS, LANES
from gpunn.backends.cpu.threads.team import Team
from gpunn.backends.interface import Arrays, Attrs, Call

Array = np.ndarray[Any, Any]

# A forward product is split along its sum, a part for each thread, where what that saves (a kernel
# stays in the caches) is more than what the sum of the parts costs: up to so many rows of a batch
# for each row of the kernel.
_ROWS_TO_SPLIT = 0.5
_TASKS_PER_THREAD = 4
# The values for a tile's rows of an update are packed where they serve so many columns.
_COLUMNS_TO_PACK = 512


class TeamProducts:
    """Products of a team of threads, each with what comes before and after it.

    Parameters
    ----------
    team : Team
    """

    def __init__(self, team: Team) -> None:
        self.team = team

    def forward(self, a: Arrays, slope: float) -> Call:
        values, kernel, result = a["values"], a["kernel"], a["result"]
        rows, columns = result.shape
        inputs, threads = kernel.shape[0], self.team.threads
        height = tasks.tile_height(rows)
        parts = threads if rows <= _ROWS_TO_SPLIT * inputs else 1
        panels, tiles = -(-columns // COLUMNS), -(-rows // height)
        chunks = min(tiles, -(-_TASKS_PER_THREAD * threads // (parts * panels)))
        chunk = -(-tiles // chunks) * height
        places = panels * -(-rows // chunk)
        return self.team.job(
            tasks.forward,
            parts * places,
            tasks.FORWARD,
            values=values,
            kernel=kernel,
            result=result,
            bias=a.get("bias", np.zeros(columns, dtype=np.float32)),
            rows=rows,
            inputs=inputs,
            columns=columns,
            slope=slope,
            parts=parts,
            partial=np.empty((parts - 1, rows, columns), dtype=np.float32),
            arrived=np.zeros(places, dtype=np.int64),
            chunk=chunk,
            height=height,
        )

    def input_gradient(self, a: Arrays, attrs: Attrs) -> Call:
        result, slope = a["input_gradient"], negative_slope(attrs)
        alone = is_product_alone(a, attrs)
        fused = slope is not None and "rate" not in a and not alone
        rows, inputs = result.shape
        columns = a["kernel"].shape[1]
        optional: dict[str, Array] = {}
        if fused:
            optional["output"] = a.get("output", result)
            optional["sums"] = a.get("bias_gradient", np.empty(inputs, dtype=np.float32))
            if "bias" in a and "bias_gradient" not in a:
                optional |= {"bias": a["bias"], "rate": a["learning_rate"]}
        product = self.team.job(
            tasks.backward,
            -(-inputs // COLUMNS),
            tasks.BACKWARD,
            gradient=a["gradient"],
            kernel=a["kernel"],
            result=result,
            rows=rows,
            inputs=inputs,
            columns=columns,
            slope=slope if fused else 1.0,
            packed=np.empty((self.team.threads, columns, COLUMNS), dtype=np.float32),
            height=tasks.tile_height(rows),
            **optional,
        )
        return product if alone or fused else then_through(product, a, attrs)

    def kernel_gradient(self, values: Array, gradient: Array, result: Array) -> Call:
        return self._update(values, gradient, result)

    def kernel_update(self, values: Array, gradient: Array, rate: Array, kernel: Array) -> Call:
        return self._update(values, gradient, kernel, rate=rate)

    def _update(self, values: Array, gradient: Array, result: Array, **optional: Array) -> Call:
        inputs, columns = result.shape
        if columns >= _COLUMNS_TO_PACK:
            shape = self.team.threads, len(values), LANES
            optional["packed"] = np.empty(shape, dtype=np.float32)
        height = tasks.tile_height(inputs)
        return self.team.job(
            tasks.update,
            -(-inputs // height),
            tasks.UPDATE,
            values=values,
            gradient=gradient,
            result=result,
            rows=len(values),
            inputs=inputs,
            columns=columns,
            height=height,
            **optional,
        )
