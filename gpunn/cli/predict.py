"""``gpunn predict``: rows of a file in, a CSV row for each out."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from gpunn.cli import options
from gpunn.cli.files import whole_file
from gpunn.errors import ArgumentError, ArgumentTypeError, DataError, ShapeError

if TYPE_CHECKING:
    import numpy as np

    from gpunn.models.model import Model

    Array = np.ndarray[Any, Any]


def predict(
    run: options.RunPath,
    inputs: Annotated[
        Path, typer.Argument(metavar="INPUTS", help="Rows to predict: a .npy or a .csv file.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="CSV file to write; if not given, standard output.")
    ] = None,
    device: options.Device = None,
    precision: options.Precision = None,
) -> None:
    """Predict: a CSV row each, with class and probabilities, or with the value."""
    from gpunn.cli import reports

    model = reports.load_model(run, device, precision)
    if len(model.graph.inputs) != 1 or len(model.graph.outputs) != 1:
        raise ArgumentError("predict: the model must have one input and one output.")
    rows = read_inputs(inputs, model.graph.nodes[model.graph.inputs[0]].shape)
    try:
        outputs = model.predict(rows)
    except (ArgumentError, ArgumentTypeError) as error:
        raise DataError(f"{inputs}: {str(error).removeprefix('x: ')}") from error
    if note := scale_note(model, rows):
        print(f"gpunn: note: {inputs}: {note}", file=sys.stderr)
    if out is None:
        write_predictions(model, outputs, sys.stdout)
        return
    with whole_file(out) as file:
        write_predictions(model, outputs, file)
    print(f"{len(rows):,} predictions in {out}")


def read_inputs(path: Path, shape: Sequence[int]) -> Array:
    """Read rows for a model whose inputs have `shape`, from a .npy or a .csv file."""
    import numpy as np

    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            with path.open(encoding="utf-8-sig") as file:
                lines = [line for line in file if line.strip()]
            rows = lines[_header_lines(lines) :]
            if not rows:
                raise DataError("it has no rows")
            values = np.loadtxt(rows, delimiter=",", ndmin=2)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is neither a .npy file nor text in UTF-8.") from error
    except (ValueError, EOFError) as error:
        # NumPy's errors go on with advice for programmers.
        reason = str(error).partition("; use ")[0]
        raise DataError(f"{path}: cannot be read as a table of numbers: {reason}") from error
    size = math.prod(shape)
    if values.shape[1:] != tuple(shape) and values.size % size == 0:
        if values.shape == tuple(shape):
            return values[np.newaxis]
        if values.ndim == 2 and values.shape[1] == size:
            return values.reshape(len(values), *shape)
    if values.shape[1:] != tuple(shape):
        raise ShapeError(
            f"{path}: has shape {values.shape}; the model takes rows of shape "
            f"{tuple(shape)}, or of {size} values."
        )
    return values


def _header_lines(lines: Sequence[str]) -> int:
    """Return 1 if the first line has words in all places: one number makes it a row."""

    def is_number(cell: str) -> bool:
        try:
            float(cell)
        except ValueError:
            return False
        return True

    return 1 if lines and not any(map(is_number, lines[0].split(","))) else 0


def scale_note(model: Model, rows: Array) -> str | None:
    """Return a remark on inputs that were scaled already, though the model does that itself."""
    if rows.dtype.kind != "f" or not rows.size or rows.min() < 0 or not 0 < rows.max() <= 1:
        return None
    from gpunn.specs.layers import Rescaling

    for layer in model.layers:
        spec = layer.spec
        if isinstance(spec, Rescaling) and spec.offset == 0 and 0 < spec.scale <= 0.1:
            largest = 1 / spec.scale
            return (
                f"has values from 0 to 1; the model takes 0 to {largest:g}, and scales by itself."
            )
    return None


def write_predictions(model: Model, outputs: Array, file: IO[str]) -> None:
    """Write a row per prediction: class and probabilities, or the values."""
    loss = model.compiled.outputs[0].loss
    head = None if loss is None else loss.head
    writer = csv.writer(file, lineterminator="\n")
    rows = outputs.reshape(len(outputs), -1)
    columns = range(rows.shape[1])
    if head is None:
        writer.writerow(["value"] if len(columns) == 1 else [f"value{i}" for i in columns])
        writer.writerows(rows.tolist())
        return
    if len(columns) == 1:
        writer.writerow(["class", "probability"])
        writer.writerows((int(p >= 0.5), p) for p in rows[:, 0].tolist())
        return
    writer.writerow(["class", "probability", *(f"p{i}" for i in columns)])
    chosen = rows.argmax(axis=1).tolist()
    for label, row in zip(chosen, rows.tolist(), strict=True):
        writer.writerow([label, row[label], *row])
