"""``gpunn bench``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpunn.cli import options


def bench(
    hidden: Annotated[str, options.HIDDEN] = "300,100",
    inputs: options.Inputs = 784,
    classes: Annotated[int, typer.Option(help="Classes to tell apart.")] = 10,
    batch_size: Annotated[
        str, typer.Option(metavar="32,50,...", help="Samples per step.")
    ] = options.BATCH_SIZES,
    precision: options.Precisions = "float32",
    optimizer: Annotated[str, typer.Option(help="sgd, momentum, adam, or several.")] = "sgd",
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, ...; if not given, all that can be used.")
    ] = None,
    dropout: Annotated[float, typer.Option(help="Rate after each hidden layer.")] = 0.0,
    seconds_per_row: Annotated[
        float, typer.Option(help="How long gpunn's training is timed in a row of the table.")
    ] = 1.0,
    rounds: Annotated[int, typer.Option(help="Rounds that this time is divided into.")] = 7,
    threads: Annotated[int | None, typer.Option(help="Threads of the CPU.")] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also time every kernel call of a step.")
    ] = False,
    cold_start: Annotated[
        bool, typer.Option(help="Also measure the start of a fresh process.")
    ] = True,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures and rounds.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw samples/s by batch size, a PNG.")
    ] = None,
    compare: Annotated[
        str, typer.Option(metavar="torch,jax,...", help="Also torch, jax, sklearn, keras, numpy.")
    ] = "",
    peer_python: Annotated[
        str | None, typer.Option(metavar="PATH", help="The Python that has those of --compare.")
    ] = None,
) -> None:
    """Measure this machine: training steps, their lower bounds, inference, memory, start.

    Ctrl-C ends it early; what was measured until then is shown and written.
    """
    from gpunn.cli.bench import run
    from gpunn.cli.bench.settings import BenchSettings, usable_devices

    chosen = BenchSettings(
        hidden=options.numbers("--hidden", hidden),
        inputs=inputs,
        classes=classes,
        batch_sizes=options.numbers("--batch-size", batch_size),
        precisions=options.words(precision),
        optimizers=options.words(optimizer),
        devices=usable_devices() if device is None else options.words(device),
        dropout=dropout,
        seconds_per_row=seconds_per_row,
        rounds=rounds,
        threads=threads,
        profile=profile,
        cold_start=cold_start,
        peers=options.words(compare),
        peer_python=peer_python,
    )
    raise typer.Exit(run.run(chosen, json_file, plot))
