"""What a GPU makes of gpunn, in one command of under nine minutes.

    python -m benchmarks.gpu_report --out DIR [--device cuda] [--budget SECONDS]

The most important first; ``DIR/gpu_report.json`` and ``DIR/gpu_report.md`` are written anew after
each part, and ``DIR/parts`` has what a part has found so far, so that a run cut short is of use:

1. the tests in ``tests/gpu``;
2. what serves each matrix product best, as ``gpunn tune`` finds it, and training throughput with it
   and without, beside PyTorch and JAX;
3. every kernel of a training step against the bandwidth and FLOP rate measured in the same run;
4. the time to 98 % test accuracy on MNIST, five seeds (``GPUNN_DATA`` says where the data are), and
   the start of a process with empty caches and full ones;
5. compute-sanitizer, where it is installed: memcheck, racecheck and initcheck; and whether two
   runs give the same bits.

On a GPU each part is a process of its own: what breaks one leaves the others alone. The exit code
is 1 if a part failed, 2 on a machine without a GPU that can be used.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks import gpu_accuracy, gpu_kernels, gpu_training, gpu_tuning
from benchmarks.gpu_training import Save
from benchmarks.machine import describe_machine
from gpunn.cli.reports import finite

ROOT = Path(__file__).parent.parent
TOOLS = ("memcheck", "racecheck", "initcheck")
Section = Callable[[str, float, Save], dict[str, Any]]
GRACE = 10.0  # seconds beyond its time in which a part may end its own processes


def gpu_tests(device: str, seconds: float, save: Save) -> dict[str, Any]:
    """Run ``tests/gpu``; return counts and the names of what failed, of those that were run."""
    options = ["-p", "no:cacheprovider", "-o", "addopts=-v -rfEs --strict-markers"]
    done = _run([sys.executable, "-u", "-m", "pytest", "tests/gpu", *options], seconds)
    lines = re.findall(r"^(\S+::.*?) (PASSED|FAILED|SKIPPED|ERROR)\b", done["output"], re.MULTILINE)
    states = [state.lower() for _, state in lines]
    counts = {state: states.count(state) for state in dict.fromkeys(states)}
    failed = [name for name, state in lines if state in ("FAILED", "ERROR")]
    result = {"counts": counts, "failed": failed, "tail": done["output"][-3000:]}
    if done["code"] is None:
        return result | {"ok": False if failed else None, "why": f"stopped at {seconds:.0f} s"}
    return result | {"ok": done["code"] == 0 and counts.get("passed", 0) > 0}


def sanitizer(device: str, seconds: float, save: Save) -> dict[str, Any]:
    """Run a sample of all ops and a short training under each tool of compute-sanitizer."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return {"ok": None, "why": "compute-sanitizer is not installed"}
    results: dict[str, Any] = {}
    began = time.perf_counter()
    for i, tool in enumerate(TOOLS):
        options = ["--tool", tool, "--error-exitcode", "99"]
        command = [program, *options, sys.executable, "-m", "benchmarks.gpu_sanitized", device]
        left = seconds - (time.perf_counter() - began)
        done = _run(command, max(1.0, left / (len(TOOLS) - i)))
        summary = re.findall(r"=+ (.*SUMMARY.*)", done["output"])
        results[tool] = {
            # Out of time is no finding: the tools make a program many times slower.
            "ok": None if done["code"] is None else done["code"] == 0,
            "summary": summary[-1] if summary else "",
            "tail": "" if done["code"] == 0 else done["output"][-3000:],
        }
        save({"ok": None, "tools": results})
    states = {result["ok"] for result in results.values()}
    ok = False if False in states else None if None in states else True
    return {"ok": ok, "tools": results}


def _run(command: list[str], seconds: float) -> dict[str, Any]:
    """Run a program; one out of time is ended with all that it has started."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=output, start_new_session=os.name == "posix"
        )
        try:
            code: int | None = process.wait(seconds)
            said = ""
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as error:
            if os.name == "posix":
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()
            if isinstance(error, KeyboardInterrupt):
                raise
            code, said = None, f"\nstopped after {seconds:.0f} s"
        output.seek(0)
        return {"code": code, "output": output.read().decode(errors="replace") + said}


# Name, what to run, and the share of the time it may take; what one leaves is for the next.
SECTIONS: tuple[tuple[str, Section, float], ...] = (
    ("tests", gpu_tests, 0.24),
    ("tuning", gpu_tuning.measure, 0.14),
    ("training", gpu_training.measure, 0.32),
    ("kernels", gpu_kernels.measure, 0.12),
    ("accuracy", gpu_accuracy.accuracy, 0.1),
    ("starts", gpu_accuracy.starts, 0.08),
    ("bits", gpu_accuracy.bits, 0.04),
    ("sanitizer", sanitizer, 0.1),
)
PART = """
import sys
from pathlib import Path
from benchmarks import gpu_report
gpu_report.part(sys.argv[1], sys.argv[2], float(sys.argv[3]), Path(sys.argv[4]))
"""


def part(name: str, device: str, seconds: float, file: Path) -> None:
    """Run one section; keep what it has found in `file` as it goes."""

    def save(result: dict[str, Any]) -> None:
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps(finite(result)))
        fresh.replace(file)

    section = next(section for other, section, _ in SECTIONS if other == name)
    try:
        result = section(device, seconds, save)
    except Exception:
        error = traceback.format_exc()
        result = (json.loads(file.read_text()) if file.exists() else {}) | {"error": error}
        result["ok"] = False
    save(result)


def part_apart(name: str, device: str, seconds: float, file: Path) -> dict[str, Any]:
    """Run one section in a process of its own; return what it has found, even if it broke off."""
    command = [sys.executable, "-c", PART, name, device, str(seconds), str(file)]
    done = _run(command, seconds + GRACE)
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if done["code"] is None:
        found |= {"ok": found.get("ok"), "cut_short": True}
        found.setdefault("why", f"nothing in {seconds + GRACE:.0f} s")
    elif done["code"]:
        text = done["output"].strip()[-3000:] or "no output"
        found |= {"ok": False, "error": f"{text}\nended with code {done['code']}"}
    return found


def _versions() -> dict[str, str]:
    names = ("cupy-cuda12x", "cupy-cuda13x", "cupy", "torch", "jax")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _driver() -> str:
    """Return the driver's version, as nvidia-smi says it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.split()[0] if done.stdout.split() else "unknown"


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def markdown(report: dict[str, Any], calls: bool = True) -> str:
    """Return the report as tables; with `calls` there is one of each step's calls."""
    machine = report["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    lines = [
        *([f"# GPU report: {report['device']}", ""] if calls else [f"{report['device']}.", ""]),
        f"{machine['processor']}, {machine['cores']} cores; {versions}; commit "
        f"{report['commit']}; driver {report['driver']}; {machine['date']}.",
        "",
    ]
    if tests := report.get("tests"):
        lines.append(f"- GPU tests: {_state(tests)} {tests.get('counts', '')}")
    if checked := report.get("sanitizer"):
        tools = ", ".join(f"{k}: {_state(v)}" for k, v in checked.get("tools", {}).items())
        lines.append(f"- compute-sanitizer: {tools or _state(checked)}")
    if bits := report.get("bits"):
        lines.append(f"- The same bits from run to run, with graphs and without: {_state(bits)}")
    for name, key, table in TABLES:
        if (found := report.get(name)) is None:
            continue
        if found.get(key):
            some = name == "kernels" and not calls
            lines += ["", *(gpu_kernels.markdown(found, calls=False) if some else table(found))]
        if "error" in found or not found.get(key):
            lines += ["", f"{name}: {_state(found)}"]
    return "\n".join(lines) + "\n"


def _state(result: dict[str, Any]) -> str:
    if "error" in result:
        return "broke off: " + result["error"].strip().splitlines()[-1]
    if result.get("ok") is None:
        return f"not finished: {result['why']}" if "why" in result else "not finished"
    return "passed" if result["ok"] else "FAILED"


# Part, what it must have found, and the table of it.
TABLES = (
    ("tuning", "rows", gpu_tuning.markdown),
    ("training", "rows", gpu_training.markdown),
    ("kernels", "ceilings", gpu_kernels.markdown),
    ("accuracy", "runs", gpu_accuracy.accuracy_markdown),
    ("starts", "starts", gpu_accuracy.starts_markdown),
)


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
        help="seconds for everything; parts that take longer are ended (default: 500)",
    )
    names = [name for name, _, _ in SECTIONS]
    parser.add_argument("--only", nargs="*", choices=names, default=names)
    options = parser.parse_args()
    from gpunn.backends.select import select_backend
    from gpunn.errors import DeviceError

    try:
        device = select_backend(options.device).backend.describe()
    except DeviceError as error:
        parser.error(str(error))  # exit code 2
    began = time.perf_counter()
    machine = describe_machine()
    machine["versions"] |= _versions()
    report: dict[str, Any] = {
        "device": device,
        "driver": _driver(),
        "machine": machine,
        "commit": _commit(),
    }
    parts = options.out / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    for old in parts.glob("*.json"):
        old.unlink()
    share_left = sum(share for name, _, share in SECTIONS if name in options.only)
    failed = False
    for name, _, share in SECTIONS:
        if name in options.only:
            left = max(0.0, options.budget - (time.perf_counter() - began))
            found = _one_part(name, options.device, left * share / share_left, parts)
            failed |= found.get("ok") is False
            report |= {name: found, "seconds": time.perf_counter() - began}
            (options.out / "gpu_report.json").write_text(json.dumps(report, indent=1) + "\n")
            (options.out / "gpu_report.md").write_text(markdown(report))
            (parts / f"{name}.json").unlink(missing_ok=True)
            print(f"{name}: {_state(found)} ({report['seconds']:.0f} s so far)", flush=True)
            share_left -= share
    with suppress(OSError):
        parts.rmdir()
    print(markdown(report))
    return int(failed)


def _one_part(name: str, device: str, seconds: float, folder: Path) -> dict[str, Any]:
    file = folder / f"{name}.json"
    if device.startswith("cuda"):
        return part_apart(name, device, seconds, file)
    part(name, device, seconds, file)
    found: dict[str, Any] = json.loads(file.read_text())
    return found


if __name__ == "__main__":
    sys.exit(main())
