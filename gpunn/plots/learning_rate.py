"""The loss by learning rate, to choose one by."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.errors import ArgumentTypeError, DataError, ShapeError
from gpunn.plots.common import QUIET, TRAINING, VALIDATION, host, single
from gpunn.training.learning_rate_finder import LearningRateSearch, find_learning_rate


class LearningRateFinderDisplay:
    """The loss of each batch by learning rate, with the rate that is suggested.

    Parameters
    ----------
    learning_rates, losses, smoothed : array, shape (steps,)
        Of each step; see `LearningRateSearch`.
    suggestion, divergence : float, optional
        Rates to mark.

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
        """Draw what `gpunn.find_learning_rate` returned.

        Parameters
        ----------
        result : LearningRateSearch
        ax : matplotlib Axes, optional
            Where to draw. Default: a new figure.

        Returns
        -------
        LearningRateFinderDisplay

        Raises
        ------
        ArgumentTypeError, DataError
            If `result` is none, or of losses of which none was finite.
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
        """Search with `gpunn.find_learning_rate`, which takes the `options`, and draw it."""
        return cls.from_result(find_learning_rate(model, x, y, **options), ax=ax)

    def plot(self, ax: Any = None) -> LearningRateFinderDisplay:
        """Draw it; parameters as in `from_result`."""
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
        """Return limits of the losses: a divergence goes off the top, the way there is seen."""
        smoothed = self.smoothed[np.isfinite(self.smoothed)]
        losses = self.losses[np.isfinite(self.losses)]
        low = float(min(smoothed.min(initial=np.inf), losses.min()))
        # Before the divergence: what was lost at the start, and somewhat more.
        top = float(np.quantile(losses[: max(len(losses) // 2, 1)], 0.98))
        room = max(top - low, 1e-3 * max(abs(top), 1e-30))
        return low - 0.08 * room, top + 0.35 * room
