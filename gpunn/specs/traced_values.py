"""The base class of symbolic tensors, which raise errors where concrete values are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from gpunn.errors import ArgumentTypeError

ADVICE = (
    "In gpunn only layers compute: merge tensors with gpunn.layers.Add, Multiply or Concatenate, "
    "apply functions with Activation('relu') or Lambda, and compute features from the data before "
    "fit."
)


class ValueAskedError(ArgumentTypeError):
    """A concrete value was needed of a symbolic tensor."""


def _refuse(what: str) -> Callable[..., NoReturn]:
    def method(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        raise ValueAskedError(f"{what} needs values, and a symbolic tensor has none. {ADVICE}")

    return method


class SymbolicValue:
    """Base class of symbolic tensors: ``a + b`` is `Add`, other operations raise errors."""

    # With these, NumPy scalars and arrays defer operators to this class, and functions fail.
    __array_ufunc__ = _refuse("A NumPy function")
    __array_function__ = _refuse("A NumPy function")
    __array__ = _refuse("Conversion to a NumPy array")

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
    __matmul__ = __rmatmul__ = _refuse("'@' (use gpunn.layers.Dense)")
    __pow__ = __rpow__ = _refuse("'**'")
    __neg__ = __pos__ = __abs__ = _refuse("A unary operator")

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, SymbolicValue):
            raise ValueAskedError(
                f"'+' adds tensors, not a tensor and {type(other).__name__}. {ADVICE}"
            )
        from gpunn.specs.layers import Add

        return Add()([self, other])  # type: ignore[list-item]

    __radd__ = __add__

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SymbolicValue):
            return self is other
        if hasattr(other, "__float__") or hasattr(other, "shape"):
            raise ValueAskedError(f"'==' needs values, and a symbolic tensor has none. {ADVICE}")
        return NotImplemented

    __hash__ = object.__hash__


class TrainingUnknown:
    """The `training` that `call` is given: neither true nor false, as it is traced for both."""

    def _asked(self) -> NoReturn:
        raise ValueAskedError(
            "'if training' is not possible, as fit and predict share one graph. Call Dropout and "
            "BatchNormalization unconditionally: they behave differently in fit and in predict."
        )

    __bool__ = __index__ = __int__ = _asked


def check_training(training: object) -> None:
    """Raise `ArgumentTypeError` if the call of a layer sets `training`."""
    if training is not None and not isinstance(training, TrainingUnknown):
        raise ArgumentTypeError(
            f"training={training} is not supported in a call: Dropout is active in fit and "
            f"inactive in predict; omit it."
        )
