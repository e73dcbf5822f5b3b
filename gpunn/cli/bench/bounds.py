"""Lower bounds of a training step, from the plan's FLOPs and bytes and measured ceilings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from gpunn.backends.interface import Backend
from gpunn.backends.roofline import GemmShape, copy_calls, product_call
from gpunn.errors import DeviceError
from gpunn.plan.layout import plan_layout
from gpunn.plan.spec import Plan, Step

PRODUCTS = ("dense", "dense_input_gradient", "dense_kernel_gradient", "dense_kernel_update")
LARGE_PRODUCT = {"cpu": 3072, "cuda": 8192}
LARGE_COPY = {"cpu": 1 << 28, "cuda": 1 << 30}
SMALL = 64  # of either, where the device is none of these: a reference, a simulator


@dataclass(frozen=True)
class Roofline:
    """What a device reaches when it does one thing only.

    Attributes
    ----------
    flops : float or None
        FLOP/s of a large square product; None where its library has none in this precision.
    large_copy, small_copy : float
        Bytes read and written per second, far beyond the caches and within the working set of a
        plan.
    """

    flops: float | None
    large_copy: float
    small_copy: float

    @property
    def bytes(self) -> float:
        """The better of the two bandwidths: a step's arrays may stay in a cache, or may not."""
        return max(self.large_copy, self.small_copy)

    def best(self, other: Roofline) -> Roofline:
        """Return the higher of each: a ceiling is what can be reached at all."""
        flops = max((f for f in (self.flops, other.flops) if f is not None), default=None)
        copies = max(self.large_copy, other.large_copy), max(self.small_copy, other.small_copy)
        return Roofline(flops, *copies)


def product_shape(plan: Plan, step: Step) -> GemmShape | None:
    """Return the product that a call of `plan` contains, None if it has none."""
    if step.op not in PRODUCTS:
        return None
    shapes = {role: plan.buffers[name].shape for role, name in step.roles.items()}
    if step.op == "dense":
        (batch, inputs), (_, outputs) = shapes["values"], shapes["kernel"]
        return GemmShape(batch, inputs, outputs)
    if step.op == "dense_input_gradient":
        (batch, outputs), (inputs, _) = shapes["gradient"], shapes["kernel"]
        return GemmShape(batch, outputs, inputs, transpose_right=True)
    (batch, inputs), (_, outputs) = shapes["values"], shapes["gradient"]
    return GemmShape(inputs, batch, outputs, transpose_left=True)


def product_shapes(plan: Plan, program: str = "train") -> list[GemmShape]:
    """Return the products of a program in their order."""
    found = (product_shape(plan, step) for step in plan.programs[program])
    return [shape for shape in found if shape is not None]


def call_bound(plan: Plan, step: Step, ceilings: Roofline) -> float:
    """Return the least seconds that one call takes: by its FLOPs or by its bytes."""
    flops, nbytes = plan.step_cost(step)
    by_flops = flops / ceilings.flops if ceilings.flops else 0.0
    return max(by_flops, nbytes / ceilings.bytes)


def step_bound(plan: Plan, ceilings: Roofline) -> float:
    """Return the least seconds that a training step takes, call by call one after the other."""
    return sum(call_bound(plan, step, ceilings) for step in plan.programs["train"])


def working_set(plan: Plan) -> int:
    """Return the bytes of all regions of a plan."""
    return sum(layout.nbytes for layout in plan_layout(plan).values())


def products_alone(backend: Backend, plan: Plan, precision: str) -> Callable[[], None] | None:
    """Return a call that makes the products of a training step and nothing else.

    On a GPU it is a graph, so that the host's launches do not show.

    None where the device's library has none in this precision.
    """
    try:
        calls = [product_call(backend, shape, precision) for shape in product_shapes(plan)]
    except DeviceError:
        return None

    def step() -> None:
        for call in calls:
            call()

    driver = getattr(backend, "driver", None)
    if driver is None:
        return step
    step()  # loads what is loaded at the first call
    captured: Callable[[], None] = driver.capture(calls)
    return captured


def measure_roofline(
    backend: Backend, precision: str, seconds: float, clock: Callable[[], float] = perf_counter
) -> Roofline:
    """Measure a large product and a large copy, for about `seconds`."""
    kind = backend.name.partition(":")[0]
    size, large = LARGE_PRODUCT.get(kind, SMALL), LARGE_COPY.get(kind, SMALL**2)

    try:
        square = GemmShape(size, size, size)
        product = product_call(backend, square, precision)
        flops: float | None = square.flops / _best(backend, product, seconds / 2, clock)
    except DeviceError:
        flops = None
    copy = copy_rate(backend, large, seconds / 2, clock)
    return Roofline(flops, copy, copy)


def copy_rate(
    backend: Backend, nbytes: int, seconds: float, clock: Callable[[], float] = perf_counter
) -> float:
    """Return the bytes per second, read and written, of the fastest way to copy `nbytes`."""
    ways = copy_calls(backend, max(nbytes, 1)).values()
    shortest = min(_best(backend, way, seconds / len(ways), clock) for way in ways)
    return 2 * nbytes / shortest


def _best(
    backend: Backend, call: Callable[[], object], seconds: float, clock: Callable[[], float]
) -> float:
    """Return the shortest time of a call, over about `seconds`: a ceiling is what can be."""
    call()
    backend.synchronize()
    began = clock()
    call()
    backend.synchronize()
    first = max(clock() - began, 1e-9)
    # Several in one measurement, where one is too short for the clock.
    repeats = max(1, int(1e-4 / first))
    shortest = first
    while clock() - began < seconds:
        start = clock()
        for _ in range(repeats):
            call()
        backend.synchronize()
        shortest = min(shortest, max(clock() - start, 1e-9) / repeats)
    return shortest
