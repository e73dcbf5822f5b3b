"""Imports point one way; only backends know numba and CuPy; import gpunn needs NumPy alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gpunn

ROOT = Path(gpunn.__file__).parent

# Parts of gpunn (a module or a package), and what each may import besides itself. An entry with
# a dot is a module or a package within a package.
SPECIFIED = ("activations", "constraints", "initializers", "losses", "metrics", "optimizers")
SPECIFIED += ("regularizers", "schedules")
GROUND = {"errors", "randomness"}
SPECS = GROUND | {"specs"}
PLAN = SPECS | {"backends.interface"}
TRAINING = PLAN | {"plan", "data", "checkpoints"}
MODELS = TRAINING | {"training", "backends.select"}
PUBLIC = MODELS | {"models"}

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "cache_folder": set(),
    "randomness": {"errors"},
    "specs": SPECS,
    # Of the specs backends know expressions and the NumPy formulas of the activations alone.
    "backends": GROUND | {"cache_folder", "specs.expressions", "specs.activations"},
    "plan": PLAN,
    "data": PLAN | {"plan", "cache_folder"},
    "checkpoints": PLAN,
    "training": TRAINING,
    "models": MODELS,
    "compat": PUBLIC | {"plots"},
    "estimators": PUBLIC,
    "logic": {"errors"},
    "plots": PUBLIC,
    # Benchmarks time the device alone, too, and tuning chooses among the CUDA kernels.
    "cli": PUBLIC
    | {"estimators", "plots", "backends.roofline", "backends.timing", "backends.cuda"},
    "__main__": {"cli"},
    "__init__": PUBLIC | {"estimators", "layers"},
    # Public names of modules that lie deeper.
    **{name: {"specs"} for name in (*SPECIFIED, "layers", "ops")},
    "backend": {"compat"},
    "callbacks": {"training"},
    "datasets": {"data"},
    "symbolic": {"compat"},
    "utils": {"compat"},
    "wrappers": {"estimators"},
}
DEVICE_LIBRARIES = {"numba", "llvmlite", "cupy", "cupyx", "cupy_backends"}
HEAVY = {"numba", "llvmlite", "cupy", "h5py", "sklearn", "rich", "typer", "pooch", "matplotlib"}
HEAVY |= {"scipy", "pandas", "threadpoolctl", "platformdirs", "optuna"}


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports anywhere, but for type checkers."""
    stack: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            stack.extend(node.orelse)
            continue
        stack.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            # `from gpunn.specs import graph` is a module, `from gpunn.errors import DataError` not.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_one_way(path: Path) -> None:
    part = path.relative_to(ROOT).with_suffix("").parts[0]
    assert part in MAY_IMPORT, f"{part} is new: say in MAY_IMPORT where it belongs"
    allowed = MAY_IMPORT[part] | {part}
    for name in imports(path):
        first, *rest = name.split(".")
        if first in DEVICE_LIBRARIES:
            assert part == "backends", f"{path.name} imports {name}: only backends may"
        if first == "gpunn" and rest and rest != ["__version__"]:
            prefixes = {rest[0], ".".join(rest[:2])}
            assert prefixes & allowed, f"{path.name} may not import {name}"


def test_the_table_names_what_there_is() -> None:
    assert {"models", "plan", "backends", "training"} <= {
        path.relative_to(ROOT).with_suffix("").parts[0] for path in FILES
    }
    assert any(name.startswith("numba") for path in FILES for name in imports(path))


@pytest.mark.parametrize(
    "statements",
    [
        "import gpunn",
        "import gpunn; gpunn.layers, gpunn.optimizers, gpunn.losses, gpunn.errors",
        "import gpunn; gpunn.Sequential([gpunn.Input((2,)), gpunn.layers.Dense(1)]).summary(len)",
    ],
)
def test_gpunn_imports_numpy_alone(statements: str) -> None:
    code = f"""
import sys
before = set(sys.modules)
{statements}
new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(new - set(sys.stdlib_module_names)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "gpunn" in loaded
    assert not loaded & HEAVY
    assert loaded <= {"gpunn", "numpy"}
