"""What a training step costs on a GPU, counted without one: calls, FLOPs, bytes, launches, memory.

    python tests/plan/plan_costs.py

writes tests/recordings/plan_costs.json anew, after a change that is worth what it adds, or one
that saves something. Say in the commit which figures have moved, and why.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import gpunn
from gpunn import layers
from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.cuda.driver import Driver, Launch, LibraryProduct, Limits
from gpunn.optimizers import SGD, Adam
from gpunn.plan.bind import BoundPlan
from gpunn.plan.layout import plan_layout
from gpunn.plan.spec import EXTERNAL, Plan

TABLE = Path(__file__).parents[1] / "recordings" / "plan_costs.json"
BATCH_SIZES = (32, 50, 128, 1024, 8192)
OPTIMIZERS = {"sgd": SGD(0.1), "momentum": SGD(0.1, momentum=0.9), "adam": Adam()}
STEPS = 1200  # MNIST in batches of 50
Figures = dict[str, int]


class RecordingDriver(Driver):
    """An H100 that computes nothing: it counts what it is given.

    Attributes
    ----------
    submissions : int
        Launches of kernels and of graphs, each of which costs the host its time.
    nodes : int
        Launches in the largest graph.
    allocated : int
        Bytes allocated, data sets apart.
    """

    name = "recording"

    def __init__(self) -> None:
        self.limits = Limits(90, 132, 232448)
        self.submissions = self.nodes = self.allocated = 0

    def describe(self) -> str:
        return self.name

    def allocate(self, nbytes: int, *, zeroed: bool = True) -> Any:
        self.allocated += nbytes
        return np.zeros(nbytes, np.uint8)

    def free_bytes(self) -> int:
        return 80 << 30

    def upload(self, array: Any) -> Any:
        return np.ascontiguousarray(array)

    def download(self, array: Any) -> Any:
        return np.array(array)

    def write(self, array: Any, values: Any) -> None:
        array[...] = values

    def prepare(self, launch: Launch) -> Callable[[], None]:
        return self._launch

    def prepare_product(self, product: LibraryProduct) -> Callable[[], None]:
        return self._launch

    def _launch(self) -> None:
        self.launches += 1
        self.submissions += 1

    def capture(self, calls: Sequence[Callable[[], None]]) -> Callable[[], None]:
        before = self.launches, self.submissions
        for call in calls:
            call()
        count = self.launches - before[0]
        self.launches, self.submissions = before
        self.nodes = max(self.nodes, count)

        def replay() -> None:
            self.replays += 1
            self.launches += count
            self.submissions += 1

        return replay

    def mark(self) -> Callable[[], None]:
        return self.synchronize

    def synchronize(self) -> None:
        """Nothing runs."""


# Nets


def mnist(optimizer: Any, *, dropout: bool = False, normalized: bool = False) -> gpunn.Model:
    """Return 784-300-100-10 on uint8 images."""
    stack: list[Any] = [gpunn.Input((28, 28)), layers.Rescaling(1 / 255), layers.Flatten()]
    for units in (300, 100):
        if normalized:
            stack += [layers.Dense(units), layers.BatchNormalization(), layers.ReLU()]
        else:
            stack.append(layers.Dense(units, activation="relu"))
        stack += [layers.Dropout(0.2)] if dropout else []
    model = gpunn.Sequential([*stack, layers.Dense(10, activation="softmax")])
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, ["accuracy"], device="reference", seed=0)
    return model


def wide_and_deep() -> gpunn.Model:
    """Return a net in which the inputs also reach the output directly."""
    inputs = gpunn.Input((8,))
    hidden = layers.Dense(30, activation="relu")(layers.Dense(30, activation="relu")(inputs))
    model = gpunn.Model(inputs, layers.Dense(1)(layers.Concatenate()([inputs, hidden])))
    model.compile(SGD(1e-3), "mse", device="reference", seed=0)
    return model


def regression() -> gpunn.Model:
    """Return the net for California housing."""
    net = [gpunn.Input((8,)), layers.Dense(30, activation="relu"), layers.Dense(1)]
    model = gpunn.Sequential(net)
    model.compile(SGD(1e-3), "mse", ["mae"], device="reference", seed=0)
    return model


def cases() -> Iterator[tuple[str, Plan]]:
    """Yield names and plans."""
    for name, optimizer in OPTIMIZERS.items():
        for batch_size in BATCH_SIZES:
            plan = mnist(optimizer).plan(batch_size, ["uint8"])
            yield f"300-100 {name}, batch {batch_size}", plan
    for batch_size in (50, 1024):
        plan = mnist(OPTIMIZERS["sgd"], dropout=True).plan(batch_size, ["uint8"])
        yield f"300-100 sgd with dropout, batch {batch_size}", plan
        plan = mnist(OPTIMIZERS["momentum"], normalized=True).plan(batch_size, ["uint8"])
        yield f"300-100 momentum, batch-normalized, batch {batch_size}", plan
    yield "wide and deep, batch 32", wide_and_deep().plan(32, ["float32"])
    yield "regression, batch 32", regression().plan(32, ["float32"])


# Figures


def figures(plan: Plan) -> Figures:
    """Return all that is counted of a plan."""
    found: Figures = {}
    for program, steps in plan.programs.items():
        if steps:
            found[f"{program}: calls"] = len(steps)
            found[f"{program}: FLOPs"] = plan.flops(program)
            found[f"{program}: bytes moved"] = plan.bytes(program)
    for region, layout in plan_layout(plan).items():
        found[f"bytes of {region}"] = layout.nbytes
    for mode in ("eager", "graphs"):
        driver = RecordingDriver()
        step = bound_step(plan, CudaBackend(driver), graphs=mode == "graphs")
        step(STEPS)  # warms up
        driver.launches = driver.submissions = 0
        step(STEPS)
        found[f"{mode}: launches per step"] = driver.launches // STEPS
        found[f"{mode}: host launches in {STEPS} steps"] = driver.submissions
        found["bytes allocated on the device"] = driver.allocated
        if mode == "graphs":
            found["graphs: nodes of the largest"] = driver.nodes
    return found


def bound_step(plan: Plan, backend: CudaBackend, *, graphs: bool) -> Callable[[int], None]:
    """Return training steps on data of no meaning."""
    backend.graphs = graphs
    bound = BoundPlan(plan, backend)
    external = {name: spec for name, spec in plan.buffers.items() if spec.region == EXTERNAL}
    rows = plan.batch_size
    bound.attach(
        {
            name: backend.upload(np.zeros((rows, *spec.shape[1:]), spec.dtype))
            for name, spec in external.items()
        }
    )
    return lambda count: bound.repeat("train", count)


def growth(before: Figures, now: Figures) -> list[str]:
    """Return a line for each figure that is larger than before, or new."""
    return [
        f"{name}: {before.get(name, 0):,} -> {value:,} (+{value - before.get(name, 0):,})"
        for name, value in now.items()
        if value > before.get(name, 0)
    ]


def main() -> None:
    """Write the table."""
    table = {name: figures(plan) for name, plan in cases()}
    TABLE.write_text(json.dumps(table, indent=1) + "\n")
    print(f"wrote {len(table)} cases to {TABLE.name}")


if __name__ == "__main__":
    main()
