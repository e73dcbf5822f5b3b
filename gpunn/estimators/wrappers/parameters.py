"""The parameters of a wrapper: its own, those of the model-building function, and routed ones.

As in SciKeras, ``model__n_hidden`` is passed to the function, ``fit__shuffle`` to `Model.fit`,
``predict__batch_size`` to `Model.predict` and ``optimizer__learning_rate`` to the optimizer that
the model was compiled with.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from sklearn.base import BaseEstimator

from gpunn.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from gpunn.models.model import Model

PREFIXES = ("model", "fit", "predict", "optimizer")
# Arguments that the wrapper passes to a function with such parameters.
_SUPPLIED = ("meta", "params")


def keywords(function: Callable[..., Any], *left_out: str) -> list[str]:
    """Return the names of a method's parameters, except `left_out`."""
    names = inspect.signature(function).parameters
    return [name for name in names if name not in ("self", *left_out)]


FIT = keywords(Model.fit, "x", "y")
PREDICT = keywords(Model.predict, "x")


class ParameterRouting(BaseEstimator):
    """Base class: `get_params` and `set_params` that know the parameters of ``model``."""

    model: Any

    def __init__(self, **params: Any) -> None:
        self._params: dict[str, Any] = {}
        self.set_params(**params)

    def _own(self) -> list[str]:
        """Return the names in the constructor's signature."""
        return list(self._get_param_names())

    def _signature(self) -> tuple[dict[str, Any], bool]:
        """Return the building function's parameters with defaults, and whether it takes others."""
        if not callable(self.model) or isinstance(self.model, Model):
            return {}, False
        parameters = inspect.signature(self.model).parameters.values()
        named = {
            p.name: p.default
            for p in parameters
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in _SUPPLIED
        }
        return named, any(p.kind is p.VAR_KEYWORD for p in parameters)

    def _check_name(self, name: str) -> None:
        if not callable(self.model):
            return  # `fit` raises an error
        builders, any_other = self._signature()
        prefix, found, rest = name.partition("__")
        if found:
            if prefix not in PREFIXES:
                raise UnknownNameError(f"prefix of parameter {name!r}:", prefix, PREFIXES)
            if prefix == "model":
                known, kind = list(builders), f"parameter of {_name(self.model)}, as given in"
            elif prefix == "optimizer":
                return  # known once the model is built
            else:
                known, kind = (FIT if prefix == "fit" else PREDICT), f"argument of {prefix}, in"
            if rest not in known and not (prefix == "model" and any_other):
                raise UnknownNameError(f"{kind} {name!r}:", rest, known)
        elif name not in builders and not any_other:
            own = ", ".join(self._own())
            what = f"{_name(self.model)} takes {', '.join(builders) or 'no parameters'}"
            raise ArgumentError(
                f"{type(self).__name__} has no parameter {name!r}: {what}; its own are {own}; "
                f"others begin with {', '.join(f'{p}__' for p in PREFIXES)}."
            )

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return all parameters: the wrapper's, and those of ``model`` with their defaults.

        Parameters
        ----------
        deep : bool, default True
            Accepted for scikit-learn; there are no nested estimators.

        Returns
        -------
        dict of str to object
            Values by name.
        """
        own = self._own()
        defaults = {
            name: value
            for name, value in self._signature()[0].items()
            if value is not inspect.Parameter.empty
            and name not in own
            and f"model__{name}" not in self._params
        }
        return {name: getattr(self, name) for name in own} | defaults | self._params

    def set_params(self, **params: Any) -> Any:
        """Set parameters, by the names of `get_params` and by routed ones.

        Parameters
        ----------
        **params : object
            Values by name.

        Returns
        -------
        ParameterRouting
            The estimator itself.

        Raises
        ------
        ArgumentError
            There is no such parameter.
        """
        own = self._own()
        before = self.model
        self.model = params.get("model", before)
        try:
            for name in params:
                if name not in own:
                    self._check_name(name)
        except ArgumentError:
            self.model = before
            raise
        defaults, _ = self._signature()
        for name, value in params.items():
            if name in own:
                setattr(self, name, value)
            elif name in defaults and value is defaults[name]:
                # As in a clone: with another `model`, the default is that of the new one.
                self._params.pop(name, None)
            else:
                self._params[name] = value
        return self

    def _routed(self, prefix: str) -> dict[str, Any]:
        start = f"{prefix}__"
        return {k.removeprefix(start): v for k, v in self._params.items() if k.startswith(start)}

    def _build(self, meta: Mapping[str, Any]) -> Model:
        """Return the compiled model that the function builds with the parameters."""
        if not callable(self.model) or isinstance(self.model, Model):
            raise ArgumentTypeError(
                f"{type(self).__name__}: model must be a function that returns a compiled model, "
                f"not {self.model!r}: each fit needs a new model."
            )
        for name in self._params:  # `model` may have been replaced since
            self._check_name(name)
        given = {name: value for name, value in self._params.items() if "__" not in name}
        given |= self._routed("model")
        asked = inspect.signature(self.model).parameters
        for name, value in (("meta", dict(meta)), ("params", self.get_params())):
            if name in asked and name not in given:
                given[name] = value
        model = self.model(**given)
        if not isinstance(model, Model) or model._compiled is None:
            what = "one that is not compiled" if isinstance(model, Model) else repr(model)
            raise ArgumentTypeError(
                f"{_name(self.model)} must return a compiled gpunn model, not {what}."
            )
        if changes := self._routed("optimizer"):
            _change_optimizer(model, changes)
        return model


def _change_optimizer(model: Model, changes: Mapping[str, Any]) -> None:
    """Recompile with the same optimizer except for `changes`."""
    compiled = model.compiled
    optimizer = compiled.optimizer
    known = [field.name for field in dataclasses.fields(optimizer) if field.init]
    for name in changes:
        if name not in known:
            raise UnknownNameError(f"parameter of {type(optimizer).__name__}", name, known)
    loss, metrics, loss_weights = model._deferred
    model.compile(
        dataclasses.replace(optimizer, **changes),
        loss,
        metrics,
        loss_weights=loss_weights,
        device=compiled.device,
        precision=compiled.precision,
        threads=compiled.threads,
    )


def _name(function: Any) -> str:
    return getattr(function, "__name__", None) or type(function).__name__
