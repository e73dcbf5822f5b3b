"""The docstrings of the public names, held to numpydoc's rules."""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from functools import cached_property
from typing import Any

import pytest
from numpydoc.docscrape import get_doc_object
from numpydoc.validate import validate

import gpunn
from gpunn import errors

# Of numpydoc's codes these are left out:
# GL01, GL02: a one-line docstring stands on one line, as in PEP 257.
# SS02: the summary of a function may begin with its formula.
# SS05: it takes "this" and "loss" for verbs in the third person.
# ES01, SA01, EX01: not everything needs a longer description, references or an example.
# PR07: ``graph : Graph`` says it all.
# RT02: several values are returned under names.
CODES = {
    *("GL03", "GL05", "GL06", "GL07", "GL08", "GL09", "GL10"),
    *("SS01", "SS03", "SS04", "SS06"),
    *("PR01", "PR02", "PR03", "PR04", "PR05", "PR06", "PR08", "PR09", "PR10"),
    *("RT01", "RT03", "RT04", "RT05", "YD01"),
    *("SA02", "SA03", "SA04"),
}
# A property is described by its summary.
PROPERTY_CODES = {code for code in CODES if code[:2] in ("GL", "SS")}
PROPERTIES = (property, cached_property)
# What raises, by name, and the errors that a caller sees.
RAISERS = {name: {name} for name in vars(errors) if name.endswith("Error")}
RAISERS |= dict.fromkeys(("check_number", "check_count"), {"ArgumentError", "ArgumentTypeError"})

# To be completed.
INCOMPLETE: set[str] = set()


def own(value: Any) -> bool:
    return (getattr(value, "__module__", None) or "").startswith("gpunn.")


def plain(member: Any) -> Any:
    """Return the function of a static or class method."""
    return getattr(member, "__func__", member)


def members(kind: type) -> dict[str, Any]:
    """Return the public methods and properties of gpunn's classes in a class.

    One that is overridden without a docstring is left to the class that describes it.
    """
    found: dict[str, Any] = {}
    for base in kind.__mro__:
        for name, member in vars(base).items() if own(base) else ():
            value = plain(member)
            if name.startswith("_") or not (
                inspect.isfunction(value) or isinstance(value, PROPERTIES)
            ):
                continue
            if name not in found or not found[name].__doc__:
                found[name] = value
    return found


def public_names() -> dict[str, Any]:
    """Return the public functions, classes, methods and properties, each under one name."""
    found: dict[int, tuple[str, Any]] = {}
    for module_name in gpunn._MODULES:
        module = importlib.import_module(f"gpunn.{module_name}")
        for name in getattr(module, "__all__", None) or vars(module):
            value = getattr(module, name)
            if name.startswith("_") or inspect.ismodule(value):
                continue
            if not (inspect.isfunction(value) or isinstance(value, type)):
                value = type(value)  # such as activations.relu, datasets.mnist
            if own(value):
                found.setdefault(id(value), (f"{module_name}.{value.__name__}", value))
    for name in gpunn._NAMES:
        value = getattr(gpunn, name)
        found.setdefault(id(value), (name, value))
    names = dict(found.values())
    seen: set[int] = set()
    for name, kind in list(names.items()):
        for member_name, member in members(kind).items() if isinstance(kind, type) else ():
            if id(member) not in seen:
                seen.add(id(member))
                names[f"{name}.{member_name}"] = member
    return names


def raised(value: Any) -> set[str]:
    """Return the names of gpunn's errors that a function, or a class as it is made, raises."""
    if isinstance(value, type):
        makers = [vars(value).get(name) for name in ("__new__", "__init__", "__post_init__")]
        return {name for maker in makers for name in (raised(plain(maker)) if maker else ())}
    if not inspect.isfunction(value) or value.__code__.co_filename.startswith("<"):
        return set()
    tree = ast.parse(textwrap.dedent(inspect.getsource(value)))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
    return {error for name in names for error in RAISERS.get(name, ())}


def faults(value: Any) -> list[str]:
    """Return what is wrong with a docstring."""
    doc = get_doc_object(value, config={"show_class_members": False})
    codes = PROPERTY_CODES if isinstance(value, PROPERTIES) else CODES
    found = [f"{code}: {text}" for code, text in validate(doc)["errors"] if code in codes]
    listed = {name for entry in doc["Raises"] for name in entry.type.split(", ")}
    missing = sorted(raised(value) - listed)
    return found + ([f"Raises: {', '.join(missing)} not documented"] if missing else [])


PUBLIC = public_names()


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - INCOMPLETE))
def test_a_public_name_is_documented(name: str) -> None:
    assert faults(PUBLIC[name]) == []


def test_what_is_left_to_document_is_known_and_not_done_yet() -> None:
    assert set(PUBLIC) >= INCOMPLETE
    assert [name for name in sorted(INCOMPLETE) if not faults(PUBLIC[name])] == []
