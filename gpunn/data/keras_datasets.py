"""Data sets under the names that Keras gives them.

>>> from gpunn.datasets import digits
>>> (x_train, y_train), (x_test, y_test) = digits.load_data()
>>> x_train.shape, x_test.shape
((1437, 8, 8), (360, 8, 8))

The arrays are as published, unscaled: pixels are uint8. `gpunn.data.named.load` gives the
same arrays with the names of classes and features.
"""

from __future__ import annotations

import os
from typing import Any, TypeAlias

from numpy.typing import NDArray

from gpunn.data.named import Dataset, load, load_california_housing

__all__ = ["california_housing", "digits", "fashion_mnist", "mnist"]

Split: TypeAlias = tuple[tuple[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]


def _split(dataset: Dataset) -> Split:
    return (dataset.x_train, dataset.y_train), (dataset.x_test, dataset.y_test)


class _Images:
    """Images and labels of a named data set."""

    _name: str

    def load_data(self, data_dir: str | os.PathLike[str] | None = None) -> Split:
        """Load the images and their labels.

        Parameters
        ----------
        data_dir : str or path-like, optional
            A folder to search before ``$GPUNN_DATA``, the user's cache and the network.

        Returns
        -------
        (x_train, y_train), (x_test, y_test) : tuples of ndarray
            uint8, of the shapes given in the documentation of this object.

        Raises
        ------
        DatasetError
            A file is neither on this machine nor can be downloaded, or its content is wrong.
        """
        return _split(load(self._name, data_dir))


class _Mnist(_Images):
    """MNIST, handwritten digits (LeCun, Cortes, Burges; CC BY-SA 3.0).

    Images (60000, 28, 28) to train and (10000, 28, 28) to test, uint8 from 0 to 255, white on
    black; labels (60000,) and (10000,), uint8 from 0 to 9. A download of 11 MB.
    """

    _name = "mnist"


class _FashionMnist(_Images):
    """Fashion-MNIST, images of clothes in ten classes (Zalando Research; MIT).

    Images (60000, 28, 28) to train and (10000, 28, 28) to test, uint8 from 0 to 255; labels
    (60000,) and (10000,), uint8 from 0 to 9. A download of 30 MB.
    """

    _name = "fashion-mnist"


class _Digits:
    """scikit-learn's handwritten digits, which it includes: no download.

    Images (1437, 8, 8) to train and (360, 8, 8) to test, uint8 from 0 to 16; labels (1437,) and
    (360,), uint8 from 0 to 9. The split is fixed and stratified.
    """

    def load_data(self) -> Split:
        """Load the images and their labels.

        Returns
        -------
        (x_train, y_train), (x_test, y_test) : tuples of ndarray
            uint8 images (1437, 8, 8) and (360, 8, 8); uint8 labels (1437,) and (360,).
        """
        return _split(load("digits"))


class _CaliforniaHousing:
    """California housing, median house values by district (1990 census; Pace and Barry, 1997).

    Different from Keras's data set of this name: the eight features are scikit-learn's (MedInc,
    HouseAge, AveRooms, AveBedrms, Population, AveOccup, Latitude, Longitude), and the target is in
    100,000 dollars.
    """

    def load_data(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        test_split: float = 0.2,
        seed: int = 113,
    ) -> Split:
        """Load the features and the target.

        Parameters
        ----------
        data_dir : str or path-like, optional
            A folder to search before ``$GPUNN_DATA``, the user's cache and the network.
        test_split : float, default 0.2
            The fraction of test rows, 0 <= test_split < 1.
        seed : int, default 113
            Seed of the shuffle, which is the same on every machine.

        Returns
        -------
        (x_train, y_train), (x_test, y_test) : tuples of ndarray
            float32 features (n, 8) and targets (n,); of 20,433 rows from ``housing.csv``, of 20,640
            from scikit-learn's download.

        Raises
        ------
        ArgumentError, ArgumentTypeError
            `test_split` or `seed` is not valid.
        DatasetError
            The data are neither on this machine nor can be downloaded, or their content is wrong.
        """
        return _split(load_california_housing(data_dir, test_split=test_split, seed=seed))


mnist = _Mnist()
fashion_mnist = _FashionMnist()
digits = _Digits()
california_housing = _CaliforniaHousing()
