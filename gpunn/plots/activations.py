"""Activation functions and their derivatives, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn.errors import ArgumentError, ArgumentTypeError
from gpunn.plots.common import COLOURS, QUIET, Array, panels
from gpunn.specs import activations

# Lines overlap, for example those of relu and step for negative inputs.
STYLES = ("-", "--", "-.", ":")
# Unbounded functions are cut off here, so that the shape of the others stays visible.
MAX_VALUE = 2.0


class ActivationDisplay:
    """Activation functions on the left, their derivatives on the right.

    Parameters
    ----------
    functions : list of ActivationFunction or ExpressionActivation
        Elementwise functions, so not softmax; user-defined ones are made by
        `gpunn.activations.from_function`.
    limits : tuple of float, default (-5, 5)
        Smallest and largest input.

    Attributes
    ----------
    names : list of str
    z : ndarray, shape (points,)
        The inputs.
    values, derivatives : ndarray, shape (functions, points)
    figure_ : matplotlib Figure
    ax_ : ndarray of matplotlib Axes, shape (2,)

    Raises
    ------
    ArgumentError, ArgumentTypeError
        There is no function, one is softmax, or the limits are not two increasing numbers.

    Notes
    -----
    A cross marks the derivative of a step function (step, sign): it is 0 everywhere and undefined
    at 0, so that gradient descent cannot train through it.
    """

    def __init__(
        self,
        functions: Sequence[activations.AnyActivation],
        limits: tuple[float, float] = (-5.0, 5.0),
    ) -> None:
        self.functions = list(functions)
        if not self.functions:
            raise ArgumentError("names is empty; give at least one activation, such as 'relu'.")
        for function in self.functions:
            if isinstance(function, activations.ActivationFunction) and function.name == "softmax":
                raise ArgumentError(
                    "names: 'softmax' is a function of all outputs of a layer, and has no curve; "
                    "omit it."
                )
        self.limits = _checked(limits)
        self.names = [_label(function) for function in self.functions]
        self.z: Array = np.linspace(*self.limits, 2001)
        self.values: Array = np.stack([function(self.z) for function in self.functions])
        self.derivatives: Array = np.stack([f.derivative(self.z) for f in self.functions])
        self.figure_: Any = None
        self.ax_: Any = None

    @classmethod
    def from_names(
        cls, names: Any, *, limits: tuple[float, float] = (-5.0, 5.0), ax: Any = None
    ) -> ActivationDisplay:
        """Draw activation functions by name.

        Parameters
        ----------
        names : str, ActivationFunction or function of one number, or list of them
            For example ``["step", "sigmoid", "tanh", "relu"]``.
        limits : tuple of float, default (-5, 5)
            Smallest and largest input.
        ax : matplotlib Axes, or array of two, optional
            Where to draw; a single Axes is divided into both panels. Default: a new figure.

        Returns
        -------
        ActivationDisplay
            The display.

        Raises
        ------
        UnknownNameError, ArgumentError, ArgumentTypeError
            A name is not known or has no curve, or the limits are not two increasing numbers.
        """
        several = isinstance(names, list | tuple)
        functions = [activations.get(name) for name in (names if several else [names])]
        return cls(functions, limits).plot(ax)

    def plot(self, ax: Any = None) -> ActivationDisplay:
        """Draw functions and derivatives.

        Parameters
        ----------
        ax : matplotlib Axes, or array of two, optional
            As for `from_names`.

        Returns
        -------
        ActivationDisplay
            The display itself.
        """
        self.figure_, self.ax_ = panels(2, ax, columns=2, size=(4.4, 3.4))
        titles = ("activation function", "derivative")
        for axes, title, rows in zip(
            self.ax_, titles, (self.values, self.derivatives), strict=True
        ):
            axes.axhline(0, color=QUIET, lw=0.8, zorder=1)
            axes.axvline(0, color=QUIET, lw=0.8, zorder=1)
            for i, row in enumerate(rows):
                colour, style = COLOURS[i % len(COLOURS)], STYLES[i % len(STYLES)]
                axes.plot(self.z, row, style, color=colour, lw=1.8, label=self.names[i])
            drawn = rows[np.isfinite(rows)]
            low, high = max(drawn.min(), -MAX_VALUE), min(drawn.max(), MAX_VALUE)
            margin = 0.08 * (high - low) or 0.1
            axes.set_ylim(low - margin, high + margin)
            axes.set_xlim(*self.limits)
            axes.set_xlabel("z")
            axes.set_title(title, loc="left", fontsize=10)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        for i, function in enumerate(self.functions):
            if not function.trainable_through and self.limits[0] < 0 < self.limits[1]:
                self.ax_[1].plot(0, 0, "x", color=COLOURS[i % len(COLOURS)], ms=9, mew=1.8)
        if len(self.names) <= 4:
            self.ax_[0].legend(frameon=False, loc="upper left", fontsize=9)
        else:
            beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
            self.ax_[1].legend(frameon=False, fontsize=9, **beside)
        return self


def _label(function: activations.AnyActivation) -> str:
    """Return the name, with the parameter if it is not the default."""
    if isinstance(function, activations.ExpressionActivation):
        return function.name
    default = activations.get(function.name).parameter
    if function.parameter == default:
        return function.name
    return f"{function.name}({function.parameter:g})"


def _checked(limits: Any) -> tuple[float, float]:
    try:
        low, high = (float(limit) for limit in limits)
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(f"limits must be two numbers, not {limits!r}.") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ArgumentError(f"limits must be finite, the smaller first, not {limits!r}.")
    return low, high
