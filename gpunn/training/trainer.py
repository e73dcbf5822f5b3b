"""The training loop: steps, epochs, triggers; everything else is a callback."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from gpunn.errors import ArgumentError, CheckpointError, DeviceError, TrainingError
from gpunn.plan.build import RATES
from gpunn.plan.spec import CONTROL, METRICS
from gpunn.specs.registry import check_count
from gpunn.training import state
from gpunn.training.callbacks.base import Callback, Logs, defines
from gpunn.training.callbacks.history import History
from gpunn.training.hooks import Hooks, check_callbacks
from gpunn.training.signals import Interrupt, deferred_signals

if TYPE_CHECKING:
    from gpunn.backends.interface import Call
    from gpunn.checkpoints.files import Checkpoint
    from gpunn.data.sources import Source
    from gpunn.models.model import Model

logger = logging.getLogger("gpunn")

FIRST_CHUNK = 16


class Trainer:
    """The loop that `Model.fit` uses, for those who want it in hand.

    Parameters
    ----------
    model : Model
        Compiled.
    x, y : arrays
        As for `Model.fit`.
    batch_size : int, default 32
        None is 32, or all rows where there are fewer.
    sample_weight : array, shape (rows,), optional
    validation_data : tuple, optional
        ``(x, y)`` or ``(x, y, sample_weight)``.
    shuffle : bool, default True
        False keeps the order of the rows.
    callbacks : sequence of Callback
    initial_epoch : int, default 0
        Number of the first epoch; `fit` counts its `epochs` from 0 all the same.

    Attributes
    ----------
    step_count : int
        Steps taken since the model was compiled.
    epoch_index : int
        Epochs finished in this training run, and those before `initial_epoch`.
    offset : int
        Rows of the current epoch that are done.
    history : History
    stop_training : bool
        Set it in a callback to stop after the current epoch (or step, from a per-batch hook). In
        a loop of your own it says whether a callback wants to stop; `epoch` and `step` train all
        the same.
    verbose : int
        What `Model.fit` was asked to show, for the callbacks' `params`; 0 with a Trainer in hand.

    Notes
    -----
    Training begins with the first `step` or `epoch` (callbacks' `on_train_begin`) and ends with
    `end` (`on_train_end`), or at the end of a ``with`` block. `fit` ends it by itself.

    Examples
    --------
    >>> with gpunn.Trainer(model, x, y, batch_size=50, callbacks=[stopping]) as trainer:
    ...     while trainer.epoch_index < 100 and not trainer.stop_training:
    ...         print(trainer.epoch())                            # doctest: +SKIP
    """

    def __init__(
        self,
        model: Model,
        x: Any,
        y: Any,
        *,
        batch_size: int | None = 32,
        sample_weight: Any = None,
        validation_data: Any = None,
        shuffle: bool = True,
        callbacks: Sequence[Callback] = (),
        initial_epoch: int = 0,
    ) -> None:
        self.initial_epoch = check_count("fit", "initial_epoch", initial_epoch, minimum=0)
        compiled = model.compiled
        self.model = model
        self.session = model.session
        self.data = model.prepare(x, y, sample_weight)
        self.validation = model.prepare_validation(validation_data)
        self.rows = self.data.rows
        batch_size = min(32, self.rows) if batch_size is None else batch_size
        self.batch_size = check_count("fit", "batch_size", batch_size)
        if self.batch_size > self.rows:
            raise ArgumentError(
                f"batch_size {batch_size} is larger than the data ({self.rows} rows); "
                f"use at most {self.rows}."
            )
        self.shuffle = bool(shuffle)
        self.steps_per_epoch = -(-self.rows // self.batch_size)
        self.optimizer = model.optimizer
        self.schedule = compiled.optimizer.schedule
        self.bound = self.session.training_plan(
            self.data, self.batch_size, compiled.outputs, compiled.optimizer
        )
        reserve = 0
        if self.validation is not None:
            # First, as the data to train on may have to leave room for it.
            hooks = Hooks(model, callbacks, "test", self.validation.rows, self.batch_size)
            reserve = self.session.prepare_evaluation(
                self.validation, compiled.outputs, hooks.batches
            )
        self._source = self.session.training_source(
            self.data, self.bound, shuffle=self.shuffle, reserve=reserve
        )
        self._validation_source: Source | None = None
        self.turn = object()
        self._rate = self.bound.array(f"{CONTROL}/learning_rate")
        # Only plans for a rate that changes have a table of rates.
        rates = f"{CONTROL}/rates"
        self._rates = self.bound.array(rates) if rates in self.bound.plan.buffers else None
        self.step_count = int(self.bound.read(f"{CONTROL}/step")[0])
        # Such that epochs of one number are shuffled alike, whichever fit they belong to.
        epochs_before = int(self.bound.read(f"{CONTROL}/epoch")[0])
        self.first_epoch = max(epochs_before - self.initial_epoch, 0)
        self.epoch_index = self.initial_epoch
        self.offset = 0
        self.samples = 0
        self.running = False
        self.in_epoch = False
        self._warned = False
        self._named_watchers = False
        # Waits for the steps that a device was given last; None where none are under way.
        self._last_chunk: Call | None = None
        self.epoch_seconds = 0.0
        self._last_logs: Logs = {}
        self.stop_training = False
        self.verbose = 0
        self.interrupt = Interrupt()
        self.history = History()
        self.callbacks: list[Callback] = [self.history, *check_callbacks(callbacks)]
        for callback in self.callbacks:
            callback.trainer = self
            callback.set_model(model)
        self.callbacks.sort(key=lambda callback: callback.runs_last)

    # Loop in hand

    @property
    def stop_training(self) -> bool:
        """Whether training ends early; the same as ``model.stop_training``."""
        return self.model.stop_training

    @stop_training.setter
    def stop_training(self, stop: bool) -> None:
        self.model.stop_training = stop

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step, and of all later ones once it is set.

        It is the same as ``model.optimizer.learning_rate``, and is part of the state of training.
        Set it before training or in a callback; a schedule's rate cannot be set.
        """
        return self.optimizer.rate(self.step_count)

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self.optimizer.learning_rate = value

    @property
    def nonfinite_step(self) -> int | None:
        """The first step of this epoch whose loss was not finite, if any."""
        step = int(self.bound.read(f"{METRICS}/nonfinite_step")[0])
        return None if step < 0 else step

    def logs(self) -> Logs:
        """Return loss and metrics of the current epoch so far."""
        return self.bound.figures(self.samples)

    def step(self) -> Logs:
        """Take one step; return loss and metrics of the epoch so far.

        The step that finishes an epoch is followed by validation and the callbacks, as in `epoch`.
        """
        with self._under_way():
            self.stop_training = False
            self._begin_epoch()
            self._run_epoch(1)
            logs = self.logs()
            if self.offset >= self.rows:
                self._end_epoch()
        return logs

    def epoch(self) -> Logs:
        """Train to the end of the current epoch; return its loss and metrics, with validation."""
        with self._under_way():
            self.stop_training = False
            self._loop(self.epoch_index + 1, None)
        return self._last_logs

    def fit(self, epochs: int | None = None, steps: int | None = None) -> History:
        """Train until `epochs` epochs or `steps` steps are done, and end the training.

        They are counted from the run's start: after a resume, or after epochs and steps that were
        taken one by one, those before count too.
        """
        if steps is not None and self.initial_epoch:
            raise ArgumentError(
                "initial_epoch goes with epochs, not with steps; leave one of them out."
            )
        with self._under_way(epochs, steps):
            # Only now: BackupAndRestore may have taken up an earlier run.
            first_step = self.step_count - self._steps_done()
            self._loop(epochs, None if steps is None else first_step + steps)
            if not self.interrupt:
                self._end()
        return self.history

    def end(self) -> None:
        """End training: callbacks' `on_train_end`, if it has begun.

        `EarlyStopping` puts back the best weights, `BackupAndRestore` deletes its backup. A
        further `step` or `epoch` begins anew.
        """
        if self.running:
            with self._under_way():
                self._end()

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """End training, after an error with callbacks' `on_exception`."""
        if kind is None:
            self.end()
        elif self.running:
            self.running = False
            # Ctrl-C between two steps of the caller's loop is no error of the training.
            stopped = issubclass(kind, KeyboardInterrupt | SystemExit)
            self._call("on_interrupt" if stopped else "on_exception")

    def release(self) -> None:
        """Let go of the data, which callbacks and plans would keep in memory; `fit` ends so."""
        # Steps that are still under way read the data.
        with suppress(DeviceError):
            self.session.backend.synchronize()
        self.data = self.validation = None
        self._source.close()
        if self._validation_source is not None:
            self._validation_source.close()
        self.session.detach()

    def _take_turn(self) -> None:
        """Attach this trainer's data: another one of the same model may have trained since."""
        if not self._source.arrays:
            raise TrainingError("This Trainer has let go of its data; make a new one.")
        if self.model._session is not self.session:
            raise TrainingError(
                "The model has been compiled again since this Trainer was made, or in a callback; "
                "make a new Trainer, or call fit again."
            )
        if self.session.turn is not self.turn:
            if self.in_epoch or self.offset:
                raise TrainingError(
                    "Another Trainer, or fit, has trained the model since this one stopped in the "
                    "middle of an epoch; let them take turns by whole epochs."
                )
            self.session.turn = self.turn
            self._count_steps(int(self.bound.read(f"{CONTROL}/step")[0]))
        self.bound.attach(self._source.arrays)

    @contextmanager
    def _under_way(self, *aim: int | None) -> Iterator[None]:
        """Begin training, unless it has begun; within it signals and errors are the callbacks'.

        `aim` is what `fit` is asked for: epochs and steps.
        """
        self._take_turn()
        if aim or not self.running:
            self._set_params(*(aim or (None, None)))
        with self.session.backend.threads(), deferred_signals() as self.interrupt:
            try:
                if aim:
                    self.stop_training = False
                if not self.running:
                    self.running = True
                    self._call("on_train_begin", {})
                yield
                if self.interrupt:
                    self.running = False
                    self._call("on_interrupt")
            except BaseException:
                self.running = False
                self._call("on_exception")
                raise
        self.interrupt.raise_again()

    def _loop(self, epochs: int | None, last_step: int | None) -> None:
        while not self.interrupt and not self._done(epochs, last_step):
            self._begin_epoch()
            left = None if last_step is None else last_step - self.step_count
            self._run_epoch(left)
            if self.interrupt:
                break
            if self.offset >= self.rows or self._done(epochs, last_step):
                self._end_epoch()

    def _end(self) -> None:
        self.running = False
        # Those that save the state first: EarlyStopping puts other weights in its place.
        for callback in sorted(self.callbacks, key=lambda c: not c.runs_last):
            callback.on_train_end(self._last_logs)

    def _steps_done(self) -> int:
        return self.epoch_index * self.steps_per_epoch + -(-self.offset // self.batch_size)

    def _done(self, epochs: int | None, last_step: int | None) -> bool:
        return (
            self.stop_training
            or (epochs is not None and self.epoch_index >= epochs)
            or (last_step is not None and self.step_count >= last_step)
        )

    def _set_params(self, epochs: int | None, steps: int | None) -> None:
        if epochs is None and steps is not None:
            epochs = -(-steps // self.steps_per_epoch)
        params = {
            "verbose": self.verbose,
            "epochs": epochs,
            "steps": self.steps_per_epoch,
            "batch_size": self.batch_size,
            "rows": self.rows,
            "total_steps": steps,
        }
        for callback in self.callbacks:
            callback.set_params(params)

    # Epochs

    def _begin_epoch(self) -> None:
        self._take_turn()
        if self.in_epoch:
            return
        self.in_epoch = True
        number = self.first_epoch + self.epoch_index
        self.bound.write(f"{CONTROL}/epoch", number)
        self._source.begin(number, self.offset)
        if self.offset == 0:
            self.samples = 0
            self.epoch_seconds = 0.0
            self.bound.reset_metrics()
            self._call("on_epoch_begin", self.epoch_index, {})

    def _end_epoch(self) -> None:
        logs = self.logs()
        if self.validation is not None:
            hooks = Hooks(self.model, self.callbacks, "test", self.validation.rows, self.batch_size)
            hooks.begin()
            if self._validation_source is None:
                self._validation_source = self.session.evaluation_source(
                    self.validation,
                    self.model.compiled.outputs,
                    hooks.batches,
                    what="validation data",
                    repeats=True,
                )
            figures = self.session.evaluate_source(self._validation_source, hooks.batches)
            hooks.end(dict(figures))
            logs |= {f"val_{name}": value for name, value in figures.items()}
        self._last_logs = logs
        if self.nonfinite_step is not None and not self._warned:
            self._warned = True
            warnings.warn(
                f"The loss is not finite since step {self.nonfinite_step} (epoch "
                f"{self.epoch_index}); lower the learning rate, or set clipnorm.",
                RuntimeWarning,
                stacklevel=4,
            )
        epoch, self.in_epoch = self.epoch_index, False
        if self.offset >= self.rows:
            self._finish_epoch()
        for callback in self.callbacks:
            if callback.runs_last:
                # Before it saves the history: others may have added to the logs, as in Keras.
                self.history.amend(logs)
            callback.on_epoch_end(epoch, logs)
        self.history.amend(logs)

    def _finish_epoch(self) -> None:
        self.epoch_index, self.offset, self.in_epoch = self.epoch_index + 1, 0, False
        self.bound.write(f"{CONTROL}/epoch", self.first_epoch + self.epoch_index)

    # Steps

    def _run_epoch(self, steps_left: int | None) -> None:
        """Take steps to the end of the epoch, in chunks between which callbacks get a look."""
        backend = self.session.backend
        batch_hooks = [
            c
            for c in self.callbacks
            if any(defines(c, f"on_{kind}batch_begin") for kind in ("train_", ""))
        ]
        batch_hooks_end = [
            c
            for c in self.callbacks
            if any(defines(c, f"on_{kind}batch_end") for kind in ("train_", ""))
        ]
        every = [(c, c.every_steps) for c in self.callbacks if c.every_steps]
        timed = [(c, c.interval) for c in self.callbacks if c.interval is not None]
        per_batch = bool(batch_hooks or batch_hooks_end)
        if per_batch and not self._named_watchers:
            self._named_watchers = True
            watchers = sorted({type(c).__name__ for c in (*batch_hooks, *batch_hooks_end)})
            logger.info("%s looks at every batch: steps are taken one by one", ", ".join(watchers))
        looked = {id(c): time.perf_counter() for c, _ in timed}
        shortest = min((seconds for _, seconds in timed), default=0.5)
        chunk = FIRST_CHUNK
        while self.offset < self.rows and steps_left != 0 and not self.interrupt:
            if not self.in_epoch:  # a callback has gone back to an earlier state
                self._begin_epoch()
            count = 1 if per_batch else chunk
            count = min(count, self.steps_per_epoch - self.offset // self.batch_size)
            for _, multiple in every:
                count = min(count, multiple - self.step_count % multiple)
            if steps_left is not None:
                count = min(count, steps_left)
                steps_left -= count
            batch = self.offset // self.batch_size
            for callback in batch_hooks:
                callback.on_train_batch_begin(batch, logs={})
            if not self.in_epoch:
                self._begin_epoch()
            began = time.perf_counter()
            self._advance(count)
            # A device computes while the next chunk is prepared. No more than two are on their way,
            # so that the time of a turn is that of a chunk, and a signal is soon seen to.
            before, self._last_chunk = self._last_chunk, backend.mark()
            if before is not None:
                before()
            now = time.perf_counter()
            self.epoch_seconds += now - began
            if now - began < shortest / 4:
                # A turn that did not wait says no more than how long it took to hand steps over.
                if before is not None or self._last_chunk is None:
                    chunk = min(2 * chunk, 1 << 20)
            elif now - began > shortest:
                chunk = max(chunk // 2, 1)
            if batch_hooks_end:
                self._wait()
                logs = self.logs()
                for callback in batch_hooks_end:
                    callback.on_train_batch_end(batch, logs=logs)
            for callback, multiple in every:
                if self.step_count % multiple == 0:
                    self._wait()
                    callback.on_steps(self.step_count)
            for callback, seconds in timed:
                if now - looked[id(callback)] >= seconds:
                    looked[id(callback)] = now
                    self._wait()
                    callback.on_interval(self.logs())
            if self.stop_training:
                break
        self._wait()

    def _wait(self) -> None:
        """Wait for the steps that the device has been given: they are the epoch's time too."""
        began = time.perf_counter()
        self.session.backend.synchronize()
        self._last_chunk = None
        self.epoch_seconds += time.perf_counter() - began

    def _advance(self, count: int) -> None:
        """Take `count` steps, which do not cross the end of the epoch."""
        self._take_turn()
        while count:
            steps = self._set_rates(count)
            self._take_steps(steps)
            self._count_steps(self.step_count)
            count -= steps

    def _set_rates(self, count: int) -> int:
        """Give the device the learning rates of up to `count` steps; return of how many.

        From then on it takes the next rate by itself: nothing is copied between steps.
        """
        write, first = self.session.backend.write, self.step_count
        write(self._rate, self.optimizer.rate(first))
        if self._rates is None or count == 1:
            return count
        count = min(count, RATES)
        write(self._rates[:count], [self.schedule(step) for step in range(first, first + count)])
        self.bound.write(f"{CONTROL}/first_step", first)
        return count

    def _count_steps(self, step: int) -> None:
        self.step_count = step
        vars(self.optimizer)["iterations"] = step

    def _take_steps(self, count: int) -> None:
        while count:
            steps, rows = self._source.run("train", self.offset, count)
            self.step_count += steps
            self.offset += rows
            self.samples += rows
            count -= steps

    # State

    def state_dict(self) -> dict[str, Any]:
        """Return everything a run needs to go on exactly where it is.

        Returns
        -------
        dict
            ``weights`` and ``optimizer`` (arrays by path), ``metrics`` (accumulators of the
            current epoch) and ``training`` (counters, history and callback states; JSON).
        """
        saved = state.take(self)
        saved["training"]["learning_rate"] = self.optimizer.override
        return saved

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned; training then goes on exactly there."""
        training = saved["training"]
        rate = training.get("learning_rate") if isinstance(training, Mapping) else None
        if rate is not None:
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not rate >= 0:
                raise CheckpointError(
                    f"The state of training is damaged: its learning_rate is {rate!r}."
                )
            self.optimizer.check_settable()
        state.restore(self, saved)
        vars(self.optimizer)["override"] = None if rate is None else float(rate)
        self._count_steps(self.step_count)

    def checkpoint(self) -> Checkpoint:
        """Return the state as a checkpoint, with the model's configuration.

        Raises
        ------
        TrainingError
            The loss or a weight is not finite: a broken model must not replace a good one.
        """
        checkpoint = state.checkpoint(self)
        if checkpoint.training is not None:
            checkpoint.training["learning_rate"] = self.optimizer.override
        return checkpoint

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)
