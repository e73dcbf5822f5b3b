"""The loss by learning rate, from which to choose one."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.errors import ArgumentTypeError, DataError, ShapeError
from gpunn.plots.common import QUIET, TRAINING, VALIDATION, host, single
from gpunn.training.learning_rate_finder import LearningRateSearch, find_learning_rate


class LearningRateFinderDisplay:
    """The loss of each batch by learning rate, with the suggested learning rate.

    Parameters
    ----------
    learning_rates, losses, smoothed : array_like, shape (steps,)
        Of each step; see `LearningRateSearch`.
    suggestion, divergence : float, optional
        Learning rates to mark.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    points_ : matplotlib Line2D
        The losses.
    line_ : matplotlib Line2D
        The smoothed losses.
    suggestion_, divergence_ : matplotlib Line2D or None
        The marks.

    Raises
    ------
    ShapeError, DataError
        The shapes differ, or no loss is finite.
    """

    def __init__(
        self,
        learning_rates: Any,
        losses: Any,
        smoothed: Any,
        *,
        suggestion: float | None = None,
        divergence: float | None = None,
    ) -> None:
        self.learning_rates = host(learning_rates, "learning_rates")
        self.losses, self.smoothed = host(losses, "losses"), host(smoothed, "smoothed")
        for name, values in (("losses", self.losses), ("smoothed", self.smoothed)):
            if values.shape != self.learning_rates.shape:
                raise ShapeError(
                    f"{name} has shape {values.shape}, but learning_rates has "
                    f"{self.learning_rates.shape}: give one for each step."
                )
        if not np.isfinite(self.losses).any():
            raise DataError("losses has no finite value: there is nothing to draw.")
        self.suggestion, self.divergence = suggestion, divergence
        self.figure_: Any = None
        self.ax_: Any = None
        self.points_: Any = None
        self.line_: Any = None
        self.suggestion_: Any = None
        self.divergence_: Any = None

    @classmethod
    def from_result(
        cls, result: LearningRateSearch, *, ax: Any = None
    ) -> LearningRateFinderDisplay:
        """Draw the result of `gpunn.find_learning_rate`.

        Parameters
        ----------
        result : LearningRateSearch
            The result.
        ax : matplotlib Axes, optional
            Where to draw. Default: a new figure.

        Returns
        -------
        LearningRateFinderDisplay
            The display.

        Raises
        ------
        ArgumentTypeError, DataError
            `result` is something else, or no loss is finite.
        """
        if not isinstance(result, LearningRateSearch):
            raise ArgumentTypeError(
                f"result must be what find_learning_rate returned, not {type(result).__name__}."
            )
        display = cls(
            result.learning_rates,
            result.losses,
            result.smoothed,
            suggestion=result.suggestion,
            divergence=result.divergence,
        )
        return display.plot(ax)

    @classmethod
    def from_model(
        cls, model: Any, x: Any, y: Any, *, ax: Any = None, **options: Any
    ) -> LearningRateFinderDisplay:
        """Search with `gpunn.find_learning_rate`, and draw the result.

        Parameters
        ----------
        model : Model
            Must be compiled; it is not changed.
        x, y : array_like, or list or dict of them
            Inputs and targets, as for `Model.fit`.
        ax : matplotlib Axes, optional
            Where to draw. Default: a new figure.
        **options : object
            Further arguments of `gpunn.find_learning_rate`.

        Returns
        -------
        LearningRateFinderDisplay
            The display.
        """
        return cls.from_result(find_learning_rate(model, x, y, **options), ax=ax)

    def plot(self, ax: Any = None) -> LearningRateFinderDisplay:
        """Draw the losses.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            As for `from_result`.

        Returns
        -------
        LearningRateFinderDisplay
            The display itself.
        """
        self.figure_, axes = single(ax, (6.0, 3.8))
        self.ax_ = axes
        rates = self.learning_rates
        (self.points_,) = axes.plot(
            rates, self.losses, ".", ms=4, color=TRAINING, alpha=0.35, label="loss of each batch"
        )
        (self.line_,) = axes.plot(rates, self.smoothed, color=TRAINING, lw=1.8, label="smoothed")
        self.suggestion_ = self.divergence_ = None
        if self.suggestion is not None:
            self.suggestion_ = axes.axvline(
                self.suggestion,
                color=VALIDATION,
                lw=1.4,
                label=f"suggestion: {self.suggestion:.2g}",
            )
        if self.divergence is not None:
            self.divergence_ = axes.axvline(
                self.divergence,
                color=QUIET,
                lw=1,
                ls="--",
                label=f"divergence: {self.divergence:.2g}",
            )
        axes.set_xscale("log")
        axes.set_ylim(*self._limits())
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="best")
        return self

    def _limits(self) -> tuple[float, float]:
        """Return limits of the losses that cut off a divergence but show the way there."""
        smoothed = self.smoothed[np.isfinite(self.smoothed)]
        losses = self.losses[np.isfinite(self.losses)]
        low = float(min(smoothed.min(initial=np.inf), losses.min()))
        # The losses before the divergence, with some margin.
        top = float(np.quantile(losses[: max(len(losses) // 2, 1)], 0.98))
        height = max(top - low, 1e-3 * max(abs(top), 1e-30))
        return low - 0.08 * height, top + 0.35 * height
