"""``gpunn train``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpunn.cli import options
from gpunn.errors import ArgumentError


def train(
    dataset: options.DatasetName,
    hidden: Annotated[str | None, options.HIDDEN] = None,
    activation: Annotated[str | None, typer.Option(help="Of the hidden layers.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples per step.")] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="sgd, adam, ...; another one brings its own learning rate.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="A constant learning rate.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Times through the training rows.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps to take, in place of epochs.")] = None,
    validation: Annotated[
        float | None,
        typer.Option(
            metavar="ROWS",
            help="Rows held out from the end of the training part; below 1: the share of them.",
        ),
    ] = None,
    dropout: Annotated[float | None, typer.Option(help="Rate after each hidden layer.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of weights, shuffling and dropout; 0 if not given.")
    ] = None,
    device: options.Device = None,
    precision: options.NewPrecision = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the CPU.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; if not given, runs/DATASET-N.")
    ] = None,
    save_every: Annotated[int | None, typer.Option(help="Epochs between checkpoints.")] = None,
    data_dir: options.DataDir = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out where it stopped.")
    ] = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Train a net on a data set.

    What is not given comes from the data set's recipe or, with --resume, from the run.
    """
    given = {
        "hidden": None if hidden is None else options.numbers("--hidden", hidden),
        "activation": activation,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "epochs": epochs,
        "steps": steps,
        "validation": validation,
        "dropout": dropout,
        "seed": seed,
        "device": device,
        "precision": precision,
        "threads": threads,
        "save_every": save_every,
        "data_dir": options.absolute(data_dir),
    }
    from gpunn.cli import run_settings, runs
    from gpunn.cli.reports import Screen

    if not resume:
        settings = run_settings.start(dataset, given)
        if out is not None:
            runs.check_unused(out)
    elif out is None:
        raise ArgumentError("--resume needs --out, the folder of the run to go on with.")
    else:
        settings = run_settings.resume(out, dataset, given)
    code = runs.train(settings, out, resume, Screen(as_json=as_json, quiet=quiet))
    raise typer.Exit(code)
