"""Run texts written for Keras, under Keras or under gpunn, and say what a reader would see.

The texts in ``keras_chapter/`` are notebooks: cells between ``# %% name`` lines. A bare expression
shows its value, as in a notebook. The only line that differs between the libraries is
``import keras``. Usage, in an environment with Keras, JAX, scikit-learn and Matplotlib::

    KERAS_BACKEND=jax python tests/recordings/run_keras_chapter.py

writes ``keras_chapter.json`` next to this file: for each text and cell what each expression shows,
less what depends on random numbers (see `seen`). ``tests/compat/test_keras_text.py`` runs the
same texts with ``import gpunn as keras`` and compares. Texts whose first line begins with
``# Not in Keras 3`` are run, but not recorded.

The data are stand-ins of the real sets' types and, but for the number of rows, shapes.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

FOLDER = Path(__file__).parent / "keras_chapter"
RECORDED = Path(__file__).parent / "keras_chapter.json"
IMPORTS = {"keras": "import keras", "gpunn": "import gpunn as keras"}
# Rows of the stand-ins: the texts hold out the last or first 5,000 images, as the chapter does.
IMAGES, TEST_IMAGES, DISTRICTS = 5_640, 200, 1_200
NOT_IN_KERAS = "# Not in Keras 3"


def texts() -> dict[str, Path]:
    """Return the texts by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.py"))}


def cells(path: Path, library: str = "keras") -> dict[str, ast.Module]:
    """Return a text's cells by name, parsed; line numbers are those of the file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines.count(IMPORTS["keras"]) == 1, f"{path.name}: expected one 'import keras'"
    lines[lines.index(IMPORTS["keras"])] = IMPORTS[library]
    starts = [i for i, line in enumerate(lines) if line.startswith("# %% ")]
    found: dict[str, ast.Module] = {}
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        name = lines[start].removeprefix("# %% ")
        assert name not in found, f"{path.name}: two cells {name!r}"
        source = "\n" * (start + 1) + "\n".join(lines[start + 1 : end])
        found[name] = ast.parse(source, filename=str(path))
    return found


def run_cell(cell: ast.Module, namespace: dict[str, Any], filename: str) -> list[list[Any]]:
    """Run a cell; return what its bare expressions show, as (expression, value) pairs."""
    shown = []
    for statement in cell.body:
        if isinstance(statement, ast.Expr) and not isinstance(statement.value, ast.Constant):
            printed = io.StringIO()
            code = compile(ast.Expression(statement.value), filename, "eval")
            with contextlib.redirect_stdout(printed):
                value = eval(code, namespace)
            source = ast.unparse(statement.value)
            if ".summary(" in source:
                shown.append([source, _parameter_counts(printed.getvalue())])
            elif value is not None and not source.startswith(("plt.", "model.save")):
                shown.append([source, seen(value)])
        else:
            module = ast.Module([statement], type_ignores=[])
            exec(compile(module, filename, "exec"), namespace)
    return shown


def seen(value: Any) -> Any:
    """Describe a value without what depends on random numbers, as JSON.

    Floats are "a float", arrays their shape and kind, layers and models their class and name;
    text, whole numbers and truth values are themselves.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, str | int):
        return value
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return "a float"
    if isinstance(value, Mapping):
        return {str(key): seen(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | type({}.keys())):
        return [seen(entry) for entry in value]
    if hasattr(value, "shape") and hasattr(value, "dtype") and not hasattr(value, "get_weights"):
        kind = np.dtype(str(value.dtype)).kind
        return f"array {tuple(map(int, value.shape))} of {kind}"
    spec = getattr(value, "spec", value)  # gpunn's layers of a model
    name = getattr(value, "name", None)
    return f"{type(spec).__name__}" + (f" {name}" if isinstance(name, str) else "")


def _parameter_counts(table: str) -> dict[str, int]:
    # Keras counts the optimizer's variables in the total.
    pattern = r"(Trainable|Non-trainable) params: ([\d,]+)"
    return {kind: int(count.replace(",", "")) for kind, count in re.findall(pattern, table)}


def images(rows: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return noisy pictures of ten classes, (rows, 28, 28) uint8, and their labels, uint8."""
    patterns = np.random.default_rng(0).integers(0, 200, (10, 28, 28))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, rows).astype(np.uint8)
    noise = rng.integers(0, 56, (rows, 28, 28))
    return (patterns[labels] + noise).astype(np.uint8), labels


def load_images() -> Any:
    """Stand in for ``datasets.mnist.load_data`` and ``datasets.fashion_mnist.load_data``."""
    return images(IMAGES, 1), images(TEST_IMAGES, 2)


def fetch_california_housing() -> Any:
    """Stand in for scikit-learn's function: eight float64 features, one target."""
    rng = np.random.default_rng(3)
    scales = np.array([4.0, 28.0, 5.4, 1.1, 1425.0, 3.0, 35.6, 119.6])
    data = scales * (1 + 0.3 * rng.standard_normal((DISTRICTS, 8)))
    z = data / scales - 1
    target = 2 + z[:, 0] - z[:, 5] + 2 * z[:, 2] * z[:, 3] + 0.05 * rng.standard_normal(DISTRICTS)
    names = ["MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup"]
    names += ["Latitude", "Longitude"]
    return SimpleNamespace(data=data, target=target, feature_names=names)


@contextlib.contextmanager
def stand_ins(library: Any) -> Iterator[None]:
    """Put the small data sets in the place of the real ones, and work in an empty folder."""
    import sklearn.datasets

    os.environ.setdefault("MPLBACKEND", "agg")
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        mock.patch.object(library.datasets.mnist, "load_data", load_images),
        mock.patch.object(library.datasets.fashion_mnist, "load_data", load_images),
        mock.patch.object(sklearn.datasets, "fetch_california_housing", fetch_california_housing),
        warnings.catch_warnings(),
    ):
        yield


def main() -> None:
    """Run all texts, or those named, under Keras; write what they show."""
    import keras

    names = sys.argv[1:] or list(texts())
    report = json.loads(RECORDED.read_text()) if sys.argv[1:] and RECORDED.exists() else {}
    for name in names:
        path = texts()[name]
        if path.read_text().startswith(NOT_IN_KERAS):
            continue
        namespace: dict[str, Any] = {"__name__": "__main__"}
        report[name] = {}
        with stand_ins(keras):
            for cell, code in cells(path).items():
                print(f"{name}: {cell}", flush=True)
                report[name][cell] = run_cell(code, namespace, str(path))
    report["versions"] = {"keras": keras.__version__, "backend": keras.backend.backend()}
    lines = json.dumps(report, indent=1, sort_keys=True)
    RECORDED.write_text(lines + "\n")


if __name__ == "__main__":
    main()
