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
# a dot is a single module of a package.
COMMON = {"errors", "registry", "randomness", "expressions"}
SPECS = {"activations", "initializers", "losses", "metrics", "optimizers", "regularizers"}
SPECS |= {"schedules", "graph", "layers", "constraints", "formulas", "ops", "valueless"}
PLAN = COMMON | SPECS | {"backends.interface"}
TRAINING = PLAN | {"plan", "data"}
MODELS = TRAINING | {"training", "backends.select"}
PUBLIC = MODELS | {"models", "callbacks", "datasets"}
COMMAND_LINE = {"cli", "recipes", "reports", "runs", "search"}

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "folders": set(),
    "registry": {"errors"},
    "expressions": {"errors"},
    "randomness": {"errors"},
    **dict.fromkeys(SPECS, COMMON | SPECS),
    # The NumPy formulas of the activations are the one piece of a spec that backends use.
    "backends": {"errors", "folders", "randomness", "expressions", "activations"},
    "plan": PLAN,
    "data": PLAN | {"plan", "folders"},
    "training": TRAINING,
    "models": MODELS,
    "callbacks": MODELS,
    "datasets": MODELS,
    "symbolic": MODELS | {"models"},
    "backend": PUBLIC,
    # The perceptron learns sample by sample: no plan of batches, but a compiled loop of its own.
    "estimators": PUBLIC | {"backends.numba_perceptron"},
    "wrappers": PUBLIC,
    "logic": {"errors"},
    "plots": PUBLIC,
    "utils": PUBLIC | {"plots", "backend"},
    **dict.fromkeys(COMMAND_LINE, PUBLIC | COMMAND_LINE | {"estimators", "plots", "bench"}),
    # The command line's bench times what the model does, call by call, and the device alone.
    # Its tuning chooses among the CUDA kernels.
    "bench": PUBLIC
    | COMMAND_LINE
    | {"plots", "backends.ceilings", "backends.timing", "backends.cuda"},
    "__main__": {"cli"},
    "__init__": PUBLIC | SPECS | {"errors", "plots", "utils", "backend"},
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
            # `from gpunn import graph` imports a module, `from gpunn.graph import Graph` a name.
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
