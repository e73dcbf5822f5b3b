"""What compute-sanitizer watches: a few cases of every op, and a short training.

compute-sanitizer --tool memcheck python -m benchmarks.gpu_sanitized [device]
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "helpers"))

from device_runs import OPTIMIZERS, model, watched_run
from op_cases import precision_cases
from op_runs import cases, generator, run

from gpunn.backends.select import select_backend
from gpunn.plan.ops import OPS

CASES_PER_OP = 8


def main() -> None:
    """Run the sample on a device."""
    device = sys.argv[1] if len(sys.argv) > 1 else "cuda"
    if device.startswith("cuda"):
        import cupy

        # Every allocation by itself: a pool would hide what lies beyond an array's end.
        cupy.cuda.set_allocator(None)
    backend = select_backend(device).backend
    chosen = []
    for op in OPS:
        found = cases(op, "float32")
        chosen += found[:: max(1, len(found) // CASES_PER_OP)]
    for precision in ("tf32", "bfloat16"):
        chosen += list(precision_cases(precision))[::16]
    for case in chosen:
        run(backend, case, case.make(generator(case)))
    for optimizer in OPTIMIZERS:
        watched_run(model(device, optimizer), steps=15)
    print(f"ran {len(chosen)} op cases and {len(OPTIMIZERS)} short trainings on {device}")


if __name__ == "__main__":
    main()
