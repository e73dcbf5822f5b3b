"""The training loop: steps, epochs, triggers; everything else is a callback."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gpunn.checkpoints.format import Checkpoint
from gpunn.data.batches import Data
from gpunn.data.sources import Source
from gpunn.errors import ArgumentError, DeviceError, TrainingError
from gpunn.plan.build import RATES
from gpunn.plan.spec import CONTROL, METRICS, OutputSpec
from gpunn.specs.optimizers import CompiledOptimizer
from gpunn.specs.registry import check_count
from gpunn.training import state as states
from gpunn.training.callbacks.base import Callback, Logs
from gpunn.training.callbacks.history import History
from gpunn.training.chunks import Chunks, Watchers
from gpunn.training.hooks import Hooks, check_callbacks
from gpunn.training.session import Session
from gpunn.training.signals import Interrupt, deferred_signals


@dataclass(frozen=True)
class Task:
    """What is trained: data that are checked, on what, by which optimizer.

    Attributes
    ----------
    session : Session
        The weights, on a device.
    data : Data
    validation : Data or None
    outputs : sequence of OutputSpec
        The loss and the metrics of each output.
    optimizer : CompiledOptimizer
    frozen : callable
        Returns the names of the layers whose weights stay as they are.
    config : callable
        Returns the configuration that checkpoints hold.
    read_run : callable
        Returns the state of a run from a checkpoint's path.
    """

    session: Session
    data: Data
    validation: Data | None
    outputs: Sequence[OutputSpec]
    optimizer: CompiledOptimizer
    frozen: Callable[[], frozenset[str]]
    config: Callable[[], dict[str, Any]]
    read_run: Callable[[str | Path], dict[str, Any]]


class Trainable(Protocol):
    """What can be trained: a compiled model."""

    stop_training: bool

    def training_task(self, x: Any, y: Any, sample_weight: Any, validation_data: Any) -> Task:
        """Check the data and return them with all that the training needs."""


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
    history : History
    stop_training : bool
        Set it in a callback to stop after the current epoch (or step, from a per-batch hook). In
        a loop of your own it says whether a callback wants to stop; `epoch` and `step` train all
        the same.
    verbose : int
        What `Model.fit` was asked to show, for the callbacks' `params`; 0 with a Trainer in hand.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        An argument cannot be used, or the data do not fit the model.
    NotBuiltError
        The model is not compiled.

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
        model: Trainable,
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
        self.model = model
        task = model.training_task(x, y, sample_weight, validation_data)
        self.session, self.optimizer, data = task.session, task.optimizer, task.data
        self._outputs, self.validation = task.outputs, task.validation
        self._frozen, self._frozen_now = task.frozen(), task.frozen
        self._config, self._read_run = task.config, task.read_run
        self.rows = data.rows
        batch_size = min(32, self.rows) if batch_size is None else batch_size
        self.batch_size = check_count("fit", "batch_size", batch_size)
        if self.batch_size > self.rows:
            raise ArgumentError(
                f"batch_size {batch_size} is larger than the data ({self.rows} rows); "
                f"use at most {self.rows}."
            )
        self.shuffle = bool(shuffle)
        self.steps_per_epoch = -(-self.rows // self.batch_size)
        self.schedule = self.optimizer.spec.schedule
        self.bound = self.session.training_plan(
            data, self.batch_size, task.outputs, self.optimizer.spec, self._frozen
        )
        reserve = 0
        if self.validation is not None:
            # First, as the data to train on may have to leave memory for it.
            hooks = Hooks(model, callbacks, "test", self.validation.rows, self.batch_size)
            reserve = self.session.prepare_evaluation(
                self.validation, task.outputs, hooks.batches, self._frozen
            )
        self._source = self.session.training_source(
            data, self.bound, shuffle=self.shuffle, reserve=reserve
        )
        self._validation_source: Source | None = None
        self._rate = self.bound.array(f"{CONTROL}/learning_rate")
        # Only plans for a rate that changes have a table of rates.
        rates = f"{CONTROL}/rates"
        self._rates = self.bound.array(rates) if rates in self.bound.plan.buffers else None
        self.state = self.session.state
        self._trained = [name for name in self.session.copies.layers if name not in self._frozen]
        # Such that epochs of one number are shuffled alike, whichever fit they belong to.
        self.first_epoch = max(self.state.epoch - self.initial_epoch, 0)
        # Where this trainer stood when it was last active.
        self._left_at, self._left_within = self.initial_epoch, False
        self.running = False
        self.in_epoch = False
        self._warned = False
        self._named_watchers = False
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

    # Where it stands

    @property
    def active(self) -> bool:
        """Whether the state of training, and what the device counts, are this trainer's."""
        return self.session.active_trainer is self

    @property
    def step_count(self) -> int:
        """Steps taken since the model was compiled."""
        return self.state.step

    @property
    def epoch_index(self) -> int:
        """Epochs finished in this training run, and those before `initial_epoch`."""
        return self.state.epoch - self.first_epoch if self.active else self._left_at

    @property
    def offset(self) -> int:
        """Rows of the current epoch that are done."""
        return self.state.offset if self.active else 0

    @property
    def samples(self) -> int:
        """Rows that `logs` are the mean over."""
        return self.state.samples

    @property
    def epoch_seconds(self) -> float:
        """Seconds that the steps of the current epoch have taken."""
        return self.state.epoch_seconds

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
        """Return loss and metrics of the current epoch so far.

        Returns
        -------
        dict of str to float
            Means over the rows that were trained on.
        """
        return self.bound.figures(self.samples)

    def step(self) -> Logs:
        """Take one step; return loss and metrics of the epoch so far.

        The step that finishes an epoch is followed by validation and the callbacks, as in `epoch`.

        Returns
        -------
        dict of str to float
            Means over the rows of the epoch that were trained on.
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
        """Train to the end of the current epoch; return its loss and metrics, with validation.

        Returns
        -------
        dict of str to float
            Means over the rows of the epoch; those of the validation data begin with ``val_``.
        """
        with self._under_way():
            self.stop_training = False
            self._loop(self.epoch_index + 1, None)
        return self._last_logs

    def fit(self, epochs: int | None = None, steps: int | None = None) -> History:
        """Train until `epochs` epochs or `steps` steps are done, and end the training.

        They are counted from the run's start: after a resume, or after epochs and steps that were
        taken one by one, those before count too.

        Parameters
        ----------
        epochs : int, optional
            Number of the epoch to stop at.
        steps : int, optional
            Number of steps to stop after, in place of `epochs`.

        Returns
        -------
        History
            Loss and metrics of each epoch.

        Raises
        ------
        ArgumentError
            `steps` was given together with an initial epoch.
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
        if self.active:
            self._suspend()
        # Steps that are still under way read the data.
        with suppress(DeviceError):
            self.session.backend.synchronize()
        self.validation = None
        self._source.close()
        if self._validation_source is not None:
            self._validation_source.close()
        self.session.detach()

    def _activate(self) -> None:
        """Make this trainer the one that trains: another of the same model may have, since."""
        if not self._source.arrays:
            raise TrainingError("This Trainer has let go of its data; make a new one.")
        if self.session.closed:
            raise TrainingError(
                "The model has been compiled again since this Trainer was made, or in a callback; "
                "make a new Trainer, or call fit again."
            )
        if not self.active:
            if self._left_within:
                raise TrainingError(
                    "Another Trainer, or fit, has trained the model since this one stopped in the "
                    "middle of an epoch; let them take turns by whole epochs."
                )
            self._succeed()
            self.state.epoch = max(self.state.epoch, self.first_epoch + self._left_at)
            self.first_epoch = self.state.epoch - self._left_at
            self.state.offset = 0
            self.state.write_counters(self.bound)
        self.session.copies.claim(self._trained)
        self.bound.attach(self._source.arrays)

    def _succeed(self) -> None:
        """Take the place of the trainer that was active before."""
        if self.session.active_trainer is not None:
            self.session.active_trainer._suspend()
        self.session.active_trainer = self

    def _suspend(self) -> None:
        self._left_at, self._left_within = self.epoch_index, self.in_epoch or self.offset > 0
        self.session.active_trainer = None

    @contextmanager
    def _under_way(self, *aim: int | None) -> Iterator[None]:
        """Begin training, unless it has begun; within it signals and errors are the callbacks'.

        `aim` is what `fit` is asked for: epochs and steps.
        """
        if self._frozen_now() != self._frozen:
            raise TrainingError(
                "Which layers are trainable has changed since this Trainer was made; make a new "
                "Trainer."
            )
        self._activate()
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
        self._activate()
        if self.in_epoch:
            return
        self.in_epoch = True
        self.bound.write(f"{CONTROL}/epoch", self.state.epoch)
        self._source.begin(self.state.epoch, self.offset)
        if self.offset == 0:
            self.state.begin_epoch()
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
                    self._outputs,
                    hooks.batches,
                    self._frozen,
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
        self.in_epoch = False
        self.state.finish_epoch()
        self.bound.write(f"{CONTROL}/epoch", self.state.epoch)

    # Steps

    def _run_epoch(self, steps_left: int | None) -> None:
        """Take steps to the end of the epoch, in chunks between which callbacks get a look."""
        backend = self.session.backend
        watchers = Watchers(self.callbacks)
        if not self._named_watchers:
            self._named_watchers = watchers.tell()
        chunks = Chunks(watchers.shortest_interval)
        while self.offset < self.rows and steps_left != 0 and not self.interrupt:
            if not self.in_epoch:  # a callback has gone back to an earlier state
                self._begin_epoch()
            batch = self.offset // self.batch_size
            count = watchers.at_most(chunks.steps, self.step_count)
            count = min(count, self.steps_per_epoch - batch)
            if steps_left is not None:
                count = min(count, steps_left)
                steps_left -= count
            watchers.batch_begin(batch)
            if not self.in_epoch:
                self._begin_epoch()
            chunks.begin()
            self._advance(count)
            self.state.epoch_seconds += chunks.end(backend.mark())
            if watchers.look(self.step_count):
                self.state.epoch_seconds += chunks.wait(backend)
                watchers.call(batch, self.step_count, self.logs)
            if self.stop_training:
                break
        self.state.epoch_seconds += chunks.wait(backend)

    def _advance(self, count: int) -> None:
        """Take `count` steps, which do not cross the end of the epoch."""
        self._activate()
        while count:
            steps = self._set_rates(count)
            self._take_steps(steps)
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

    def _take_steps(self, count: int) -> None:
        while count:
            steps, rows = self._source.run("train", self.offset, count)
            self.state.advance(steps, rows)
            self.session.copies.version += 1
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
        read = self.bound.read
        return {
            "weights": self.session.weights(),
            "optimizer": {saved: read(name) for saved, name in self._slots().items()},
            "metrics": {saved: read(n) for saved, n in states.metric_buffers(self.bound).items()},
            "training": {
                "step": self.step_count,
                "first_epoch": self.first_epoch,
                "epoch": self.epoch_index,
                "offset": self.offset,
                "samples": self.samples,
                "epoch_seconds": self.epoch_seconds,
                **self._fixed(),
                "callbacks": [
                    {"type": type(c).__name__, "state": c.state_dict()} for c in self.callbacks
                ],
                "learning_rate": self.state.learning_rate,
            },
        }

    def _fixed(self) -> dict[str, Any]:
        """Return what a run that goes on from a state must have in common with it."""
        seed = self.session.seed
        shuffled = {"shuffle": self.shuffle, "seed": seed}
        return {"rows": self.rows, "batch_size": self.batch_size, **shuffled}

    def _slots(self) -> dict[str, str]:
        return states.slot_buffers(self.session.graph, self.optimizer.spec, self._frozen)

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned; training then goes on exactly there.

        Parameters
        ----------
        saved : mapping
            What `state_dict` returned.

        Raises
        ------
        CheckpointError
            It is damaged, or that of a run with other rows, batches or another seed.
        """
        training, bound, metrics = saved["training"], self.bound, states.metric_buffers(self.bound)
        shapes = {saved: bound.plan.buffers[name].shape for saved, name in metrics.items()}
        states.check_run(saved, self._fixed(), shapes)
        rate = training.get("learning_rate")
        if rate is not None:
            self.optimizer.check_settable()
        if not self.active:
            self._succeed()
        for path, values in saved["weights"].items():
            self.session.write(path, values)
        slots = self._slots()
        for name, values in saved["optimizer"].items():
            bound.write(slots[name], values)
        for name, buffer in metrics.items():
            bound.write(buffer, saved["metrics"][name])
        self.first_epoch, state = training["first_epoch"], self.state
        state.step, state.epoch = training["step"], self.first_epoch + training["epoch"]
        state.offset, state.samples = training["offset"], training["samples"]
        state.epoch_seconds = training["epoch_seconds"]
        state.learning_rate = None if rate is None else float(rate)
        state.write_counters(bound)
        self.in_epoch = False
        entries = list(training["callbacks"])
        for callback in self.callbacks:
            # The first of a type takes the first entry of that type, the second the second.
            kind = type(callback).__name__
            found = next((i for i, entry in enumerate(entries) if entry.get("type") == kind), None)
            if found is not None:
                callback.load_state_dict(entries.pop(found)["state"])

    def resume(self, path: str | Path) -> None:
        """Go on from a checkpoint of this run, or from the latest in a folder.

        Parameters
        ----------
        path : path
            What `Checkpoints` or `BackupAndRestore` wrote, or their folder.

        Raises
        ------
        CheckpointError
            It cannot be read, or is that of another model or run.
        """
        self.load_state_dict(self._read_run(path))

    def checkpoint(self) -> Checkpoint:
        """Return the state as a checkpoint, with the model's configuration.

        Returns
        -------
        Checkpoint
            What `gpunn.callbacks.Checkpoints` writes.

        Raises
        ------
        TrainingError
            The loss or a weight is not finite: a broken model must not replace a good one.
        """
        advice = "Nothing is saved. Lower the learning rate, or set clipnorm."
        step = self.nonfinite_step
        if step is not None:
            raise TrainingError(f"The loss is not finite since step {step}. {advice}")
        saved = self.state_dict()
        for path, values in saved["weights"].items():
            if not np.isfinite(values).all():
                raise TrainingError(f"{path} is not finite at step {self.step_count}. {advice}")
        return Checkpoint(self._config(), **saved)

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(*arguments)
