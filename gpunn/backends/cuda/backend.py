"""The CUDA backend: regions of device memory, and ops bound to launches.

It is the same for a GPU and for the simulator; which of the two runs the launches is the
driver's business.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np

from gpunn.backends.cuda import tuning
from gpunn.backends.cuda.driver import Driver, Launch, LibraryError
from gpunn.backends.cuda.graphs import Graphs
from gpunn.backends.cuda.ops import (
    activations,
    data,
    dense,
    expressions,
    joins,
    losses,
    normalization,
    optimizers,
)
from gpunn.backends.cuda.ops.launches import Attrs, Context, TilingChooser, Work
from gpunn.backends.cuda.tilings import Tiling, choose_tiling
from gpunn.backends.cuda.tuning import Table
from gpunn.backends.interface import Arrays, Backend, Binder, Call, CopyStream, PlannedStep
from gpunn.errors import ArgumentError, DeviceError, PlanError

logger = logging.getLogger("gpunn")

PRODUCTS = ("auto", "own", "library")
TENSOR_CORE_PRECISIONS = ("tf32", "bfloat16")
OPERATIONS = (
    data.OPERATIONS
    | dense.OPERATIONS
    | activations.OPERATIONS
    | joins.OPERATIONS
    | losses.OPERATIONS
    | expressions.OPERATIONS
    | normalization.OPERATIONS
    | optimizers.OPERATIONS
)


class CudaBackend(Backend):
    """Kernels on a driver.

    Parameters
    ----------
    driver : Driver
    products : {"auto", "own", "library"}
        Whose matrix products: those of ``kernels/dense.cu``, cut as the cost model says; those of
        the device's library; or for each what the table says that ``gpunn tune`` has measured,
        our own where it says nothing.
    table : Table, optional
        Default: the one in the user's cache for this model of GPU; none for a simulator.

    Raises
    ------
    ArgumentError
        `products` is none of these.
    """

    precisions = ("float32", "tf32", "bfloat16", "float64")
    max_models = 1

    def __init__(
        self, driver: Driver, *, products: str = "auto", table: Table | None = None
    ) -> None:
        if products not in PRODUCTS:
            raise ArgumentError(
                f"products must be one of {', '.join(map(repr, PRODUCTS))}, not {products!r}."
            )
        self.driver = driver
        self.name = driver.name
        self.arrays = driver.arrays
        self.products = products
        if table is None and products == "auto" and driver.timed:
            table = tuning.load(tuning.GpuModel.of(driver))
        self.table = Table() if table is None else table
        if said := self.table.describe():
            logger.info("%s: %s", driver.name, said)
        self._library_found: bool | None = None
        self._workspace: Any = driver.allocate(0)
        self._launch_lock = threading.RLock()
        self._graphs = Graphs(driver, self._launch_lock, self.table.graph_steps)
        if self.table.dependent_launch:
            try:
                driver.dependent_launches = True
            except DeviceError as error:
                logger.info("dependent launches, which pay here, are left out: %s", error)
        self._operations = {op: partial(self._bind, op) for op in OPERATIONS}

    # Memory

    def allocate(self, nbytes: int, models: int, *, zeroed: bool = True) -> Any:
        return self.driver.allocate(models * nbytes, zeroed=zeroed).reshape(models, nbytes)

    def check_memory(self, nbytes: int, purpose: str) -> None:
        free = self.driver.free_bytes()
        if nbytes > free:
            raise DeviceError(
                f"{purpose} needs {nbytes:,} bytes on {self.name}, which has {free:,} free; use a "
                f"smaller batch_size or model, or free memory there."
            )

    def free_bytes(self) -> int:
        return self.driver.free_bytes()

    def copy_stream(self) -> CopyStream | None:
        return self.driver.copy_stream()

    def adopt(self, value: Any) -> Any:
        return self.driver.adopt(value)

    def current(self) -> AbstractContextManager[Any]:
        return self.driver.current()

    def release(self, array: Any) -> Any:
        return self.driver.release(array)

    def upload(self, array: Any) -> Any:
        return self.driver.upload(array)

    def to_host(self, array: Any) -> np.ndarray[Any, Any]:
        return self.driver.download(array)

    def write(self, array: Any, values: Any) -> None:
        self.driver.write(array, values)

    def describe(self) -> str:
        said = [self.driver.describe()]
        said += ["products by the library"] * (self.products == "library")
        table = self.table
        if table.dependent_launch and not self.driver.dependent_launches:  # not on this machine
            table = Table(table.choices, False, table.graph_steps)
        said += [table.describe()] if self.products == "auto" and table.describe() else []
        said += ["no cuBLASLt"] * (self._library_found is False)
        return "; ".join(said)

    def synchronize(self) -> None:
        self.driver.synchronize()

    def mark(self) -> Call:
        return self.driver.mark()

    # Graphs

    @property
    def graphs(self) -> bool:
        """Whether calls that are repeated become CUDA graphs."""
        return self._graphs.enabled

    @graphs.setter
    def graphs(self, enabled: bool) -> None:
        self._graphs.enabled = enabled

    def repeated(self, calls: Sequence[Call]) -> Callable[[int], None]:
        return self._graphs.repeated(calls)

    # Ops

    @property
    def operations(self) -> Mapping[str, Binder]:
        return self._operations

    def check(self, steps: Iterable[PlannedStep], precision: str, models: int) -> None:
        super().check(steps, precision, models)
        if precision in TENSOR_CORE_PRECISIONS and self.driver.limits.architecture < 80:
            major, minor = divmod(self.driver.limits.architecture, 10)
            raise PlanError(
                f"precision {precision!r} needs a GPU of compute capability 8.0 or later; that of "
                f"{self.name!r} is {major}.{minor}. Use precision='float32'."
            )

    def work(
        self, op: str, arrays: Arrays, attrs: Attrs, rows: int, choose: TilingChooser | None = None
    ) -> list[Work]:
        """Return the launches of `op` on these arrays, in order.

        With `choose`, that decides who computes its matrix product and how (see `Context`).
        """
        asked = self.products == "library" or (self.products == "auto" and len(self.table))
        chosen = choose or (self._choose_tiling if asked else None)
        return OPERATIONS[op](
            Context(self.driver.limits, self._scratch, chosen), arrays, attrs, rows
        )

    def _prepared(self, works: Iterable[Work]) -> list[Call]:
        driver = self.driver
        return [
            driver.prepare(work) if isinstance(work, Launch) else driver.prepare_product(work)
            for work in works
        ]

    def _own_tiling(self, *key: Any) -> Tiling:
        return choose_tiling(*key, self.driver.limits)

    def _choose_tiling(self, form: str, precision: str, m: int, n: int, k: int) -> Tiling | None:
        """Return how our kernel cuts a product, None if the library is to make it."""
        if self.products == "library":
            return None
        key = tuning.Key(form, precision, m, n, k)
        choice = self.table.choices.get(key)
        if choice is not None:
            if choice.tile is None and self._has_library():
                return None
            if tiling := choice.tiling(key, self.driver.limits):
                return tiling
        return self._own_tiling(*key)

    def _has_library(self) -> bool:
        """Return whether the library that the table asks for is there; the log says if not."""
        if self._library_found is None:
            try:
                self.driver.check_library()
                self._library_found = True
            except LibraryError as error:
                logger.info("products that were tuned for the library are our own: %s", error)
                self._library_found = False
        return self._library_found

    def _scratch(self, nbytes: int) -> Any:
        # All launches run in order, and those of an op stay together, so all ops share one
        # workspace. Calls bound to a smaller one keep it alive.
        if self._workspace.nbytes < nbytes:
            self._workspace = self.driver.allocate(nbytes, zeroed=False)
        return self._workspace[:nbytes]

    def _bind(self, op: str, arrays: Arrays, attrs: Attrs, rows: int) -> Call:
        return self.bind_with(op, arrays, attrs, rows)

    def bind_with(
        self, op: str, arrays: Arrays, attrs: Attrs, rows: int, choose: TilingChooser | None = None
    ) -> Call:
        """Return the call of `op`, whose matrix product is computed as `choose` says."""
        with self._launch_lock:
            works = self.work(op, arrays, attrs, rows, choose)
            try:
                calls = self._prepared(works)
            except LibraryError as error:
                if choose is not None or self.products != "auto":
                    raise
                # Another version of the library may have measured.
                logger.info("a product that was tuned for the library is our own: %s", error)
                works = self.work(op, arrays, attrs, rows, self._own_tiling)
                calls = self._prepared(works)
        # A product of the library may be several kernels, which hand on values.
        if len(calls) == 1 and isinstance(works[0], Launch):
            return calls[0]
        together = self._launch_lock

        def run() -> None:
            # Another thread may predict meanwhile: its ops must not come between these.
            with together:
                for call in calls:
                    call()

        return run
