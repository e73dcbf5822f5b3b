"""``gpunn evaluate``."""

from __future__ import annotations

from gpunn.cli import options
from gpunn.errors import ArgumentError, DataError


def evaluate(
    run: options.RunPath,
    dataset: options.DatasetName,
    device: options.Device = None,
    precision: options.Precision = None,
    data_dir: options.DataDir = None,
    as_json: options.AsJson = False,
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
        metrics = model.evaluate(data.x_test, data.y_test, return_dict=True)
    except ArgumentError as error:
        raise DataError(f"{data.name} is not for the model in {file}: {error}") from error
    screen.line("model", str(file))
    screen.line("test", f"{reports.metrics_text(metrics)} ({len(data.x_test):,} rows)")
    screen.result(
        {
            "dataset": data.name,
            "checkpoint": str(file),
            "precision": model.compiled.precision,
            "rows": len(data.x_test),
        }
        | reports.test_metrics(metrics)
    )
