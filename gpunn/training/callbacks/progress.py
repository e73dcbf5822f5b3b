"""Progress output of a fit: a live bar with a table of epochs, or a line per epoch."""

from __future__ import annotations

import sys
import time
from typing import IO, Any

from gpunn.training.callbacks.base import Callback, Logs


class EpochLines(Callback):
    """One plain line per epoch, as with Keras's ``verbose=2``.

    Parameters
    ----------
    file : text stream, optional
        Default: standard output.
    """

    def __init__(self, file: IO[str] | None = None) -> None:
        self.file = file

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        seconds = self.trainer.epoch_seconds
        parts = [f"Epoch {_epoch(self, epoch)}", f"{seconds:.2f} s", f"{_speed(self)} samples/s"]
        parts += [f"{name}: {number(value)}" for name, value in (logs or {}).items()]
        _print(self.file, " - ".join(parts))


class ProgressBar(Callback):
    """A table with a row per epoch and, on a terminal, a live bar below it.

    The bar shows the progress of the whole training, the epoch's loss and first metric so far, the
    speed and the remaining time. It is drawn about every 0.1 s, never per batch.

    Parameters
    ----------
    file : text stream, optional
        Default: standard output. If it is not a terminal, there is no bar.
    """

    interval = 0.1

    def __init__(self, file: IO[str] | None = None) -> None:
        self.file = file
        self._bar: Any = None
        self._header = ""
        self._start: tuple[float, int] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._start = None
        self._bar = _live_bar(self.file)
        if self._bar is not None:
            total = self._total_steps()
            self._bar.add_task(self._epoch_text(), total=total, metrics="", speed="", left="")
            self._bar.start()
            self._update({})

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=self._epoch_text())

    def on_interval(self, logs: Logs) -> None:
        self._update(logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        cells = [("epoch", _epoch(self, epoch))]
        cells += [(name, number(value)) for name, value in logs.items()]
        cells += [("seconds", f"{self.trainer.epoch_seconds:.2f}"), ("samples/s", _speed(self))]
        widths = [max(len(name), 11 if name == "samples/s" else 6) for name, _ in cells]
        header = "  ".join(f"{name:>{w}}" for (name, _), w in zip(cells, widths, strict=True))
        if header != self._header:
            self._header = header
            self._line(header, "bold")
        self._line("  ".join(f"{text:>{w}}" for (_, text), w in zip(cells, widths, strict=True)))
        if self._bar is not None:
            self._update({name: v for name, v in logs.items() if not name.startswith("val_")})

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._close()

    def on_interrupt(self) -> None:
        self._close()

    def on_exception(self) -> None:
        self._close()

    def _close(self) -> None:
        """Remove the bar, which hides the terminal's cursor while it is displayed."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _line(self, text: str, style: str = "") -> None:
        if self._bar is None:
            _print(self.file, text)
        else:
            plain = {"markup": False, "highlight": False, "soft_wrap": True}
            self._bar.console.print(text, style=style, **plain)

    def _update(self, logs: Logs) -> None:
        if self._bar is None:
            return
        now, done, total = time.perf_counter(), self._done_steps(), self._total_steps()
        left = speed = ""
        if self._start is None:
            # Measured from here on: the first steps may have waited for the compiler.
            self._start = (now, done) if done and logs else None
        elif total is not None and done > self._start[1]:
            rate = (done - self._start[1]) / (now - self._start[0])
            left = f"{_clock((total - done) / rate)} left"
        if self.trainer.epoch_seconds > 0:
            speed = f"{_speed(self)} samples/s"
        shown = list(logs.items())[:2]
        self._bar.update(
            self._bar.task_ids[0],
            completed=done,
            metrics="  ".join(f"{name} {number(value)}" for name, value in shown),
            speed=speed,
            left=left,
        )
        self._bar.refresh()

    def _epoch_text(self) -> str:
        return f"epoch {_epoch(self, self.trainer.epoch_index)}"

    def _done_steps(self) -> int:
        trainer = self.trainer
        in_epoch = -(-trainer.offset // trainer.batch_size)
        return trainer.epoch_index * trainer.steps_per_epoch + in_epoch

    def _total_steps(self) -> int | None:
        steps, epochs = self.params["total_steps"], self.params["epochs"]
        if steps is not None:
            return int(steps)
        return None if epochs is None else int(epochs) * self.trainer.steps_per_epoch


def number(value: float) -> str:
    """Format a value with four decimals, or in scientific notation if it is small or large."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.3e}"


def _epoch(callback: Callback, epoch: int) -> str:
    epochs = callback.params["epochs"]
    if epochs is None:
        return str(epoch + 1)
    return f"{min(epoch + 1, epochs):>{len(str(epochs))}}/{epochs}"


def _speed(callback: Callback) -> str:
    """Return the samples per second of the epoch so far, without validation."""
    trainer = callback.trainer
    # At the end of an epoch the offset is reset to 0.
    samples = trainer.offset or trainer.rows
    return f"{samples / max(trainer.epoch_seconds, 1e-9):,.0f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _print(file: IO[str] | None, text: str) -> None:
    print(text, file=file or sys.stdout, flush=True)


def _live_bar(file: IO[str] | None) -> Any:
    """Return a bar that is drawn only on request, or None if none can be drawn."""
    from rich.console import Console, ConsoleDimensions

    class Narrower(Console):
        """Leaves space for the terminal's ^C, which would keep the bar from being erased."""

        @property  # type: ignore[misc]
        def size(self) -> ConsoleDimensions:
            width, height = super().size
            return ConsoleDimensions(max(width - 3, 1), height)

    console = Narrower(file=file)
    if not console.is_terminal or console.is_dumb_terminal:
        return None
    from rich.progress import BarColumn, Progress, TextColumn

    texts = [
        TextColumn(f" {{task.fields[{name}]}}", style=style, markup=False)
        for name, style in (("metrics", ""), ("speed", "cyan"), ("left", "dim"))
    ]
    description = TextColumn("{task.description}", markup=False)
    # No refresh thread, which would take time from training.
    return Progress(
        *(description, BarColumn(bar_width=None), *texts),
        console=console,
        auto_refresh=False,
        transient=True,
        expand=True,
    )
