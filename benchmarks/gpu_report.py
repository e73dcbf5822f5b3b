"""What a GPU makes of gpunn, in one command of under nine minutes.

    python -m benchmarks.gpu_report --out DIR [--device cuda] [--budget SECONDS]

The most important first, each part written to ``DIR/gpu_report.json`` and ``DIR/gpu_report.md``
as soon as it is done, so that a run cut short is still of use:

1. the tests in ``tests/gpu``;
2. compute-sanitizer, where it is installed: memcheck, racecheck and initcheck;
3. every kernel of a training step against the bandwidth and FLOP rate measured in the same run;
4. training throughput on MNIST, and the accuracy reached (``GPUNN_DATA`` says where the data are;
   without them, throughput on random images).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import gpu_kernels, gpu_training
from benchmarks.machine import describe_machine

ROOT = Path(__file__).parent.parent
TOOLS = ("memcheck", "racecheck", "initcheck")
Section = Callable[[str, float], dict[str, Any]]


def gpu_tests(device: str, seconds: float) -> dict[str, Any]:
    """Run ``tests/gpu``; return counts and the names of what failed."""
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-p", "no:cacheprovider", "-rfEs"]
    done = _run(command, seconds)
    last = next((line for line in reversed(done["output"].splitlines()) if " in " in line), "")
    counts = {kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done["output"], re.MULTILINE)
    ok = done["code"] == 0 and counts.get("passed", 0) > 0
    return {"ok": ok, "counts": counts, "failed": failed, "tail": done["output"][-3000:]}


def sanitizer(device: str, seconds: float) -> dict[str, Any]:
    """Run a sample of all ops and a short training under each tool of compute-sanitizer."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return {"ok": None, "why": "compute-sanitizer is not installed"}
    results: dict[str, Any] = {}
    for tool in TOOLS:
        options = ["--tool", tool, "--error-exitcode", "99"]
        command = [program, *options, sys.executable, "-m", "benchmarks.gpu_sanitized", device]
        done = _run(command, seconds / len(TOOLS))
        summary = re.findall(r"=+ (.*SUMMARY.*)", done["output"])
        results[tool] = {
            "ok": done["code"] == 0,
            "summary": summary[-1] if summary else "",
            "tail": "" if done["code"] == 0 else done["output"][-3000:],
        }
    return {"ok": all(result["ok"] for result in results.values()), "tools": results}


def _run(command: list[str], seconds: float) -> dict[str, Any]:
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
        text = output.decode(errors="replace") if isinstance(output, bytes) else output
        return {"code": None, "output": f"{text}\nstopped after {seconds:.0f} s"}
    return {"code": done.returncode, "output": done.stdout + done.stderr}


# Name, what to run, and the share of the time it may take.
SECTIONS: tuple[tuple[str, Section, float], ...] = (
    ("tests", gpu_tests, 0.35),
    ("sanitizer", sanitizer, 0.25),
    ("kernels", gpu_kernels.measure, 0.2),
    ("training", gpu_training.measure, 0.2),
)


def _versions() -> dict[str, str]:
    names = ("cupy-cuda12x", "cupy-cuda13x", "cupy", "torch", "jax")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def markdown(report: dict[str, Any]) -> str:
    """Return the report as short tables."""
    machine = report["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    lines = [
        f"# GPU report: {report['device']}",
        "",
        f"{machine['processor']}, {machine['cores']} cores; {versions}; commit "
        f"{report['commit']}; {machine['date']}.",
        "",
    ]
    if tests := report.get("tests"):
        lines.append(f"- GPU tests: {_state(tests)} {tests.get('counts', '')}")
    if checked := report.get("sanitizer"):
        tools = ", ".join(f"{k}: {_state(v)}" for k, v in checked.get("tools", {}).items())
        lines.append(f"- compute-sanitizer: {tools or checked.get('why') or _state(checked)}")
    if kernels := report.get("kernels"):
        lines += ["", *gpu_kernels.markdown(kernels)]
    if training := report.get("training"):
        lines += ["", *gpu_training.markdown(training)]
    return "\n".join(lines) + "\n"


def _state(result: dict[str, Any]) -> str:
    if "error" in result:
        return "broke off: " + result["error"].strip().splitlines()[-1]
    return {True: "passed", False: "FAILED", None: "not run"}[result.get("ok")]


def main() -> int:
    """Run all sections; return 1 if one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--budget",
        type=float,
        default=500.0,
        help="seconds for everything; what has begun then is finished (default: 500)",
    )
    names = [name for name, _, _ in SECTIONS]
    parser.add_argument("--only", nargs="*", choices=names, default=names)
    options = parser.parse_args()
    from gpunn.backends.select import select_backend
    from gpunn.errors import DeviceError

    try:
        device = select_backend(options.device).backend.describe()
    except DeviceError as error:
        parser.error(str(error))
    began = time.perf_counter()
    machine = describe_machine()
    machine["versions"] |= _versions()
    report: dict[str, Any] = {
        "device": device,
        "machine": machine,
        "commit": _commit(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    share_left, failed = 1.0, False
    for name, section, share in SECTIONS:
        if name in options.only:
            left = options.budget - (time.perf_counter() - began)
            try:
                report[name] = section(options.device, left * share / share_left)
            except Exception:
                report[name] = {"ok": False, "error": traceback.format_exc()}
            failed |= report[name].get("ok") is False
            report["seconds"] = time.perf_counter() - began
            text = json.dumps(report, indent=2) + "\n"
            (options.out / "gpu_report.json").write_text(text)
            (options.out / "gpu_report.md").write_text(markdown(report))
            print(f"{name}: {_state(report[name])} ({report['seconds']:.0f} s so far)", flush=True)
        share_left -= share
    print(markdown(report))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
