"""Every kernel of a training step against the ceilings measured in the same run.

The bound of a call is the larger of bytes over the copy bandwidth and FLOPs over the FLOP rate of
the precision, both from the plan's own count. Calls are timed in captured graphs, so that the
host's launches do not show; a training step's arrays stay in the L2 cache from call to call, as
they do in training, so small calls may beat the bandwidth of the memory behind it.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import gpunn
from gpunn import layers
from gpunn.backends.cuda.backend import CudaBackend
from gpunn.backends.cuda.driver import Driver, Product
from gpunn.backends.interface import Backend
from gpunn.backends.select import select_backend
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


def ceilings(driver: Driver, size: int, nbytes: int) -> dict[str, float]:
    """Return the copy bandwidth (bytes read and written per second) and FLOP rates."""
    found = {"copy": _copy_rate(driver, nbytes)}
    rng = np.random.default_rng(0)
    square = rng.standard_normal((size, size), dtype=np.float32)
    left, right, result = (driver.upload(square) for _ in range(3))
    try:
        product = driver.prepare_product(Product(left, right, result))
        found["float32"] = 2 * size**3 / _seconds(driver, product)
    except DeviceError as error:  # cuBLAS is a package of its own
        print(f"no ceiling for float32: {error}")
    if driver.name.startswith("cuda"):
        found |= _tensor_core_rates(size)
    return found


def _copy_rate(driver: Driver, nbytes: int) -> float:
    rng = np.random.default_rng(0)
    source = driver.upload(rng.integers(256, size=nbytes, dtype=np.uint8))
    target = driver.allocate(nbytes)
    return 2 * nbytes / _seconds(driver, lambda: driver.write(target, source))


def _tensor_core_rates(size: int) -> dict[str, float]:
    """Return what cuBLAS reaches on the tensor cores, by way of PyTorch, where it is installed."""
    try:
        import torch
    except ImportError:
        return {}
    rates = {}
    for precision, dtype in (("tf32", torch.float32), ("bfloat16", torch.bfloat16)):
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        a, b = (torch.randn(size, size, device="cuda").to(dtype) for _ in range(2))
        torch.mm(a, b)
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(10):
            torch.mm(a, b)
        torch.cuda.synchronize()
        rates[precision] = 20 * size**3 / (time.perf_counter() - began)
    torch.backends.cuda.matmul.allow_tf32 = False
    return rates


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


def measure_step(device: str, precision: str, batch_size: int, rates: dict[str, float]) -> Any:
    """Return time, bound and their ratio for each call of a training step."""
    backend = select_backend(device).backend
    driver: Driver = backend.driver  # type: ignore[attr-defined]
    bound = bound_step(backend, precision, batch_size)
    plan = bound.plan
    rows = []
    for step, call in zip(plan.programs["train"], bound.calls("train"), strict=True):
        flops, nbytes = plan.step_cost(step)
        seconds = seconds_per_call(driver, call)
        product = step.op.startswith("dense")
        rate = rates.get(precision if product else "float32", rates.get("float32", math.inf))
        floor = max(nbytes / rates["copy"], flops / rate)
        rows.append(
            {
                "op": step.op,
                "result": next(iter(step.outputs.values())),
                "microseconds": seconds * 1e6,
                "bound_microseconds": floor * 1e6,
                "gigabytes_per_second": nbytes / seconds / 1e9,
                "teraflops": flops / seconds / 1e12,
            }
        )
        bound.write(f"{CONTROL}/offset", 0)
    whole = driver.capture(bound.calls("train"))
    total = _seconds(driver, _with_offset(bound, whole), 30)
    return {"precision": precision, "batch_size": batch_size, "calls": rows, "step_us": total * 1e6}


def compare_products(device: str, batch_size: int) -> list[dict[str, Any]]:
    """Time each product of a step, eager, by our kernels and by the device's library."""
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
            row |= {"batch_size": batch_size, "own_microseconds": _seconds(driver, ours, 50) * 1e6}
            rows.append(row | {"library_microseconds": _seconds(driver, theirs, 50) * 1e6})
    return rows


def _with_offset(bound: BoundPlan, call: Callable[[], None]) -> Callable[[], None]:
    offset = bound.array(f"{CONTROL}/offset")

    def run() -> None:
        bound.backend.write(offset, 0)
        call()

    return run


def measure(device: str, seconds: float) -> dict[str, Any]:
    """Return ceilings and the calls of training steps; stops when the time is up."""
    began = time.perf_counter()
    driver: Driver = select_backend(device).backend.driver  # type: ignore[attr-defined]
    on_gpu = device.startswith("cuda")
    rates = ceilings(driver, 8192 if on_gpu else 64, 2**30 if on_gpu else 2**16)
    steps: list[Any] = []
    products: list[dict[str, Any]] = []
    for precision in PRECISIONS if on_gpu else PRECISIONS[:1]:
        for batch_size in BATCH_SIZES if on_gpu else (8,):
            if time.perf_counter() - began < seconds:
                steps.append(measure_step(device, precision, batch_size, rates))
    for batch_size in BATCH_SIZES if on_gpu else (8,):
        if "float32" in rates and time.perf_counter() - began < seconds:
            products += compare_products(device, batch_size)
    return {"ok": True, "ceilings": rates, "steps": steps, "products": products}


def markdown(result: dict[str, Any]) -> list[str]:
    """Return the tables."""
    if "ceilings" not in result:
        return [f"Kernels: broke off: {result['error'].strip().splitlines()[-1]}"]
    rates = result["ceilings"]
    flops = ", ".join(f"{k} {v / 1e12:.1f} TFLOP/s" for k, v in rates.items() if k != "copy")
    lines = [f"Ceilings measured in this run: copy {rates['copy'] / 1e9:,.0f} GB/s, {flops}."]
    for step in result["steps"]:
        lines += [
            "",
            f"### {step['precision']}, batch {step['batch_size']}: "
            f"{step['step_us']:.1f} microseconds for the whole step in one graph",
            "",
            "| call | result | us | bound us | GB/s | TFLOP/s |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {row['op']} | {row['result']} | {row['microseconds']:.2f} | "
            f"{row['bound_microseconds']:.2f} | {row['gigabytes_per_second']:,.0f} | "
            f"{row['teraflops']:.2f} |"
            for row in step["calls"]
        ]
    if result["products"]:
        lines += [
            "",
            "Products in float32, launched one by one (so short ones show the launch):",
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
