"""Every kernel of a training step against the ceilings measured in the same run.

The bound of a call is the larger of bytes over the better of two bandwidths (a copy far beyond the
caches, one of the plan's size) and FLOPs over the rate of a large product by cuBLASLt in the same
precision; bytes and FLOPs are the plan's own count. Calls are timed in captured graphs, so that the
host's launches do not show; a training step's arrays stay in the L2 cache from call to call, as
they do in training, so small calls may beat the bandwidth of the memory behind it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np

import gpunn
from gpunn import layers
from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.cuda.driver import Driver
from gpunn.backends.interface import Backend
from gpunn.backends.select import select_backend
from gpunn.cli.bench import bounds
from gpunn.errors import DeviceError
from gpunn.plan.bind import BoundPlan
from gpunn.plan.spec import CONTROL

BATCH_SIZES = (50, 128, 1024, 8192)
PRECISIONS = ("float32", "tf32", "bfloat16")
HIDDEN = (300, 100)
ROWS = 60_000
REPEATS = 20


def seconds_per_call(driver: Driver, call: Callable[[], None], rounds: int = 7) -> float:
    """Return the median time of one call within a graph of `REPEATS`."""
    repeated = driver.capture([call] * REPEATS)
    repeated()
    driver.synchronize()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        repeated()
        driver.synchronize()
        times.append((time.perf_counter() - began) / REPEATS)
    return statistics.median(times)


def _seconds(driver: Driver, call: Callable[[], None], repeats: int = 10) -> float:
    """Return the time of one call that cannot be captured but is long."""
    call()
    driver.synchronize()
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    driver.synchronize()
    return (time.perf_counter() - began) / repeats


def ceilings(backend: Backend, seconds: float) -> dict[str, bounds.Roofline]:
    """Return, by precision, the rate of a large product and the bandwidth of a large copy."""
    precisions = PRECISIONS if backend.name.startswith("cuda") else PRECISIONS[:1]
    each = seconds / len(precisions)
    return {p: bounds.measure_roofline(backend, p, each) for p in precisions}


def net(
    device: str, precision: str = "float32", optimizer: str = "adam", seed: int = 0
) -> gpunn.Model:
    """Return the net of all GPU figures: 784-300-100-10 on uint8 images."""
    model = gpunn.Sequential(
        [
            gpunn.Input((28, 28)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(HIDDEN[0], activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(HIDDEN[1], activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, ["accuracy"], device=device, precision=precision, seed=seed)
    return model


def bound_step(backend: Backend, precision: str, batch_size: int) -> BoundPlan:
    """Return the plan of a training step on random data, run once."""
    model = net(backend.name, precision)
    plan = model.plan(batch_size, ["uint8"])
    bound = BoundPlan(plan, backend)
    rng = np.random.default_rng(0)
    external: dict[str, Any] = {"order": rng.permutation(ROWS)}
    for name, spec in plan.buffers.items():
        if name.startswith("data/"):
            external[name] = rng.integers(256, size=(ROWS, 784), dtype=np.uint8)
        if name.startswith("targets/"):
            external[name] = rng.integers(10, size=ROWS).astype(spec.dtype)
    bound.attach({name: backend.upload(array) for name, array in external.items()})
    for variable in model.graph.variables:
        values = rng.standard_normal(variable.shape, dtype=np.float32) * 0.05
        bound.write(f"parameters/{variable.path}", values)
    bound.write(f"{CONTROL}/learning_rate", 1e-6)
    bound.run("train")
    return bound


def measure_step(
    device: str, precision: str, batch_size: int, large: bounds.Roofline
) -> dict[str, Any]:
    """Return time, bound and rates of each call of a training step, and of the whole."""
    backend = select_backend(device).backend
    driver: Driver = backend.driver  # type: ignore[attr-defined]
    bound = bound_step(backend, precision, batch_size)
    plan, calls = bound.plan, bound.calls("train")
    small = bounds.copy_rate(backend, bounds.working_set(plan), 0.05)
    limits = replace(large, small_copy=small)
    rows = []
    for step, call in zip(plan.programs["train"], calls, strict=True):
        flops, nbytes = plan.step_cost(step)
        seconds = seconds_per_call(driver, call)
        floor = bounds.call_bound(plan, step, limits)
        rows.append(
            {
                "op": step.op,
                "result": next(iter(step.outputs.values())),
                "microseconds": seconds * 1e6,
                "bound_microseconds": floor * 1e6,
                "gigabytes_per_second": nbytes / seconds / 1e9,
                "teraflops": flops / seconds / 1e12,
                "of_bandwidth": nbytes / seconds / limits.bytes,
                "of_flop_rate": flops / seconds / limits.flops if limits.flops else None,
            }
        )
        bound.write(f"{CONTROL}/offset", 0)
    together = max(1, min(3 * REPEATS, ROWS // batch_size))  # steps: not beyond the last row
    whole = _with_offset(bound, driver.capture(calls * together))
    total = _seconds(driver, whole, 10) / together
    return {
        "precision": precision,
        "batch_size": batch_size,
        "calls": rows,
        "step_us": total * 1e6,
        "bound_us": bounds.step_bound(plan, limits) * 1e6,
        "calls_us": sum(row["microseconds"] for row in rows),
        # A kernel of a few values: nearly all of it is the way from one kernel to the next.
        "between_us": min(row["microseconds"] for row in rows),
        "bytes_per_second": limits.bytes,
        "flops_per_second": limits.flops,
    }


def compare_products(device: str, batch_size: int) -> list[dict[str, Any]]:
    """Time each product of a step by our kernels, untuned, and by the device's library."""
    driver: Driver = select_backend(device).backend.driver  # type: ignore[attr-defined]
    own, library = (
        bound_step(CudaBackend(driver, products=products), "float32", batch_size)
        for products in ("own", "library")
    )
    rows = []
    pairs = zip(own.calls("train"), library.calls("train"), strict=True)
    for step, (ours, theirs) in zip(own.plan.programs["train"], pairs, strict=True):
        if step.op.startswith("dense"):
            row: dict[str, Any] = {"op": step.op, "result": next(iter(step.outputs.values()))}
            times = [seconds_per_call(driver, call) * 1e6 for call in (ours, theirs)]
            row |= dict(zip(("own_microseconds", "library_microseconds"), times, strict=True))
            rows.append(row | {"batch_size": batch_size})
    return rows


def _with_offset(bound: BoundPlan, call: Callable[[], None]) -> Callable[[], None]:
    offset = bound.array(f"{CONTROL}/offset")

    def run() -> None:
        bound.backend.write(offset, 0)
        call()

    return run


def measure(
    device: str, seconds: float, save: Callable[[dict[str, Any]], None] = lambda result: None
) -> dict[str, Any]:
    """Return ceilings and the calls of training steps; stops when the time is up."""
    began = time.perf_counter()
    backend = select_backend(device).backend
    on_gpu = device.startswith("cuda")
    rates = ceilings(backend, min(3.0, seconds / 10) if on_gpu else 0.02)
    steps: list[Any] = []
    products: list[dict[str, Any]] = []
    result = {"ok": True, "steps": steps, "products": products}
    if not any(found.flops for found in rates.values()):
        result["no_flop_rates"] = _why_no_library(backend)
    result["ceilings"] = {name: asdict(found) for name, found in rates.items()}
    for precision in rates:
        for batch_size in BATCH_SIZES if on_gpu else (8,):
            if time.perf_counter() - began < seconds:
                steps.append(measure_step(device, precision, batch_size, rates[precision]))
                save(result)
    for batch_size in BATCH_SIZES if on_gpu else (8,):
        if rates["float32"].flops and time.perf_counter() - began < seconds:
            products += compare_products(device, batch_size)
            save(result)
    return result


def _why_no_library(backend: Backend) -> str:
    driver: Driver = backend.driver  # type: ignore[attr-defined]
    try:
        driver.check_library()
    except DeviceError as error:
        return str(error)
    return "the library has no such products"


def markdown(result: dict[str, Any], calls: bool = True) -> list[str]:
    """Return the tables; with `calls` also one of each step's calls."""
    rates = result["ceilings"]
    flops = ", ".join(
        f"{name} {rate['flops'] / 1e12:.1f} TFLOP/s"
        for name, rate in rates.items()
        if rate["flops"]
    )
    copy = max(rate["large_copy"] for rate in rates.values())
    lines = [
        f"Roofline measured in this run: copy {copy / 1e9:,.0f} GB/s, "
        f"{flops or 'no FLOP rates: ' + result['no_flop_rates']}.",
        "",
        "Training steps in graphs, microseconds; the bound is the sum of those of the calls; "
        "between two kernels: no more than the shortest call takes:",
        "",
        "| precision | batch | step | bound | bound / step | calls alone | kernel to kernel |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {step['precision']} | {step['batch_size']} | {step['step_us']:.1f} | "
        f"{step['bound_us']:.1f} | {step['bound_us'] / step['step_us']:.0%} | "
        f"{step['calls_us']:.1f} | {step['between_us']:.2f} |"
        for step in result["steps"]
    ]
    if not calls:
        return lines
    for step in result["steps"]:
        lines += [
            "",
            f"### {step['precision']}, batch {step['batch_size']}",
            "",
            "| call | result | us | bound us | GB/s | TFLOP/s | of its ceiling |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {row['op']} | {row['result']} | {row['microseconds']:.2f} | "
            f"{row['bound_microseconds']:.2f} | {row['gigabytes_per_second']:,.0f} | "
            f"{row['teraflops']:.2f} | {row['bound_microseconds'] / row['microseconds']:.0%} |"
            for row in step["calls"]
        ]
    if result["products"]:
        lines += [
            "",
            "Products in float32, with the launches that finish them, in graphs:",
            "",
            "| batch | call | result | own us | library us |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {row['batch_size']} | {row['op']} | {row['result']} | "
            f"{row['own_microseconds']:.2f} | {row['library_microseconds']:.2f} |"
            for row in result["products"]
        ]
    return lines
