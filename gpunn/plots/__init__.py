"""Plots of training, of a model and of its mistakes.

They need matplotlib (``pip install matplotlib``) and follow scikit-learn's displays: a class
method ``from_...`` computes what is to be shown, draws it and returns the display, which keeps
the data, the figure (``figure_``) and its axes (``ax_``); ``plot(ax=...)`` draws it again.

>>> history = model.fit(x_train, y_train, epochs=10)                       # doctest: +SKIP
>>> gpunn.plots.LearningCurveDisplay.from_history(history)                 # doctest: +SKIP
>>> display = gpunn.plots.ConfusionMatrixDisplay.from_model(model, x, y)   # doctest: +SKIP
>>> display.figure_.savefig("confusion.png")                               # doctest: +SKIP
"""

from __future__ import annotations

from gpunn.plots.activations import ActivationDisplay
from gpunn.plots.confusion import ConfusionMatrixDisplay
from gpunn.plots.images import MisclassifiedDisplay
from gpunn.plots.learning import LearningCurveDisplay
from gpunn.plots.learning_rate import LearningRateFinderDisplay
from gpunn.plots.weights import WeightsDisplay

__all__ = [
    "ActivationDisplay",
    "ConfusionMatrixDisplay",
    "LearningCurveDisplay",
    "LearningRateFinderDisplay",
    "MisclassifiedDisplay",
    "WeightsDisplay",
]
