"""From the command line's options to what is shown and written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gpunn.cli.bench import plot as plots
from gpunn.cli.bench import report as reports
from gpunn.cli.bench.measure import Bench
from gpunn.cli.bench.settings import BenchSettings
from gpunn.cli.files import whole_file
from gpunn.cli.reports import finite, make_console


def check_writable(path: Path) -> None:
    """Raise `OSError` now if `path` lies in no folder, rather than after the measurement."""
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(2, "its folder does not exist", str(path))
    if path.is_dir():
        raise IsADirectoryError(21, "is a folder, not a file", str(path))


def run(settings: BenchSettings, json_file: Path | None, plot_file: Path | None) -> int:
    """Measure, show, write; return the exit code: 130 after Ctrl-C."""
    for path in filter(None, (json_file, plot_file)):
        check_writable(path)
    if plot_file is not None:
        plots.check_can_draw()
    console = make_console(sys.stdout)
    code = 0
    with reports.LiveProgress(console).shown() as progress:
        bench = Bench(settings, progress)
        try:
            bench.run()
        except KeyboardInterrupt:
            code = 130
    reports.show(bench.report, console)
    if json_file is not None:
        with whole_file(json_file) as file:
            json.dump(finite(bench.report), file, indent=1, allow_nan=False)
            file.write("\n")
    if plot_file is not None:
        plots.draw(bench.report, plot_file)
    return code
