"""Training of the MLP estimators: scikit-learn's rules around gpunn's training loop.

Stopping, improvement and learning-rate rules are those of ``sklearn.neural_network``; the steps
themselves are run by the plan.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from gpunn.data.batches import Data
from gpunn.errors import DataError
from gpunn.estimators.mlp_settings import Settings
from gpunn.models.model import Model
from gpunn.plan.bind import BoundPlan
from gpunn.plan.build import build_plan
from gpunn.plan.spec import GRADIENTS, METRICS, PARAMETERS
from gpunn.training.callbacks.base import Callback, Logs
from gpunn.training.trainer import Trainer

Array = np.ndarray[Any, Any]

# Below it an adaptive learning rate is not lowered further.
MIN_LEARNING_RATE = 1e-6
ADAPTIVE_FACTOR = 5.0


class EpochEnd(Callback):
    """Records metrics, sets the learning rate and stops training at the end of each epoch.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Whose attributes are updated.
    settings : Settings
    validation : tuple of Data, y and weights, optional
        Rows that are not trained on.
    incremental : bool
        Whether there is only one epoch, in `partial_fit`.
    """

    def __init__(
        self,
        estimator: Any,
        settings: Settings,
        validation: tuple[Data, Array, Array | None] | None,
        incremental: bool,
    ) -> None:
        self.estimator, self.settings = estimator, settings
        self.validation, self.incremental = validation, incremental
        self.early_stopping = settings.early_stopping and not incremental
        self.best_weights: list[Array] | None = None
        self.sgd = estimator.solver == "sgd"

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        estimator, settings, trainer = self.estimator, self.settings, self.trainer
        estimator.n_iter_ += 1
        estimator.t_ += trainer.rows
        loss = estimator.loss_ = reported_loss(estimator, (logs or {})["loss"], trainer.bound)
        estimator.loss_curve_.append(loss)
        if not math.isfinite(loss):
            trainer.stop_training = True
            return
        if settings.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {loss:.8f}")
        if self.validation is not None:
            self._validate()
        self._count(loss)
        if self.sgd and settings.learning_rate == "invscaling":
            rate = settings.learning_rate_init / (estimator.t_ + 1) ** settings.power_t
            trainer.learning_rate = rate
        if estimator._no_improvement_count > settings.n_iter_no_change:
            what = "Validation score" if self.early_stopping else "Training loss"
            self._stop_or_slow_down(
                f"{what} did not improve more than tol={settings.tol:f} for "
                f"{settings.n_iter_no_change} consecutive epochs."
            )
        elif not self.incremental and estimator.n_iter_ == settings.max_iter:
            _warn_of_iterations(settings.max_iter)

    def _validate(self) -> None:
        assert self.validation is not None
        data, y, weights = self.validation
        estimator = self.estimator
        session = self.trainer.session
        outputs = session.predict(data)[0].astype(np.float64)
        score, loss = math.nan, math.nan
        if np.isfinite(outputs).all():
            score, loss = estimator._score_and_loss(outputs, y, weights)
        estimator.validation_scores_.append(score)
        estimator.validation_loss_curve_.append(loss)
        if self.settings.verbose:
            print(f"Validation score: {score:f}")

    def _count(self, loss: float) -> None:
        """Record whether this epoch has improved on those before it."""
        estimator, tol = self.estimator, self.settings.tol
        if not self.early_stopping:
            worse = loss > estimator.best_loss_ - tol
            estimator.best_loss_ = min(estimator.best_loss_, loss)
        if self.validation is not None:
            score, best = estimator.validation_scores_[-1], estimator.best_validation_score_
            if self.early_stopping:
                worse = score < best + tol
            if score > best:
                estimator.best_validation_score_ = score
                if self.early_stopping:
                    self.best_weights = self.model.get_weights()
        estimator._no_improvement_count = estimator._no_improvement_count + 1 if worse else 0

    def _stop_or_slow_down(self, message: str) -> None:
        trainer, settings = self.trainer, self.settings
        adaptive = self.sgd and settings.learning_rate == "adaptive"
        if not adaptive or trainer.learning_rate <= MIN_LEARNING_RATE:
            what = " Learning rate too small. Stopping." if adaptive else " Stopping."
            trainer.stop_training = True
        else:
            trainer.learning_rate = trainer.learning_rate / ADAPTIVE_FACTOR
            self.estimator._no_improvement_count = 0
            what = f" Setting learning rate to {trainer.learning_rate:f}"
        if settings.verbose:
            print(message + what)


def _warn_of_iterations(max_iter: int) -> None:
    warnings.warn(
        f"Stochastic Optimizer: Maximum iterations ({max_iter}) reached and the optimization "
        f"hasn't converged yet.",
        ConvergenceWarning,
        stacklevel=10,
    )


def reported_loss(estimator: Any, total: float, bound: BoundPlan) -> float:
    """Return scikit-learn's loss, computed from that of the plan.

    With several outputs of a regressor, scikit-learn follows the gradient of the sum over outputs,
    but reports the mean over them, the penalty added to both; so does this function.
    """
    metric = next(metric for metric in bound.plan.metrics if metric.label == "loss")
    if estimator._mean_weight == metric.weight:
        return total
    sums = bound.read_metrics()
    penalty = 0.0
    rows = estimator._rows_trained
    for other in bound.plan.metrics:
        if other.label == "regularization":
            penalty = float(sums[other.buffer][0]) / rows
    return estimator._mean_weight * float(sums[f"{METRICS}/loss"][0]) / rows + penalty


def train(
    estimator: Any,
    settings: Settings,
    model: Model,
    X: Any,
    targets: Array,
    weights: Array | None,
    validation: tuple[Data, Array, Array | None] | None,
    incremental: bool,
) -> None:
    """Train by steps on batches until `tol` or `max_iter` ends it."""
    rows = len(X)
    batch_size = min(200, rows) if settings.batch_size is None else settings.batch_size
    if batch_size > rows:
        warnings.warn(
            f"batch_size {batch_size} is larger than the data ({rows} rows); {rows} is used.",
            UserWarning,
            stacklevel=5,
        )
        batch_size = rows
    end = EpochEnd(estimator, settings, validation, incremental)
    trainer = Trainer(
        model,
        X,
        targets,
        batch_size=batch_size,
        sample_weight=weights,
        shuffle=settings.shuffle,
        callbacks=[end],
    )
    estimator.n_iter_ = 0
    estimator._rows_trained = rows
    try:
        trainer.fit(1 if incremental else settings.max_iter)
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=5)
    finally:
        trainer.release()
    if end.best_weights is not None:
        model.set_weights(end.best_weights)


def minimize(
    estimator: Any,
    settings: Settings,
    model: Model,
    X: Any,
    targets: Array,
    weights: Array | None,
) -> None:
    """Minimize the loss over all rows by SciPy's L-BFGS; the plan computes loss and gradient."""
    from scipy.optimize import minimize as scipy_minimize

    data = model.prepare(X, targets, weights)
    session, backend = model.session, model.session.backend
    plan = build_plan(
        model.graph,
        batch_size=data.rows,
        precision=session.precision,
        outputs=data.weighted_outputs(model.compiled.outputs),
        input_dtypes=data.input_dtypes,
        programs=("gradient",),
    )
    bound = session.bind(plan)
    bound.attach(
        session.on_device(data) | {"order": backend.upload(np.arange(data.rows, dtype=np.int64))}
    )
    estimator._rows_trained = data.rows
    reported = math.nan

    def loss_and_gradient(values: Array) -> tuple[float, Array]:
        nonlocal reported
        bound.write(PARAMETERS, values)
        bound.reset_metrics()
        bound.run("gradient")
        loss = bound.figures(data.rows)["loss"]
        reported = reported_loss(estimator, loss, bound)
        return loss, bound.read(GRADIENTS).astype(np.float64)

    with backend.threads():
        result = scipy_minimize(
            loss_and_gradient,
            # Includes the padding between weights, whose gradient is 0.
            bound.read(PARAMETERS).astype(np.float64),
            method="L-BFGS-B",
            jac=True,
            options={
                "maxfun": settings.max_fun,
                "maxiter": settings.max_iter,
                "gtol": settings.tol,
            },
        )
        loss_and_gradient(result.x)
    bound.detach()
    estimator.loss_, estimator.n_iter_ = reported, min(int(result.nit), settings.max_iter)
    if settings.verbose:
        print(f"L-BFGS: {result.nit} iterations, loss = {reported:.8f}")
    if result.status != 0:
        advice = "Scale the data, or increase max_iter or max_fun."
        if result.status == 2 and session.dtype != "float64":
            advice = f"Rounding in {session.precision} ended the search; use precision='float64'."
        warnings.warn(
            f"lbfgs failed to converge after {result.nit} iteration(s) "
            f"(status={result.status}): {result.message} {advice}",
            ConvergenceWarning,
            stacklevel=5,
        )


def check_weights_finite(model: Model) -> None:
    """Raise `DataError` if weights are not finite after training."""
    if not all(np.isfinite(values).all() for values in model.get_weights()):
        raise DataError(
            "Solver produced non-finite parameter weights. The input data may contain large "
            "values and need to be preprocessed; or lower learning_rate_init."
        )
