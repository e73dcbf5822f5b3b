"""Arguments and options that several commands have, and lists as they are typed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpunn.errors import ArgumentError

DatasetName = Annotated[
    str,
    typer.Argument(metavar="DATASET", help="digits, mnist, fashion-mnist or california-housing."),
]
RunPath = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="The folder of a run (its latest checkpoint) or a file."),
]
Device = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda, cuda:N, reference or simulator.")
]
Precision = Annotated[
    str | None,
    typer.Option(help="float32, float64, tf32 or bfloat16; if not given, that of the training."),
]
NewPrecision = Annotated[
    str | None, typer.Option(help="float32 (if not given), float64, tf32 or bfloat16.")
]
Precisions = Annotated[str, typer.Option(help="float32, float64, tf32, bfloat16, or several.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder to look for the data set in first.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show nothing but errors.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object; all else goes to standard error.")
]
HIDDEN = typer.Option(metavar="300,100", help="Units of the hidden layers.")
Inputs = Annotated[int, typer.Option(help="Values of a sample.")]
BATCH_SIZES = "32,50,128,512,1024,8192"


def words(text: str) -> tuple[str, ...]:
    """Return the words of a list with commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Return the whole numbers of a list with commas."""
    try:
        return tuple(int(word) for word in words(text))
    except ValueError:
        raise ArgumentError(
            f"{option} must be whole numbers with commas between, such as 300,100, not {text!r}."
        ) from None


def absolute(folder: Path | None) -> str | None:
    """Return a folder so that it can be found from another one."""
    return None if folder is None else str(folder.expanduser().absolute())
