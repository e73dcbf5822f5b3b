"""``gpunn search``: its options, and the processes that it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpunn.cli.options import AsJson, DataDir, DatasetName, NewPrecision, Quiet, absolute


def search(
    dataset: DatasetName,
    trials: Annotated[
        int, typer.Option(help="Finished trials to end with, of all processes and calls.")
    ] = 20,
    epochs: Annotated[int | None, typer.Option(help="Of each trial; 10 if not given.")] = None,
    hidden: Annotated[
        str | None, typer.Option(metavar="1:3", help="Range of the number of hidden layers.")
    ] = None,
    neurons: Annotated[
        str | None, typer.Option(metavar="16:256", help="Range of the units of each.")
    ] = None,
    learning_rate: Annotated[
        str | None, typer.Option(metavar="1e-4:0.1", help="Range of the learning rate.")
    ] = None,
    batch_size: Annotated[
        str | None, typer.Option(metavar="32,64,128", help="Choices of samples per step.")
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(metavar="sgd,adam", help="Choices; the recipe's if not given.")
    ] = None,
    activation: Annotated[
        str | None, typer.Option(metavar="relu,selu", help="Choices; the recipe's if not given.")
    ] = None,
    dropout: Annotated[
        str | None, typer.Option(metavar="0:0.5", help="Range of the rate after hidden layers.")
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(
            metavar="ROWS",
            help="Training rows held out to score trials with; below 1: the share of them.",
        ),
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="tpe or random: how parameters are chosen.")
    ] = None,
    pruner: Annotated[
        str | None, typer.Option(help="median, hyperband or none: ends poor trials early.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the sampler and of each trial; 0 if not given.")
    ] = None,
    precision: NewPrecision = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, cuda:N, reference or simulator.")
    ] = "auto",
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Begin no trial after this time.")
    ] = None,
    processes: Annotated[int, typer.Option(help="Processes to share the trials among.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the search, to go on with if it has one; searches/DATASET if not given."
        ),
    ] = None,
    final: Annotated[
        bool,
        typer.Option(
            "--final", help="Then train the best net on all training rows, and test it once."
        ),
    ] = False,
    data_dir: DataDir = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Search for hyperparameters; the score is that of training rows held out.

    Run it again on the same folder, also at the same time, to share the search or to go on with it.
    """
    from gpunn.errors import MissingPackageError

    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            "gpunn search needs Optuna, which is not installed: pip install 'optuna>=4'"
        ) from error
    from gpunn.cli.reports import Screen
    from gpunn.cli.search import space
    from gpunn.cli.search.running import Request, run_search
    from gpunn.specs.registry import check_count, check_number

    options = {
        "hidden": hidden,
        "neurons": neurons,
        "learning_rate": learning_rate,
        "dropout": dropout,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "activation": activation,
        "epochs": epochs,
        "validation": validation,
        "seed": seed,
        "precision": precision,
        "sampler": sampler,
        "pruner": pruner,
    }
    check_count("gpunn search", "--trials", trials)
    check_count("gpunn search", "--processes", processes)
    if timeout is not None:
        check_number("gpunn search", "--timeout", timeout, above=0)
    request = Request(
        dataset=dataset,
        options=space.parse(options),
        trials=trials,
        processes=processes,
        out=out,
        device=device,
        timeout=timeout,
        data_dir=absolute(data_dir),
        final=final,
    )
    raise typer.Exit(run_search(request, Screen(as_json=as_json, quiet=quiet)))
