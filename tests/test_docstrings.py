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
from numpydoc.validate import Validator, validate

import gpunn
from gpunn import errors

# Of numpydoc's codes these are left out:
# GL01, GL02: a one-line docstring stands on one line, as in PEP 257.
# SS02: a summary may begin with a formula.
# SS05: it takes "this" and "loss" for verbs in the third person.
# ES01, SA01, EX01: not everything needs a longer description, references or an example.
# PR07: "graph : Graph" and "name : see `Layer`" need no description.
# RT02: several values are returned under names.
# RT04: a description of a returned array may begin with its dtype.
CODES = {
    *("GL03", "GL05", "GL06", "GL07", "GL08", "GL09", "GL10"),
    *("SS01", "SS03", "SS04", "SS06"),
    *("PR01", "PR02", "PR03", "PR04", "PR05", "PR06", "PR09", "PR10"),
    *("RT01", "RT03", "RT05", "YD01"),
    *("SA02", "SA03", "SA04"),
}
PROPERTIES = (property, cached_property)
# A property is described by its summary alone.
PROPERTY_CODES = {code for code in CODES if code[:2] in ("GL", "SS")}
# The arguments of a callback's hooks are described once, by `Callback`.
HOOK_CODES = CODES - {"PR01"}
# Calls that raise, and the errors a caller sees.
NUMBER = {"ArgumentError", "ArgumentTypeError"}
RAISERS = {name: {name} for name in errors.__all__} | {
    "check_number": NUMBER,
    "check_count": NUMBER,
}

# To be completed.
INCOMPLETE: set[str] = {
    "plots.ConfusionMatrixDisplay",
    "plots.ConfusionMatrixDisplay.from_model",
    "plots.ConfusionMatrixDisplay.from_predictions",
    "plots.ConfusionMatrixDisplay.plot",
    "symbolic.GraphSession",
    "symbolic.GraphSession.initialize",
    "symbolic.GraphSession.load",
    "symbolic.GraphSession.read",
    "symbolic.GraphSession.run",
    "symbolic.Operation",
    "symbolic.Operation.run",
    "symbolic.Tensor",
    "symbolic.Tensor.eval",
    "symbolic.Tensor.get_shape",
    "symbolic.TensorGraph.add",
    "symbolic.TensorGraph.as_default",
    "symbolic.TensorGraph.get_tensor_by_name",
    "symbolic.TensorGraph.has",
    "symbolic.TensorGraph.layer_name",
    "symbolic.TensorGraph.name_scope",
    "symbolic.TensorShape",
    "symbolic.TensorShape.as_list",
    "symbolic.Variable",
    "symbolic.Variable.assign",
    "symbolic.Variable.load",
    "symbolic.absolute",
    "symbolic.add",
    "symbolic.add_n",
    "symbolic.argmax",
    "symbolic.as_model",
    "symbolic.cast",
    "symbolic.concat",
    "symbolic.constant",
    "symbolic.constant_initializer",
    "symbolic.divide",
    "symbolic.equal",
    "symbolic.get_default_graph",
    "symbolic.get_default_session",
    "symbolic.get_variable",
    "symbolic.global_variables",
    "symbolic.global_variables_initializer",
    "symbolic.matmul",
    "symbolic.multiply",
    "symbolic.name_scope",
    "symbolic.ones",
    "symbolic.placeholder",
    "symbolic.placeholder_with_default",
    "symbolic.random_normal",
    "symbolic.random_normal_initializer",
    "symbolic.random_uniform",
    "symbolic.random_uniform_initializer",
    "symbolic.reduce_mean",
    "symbolic.reset_default_graph",
    "symbolic.reshape",
    "symbolic.set_random_seed",
    "symbolic.square",
    "symbolic.squared_difference",
    "symbolic.subtract",
    "symbolic.trainable_variables",
    "symbolic.truncated_normal",
    "symbolic.truncated_normal_initializer",
    "symbolic.zeros",
}


def own(value: Any) -> bool:
    return (getattr(value, "__module__", None) or "").startswith("gpunn.")


def members(kind: type) -> dict[str, Any]:
    """Return the public methods and properties that a class has from gpunn's classes.

    Of one that is overridden without a docstring, the version that has one.
    """
    found: dict[str, Any] = {}
    for base in filter(own, kind.__mro__):
        for name, member in vars(base).items():
            value = getattr(member, "__func__", member)  # of a class method
            described = name in found and found[name].__doc__
            if not (name.startswith("_") or described) and (
                inspect.isfunction(value) or isinstance(value, PROPERTIES)
            ):
                found[name] = value
    return found


def public_names() -> dict[str, Any]:
    """Return the public functions, classes, methods and properties, each under one name."""
    found: dict[int, tuple[str, Any]] = {}
    for module_name in gpunn._MODULES:
        module = importlib.import_module(f"gpunn.{module_name}")
        for name in getattr(module, "__all__", None) or [*vars(module)]:
            value = getattr(module, name)
            if name.startswith("_") or inspect.ismodule(value):
                continue
            if not (inspect.isfunction(value) or isinstance(value, type)):
                value = type(value)  # of activations.relu, datasets.mnist and others
            if own(value):
                found.setdefault(id(value), (f"{module_name}.{value.__name__}", value))
    for name in gpunn._NAMES:
        value = getattr(gpunn, name)
        found.setdefault(id(value), (name, value))
    names = dict(found.values())
    classes = [item for item in names.items() if isinstance(item[1], type)]
    seen: set[int] = set()
    # Base classes first: a member is named after the class that it belongs to.
    for name, kind in sorted(classes, key=lambda item: len(item[1].__mro__)):
        for member_name, member in members(kind).items():
            if id(member) not in seen:
                seen.add(id(member))
                names[f"{name}.{member_name}"] = member
    return names


def raised(value: Any) -> set[str]:
    """Return the names of gpunn's errors that the body of a function, or a constructor, raises."""
    if isinstance(value, type):
        makers = [vars(value).get(name) for name in ("__new__", "__init__", "__post_init__")]
        return {name for maker in makers if maker for name in raised(maker)}
    value = inspect.unwrap(getattr(value, "__func__", value))
    if not inspect.isfunction(value) or value.__code__.co_filename.startswith("<"):
        return set()
    nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(value)))))
    called = [node.func for node in nodes if isinstance(node, ast.Call)]
    names = {function.id for function in called if isinstance(function, ast.Name)}
    return {error for name in names for error in RAISERS.get(name, ())}


class Docstring(Validator):
    """numpydoc's view of a docstring, with two differences in what counts as a signature."""

    def __init__(self, obj_name: Any) -> None:
        super().__init__(get_doc_object(obj_name, config={"show_class_members": False}))

    @property
    def signature_parameters(self) -> tuple[str, ...]:
        # Of a class that of __init__, where __new__ takes anything.
        made = self.obj.__init__ if isinstance(self.obj, type) else self.obj
        if not inspect.isfunction(made):
            return super().signature_parameters
        parameters = list(inspect.signature(made).parameters.values())
        if parameters and parameters[0].name in ("self", "cls"):
            del parameters[0]
        stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
        names = [stars.get(p.kind, "") + p.name for p in parameters]
        keywords = {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
        # Keywords may be documented in any order.
        place = {name: i for i, name in enumerate(self.doc_all_parameters)}
        free = iter(sorted(keywords, key=lambda name: place.get(name, len(place))))
        return tuple(next(free) if name in keywords else name for name in names)


def faults(name: str, value: Any) -> list[str]:
    """Return what is wrong with a docstring."""
    codes = HOOK_CODES if ".on_" in name else CODES
    if isinstance(value, PROPERTIES):
        codes = PROPERTY_CODES
    found = validate(value, validator_cls=Docstring)["errors"]
    wrong = [f"{code}: {text}" for code, text in found if code in codes]
    sections = get_doc_object(value, config={"show_class_members": False})
    listed = {error for entry in sections["Raises"] for error in entry.type.split(", ")}
    return wrong + [f"Raises: {error} not documented" for error in sorted(raised(value) - listed)]


PUBLIC = public_names()


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - INCOMPLETE))
def test_a_public_name_is_documented(name: str) -> None:
    assert faults(name, PUBLIC[name]) == []


def test_what_is_still_to_be_documented_exists_and_is_incomplete() -> None:
    assert sorted(INCOMPLETE - set(PUBLIC)) == []
    assert [name for name in sorted(INCOMPLETE) if not faults(name, PUBLIC[name])] == []
