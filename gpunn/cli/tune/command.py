"""``gpunn tune``: its options."""

from __future__ import annotations

from typing import Annotated

import typer

from gpunn.cli import options
from gpunn.errors import ArgumentError


def tune(
    hidden: Annotated[str, options.HIDDEN] = "300,100",
    inputs: options.Inputs = 784,
    outputs: Annotated[int, typer.Option(help="Units of the last layer.")] = 10,
    batch_sizes: Annotated[
        str, typer.Option("--batch-sizes", metavar="32,50,...", help="Samples per step.")
    ] = options.BATCH_SIZES,
    precision: options.Precisions = "float32,tf32,bfloat16",
    device: Annotated[str, typer.Option(help="cuda, cuda:N or simulator.")] = "cuda",
    quick: Annotated[
        bool, typer.Option("--quick", help="Try only what is thought to be best.")
    ] = False,
    seconds: Annotated[
        float | None, typer.Option(help="Begin no further product after this time.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print what was found before.")] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Remove what was found before.")] = False,
) -> None:
    """Find out what serves each matrix product of a net best on this GPU, and keep it.

    From then on training in these shapes uses what was found. How many steps a graph is best made
    of, and whether dependent launches pay, is measured, too. Ctrl-C ends it early, and what was
    found until then is kept. With GPUNN_TUNING=off in the environment it is not used.
    """
    from gpunn.cli.tune import run
    from gpunn.cli.tune.measure import TuneSettings

    if show and forget:
        raise ArgumentError("tune: --show and --forget exclude one another.")
    if show or forget:
        raise typer.Exit(run.show(device) if show else run.forget(device))
    chosen = TuneSettings(
        hidden=options.numbers("--hidden", hidden),
        inputs=inputs,
        outputs=outputs,
        batch_sizes=options.numbers("--batch-sizes", batch_sizes),
        precisions=options.words(precision),
        quick=quick,
        seconds=seconds,
    )
    raise typer.Exit(run.tune(chosen, device))
