"""Errors raised by gpunn.

Every message names the argument, and says what was wrong with it and what would be right. Errors
about arguments also derive from the built-in error that a caller would expect (``ValueError``,
``TypeError``, ...), so code written for Keras or scikit-learn keeps catching them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "CheckpointError",
    "DataError",
    "DatasetError",
    "DeviceError",
    "GpunnError",
    "MissingPackageError",
    "NotBuiltError",
    "PlanError",
    "ShapeError",
    "TrainingError",
    "UnknownNameError",
]


def with_article(noun: str) -> str:
    """Return a noun with its indefinite article, for messages."""
    return f"{'an' if noun[0].lower() in 'aeio' else 'a'} {noun}"


class GpunnError(Exception):
    """Base class of the errors that gpunn raises."""


class ArgumentError(GpunnError, ValueError):
    """An argument has a value that cannot be used."""


class ArgumentTypeError(GpunnError, TypeError):
    """An argument has a type that cannot be used."""


class ShapeError(ArgumentError):
    """Shapes do not match."""


class DataError(ArgumentError):
    """Training or input data cannot be used (labels out of range, NaN, empty, ...)."""


class UnknownNameError(ArgumentError):
    """A name (of an activation, a loss, a device, ...) is not known.

    Parameters
    ----------
    kind : str
        What the name should refer to, for example ``"activation"``.
    name : object
        The name as given.
    known : iterable of str
        The valid names.
    meant : str, optional
        The name to suggest; by default the most similar one, if any is similar.
    """

    def __init__(
        self, kind: str, name: object, known: Iterable[str], meant: str | None = None
    ) -> None:
        names = sorted(known)
        close = [meant] if meant else difflib.get_close_matches(str(name).lower(), names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        super().__init__(f"Unknown {kind} {name!r}{hint} Known: {', '.join(names)}.")


class PlanError(GpunnError, ValueError):
    """A plan cannot be built or bound, as its parts do not match."""


class DeviceError(GpunnError, RuntimeError):
    """A device is not usable; the message says what is missing."""


class DatasetError(GpunnError, OSError):
    """A named data set cannot be found, downloaded or verified."""


class CheckpointError(GpunnError, OSError):
    """A checkpoint cannot be written, or cannot be trusted."""


class MissingPackageError(GpunnError, ImportError):
    """A package that an optional feature needs is not installed."""


class TrainingError(GpunnError, ArithmeticError):
    """Training cannot continue, for example because the loss is not finite."""


class NotBuiltError(GpunnError, RuntimeError):
    """A model is used before it is built, compiled or fitted."""
