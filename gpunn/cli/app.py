"""The command line: ``gpunn train digits``. A file for each command; here they come together.

These files import little at the top: the rest comes with the command that needs it.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from gpunn.cli.bench.command import bench
from gpunn.cli.devices import devices
from gpunn.cli.evaluate import evaluate
from gpunn.cli.inspect import inspect
from gpunn.cli.predict import predict
from gpunn.cli.search.command import search
from gpunn.cli.train import train
from gpunn.cli.tune.command import tune
from gpunn.errors import GpunnError

app = typer.Typer(add_completion=False, help="Train multilayer perceptrons on a GPU or a CPU.")
for _command in (train, search, evaluate, predict, inspect, devices, bench, tune):
    app.command()(_command)


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
