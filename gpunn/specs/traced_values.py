"""What a symbolic tensor refuses: it stands for values, and has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from gpunn.errors import ArgumentTypeError

ADVICE = (
    "Layers alone compute in gpunn: join tensors with gpunn.layers.Add or Concatenate, apply "
    "functions by Activation('relu') or Lambda, and compute features from the data before fit."
)


class ValueAskedError(ArgumentTypeError):
    """Python asked a symbolic tensor for values."""


def _refuse(what: str) -> Callable[..., NoReturn]:
    def method(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        raise ValueAskedError(f"{what} needs values, and a symbolic tensor has none. {ADVICE}")

    return method


class Valueless:
    """Base class of symbolic tensors: ``a + b`` is `Add`, everything else is refused."""

    # NumPy's numbers and arrays leave operators to us, and say so where a function is called.
    __array_ufunc__ = _refuse("A NumPy function")
    __array_function__ = _refuse("A NumPy function")
    __array__ = _refuse("Turning it into a NumPy array")

    __bool__ = _refuse("'if', 'while', 'and', 'or' or 'not' on a tensor")
    __float__ = _refuse("float()")
    __int__ = __index__ = _refuse("int()")
    __len__ = _refuse("len()")
    __iter__ = _refuse("Iterating over a tensor")
    __contains__ = _refuse("'in'")
    __getitem__ = _refuse("Indexing a tensor")
    __lt__ = __le__ = __gt__ = __ge__ = _refuse("Comparing")
    __sub__ = __rsub__ = _refuse("'-'")
    __mul__ = __rmul__ = _refuse("'*'")
    __truediv__ = __rtruediv__ = _refuse("'/'")
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _refuse("Division")
    __matmul__ = __rmatmul__ = _refuse("'@'; use gpunn.layers.Dense: it")
    __pow__ = __rpow__ = _refuse("'**'")
    __neg__ = __pos__ = __abs__ = _refuse("A sign")

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, Valueless):
            raise ValueAskedError(
                f"'+' adds tensors, not a tensor and {type(other).__name__}. {ADVICE}"
            )
        from gpunn.specs.layers import Add

        return Add()([self, other])  # type: ignore[list-item]

    __radd__ = __add__

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Valueless):
            return self is other
        if hasattr(other, "__float__") or hasattr(other, "shape"):
            raise ValueAskedError(f"'==' needs values, and a symbolic tensor has none. {ADVICE}")
        return NotImplemented

    __hash__ = object.__hash__


class TrainingUnknown:
    """What `call` is given for `training`: neither true nor false, as it runs once for both."""

    def _asked(self) -> NoReturn:
        raise ValueAskedError(
            "'if training' has no answer, as fit and predict have one graph. Call Dropout and "
            "BatchNormalization in any case: they do in fit what they do not in predict."
        )

    __bool__ = __index__ = __int__ = _asked


def check_training(training: object) -> None:
    """Raise `ArgumentTypeError` where the call of a layer asks for one behaviour alone."""
    if training is not None and not isinstance(training, TrainingUnknown):
        raise ArgumentTypeError(
            f"training={training} is not possible in a call: Dropout is on in fit, and off in "
            f"predict; leave it out."
        )
