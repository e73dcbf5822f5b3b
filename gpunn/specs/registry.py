"""Closed registries and the JSON form of specs.

A spec is a small frozen dataclass that describes a layer, a loss, an optimizer, ...; it holds no
arrays. Its JSON form is ``{"class_name": ..., "config": {...}}``. Reading one looks the class up
in a registry and checks every field name, so a model file can refer only to what gpunn itself
defines: nothing is imported or executed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from gpunn.errors import ArgumentError, ArgumentTypeError, UnknownNameError, with_article

T = TypeVar("T")


class Registry(Generic[T]):
    """The known specs of one kind, by class name and by alias.

    Parameters
    ----------
    kind : str
        What the entries are, for messages: ``"layer"``, ``"loss"``, ...
    base : type
        Entries are instances of this class.
    on_set : callable, optional
        Called with spec, attribute and value when an attribute of a spec is set, to raise a more
        helpful error than that of a frozen dataclass.
    instead : str, optional
        What to use in place of user-defined entries, for a message; None if they are supported.
    """

    def __init__(
        self,
        kind: str,
        base: type[T],
        on_set: Callable[[Any, str, object], Any] | None = None,
        instead: str | None = None,
    ) -> None:
        self.kind = kind
        self.base = base
        self._on_set = on_set
        self._instead = instead
        self._classes: dict[str, type[T]] = {}
        self._aliases: dict[str, Callable[[], T]] = {}

    def register(self, *aliases: str) -> Callable[[type[T]], type[T]]:
        """Return a class decorator: files use the class name, strings may also use `aliases`."""

        def add(cls: type[T]) -> type[T]:
            self._classes[cls.__name__] = cls
            if self._on_set is not None:
                cls.__setattr__ = self._on_set  # type: ignore[method-assign]
            for alias in aliases:
                self._aliases[alias] = cls
            return cls

        return add

    def alias(self, name: str, make: Callable[[], T]) -> None:
        """Let the string `name` stand for ``make()``."""
        self._aliases[name] = make

    def names(self) -> Iterator[str]:
        """Return the strings that `get` accepts."""
        return iter(self._aliases)

    def classes(self) -> Iterator[type[T]]:
        """Return the registered classes."""
        return iter(self._classes.values())

    def get(self, identifier: object) -> T:
        """Return the spec for `identifier`: a name, a spec, its class or a config."""
        self._refuse_own(identifier)
        if isinstance(identifier, self.base):
            return identifier
        if isinstance(identifier, type) and issubclass(identifier, self.base):
            return identifier()
        if isinstance(identifier, Mapping):
            return self.from_config(identifier)
        if isinstance(identifier, str):
            make = self._aliases.get(identifier) or self._aliases.get(identifier.lower())
            make = make or self._classes.get(identifier)
            if make is None:
                raise UnknownNameError(self.kind, identifier, self._aliases)
            return make()
        kind, wanted = with_article(self.kind).capitalize(), with_article(self.base.__name__)
        raise ArgumentTypeError(
            f"{kind} must be a name or {wanted} object, not {type(identifier).__name__}: "
            f"{identifier!r}."
        )

    def _refuse_own(self, identifier: object) -> None:
        """Raise `ArgumentTypeError` for a user-defined entry if those are not supported."""
        if self._instead is None or isinstance(identifier, str | Mapping):
            return
        kind = identifier if isinstance(identifier, type) else type(identifier)
        # Functions, callable objects, and subclasses of gpunn's classes.
        written = callable(identifier) or issubclass(kind, self.base)
        if written and kind.__module__.partition(".")[0] != "gpunn":
            name = getattr(identifier, "__name__", kind.__name__)
            raise ArgumentTypeError(
                f"User-defined {self.kind}s, such as {name}, are not supported; {self._instead}."
            )

    def from_config(self, config: Mapping[str, Any]) -> T:
        """Rebuild a spec from its JSON form; class and fields must be known to this registry."""
        class_name = config.get("class_name")
        cls = self._classes.get(class_name) if isinstance(class_name, str) else None
        if cls is None:
            raise UnknownNameError(self.kind, class_name, self._classes)
        fields = config.get("config")
        if not isinstance(fields, Mapping):
            raise ArgumentError(f"The config of {self.kind} {class_name!r} is not an object.")
        known = {f.name for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
        for name in fields:
            if name not in known:
                raise UnknownNameError(f"field of {class_name}", name, known)
        return cls(**{name: _thaw(value) for name, value in fields.items()})


def _thaw(value: Any) -> Any:
    return tuple(_thaw(item) for item in value) if isinstance(value, list) else value


def to_config(spec: Any) -> dict[str, Any]:
    """Return the JSON form of a spec: ``{"class_name": ..., "config": {...}}``."""
    fields = {
        f.name: _freeze(value)
        for f in dataclasses.fields(spec)
        if f.init
        # Fields that came later: a file names them only where they say something.
        and ((value := getattr(spec, f.name)) != f.default or "omit_default" not in f.metadata)
    }
    return {"class_name": type(spec).__name__, "config": fields}


def _freeze(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_config(value)
    if isinstance(value, tuple | list):
        return [_freeze(item) for item in value]
    if getattr(value, "shape", None) == ():  # a NumPy scalar, which json cannot serialize
        return value.item()
    return value


def set_field(spec: Any, name: str, value: Any) -> None:
    """Set a field of a frozen spec; only for ``__post_init__``, which replaces names by specs."""
    object.__setattr__(spec, name, value)


def check_number(
    owner: str,
    name: str,
    value: object,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """Return `value` as a float, or raise an error that names argument, value and bounds."""
    bounds = [
        text
        for text, bound in (
            (f"at least {minimum}", minimum),
            (f"at most {maximum}", maximum),
            (f"above {above}", above),
            (f"below {below}", below),
        )
        if bound is not None
    ]
    wanted = "a number" + (" " + " and ".join(bounds) if bounds else "")
    if isinstance(value, bool) or not _is_real(value):
        raise ArgumentTypeError(f"{owner}: {name} must be {wanted}, not {value!r}.")
    number = float(value)  # type: ignore[arg-type]
    inside = (
        number == number
        and abs(number) != float("inf")
        and (minimum is None or number >= minimum)
        and (maximum is None or number <= maximum)
        and (above is None or number > above)
        and (below is None or number < below)
    )
    if not inside:
        raise ArgumentError(f"{owner}: {name} must be {wanted}, not {value!r}.")
    return number


def check_count(owner: str, name: str, value: object, *, minimum: int = 1) -> int:
    """Return `value` as an int of at least `minimum`, or raise an error that says so."""
    real = _is_real(value) and not isinstance(value, bool)
    # float(...) first: int() of NaN or infinity raises errors of its own.
    if not real or not float(value).is_integer():  # type: ignore[arg-type]
        raise ArgumentTypeError(f"{owner}: {name} must be a whole number, not {value!r}.")
    if int(value) < minimum:  # type: ignore[call-overload]
        raise ArgumentError(f"{owner}: {name} must be at least {minimum}, not {value!r}.")
    return int(value)  # type: ignore[call-overload]


def _is_real(value: object) -> bool:
    return (
        hasattr(value, "__float__")
        and not isinstance(value, str)
        and getattr(value, "shape", ()) == ()
    )
