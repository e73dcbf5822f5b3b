"""The command line: ``gpunn train digits``.

Only typer is imported at the top; the rest comes with the command that needs it.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gpunn.cli.search.command import search
from gpunn.errors import ArgumentError, ArgumentTypeError, DataError, GpunnError

app = typer.Typer(add_completion=False, help="Train multilayer perceptrons on a GPU or a CPU.")

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
DataDir = Annotated[Path | None, typer.Option(help="Folder to look for the data set in first.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object; all else goes to standard error.")
]


def _version(wanted: bool) -> None:
    if wanted:
        from gpunn import __version__

        print(f"gpunn {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _gpunn(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def train(
    dataset: DatasetName,
    hidden: Annotated[
        str | None, typer.Option(metavar="300,100", help="Units of the hidden layers.")
    ] = None,
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
    device: Device = None,
    precision: Annotated[
        str | None, typer.Option(help="float32 (if not given), float64, tf32 or bfloat16.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the CPU.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; if not given, runs/DATASET-N.")
    ] = None,
    save_every: Annotated[int | None, typer.Option(help="Epochs between checkpoints.")] = None,
    data_dir: DataDir = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out where it stopped.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing but errors.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a net on a data set.

    What is not given comes from the data set's recipe or, with --resume, from the run.
    """
    options = {
        "hidden": None if hidden is None else _hidden(hidden),
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
        "data_dir": None if data_dir is None else str(data_dir.expanduser().absolute()),
    }
    from gpunn.cli import runs
    from gpunn.cli import settings as run_settings
    from gpunn.cli.reports import Screen

    if not resume:
        settings = run_settings.start(dataset, options)
        if out is not None:
            runs.check_unused(out)
    elif out is None:
        raise ArgumentError("--resume needs --out, the folder of the run to go on with.")
    else:
        settings = run_settings.resume(out, dataset, options)
    code = runs.train(settings, out, resume, Screen(as_json=as_json, quiet=quiet))
    raise typer.Exit(code)


def _hidden(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(units) for units in text.split(",")) if text.strip() else ()
    except ValueError:
        raise ArgumentError(
            f"--hidden must be numbers of units with commas between, such as 300,100, not {text!r}."
        ) from None


app.command()(search)


@app.command()
def evaluate(
    run: RunPath,
    dataset: DatasetName,
    device: Device = None,
    precision: Precision = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a trained net on the test rows of a data set."""
    from gpunn.checkpoints.files import resolve
    from gpunn.cli import reports
    from gpunn.data import named as datasets

    file = resolve(run)
    screen = reports.Screen(as_json=as_json, quiet=False)
    data = datasets.load(dataset, data_dir)
    model = reports.load_model(file, device, precision)
    try:
        figures = model.evaluate(data.x_test, data.y_test, return_dict=True)
    except ArgumentError as error:
        raise DataError(f"{data.name} is not for the model in {file}: {error}") from error
    screen.line("model", str(file))
    screen.line("test", f"{reports.figures_text(figures)} ({len(data.x_test):,} rows)")
    screen.result(
        {
            "dataset": data.name,
            "checkpoint": str(file),
            "precision": model.compiled.precision,
            "rows": len(data.x_test),
        }
        | reports.test_figures(figures)
    )


@app.command()
def predict(
    run: RunPath,
    inputs: Annotated[
        Path, typer.Argument(metavar="INPUTS", help="Rows to predict: a .npy or a .csv file.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="CSV file to write; if not given, standard output.")
    ] = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Predict: a CSV row each, with class and probabilities, or with the value."""
    from gpunn.cli import reports

    model = reports.load_model(run, device, precision)
    if len(model.graph.inputs) != 1 or len(model.graph.outputs) != 1:
        raise ArgumentError("predict: the model must have one input and one output.")
    rows = reports.read_inputs(inputs, model.graph.nodes[model.graph.inputs[0]].shape)
    try:
        outputs = model.predict(rows)
    except (ArgumentError, ArgumentTypeError) as error:
        raise DataError(f"{inputs}: {str(error).removeprefix('x: ')}") from error
    if note := reports.scale_note(model, rows):
        print(f"gpunn: note: {inputs}: {note}", file=sys.stderr)
    if out is None:
        reports.write_predictions(model, outputs, sys.stdout)
        return
    with reports.whole_file(out) as file:
        reports.write_predictions(model, outputs, file)
    print(f"{len(rows):,} predictions in {out}")


@app.command()
def inspect(
    run: RunPath,
    plan: Annotated[
        bool, typer.Option("--plan", help="Also print the kernel calls of a training step.")
    ] = False,
) -> None:
    """Show what a run or a model file holds."""
    from gpunn.checkpoints.files import resolve
    from gpunn.cli import reports
    from gpunn.models import saving

    file = resolve(run)
    model = saving.load_for_inspection(file)
    training = reports.read_training(model, file)
    reports.show_model(model, file, training)
    if plan:
        print()
        print(model.plan(training["batch_size"] if training else 32).describe())


@app.command()
def devices() -> None:
    """List the devices, and say what is missing where one cannot be used."""
    from gpunn.cli import reports

    reports.show_devices()


@app.command()
def bench(
    hidden: Annotated[
        str, typer.Option(metavar="300,100", help="Units of the hidden layers.")
    ] = "300,100",
    inputs: Annotated[int, typer.Option(help="Values of a sample.")] = 784,
    classes: Annotated[int, typer.Option(help="Classes to tell apart.")] = 10,
    batch_size: Annotated[
        str, typer.Option(metavar="32,50,...", help="Samples per step.")
    ] = "32,50,128,512,1024,8192",
    precision: Annotated[
        str, typer.Option(help="float32, float64, tf32, bfloat16, or several.")
    ] = "float32",
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
    from gpunn.cli.bench import command as command
    from gpunn.cli.bench import settings

    chosen = settings.Settings(
        hidden=settings.numbers("--hidden", hidden),
        inputs=inputs,
        classes=classes,
        batch_sizes=settings.numbers("--batch-size", batch_size),
        precisions=settings.words(precision),
        optimizers=settings.words(optimizer),
        devices=settings.usable_devices() if device is None else settings.words(device),
        dropout=dropout,
        seconds_per_row=seconds_per_row,
        rounds=rounds,
        threads=threads,
        profile=profile,
        cold_start=cold_start,
        peers=settings.words(compare),
        peer_python=peer_python,
    )
    raise typer.Exit(command.run(chosen, json_file, plot))


@app.command()
def tune(
    hidden: Annotated[
        str, typer.Option(metavar="300,100", help="Units of the hidden layers.")
    ] = "300,100",
    inputs: Annotated[int, typer.Option(help="Values of a sample.")] = 784,
    outputs: Annotated[int, typer.Option(help="Units of the last layer.")] = 10,
    batch_sizes: Annotated[
        str, typer.Option("--batch-sizes", metavar="32,50,...", help="Samples per step.")
    ] = "32,50,128,512,1024,8192",
    precision: Annotated[
        str, typer.Option(help="float32, float64, tf32, bfloat16, or several.")
    ] = "float32,tf32,bfloat16",
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
    from gpunn.cli.bench import settings as bench_settings
    from gpunn.cli.tune import command as command
    from gpunn.cli.tune import measure as tuner

    if show and forget:
        raise ArgumentError("tune: --show and --forget exclude one another.")
    if show or forget:
        raise typer.Exit(command.show(device) if show else command.forget(device))
    chosen = tuner.TuneSettings(
        hidden=bench_settings.numbers("--hidden", hidden),
        inputs=inputs,
        outputs=outputs,
        batch_sizes=bench_settings.numbers("--batch-sizes", batch_sizes),
        precisions=bench_settings.words(precision),
        quick=quick,
        seconds=seconds,
    )
    raise typer.Exit(command.tune(chosen, device))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after the program's name; default: those of the process.
    """
    command = typer.main.get_command(app)
    arguments = None if argv is None else list(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that lacks a character of a path or a table is no reason to fail.
        sys.stdout.reconfigure(errors="replace")
    try:
        result: Any = command.main(arguments, prog_name="gpunn", standalone_mode=False)
    except GpunnError as error:
        return _failed(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _failed(f"{where}{error.strerror or error}")
    except MemoryError as error:
        return _failed(f"The memory of this machine does not suffice. {error}".rstrip())
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        # typer has its usage errors from click, or from a copy of its own: known by what they do.
        if not hasattr(error, "format_message"):
            raise
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "gpunn"
        return _failed(f"{error.format_message()}\nTry '{path} --help'.")
    return result if isinstance(result, int) else 0


def _failed(message: str) -> int:
    print(f"gpunn: error: {message}", file=sys.stderr, flush=True)
    return 2
