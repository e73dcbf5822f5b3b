"""The confusion matrix, counted and drawn by scikit-learn: which classes are taken for which."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn.errors import DataError, ShapeError, UnknownNameError
from gpunn.plots.common import (
    QUIET,
    Array,
    check_rows,
    class_numbers,
    host,
    names_of,
    probabilities,
    single,
    whole,
)

NORMALIZE = ("true", "pred", "all")
# With more classes the numbers would be too small to read; a colour bar takes their place.
NUMBERED = 24


class ConfusionMatrixDisplay:
    """A confusion matrix: a row for each true class, a column for each predicted one.

    Parameters
    ----------
    confusion_matrix : array, shape (classes, classes)
        Counts, or shares from 0 to 1.
    display_labels : sequence of str, optional
        Names of the classes; default their numbers.

    Attributes
    ----------
    confusion_matrix : ndarray, shape (classes, classes)
    display_labels : list of str
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    im_ : matplotlib AxesImage
    text_ : ndarray of matplotlib Text, shape (classes, classes), or None
        The numbers in the cells; None for more than 24 classes.

    Notes
    -----
    The colour goes with the square root of the number: beside a diagonal of a good model the
    mistakes would have none.
    """

    def __init__(
        self, confusion_matrix: Any, *, display_labels: Sequence[Any] | None = None
    ) -> None:
        matrix = host(confusion_matrix, "confusion_matrix")
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
            raise ShapeError(
                f"confusion_matrix has shape {matrix.shape}; it must be square, (classes, classes)."
            )
        self.confusion_matrix: Array = matrix
        self.display_labels = names_of(len(matrix), display_labels)
        self.figure_: Any = None
        self.ax_: Any = None
        self.im_: Any = None
        self.text_: Any = None

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        labels: Sequence[Any] | None = None,
        display_labels: Sequence[Any] | None = None,
        normalize: str | None = None,
        ax: Any = None,
    ) -> ConfusionMatrixDisplay:
        """Count and draw predictions.

        Parameters
        ----------
        y_true : array, shape (rows,)
            True classes: numbers or texts.
        y_pred : array, shape (rows,) or (rows, classes)
            Predicted classes, or what `predict` returned: probabilities of more than one class.
        labels : sequence, optional
            The classes in their order. Default: 0, 1, ... as far as `y_pred` has columns or
            `display_labels` names, else the classes that occur.
        display_labels : sequence of str, optional
            Names of the classes.
        normalize : {"true", "pred", "all"}, optional
            Shares of the true class (rows add up to 1), of the predicted class (columns do), or
            of all, in place of counts.
        ax : matplotlib Axes, optional
            Where to draw. Default: a new figure.

        Returns
        -------
        ConfusionMatrixDisplay

        Raises
        ------
        ShapeError, DataError, UnknownNameError
            If rows do not match, a class is not among the labels, or `normalize` is none of these.
        """
        true, predicted = host(y_true, "y_true"), host(y_pred, "y_pred")
        classes = len(display_labels) if display_labels is not None else 0
        if predicted.ndim == 2 and predicted.shape[1] > 1 and predicted.dtype.kind == "f":
            classes = predicted.shape[1]
            predicted = predicted.argmax(axis=1)
        for name, array in (("y_true", true), ("y_pred", predicted)):
            if array.ndim != 1 and array.shape[1:] != (1,):
                raise ShapeError(
                    f"{name} has shape {array.shape}; give one class for each row, (rows,)."
                )
            if array.dtype.kind == "f" and not whole(array):
                raise DataError(
                    f"{name} must be classes, not numbers such as "
                    f"{array[array != np.floor(array)].flat[0]:g}. Turn probabilities of two "
                    f"classes into classes: (p >= 0.5).astype(int)."
                )
        true, predicted = true.reshape(-1), predicted.reshape(-1)
        check_rows(true, predicted, "y_true", "y_pred")
        if true.dtype.kind in "biuf" and predicted.dtype.kind in "biuf":
            true, predicted = true.astype(np.int64), predicted.astype(np.int64)
            if labels is None and classes:
                true = class_numbers(true, classes, "y_true")
                predicted = class_numbers(predicted, classes, "y_pred")
                labels = range(classes)
        if normalize not in (None, *NORMALIZE):
            raise UnknownNameError("normalize", normalize, NORMALIZE)
        from sklearn import metrics
        from sklearn.utils.multiclass import unique_labels

        with warnings.catch_warnings():
            # Many classes and few rows are as good a matrix as any.
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            labels = unique_labels(true, predicted).tolist() if labels is None else list(labels)
            for name, array in (("y_true", true), ("y_pred", predicted)):
                if outside := set(array.tolist()) - set(labels):
                    raise DataError(
                        f"{name} has class {min(outside)!r}, which is not among labels: {labels}."
                    )
            matrix = metrics.confusion_matrix(true, predicted, labels=labels, normalize=normalize)
        names = labels if display_labels is None else display_labels
        return cls(matrix, display_labels=names).plot(ax)

    @classmethod
    def from_model(
        cls,
        model: Any,
        x: Any,
        y: Any,
        *,
        display_labels: Sequence[Any] | None = None,
        normalize: str | None = None,
        ax: Any = None,
    ) -> ConfusionMatrixDisplay:
        """Predict, count and draw.

        Parameters
        ----------
        model : Model
            A classifier of one output: one probability for each class, or for the second of two.
        x : array, shape (rows, *input shape)
        y : array, shape (rows,) or (rows, classes)
            Class numbers, or one-hot rows.
        display_labels, normalize, ax
            As in `from_predictions`.

        Returns
        -------
        ConfusionMatrixDisplay
        """
        outputs = probabilities(model, x)
        classes = outputs.shape[1]
        true = class_numbers(y, classes, "y")
        check_rows(outputs, true, "x", "y")
        return cls.from_predictions(
            true,
            outputs.argmax(axis=1),
            labels=range(classes),
            display_labels=names_of(classes, display_labels),
            normalize=normalize,
            ax=ax,
        )

    def plot(self, ax: Any = None, *, colorbar: bool | None = None) -> ConfusionMatrixDisplay:
        """Draw the matrix.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        colorbar : bool, optional
            Default: only where there are too many classes for numbers in the cells.
        """
        matrix, count = self.confusion_matrix, len(self.confusion_matrix)
        numbered = count <= NUMBERED
        side = min(10.0, max(3.6, 1.4 + 0.42 * count)) if numbered else 6.4
        self.figure_, self.ax_ = single(ax, (side, side))
        from matplotlib.colors import PowerNorm
        from sklearn import metrics

        norm = PowerNorm(0.5, vmin=0, vmax=max(matrix.max(), 1e-9))
        drawn = metrics.ConfusionMatrixDisplay(matrix, display_labels=self.display_labels).plot(
            include_values=numbered,
            values_format="d" if matrix.dtype.kind in "iu" else ".2f",
            ax=self.ax_,
            colorbar=False,
            im_kw={"cmap": "Blues", "norm": norm},
            text_kw={"fontsize": 9},
        )
        self.im_, self.text_ = drawn.im_, drawn.text_
        for (row, column), text in np.ndenumerate(() if self.text_ is None else self.text_):
            dark = norm(matrix[row, column]) > 0.55
            zero = float(text.get_text()) == 0
            text.set_color(QUIET if zero else "white" if dark else "black")
        ticks = range(0, count, 1 if numbered else -(-count // 12))
        names = [self.display_labels[i] for i in ticks]
        slanted = 0.09 * max(map(len, names)) > 0.75 * side / len(names)
        self.ax_.set_xticks(ticks, names, rotation=45 if slanted else 0)
        if slanted:
            for text in self.ax_.get_xticklabels():
                text.set(ha="right", rotation_mode="anchor")
        self.ax_.set_yticks(ticks, names)
        self.ax_.set(xlabel="predicted class", ylabel="true class")
        self.ax_.tick_params(length=0)
        self.ax_.spines[:].set_visible(False)
        if not numbered if colorbar is None else colorbar:
            self.figure_.colorbar(self.im_, ax=self.ax_, shrink=0.8)
        return self
